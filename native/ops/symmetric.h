// Products of which it is known that they are symmetric: blocks on and above the diagonal, each mirrored by whoever
// computed it, so that no two threads write to the same place.
#pragma once
#include <cstdint>

#include "engine/arguments.h"
#include "ops/tile.h"

namespace {

// Blocks are as high and wide as a panel; those of a product are counted along its upper triangle, row by row.
inline int64_t symmetric_blocks(int64_t n) {
    const int64_t along = (n + kTileColumns - 1) / kTileColumns;
    return along * (along + 1) / 2;
}

template <class P>
void symmetric_block(const storycell::SymmetricProduct& a, int64_t row, int64_t panel) {
    using E = typename P::Element;
    constexpr int w = Simd::width;
    const Packing shape{a.inner, a.n, 0};
    const int vectors = shape.vectors(panel), steps = static_cast<int>(a.inner / P::per_word);
    const int64_t r0 = row * kTileColumns, c0 = panel * kTileColumns;
    const int64_t r1 = r0 + kTileColumns < a.n ? r0 + kTileColumns : a.n;
    const auto* left = static_cast<const E*>(a.left);
    const auto* packed = static_cast<const E*>(a.packed);
    const RowBlocks<MicroKernel<P>> blocks(r1 - r0);
    alignas(64) float tile[MicroKernel<P>::rows * kTileColumns];
    MicroKernel<P> micro;
    for (int64_t block = 0; block < blocks.count; ++block) {
        const int64_t b0 = r0 + blocks.start(block);
        const int rows = static_cast<int>(r0 + blocks.start(block + 1) - b0);
        micro.by_rows(rows, vectors, words(left + b0 * a.left_stride), a.left_stride / P::per_word,
                      words(packed + shape.offset(panel)), steps, tile);
        for (int r = 0; r < rows; ++r)
            for (int v = 0; v < vectors; ++v)
                Simd::store(a.out + (b0 + r) * a.n + c0 + v * w, Simd::load(tile + r * kTileColumns + v * w));
        for (int c = 0; c < vectors * w && panel != row; ++c)  // each of its cache lines once a tile
            for (int r = 0; r < rows; ++r) a.out[(c0 + c) * a.n + b0 + r] = tile[r * kTileColumns + c];
    }
}

template <class P>
storycell::Status symmetric_products(const storycell::SymmetricProducts& a, int64_t first, int64_t last) {
    int64_t at = 0;
    for (int64_t i = 0; i < a.products && at < last; ++i) {
        const int64_t along = (a.product[i].n + kTileColumns - 1) / kTileColumns;
        for (int64_t row = 0; row < along; ++row)
            for (int64_t panel = row; panel < along; ++panel, ++at)
                if (at >= first && at < last) symmetric_block<P>(a.product[i], row, panel);
    }
    return storycell::kOk;
}

}  // namespace
