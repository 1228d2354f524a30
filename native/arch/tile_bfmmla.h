// The micro-kernels of Arm's matrix instructions, which add to the four sums of a block: BFMMLA two rows of four bfloat16
// by two columns of four, SMMLA two rows of eight bytes by two columns of eight; each does the work of two BFDOT or SDOT.
//
// Two steps of a panel are interleaved when it is packed, so that a register holds the four elements of each of two
// columns; packed left-hand sides the same by rows. Every element is summed in the order of the steps, four elements of
// the inner dimension at a time, so a row's result does not depend on the rows computed beside it. Of bfloat16 the
// processor rounds its sums to odd and flushes denormals: other bits than the other instruction sets give.
#pragma once
#define STORYCELL_BFMMLA
#include "arch/tile_neon.h"

namespace {

// Words of two steps, interleaved: (one, two) of columns 0 and 1, then of columns 2 and 3.
struct Interleaved {
    Simd::F low, high;
    Interleaved(Simd::F one, Simd::F two) : low(vzip1q_f32(one, two)), high(vzip2q_f32(one, two)) {}
};

// What an instruction adds up, and the floats that come of it.
struct Bfmmla {
    using Sum = Simd::F;
    static Sum add(Sum sum, Simd::F rows, Simd::F columns) {
        return vbfmmlaq_f32(sum, vreinterpretq_bf16_f32(rows), vreinterpretq_bf16_f32(columns));
    }
    static Simd::F floats(Sum sum) { return sum; }
};

struct Smmla {
    using Sum = int32x4_t;
    static Sum add(Sum sum, Simd::F rows, Simd::F columns) {
        return vmmlaq_s32(sum, vreinterpretq_s8_f32(rows), vreinterpretq_s8_f32(columns));
    }
    static Simd::F floats(Sum sum) { return vcvtq_f32_s32(sum); }
};

// The sums of PAIRS pairs of rows by NV vectors, in blocks of 2 x 2.
template <class M, int PAIRS, int NV>
struct BlockSums {
    typename M::Sum at[PAIRS][2 * NV];
    BlockSums() {
#pragma GCC unroll 3
        for (int p = 0; p < PAIRS; ++p)
#pragma GCC unroll 8
            for (int b = 0; b < 2 * NV; ++b) at[p][b] = typename M::Sum{};
    }
    // Two steps: a[p] holds those of rows 2 * p and 2 * p + 1.
    void add(const Simd::F* a, const float* __restrict weights) {
#pragma GCC unroll 8
        for (int b = 0; b < 2 * NV; ++b) {
            // GCC would load the weights of many blocks at once, for which there are no registers.
            if (b % 2 == 0) asm volatile("" ::: "memory");
            const Simd::F w = Simd::load(weights + 4 * b);
#pragma GCC unroll 3
            for (int p = 0; p < PAIRS; ++p) at[p][b] = M::add(at[p][b], a[p], w);
        }
    }
    // Times a scale for each column, where there are scales.
    void store(float* __restrict tile, const float* scales) const {
#pragma GCC unroll 3
        for (int p = 0; p < PAIRS; ++p)
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) {
                const float64x2_t left = vreinterpretq_f64_f32(M::floats(at[p][2 * v]));
                const float64x2_t right = vreinterpretq_f64_f32(M::floats(at[p][2 * v + 1]));
                Simd::F upper = vreinterpretq_f32_f64(vzip1q_f64(left, right));
                Simd::F lower = vreinterpretq_f32_f64(vzip2q_f64(left, right));
                if (scales) {
                    const Simd::F scale = Simd::load(scales + v * Simd::width);
                    upper = upper * scale, lower = lower * scale;
                }
                float* to = tile + 2 * p * kTileColumns + v * Simd::width;
                Simd::store(to, upper);
                Simd::store(to + kTileColumns, lower);
            }
    }
};

