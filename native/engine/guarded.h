// The boundary that no exception crosses: out of a thread of the pool, or into C.
#pragma once
#include <new>

#include "engine/arguments.h"

namespace storycell {

// What `work` returns, or the status that stands for the exception it ended with. Without exceptions in the
// build (WebAssembly) what would have thrown ends the program.
template <class Work>
Status guarded(Work&& work) noexcept {
#if defined(__cpp_exceptions)
    try {
        return work();
    } catch (const std::bad_alloc&) {
        return kNoMemory;
    } catch (...) {
        return kFailed;
    }
#else
    return work();
#endif
}

}  // namespace storycell
