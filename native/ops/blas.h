// float32 whose products a BLAS computes (engine/blas.h): a packed right-hand side is one matrix [inner, columns], whose
// columns are in the order of the panels of tile.h, and a step's whole product is one call; gates stay in ops/cells.h.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "engine/arguments.h"
#include "engine/blas.h"
#include "ops/matmul.h"
#include "ops/precision.h"
#include "ops/scratch.h"
#include "ops/tile.h"

namespace {

struct Blas : Float32 {};

template <>
class MicroKernel<Blas> {
public:
    static constexpr int rows = 32;  // whose gates are computed together
    static constexpr bool even_blocks = true;
};

inline void multiply(bool transposed, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b,
                     int64_t ldb, float* c, int64_t ldc) {
    using namespace storycell;
    sgemm()(kRowMajor, transposed ? kTransposed : kAsIs, kAsIs, static_cast<int>(m), static_cast<int>(n),
            static_cast<int>(k), 1.0f, a, static_cast<int>(lda), b, static_cast<int>(ldb), 0.0f, c,
            static_cast<int>(ldc));
}

template <>
inline void pack_panels<Blas>(const Packing& shape, const float* __restrict source, int64_t k_stride, int64_t j_stride,
                              int64_t valid_inner, int64_t valid_columns, float* __restrict packed, int64_t first,
                              int64_t last) {
    constexpr int w = Simd::width;
    constexpr int64_t block = 16;  // inner is a multiple; both sides of a block stay in the first-level cache
    const int64_t across = shape.across();
    for (int64_t p = first; p < last; ++p)
        for (int64_t k0 = 0; k0 < shape.inner; k0 += block)
            for (int v = 0; v < shape.vectors(p); ++v)
                for (int lane = 0; lane < w; ++lane) {
                    const int64_t j = shape.column(p, v) + lane, known = j < valid_columns ? valid_inner : 0;
                    float* to = packed + k0 * across + shape.place(p, v) + lane;
                    for (int64_t k = k0; k < k0 + block; ++k, to += across)
                        *to = k < known ? source[k * k_stride + j * j_stride] : 0.0f;
                }
}

template <>
class RowTiles<Blas> {
public:
    const ptrdiff_t stride;

    RowTiles(const Packing& shape, const float* packed, int64_t most_rows)
        : stride(shape.across()), shape_(shape), packed_(packed), sums_(most_rows * stride) {}
    bool ready() const { return sums_.floats(); }
    void take(const float* left, ptrdiff_t row_stride, int64_t rows) {
        multiply(false, rows, stride, shape_.inner, left, row_stride, packed_, stride, sums_.floats(), stride);
    }
    const float* of(int64_t panel, int64_t first, int /*height*/) const {
        return sums_.floats() + first * stride + shape_.place(panel, 0);
    }

private:
    const Packing shape_;
    const float* packed_;
    const Scratch sums_;
};

template <>
inline storycell::Status product_rows<Blas>(const storycell::Product& a, int64_t first, int64_t last) {
    const auto *left = static_cast<const float*>(a.left), *packed = static_cast<const float*>(a.packed);
    multiply(false, last - first, a.columns, a.inner, left + first * a.left_stride, a.left_stride, packed, a.columns,
             a.out + first * a.columns, a.columns);
    for (int64_t r = first; a.bias && r < last; ++r)
        for (int64_t j = 0; j < a.columns; j += Simd::width) {
            float* const to = a.out + r * a.columns + j;
            Simd::store(to, Simd::load(to) + Simd::load(a.bias + j));
        }
    return storycell::kOk;
}

template <>
inline storycell::Status transposed_pair_rows<Blas>(const storycell::TransposedPair& pair, int64_t first,
                                                    int64_t last) {
    constexpr int w = Simd::width;
    const storycell::TransposedProduct& a = pair.one;
    const int64_t m0 = first * 16, mine = (last - first) * 16;
    if (mine <= 0) return storycell::kOk;
    const float* left = static_cast<const float*>(a.left) + m0;
    multiply(true, mine, a.n, a.rows, left, a.left_stride, static_cast<const float*>(a.right), a.right_stride,
             a.out + m0 * a.n, a.n);
    if (pair.right)
        multiply(true, mine, pair.n, a.rows, left, a.left_stride, static_cast<const float*>(pair.right),
                 pair.right_stride, pair.out + m0 * pair.n, pair.n);
    const auto add = [&](float* to, const float* row) {
        for (int64_t m = 0; m < mine; m += w) Simd::store(to + m, Simd::load(to + m) + Simd::load(row + m));
    };
    if (a.column_sums) std::memset(a.column_sums + m0, 0, static_cast<size_t>(mine) * sizeof(float));
    for (int64_t id = 0; a.table_grad && id < a.characters; ++id)
        std::memset(a.table_grad + id * a.m + m0, 0, static_cast<size_t>(mine) * sizeof(float));
    for (int64_t r = 0; r < a.rows && (a.column_sums || a.table_grad); ++r, left += a.left_stride) {
        if (a.column_sums) add(a.column_sums + m0, left);
        if (!a.table_grad) continue;
        const int64_t t = r / a.streams, b = r % a.streams;
        add(a.table_grad + a.ids[b * a.ids_stream_stride + t * a.ids_step_stride] * a.m + m0, left);
    }
    return storycell::kOk;
}

}  // namespace
