// A pool of threads that split a range into equal parts with fixed boundaries. Every kernel gives
// each row or column the same bits wherever the boundaries fall, so results are repeatable.
#pragma once
#include <cstdint>
#include <functional>

namespace storycell {

// Calls work(first, last) for consecutive parts of [0, count), at most `threads` and none smaller
// than about `grain`, and returns when all have finished; the caller takes parts too. Concurrent
// callers take turns; `work` must not call split.
void split(int64_t count, int64_t grain, int threads,
           const std::function<void(int64_t, int64_t)>& work);

}  // namespace storycell