// steps: a multiple of 2. The last row of an odd height is its own partner.
template <class M, int PAIRS, int NV>
void rows_by_blocks(const float* __restrict a, ptrdiff_t row_stride, bool odd, const float* __restrict panel, int steps,
                    const float* scales, float* __restrict tile) {
    BlockSums<M, PAIRS, NV> sums;
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
    sums.store(tile, scales);
}

using BlockKernel = void (*)(const float*, ptrdiff_t, bool, const float*, int, const float*, float*);

// height in 1..6, vectors in 1..4.
template <class M>
BlockKernel rows_by_blocks_of(int height, int vectors) {
    static constexpr BlockKernel kernels[3][kVectors] = {
        {rows_by_blocks<M, 1, 1>, rows_by_blocks<M, 1, 2>, rows_by_blocks<M, 1, 3>, rows_by_blocks<M, 1, 4>},
        {rows_by_blocks<M, 2, 1>, rows_by_blocks<M, 2, 2>, rows_by_blocks<M, 2, 3>, rows_by_blocks<M, 2, 4>},
        {rows_by_blocks<M, 3, 1>, rows_by_blocks<M, 3, 2>, rows_by_blocks<M, 3, 3>, rows_by_blocks<M, 3, 4>}};
    return kernels[(height - 1) / 2][vectors - 1];
}

// Two steps of `vectors` vectors become, vector by vector, two registers of two columns each.
inline void interleave_panel(float* panel, int vectors, int steps) {
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

// steps: a multiple of 2.
template <int PAIRS, int NV>
void packed_by_blocks(const float* __restrict a, ptrdiff_t pair_words, const float* __restrict panel, int steps,
                      float* __restrict tile) {
    BlockSums<Bfmmla, PAIRS, NV> sums;
    for (int k = 0; k < steps; k += 2, a += pair_words, panel += 2 * NV * Simd::width) {
        Simd::F pairs[PAIRS];
#pragma GCC unroll 3
        for (int p = 0; p < PAIRS; ++p) pairs[p] = Simd::load(a + 4 * p);
        sums.add(pairs, panel);
    }
    sums.store(tile, nullptr);
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
        rows_by_blocks_of<Bfmmla>(height, vectors)(a, row_stride, height % 2, panel, steps, nullptr, tile);
    }

    void packed(int height, int vectors, const float* a, const float* panel, int steps, float* tile) {
        static constexpr Kernel kernels[3][kVectors] = {
            {packed_by_blocks<1, 1>, packed_by_blocks<1, 2>, packed_by_blocks<1, 3>, packed_by_blocks<1, 4>},
            {packed_by_blocks<2, 1>, packed_by_blocks<2, 2>, packed_by_blocks<2, 3>, packed_by_blocks<2, 4>},
            {packed_by_blocks<3, 1>, packed_by_blocks<3, 2>, packed_by_blocks<3, 3>, packed_by_blocks<3, 4>}};
        kernels[(height - 1) / 2][vectors - 1](a, 2 * rows, panel, steps, tile);
    }

    static void arrange_panel(float* panel, int vectors, int steps) { interleave_panel(panel, vectors, steps); }

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
    using Kernel = void (*)(const float*, ptrdiff_t, const float*, int, float*);
};

// ops/bytes.h says what a panel is; its sums begin at 0, as bytes are multiplied signed.
template <>
class MicroKernel<Int8> {
public:
    static constexpr int rows = 6;
    static constexpr bool even_blocks = false;

    // steps: even.
    void by_rows(int height, int vectors, const float* a, ptrdiff_t row_stride, const float* panel, int steps,
                 float* tile) {
        static_assert(Simd::byte_offset == 0, "sums begin at 0");
        const float* weights = panel + 2 * vectors * Simd::width;
        rows_by_blocks_of<Smmla>(height, vectors)(a, row_stride, height % 2, weights, steps, panel, tile);
    }
    static void arrange_panel(float* weights, int vectors, int steps) { interleave_panel(weights, vectors, steps); }
};

}  // namespace
