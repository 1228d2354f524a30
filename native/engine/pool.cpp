#include "engine/pool.h"

#include <algorithm>

// STORYCELL_NO_THREADS: for systems that have none; the caller computes everything.
#if defined(__wasm__) && !defined(__wasm_atomics__) && !defined(STORYCELL_NO_THREADS)
#define STORYCELL_NO_THREADS
#endif
#ifndef STORYCELL_NO_THREADS
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <new>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define STORYCELL_FORKS
#endif
#endif

namespace storycell {

#ifdef STORYCELL_NO_THREADS

void rest(bool) {}

Status split(int64_t count, int64_t, int,
             Status (*part)(void* context, int64_t first, int64_t last) noexcept, void* context) {
    return count > 0 ? part(context, 0, count) : kOk;
}

#else

namespace {

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// A training step calls the pool a dozen times in close succession, with Python in between, so a
// waiting thread first spins (waking one that sleeps takes 0.05 ms) and only then sleeps; longer
// spins would steal time from the host program's own threads on a busy machine. By the clock, for
// a pause of the processor lasts from ten to a hundred cycles.
constexpr std::chrono::microseconds kSpin{200};

template <class Ready>
void spin_until(Ready ready) {
    const auto end = std::chrono::steady_clock::now() + kSpin;
    do {
        for (int i = 0; i < 32; ++i) {
            if (ready()) return;
            relax();
        }
    } while (std::chrono::steady_clock::now() < end);
}

struct Job {
    Status (*part)(void* context, int64_t first, int64_t last) noexcept;
    void* context;
    int64_t count;
    int parts;
};

// Parts are taken by whoever is free: a worker that the system wakes late (another library's
// threads may still be spinning on its core) does not hold up small jobs. The parts' boundaries
// are fixed, so who computes them changes no bit of the results.
struct Pool {
    std::mutex turn;  // one caller at a time; guards `threads`
    int threads = 0;
    std::mutex lock;  // guards all below
    std::condition_variable wake, finished;
    std::atomic<int> open{0};        // parts nobody has taken
    std::atomic<int> unfinished{0};  // parts not yet computed
    Job job{};
    Status status = kOk;  // of the first part, in order, that failed
    int failed = 0;       // which that is

    bool take_and_run() {
        Job mine;
        int index;
        {
            std::lock_guard<std::mutex> hold(lock);
            if (open.load() == 0) return false;
            mine = job;
            index = mine.parts - open.fetch_sub(1);
        }
        const int64_t first = mine.count * index / mine.parts;
        const int64_t last = mine.count * (index + 1) / mine.parts;
        const Status ended = first < last ? mine.part(mine.context, first, last) : kOk;
        std::lock_guard<std::mutex> hold(lock);
        if (ended && (!status || index < failed)) {
            status = ended;
            failed = index;
        }
        if (unfinished.fetch_sub(1) == 1) finished.notify_one();
        return true;
    }

    void serve() {
        for (;;) {
            spin_until([&] { return open.load(std::memory_order_relaxed) > 0; });
            if (!take_and_run()) {
                std::unique_lock<std::mutex> hold(lock);
                wake.wait(hold, [&] { return open.load() > 0; });
            }
        }
    }

    // With fewer threads than asked for, the others and the caller take more parts each.
    void start_threads(int wanted) {
        while (threads < wanted) {
            const Status started = guarded([this] {
                std::thread([this] { serve(); }).detach();
                return kOk;
            });
            if (started) return;
            ++threads;
        }
    }

    Status run(const Job& next) {
        std::lock_guard<std::mutex> mine(turn);
        start_threads(next.parts - 1);
        {
            std::lock_guard<std::mutex> hold(lock);
            job = next;
            status = kOk;
            unfinished.store(next.parts);
            open.store(next.parts);
        }
        wake.notify_all();
        while (take_and_run()) {
        }
        spin_until([&] { return unfinished.load(std::memory_order_relaxed) == 0; });
        std::unique_lock<std::mutex> hold(lock);
        finished.wait(hold, [&] { return unfinished.load() == 0; });
        return status;
    }
};

// Never destroyed: its threads may outlive static destructors. A forked child has none of the
// parent's threads, and locks that somebody else may have held: it begins anew in the same place.
alignas(Pool) unsigned char place[sizeof(Pool)];
Pool* pool = nullptr;

void renew() { pool = new (place) Pool; }

bool begin() {
    renew();
#ifdef STORYCELL_FORKS
    return pthread_atfork(nullptr, nullptr, renew) == 0;
#else
    return true;
#endif
}

}  // namespace

void rest(bool long_since) {
    if (long_since) std::this_thread::yield();
    else relax();
}

Status split(int64_t count, int64_t grain, int threads,
             Status (*part)(void* context, int64_t first, int64_t last) noexcept, void* context) {
    const int64_t parts = std::min<int64_t>(threads, (count + grain - 1) / grain);
    if (count <= 0) return kOk;
    if (parts > 1) {
        static const bool usable = begin();  // not where a child could not be told of its fork
        if (usable) return pool->run({part, context, count, static_cast<int>(parts)});
    }
    return part(context, 0, count);
}

#endif

}  // namespace storycell
