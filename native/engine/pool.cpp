#include "engine/pool.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace storycell {
namespace {

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
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

// Parts are taken by whoever is free: a worker that the system wakes late (another library's
// threads may still be spinning on its core) does not hold up small jobs. The parts' boundaries
// are fixed, so who computes them changes no bit of the results.
struct Pool {
    std::mutex turn;  // one caller at a time
    std::mutex lock;  // guards all below
    std::condition_variable wake, finished;
    std::atomic<int> open{0};        // parts nobody has taken
    std::atomic<int> unfinished{0};  // parts not yet computed
    const std::function<void(int64_t, int64_t)>* work = nullptr;
    int64_t count = 0;
    int parts = 0, threads = 0;

    bool take_and_run() {
        int index, n;
        int64_t total;
        const std::function<void(int64_t, int64_t)>* function;
        {
            std::lock_guard<std::mutex> hold(lock);
            if (open.load() == 0) return false;
            n = parts;
            index = n - open.fetch_sub(1);
            total = count;
            function = work;
        }
        const int64_t first = total * index / n, last = total * (index + 1) / n;
        if (first < last) (*function)(first, last);
        std::lock_guard<std::mutex> hold(lock);
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

    void run(int64_t n, int wanted, const std::function<void(int64_t, int64_t)>& function) {
        std::lock_guard<std::mutex> mine(turn);
        for (; threads < wanted - 1; ++threads) std::thread([this] { serve(); }).detach();
        {
            std::lock_guard<std::mutex> hold(lock);
            work = &function;
            count = n;
            parts = wanted;
            unfinished.store(wanted);
            open.store(wanted);
        }
        wake.notify_all();
        while (take_and_run()) {
        }
        spin_until([&] { return unfinished.load(std::memory_order_relaxed) == 0; });
        std::unique_lock<std::mutex> hold(lock);
        finished.wait(hold, [&] { return unfinished.load() == 0; });
    }
};

// Leaked on purpose: its threads may outlive static destructors. A forked child has none of the
// parent's threads and starts a pool of its own.
Pool* pool = nullptr;
std::once_flag once;

void renew() { pool = new Pool; }

}  // namespace

void split(int64_t count, int64_t grain, int threads,
           const std::function<void(int64_t, int64_t)>& work) {
    threads = static_cast<int>(std::min<int64_t>(threads, (count + grain - 1) / grain));
    if (threads <= 1) {
        if (count > 0) work(0, count);
        return;
    }
    std::call_once(once, [] {
        renew();
        pthread_atfork(nullptr, nullptr, renew);
    });
    pool->run(count, threads, work);
}

}  // namespace storycell
