// The chosen kernels, and some of them over all threads that have no place in the C interface.
#pragma once
#include "engine/arguments.h"

namespace storycell {

const Kernels* kernels();  // null: STORYCELL_ISA names some that are unknown or cannot run here
bool multiplies_bf16();  // whether the hardware does, for these kernels
Status transposed_pair(const TransposedPair& a, int threads);
Status symmetric_products(const SymmetricProducts& a, int threads);

}  // namespace storycell
