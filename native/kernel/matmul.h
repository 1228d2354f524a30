// Products outside the recurrence: rows by packed weights (projections, their gradients to the
// input), and the sum over all rows that gives a weight's gradient.
#pragma once
#include <cstdlib>
#include <cstring>

#include "arguments.h"

namespace {

template <class P>
void product_rows(const storycell::Product& a, int64_t first, int64_t last) {
    using E = typename P::Element;
    constexpr int w = Simd::width;
    const Packing shape{a.inner, a.columns, 0};
    const auto* left = static_cast<const E*>(a.left);
    const auto* packed = static_cast<const E*>(a.packed);
    const int steps = static_cast<int>(a.inner / P::per_word);
    alignas(64) float tile[MicroKernel<P>::rows * kTileColumns];
    MicroKernel<P> micro;
    constexpr int64_t strip = 8 * MicroKernel<P>::rows;  // rows that meet a panel while it is cached
    for (int64_t r0 = first; r0 < last; r0 += strip) {
        const int64_t here = last - r0 < strip ? last - r0 : strip;
        const RowBlocks<MicroKernel<P>> blocks(here);
        for (int64_t panel = 0; panel < shape.panels(); ++panel) {
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
}

// One step (a row, or a pair of rows) of columns [0, columns) as words, in whole vectors: the
// overhang of up to a vector past `columns` must be readable and writable.
template <class P>
inline void pack_step(const typename P::Element* one, const typename P::Element* two,
                      int64_t columns, float* to) {
    for (int64_t v = 0; v < columns; v += Simd::width)
        Simd::store(to + v, P::words(one + v, two + v));
}

// A thread's share of a TransposedProduct: columns [m0, m1) of left. The inner dimension (all
// characters of the step) is cut into depths whose packed operands stay in the second-level cache;
// each thread owns a range of m, so no sums are shared between threads and the result does not
// depend on their number.
template <class P>
class TransposedShare {
public:
    using E = typename P::Element;
    using Micro = MicroKernel<P>;
    static constexpr int depth = 192;  // words

    TransposedShare(const storycell::TransposedProduct& product, int64_t first, int64_t last)
        : a(product), m0(first * 16), mine((last - first) * 16), strips((mine + tr - 1) / tr) {
        const int64_t count = depth * a.n + strips * strip_words;
        memory = static_cast<float*>(std::calloc(static_cast<size_t>(count), sizeof(float)));
        zeros = static_cast<E*>(std::calloc(static_cast<size_t>(longest()), sizeof(E)));
        packed_right = memory;
        packed_left = memory + depth * a.n;
    }
    TransposedShare(const TransposedShare&) = delete;
    TransposedShare& operator=(const TransposedShare&) = delete;
    ~TransposedShare() {
        std::free(memory);
        std::free(zeros);
    }

    void run() {
        clear_sums();
        for (int64_t k0 = 0; k0 < a.rows; k0 += depth * pw) {
            const int64_t here = a.rows - k0 < depth * pw ? a.rows - k0 : depth * pw;
            const int needed = static_cast<int>((here + pw - 1) / pw);
            const int steps = (needed + multiple - 1) / multiple * multiple;  // the rest are zeros
            for (int s = 0; s < steps; s += group) {
                const int end = s + group < steps ? s + group : steps;
                pack_right(k0, s, end, steps);
                pack_left(k0, s, end);
                for (int64_t k = k0 + s * pw; k < k0 + end * pw && k < a.rows; ++k) add_row(k);
            }
            for (int64_t strip = 0; strip < strips; ++strip)
                Micro::arrange_packed(packed_left + strip * strip_words, steps);
            multiply(steps, k0 > 0);
        }
    }

private:
    static constexpr int w = Simd::width, tr = Micro::rows, pw = P::per_word;
    static constexpr int multiple = Micro::step_multiple;
    static constexpr int group = 8;  // steps packed at a time: a strip's words then fill whole lines
    static constexpr int across = (tr + w - 1) / w * w;  // a strip's words in whole vectors
    // A step's vectors may overhang its words; the next step overwrites that, and the last step of
    // a strip needs the slack.
    static constexpr int64_t strip_words = depth * tr + w;
    static_assert(depth % multiple == 0, "a full depth needs no steps of zeros");

    const storycell::TransposedProduct& a;
    int64_t m0, mine, strips;
    float *memory, *packed_right, *packed_left;
    E* zeros;  // as long as a row of either side

    int64_t longest() const { return (a.n > mine ? a.n : mine) + across; }
    const E* left_row(int64_t k) const {
        return k < a.rows ? static_cast<const E*>(a.left) + k * a.left_stride + m0 : zeros;
    }
    const E* right_row(int64_t k) const {
        return k < a.rows ? static_cast<const E*>(a.right) + k * a.right_stride : zeros;
    }

    void clear_sums() {
        if (a.column_sums)
            std::memset(a.column_sums + m0, 0, static_cast<size_t>(mine) * sizeof(float));
        for (int64_t id = 0; a.table_grad && id < a.characters; ++id)
            std::memset(a.table_grad + id * a.m + m0, 0, static_cast<size_t>(mine) * sizeof(float));
    }

    // Steps [s, end) of all columns of right, from row k0 on.
    void pack_right(int64_t k0, int s, int end, int steps) {
        const Packing shape{depth, a.n, 0};
        for (int64_t panel = 0; panel < shape.panels(); ++panel) {
            const int64_t j = shape.column(panel, 0);
            const int columns = shape.vectors(panel) * w;
            float* to = packed_right + panel * kTileColumns * steps;
            for (int i = s; i < end; ++i) {
                const int64_t k = k0 + i * pw;
                pack_step<P>(right_row(k) + j, right_row(k + pw - 1) + j, columns, to + i * columns);
            }
        }
    }

    // Steps [s, end) of this share's columns of left, strip by strip.
    void pack_left(int64_t k0, int s, int end) {
        const int64_t whole = mine < across ? 0 : (mine - across) / tr + 1;  // strips without tail
        for (int64_t strip = 0; strip < whole; ++strip)
            for (int i = s; i < end; ++i) {
                const int64_t k = k0 + i * pw, m = strip * tr;
                pack_step<P>(left_row(k) + m, left_row(k + pw - 1) + m, tr,
                             packed_left + strip * strip_words + i * tr);
            }
        E tail[2][across];
        for (int64_t strip = whole; strip < strips; ++strip)
            for (int i = s; i < end; ++i) {
                const int64_t m = strip * tr;
                const auto known = static_cast<size_t>(mine - m < tr ? mine - m : tr);
                std::memset(tail, 0, sizeof tail);
                for (int row = 0; row < pw; ++row)
                    std::memcpy(tail[row], left_row(k0 + i * pw + row) + m, known * sizeof(E));
                pack_step<P>(tail[0], tail[pw - 1], tr, packed_left + strip * strip_words + i * tr);
            }
    }

    // Row k of left, added to the column sums and to the table row of its character.
    void add_row(int64_t k) {
        const E* from = left_row(k);
        if (a.column_sums) add(a.column_sums + m0, from);
        if (!a.table_grad) return;
        const int64_t t = k / a.streams, b = k % a.streams;
        const int64_t id = a.ids[b * a.ids_stream_stride + t * a.ids_step_stride];
        add(a.table_grad + id * a.m + m0, from);
    }

    void add(float* to, const E* from) const {
        for (int64_t m = 0; m < mine; m += w)
            Simd::store(to + m, Simd::load(to + m) + P::load(from + m));
    }

    // out += packed left^T . packed right, or = for the first depth.
    void multiply(int steps, bool adds) {
        const Packing shape{depth, a.n, 0};
        alignas(64) float tile[tr * kTileColumns];
        for (int64_t panel = 0; panel < shape.panels(); ++panel) {
            const int vectors = shape.vectors(panel);
            const float* right = packed_right + panel * kTileColumns * steps;
            for (int64_t strip = 0; strip < strips; ++strip) {
                const int rows = static_cast<int>(mine - strip * tr < tr ? mine - strip * tr : tr);
                float* out = a.out + (m0 + strip * tr) * a.n + shape.column(panel, 0);
                for (int r = 0; r < rows; ++r)  // it has long left the second-level cache
                    for (int v = 0; v < vectors; ++v) __builtin_prefetch(out + r * a.n + v * w, 1);
                micro.packed(rows, vectors, packed_left + strip * strip_words, right, steps, tile);
                for (int r = 0; r < rows; ++r)
                    for (int v = 0; v < vectors; ++v) {
                        float* to = out + r * a.n + v * w;
                        const Simd::F x = Simd::load(tile + r * kTileColumns + v * w);
                        Simd::store(to, adds ? Simd::load(to) + x : x);
                    }
            }
        }
    }

    Micro micro;
};

template <class P>
void transposed_rows(const storycell::TransposedProduct& a, int64_t first, int64_t last) {
    if (first < last) TransposedShare<P>(a, first, last).run();
}

// Each thread owns a range of columns, adds in the order of time and stream: no one-hot matrix,
// no shared sums, the same bits for any number of threads.
template <class P>
void table_gradient_columns(const storycell::TableGradient& a, int64_t first, int64_t last) {
    constexpr int w = Simd::width;
    const bool gru = a.cell == storycell::kGru;
    const int64_t H = a.units, gates = a.cell == storycell::kLstm ? 4 : gru ? 3 : 1;
    const int64_t saved = gru ? 4 : gates, c0 = first * 16, c1 = last * 16;
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
                // gru keeps r, z, h_n, x_n: the input's third gate is the fourth vector.
                const int64_t source = gru && c >= 2 * H ? c + H : c;
                Simd::store(to + c, Simd::load(to + c) + P::load(from + source));
            }
        }
}

}  // namespace
