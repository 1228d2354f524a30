// NEON lanes: four floats, on every 64-bit Arm processor; with the processor's bfloat16 instructions where the file is
// compiled for them. arch/simd.h says what each function means.
#pragma once
#include <arm_neon.h>
#include <cstdint>

namespace {
struct Simd {
    static constexpr int width = 4;
    static constexpr int tile_rows = 6;  // 6 rows x 4 vectors = 24 sums of 32 registers
    using F = float32x4_t;

    static F load(const float* p) { return vld1q_f32(p); }
    static void store(float* p, F v) { vst1q_f32(p, v); }
    static F set1(float v) { return vdupq_n_f32(v); }
    static F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
    static F fnma(F a, F b, F c) { return vfmsq_f32(c, a, b); }
    // The processor's minimum and maximum are NaN where either operand is.
    static F at_most(F x, float limit) { return vminq_f32(x, set1(limit)); }
    static F at_least(F x, float limit) { return vmaxq_f32(x, set1(limit)); }
    static F larger(F a, F b) { return vmaxq_f32(a, b); }
    static float sum(F v) { return vaddvq_f32(v); }
    static float largest(F v) { return vmaxvq_f32(v); }
    static F power_of_two(F shifted) {
        const uint32x4_t bits = vshlq_n_u32(vreinterpretq_u32_f32(shifted), 23);
        return vreinterpretq_f32_u32(vaddq_u32(bits, vdupq_n_u32(0x3f800000u)));
    }
    static F quick_divide(F a, F b) { return vdivq_f32(a, b); }
    static constexpr bool scales = false;
    static F fraction(F y) { return y; }
    static F scaled(F a, F) { return a; }
    static F coarse_reciprocal(F v) { return v; }
    static F sqrt(F v) { return vsqrtq_f32(v); }

    using I = int32x4_t;
    static I load_words(const void* p) { return vreinterpretq_s32_u8(vld1q_u8(static_cast<const uint8_t*>(p))); }
    static F to_float(I v) { return vcvtq_f32_s32(v); }
    static F load_bytes(const int8_t* p) { return to_float(I{p[0], p[1], p[2], p[3]}); }
    static void store_bytes(int8_t* p, F v) {
        const int32x4_t whole = vcvtnq_s32_f32(v);
        for (int i = 0; i < 4; ++i) p[i] = static_cast<int8_t>(whole[i]);
    }
    static constexpr int byte_offset = 0;
    static I broadcast_bytes(const void* four) {
        int32_t word;
        __builtin_memcpy(&word, four, sizeof word);
        return vdupq_n_s32(word);
    }
    static I dot_bytes(I sum, I left, I right) {
        const int8x16_t x = vreinterpretq_s8_s32(left), w = vreinterpretq_s8_s32(right);
#ifdef __ARM_FEATURE_DOTPROD
        return vdotq_s32(sum, x, w);
#else
        const int16x8_t low = vmull_s8(vget_low_s8(x), vget_low_s8(w)), high = vmull_high_s8(x, w);
        return vaddq_s32(sum, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
#endif
    }

    // Converting half precision needs no extension, unlike computing in it.
    static F load_half(const uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
    static void store_half(uint16_t* p, F v) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v))); }
    static F load_bf16(const uint16_t* p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }
    static void store_bf16(uint16_t* p, F v) {
#ifdef __ARM_FEATURE_BF16_VECTOR_ARITHMETIC
        vst1_u16(p, vreinterpret_u16_bf16(vcvt_bf16_f32(v)));
#else
        const uint32x4_t bits = vreinterpretq_u32_f32(v);
        const uint32x4_t odd = vshrq_n_u32(vshlq_n_u32(bits, 15), 31);
        const uint32x4_t rounded = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd);
        const uint32x4_t number = vceqq_f32(v, v);
        vst1_u16(p, vshrn_n_u32(vbslq_u32(number, rounded, vdupq_n_u32(0x7fc00000)), 16));
#endif
    }

    // The two floats of a lane's pair.
    static F first_of_pair(F v) { return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(v), 16)); }
    static F second_of_pair(F v) {
        return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), vdupq_n_u32(0xffff0000u)));
    }
    static F pair_dot(F sum, F a, F b) {
#ifdef __ARM_FEATURE_BF16_VECTOR_ARITHMETIC
        return vbfdotq_f32(sum, vreinterpretq_bf16_f32(a), vreinterpretq_bf16_f32(b));
#else
        return fma(second_of_pair(a), second_of_pair(b), fma(first_of_pair(a), first_of_pair(b), sum));
#endif
    }
    static F pair_rows(const uint16_t* first, const uint16_t* second) {
        const uint16x4_t a = vld1_u16(first), b = vld1_u16(second);
        return vreinterpretq_f32_u16(vcombine_u16(vzip1_u16(a, b), vzip2_u16(a, b)));
    }
};
}  // namespace
