// The micro-kernels of NEON: products by an element of a register.
//
// A row's next four words come in one load, and each is multiplied, as an element of that register, with a vector of
// weights: no word is loaded and spread by itself, as the general kernel (ops/tile.h) does it. Every element is summed
// in the order of the steps, as there.
#pragma once
#include <arm_neon.h>
#include <cstddef>

#ifndef STORYCELL_SIMD
#define STORYCELL_SIMD "arch/simd_neon.h"
#endif
#include "arch/simd.h"
#include "ops/precision.h"
#include "ops/tile.h"

namespace {

// Of four words, as operands of products by an element; and of one vector of weights.
template <class P>
struct Words;

template <>
struct Words<Float32> {
    static constexpr int rows = 6;  // 24 sums, 6 rows of words, 2 vectors of weights: all 32 registers
    Simd::F floats;
    explicit Words(Simd::F v) : floats(v) {}
    template <int kElement>
    Simd::F dot(Simd::F sum, const Words& weights) const {
        return vfmaq_laneq_f32(sum, weights.floats, floats, kElement);
    }
};

#ifdef __ARM_FEATURE_BF16_VECTOR_ARITHMETIC
template <>
struct Words<Bfloat16> {
    static constexpr int rows = 6;
    bfloat16x8_t pairs;
    explicit Words(Simd::F v) : pairs(vreinterpretq_bf16_f32(v)) {}
    template <int kElement>
    Simd::F dot(Simd::F sum, const Words& weights) const {
        // vbfdotq_laneq_f32; but Clang first spreads the element into a register, and there is none left.
        asm("bfdot %0.4s, %1.8h, %2.2h[%c3]" : "+w"(sum) : "w"(weights.pairs), "w"(pairs), "i"(kElement));
        return sum;
    }
};
#else
template <>
struct Words<Bfloat16> {
    static constexpr int rows = 4;  // 16 sums, two registers for each row's words and for the weights
    Simd::F first, second;
    explicit Words(Simd::F v) : first(Simd::first_of_pair(v)), second(Simd::second_of_pair(v)) {}
    template <int kElement>
    Simd::F dot(Simd::F sum, const Words& weights) const {
        sum = vfmaq_laneq_f32(sum, weights.first, first, kElement);
        return vfmaq_laneq_f32(sum, weights.second, second, kElement);
    }
};
#endif

// The sums of R rows by NV vectors. What adds to them is inlined by force: a call would leave them in memory.
template <class P, int R, int NV>
struct Sums {
    Simd::F at[R][NV];
    Sums() {
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) at[r][v] = Simd::set1(0.0f);
    }
    void store(float* __restrict tile) const {
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) Simd::store(tile + r * kTileColumns + v * Simd::width, at[r][v]);
    }
    // One step: the weights of the step by word kElement of each row.
    template <int kElement>
    __attribute__((always_inline)) void add(const Words<P>* a, const float* __restrict weights) {
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) {
            const Words<P> w(Simd::load(weights + v * Simd::width));
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r) at[r][v] = a[r].template dot<kElement>(at[r][v], w);
        }
    }
    // One step whose rows' words lie side by side: row r is element r % 4 of a[r / 4].
    __attribute__((always_inline)) void add_packed(const Words<P>* a, const float* __restrict weights) {
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) {
            const Words<P> w(Simd::load(weights + v * Simd::width));
            at[0][v] = a[0].template dot<0>(at[0][v], w);
            if constexpr (R > 1) at[1][v] = a[0].template dot<1>(at[1][v], w);
            if constexpr (R > 2) at[2][v] = a[0].template dot<2>(at[2][v], w);
            if constexpr (R > 3) at[3][v] = a[0].template dot<3>(at[3][v], w);
            if constexpr (R > 4) at[4][v] = a[1].template dot<0>(at[4][v], w);
            if constexpr (R > 5) at[5][v] = a[1].template dot<1>(at[5][v], w);
        }
    }
};

