// Dropout without stored masks: whether an element is kept is a hash of the seed and its place, so
// the backward pass asks again instead of reading a mask. A period of one step of all streams keeps
// the same units through a whole chunk (variational dropout, Gal & Ghahramani 2016,
// arXiv:1512.05287).
#pragma once
#include <cstdint>

#include "arch/simd.h"
#include "engine/arguments.h"

namespace {

// Two rounds of MurmurHash3's finaliser: every bit of the seed and the place moves every bit.
inline uint32_t dropout_hash(uint32_t place, uint32_t low, uint32_t high) {
    uint32_t h = place ^ low;
    for (int round = 0; round < 2; ++round) {
        h ^= h >> 16;
        h *= 0x85ebca6bu;
        h ^= h >> 13;
        h *= 0xc2b2ae35u;
        h ^= h >> 16;
        h += high;
    }
    return h;
}

// [first, last) counts groups of 16 elements.
template <class P>
storycell::Status dropout_lanes(const storycell::Dropout& a, int64_t first, int64_t last) {
    using E = typename P::Element;
    const auto* from = static_cast<const E*>(a.from);
    auto* to = static_cast<E*>(a.to);
    const auto low = static_cast<uint32_t>(a.seed), high = static_cast<uint32_t>(a.seed >> 32);
    const double threshold = a.keep * 4294967296.0;
    const uint32_t kept_below = threshold >= 4294967295.0 ? 0xffffffffu
                                                          : static_cast<uint32_t>(threshold);
    const auto scale = static_cast<float>(1.0 / a.keep);
    alignas(64) float factor[16];
    int64_t place = first * 16 % a.period;
    for (int64_t i = first * 16; i < last * 16; i += 16) {
        for (int lane = 0; lane < 16; ++lane)
            factor[lane] = dropout_hash(static_cast<uint32_t>(place + lane), low, high) <= kept_below
                               ? scale : 0.0f;
        for (int v = 0; v < 16; v += Simd::width)
            P::store(to + i + v, P::load(from + i + v) * Simd::load(factor + v));
        place += 16;
        if (place >= a.period) place -= a.period;
    }
    return storycell::kOk;
}

}  // namespace
