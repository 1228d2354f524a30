// Products of which it is known that they are symmetric: blocks on and above the diagonal, each mirrored by whoever
// computed it, so that no two threads write to the same place.
#pragma once
#include <cstdint>

#include "arch/simd.h"
#include "engine/arguments.h"
#include "ops/matmul.h"
#include "ops/precision.h"
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
    const auto row = [&](int64_t r) { return *reinterpret_cast<const Four*>(from + r * stride); };
    const auto put = [&](int64_t r, Four v) { *reinterpret_cast<Four*>(to + r * stride) = v; };
#ifdef __clang__
#define STORYCELL_LANES(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
    typedef int32_t Lanes __attribute__((vector_size(16)));
#define STORYCELL_LANES(a, b, ...) __builtin_shuffle(a, b, Lanes{__VA_ARGS__})
#endif
    const Four a = row(0), b = row(1), c = row(2), d = row(3);
    const Four ab = STORYCELL_LANES(a, b, 0, 4, 1, 5), cd = STORYCELL_LANES(c, d, 0, 4, 1, 5);
    const Four ab2 = STORYCELL_LANES(a, b, 2, 6, 3, 7), cd2 = STORYCELL_LANES(c, d, 2, 6, 3, 7);
    put(0, STORYCELL_LANES(ab, cd, 0, 1, 4, 5)), put(1, STORYCELL_LANES(ab, cd, 2, 3, 6, 7));
    put(2, STORYCELL_LANES(ab2, cd2, 0, 1, 4, 5)), put(3, STORYCELL_LANES(ab2, cd2, 2, 3, 6, 7));
#undef STORYCELL_LANES
}

// Columns as a left-hand side: for every panel, strips of as many as a tile has rows, and for every step their words.
template <class P>
struct Strips {
    static constexpr int rows = MicroKernel<P>::rows;
    static constexpr int64_t of_a_panel = (kTileColumns + rows - 1) / rows;
    int steps;
    explicit Strips(int64_t inner) : steps(static_cast<int>(inner / P::per_word)) {}
    // A step's vectors may overhang its words: the next one overwrites that, and the last needs the room.
    int64_t floats() const { return static_cast<int64_t>(steps) * rows + Simd::width + rows; }
    int64_t offset(int64_t panel, int64_t strip) const { return (panel * of_a_panel + strip) * floats(); }
};

template <class P>
int64_t strips_floats_as(int64_t inner, int64_t columns) {
    return Strips<P>(inner).offset((columns + kTileColumns - 1) / kTileColumns, 0);
}

template <class P>
void pack_strips_as(int64_t inner, int64_t columns, const void* elements, float* strips, int64_t first, int64_t last) {
    const Strips<P> shape(inner);
    for (int64_t panel = first; panel < last; ++panel) {
        const int64_t c0 = panel * kTileColumns, c1 = c0 + kTileColumns < columns ? c0 + kTileColumns : columns;
        const auto* row = static_cast<const typename P::Element*>(elements);
        for (int step = 0; step < shape.steps; ++step, row += P::per_word * columns)
            for (int64_t c = c0, strip = 0; c < c1; c += shape.rows, ++strip)
                pack_step<P>(row + c, row + (P::per_word - 1) * columns + c, shape.rows,
                             strips + shape.offset(panel, strip) + step * shape.rows);
        for (int64_t strip = 0; c0 + strip * shape.rows < c1; ++strip)
            MicroKernel<P>::arrange_packed(strips + shape.offset(panel, strip), shape.steps);
    }
}

int64_t strips_floats(int64_t precision, int64_t inner, int64_t columns) {
    return (precision ? strips_floats_as<Bfloat16> : strips_floats_as<Float32>)(inner, columns);
}

void pack_strips(int64_t precision, int64_t inner, int64_t columns, const void* elements, float* strips, int64_t first,
                 int64_t last) {
    (precision ? pack_strips_as<Bfloat16> : pack_strips_as<Float32>)(inner, columns, elements, strips, first, last);
}

template <class P>
storycell::Status symmetric_blocks_of(const storycell::SymmetricProduct& a, int64_t first, int64_t last) {
    constexpr int w = Simd::width;
    const Packing shape{a.inner, a.n, 0};
    const auto* packed = static_cast<const typename P::Element*>(a.packed);
    const auto* left = static_cast<const typename P::Element*>(a.left);
    const Strips<P> strips(a.inner);
    MicroKernel<P> micro;
    alignas(64) float tile[MicroKernel<P>::rows * kTileColumns];
    int64_t at = 0;
    for (int64_t row = 0; row < shape.panels(); ++row)
        for (int64_t panel = row; panel < shape.panels(); ++panel, ++at) {
            if (at < first || at >= last) continue;
            const int vectors = shape.vectors(panel);
            const int64_t r0 = row * kTileColumns, c0 = panel * kTileColumns;
            const int64_t rows = a.n - r0 < kTileColumns ? a.n - r0 : kTileColumns;
            const RowBlocks<MicroKernel<P>> even(rows);
            for (int64_t nth = 0; nth < even.count; ++nth) {
                const float* right = words(packed + shape.offset(panel));
                const int64_t from = a.strips ? nth * strips.rows : even.start(nth);
                const int64_t to = a.strips ? from + strips.rows : even.start(nth + 1);
                const int height = static_cast<int>((to < rows ? to : rows) - from);
                if (a.strips)
                    micro.packed(height, vectors, a.strips + strips.offset(row, nth), right, strips.steps, tile);
                else
                    micro.by_rows(height, vectors, words(left + (r0 + from) * a.left_stride),
                                  a.left_stride / P::per_word, right, strips.steps, tile);
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
