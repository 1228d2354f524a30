// One draw from a row of logits.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/arguments.h"

namespace storycell {

// xoshiro128++ (Blackman, Vigna): 32 bits a draw, state of four words, not all zero.
inline uint32_t next_random(uint32_t* s) {
    const auto rotate = [](uint32_t x, int k) { return (x << k) | (x >> (32 - k)); };
    const uint32_t result = rotate(s[0] + s[3], 7) + s[0];
    const uint32_t t = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 11);
    return result;
}

class Sampler {
public:
    Sampler(const Kernels& kernels, int64_t characters, int64_t unknown)
        : kernels(kernels), characters(characters), unknown(unknown),
          weight(static_cast<size_t>(characters)), order(static_cast<size_t>(characters)) {}

    // The character drawn, or -1 when the logits allow none. Filters apply one after another
    // (top-k, top-p of what top-k left, min-p), each on probabilities after temperature; ties
    // are kept in id order. Uses one random number unless greedy.
    int64_t draw(const float* logits, const Choice& how, uint32_t* random);

private:
    const Kernels& kernels;
    int64_t characters, unknown;
    std::vector<double> weight;  // scratch [characters]
    std::vector<int32_t> order;  // scratch [characters]
};

}  // namespace storycell
