// An lstm's layer whose gates are normalised: each is opened by
//
//     s / sqrt(mean over the units of s^2 + kNormEpsilon) + b_x   where s = W x + U h + b_h
//
// with a mean of its own, which is RMS normalisation (Zhang & Sennrich 2019, arXiv:1910.07467) inside the gates (as layer
// normalisation in Ba, Kiros & Hinton 2016, arXiv:1607.06450). A step needs the products of all units before the first
// cell's arithmetic, so a part has all units of its streams; padded units are zeros, and add nothing to a mean.
#pragma once
#include <cstdint>

#include "engine/arguments.h"
#include "ops/cells.h"
#include "ops/prefetch.h"
#include "ops/recurrence.h"
#include "ops/scratch.h"
#include "ops/tile.h"

namespace {

constexpr float kNormEpsilon = 1e-5f;

inline Simd::F inverse_root(float mean_square) {
    return Simd::set1(1.0f) / Simd::sqrt(Simd::set1(mean_square + kNormEpsilon));
}

// One stream's step, from the sums [4H] of its gates.
template <class P>
inline void forward_normalised_row(const storycell::Recurrence& a, int64_t row, const float* sums, const float* before,
                                   float* after, typename P::Element* hidden) {
    using S = Simd;
    constexpr int w = S::width;
    const int64_t H = a.units;
    float mean_squares[4];
    S::F inverse[4];
    for (int k = 0; k < 4; ++k) {
        S::F squares = S::set1(0);
        for (int64_t j = k * H; j < (k + 1) * H; j += w) {
            const S::F x = S::load(sums + j);
            squares = S::fma(x, x, squares);
        }
        mean_squares[k] = S::sum(squares) / static_cast<float>(a.real_units);
        inverse[k] = inverse_root(mean_squares[k]);
    }
    auto* const saved = static_cast<typename P::Gate*>(a.saved);
    auto* const normalised = static_cast<typename P::Gate*>(a.normalised) + (saved ? row * 4 * H : 0);
    for (int k = 0; saved && k < 4; ++k) a.mean_squares[row * 4 + k] = mean_squares[k];
    for (int64_t j = 0; j < H; j += w) {
        const S::F i = S::load(sums + j) * inverse[0], f = S::load(sums + H + j) * inverse[1];
        const S::F g = S::load(sums + 2 * H + j) * inverse[2], o = S::load(sums + 3 * H + j) * inverse[3];
        ForwardPointers<P> p{};
        p.before = before + j, p.after = after + j, p.hidden = hidden + j, p.units = H;
        if (saved) {
            p.saved = saved + row * 4 * H + j;
            P::store_gate(normalised + j, i);
            P::store_gate(normalised + H + j, f);
            P::store_gate(normalised + 2 * H + j, g);
            P::store_gate(normalised + 3 * H + j, o);
        }
        const float* bias = a.gate_bias + j;
        Lstm::open<P>({i + S::load(bias), f + S::load(bias + H), g + S::load(bias + 2 * H), o + S::load(bias + 3 * H)}, p);
    }
}

template <class P>
storycell::Status forward_normalised(const storycell::Recurrence& a, const storycell::RecurrencePart& part) {
    using S = Simd;
    constexpr int w = S::width;
    const int64_t first = part.first, count = part.last - part.first, H = a.units, B = a.streams;
    const Packing shape = forward_packing<Lstm, P>(H);
    const RowBlocks<MicroKernel<P>> blocks(count);
    auto* hidden = static_cast<typename P::Element*>(a.hidden);
    const auto* normalised = static_cast<const typename P::Gate*>(a.normalised);
    RowTiles<P> tiles(shape, static_cast<const typename P::Element*>(a.packed), count);
    const Scratch scratch(count * 4 * H);
    float* const sums = scratch.floats();
    if (!tiles.ready() || !sums) return storycell::kNoMemory;

    for (int64_t t = part.begin; t < part.end; ++t) {
        tiles.take(hidden + (t * B + first) * H, H, count);
        for (int64_t nth = 0; nth < shape.panels(); ++nth) {
            const int64_t panel = a.descending ? shape.panels() - 1 - nth : nth, unit = shape.column(panel, 0);
            for (int64_t block = 0; block < blocks.count; ++block) {
                const int64_t b0 = blocks.start(block);
                const int rows = static_cast<int>(blocks.start(block + 1) - b0);
                for (int r = 0; r < rows; ++r) fetch_input<Lstm>(a, t, first + b0 + r, unit, w);
                const float* tile = tiles.of(panel, b0, rows);
                for (int r = 0; r < rows; ++r) {
                    const float* input = input_row<Lstm>(a, t, first + b0 + r) + unit;
                    float* to = sums + (b0 + r) * 4 * H + unit;
                    for (int k = 0; k < 4; ++k)
                        S::store(to + k * H, S::load(tile + r * tiles.stride + k * w) + S::load(input + k * H));
                }
            }
        }
        const float* before = a.cell_state ? a.cell_state + t * B * H : a.carry;
        float* after = a.cell_state ? a.cell_state + (t + 1) * B * H : a.carry;
        for (int64_t b = first; b < part.last; ++b) {
            if (b + 1 < part.last) {  // a row ahead: those of all streams would push each other out
                fetch_written<Lstm, P>(a, t, b + 1, 0, H);
                if (a.saved) fetch(normalised + (t * B + b + 1) * 4 * H, 4 * H, true);
            }
            forward_normalised_row<P>(a, t * B + b, sums + (b - first) * 4 * H, before + b * H, after + b * H,
                                      hidden + ((t + 1) * B + b) * H);
        }
    }
    return storycell::kOk;
}

// One stream's step, from the gradient [H] to its hidden state without `grad_output`. all: [4H] sums of the gradients
// that the biases have; scratch [4H].
template <class P>
inline void backward_normalised_row(const storycell::Recurrence& a, int64_t row, int64_t b, const float* grad_hidden,
                                    float* all, float* scratch) {
    using S = Simd;
    constexpr int w = S::width;
    const int64_t H = a.units, B = a.streams;
    auto* const saved = static_cast<typename P::Gate*>(a.saved) + row * 4 * H;
    const auto* const normalised = static_cast<const typename P::Gate*>(a.normalised) + row * 4 * H;
    S::F along[4] = {S::set1(0), S::set1(0), S::set1(0), S::set1(0)};  // of the gradient, what normalisation takes away
    for (int64_t j = 0; j < H; j += w) {
        BackwardPointers<P> p{};
        p.grad = S::load(grad_hidden + j);
        if (a.grad_output) p.grad = p.grad + S::load(a.grad_output + row * H + j);
        p.saved = saved + j, p.units = H, p.carried = a.grad_carry + b * H + j;
        p.cell_before = a.cell_state + row * H + j, p.cell_after = a.cell_state + (row + B) * H + j;
        const Lstm::Gates gates = Lstm::gradients<P>(p);
        const S::F d[4] = {gates.i, gates.f, gates.g, gates.o};
        for (int k = 0; k < 4; ++k) {
            const int64_t at = k * H + j;
            along[k] = S::fma(d[k], P::load_gate(normalised + at), along[k]);
            S::store(all + at, S::load(all + at) + d[k]);
            S::store(scratch + at, d[k]);
        }
    }
    for (int k = 0; k < 4; ++k) {
        const S::F inverse = inverse_root(a.mean_squares[row * 4 + k]);
        const S::F mean = S::set1(S::sum(along[k]) / static_cast<float>(a.real_units));
        for (int64_t j = k * H; j < (k + 1) * H; j += w)
            P::store(saved + j, inverse * S::fnma(P::load_gate(normalised + j), mean, S::load(scratch + j)));
    }
}

template <class P>
storycell::Status backward_normalised(const storycell::Recurrence& a, const storycell::RecurrencePart& part) {
    using S = Simd;
    constexpr int w = S::width;
    const int64_t first = part.first, count = part.last - part.first, H = a.units, B = a.streams, T = a.steps;
    const int64_t together = storycell::streams_together(B);
    const Packing shape{Lstm::back * H, H, 0};
    const RowBlocks<MicroKernel<P>> blocks(count);
    const auto* saved = static_cast<const typename P::Gate*>(a.saved);
    const auto* normalised = static_cast<const typename P::Gate*>(a.normalised);
    RowTiles<P> tiles(shape, static_cast<const typename P::Element*>(a.packed), count);
    const Scratch scratch((count + 4) * H);
    if (!tiles.ready() || !scratch.floats()) return storycell::kNoMemory;
    float *const one = scratch.floats(), *const grads = one + 4 * H;
    for (int64_t b = first; b < part.last; b += together)
        for (int64_t j = 0; j < 4 * H; j += w) S::store(a.grad_gates + b / together * 4 * H + j, S::set1(0));

    // At t = -1 the product alone remains: the gradient to the initial state.
    for (int64_t t = T - 1 - part.begin; t >= T - part.end; --t) {
        if (t + 1 < T) tiles.take(saved + ((t + 1) * B + first) * 4 * H, 4 * H, count);
        for (int64_t panel = 0; panel < shape.panels(); ++panel)
            for (int64_t block = 0; block < blocks.count; ++block) {
                const int64_t b0 = blocks.start(block);
                const int rows = static_cast<int>(blocks.start(block + 1) - b0), vectors = shape.vectors(panel);
                const float* tile = t + 1 < T ? tiles.of(panel, b0, rows) : nullptr;
                for (int r = 0; r < rows; ++r)
                    for (int v = 0; v < vectors; ++v) {
                        const int64_t j = shape.column(panel, v), at = (first + b0 + r) * H + j;
                        S::F grad;
                        if (tile) grad = S::load(tile + r * tiles.stride + v * w);
                        else grad = a.grad_hidden ? S::load(a.grad_hidden + at) : S::set1(0);
                        S::store(t < 0 ? a.grad_initial + at : grads + (b0 + r) * H + j, grad);
                    }
            }
        for (int64_t b = first; b < part.last && t >= 0; ++b) {
            if (b + 1 < part.last) {
                fetch_backward<Lstm, P>(a, t, b + 1, 0, H);
                fetch(normalised + (t * B + b + 1) * 4 * H, 4 * H, false);
            }
            backward_normalised_row<P>(a, t * B + b, b, grads + (b - first) * H, a.grad_gates + b / together * 4 * H, one);
        }
    }
    return storycell::kOk;
}

}  // namespace
