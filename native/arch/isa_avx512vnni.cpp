#define STORYCELL_SIMD "arch/simd_avx512.h"
#include "arch/kernels_for_isa.inc"
STORYCELL_KERNELS(kAvx512Vnni, "avx512vnni")
