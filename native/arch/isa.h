// Chooses the kernels for the processor the program runs on.
#pragma once
#include "engine/arguments.h"

namespace storycell {

// The kernels of that name, null where there are none or this processor (with its operating system) cannot run
// them; and the best it can run.
const Kernels* kernels_named(const char* name);
const Kernels* best_kernels();

}  // namespace storycell
