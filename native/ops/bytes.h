// Products of whole numbers of 8 bits: the packing of weights, and the micro-kernel (tile.h) that gives floats.
//
// A weight is a whole number from -127 to 127 times its column's scale, max |w| / 127, so a column is an output of
// the layer. A packed panel begins with [vector][lane] scales over 127, which hidden states are counted in, and
// [vector][lane] where the sums begin; then come the weights, [step][vector][lane] words of four. A sum of whole numbers
// is exact whatever its order, so all instruction sets give the same floats.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "arch/simd.h"
#include "engine/arguments.h"
#include "ops/precision.h"
#include "ops/tile.h"

namespace {

// As tile_kernel with kByRows. steps: even.
template <int R, int NV>
void byte_tile_kernel(const float* __restrict a, ptrdiff_t row_stride, const float* __restrict panel, int steps,
                      float* __restrict tile) {
    using S = Simd;
    constexpr int w = S::width;
    constexpr int chains = R == 1 ? 2 : 1;  // a single row's sums would wait for one another
    const float *starts = panel + NV * w, *weights = panel + 2 * NV * w;
    S::I sum[chains][R][NV];
#pragma GCC unroll 2
    for (int c = 0; c < chains; ++c)
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) sum[c][r][v] = c ? S::I{} : S::load_words(starts + v * w);
#pragma GCC unroll 1
    for (int k = 0; k < steps; k += chains)
#pragma GCC unroll 2
        for (int c = 0; c < chains; ++c) {
            S::I words_here[NV];
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) words_here[v] = S::load_words(weights + v * w);
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r) {
                const S::I x = S::broadcast_bytes(a + r * row_stride + k + c);
#pragma GCC unroll 4
                for (int v = 0; v < NV; ++v) sum[c][r][v] = S::dot_bytes(sum[c][r][v], x, words_here[v]);
            }
            weights += NV * w;
        }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) {
            S::I whole = sum[0][r][v];
            if constexpr (chains == 2) whole = whole + sum[1][r][v];
            S::store(tile + r * kTileColumns + v * w, S::to_float(whole) * S::load(panel + v * w));
        }
}

#ifndef STORYCELL_BFMMLA  // arch/tile_bfmmla.h has its own
template <>
class MicroKernel<Int8> {
public:
    static constexpr int rows = Simd::tile_rows;
    static constexpr bool even_blocks = true;

    void by_rows(int height, int vectors, const float* a, ptrdiff_t row_stride, const float* panel, int steps,
                 float* tile) {
        of_height(height, vectors)(a, row_stride, panel, steps, tile);
    }
    static void arrange_panel(float*, int, int) {}  // of its weights

private:
    template <int R>
    static TileKernel of_width(int vectors) {
        switch (vectors) {
            case 1: return byte_tile_kernel<R, 1>;
            case 2: return byte_tile_kernel<R, 2>;
            case 3: return byte_tile_kernel<R, 3>;
            default: return byte_tile_kernel<R, 4>;
        }
    }

    template <int R = 1>
    static TileKernel of_height(int height, int vectors) {
        if constexpr (R < rows)
            if (height > R) return of_height<R + 1>(height, vectors);
        return of_width<R>(vectors);
    }
};
#endif

// The nearest whole number, halves to even; 0 for what is not in [-127, 127], as damaged weights may not be.
inline int nearest_whole(double x) {
    constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52
    return x >= -127.0 && x <= 127.0 ? static_cast<int>((x + magic) - magic) : 0;
}

template <>
inline void pack_panels<Int8>(const Packing& shape, const float* __restrict source, int64_t k_stride,
                              int64_t j_stride, int64_t valid_inner, int64_t valid_columns, int8_t* __restrict packed,
                              int64_t first, int64_t last) {
    constexpr int w = Simd::width;
    for (int64_t p = first; p < last; ++p) {
        const int nv = shape.vectors(p);
        int8_t* const scales = packed + shape.offset(p);
        int8_t *const starts = scales + nv * w * 4, *const weights = starts + nv * w * 4;
        for (int v = 0; v < nv; ++v)
            for (int lane = 0; lane < w; ++lane) {
                const int64_t j = shape.column(p, v) + lane, known = j < valid_columns ? valid_inner : 0;
                const float* from = source + j * j_stride;
                float largest = 0.0f;
                for (int64_t k = 0; k < known; ++k) {
                    const float size = __builtin_fabsf(from[k * k_stride]);
                    if (size > largest) largest = size;
                }
                float scale = largest / 127.0f;
                if (scale == 0.0f) scale = 1.0f;
                int32_t sum = 0;
                for (int64_t k = 0; k < shape.inner; ++k) {
                    // A scale that was rounded down may give a little more than 127.
                    double x = k < known ? double(from[k * k_stride]) / double(scale) : 0.0;
                    if (x > 127.0 && x < 128.0) x = 127.0;
                    if (x < -127.0 && x > -128.0) x = -127.0;
                    const int whole = nearest_whole(x);
                    sum += whole;
                    weights[(k / 4 * nv * w + v * w + lane) * 4 + k % 4] = static_cast<int8_t>(whole);
                }
                const int at = (v * w + lane) * 4;
                const float over = scale / Int8::whole;
                const int32_t start = -Simd::byte_offset * sum;
                std::memcpy(scales + at, &over, 4);
                std::memcpy(starts + at, &start, 4);
            }
        MicroKernel<Int8>::arrange_panel(reinterpret_cast<float*>(weights), nv, static_cast<int>(shape.inner / 4));
    }
}

}  // namespace
