// Whether one instruction set's vectors compute what arch/simd.h says. Compiled once for each set, with its
// flags: SIMD_TEST names the function, STORYCELL_SIMD the header. Nothing here may call a template or
// an inline function of the standard library, for the reason that arch/simd.h gives.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "arch/simd.h"
#include "ops/precision.h"

namespace {

using S = Simd;
constexpr int w = S::width;
int failures = 0;

void expect(bool ok, const char* what, double here) {
    if (ok) return;
    ++failures;
    printf("FAILED: %s at %.9g (vectors of %d)\n", what, here, w);
}

float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

bool near(double x, double y, double relative) { return fabs(x - y) <= relative * fabs(y); }

// xorshift32, Marsaglia.
uint32_t random_bits() {
    static uint32_t state = 2463534242u;
    state ^= state << 13;
    state ^= state >> 17;
    return state ^= state << 5;
}

float uniform(float from, float to) {
    return from + (to - from) * static_cast<float>(random_bits() >> 8) * 0x1p-24f;
}

struct Lanes {
    float at[w];
    Lanes() = default;
    explicit Lanes(S::F v) { S::store(at, v); }
    S::F vector() const { return S::load(at); }
};

Lanes uniforms(float from, float to) {
    Lanes x;
    for (float& lane : x.at) lane = uniform(from, to);
    return x;
}

void arithmetic() {
    for (int round = 0; round < 200; ++round) {
        const Lanes a = uniforms(-9, 9), b = uniforms(1, 9), c = uniforms(-9, 9);
        const Lanes sum(a.vector() + b.vector()), difference(a.vector() - b.vector());
        const Lanes product(a.vector() * b.vector()), quotient(a.vector() / b.vector());
        const Lanes fma(S::fma(a.vector(), b.vector(), c.vector()));
        const Lanes fnma(S::fnma(a.vector(), b.vector(), c.vector()));
        const Lanes root(S::sqrt(b.vector())), quick(S::quick_divide(a.vector(), b.vector()));
        for (int i = 0; i < w; ++i) {
            const float x = a.at[i], y = b.at[i], z = c.at[i];
            expect(sum.at[i] == x + y && difference.at[i] == x - y, "+ -", x);
            expect(product.at[i] == x * y && quotient.at[i] == x / y, "* /", x);
            expect(fabs(fma.at[i] - (double(x) * y + z)) < 1e-5, "fma", x);
            expect(fabs(fnma.at[i] - (z - double(x) * y)) < 1e-5, "fnma", x);
            expect(root.at[i] == sqrtf(y), "sqrt", y);
            expect(near(quick.at[i], double(x) / y, 1e-6), "quick_divide", x);
        }
    }
}

void limits() {
    const float special[] = {0, 1, -1, 5, -5, 3, INFINITY, -INFINITY, NAN};
    for (float x : special) {
        const Lanes most(S::at_most(S::set1(x), 3.0f)), least(S::at_least(S::set1(x), -3.0f));
        for (int i = 0; i < w; ++i) {
            expect(isnan(x) ? isnan(most.at[i]) : most.at[i] == (x < 3 ? x : 3), "at_most", x);
            expect(isnan(x) ? isnan(least.at[i]) : least.at[i] == (x > -3 ? x : -3), "at_least", x);
        }
    }
    for (int round = 0; round < 50; ++round) {
        Lanes a = uniforms(-9, 9), b = uniforms(-9, 9), whole;
        const Lanes larger(S::larger(a.vector(), b.vector()));
        float total = 0, most = a.at[0];
        for (int i = 0; i < w; ++i) {
            expect(larger.at[i] == (a.at[i] > b.at[i] ? a.at[i] : b.at[i]), "larger", a.at[i]);
            if (a.at[i] > most) most = a.at[i];
            whole.at[i] = static_cast<float>(static_cast<int>(100 * b.at[i]));
            total += whole.at[i];
        }
        expect(S::largest(a.vector()) == most, "largest", most);
        expect(S::sum(whole.vector()) == total, "sum", total);
    }
}

void powers() {
    for (int n = -126; n <= 127; ++n) {
        const Lanes power(S::power_of_two(S::set1(static_cast<float>(n) + 0x1.8p23f)));
        for (float lane : power.at) expect(lane == ldexpf(1, n), "power_of_two", n);
    }
    if (!S::scales) return;
    for (int n = -200; n <= 200; ++n) {
        const Lanes scaled(S::scaled(S::set1(1.5f), S::set1(static_cast<float>(n))));
        for (float lane : scaled.at) expect(lane == ldexpf(1.5f, n), "scaled", n);
    }
    for (int round = 0; round < 200; ++round) {
        const Lanes y = uniforms(-99, 99), fraction(S::fraction(y.vector()));
        const Lanes v = uniforms(0.5f, 1e6f), inverse(S::coarse_reciprocal(v.vector()));
        for (int i = 0; i < w; ++i) {
            const float rest = y.at[i] - fraction.at[i];
            expect(fabsf(fraction.at[i]) <= 0.5f && rest == rintf(rest), "fraction", y.at[i]);
            expect(near(inverse.at[i], 1.0 / v.at[i], 7e-5), "coarse_reciprocal", v.at[i]);
        }
    }
    expect(Lanes(S::coarse_reciprocal(S::set1(INFINITY))).at[0] == 0, "coarse_reciprocal", INFINITY);
}

void sixteen_bits() {
    for (int round = 0; round < 5000; ++round) {
        Lanes x;
        uint16_t stored[w];
        for (float& lane : x.at) {
            uint32_t bits = random_bits();
            if ((bits & 0x7f800000) == 0) bits |= 0x00800000;  // processors differ on denormal numbers
            if (round % 4 == 0) bits = (bits & 0xffff0000) | 0x8000;  // half-way between two
            lane = from_bits(bits);
        }
        S::store_bf16(stored, x.vector());
        const Lanes back(S::load_bf16(stored));
        for (int i = 0; i < w; ++i) {
            if (isnan(x.at[i])) expect(isnan(back.at[i]), "bfloat16 of NaN", x.at[i]);
            else expect(stored[i] == Bfloat16::round(x.at[i]), "store_bf16", x.at[i]);
            if (!isnan(x.at[i]))
                expect(back.at[i] == from_bits(static_cast<uint32_t>(stored[i]) << 16), "load_bf16", x.at[i]);
        }
        const Lanes gate = uniforms(-1, 1);
        uint16_t again[w];
        S::store_half(stored, gate.vector());
        const Lanes half(S::load_half(stored));
        S::store_half(again, half.vector());
        for (int i = 0; i < w; ++i)
            expect(fabsf(half.at[i] - gate.at[i]) <= 0x1p-8f * fabsf(gate.at[i]) + 0x1p-24f &&
                       again[i] == stored[i], "half", gate.at[i]);
    }
    const float exact[] = {0, 1, -1, 0.5f};
    for (float x : exact) {
        uint16_t stored[w];
        S::store_half(stored, S::set1(x));
        for (float lane : Lanes(S::load_half(stored)).at) expect(lane == x, "half", x);
    }
}

void pairs() {
    const auto whole = [](int i) { return static_cast<float>(i % 13 - 6); };
    uint16_t first[2][w], second[2][w];
    for (int k = 0; k < 2; ++k)
        for (int i = 0; i < w; ++i) {
            first[k][i] = Bfloat16::round(whole(5 * i + k));
            second[k][i] = Bfloat16::round(whole(7 * i + 3 * k + 2));
        }
    const S::F a = S::pair_rows(first[0], second[0]), b = S::pair_rows(first[1], second[1]);
    const Lanes dot(S::pair_dot(S::set1(3.0f), a, b)), words(a);
    for (int i = 0; i < w; ++i) {
        uint16_t halves[2];
        uint32_t word;
        memcpy(&word, &words.at[i], 4);
        halves[0] = static_cast<uint16_t>(word);
        halves[1] = static_cast<uint16_t>(word >> 16);
        expect(halves[0] == first[0][i] && halves[1] == second[0][i], "pair_rows", i);
        const float exact = 3.0f + whole(5 * i) * whole(5 * i + 1) + whole(7 * i + 2) * whole(7 * i + 5);
        expect(dot.at[i] == exact, "pair_dot", i);
    }
}

void bytes() {
    const int8_t ends[] = {-127, 127, 0, 1, -1, -128};
    for (int round = 0; round < 2000; ++round) {
        int8_t left[4], right[4 * w];
        int32_t starts[w];
        // The left-hand side may be -128 too; in half the rounds all are at the ends, where sums are largest.
        for (int8_t& x : left) x = round % 2 ? ends[random_bits() % 6] : static_cast<int8_t>(random_bits());
        for (int8_t& x : right) {
            x = round % 2 ? ends[random_bits() % 2] : static_cast<int8_t>(random_bits());
            if (x == -128) x = 127;
        }
        for (int32_t& start : starts) start = static_cast<int32_t>(random_bits() % 2000001) - 1000000;
        const S::I sum = S::dot_bytes(S::load_words(starts), S::broadcast_bytes(left), S::load_words(right));
        const Lanes found(S::to_float(sum));
        for (int i = 0; i < w; ++i) {
            int32_t exact = starts[i];
            for (int k = 0; k < 4; ++k) exact += (left[k] + S::byte_offset) * right[4 * i + k];
            expect(found.at[i] == static_cast<float>(exact), "dot_bytes", exact);
        }
        Lanes x = uniforms(-127, 127);
        if (round % 2) for (float& lane : x.at) lane = rintf(lane) - 0.5f < -127 ? -127 : rintf(lane) - 0.5f;  // halves
        int8_t stored[w];
        S::store_bytes(stored, x.vector());
        const Lanes back(S::load_bytes(stored));
        for (int i = 0; i < w; ++i) {
            expect(stored[i] == static_cast<int8_t>(rintf(x.at[i])), "store_bytes", x.at[i]);
            expect(back.at[i] == stored[i], "load_bytes", stored[i]);
        }
        Int8::store(stored, uniforms(-3, 3).vector());
        for (int8_t lane : stored) expect(lane >= -127, "a hidden state in bytes", lane);
    }
    int8_t stored[w];
    const float states[][2] = {{0, 0}, {1, 127}, {-1, -127}, {7, 127}, {-INFINITY, -127}, {0.5f, 64}, {-0.01f, -1}};
    for (const auto& [state, byte] : states) {
        Int8::store(stored, S::set1(state));
        for (int8_t lane : stored) expect(lane == byte, "a hidden state in bytes", state);
    }
}

}  // namespace

int SIMD_TEST();
int SIMD_TEST() {
    arithmetic();
    limits();
    powers();
    sixteen_bits();
    pairs();
    bytes();
    return failures;
}
