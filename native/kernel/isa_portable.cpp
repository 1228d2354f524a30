#include "simd_portable.h"
#include "kernels_for_isa.inc"
STORYCELL_KERNELS(kPortable, "portable")