// steps: a multiple of 4.
template <class P, int R, int NV>
void rows_by_element(const float* __restrict a, ptrdiff_t row_stride, const float* __restrict panel, int steps,
                     float* __restrict tile) {
    Sums<P, R, NV> sums;
    constexpr int step = NV * Simd::width;
    // Compilers would find each row from the one before, an addition a row and turn; that they may not know.
    const float* row[6];
#pragma GCC unroll 6
    for (int r = 0; r < 6; ++r) {
        row[r] = a + (r < R ? r : 0) * row_stride;
        asm("" : "+r"(row[r]));
    }
    for (int k = 0; k < steps; k += 4, panel += 4 * step) {
        const auto four = [&](int r) {
            const Words<P> words(Simd::load(row[r]));
            row[r] += 4;
            return words;
        };
        const Words<P> rows[] = {four(0), four(1), four(2), four(3), four(4), four(5)};
        sums.template add<0>(rows, panel);
        sums.template add<1>(rows, panel + step);
        sums.template add<2>(rows, panel + 2 * step);
        sums.template add<3>(rows, panel + 3 * step);
    }
    sums.store(tile);
}

// Reads whole vectors of a step's words, at most `width` past the last.
template <class P, int R, int NV>
void packed_by_element(const float* __restrict a, ptrdiff_t, const float* __restrict panel, int steps,
                       float* __restrict tile) {
    Sums<P, R, NV> sums;
    const auto add = [&]() __attribute__((always_inline)) {
        const Words<P> words[] = {Words<P>(Simd::load(a)), Words<P>(Simd::load(R > 4 ? a + 4 : a))};
        sums.add_packed(words, panel);
        a += Words<P>::rows;
        panel += NV * Simd::width;
    };
    int k = 0;
    for (; k + 2 <= steps; k += 2) {
        add();
        add();
    }
    if (k < steps) add();
    sums.store(tile);
}

template <class P>
class ElementKernel {
public:
    static constexpr int rows = Words<P>::rows;
    static constexpr int step_multiple = 1;
    static constexpr bool even_blocks = true;

    static void arrange_panel(float*, int, int) {}
    static void arrange_packed(float*, int) {}

    // As the general MicroKernel; steps is a multiple of 8, as inner dimensions are of 16 elements.
    void by_rows(int height, int vectors, const float* a, ptrdiff_t row_stride, const float* panel, int steps,
                 float* tile) {
        static constexpr Table kernels = table<true>();
        kernels.of[height - 1][vectors - 1](a, row_stride, panel, steps, tile);
    }

    void packed(int height, int vectors, const float* a, const float* panel, int steps, float* tile) {
        static constexpr Table kernels = table<false>();
        kernels.of[height - 1][vectors - 1](a, 0, panel, steps, tile);
    }

private:
    struct Table {
        TileKernel of[rows][kVectors];
    };

    template <bool kByRows>
    static constexpr Table table() {
        Table all{};
        fill<kByRows, 1>(all);
        return all;
    }

    template <bool kByRows, int R>
    static constexpr void fill(Table& table) {
        table.of[R - 1][0] = kernel<kByRows, R, 1>();
        table.of[R - 1][1] = kernel<kByRows, R, 2>();
        table.of[R - 1][2] = kernel<kByRows, R, 3>();
        table.of[R - 1][3] = kernel<kByRows, R, 4>();
        if constexpr (R < rows) fill<kByRows, R + 1>(table);
    }

    template <bool kByRows, int R, int NV>
    static constexpr TileKernel kernel() {
        if constexpr (kByRows) return rows_by_element<P, R, NV>;
        else return packed_by_element<P, R, NV>;
    }
};

template <>
class MicroKernel<Float32> : public ElementKernel<Float32> {};

#ifndef STORYCELL_BFMMLA  // arch/tile_bfmmla.h has its own
template <>
class MicroKernel<Bfloat16> : public ElementKernel<Bfloat16> {};
#endif

}  // namespace
