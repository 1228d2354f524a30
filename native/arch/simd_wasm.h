// WebAssembly's vectors of 128 bits: four floats; with its relaxed instructions (a fused multiply-add, a product of bytes)
// where the file is compiled for them. arch/simd.h says what each function means.
#pragma once
#include <wasm_simd128.h>
#include <cstdint>
#include <cstring>

namespace {
struct Simd {
    static constexpr int width = 4;
    static constexpr int tile_rows = 2;  // browsers have 16 registers on x86-64
    typedef float F __attribute__((vector_size(16)));
    typedef int32_t I __attribute__((vector_size(16)));

    static F load(const float* p) { return (F)wasm_v128_load(p); }
    static void store(float* p, F v) { wasm_v128_store(p, (v128_t)v); }
    static F set1(float v) { return (F)wasm_f32x4_splat(v); }
#ifdef __wasm_relaxed_simd__
    static F fma(F a, F b, F c) { return (F)wasm_f32x4_relaxed_madd((v128_t)a, (v128_t)b, (v128_t)c); }
    static F fnma(F a, F b, F c) { return (F)wasm_f32x4_relaxed_nmadd((v128_t)a, (v128_t)b, (v128_t)c); }
#else
    static F fma(F a, F b, F c) { return a * b + c; }
    static F fnma(F a, F b, F c) { return c - a * b; }
#endif
    // pmin(a, b) is b < a ? b : a, so it is a where either is NaN; one instruction where min and max are several.
    static F at_most(F x, float limit) { return (F)wasm_f32x4_pmin((v128_t)x, (v128_t)set1(limit)); }
    static F at_least(F x, float limit) { return (F)wasm_f32x4_pmax((v128_t)x, (v128_t)set1(limit)); }
    static F larger(F a, F b) { return (F)wasm_f32x4_pmax((v128_t)a, (v128_t)b); }
    static float sum(F v) { return (v[0] + v[1]) + (v[2] + v[3]); }
    static float largest(F v) {
        const float a = v[0] > v[1] ? v[0] : v[1], b = v[2] > v[3] ? v[2] : v[3];
        return a > b ? a : b;
    }
    static F power_of_two(F shifted) {
        return (F)wasm_i32x4_add(wasm_i32x4_shl((v128_t)shifted, 23), wasm_i32x4_splat(0x3f800000));
    }
    static F quick_divide(F a, F b) { return a / b; }
    static constexpr bool scales = false;
    static F fraction(F y) { return y; }
    static F scaled(F a, F) { return a; }
    static F coarse_reciprocal(F v) { return v; }
    static F sqrt(F v) { return (F)wasm_f32x4_sqrt((v128_t)v); }

    // No conversion of half precision: saved gates are bfloat16 here.
    static F load_half(const uint16_t* p) { return load_bf16(p); }
    static void store_half(uint16_t* p, F v) { store_bf16(p, v); }
    static F load_bf16(const uint16_t* p) { return (F)wasm_i32x4_shl(wasm_u32x4_load16x4(p), 16); }
    static void store_bf16(uint16_t* p, F v) {
        const v128_t bits = (v128_t)v, odd = wasm_v128_and(wasm_u32x4_shr(bits, 16), wasm_i32x4_splat(1));
        const v128_t rounded = wasm_i32x4_add(wasm_i32x4_add(bits, odd), wasm_i32x4_splat(0x7fff));
        const v128_t number = wasm_f32x4_eq(bits, bits);
        const v128_t out = wasm_u32x4_shr(wasm_v128_bitselect(rounded, wasm_i32x4_splat(0x7fc00000), number), 16);
        wasm_v128_store64_lane(p, wasm_u16x8_narrow_i32x4(out, out), 0);
    }
    static F pair_dot(F sum, F a, F b) {
        const v128_t high = wasm_i32x4_splat(static_cast<int32_t>(0xffff0000u)), ua = (v128_t)a, ub = (v128_t)b;
        sum = fma((F)wasm_i32x4_shl(ua, 16), (F)wasm_i32x4_shl(ub, 16), sum);
        return fma((F)wasm_v128_and(ua, high), (F)wasm_v128_and(ub, high), sum);
    }
    static F pair_rows(const uint16_t* first, const uint16_t* second) {
        return (F)wasm_v128_or(wasm_u32x4_load16x4(first), wasm_i32x4_shl(wasm_u32x4_load16x4(second), 16));
    }

    static I load_words(const void* p) { return (I)wasm_v128_load(p); }
    static F to_float(I v) { return (F)wasm_f32x4_convert_i32x4((v128_t)v); }
    static F load_bytes(const int8_t* p) {
        return to_float((I)wasm_i32x4_extend_low_i16x8(wasm_i16x8_extend_low_i8x16(wasm_v128_load32_zero(p))));
    }
    static void store_bytes(int8_t* p, F v) {
        const v128_t whole = wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest((v128_t)v));
        const v128_t narrow = wasm_i16x8_narrow_i32x4(whole, whole);
        wasm_v128_store32_lane(p, wasm_i8x16_narrow_i16x8(narrow, narrow), 0);
    }
    static constexpr int byte_offset = 0;
    static I broadcast_bytes(const void* four) { return (I)wasm_v128_load32_splat(four); }
#ifdef __wasm_relaxed_simd__
    // One of the operands has seven bits: the sign moves to the weights. Sums of two products fit into 16 bits.
    static I dot_bytes(I sum, I left, I right) {
        const v128_t x = (v128_t)left, sign = wasm_i8x16_shr(x, 7);
        const v128_t turned = wasm_i8x16_sub(wasm_v128_xor((v128_t)right, sign), sign);
        return (I)wasm_i32x4_relaxed_dot_i8x16_i7x16_add(turned, wasm_i8x16_abs(x), (v128_t)sum);
    }
#else
    // The even and the odd bytes of each lane, as pairs of 16 bits.
    static I dot_bytes(I sum, I left, I right) {
        const v128_t x = (v128_t)left, w = (v128_t)right;
        const v128_t even = wasm_i32x4_dot_i16x8(wasm_i16x8_shr(wasm_i16x8_shl(x, 8), 8),
                                                 wasm_i16x8_shr(wasm_i16x8_shl(w, 8), 8));
        const v128_t odd = wasm_i32x4_dot_i16x8(wasm_i16x8_shr(x, 8), wasm_i16x8_shr(w, 8));
        return sum + (I)even + (I)odd;
    }
#endif
};
}  // namespace
