#define STORYCELL_SIMD "arch/simd_avx2.h"
#include "arch/kernels_for_isa.inc"
STORYCELL_KERNELS(kAvxVnni, "avxvnni")
