// Forward and backward through time for one layer over a range of streams. Streams never meet, so
// a thread runs all steps of its streams without waiting for another.
#pragma once
#include "arguments.h"

namespace {

// Packing of W_hh [G*H, H] for the forward product hidden . W_hh^T. A one-gate cell needs no gate
// interleaving and takes the wider plain panels.
template <class C>
inline Packing forward_packing(int64_t units) {
    return C::gates == 1 ? Packing{units, units, 0} : Packing{units, units, C::gates};
}

template <class C, class P>
void forward_streams(const storycell::Recurrence& a, int64_t first, int64_t last) {
    constexpr int w = Simd::width;
    const int64_t H = a.units, B = a.streams;
    const Packing shape = forward_packing<C>(H);
    const RowBlocks<MicroKernel<P>> blocks(last - first);
    const auto* packed = static_cast<const typename P::Element*>(a.packed);
    auto* hidden = static_cast<typename P::Element*>(a.hidden);
    auto* saved = static_cast<typename P::Gate*>(a.saved);
    const ptrdiff_t stride = H / P::per_word;
    alignas(64) float tile[MicroKernel<P>::rows * kTileColumns];
    MicroKernel<P> micro;

    for (int64_t t = 0; t < a.steps; ++t) {
        const float* before = a.carry;
        float* after = a.carry;
        if (a.cell_state) {
            before = a.cell_state + t * B * H;
            after = a.cell_state + (t + 1) * B * H;
        }
        for (int64_t panel = 0; panel < shape.panels(); ++panel) {
            const int vectors = shape.vectors(panel);
            const int units_here = C::gates == 1 ? vectors : 1;  // vectors of units in the tile
            for (int64_t block = 0; block < blocks.count; ++block) {
                const int64_t b0 = first + blocks.start(block);
                const int rows = static_cast<int>(first + blocks.start(block + 1) - b0);
                micro.by_rows(rows, vectors, words(hidden + (t * B + b0) * H), stride,
                              words(packed + shape.offset(panel)), static_cast<int>(stride), tile);
                for (int r = 0; r < rows; ++r) {
                    const int64_t b = b0 + r, row = t * B + b;
                    const float* input =
                        a.ids ? a.table + a.ids[b * a.ids_stream_stride + t * a.ids_step_stride] *
                                              C::gates * H
                              : a.projected + row * C::gates * H;
                    for (int v = 0; v < units_here; ++v) {
                        const int64_t j = shape.column(panel, v);
                        ForwardPointers<P> p{};
                        p.sum = tile + r * kTileColumns + v * w;
                        p.input = input + j;
                        if (saved) p.saved = saved + row * C::saved * H + j;
                        if constexpr (C::carries) {
                            p.before = before + b * H + j;
                            p.after = after + b * H + j;
                        }
                        p.hidden = hidden + ((t + 1) * B + b) * H + j;
                        if constexpr (C::gates == 3) p.reset_bias = a.reset_bias + j;
                        p.units = H;
                        C::template forward<P>(p);
                    }
                }
            }
        }
    }
}

template <class C, class P>
void backward_streams(const storycell::Recurrence& a, int64_t first, int64_t last) {
    constexpr int w = Simd::width;
    const int64_t H = a.units, B = a.streams, T = a.steps;
    const Packing shape{C::back * H, H, 0};
    const RowBlocks<MicroKernel<P>> blocks(last - first);
    const auto* packed = static_cast<const typename P::Element*>(a.packed);
    const auto* hidden = static_cast<const typename P::Element*>(a.hidden);
    auto* saved = static_cast<typename P::Gate*>(a.saved);
    const ptrdiff_t stride = C::saved * H / P::per_word;
    const int steps = static_cast<int>(C::back * H / P::per_word);
    alignas(64) float tile[MicroKernel<P>::rows * kTileColumns];
    MicroKernel<P> micro;

    // At t = -1 the product alone remains: the gradient to the initial state.
    for (int64_t t = T - 1; t >= -1; --t) {
        for (int64_t panel = 0; panel < shape.panels(); ++panel) {
            const int vectors = shape.vectors(panel);
            for (int64_t block = 0; block < blocks.count; ++block) {
                const int64_t b0 = first + blocks.start(block);
                const int rows = static_cast<int>(first + blocks.start(block + 1) - b0);
                if (t + 1 < T)
                    micro.by_rows(rows, vectors, words(saved + ((t + 1) * B + b0) * C::saved * H),
                                  stride, words(packed + shape.offset(panel)), steps, tile);
                for (int r = 0; r < rows; ++r) {
                    const int64_t b = b0 + r, row = t * B + b;
                    for (int v = 0; v < vectors; ++v) {
                        const int64_t j = shape.column(panel, v);
                        const int64_t at = b * H + j;
                        Simd::F grad;
                        if (t + 1 < T) grad = Simd::load(tile + r * kTileColumns + v * w);
                        else grad = a.grad_hidden ? Simd::load(a.grad_hidden + at) : Simd::set1(0);
                        if (t < 0) {
                            if constexpr (C::gates == 3) grad = grad + Simd::load(a.carry + at);
                            Simd::store(a.grad_initial + at, grad);
                            continue;
                        }
                        if (a.grad_output) grad = grad + Simd::load(a.grad_output + row * H + j);
                        BackwardPointers<P> p{};
                        p.grad = grad;
                        p.saved = saved + row * C::saved * H + j;
                        if constexpr (C::gates == 4) {
                            p.cell_before = a.cell_state + row * H + j;
                            p.cell_after = a.cell_state + (row + B) * H + j;
                            p.carried = a.grad_carry + at;
                        }
                        if constexpr (C::gates == 3) {
                            p.hidden_before = hidden + row * H + j;
                            p.carried = a.carry + at;
                        }
                        p.units = H;
                        C::template backward<P>(p);
                    }
                }
            }
        }
    }
}

}  // namespace
