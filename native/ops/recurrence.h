// Forward and backward through time for one layer over a part of its streams, steps and units. Streams never meet, so a
// thread that has all units runs all steps of its streams without waiting for another.
#pragma once
#include <cstddef>
#include <cstdint>

#include "engine/arguments.h"
#include "ops/cells.h"
#include "ops/prefetch.h"
#include "ops/tile.h"

namespace {

// Packing of W_hh [G*H, H] for the forward product hidden . W_hh^T. A one-gate cell needs no gate
// interleaving and takes the wider plain panels.
template <class C, class P>
inline Packing forward_packing(int64_t units) {
    return {units, units, C::gates == 1 ? 0 : C::gates, P::header};
}

struct PanelRange {
    int64_t begin, end;
    PanelRange(const Packing& shape, const storycell::RecurrencePart& part)
        : begin(shape.panels() * part.share / part.shares), end(shape.panels() * (part.share + 1) / part.shares) {}
};

// What the layer's input adds to the gates of stream b at step t, [G*H].
template <class C>
inline const float* input_row(const storycell::Recurrence& a, int64_t t, int64_t b) {
    const int64_t row = a.ids ? a.ids[b * a.ids_stream_stride + t * a.ids_step_stride]
                              : t * a.streams + b;
    return (a.ids ? a.table : a.projected) + row * C::gates * a.units;
}

// What the cell will touch after the next tile, `count` units from j on, comes from beyond the
// second-level cache in strides that no processor foresees; asked for before the product, it is
// there after it.
template <class C>
STORYCELL_INLINE void fetch_input(const storycell::Recurrence& a, int64_t t, int64_t b, int64_t j, int64_t count) {
    const float* input = input_row<C>(a, t, b) + j;
    for (int gate = 0; gate < C::gates; ++gate) fetch(input + gate * a.units, count, false);
}

template <class C, class P>
STORYCELL_INLINE void fetch_written(const storycell::Recurrence& a, int64_t t, int64_t b, int64_t j, int64_t count) {
    const int64_t H = a.units, row = t * a.streams + b;
    auto* saved = static_cast<const typename P::Gate*>(a.saved);
    for (int vector = 0; saved && vector < C::saved; ++vector)
        fetch(saved + (row * C::saved + vector) * H + j, count, true);
    if (a.cell_state) fetch(a.cell_state + (row + a.streams) * H + j, count, true);
    fetch(static_cast<const typename P::Element*>(a.hidden) + (row + a.streams) * H + j, count, true);
}

template <class C, class P>
STORYCELL_INLINE void fetch_backward(const storycell::Recurrence& a, int64_t t, int64_t b, int64_t j,
                           int64_t count) {
    const int64_t H = a.units, row = t * a.streams + b;
    const auto* saved = static_cast<const typename P::Gate*>(a.saved);
    for (int vector = 0; vector < C::saved; ++vector)
        fetch(saved + (row * C::saved + vector) * H + j, count, true);
    if (a.grad_output) fetch(a.grad_output + row * H + j, count, false);
    if constexpr (C::cell == storycell::kLstm) fetch(a.cell_state + row * H + j, count, false);
}

template <class C, class P>
storycell::Status forward_part(const storycell::Recurrence& a, const storycell::RecurrencePart& part) {
    constexpr int w = Simd::width;
    const int64_t first = part.first, last = part.last;
    const int64_t H = a.units, B = a.streams;
    const Packing shape = forward_packing<C, P>(H);
    const RowBlocks<MicroKernel<P>> blocks(last - first);
    const auto* packed = static_cast<const typename P::Element*>(a.packed);
    auto* hidden = static_cast<typename P::Element*>(a.hidden);
    auto* saved = static_cast<typename P::Gate*>(a.saved);
    RowTiles<P> tiles(shape, packed, last - first);
    if (!tiles.ready()) return storycell::kNoMemory;

    const PanelRange panels(shape, part);
    for (int64_t t = part.begin; t < part.end; ++t) {
        tiles.take(hidden + (t * B + first) * H, H, last - first);
        const float* before = a.carry;
        float* after = a.carry;
        if (a.cell_state) {
            before = a.cell_state + t * B * H;
            after = a.cell_state + (t + 1) * B * H;
        }
        for (int64_t nth = 0; nth < panels.end - panels.begin; ++nth) {
            const int64_t panel = a.descending ? panels.end - 1 - nth : panels.begin + nth;
            const int vectors = shape.vectors(panel);
            const int units_here = C::gates == 1 ? vectors : 1;  // vectors of units in the tile
            for (int64_t block = 0; block < blocks.count; ++block) {
                const int64_t b0 = first + blocks.start(block);
                const int rows = static_cast<int>(first + blocks.start(block + 1) - b0);
                for (int r = 0; r < rows; ++r) {
                    fetch_input<C>(a, t, b0 + r, shape.column(panel, 0), units_here * w);
                    fetch_written<C, P>(a, t, b0 + r, shape.column(panel, 0), units_here * w);
                }
                const float* tile = tiles.of(panel, b0 - first, rows);
                for (int r = 0; r < rows; ++r) {
                    const int64_t b = b0 + r, row = t * B + b;
                    const float* input = input_row<C>(a, t, b);
                    for (int v = 0; v < units_here; ++v) {
                        const int64_t j = shape.column(panel, v);
                        ForwardPointers<P> p{};
                        p.sum = tile + r * tiles.stride + v * w;
                        p.input = input + j;
                        if (saved) p.saved = saved + row * C::saved * H + j;
                        if constexpr (C::carries) {
                            p.before = before + b * H + j;
                            p.after = after + b * H + j;
                        }
                        p.hidden = hidden + ((t + 1) * B + b) * H + j;
                        if constexpr (C::cell == storycell::kGru) p.reset_bias = a.reset_bias + j;
                        p.units = H;
                        C::template forward<P>(p);
                    }
                }
            }
        }
    }
    return storycell::kOk;
}

template <class C, class P>
storycell::Status backward_part(const storycell::Recurrence& a, const storycell::RecurrencePart& part) {
    constexpr int w = Simd::width;
    const int64_t first = part.first, last = part.last;
    const int64_t H = a.units, B = a.streams, T = a.steps;
    const Packing shape{C::back * H, H, 0};
    const RowBlocks<MicroKernel<P>> blocks(last - first);
    const auto* packed = static_cast<const typename P::Element*>(a.packed);
    const auto* hidden = static_cast<const typename P::Element*>(a.hidden);
    auto* saved = static_cast<typename P::Gate*>(a.saved);
    RowTiles<P> tiles(shape, packed, last - first);
    if (!tiles.ready()) return storycell::kNoMemory;

    // At t = -1 the product alone remains: the gradient to the initial state.
    const PanelRange panels(shape, part);
    for (int64_t t = T - 1 - part.begin; t >= T - part.end; --t) {
        if (t + 1 < T) tiles.take(saved + ((t + 1) * B + first) * C::saved * H, C::saved * H, last - first);
        for (int64_t panel = panels.begin; panel < panels.end; ++panel) {
            const int vectors = shape.vectors(panel);
            for (int64_t block = 0; block < blocks.count; ++block) {
                const int64_t b0 = first + blocks.start(block);
                const int rows = static_cast<int>(first + blocks.start(block + 1) - b0);
                for (int r = 0; r < rows && t >= 0; ++r)
                    fetch_backward<C, P>(a, t, b0 + r, shape.column(panel, 0), vectors * w);
                const float* tile = t + 1 < T ? tiles.of(panel, b0 - first, rows) : nullptr;
                for (int r = 0; r < rows; ++r) {
                    const int64_t b = b0 + r, row = t * B + b;
                    for (int v = 0; v < vectors; ++v) {
                        const int64_t j = shape.column(panel, v);
                        const int64_t at = b * H + j;
                        Simd::F grad;
                        if (t + 1 < T) grad = Simd::load(tile + r * tiles.stride + v * w);
                        else grad = a.grad_hidden ? Simd::load(a.grad_hidden + at) : Simd::set1(0);
                        if (t < 0) {
                            if constexpr (C::cell == storycell::kGru) grad = grad + Simd::load(a.carry + at);
                            Simd::store(a.grad_initial + at, grad);
                            continue;
                        }
                        if (a.grad_output) grad = grad + Simd::load(a.grad_output + row * H + j);
                        BackwardPointers<P> p{};
                        p.grad = grad;
                        p.saved = saved + row * C::saved * H + j;
                        if constexpr (C::cell == storycell::kLstm) {
                            p.cell_before = a.cell_state + row * H + j;
                            p.cell_after = a.cell_state + (row + B) * H + j;
                            p.carried = a.grad_carry + at;
                        }
                        if constexpr (C::cell == storycell::kGru) {
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
    return storycell::kOk;
}

}  // namespace
