#include "engine/through_time.h"

#include <algorithm>
#include <atomic>

#include "engine/pool.h"

namespace storycell {

namespace {

// A thread that reads its weights from the second-level cache takes as long for one row as for two thirds of a tile.
int64_t rows_paid(const Kernels& k, int64_t rows) { return std::max<int64_t>(rows, k.rows * 2 / 3); }

int64_t divided(int64_t n, int64_t by) { return (n + by - 1) / by; }

// Threads that share streams meet after every step, which takes as long as a product with some of these.
constexpr int64_t kLeastWeights = int64_t{1} << 15;  // of a share
constexpr double kWorthMeeting = 0.85;               // of the time without

}  // namespace

// By what a thread pays for a step: its rows times its panels.
Grid choose_grid(const Kernels& k, const Recurrence& a, int64_t panels, int threads) {
    const auto paid = [&](int64_t groups, int64_t shares) {
        return static_cast<double>(rows_paid(k, divided(a.streams, groups)) * divided(panels, shares));
    };
    const int64_t weights = kCells[a.cell].gates * a.units * a.units;
    Grid best{std::min<int64_t>(a.streams, threads), 1};
    const int64_t most = a.precision == kBlas || a.gate_bias ? 1 : std::min({int64_t{threads}, kMostShares, panels, weights / kLeastWeights});
    for (int64_t shares = 2; shares <= most; ++shares) {
        const Grid grid{std::min<int64_t>(a.streams, threads / shares), shares};
        const bool worth = a.steps * a.streams * weights >= kWorthAThread * grid.groups * shares;
        if (worth && grid.groups <= kMostGroups &&
            paid(grid.groups, shares) < kWorthMeeting * paid(best.groups, best.shares))
            best = grid;
    }
    return best;
}

namespace {

// One share of the units of one group, each on a cache line of its own.
struct alignas(64) Share {
    std::atomic<int64_t> begun{0}, finished{0};  // steps
    std::atomic<bool> attended{false};           // by the thread whose share it is
};

// How often a thread looks before it takes what another has not begun, before it lets other threads run (where there are
// fewer cores than threads, or others want them), and before it leaves its share to whoever has the first one.
constexpr int kPatience = 2000, kSpins = 4000, kMostLooks = 4200;

struct Group {
    Share* share;
    int64_t shares, steps;
    RecurrenceKernel* kernel;
    const Recurrence* arguments;
    RecurrencePart part;
    std::atomic<int> status{kOk};

    bool take(int64_t s, int64_t t) {
        int64_t expected = t;
        if (share[s].begun.load(std::memory_order_relaxed) != t ||
            !share[s].begun.compare_exchange_strong(expected, t + 1, std::memory_order_relaxed))
            return false;
        RecurrencePart mine = part;
        mine.begin = t, mine.end = t + 1, mine.share = s, mine.shares = shares;
        if (const Status bad = kernel(*arguments, mine)) status = bad;
        share[s].finished.store(t + 1, std::memory_order_release);
        return true;
    }

    bool all_finished(int64_t t) const {
        for (int64_t s = 0; s < shares; ++s)
            if (share[s].finished.load(std::memory_order_acquire) <= t) return false;
        return true;
    }

    // Returns when all is finished; but for the first share's thread also when it has nothing to do for long.
    Status attend(int64_t own) {
        for (int64_t t = 0; t < steps; ++t) {
            share[own].attended.store(true, std::memory_order_relaxed);
            take(own, t);
            for (int64_t looks = 0; !all_finished(t); ++looks) {
                bool took = false;
                for (int64_t i = 1; i < shares && !took; ++i) {
                    Share& other = share[(own + i) % shares];
                    if (looks >= kPatience) other.attended.store(false, std::memory_order_relaxed);
                    if (!other.attended.load(std::memory_order_relaxed)) took = take((own + i) % shares, t);
                }
                if (took) continue;
                if (looks >= kMostLooks && own) {
                    share[own].attended.store(false, std::memory_order_relaxed);
                    return kOk;
                }
                rest(looks >= kSpins);
            }
        }
        return static_cast<Status>(status.load());
    }
};

}  // namespace

Status through_time(RecurrenceKernel* kernel, const Recurrence& a, int64_t steps, Grid grid) {
    if (grid.shares == 1) {
        const int64_t together = a.gate_bias ? streams_together(a.streams) : 1;  // whose gradients have one sum
        return split(divided(a.streams, together), 1, static_cast<int>(grid.groups), [&](int64_t first, int64_t last) {
            return kernel(a, {first * together, std::min(last * together, a.streams), 0, steps, 0, 1});
        });
    }
    Share shares[kMostGroups * kMostShares];
    Group groups[kMostGroups];
    for (int64_t g = 0; g < grid.groups; ++g)
        groups[g].share = shares + g * grid.shares, groups[g].shares = grid.shares, groups[g].steps = steps,
        groups[g].kernel = kernel, groups[g].arguments = &a,
        groups[g].part = {a.streams * g / grid.groups, a.streams * (g + 1) / grid.groups, 0, 0, 0, 0};
    const int64_t members = grid.groups * grid.shares;
    return split(members, 1, static_cast<int>(members), [&](int64_t first, int64_t last) {
        Status status = kOk;
        for (int64_t m = first; m < last; ++m)
            if (const Status bad = groups[m / grid.shares].attend(m % grid.shares)) status = bad;
        return status;
    });
}

}  // namespace storycell
