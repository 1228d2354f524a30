// Four floats in the compiler's own vector type: SSE2, NEON or whatever the target has.
// arch/simd.h says what each function means.
#pragma once
#include <cstdint>
#include <cstring>

namespace {
struct Simd {
    static constexpr int width = 4;
#if defined(__aarch64__)
    static constexpr int tile_rows = 6;  // 32 registers
#else
    static constexpr int tile_rows = 2;  // 16 registers
#endif
    typedef float F __attribute__((vector_size(16)));
    typedef int32_t I __attribute__((vector_size(16)));
    typedef uint32_t U __attribute__((vector_size(16)));
    typedef int16_t Halves __attribute__((vector_size(16)));
    typedef uint16_t UHalves __attribute__((vector_size(16)));

    static F load(const float* p) {
        F v;
        std::memcpy(&v, p, sizeof v);
        return v;
    }
    static void store(float* p, F v) { std::memcpy(p, &v, sizeof v); }
    static F set1(float v) { return F{v, v, v, v}; }
    // Contracted to a fused multiply-add where the target has one.
    static F fma(F a, F b, F c) { return a * b + c; }
    static F fnma(F a, F b, F c) { return c - a * b; }
    static F choose(I mask, F yes, F no) {
        return (F)(((I)yes & mask) | ((I)no & ~mask));
    }
    // Comparisons with NaN are false, so NaN falls through to x itself.
    static F at_most(F x, float limit) { return choose(x > set1(limit), set1(limit), x); }
    static F at_least(F x, float limit) { return choose(x < set1(limit), set1(limit), x); }
    static F larger(F a, F b) { return choose(a > b, a, b); }
    static float sum(F v) { return (v[0] + v[1]) + (v[2] + v[3]); }
    static float largest(F v) {
        const float a = v[0] > v[1] ? v[0] : v[1], b = v[2] > v[3] ? v[2] : v[3];
        return a > b ? a : b;
    }
    static F power_of_two(F shifted) { return (F)(((U)shifted << 23) + 0x3f800000u); }
    static F quick_divide(F a, F b) { return a / b; }
    static constexpr bool scales = false;
    static F fraction(F y) { return y; }
    static F scaled(F a, F) { return a; }
    static F coarse_reciprocal(F v) { return v; }
    static F sqrt(F v) {
        return F{__builtin_sqrtf(v[0]), __builtin_sqrtf(v[1]), __builtin_sqrtf(v[2]),
                 __builtin_sqrtf(v[3])};
    }

    // Half precision costs too much without hardware: saved gates are bfloat16 here.
    static F load_half(const uint16_t* p) { return load_bf16(p); }
    static void store_half(uint16_t* p, F v) { store_bf16(p, v); }
    static F load_bf16(const uint16_t* p) { return (F)(U{p[0], p[1], p[2], p[3]} << 16); }
    static void store_bf16(uint16_t* p, F v) {
        const U bits = (U)v;
        const U rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
        const U out = (U)choose(v != v, (F)(U{} + 0x7fc00000u), (F)rounded) >> 16;
        for (int i = 0; i < 4; ++i) p[i] = static_cast<uint16_t>(out[i]);
    }
    static F pair_dot(F sum, F a, F b) {
        const U ua = (U)a, ub = (U)b;
        sum = fma((F)(ua << 16), (F)(ub << 16), sum);
        return fma((F)(ua & 0xffff0000u), (F)(ub & 0xffff0000u), sum);
    }
    static F pair_rows(const uint16_t* first, const uint16_t* second) {
        const U a = {first[0], first[1], first[2], first[3]};
        const U b = {second[0], second[1], second[2], second[3]};
        return (F)(a | (b << 16));
    }

    static I load_words(const void* p) {
        I v;
        std::memcpy(&v, p, sizeof v);
        return v;
    }
    static F to_float(I v) {
        return F{static_cast<float>(v[0]), static_cast<float>(v[1]), static_cast<float>(v[2]),
                 static_cast<float>(v[3])};
    }
    static F load_bytes(const int8_t* p) { return to_float(I{p[0], p[1], p[2], p[3]}); }
    static void store_bytes(int8_t* p, F v) {
        const I whole = (I)(v + set1(12582912.0f));  // the sum's low bits are the nearest integer's
        for (int i = 0; i < 4; ++i) p[i] = static_cast<int8_t>(whole[i] & 0xff);
    }
    static constexpr int byte_offset = 0;
    static I broadcast_bytes(const void* four) {
        int32_t word;
        std::memcpy(&word, four, sizeof word);
        return I{word, word, word, word};
    }
    // By 16 bits: two products of 127 * 127 fit, and the compiler has the vectors for it.
    static I dot_bytes(I sum, I left, I right) {
        const Halves x = (Halves)left, w = (Halves)right;
        const Halves low = (Halves)((UHalves)x << 8) >> 8, low_w = (Halves)((UHalves)w << 8) >> 8;
        const Halves pairs = low * low_w + (x >> 8) * (w >> 8);
        return sum + ((I)((U)pairs << 16) >> 16) + ((I)pairs >> 16);
    }
};
}  // namespace
