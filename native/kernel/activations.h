// Sigmoid and tanh over lanes. Both are one rational function of 2^f and share the range
// reduction; NaN goes in and comes out, infinities saturate as in the exact functions.
#pragma once

namespace {

// Degree of 2^f - 1 = f * q(f) on [-1/2, 1/2]: relative error 1e-8 (exact) or 4e-7 (quick, for
// results that are rounded to 16 bits anyway).
template <bool kQuick>
inline Simd::F power_minus_one(Simd::F f) {
    using S = Simd;
    if constexpr (kQuick) {
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

template <bool kQuick>
inline Simd::F divide(Simd::F a, Simd::F b) {
    if constexpr (kQuick) return Simd::quick_divide(a, b);
    return a / b;
}

// e^(factor * x) = scale * (1 + part). The caller clamps factor * x to the range of floats.
template <bool kQuick>
inline void exponential(Simd::F x, float factor, Simd::F& scale, Simd::F& part) {
    using S = Simd;
    const S::F log2e = S::set1(factor * 1.44269504f), magic = S::set1(12582912.0f);
    const S::F shifted = S::fma(x, log2e, magic);
    const S::F f = S::fma(x, log2e, magic - shifted);
    scale = S::power_of_two(shifted);
    part = power_minus_one<kQuick>(f);
}

template <bool kQuick>
inline Simd::F sigmoid(Simd::F x) {
    using S = Simd;
    x = S::at_least(S::at_most(x, 87.0f), -87.0f);
    S::F scale, part;
    exponential<kQuick>(x, -1.0f, scale, part);
    return divide<kQuick>(S::set1(1.0f), S::set1(1.0f) + S::fma(scale, part, scale));
}

// expm1(2x) / (expm1(2x) + 2): no cancellation near zero, so the relative error stays small.
template <bool kQuick>
inline Simd::F tanh(Simd::F x) {
    using S = Simd;
    x = S::at_least(S::at_most(x, 10.0f), -10.0f);
    S::F scale, part;
    exponential<kQuick>(x, 2.0f, scale, part);
    const S::F e = S::fma(scale, part, scale - S::set1(1.0f));
    return divide<kQuick>(e, e + S::set1(2.0f));
}

// e^x for x <= 0 (softmax after the largest logit is subtracted); -infinity gives about 1e-38.
inline Simd::F exponential_of_negative(Simd::F x) {
    Simd::F scale, part;
    x = Simd::at_least(x, -87.0f);
    exponential<false>(x, 1.0f, scale, part);
    return Simd::fma(scale, part, scale);
}

}  // namespace
