// The micro-kernel of the bfloat16 products with Arm's BFMMLA: two rows of four elements by two columns of four, added
// to the four sums of a block, in one instruction that does the work of two BFDOT.
//
// Two steps of a panel are interleaved when it is packed, so that a register holds the four elements of each of two
// columns; packed left-hand sides the same by rows. Every element is summed in the order of the steps, four elements of
// the inner dimension at a time, so a row's result does not depend on the rows computed beside it. The processor
// rounds its sums to odd and flushes denormals: other bits than the other instruction sets give.
#pragma once
#define STORYCELL_BFMMLA
#include "arch/tile_neon.h"

namespace {

// Words of two steps, interleaved: (one, two) of columns 0 and 1, then of columns 2 and 3.
struct Interleaved {
    Simd::F low, high;
    Interleaved(Simd::F one, Simd::F two) : low(vzip1q_f32(one, two)), high(vzip2q_f32(one, two)) {}
};

// The sums of PAIRS pairs of rows by NV vectors, in blocks of 2 x 2.
template <int PAIRS, int NV>
struct BlockSums {
    Simd::F at[PAIRS][2 * NV];
    BlockSums() {
#pragma GCC unroll 3
        for (int p = 0; p < PAIRS; ++p)
#pragma GCC unroll 8
            for (int b = 0; b < 2 * NV; ++b) at[p][b] = Simd::set1(0.0f);
    }
    // Two steps: a[p] holds those of rows 2 * p and 2 * p + 1.
    void add(const Simd::F* a, const float* __restrict weights) {
#pragma GCC unroll 8
        for (int b = 0; b < 2 * NV; ++b) {
            // GCC would load the weights of many blocks at once, for which there are no registers.
            if (b % 2 == 0) asm volatile("" ::: "memory");
            const bfloat16x8_t w = vreinterpretq_bf16_f32(Simd::load(weights + 4 * b));
#pragma GCC unroll 3
            for (int p = 0; p < PAIRS; ++p) at[p][b] = vbfmmlaq_f32(at[p][b], vreinterpretq_bf16_f32(a[p]), w);
        }
    }
    void store(float* __restrict tile) const {
#pragma GCC unroll 3
        for (int p = 0; p < PAIRS; ++p)
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) {
                const float64x2_t left = vreinterpretq_f64_f32(at[p][2 * v]);
                const float64x2_t right = vreinterpretq_f64_f32(at[p][2 * v + 1]);
                float* to = tile + 2 * p * kTileColumns + v * Simd::width;
                Simd::store(to, vreinterpretq_f32_f64(vzip1q_f64(left, right)));
                Simd::store(to + kTileColumns, vreinterpretq_f32_f64(vzip2q_f64(left, right)));
            }
    }
};

// steps: a multiple of 2. The last row of an odd height is its own partner.
template <int PAIRS, int NV>
void rows_by_blocks(const float* __restrict a, ptrdiff_t row_stride, bool odd, const float* __restrict panel, int steps,
                    float* __restrict tile) {
    BlockSums<PAIRS, NV> sums;
    const float* last = a + (2 * PAIRS - (odd ? 2 : 1)) * row_stride;
    for (int k = 0; k < steps; k += 2, panel += 2 * NV * Simd::width) {
        Simd::F pairs[PAIRS];
#pragma GCC unroll 3
        for (int p = 0; p < PAIRS; ++p) {
            const float* partner = p + 1 < PAIRS ? a + (2 * p + 1) * row_stride : last;
            pairs[p] = vcombine_f32(vld1_f32(a + 2 * p * row_stride + k), vld1_f32(partner + k));
        }
        sums.add(pairs, panel);
    }
    sums.store(tile);
}

// steps: a multiple of 2.
template <int PAIRS, int NV>
void packed_by_blocks(const float* __restrict a, ptrdiff_t pair_words, bool, const float* __restrict panel, int steps,
                      float* __restrict tile) {
    BlockSums<PAIRS, NV> sums;
    for (int k = 0; k < steps; k += 2, a += pair_words, panel += 2 * NV * Simd::width) {
        Simd::F pairs[PAIRS];
#pragma GCC unroll 3
        for (int p = 0; p < PAIRS; ++p) pairs[p] = Simd::load(a + 4 * p);
        sums.add(pairs, panel);
    }
    sums.store(tile);
}

template <>
class MicroKernel<Bfloat16> {
public:
    static constexpr int rows = 6;  // 3 pairs x 8 blocks = 24 sums of 32 registers
    static constexpr int step_multiple = 2;
    static constexpr bool even_blocks = false;  // heights are even but for the last

    // As the general MicroKernel; steps is even, as inner dimensions are multiples of 16 elements.
    void by_rows(int height, int vectors, const float* a, ptrdiff_t row_stride, const float* panel, int steps,
                 float* tile) {
        static constexpr Kernel kernels[3][kVectors] = {
            {rows_by_blocks<1, 1>, rows_by_blocks<1, 2>, rows_by_blocks<1, 3>, rows_by_blocks<1, 4>},
            {rows_by_blocks<2, 1>, rows_by_blocks<2, 2>, rows_by_blocks<2, 3>, rows_by_blocks<2, 4>},
            {rows_by_blocks<3, 1>, rows_by_blocks<3, 2>, rows_by_blocks<3, 3>, rows_by_blocks<3, 4>}};
        kernels[(height - 1) / 2][vectors - 1](a, row_stride, height % 2, panel, steps, tile);
    }

    void packed(int height, int vectors, const float* a, const float* panel, int steps, float* tile) {
        static constexpr Kernel kernels[3][kVectors] = {
            {packed_by_blocks<1, 1>, packed_by_blocks<1, 2>, packed_by_blocks<1, 3>, packed_by_blocks<1, 4>},
            {packed_by_blocks<2, 1>, packed_by_blocks<2, 2>, packed_by_blocks<2, 3>, packed_by_blocks<2, 4>},
            {packed_by_blocks<3, 1>, packed_by_blocks<3, 2>, packed_by_blocks<3, 3>, packed_by_blocks<3, 4>}};
        kernels[(height - 1) / 2][vectors - 1](a, 2 * rows, false, panel, steps, tile);
    }

    // Two steps of `vectors` vectors become, vector by vector, two registers of two columns each.
    static void arrange_panel(float* panel, int vectors, int steps) {
        const int words = vectors * Simd::width;
        for (int k = 0; k < steps; k += 2, panel += 2 * words) {
            Simd::F one[kVectors], two[kVectors];
            for (int v = 0; v < vectors; ++v) {
                one[v] = Simd::load(panel + v * Simd::width);
                two[v] = Simd::load(panel + words + v * Simd::width);
            }
            for (int v = 0; v < vectors; ++v) {
                const Interleaved both(one[v], two[v]);
                Simd::store(panel + 2 * v * Simd::width, both.low);
                Simd::store(panel + (2 * v + 1) * Simd::width, both.high);
            }
        }
    }

    // Two steps of six words become three pairs of rows.
    static void arrange_packed(float* strip, int steps) {
        for (int k = 0; k < steps; k += 2, strip += 2 * rows) {
            const Interleaved upper(Simd::load(strip), Simd::load(strip + rows));
            const Simd::F lower = vcombine_f32(vld1_f32(strip + 4), vld1_f32(strip + rows + 4));
            Simd::store(strip, upper.low);
            Simd::store(strip + 4, upper.high);
            Simd::store(strip + 8, vzip1q_f32(lower, vextq_f32(lower, lower, 2)));
        }
    }

private:
    using Kernel = void (*)(const float*, ptrdiff_t, bool, const float*, int, float*);
};

}  // namespace
