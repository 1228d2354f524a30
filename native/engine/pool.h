// A pool of threads that split a range into equal parts with fixed boundaries. Every kernel gives
// each row or column the same bits wherever the boundaries fall, so results are repeatable.
#pragma once
#include <cstdint>
#include <type_traits>

#include "engine/arguments.h"
#include "engine/guarded.h"

namespace storycell {

// Multiplications that are worth another thread: waking one takes as long as a part of these.
constexpr int64_t kWorthAThread = int64_t{1} << 22;

// A moment of waiting for another thread; `long_since`: let other threads have the core.
void rest(bool long_since);

// Calls part(context, first, last) for consecutive parts of [0, count), at most `threads` and none
// smaller than about `grain`, and returns when all have finished; the caller takes parts too, and all of
// them where no thread can be started. Every part is computed whatever becomes of the others; the status is
// that of the first, in order, that failed. Allocates nothing but threads. Concurrent callers take turns;
// `part` must not call split. In a forked child the pool begins anew.
Status split(int64_t count, int64_t grain, int threads,
             Status (*part)(void* context, int64_t first, int64_t last) noexcept, void* context);

// The same for a function object: Status work(first, last). It may throw: see `guarded`.
template <class Work>
Status split(int64_t count, int64_t grain, int threads, Work&& work) {
    using W = std::remove_reference_t<Work>;
    return split(
        count, grain, threads,
        [](void* context, int64_t first, int64_t last) noexcept {
            return guarded([&] { return (*static_cast<W*>(context))(first, last); });
        },
        const_cast<void*>(static_cast<const void*>(&work)));
}

}  // namespace storycell
