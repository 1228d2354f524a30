// Whole character steps: all layers, output layer, filters and draw.
#pragma once
#include "engine/arguments.h"

namespace storycell {

// Writes a.length characters for the streams [first, last). False when a stream's logits allow no
// draw (NaN, or nothing left); its output from there on is unspecified.
bool generate_streams(const Kernels& kernels, const Generation& a, int64_t first, int64_t last);

}  // namespace storycell
