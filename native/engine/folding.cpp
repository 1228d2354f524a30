#include "engine/folding.h"

#include <algorithm>

#include "engine/storycell.h"

namespace storycell {

void fold_biases(int64_t cell, int64_t units, int64_t padded, const float* input, const float* recurrent, float* bias,
                 float* reset, bool normalised) {
    const int64_t gates = kCells[cell].gates;
    std::fill_n(bias, gates * padded, 0.0f);
    if (reset) std::fill_n(reset, padded, 0.0f);
    for (int64_t j = 0; input && j < gates * units; ++j) {
        const bool is_reset = cell == kGru && j >= 2 * units;
        bias[j / units * padded + j % units] = (normalised ? 0.0f : input[j]) + (is_reset ? 0.0f : recurrent[j]);
        if (is_reset && reset) reset[j % units] = recurrent[j];
    }
}

Status fold_table(int64_t characters, int64_t across, int64_t width, const float* input, const float* embedding,
                  const float* bias, float* table, Buffer& packed, int threads) {
    if (!embedding) {
        transpose(across, characters, input, width, table, across);
        for (int64_t v = 0; v < characters; ++v)
            for (int64_t j = 0; bias && j < across; ++j) table[v * across + j] += bias[j];
        return kOk;
    }
    if (const int bad = storycell_pack(kFloat32, width, across, 0, input, 1, width, width, across,
                                       packed.room(width * across), threads))
        return static_cast<Status>(bad);
    const Product a{kFloat32, characters, width, across, embedding, width, packed.data(), bias, table, 0};
    return static_cast<Status>(storycell_product(&a, threads));
}

void transpose(int64_t rows, int64_t columns, const float* from, int64_t from_stride, float* to, int64_t to_stride) {
    constexpr int64_t block = 16;
    for (int64_t r0 = 0; r0 < rows; r0 += block)
        for (int64_t c0 = 0; c0 < columns; c0 += block)
            for (int64_t r = r0; r < std::min(rows, r0 + block); ++r)
                for (int64_t c = c0; c < std::min(columns, c0 + block); ++c)
                    to[c * to_stride + r] = from[r * from_stride + c];
}

}  // namespace storycell
