// AVX-512 lanes: sixteen floats. arch/simd.h says what each function means.
#pragma once
#include <immintrin.h>
#include <cstdint>

namespace {
struct Simd {
    static constexpr int width = 16;
    static constexpr int tile_rows = 6;  // 6 rows x 4 vectors = 24 sums, 4 weights, 1 broadcast
    using F = __m512;

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
};
}  // namespace
