// Which rows of the n-gram table a character meets: one for each n-gram of 2 to `longest` characters that ends with it.
//
//     h = 0;  of the character and those before it, the latest first:  h = (h * kFactor + id + 1) mod kPrime
//
// After n characters h mod `rows` is the row of the n-gram. A boundary ends what an n-gram sees: it and all before it are
// characters 0, as is everything before a text begins. No number passes 2^53, so that JavaScript computes the same, and
// nothing but sums, products and remainders is needed. storycell/ngrams.py has it in numpy.
#pragma once
#include <cstdint>

namespace storycell {

constexpr int64_t kLongestNgram = 16, kMostNgramRows = int64_t{1} << 26;
constexpr int64_t kNgramPrime = 2147483647, kNgramFactor = 1999993;

// What a stream remembers of its characters: the latest first, 0 from the last boundary on.
inline void remember(int64_t longest, int64_t id, int64_t* past) {
    for (int64_t n = longest - 2; n > 0; --n) past[n] = id ? past[n - 1] : 0;
    past[0] = id;
}

// The rows [longest - 1] of `id` after `past`, which remembers it from here on.
inline void meet(int64_t longest, int64_t rows, int64_t id, int64_t* past, int64_t* out) {
    int64_t h = id + 1;
    for (int64_t n = 0; n < longest - 1; ++n) {
        h = (h * kNgramFactor + (id ? past[n] : 0) + 1) % kNgramPrime;
        out[n] = h % rows;
    }
    remember(longest, id, past);
}

// to[width]: the embedding of `id` and the rows of its n-grams, in the order of their length; `past` remembers it.
inline void look_up(int64_t longest, int64_t rows, int64_t width, const float* embedding, const float* table,
                    int64_t id, int64_t* past, float* to) {
    int64_t here[kLongestNgram];
    meet(longest, rows, id, past, here);
    const float* from = embedding + id * width;
    for (int64_t i = 0; i < width; ++i) to[i] = from[i];
    for (int64_t n = 0; n < longest - 1; ++n) {
        from = table + here[n] * width;
        for (int64_t i = 0; i < width; ++i) to[i] += from[i];
    }
}

}  // namespace storycell
