// Weights folded into what the kernels read, alike for a model that learns and a network that is only read.
#pragma once
#include <cstdint>

#include "engine/arguments.h"
#include "engine/buffer.h"

namespace storycell {

// The biases of a layer, [G*units] each or both null, as bias[G*padded], zeros where there is nothing. What gru adds to its
// last gate before it is reset is left out, and goes to reset[padded] where that is not null; of gates that are normalised
// `input` is added afterwards, and left out.
void fold_biases(int64_t cell, int64_t units, int64_t padded, const float* input, const float* recurrent, float* bias,
                 float* reset, bool normalised);

// table[characters, across] = what each character adds to the gates: of the first layer's input[across, width] the
// product with embedding[characters, width], or without one its columns; and bias[across], or null. `packed` is room to work in.
Status fold_table(int64_t characters, int64_t across, int64_t width, const float* input, const float* embedding,
                  const float* bias, float* table, Buffer& packed, int threads);

// to[c, r] = from[r, c], block by block so that both sides stay in cache.
void transpose(int64_t rows, int64_t columns, const float* from, int64_t from_stride, float* to, int64_t to_stride);

}  // namespace storycell
