#include "arch/isa.h"

#include <cstring>

#ifdef STORYCELL_X86
#include <cpuid.h>
#endif
#if defined(STORYCELL_AMX) && !defined(STORYCELL_EMULATE_AMX)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#ifdef STORYCELL_ARM_BF16
#if defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(_WIN32)
#include <windows.h>
#endif
#endif

namespace storycell {

extern const Kernels kPortable;
#ifdef STORYCELL_X86
extern const Kernels kAvx2, kAvx512, kAvx512Vnni, kAvx512Bf16;
#endif
#ifdef STORYCELL_AVXVNNI
extern const Kernels kAvxVnni;
#endif
#ifdef STORYCELL_ARM
extern const Kernels kNeon;
#endif
#ifdef STORYCELL_ARM_BF16
extern const Kernels kNeonBf16, kBfmmla;
#endif
#ifdef STORYCELL_AMX
extern const Kernels kAmx;
bool amx_multiplies();
#endif

namespace {

#ifdef STORYCELL_AMX
// Whether the processor has tiles for bfloat16 and the system lets this process use them: their
// registers are so large that Linux wants to be asked, once for all threads.
bool amx_permitted() {
#ifdef STORYCELL_EMULATE_AMX
    return true;
#else
    if (!__builtin_cpu_supports("avx512bf16")) return false;
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    constexpr unsigned amx_bf16 = 1u << 22, amx_tile = 1u << 24;  // compilers differ in their names
    if (!(d & amx_bf16) || !(d & amx_tile)) return false;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return false;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    constexpr unsigned tile_state = 3u << 17;  // configuration and data
    if ((low & tile_state) != tile_state) return false;
    constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#endif
}

// Asked once; a machine that claims AMX but multiplies wrongly on it is not offered it.
bool amx_works() {
    static const bool works = amx_permitted() && amx_multiplies();
    return works;
}
#endif

// __builtin_cpu_supports also asks the operating system (XGETBV) whether it saves the registers.
#ifdef STORYCELL_X86
bool runs_avx2() {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("f16c");
}

bool runs_avx512() {
    return runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

bool runs_avx512vnni() { return runs_avx512() && __builtin_cpu_supports("avx512vnni"); }
bool runs_avx512bf16() { return runs_avx512vnni() && __builtin_cpu_supports("avx512bf16"); }
#endif
#ifdef STORYCELL_AVXVNNI
// Not every compiler's __builtin_cpu_supports knows it.
bool runs_avxvnni() {
    unsigned a, b, c, d;
    return runs_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & (1u << 4));
}
#endif
#ifdef STORYCELL_AMX
bool runs_amx() {
#ifdef STORYCELL_EMULATE_AMX
    return runs_avx512() && amx_works();
#else
    return runs_avx512vnni() && amx_works();
#endif
}
#endif
#ifdef STORYCELL_ARM_BF16
// BFCVT, BFDOT and BFMMLA come together (FEAT_BF16). Systems that say nothing are taken to have none.
bool runs_neonbf16() {
#if defined(__linux__)
    constexpr unsigned long bf16 = 1ul << 14;  // HWCAP2_BF16, which older headers lack
    return getauxval(AT_HWCAP2) & bf16;
#elif defined(__APPLE__)
    int has = 0;
    size_t size = sizeof has;
    return sysctlbyname("hw.optional.arm.FEAT_BF16", &has, &size, nullptr, 0) == 0 && has;
#elif defined(_WIN32)
    constexpr DWORD bf16 = 68;  // PF_ARM_V86_BF16_INSTRUCTIONS_AVAILABLE
    return IsProcessorFeaturePresent(bf16);
#else
    return false;
#endif
}
#endif
bool runs_always() { return true; }

struct InstructionSet {
    const Kernels* kernels;
    bool (*runs)();  // on this processor, under this operating system
};

const InstructionSet kBestFirst[] = {
#ifdef STORYCELL_AMX
    {&kAmx, runs_amx},
#endif
#ifdef STORYCELL_X86
    {&kAvx512Bf16, runs_avx512bf16}, {&kAvx512Vnni, runs_avx512vnni}, {&kAvx512, runs_avx512},
#endif
#ifdef STORYCELL_AVXVNNI
    {&kAvxVnni, runs_avxvnni},
#endif
#ifdef STORYCELL_X86
    {&kAvx2, runs_avx2},
#endif
#ifdef STORYCELL_ARM_BF16
    {&kBfmmla, runs_neonbf16}, {&kNeonBf16, runs_neonbf16},
#endif
#ifdef STORYCELL_ARM
    {&kNeon, runs_always},
#endif
    {&kPortable, runs_always},
};

}  // namespace

const Kernels* kernels_named(const char* name) {
    for (const InstructionSet& set : kBestFirst)
        if (!std::strcmp(set.kernels->name, name)) return set.runs() ? set.kernels : nullptr;
    return nullptr;
}

const Kernels* best_kernels() {
    for (const InstructionSet& set : kBestFirst)
        if (set.runs()) return set.kernels;
    return &kPortable;
}

}  // namespace storycell
