// The vectors of one instruction set: which header defines them, and what that header must fulfil.
//
// STORYCELL_SIMD names the header; arch/isa_*.cpp define it before all else, and a file opened by itself
// (in an editor) has the portable vectors. The header defines a struct `Simd` in an anonymous namespace,
// so that no function compiled with the set's flags can be picked by the linker for a processor that
// lacks it. For the same reason nothing included by arch/isa_*.cpp may call an inline function or
// a template's function of the standard library: those are shared between files.
//
// To add an instruction set: simd_NAME.h with a `Simd`, isa_NAME.cpp (three lines, as isa_avx2.cpp), its
// flags in CMakeLists.txt, its line in isa.cpp. This file then says what is missing, and
// tests/simd_test.cpp whether what is there computes what it must.
#pragma once
#include <cstdint>

#ifndef STORYCELL_SIMD
#define STORYCELL_SIMD "arch/simd_portable.h"
#endif
#include STORYCELL_SIMD

namespace {

// The contract: each line does not compile where the member is missing or has another type. F is a
// vector of `width` floats; "lanes" are its elements. No pointer needs any alignment, no function
// writes or reads past `width` elements, and unless said otherwise NaN in gives NaN out, lane by lane.
struct SimdContract {
    using S = Simd;
    using F = S::F;

    // Floats in a vector; the sizes of all arrays are multiples of 16.
    static constexpr int width = S::width;
    static_assert(width > 0 && 16 % width == 0, "16 floats must be a whole number of vectors");
    static_assert(sizeof(F) == sizeof(float) * width, "F must hold `width` floats and nothing else");

    // Rows of the micro-kernel's tile (ops/tile.h): tile_rows * 4 sums, 4 vectors of weights and one
    // broadcast number must fit into the registers.
    static constexpr int tile_rows = S::tile_rows;
    static_assert(tile_rows >= 1 && tile_rows <= 8, "ops/tile.h has kernels for 1 to 8 rows");

    // + - * / on lanes, rounded to nearest; built into the compilers' vector types.
    static_assert(sizeof(F() + F()) == sizeof(F) && sizeof(F() - F()) == sizeof(F) &&
                      sizeof(F() * F()) == sizeof(F) && sizeof(F() / F()) == sizeof(F),
                  "F must have + - * /");

    static constexpr F (*load)(const float*) = &S::load;
    static constexpr void (*store)(float*, F) = &S::store;
    static constexpr F (*set1)(float) = &S::set1;  // the number in all lanes

    // a * b + c and c - a * b, rounded once where the processor can.
    static constexpr F (*fma)(F a, F b, F c) = &S::fma;
    static constexpr F (*fnma)(F a, F b, F c) = &S::fnma;
    static constexpr F (*sqrt)(F) = &S::sqrt;

    // min(x, limit) and max(x, limit); x = NaN stays NaN.
    static constexpr F (*at_most)(F x, float limit) = &S::at_most;
    static constexpr F (*at_least)(F x, float limit) = &S::at_least;
    // The larger of two lanes; either of them where one is NaN.
    static constexpr F (*larger)(F, F) = &S::larger;

    // Over the lanes: their sum, in a fixed order; the largest (anything where one is NaN).
    static constexpr float (*sum)(F) = &S::sum;
    static constexpr float (*largest)(F) = &S::largest;

    // 2^n for the integer n (-126 to 127) held in the low mantissa bits of n + 1.5 * 2^23.
    static constexpr F (*power_of_two)(F shifted) = &S::power_of_two;
    // a / b to 1e-6 relative; b finite and normal.
    static constexpr F (*quick_divide)(F a, F b) = &S::quick_divide;

    // Whether the three functions below mean something; where not, they are never called. They are for
    // activations whose result is rounded to 16 bits anyway.
    static constexpr bool scales = S::scales;
    // y less its nearest integer, in [-1/2, 1/2].
    static constexpr F (*fraction)(F y) = &S::fraction;
    // a * 2^n for whole n, however large: 0 or infinity past the range.
    static constexpr F (*scaled)(F a, F n) = &S::scaled;
    // 1 / v to 7e-5 relative; 0 for infinity.
    static constexpr F (*coarse_reciprocal)(F v) = &S::coarse_reciprocal;

    // Sixteen-bit numbers, `width` of them. bfloat16 is rounded to nearest even. "half" holds
    // numbers in [-1, 1]: IEEE half where the processor converts it (eight times finer), or bfloat16.
    static constexpr F (*load_bf16)(const uint16_t*) = &S::load_bf16;
    static constexpr void (*store_bf16)(uint16_t*, F) = &S::store_bf16;
    static constexpr F (*load_half)(const uint16_t*) = &S::load_half;
    static constexpr void (*store_half)(uint16_t*, F) = &S::store_half;

    // A lane seen as a pair of bfloat16, the first in its lower half. pair_rows: pairs
    // (first[i], second[i]). pair_dot: sum + a.first * b.first + a.second * b.second.
    static constexpr F (*pair_rows)(const uint16_t* first, const uint16_t* second) = &S::pair_rows;
    static constexpr F (*pair_dot)(F sum, F a, F b) = &S::pair_dot;

    // Whole numbers of 8 bits, and their sums: I is a vector of `width` int32, whose + is built in. to_float rounds
    // to nearest. store_bytes rounds numbers of [-127, 127] to nearest even (of NaN it makes any byte).
    using I = S::I;
    static_assert(sizeof(I() + I()) == sizeof(I) && sizeof(I) == sizeof(F), "I must hold `width` int32 and have +");
    static constexpr I (*load_words)(const void*) = &S::load_words;
    static constexpr F (*to_float)(I) = &S::to_float;
    static constexpr F (*load_bytes)(const int8_t*) = &S::load_bytes;
    static constexpr void (*store_bytes)(int8_t*, F) = &S::store_bytes;
    // Four bytes in every lane, each raised by byte_offset: 128 where the processor multiplies unsigned by signed
    // bytes, 0 elsewhere. dot_bytes: sum + the four products of each lane, exactly; `left` is what broadcast_bytes
    // gave, and the bytes of `right` lie in [-127, 127]. What is to be the sum of products therefore begins at
    // -byte_offset times the sum of the right-hand bytes (ops/bytes.h).
    static constexpr int byte_offset = S::byte_offset;
    static_assert(byte_offset == 0 || byte_offset == 128, "bytes are multiplied signed, or raised by 128");
    static constexpr I (*broadcast_bytes)(const void* four) = &S::broadcast_bytes;
    static constexpr I (*dot_bytes)(I sum, I left, I right) = &S::dot_bytes;
};

}  // namespace
