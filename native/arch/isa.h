// Chooses the kernels for the processor the program runs on.
#pragma once
#include "engine/arguments.h"

namespace storycell {

// The best kernels this processor (and its operating system) can run, or those named by the
// environment variable STORYCELL_ISA when they can. Null when the named ones cannot.
const Kernels* kernels_named(const char* name);
const Kernels* best_kernels();

}  // namespace storycell
