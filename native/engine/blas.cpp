#include "engine/blas.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

#ifdef STORYCELL_BLAS
#include <dlfcn.h>
#endif

namespace storycell {
namespace {

struct Blas {
    Sgemm multiply = nullptr;
    const char* name = "";
};

#ifdef STORYCELL_BLAS
Blas load() {
#ifdef __APPLE__
    constexpr const char *name = "Accelerate", *file = "/System/Library/Frameworks/Accelerate.framework/Accelerate";
#else
    constexpr const char *name = "OpenBLAS", *file = "libopenblas.so.0";
#endif
    void* const library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    void* const found = library ? dlsym(library, "cblas_sgemm") : nullptr;
    if (!found) return {};
    // The work is split here; threads of OpenBLAS's own would be too many.
    if (void* const threads = dlsym(library, "openblas_set_num_threads")) reinterpret_cast<void (*)(int)>(threads)(1);
    return {reinterpret_cast<Sgemm>(found), name};
}
#else
Blas load() { return {}; }
#endif

const Blas& blas() {
    static const Blas loaded = load();
    return loaded;
}

enum Choice : int { kUnasked, kWhereItWins, kAlways, kNever };
std::atomic<int> choice{kUnasked};

int parse(const char* word) {
    if (!word || !*word) return kWhereItWins;
    if (!std::strcmp(word, "on")) return kAlways;
    return std::strcmp(word, "off") ? kUnasked : kNever;
}

int chosen() {
    int now = choice.load();
    if (now == kUnasked) {
        now = parse(std::getenv("STORYCELL_BLAS"));
        if (now == kUnasked) now = kWhereItWins;  // a word that says nothing
        choice.store(now);
    }
    return now;
}

}  // namespace

Sgemm sgemm() { return chosen() == kNever ? nullptr : blas().multiply; }
const char* blas_name() { return chosen() == kNever ? "" : blas().name; }

bool use_blas(const char* word) {
    const int wanted = parse(word);
    if (wanted == kUnasked || (wanted == kAlways && !blas().multiply)) return false;
    choice.store(wanted);
    return true;
}

bool blas_wins(int64_t streams, int64_t units) {
    if (!sgemm()) return false;
    if (chosen() == kAlways) return true;
#if defined(__APPLE__) && defined(__aarch64__)
    // The matrix unit works on 16 rows at a time; published for products of 64 x 64 x 64 on an M1 Max: four times a core's
    // NEON, and ten times for 256.
    return streams >= 16 && units >= 64;
#else
    (void)streams, (void)units;
    return false;  // OpenBLAS has the same instructions as the kernels here, which lose no time to its packing
#endif
}

}  // namespace storycell
