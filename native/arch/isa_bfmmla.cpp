#define STORYCELL_SIMD "arch/simd_neon.h"
#include "arch/tile_bfmmla.h"
#include "arch/kernels_for_isa.inc"
STORYCELL_KERNELS(kBfmmla, "bfmmla")
