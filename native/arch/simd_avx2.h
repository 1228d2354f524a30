// AVX2 + FMA + F16C lanes: eight floats. arch/simd.h says what each function means.
#pragma once
#include <immintrin.h>
#include <cstdint>
#include <cstring>

namespace {
struct Simd {
    static constexpr int width = 8;
    static constexpr int tile_rows = 3;  // 3 rows x 4 vectors = 12 sums, 3 broadcasts, 1 weight
    using F = __m256;
    typedef int32_t I __attribute__((vector_size(32)));

    static F load(const float* p) { return _mm256_loadu_ps(p); }
    static void store(float* p, F v) { _mm256_storeu_ps(p, v); }
    static F set1(float v) { return _mm256_set1_ps(v); }
    static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
    static F fnma(F a, F b, F c) { return _mm256_fnmadd_ps(a, b, c); }
    static F at_most(F x, float limit) { return _mm256_min_ps(set1(limit), x); }
    static F at_least(F x, float limit) { return _mm256_max_ps(set1(limit), x); }
    static F larger(F a, F b) { return _mm256_max_ps(a, b); }
    static float sum(F v) {
        __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
        s = _mm_add_ps(s, _mm_movehl_ps(s, s));
        return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
    }
    static float largest(F v) {
        __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
        s = _mm_max_ps(s, _mm_movehl_ps(s, s));
        return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
    }
    static F power_of_two(F shifted) {
        const __m256i bits = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
        return _mm256_castsi256_ps(_mm256_add_epi32(bits, _mm256_set1_epi32(0x3f800000)));
    }
    static F quick_divide(F a, F b) { return a / b; }
    static constexpr bool scales = false;
    static F fraction(F y) { return y; }
    static F scaled(F a, F) { return a; }
    static F coarse_reciprocal(F v) { return v; }
    static F sqrt(F v) { return _mm256_sqrt_ps(v); }

    static F load_half(const uint16_t* p) {
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }
    static void store_half(uint16_t* p, F v) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                         _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
    static F load_bf16(const uint16_t* p) {
        const __m128i raw = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(raw), 16));
    }
    static void store_bf16(uint16_t* p, F v) {
        const __m256i bits = _mm256_castps_si256(v);
        const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
        __m256i out = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        out = _mm256_blendv_epi8(out, _mm256_set1_epi32(0x7fc00000),
                                 _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q)));
        out = _mm256_srli_epi32(out, 16);
        const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(out, out), 0x08);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
    }
    // No bfloat16 dot product in AVX2: two fused multiply-adds on the widened halves.
    static F pair_dot(F sum, F a, F b) {
        const __m256i high = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
        const __m256i ia = _mm256_castps_si256(a), ib = _mm256_castps_si256(b);
        sum = fma(_mm256_castsi256_ps(_mm256_slli_epi32(ia, 16)),
                  _mm256_castsi256_ps(_mm256_slli_epi32(ib, 16)), sum);
        return fma(_mm256_castsi256_ps(_mm256_and_si256(ia, high)),
                   _mm256_castsi256_ps(_mm256_and_si256(ib, high)), sum);
    }
    static F pair_rows(const uint16_t* first, const uint16_t* second) {
        const __m256i a =
            _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(first)));
        const __m256i b =
            _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(second)));
        return _mm256_castsi256_ps(_mm256_or_si256(a, _mm256_slli_epi32(b, 16)));
    }

    static I load_words(const void* p) { return (I)_mm256_loadu_si256(static_cast<const __m256i*>(p)); }
    static F to_float(I v) { return _mm256_cvtepi32_ps((__m256i)v); }
    static F load_bytes(const int8_t* p) {
        return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
    }
    static void store_bytes(int8_t* p, F v) {
        const __m256i whole = _mm256_cvtps_epi32(v);
        const __m128i half = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
        _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(half, half));
    }
    static I broadcast_word(const void* four) {
        int32_t word;
        std::memcpy(&word, four, sizeof word);
        return (I)_mm256_set1_epi32(word);
    }
#ifdef __AVXVNNI__
    static constexpr int byte_offset = 128;
    static I broadcast_bytes(const void* four) { return broadcast_word(four) ^ static_cast<int32_t>(0x80808080u); }
    static I dot_bytes(I sum, I left, I right) {
        return (I)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)left, (__m256i)right);
    }
#else
    // The sign moves to the weights: pairs of 127 * 127 then fit into the 16 bits of the first sum.
    static constexpr int byte_offset = 0;
    static I broadcast_bytes(const void* four) { return broadcast_word(four); }
    static I dot_bytes(I sum, I left, I right) {
        const __m256i x = (__m256i)left, turned = _mm256_sign_epi8((__m256i)right, x);
        const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(x), turned);
        return sum + (I)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    }
#endif
};
}  // namespace
