#include "isa.h"

#include <cstring>

namespace storycell {

extern const Kernels kPortable;
#ifdef STORYCELL_X86
extern const Kernels kAvx2, kAvx512, kAvx512Bf16;
#endif

namespace {

// __builtin_cpu_supports also asks the operating system (XGETBV) whether it saves the registers.
bool runs(const Kernels* k) {
#ifdef STORYCELL_X86
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("f16c");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512dq");
    if (k == &kAvx2) return avx2;
    if (k == &kAvx512) return avx512;
    if (k == &kAvx512Bf16) return avx512 && __builtin_cpu_supports("avx512bf16");
#endif
    return k == &kPortable;
}

const Kernels* const kAll[] = {
#ifdef STORYCELL_X86
    &kAvx512Bf16, &kAvx512, &kAvx2,
#endif
    &kPortable,
};

}  // namespace

const Kernels* kernels_named(const char* name) {
    for (const Kernels* k : kAll)
        if (!std::strcmp(k->name, name)) return runs(k) ? k : nullptr;
    return nullptr;
}

const Kernels* best_kernels() {
    for (const Kernels* k : kAll)
        if (runs(k)) return k;
    return &kPortable;
}

}  // namespace storycell
