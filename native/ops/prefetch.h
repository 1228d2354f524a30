// Asking for memory before it is needed.
#pragma once
#include <cstdint>

namespace {

// Always inlined, for a function that only prefetches looks to GCC like one without effects.
#if defined(__GNUC__)
#define STORYCELL_INLINE inline __attribute__((always_inline))
#else
#define STORYCELL_INLINE inline
#endif

template <class T>
STORYCELL_INLINE void fetch(const T* from, int64_t count, bool writes) {
    for (int64_t i = 0; i < count; i += 64 / static_cast<int64_t>(sizeof(T))) {
        if (writes) __builtin_prefetch(from + i, 1);
        else __builtin_prefetch(from + i);
    }
}

}  // namespace
