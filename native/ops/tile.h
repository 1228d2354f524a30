// The micro-kernel of every matrix product: a tile of up to `tile_rows` rows by up to four
// vectors of columns, summed in registers over the whole inner dimension.
//
// Columns come from packed panels: panel[step][vector][lane], one 32-bit word each (a float or a
// pair of bfloat16). Each element of a tile is summed in the order of the steps whatever the
// tile's height, so a row's result never depends on the rows computed beside it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "arch/simd.h"

namespace {

constexpr int kVectors = 4;
constexpr int kTileColumns = kVectors * Simd::width;

// a: words; row r, step k at a[r * row_stride + k] (kByRows) or a[k * tile_rows + r] (packed).
// panel: steps * NV * width words. tile: R rows of kTileColumns floats, overwritten; no aliasing.
template <class P, int R, int NV, bool kByRows>
void tile_kernel(const float* __restrict a, ptrdiff_t row_stride, const float* __restrict panel,
                 int steps, float* __restrict tile) {
    using S = Simd;
    S::F sum[R][NV];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) sum[r][v] = S::set1(0.0f);
    // Not unrolled: GCC then keeps every sum in its register (unrolled by two it spills them).
#pragma GCC unroll 1
    for (int k = 0; k < steps; ++k) {
        S::F weights[NV];
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) weights[v] = S::load(panel + v * S::width);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            const S::F x = S::set1(kByRows ? a[r * row_stride + k] : a[r]);
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) sum[r][v] = P::dot(sum[r][v], x, weights[v]);
        }
        panel += NV * S::width;
        if (!kByRows) a += S::tile_rows;
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) S::store(tile + r * kTileColumns + v * S::width, sum[r][v]);
}

using TileKernel = void (*)(const float*, ptrdiff_t, const float*, int, float*);

template <class P, bool kByRows, int R>
inline TileKernel kernel_of_height(int vectors) {
    switch (vectors) {
        case 1: return tile_kernel<P, R, 1, kByRows>;
        case 2: return tile_kernel<P, R, 2, kByRows>;
        case 3: return tile_kernel<P, R, 3, kByRows>;
        default: return tile_kernel<P, R, 4, kByRows>;
    }
}

// rows in 1..tile_rows, vectors in 1..4.
template <class P, bool kByRows>
inline TileKernel kernel_for(int rows, int vectors) {
    static_assert(Simd::tile_rows <= 8, "add heights");
    switch (rows) {
        case 1: return kernel_of_height<P, kByRows, 1>(vectors);
        case 2: return kernel_of_height<P, kByRows, 2>(vectors);
        case 3: return kernel_of_height<P, kByRows, (Simd::tile_rows < 3 ? 1 : 3)>(vectors);
        case 4: return kernel_of_height<P, kByRows, (Simd::tile_rows < 4 ? 1 : 4)>(vectors);
        case 5: return kernel_of_height<P, kByRows, (Simd::tile_rows < 5 ? 1 : 5)>(vectors);
        case 6: return kernel_of_height<P, kByRows, (Simd::tile_rows < 6 ? 1 : 6)>(vectors);
        case 7: return kernel_of_height<P, kByRows, (Simd::tile_rows < 7 ? 1 : 7)>(vectors);
        default: return kernel_of_height<P, kByRows, (Simd::tile_rows < 8 ? 1 : 8)>(vectors);
    }
}

// What the products below see of the micro-kernel of a precision; an instruction set with another
// one specialises it (tile_amx.h, tile_neon.h). An object belongs to one thread's share of a product.
template <class P>
class MicroKernel {
public:
    static constexpr int rows = Simd::tile_rows;  // a tile's most
    static constexpr int step_multiple = 1;       // packed left-hand sides have a multiple of it
    static constexpr bool even_blocks = true;     // rows are best split into equal heights

    // As tile_kernel. height in 1..rows, vectors in 1..4.
    void by_rows(int height, int vectors, const float* a, ptrdiff_t row_stride, const float* panel,
                 int steps, float* tile) {
        kernel_for<P, true>(height, vectors)(a, row_stride, panel, steps, tile);
    }

    // Rearranges a packed panel, [steps][vectors][lanes] words, in place for both.
    static void arrange_panel(float*, int /*vectors*/, int /*steps*/) {}

    // Rearranges a strip of packed steps, [steps][rows] words, in place for `packed`.
    static void arrange_packed(float*, int) {}

    void packed(int height, int vectors, const float* a, const float* panel, int steps,
                float* tile) {
        kernel_for<P, false>(height, vectors)(a, 0, panel, steps, tile);
    }
};

// Splits n rows into the fewest tiles; block i is [start(i), start(i+1)).
template <class M>
struct RowBlocks {
    int64_t rows, count;
    explicit RowBlocks(int64_t n) : rows(n), count((n + M::rows - 1) / M::rows) {}
    int64_t start(int64_t i) const {
        if (M::even_blocks) return rows * i / count;
        return i < count ? i * M::rows : rows;
    }
};

template <class E>
inline const float* words(const E* p) {
    return reinterpret_cast<const float*>(p);
}

