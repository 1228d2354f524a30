// Products outside the recurrence: rows by packed weights (projections, their gradients to the
// input), and the sum over all rows that gives a weight's gradient.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "arch/simd.h"
#include "engine/arguments.h"
#include "ops/prefetch.h"
#include "ops/scratch.h"
#include "ops/tile.h"

namespace {

template <class P>
storycell::Status product_rows(const storycell::Product& a, int64_t first, int64_t last) {
    using E = typename P::Element;
    constexpr int w = Simd::width;
    const Packing shape{a.inner, a.columns, 0, P::header};
    const auto* left = static_cast<const E*>(a.left);
    const auto* packed = static_cast<const E*>(a.packed);
    const int steps = static_cast<int>(a.inner / P::per_word);
    alignas(64) float tile[MicroKernel<P>::rows * kTileColumns];
    MicroKernel<P> micro;
    constexpr int64_t strip = 8 * MicroKernel<P>::rows;  // rows that meet a panel while it is cached
    for (int64_t r0 = first; r0 < last; r0 += strip) {
        const int64_t here = last - r0 < strip ? last - r0 : strip;
        const RowBlocks<MicroKernel<P>> blocks(here);
        for (int64_t nth = 0; nth < shape.panels(); ++nth) {
            const int64_t panel = a.descending ? shape.panels() - 1 - nth : nth;
            const int vectors = shape.vectors(panel);
            for (int64_t block = 0; block < blocks.count; ++block) {
                const int64_t b0 = r0 + blocks.start(block);
                const int rows = static_cast<int>(r0 + blocks.start(block + 1) - b0);
                micro.by_rows(rows, vectors, words(left + b0 * a.left_stride),
                              a.left_stride / P::per_word, words(packed + shape.offset(panel)),
                              steps, tile);
                for (int r = 0; r < rows; ++r)
                    for (int v = 0; v < vectors; ++v) {
                        const int64_t j = shape.column(panel, v);
                        Simd::F x = Simd::load(tile + r * kTileColumns + v * w);
                        if (a.bias) x = x + Simd::load(a.bias + j);
                        Simd::store(a.out + (b0 + r) * a.columns + j, x);
                    }
            }
        }
    }
    return storycell::kOk;
}

// One step (a row, or a pair of rows) of columns [0, columns) as words, in whole vectors: the
// overhang of up to a vector past `columns` must be readable and writable.
template <class P>
inline void pack_step(const typename P::Element* one, const typename P::Element* two,
                      int64_t columns, float* to) {
    for (int64_t v = 0; v < columns; v += Simd::width)
        Simd::store(to + v, P::words(one + v, two + v));
}

// The inner dimension (all characters of the step) is cut into depths whose packed operands stay
// in the second-level cache; each thread owns a range of m, so no sums are shared between threads
// and the result does not depend on their number. Rows are packed one after another: strip by
// strip the same lines would be fetched again and again at page-sized strides.
//
// A second right-hand side meets the same left-hand side, which is read and packed once for both.
template <class P>
storycell::Status transposed_pair_rows(const storycell::TransposedPair& pair, int64_t first, int64_t last) {
    const storycell::TransposedProduct& a = pair.one;
    using E = typename P::Element;
    constexpr int w = Simd::width, tr = MicroKernel<P>::rows, pw = P::per_word;
    constexpr int depth = 192;  // words
    constexpr int64_t ahead = 8;  // rows between one that is fetched and one that is packed
    constexpr int multiple = MicroKernel<P>::step_multiple;
    static_assert(depth % multiple == 0, "a full depth needs no steps of zeros");
    const int64_t m0 = first * 16, m1 = last * 16, mine = m1 - m0;
    if (mine <= 0) return storycell::kOk;
    const auto* left = static_cast<const E*>(a.left);
    struct Right {
        const E* rows;
        int64_t stride, columns;
        Packing shape;
        float *out, *packed;
    };
    Right rights[2] = {
        {static_cast<const E*>(a.right), a.right_stride, a.n, {depth, a.n, 0}, a.out, nullptr},
        {static_cast<const E*>(pair.right), pair.right_stride, pair.n, {depth, pair.n, 0}, pair.out, nullptr}};
    const int count = pair.right ? 2 : 1;
    const int64_t columns = a.n + (pair.right ? pair.n : 0), widest = a.n > pair.n ? a.n : pair.n;
    const int64_t strips = (mine + tr - 1) / tr;
    // A strip's vectors may overhang its words; the next step overwrites that, and the last step
    // of a strip needs the slack. Rows are first widened to end in zeros.
    constexpr int64_t strip_words = depth * tr + w;
    const int64_t row_elements = mine + tr + w;
    const int64_t right_words = depth * columns, left_words = strips * strip_words;
    const int64_t row_words = 2 * row_elements + widest;
    const Scratch scratch(right_words + left_words + row_words);
    rights[0].packed = scratch.floats();
    if (!rights[0].packed) return storycell::kNoMemory;
    rights[1].packed = rights[0].packed + depth * a.n;
    float* packed_left = rights[0].packed + right_words;
    E* rows_here = reinterpret_cast<E*>(packed_left + left_words);
    std::memset(rows_here, 0, static_cast<size_t>(row_words) * sizeof(float));
    E* zeros = rows_here + 2 * row_elements;
    alignas(64) float tile[tr * kTileColumns];
    MicroKernel<P> micro;

    if (a.column_sums)
        for (int64_t m = m0; m < m1; m += w) Simd::store(a.column_sums + m, Simd::set1(0.0f));
    for (int64_t id = 0; a.table_grad && id < a.characters; ++id)
        std::memset(a.table_grad + id * a.m + m0, 0, static_cast<size_t>(mine) * sizeof(float));
    for (int64_t k0 = 0; k0 < a.rows; k0 += depth * pw) {
        const int64_t here = a.rows - k0 < depth * pw ? a.rows - k0 : depth * pw;
        const int needed = static_cast<int>((here + pw - 1) / pw);
        const int steps = (needed + multiple - 1) / multiple * multiple;  // the rest are zeros
        for (int s = 0; s < steps; ++s) {
            const int64_t k = k0 + s * pw;
            for (int64_t row = k + ahead; row < k + ahead + pw && row < a.rows; ++row) {
                fetch(left + row * a.left_stride + m0, mine, false);
                for (int i = 0; i < count; ++i)
                    fetch(rights[i].rows + row * rights[i].stride, rights[i].columns, false);
            }
            for (int i = 0; i < count; ++i) {
                const Right& right = rights[i];
                const auto right_row = [&](int64_t row) {
                    return row < a.rows ? right.rows + row * right.stride : zeros;
                };
                const E *one = right_row(k), *two = right_row(k + pw - 1);
                for (int64_t panel = 0; panel < right.shape.panels(); ++panel) {
                    const int64_t j = right.shape.column(panel, 0);
                    const int here = right.shape.vectors(panel) * w;
                    pack_step<P>(one + j, two + j, here,
                                 right.packed + panel * kTileColumns * steps + s * here);
                }
            }
            for (int i = 0; i < pw; ++i) {
                if (k + i < a.rows) {
                    const E* from = left + (k + i) * a.left_stride + m0;
                    std::memcpy(rows_here + i * row_elements, from,
                                static_cast<size_t>(mine) * sizeof(E));
                    if (a.column_sums)
                        for (int64_t m = 0; m < mine; m += w)
                            Simd::store(a.column_sums + m0 + m,
                                        Simd::load(a.column_sums + m0 + m) + P::load(from + m));
                    if (a.table_grad) {
                        const int64_t t = (k + i) / a.streams, b = (k + i) % a.streams;
                        const int64_t id = a.ids[b * a.ids_stream_stride + t * a.ids_step_stride];
                        float* to = a.table_grad + id * a.m + m0;
                        for (int64_t m = 0; m < mine; m += w)
                            Simd::store(to + m, Simd::load(to + m) + P::load(from + m));
                    }
                } else {
                    std::memset(rows_here + i * row_elements, 0,
                                static_cast<size_t>(mine) * sizeof(E));
                }
            }
            for (int64_t strip = 0; strip < strips; ++strip)
                pack_step<P>(rows_here + strip * tr, rows_here + (pw - 1) * row_elements + strip * tr,
                             tr, packed_left + strip * strip_words + s * tr);
        }
        for (int64_t strip = 0; strip < strips; ++strip)
            MicroKernel<P>::arrange_packed(packed_left + strip * strip_words, steps);
        for (int i = 0; i < count; ++i) {
            const Right& right = rights[i];
            for (int64_t panel = 0; panel < right.shape.panels(); ++panel) {
                const int vectors = right.shape.vectors(panel);
                float* packed = right.packed + panel * kTileColumns * steps;
                MicroKernel<P>::arrange_panel(packed, vectors, steps);
                for (int64_t strip = 0; strip < strips; ++strip) {
                    const int64_t m = m0 + strip * tr;
                    const int rows = static_cast<int>(m1 - m < tr ? m1 - m : tr);
                    micro.packed(rows, vectors, packed_left + strip * strip_words, packed, steps, tile);
                    for (int r = 0; r < rows; ++r)
                        for (int v = 0; v < vectors; ++v) {
                            float* to = right.out + (m + r) * right.columns + right.shape.column(panel, v);
                            const Simd::F x = Simd::load(tile + r * kTileColumns + v * w);
                            Simd::store(to, k0 ? Simd::load(to) + x : x);
                        }
                }
            }
        }
    }
    return storycell::kOk;
}

template <class P>
storycell::Status transposed_rows(const storycell::TransposedProduct& a, int64_t first, int64_t last) {
    return transposed_pair_rows<P>({a, nullptr, 0, 0, nullptr}, first, last);
}

// Each thread owns a range of columns, adds in the order of time and stream: no one-hot matrix,
// no shared sums, the same bits for any number of threads.
template <class P>
storycell::Status table_gradient_columns(const storycell::TableGradient& a, int64_t first, int64_t last) {
    constexpr int w = Simd::width;
    const storycell::CellShape cell = storycell::kCells[a.cell];
    const int64_t H = a.units, gates = cell.gates, saved = cell.saved;
    const int64_t c0 = first * 16, c1 = last * 16;
    // Where a cell saves more vectors than it has gates (gru: r, z, h_n, x_n), the last is the gradient of
    // the input's last gate.
    const int64_t last_gate = (gates - 1) * H, shift = (saved - gates) * H;
    const auto* grads = static_cast<const typename P::Element*>(a.gate_grads);
    for (int64_t id = 0; id < a.characters; ++id)
        for (int64_t c = c0; c < c1; c += w)
            Simd::store(a.grad + id * gates * H + c, Simd::set1(0.0f));
    for (int64_t t = 0; t < a.steps; ++t)
        for (int64_t b = 0; b < a.streams; ++b) {
            const int64_t id = a.ids[b * a.ids_stream_stride + t * a.ids_step_stride];
            float* to = a.grad + id * gates * H;
            const auto* from = grads + (t * a.streams + b) * saved * H;
            for (int64_t c = c0; c < c1; c += w) {
                const int64_t source = c >= last_gate ? c + shift : c;
                Simd::store(to + c, Simd::load(to + c) + P::load(from + source));
            }
        }
    return storycell::kOk;
}

}  // namespace
