// Products of which it is known that they are symmetric: blocks on and above the diagonal, each mirrored by whoever
// computed it, so that no two threads write to the same place.
#pragma once
#include <cstdint>

#include "arch/simd.h"
#include "engine/arguments.h"
#include "ops/matmul.h"
#include "ops/precision.h"
#include "ops/scratch.h"
#include "ops/tile.h"

namespace {

// Blocks are as high and wide as a panel; those of a product are counted along its upper triangle, row by row.
inline int64_t symmetric_blocks(int64_t n) {
    const int64_t along = (n + kTileColumns - 1) / kTileColumns;
    return along * (along + 1) / 2;
}

// Four by four numbers of a matrix, turned about its diagonal.
inline void mirror(const float* from, float* to, int64_t stride) {
    typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));
    typedef int32_t Lanes __attribute__((vector_size(16)));
    const auto row = [&](int64_t r) { return *reinterpret_cast<const Four*>(from + r * stride); };
    const auto put = [&](int64_t r, Four v) { *reinterpret_cast<Four*>(to + r * stride) = v; };
#ifdef __clang__
#define STORYCELL_LANES(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define STORYCELL_LANES(a, b, ...) __builtin_shuffle(a, b, Lanes{__VA_ARGS__})
#endif
    const Four a = row(0), b = row(1), c = row(2), d = row(3);
    const Four ab = STORYCELL_LANES(a, b, 0, 4, 1, 5), cd = STORYCELL_LANES(c, d, 0, 4, 1, 5);
    const Four ab2 = STORYCELL_LANES(a, b, 2, 6, 3, 7), cd2 = STORYCELL_LANES(c, d, 2, 6, 3, 7);
    put(0, STORYCELL_LANES(ab, cd, 0, 1, 4, 5)), put(1, STORYCELL_LANES(ab, cd, 2, 3, 6, 7));
    put(2, STORYCELL_LANES(ab2, cd2, 0, 1, 4, 5)), put(3, STORYCELL_LANES(ab2, cd2, 2, 3, 6, 7));
#undef STORYCELL_LANES
}

// The left-hand side of a row of blocks: rows as they lie, or columns of what lies in rows, packed in strips.
template <class P>
class SymmetricLeft {
public:
    explicit SymmetricLeft(const storycell::SymmetricProduct& a)
        : a_(a), steps_(static_cast<int>(a.inner / P::per_word)), strips_(a.by_columns ? kStrips * strip_words() : 0) {}

    bool has_memory() const { return !a_.by_columns || strips_.floats(); }

    // What the blocks of rows [r0, r1) need; nothing where they were the last ones.
    void take(int64_t r0, int64_t r1) {
        if (!a_.by_columns || r0 == taken_) return;
        taken_ = r0;
        const auto* from = static_cast<const typename P::Element*>(a_.left);
        for (int step = 0; step < steps_; ++step, from += P::per_word * a_.left_stride)
            for (int64_t r = r0, strip = 0; r < r1; r += kRows, ++strip)
                pack_step<P>(from + r, from + (P::per_word - 1) * a_.left_stride + r, kRows,
                             strips_.floats() + strip * strip_words() + step * kRows);
        for (int64_t strip = 0; r0 + strip * kRows < r1; ++strip)
            MicroKernel<P>::arrange_packed(strips_.floats() + strip * strip_words(), steps_);
    }

    // Rows of a block's tiles, and one of them.
    int64_t tiles(int64_t rows) const { return (rows + kRows - 1) / kRows; }
    int64_t start(int64_t tile, int64_t rows) const {
        if (!a_.by_columns) return RowBlocks<MicroKernel<P>>(rows).start(tile);
        return tile * kRows < rows ? tile * kRows : rows;
    }
    void multiply(MicroKernel<P>& micro, int64_t r0, int64_t tile, int64_t rows, int vectors, const float* panel,
                  float* to) const {
        const int64_t first = start(tile, rows);
        const int height = static_cast<int>(start(tile + 1, rows) - first);
        if (a_.by_columns)
            return micro.packed(height, vectors, strips_.floats() + tile * strip_words(), panel, steps_, to);
        const auto* left = static_cast<const typename P::Element*>(a_.left) + (r0 + first) * a_.left_stride;
        micro.by_rows(height, vectors, words(left), a_.left_stride / P::per_word, panel, steps_, to);
    }

private:
    static constexpr int kRows = MicroKernel<P>::rows;
    static constexpr int64_t kStrips = (kTileColumns + kRows - 1) / kRows;
    // A step's vectors may overhang its words: the next one overwrites that, and the last needs the room.
    int64_t strip_words() const { return static_cast<int64_t>(steps_) * kRows + Simd::width + kRows; }

    const storycell::SymmetricProduct& a_;
    int steps_;
    int64_t taken_ = -1;
    Scratch strips_;
};

template <class P>
storycell::Status symmetric_blocks_of(const storycell::SymmetricProduct& a, int64_t first, int64_t last) {
    constexpr int w = Simd::width;
    const Packing shape{a.inner, a.n, 0};
    const auto* packed = static_cast<const typename P::Element*>(a.packed);
    SymmetricLeft<P> left(a);
    if (!left.has_memory()) return storycell::kNoMemory;
    MicroKernel<P> micro;
    alignas(64) float tile[MicroKernel<P>::rows * kTileColumns];
    int64_t at = 0;
    for (int64_t row = 0; row < shape.panels(); ++row)
        for (int64_t panel = row; panel < shape.panels(); ++panel, ++at) {
            if (at < first || at >= last) continue;
            const int vectors = shape.vectors(panel);
            const int64_t r0 = row * kTileColumns, c0 = panel * kTileColumns;
            const int64_t rows = a.n - r0 < kTileColumns ? a.n - r0 : kTileColumns;
            left.take(r0, r0 + rows);
            for (int64_t nth = 0; nth < left.tiles(rows); ++nth) {
                left.multiply(micro, r0, nth, rows, vectors, words(packed + shape.offset(panel)), tile);
                const int64_t from = left.start(nth, rows), height = left.start(nth + 1, rows) - from;
                for (int64_t r = 0; r < height; ++r)
                    for (int v = 0; v < vectors; ++v)
                        Simd::store(a.out + (r0 + from + r) * a.n + c0 + v * w,
                                    Simd::load(tile + r * kTileColumns + v * w));
            }
            if (panel == row) continue;
            for (int64_t c = 0; c < vectors * w; c += 4)
                for (int64_t r = 0; r < rows; r += 4)
                    mirror(a.out + (r0 + r) * a.n + c0 + c, a.out + (c0 + c) * a.n + r0 + r, a.n);
        }
    return storycell::kOk;
}

template <class P>
storycell::Status symmetric_products(const storycell::SymmetricProducts& all, int64_t first, int64_t last) {
    for (int64_t i = 0, before = 0; i < all.products && before < last; ++i) {
        const storycell::SymmetricProduct& a = all.product[i];
        const int64_t here = symmetric_blocks(a.n);
        if (first < before + here)
            if (const storycell::Status bad = symmetric_blocks_of<P>(a, first - before, last - before)) return bad;
        before += here;
    }
    return storycell::kOk;
}

}  // namespace
