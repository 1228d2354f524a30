// Whole character steps: all layers, output layer, filters and draw.
#pragma once
#include "engine/arguments.h"

namespace storycell {

// Writes a.length characters for the streams [first, last). kNotFinite when a stream's logits allow no
// draw (NaN, or nothing left); what is written from there on is unspecified.
Status generate_streams(const Kernels& kernels, const Generation& a, int64_t first, int64_t last);

}  // namespace storycell
