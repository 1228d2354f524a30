#define STORYCELL_SIMD "arch/simd_portable.h"
#include "arch/kernels_for_isa.inc"
STORYCELL_KERNELS(kPortable, "portable")
