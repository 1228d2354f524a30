#include "arch/isa.h"

#include <cstring>

#ifdef STORYCELL_X86
#include <cpuid.h>
#endif
#if defined(STORYCELL_AMX) && !defined(STORYCELL_EMULATE_AMX)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#ifdef STORYCELL_ARM_EXTENSIONS
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
#ifdef STORYCELL_ARM_EXTENSIONS
extern const Kernels kNeonDot, kNeonBf16, kBfmmla;
#endif
#ifdef STORYCELL_AMX
extern const Kernels kAmx;
bool amx_multiplies();
#endif

namespace {

#ifdef STORYCELL_X86
// What the processor says of itself (CPUID), and which registers the operating system saves (XCR0): asked here, since
// __builtin_cpu_supports is nothing but 0 in a library that Zig has linked.
struct Processor {
    unsigned leaf1c = 0, leaf7b = 0, leaf7c = 0, leaf7d = 0, leaf71a = 0, saved = 0;

    Processor() {
        unsigned a, b, c, d, high;
        if (!__get_cpuid(1, &a, &b, &leaf1c, &d)) return;
        if (leaf1c & (1u << 27)) __asm__ volatile("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
        if (!__get_cpuid_count(7, 0, &a, &leaf7b, &leaf7c, &leaf7d)) return;
        if (a >= 1) __get_cpuid_count(7, 1, &leaf71a, &b, &c, &d);
    }
    bool saves(unsigned registers) const { return (saved & registers) == registers; }
};

const Processor& processor() {
    static const Processor found;
    return found;
}

bool has(unsigned leaf, int bit) { return leaf >> bit & 1; }
#endif

#ifdef STORYCELL_AMX
// Whether the processor has tiles for bfloat16 and the system lets this process use them: their
// registers are so large that Linux wants to be asked, once for all threads.
bool amx_permitted() {
#ifdef STORYCELL_EMULATE_AMX
    return true;
#else
    constexpr int amx_bf16 = 22, amx_tile = 24;
    constexpr unsigned tile_state = 3u << 17;  // configuration and data
    const Processor& cpu = processor();
    if (!has(cpu.leaf7d, amx_bf16) || !has(cpu.leaf7d, amx_tile) || !cpu.saves(tile_state)) return false;
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

#ifdef STORYCELL_X86
bool runs_avx2() {
    const Processor& cpu = processor();
    constexpr int fma = 12, avx = 28, f16c = 29, avx2 = 5;
    return has(cpu.leaf1c, fma) && has(cpu.leaf1c, avx) && has(cpu.leaf1c, f16c) && has(cpu.leaf7b, avx2) &&
           cpu.saves(0x6);  // registers of 256 bits
}

bool runs_avx512() {
    const Processor& cpu = processor();
    constexpr int f = 16, dq = 17, bw = 30, vl = 31;
    return runs_avx2() && has(cpu.leaf7b, f) && has(cpu.leaf7b, dq) && has(cpu.leaf7b, bw) && has(cpu.leaf7b, vl) &&
           cpu.saves(0xe6);  // masks and 512 bits, too
}

bool runs_avx512vnni() { return runs_avx512() && has(processor().leaf7c, 11); }
bool runs_avx512bf16() { return runs_avx512vnni() && has(processor().leaf71a, 5); }
#endif
#ifdef STORYCELL_AVXVNNI
bool runs_avxvnni() { return runs_avx2() && has(processor().leaf71a, 4); }
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
#ifdef STORYCELL_ARM_EXTENSIONS
// Systems that say nothing are taken to have none. On Linux a bit of HWCAP or HWCAP2, which older headers lack; on Windows
// a PF_ number, likewise.
bool arm_has([[maybe_unused]] unsigned long hwcap, [[maybe_unused]] unsigned long hwcap2,
             [[maybe_unused]] const char* mac, [[maybe_unused]] unsigned windows) {
#if defined(__linux__)
    return (getauxval(AT_HWCAP) & hwcap) == hwcap && (getauxval(AT_HWCAP2) & hwcap2) == hwcap2;
#elif defined(__APPLE__)
    int has = 0;
    size_t size = sizeof has;
    return sysctlbyname(mac, &has, &size, nullptr, 0) == 0 && has;
#elif defined(_WIN32)
    return IsProcessorFeaturePresent(windows);
#else
    return false;
#endif
}

bool runs_neondot() { return arm_has(1ul << 20, 0, "hw.optional.arm.FEAT_DotProd", 43); }  // SDOT
// BFCVT, BFDOT and BFMMLA come together (FEAT_BF16).
bool runs_neonbf16() { return runs_neondot() && arm_has(0, 1ul << 14, "hw.optional.arm.FEAT_BF16", 68); }
// And SMMLA (FEAT_I8MM), which every processor with the former is known to have.
bool runs_bfmmla() { return runs_neonbf16() && arm_has(0, 1ul << 13, "hw.optional.arm.FEAT_I8MM", 66); }
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
#ifdef STORYCELL_ARM_EXTENSIONS
    {&kBfmmla, runs_bfmmla}, {&kNeonBf16, runs_neonbf16}, {&kNeonDot, runs_neondot},
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
