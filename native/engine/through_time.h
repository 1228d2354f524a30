// One layer's run through time on several threads. Streams never meet, so each thread takes some of them and runs all
// steps without waiting for another. Where that leaves a thread few rows, or none, threads share streams instead: each
// has some of the units, and none begins a step before all have finished the one before. Which thread computes what
// changes no bit.
#pragma once
#include <cstdint>

#include "engine/arguments.h"

namespace storycell {

struct Grid {  // threads: `groups` of streams, each of as many threads as it has `shares` of the units
    int64_t groups, shares;
};

constexpr int64_t kMostGroups = 64, kMostShares = 8;  // of a grid that shares units

// For a product of `panels` panels in a step.
Grid choose_grid(const Kernels& k, const Recurrence& a, int64_t panels, int threads);
// All of `steps` (RecurrencePart), by a kernel of those in use. Never waits for a thread that is not running: what nobody
// has begun is taken by whoever waits for it, so one thread alone finishes too, if later.
Status through_time(RecurrenceKernel* kernel, const Recurrence& a, int64_t steps, Grid grid);

}  // namespace storycell
