#include "simd_avx2.h"
#include "kernels_for_isa.inc"
STORYCELL_KERNELS(kAvx2, "avx2")
