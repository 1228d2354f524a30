// AVX-512 lanes: sixteen floats. arch/simd.h says what each function means.
#pragma once
#include <immintrin.h>
#include <cstdint>
#include <cstring>

namespace {
struct Simd {
    static constexpr int width = 16;
    static constexpr int tile_rows = 6;  // 6 rows x 4 vectors = 24 sums, 4 weights, 1 broadcast
    using F = __m512;
    typedef int32_t I __attribute__((vector_size(64)));

    static F load(const float* p) { return _mm512_loadu_ps(p); }
    static void store(float* p, F v) { _mm512_storeu_ps(p, v); }
    static F set1(float v) { return _mm512_set1_ps(v); }
    static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
    static F fnma(F a, F b, F c) { return _mm512_fnmadd_ps(a, b, c); }
    // The processor's min/max return the second operand when either is NaN; giving the limit
    // first therefore lets NaN through.
    static F at_most(F x, float limit) { return _mm512_min_ps(set1(limit), x); }
    static F at_least(F x, float limit) { return _mm512_max_ps(set1(limit), x); }
    static F larger(F a, F b) { return _mm512_max_ps(a, b); }
    static float sum(F v) { return _mm512_reduce_add_ps(v); }
    static float largest(F v) { return _mm512_reduce_max_ps(v); }
    static F power_of_two(F shifted) {
        const __m512i bits = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
        return _mm512_castsi512_ps(_mm512_add_epi32(bits, _mm512_set1_epi32(0x3f800000)));
    }
    // One Newton step on a reciprocal of 14 bits: about 1e-8 relative.
    static F quick_divide(F a, F b) {
        const F r = _mm512_rcp14_ps(b);
        return a * fma(fnma(b, r, set1(1.0f)), r, r);
    }
    static constexpr bool scales = true;
    static F fraction(F y) { return _mm512_reduce_ps(y, _MM_FROUND_TO_NEAREST_INT); }
    static F scaled(F a, F n) { return _mm512_scalef_ps(a, n); }
    static F coarse_reciprocal(F v) { return _mm512_rcp14_ps(v); }
    static F sqrt(F v) { return _mm512_sqrt_ps(v); }

    static F load_half(const uint16_t* p) {
        return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
    static void store_half(uint16_t* p, F v) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                            _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
    static F load_bf16(const uint16_t* p) {
        const __m256i raw = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(raw), 16));
    }
    static void store_bf16(uint16_t* p, F v) {
#ifdef __AVX512BF16__
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(v));
#else
        const __m512i bits = _mm512_castps_si512(v);
        const __m512i odd = _mm512_and_epi32(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
        __m512i out = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
        out = _mm512_mask_mov_epi32(out, nan, _mm512_set1_epi32(0x7fc00000));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                            _mm512_cvtepi32_epi16(_mm512_srli_epi32(out, 16)));
#endif
    }
    static F pair_dot(F sum, F a, F b) {
#ifdef __AVX512BF16__
        return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
#else
        const __m512i high = _mm512_set1_epi32(0xffff0000);
        const __m512i ia = _mm512_castps_si512(a), ib = _mm512_castps_si512(b);
        sum = fma(_mm512_castsi512_ps(_mm512_slli_epi32(ia, 16)),
                  _mm512_castsi512_ps(_mm512_slli_epi32(ib, 16)), sum);
        return fma(_mm512_castsi512_ps(_mm512_and_epi32(ia, high)),
                   _mm512_castsi512_ps(_mm512_and_epi32(ib, high)), sum);
#endif
    }
    static F pair_rows(const uint16_t* first, const uint16_t* second) {
        const __m512i a = _mm512_cvtepu16_epi32(
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(first)));
        const __m512i b = _mm512_cvtepu16_epi32(
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(second)));
        return _mm512_castsi512_ps(_mm512_or_epi32(a, _mm512_slli_epi32(b, 16)));
    }

    static I load_words(const void* p) { return (I)_mm512_loadu_si512(p); }
    static F to_float(I v) { return _mm512_cvtepi32_ps((__m512i)v); }
    static F load_bytes(const int8_t* p) {
        return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
    }
    static void store_bytes(int8_t* p, F v) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(v)));
    }
    static I broadcast_word(const void* four) {
        int32_t word;
        std::memcpy(&word, four, sizeof word);
        return (I)_mm512_set1_epi32(word);
    }
#ifdef __AVX512VNNI__
    static constexpr int byte_offset = 128;
    static I broadcast_bytes(const void* four) { return broadcast_word(four) ^ static_cast<int32_t>(0x80808080u); }
    static I dot_bytes(I sum, I left, I right) {
        return (I)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)left, (__m512i)right);
    }
#else
    // The sign moves to the weights: pairs of 127 * 127 then fit into the 16 bits of the first sum.
    static constexpr int byte_offset = 0;
    static I broadcast_bytes(const void* four) { return broadcast_word(four); }
    static I dot_bytes(I sum, I left, I right) {
        const __m512i x = (__m512i)left, w = (__m512i)right;
        const __m512i turned = _mm512_mask_sub_epi8(w, _mm512_movepi8_mask(x), _mm512_setzero_si512(), w);
        const __m512i pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(x), turned);
        return sum + (I)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
    }
#endif
};
}  // namespace
