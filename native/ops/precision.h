// The precisions. `Element` is what matrix products read: float, bfloat16 read two at a time, or whole
// numbers of 8 bits read four at a time. Every 32-bit word of an operand is one "step" of a product's
// inner dimension. Sums of floats, cell states and master weights are float32 in all; sums of whole
// numbers are exact. `header` is how many elements a packed column has before its weights.
#pragma once
#include <cstdint>
#include <cstring>

#include "arch/simd.h"
#include "engine/arguments.h"
#include "ops/activations.h"

namespace {

struct Float32 {
    using Element = float;
    using Gate = float;
    static constexpr Accuracy forward = kExact, backward = kExact;
    static constexpr int per_word = 1, header = 0;
    static Simd::F dot(Simd::F sum, Simd::F a, Simd::F b) { return Simd::fma(a, b, sum); }
    static Simd::F load(const float* p) { return Simd::load(p); }
    static void store(float* p, Simd::F v) { Simd::store(p, v); }
    static Simd::F load_gate(const float* p) { return Simd::load(p); }
    static void store_gate(float* p, Simd::F v) { Simd::store(p, v); }
    static float round(float v) { return v; }
    // Rows `first` (and `second`, where words are pairs) as words.
    static Simd::F words(const float* first, const float*) { return Simd::load(first); }
};

struct Bfloat16 {
    using Element = uint16_t;
    // Saved gates are IEEE half where the processor converts it: gates lie in [-1, 1], where half
    // keeps eight times bfloat16's resolution, which 1 - gate needs near saturation.
    using Gate = uint16_t;
    static constexpr Accuracy forward = kCoarse, backward = kQuick;
    static constexpr int per_word = 2, header = 0;
    static Simd::F dot(Simd::F sum, Simd::F a, Simd::F b) { return Simd::pair_dot(sum, a, b); }
    static Simd::F load(const uint16_t* p) { return Simd::load_bf16(p); }
    static void store(uint16_t* p, Simd::F v) { Simd::store_bf16(p, v); }
    static Simd::F load_gate(const uint16_t* p) { return Simd::load_half(p); }
    static void store_gate(uint16_t* p, Simd::F v) { Simd::store_half(p, v); }
    static uint16_t round(float v) {
        uint32_t bits;
        std::memcpy(&bits, &v, 4);
        if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fc0;  // NaN stays NaN
        return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    }
    static Simd::F words(const uint16_t* first, const uint16_t* second) {
        return Simd::pair_rows(first, second);
    }
};

// For generation only: weights as whole numbers times a scale for each column, hidden states, which lie in (-1, 1),
// as 127ths (what is outside becomes -1 or 1). bytes.h has its micro-kernel and the packing.
struct Int8 {
    using Element = int8_t;
    using Gate = int8_t;  // never saved
    static constexpr float whole = 127.0f;
    static constexpr Accuracy forward = kExact;
    static constexpr int per_word = 4, header = storycell::kByteHeader;
    static Simd::F load(const int8_t* p) { return Simd::load_bytes(p) * Simd::set1(1.0f / whole); }
    static void store(int8_t* p, Simd::F v) {
        Simd::store_bytes(p, Simd::at_least(Simd::at_most(v * Simd::set1(whole), whole), -whole));
    }
    static void store_gate(int8_t* p, Simd::F v) { store(p, v); }
};

}  // namespace
