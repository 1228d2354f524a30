#define STORYCELL_SIMD "arch/simd_neon.h"
#include "arch/tile_neon.h"
#include "arch/kernels_for_isa.inc"
STORYCELL_KERNELS(kNeonDot, "neondot")
