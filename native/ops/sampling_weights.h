// Logits -> weights of a draw. Plain loops over doubles, which the compiler makes vectors of in each
// instruction set: called once a character, it cost as much as a tenth of the matrix products.
#pragma once
#include <cstdint>
#include <cstring>

namespace {

constexpr double kLeastExponent = -700.0;  // e to that is 1e-304: a weight below it counts as none
constexpr double kTaylor[] = {1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800,
                              1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120,
                              1.0 / 24, 1.0 / 6, 1.0 / 2, 1.0, 1.0};  // 1 / n!, n from 13 down

// weight[j] = e^((logits[j] - top) / temperature) for j < count, to 1e-15, where logits[j] <= top;
// anything where it is larger or not a number. e^x is 2^k e^r, |r| at most half of ln 2.
void sampling_weights(const float* __restrict logits, int64_t count, double top, double temperature,
                      double* __restrict weight) {
    for (int64_t j = 0; j < count; ++j) {
        const double x = (logits[j] - top) / temperature;
        const double bounded = x < kLeastExponent ? kLeastExponent : x;
        const double shifted = bounded * 0x1.71547652b82fep0 + 0x1.8p52;  // k in the lowest bits
        const double k = shifted - 0x1.8p52;
        const double r = (bounded - k * 0x1.62e42fefa3800p-1) - k * 0x1.ef35793c76730p-45;
        double series = 0.0;
#pragma GCC unroll 14
        for (int n = 0; n < 14; ++n) series = series * r + kTaylor[n];
        uint64_t bits;
        std::memcpy(&bits, &shifted, sizeof bits);
        bits = (bits + 1023) << 52;
        double power;
        std::memcpy(&power, &bits, sizeof power);
        weight[j] = x < kLeastExponent ? 0.0 : series * power;
    }
}

}  // namespace