// Layout of a packed right-hand side. Plain: column j of the result is column j of the source,
// panels of four vectors, the last narrower. Gated: panel u holds units [u*width, (u+1)*width) of
// each of `gates` blocks of `columns` columns, so that all gates of a unit lie in one tile.
struct Packing {
    int64_t inner;    // rows of the product's inner dimension, a multiple of 16
    int64_t columns;  // per gate, a multiple of 16
    int gates;        // 0: plain
    int64_t header = 0;  // elements before each column's own, of a precision that has them (first in the panel)
    int64_t panels() const {
        return gates ? columns / Simd::width : (columns + kTileColumns - 1) / kTileColumns;
    }
    int vectors(int64_t panel) const {
        if (gates) return gates;
        const int64_t left = (columns - panel * kTileColumns) / Simd::width;
        return left < kVectors ? static_cast<int>(left) : kVectors;
    }
    int64_t column(int64_t panel, int vector) const {
        return gates ? vector * columns + panel * Simd::width
                     : panel * kTileColumns + vector * Simd::width;
    }
    int64_t across() const { return columns * (gates ? gates : 1); }  // columns of all gates
    // Where a vector's columns lie among those of all panels, side by side.
    int64_t place(int64_t panel, int vector) const {
        return (panel * (gates ? gates : kVectors) + vector) * Simd::width;
    }
    // Offset of a panel in elements of the packed array.
    int64_t offset(int64_t panel) const {
        return panel * (header + inner) * (gates ? gates * Simd::width : kTileColumns);
    }
};

// The product of some rows with a whole packed right-hand side, a tile at a time. ops/blas.h has another.
template <class P>
class RowTiles {
public:
    static constexpr ptrdiff_t stride = kTileColumns;  // between the rows of a tile

    // As many rows at a time, at most.
    RowTiles(const Packing& shape, const typename P::Element* packed, int64_t /*most_rows*/)
        : shape_(shape), packed_(packed), steps_(static_cast<int>(shape.inner / P::per_word)) {}
    bool ready() const { return true; }  // false: there is no memory

    // The rows that the next tiles are of; their stride in elements.
    void take(const typename P::Element* left, ptrdiff_t row_stride, int64_t /*rows*/) {
        left_ = words(left), row_stride_ = row_stride / P::per_word;
    }
    // `height` of them, from `first` on, with a panel. Valid until the next call.
    const float* of(int64_t panel, int64_t first, int height) {
        micro_.by_rows(height, shape_.vectors(panel), left_ + first * row_stride_, row_stride_,
                       words(packed_ + shape_.offset(panel)), steps_, tile_);
        return tile_;
    }

private:
    alignas(64) float tile_[MicroKernel<P>::rows * kTileColumns];
    MicroKernel<P> micro_;
    const Packing shape_;
    const typename P::Element* const packed_;
    const int steps_;
    const float* left_ = nullptr;
    ptrdiff_t row_stride_ = 0;
};

// source: float, element (k, j) at source[k * k_stride + j * j_stride] for k < valid_inner and
// j < valid_columns, zero elsewhere. packed: the layout above, panels [first, last) written.
template <class P>
void pack_panels(const Packing& shape, const float* __restrict source, int64_t k_stride,
                 int64_t j_stride, int64_t valid_inner, int64_t valid_columns,
                 typename P::Element* __restrict packed, int64_t first, int64_t last) {
    using E = typename P::Element;
    constexpr int pw = P::per_word, w = Simd::width;
    // Blocks of 16 steps by one vector of columns, read along the source's contiguous side.
    alignas(64) float block[w][16];
    alignas(64) E rows[16][16];
    for (int64_t p = first; p < last; ++p) {
        E* out = packed + shape.offset(p);
        const int nv = shape.vectors(p);
        for (int v = 0; v < nv; ++v) {
            const int64_t j0 = shape.column(p, v);
            for (int64_t k0 = 0; k0 < shape.inner; k0 += 16) {
                E* to = out + (k0 / pw * nv + v) * w * pw;
                const bool whole = k0 + 16 <= valid_inner && j0 + w <= valid_columns;
                if (whole && j_stride == 1) {
                    for (int k = 0; k < 16; ++k)
                        P::store(rows[k], Simd::load(source + (k0 + k) * k_stride + j0));
                    for (int k = 0; k < 16; k += pw)
                        Simd::store(reinterpret_cast<float*>(to + k / pw * nv * w * pw),
                                    P::words(rows[k], rows[k + pw - 1]));
                    continue;
                }
                for (int lane = 0; lane < w; ++lane) {
                    const int64_t j = j0 + lane;
                    const float* from = source + j * j_stride;
                    const int64_t known = j < valid_columns ? valid_inner : 0;
                    const float* values = from + k0;
                    if (!whole || k_stride != 1) {
                        for (int k = 0; k < 16; ++k)
                            block[lane][k] = k0 + k < known ? from[(k0 + k) * k_stride] : 0.0f;
                        values = block[lane];
                    }
                    for (int i = 0; i < 16; i += Simd::width)
                        P::store(rows[lane] + i, Simd::load(values + i));
                }
                for (int k = 0; k < 16 / pw; ++k)
                    for (int lane = 0; lane < w; ++lane)
                        std::memcpy(to + (k * nv * w + lane) * pw, rows[lane] + k * pw, 4);
            }
        }
        MicroKernel<P>::arrange_panel(reinterpret_cast<float*>(out), nv, static_cast<int>(shape.inner / pw));
    }
}

}  // namespace
