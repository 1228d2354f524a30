// Sigmoid and tanh over lanes. Both are one rational function of 2^f and share the range
// reduction; NaN goes in and comes out, infinities saturate as in the exact functions.
#pragma once
#include "arch/simd.h"

namespace {

// Relative error: 1e-7 · 1e-6 · where the processor has the means 7e-5, for what is rounded to 16
// bits before anything is subtracted from it.
enum Accuracy { kExact, kQuick, kCoarse };

// Degree of 2^f - 1 = f * q(f) on [-1/2, 1/2]: relative error 1e-8 (exact) or 4e-7.
template <Accuracy kAccuracy>
inline Simd::F power_minus_one(Simd::F f) {
    using S = Simd;
    if constexpr (kAccuracy != kExact) {
        S::F q = S::set1(0.00133335387f);
        q = S::fma(q, f, S::set1(0.00966624559f));
        q = S::fma(q, f, S::set1(0.0555050021f));
        q = S::fma(q, f, S::set1(0.240223513f));
        return S::fma(q, f, S::set1(0.693147144f)) * f;
    } else {
        S::F q = S::set1(0.000154035124f);
        q = S::fma(q, f, S::set1(0.00133907356f));
        q = S::fma(q, f, S::set1(0.0096182375f));
        q = S::fma(q, f, S::set1(0.0555035743f));
        q = S::fma(q, f, S::set1(0.240226498f));
        return S::fma(q, f, S::set1(0.693147188f)) * f;
    }
}

template <Accuracy kAccuracy>
inline Simd::F divide(Simd::F a, Simd::F b) {
    if constexpr (kAccuracy != kExact) return Simd::quick_divide(a, b);
    return a / b;
}

// e^(factor * x) = scale * (1 + part). The caller clamps factor * x to the range of floats.
template <Accuracy kAccuracy>
inline void exponential(Simd::F x, float factor, Simd::F& scale, Simd::F& part) {
    using S = Simd;
    const S::F log2e = S::set1(factor * 1.44269504f), magic = S::set1(12582912.0f);
    const S::F shifted = S::fma(x, log2e, magic);
    const S::F f = S::fma(x, log2e, magic - shifted);
    scale = S::power_of_two(shifted);
    part = power_minus_one<kAccuracy>(f);
}

// 2^f - 1 on [-1/2, 1/2] to 3e-6 relative to 2^f: far less than the reciprocals it meets.
inline Simd::F coarse_power_minus_one(Simd::F f) {
    using S = Simd;
    S::F q = S::set1(0.00958285310f);
    q = S::fma(q, f, S::set1(0.0559064246f));
    q = S::fma(q, f, S::set1(0.240240986f));
    return S::fma(q, f, S::set1(0.693124193f)) * f;
}

template <Accuracy kAccuracy>
inline Simd::F sigmoid(Simd::F x) {
    using S = Simd;
    if constexpr (kAccuracy == kCoarse && S::scales) {  // needs no limits: the exponent saturates
        const S::F y = x * S::set1(-1.44269504f), f = S::fraction(y), one = S::set1(1.0f);
        return S::coarse_reciprocal(one + S::scaled(one + coarse_power_minus_one(f), y - f));
    }
    x = S::at_least(S::at_most(x, 87.0f), -87.0f);
    S::F scale, part;
    exponential<kAccuracy>(x, -1.0f, scale, part);
    return divide<kAccuracy>(S::set1(1.0f), S::set1(1.0f) + S::fma(scale, part, scale));
}

// expm1(2x) / (expm1(2x) + 2): no cancellation near zero, so the relative error stays small.
template <Accuracy kAccuracy>
inline Simd::F tanh(Simd::F x) {
    using S = Simd;
    x = S::at_least(S::at_most(x, 10.0f), -10.0f);
    if constexpr (kAccuracy == kCoarse && S::scales) {
        const S::F y = x * S::set1(2.88539008f), f = S::fraction(y), one = S::set1(1.0f);
        const S::F scale = S::scaled(one, y - f);
        const S::F e = S::fma(scale, coarse_power_minus_one(f), scale - one);
        return e * S::coarse_reciprocal(e + S::set1(2.0f));
    }
    S::F scale, part;
    exponential<kAccuracy>(x, 2.0f, scale, part);
    const S::F e = S::fma(scale, part, scale - S::set1(1.0f));
    return divide<kAccuracy>(e, e + S::set1(2.0f));
}

// e^x for x <= 0 (softmax after the largest logit is subtracted); -infinity gives about 1e-38.
inline Simd::F exponential_of_negative(Simd::F x) {
    Simd::F scale, part;
    x = Simd::at_least(x, -87.0f);
    exponential<kExact>(x, 1.0f, scale, part);
    return Simd::fma(scale, part, scale);
}

}  // namespace
