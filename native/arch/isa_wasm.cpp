// The only kernels of a WebAssembly module, which therefore stand where others have the portable ones: a browser takes or
// refuses a module as a whole, so there is nothing to choose from within it.
#define STORYCELL_SIMD "arch/simd_wasm.h"
#include "arch/kernels_for_isa.inc"
#ifdef __wasm_relaxed_simd__
STORYCELL_KERNELS(kPortable, "relaxed")
#else
STORYCELL_KERNELS(kPortable, "simd128")
#endif
