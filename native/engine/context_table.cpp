#include "engine/context_table.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/pool.h"
#include "ops/prefetch.h"

namespace storycell {
namespace {

constexpr int64_t kBlockRows = 64;  // rows whose squares are one sum
constexpr float kTinySum = 1e-20f;  // keeps a gradient of zero from being divided by

void add(const float* from, float* to, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[i] += from[i];
}

}  // namespace

ContextTable::ContextTable(const ContextShape& shape, int64_t columns, int64_t width)
    : shape(shape), rows(shape.rows()), columns(columns), width(width) {
    if (!shape.any()) return;
    weight.zeros(rows * width);
    slot.assign(static_cast<size_t>(rows), -1);
}

Status ContextTable::look_up(int64_t streams, int64_t steps, const int64_t* ids, const uint8_t* resets, bool carries,
                             const float* embedding, float* to, int threads) {
    const int64_t N = shape.met(), P = shape.memory();
    for (const int64_t row : met) slot[static_cast<size_t>(row)] = -1;
    met.clear();
    B = streams, T = steps, ids_ = ids;
    here.resize(static_cast<size_t>(B * T * N));
    places.resize(here.size());
    met.reserve(static_cast<size_t>(std::min(rows, B * T * N)));
    next_past.assign(static_cast<size_t>(B * P), 0);
    const bool goes_on = carries && !past.empty();
    const Status bad = split(B, 1, threads, [&](int64_t first, int64_t last) {
        Context context(shape);
        for (int64_t b = first; b < last; ++b) {
            context.begin(goes_on && !(resets && resets[b]) ? past.data() + b * P : nullptr);
            for (int64_t t = 0; t < T; ++t) context.meet(ids[b * T + t], here.data() + (b * T + t) * N);
            context.end(next_past.data() + b * P);
        }
        return kOk;
    });
    if (bad) return bad;
    for (int64_t i = 0; i < B * T; ++i)
        for (int64_t n = 0; n < N; ++n) {
            const int64_t row = here[static_cast<size_t>(i * N + n)];
            int32_t& place = slot[static_cast<size_t>(row)];
            if (place < 0) {
                place = static_cast<int32_t>(met.size());
                met.push_back(row);
            }
            places[static_cast<size_t>((i % T * B + i / T) * N + n)] = place;
        }
    return split(T * B, 256, threads, [&](int64_t first, int64_t last) {
        for (int64_t r = first; r < last; ++r) {
            const int32_t* place = places.data() + r * N;
            if (r + kAhead < last)
                for (int64_t n = 0; n < N; ++n)
                    fetch(weight.data() + met[place[kAhead * N + n]] * width, width, false);
            std::copy_n(embedding + ids[r % B * T + r / B] * width, width, to + r * width);
            for (int64_t n = 0; n < N; ++n) add(weight.data() + met[place[n]] * width, to + r * width, width);
        }
        return kOk;
    });
}

// Threads share the columns, and each adds up all rows in their order.
Status ContextTable::spread(const float* from, int64_t characters, float* embedding, int threads) {
    const int64_t N = shape.met();
    float* const to = gradient.room(static_cast<int64_t>(met.capacity()) * width);  // no later chunk asks for more
    return split(width / 16, 1, threads, [&](int64_t first, int64_t last) {
        const int64_t at = first * 16, count = (last - first) * 16;
        for (size_t m = 0; m < met.size(); ++m) std::fill_n(to + static_cast<int64_t>(m) * width + at, count, 0.0f);
        for (int64_t v = 0; v < characters; ++v) std::fill_n(embedding + v * width + at, count, 0.0f);
        for (int64_t r = 0; r < T * B; ++r) {
            const int32_t* place = places.data() + r * N;
            const float* row = from + r * width + at;
            if (r + kAhead < T * B)
                for (int64_t n = 0; n < N; ++n) fetch(to + place[kAhead * N + n] * width + at, count, true);
            add(row, embedding + ids_[r % B * T + r / B] * width + at, count);
            for (int64_t n = 0; n < N; ++n) add(row, to + place[n] * width + at, count);
        }
        return kOk;
    });
}

Status ContextTable::squares(double& all_squares, int threads) {
    const auto all = static_cast<int64_t>(met.size()) * width, block = kBlockRows * width;
    sums.reserve(met.capacity() / kBlockRows + 1);
    sums.assign(static_cast<size_t>((all + block - 1) / block), 0.0);
    const Status status = split(static_cast<int64_t>(sums.size()), 4, threads, [&](int64_t first, int64_t last) {
        for (int64_t b = first; b < last; ++b)
            sums[static_cast<size_t>(b)] = sum_of_squares(gradient.data() + b * block, std::min(block, all - b * block));
        return kOk;
    });
    for (double sum : sums) all_squares += sum;
    return status;
}

void ContextTable::dense_gradient(float* to) const {
    std::fill_n(to, rows * width, 0.0f);
    for (size_t m = 0; m < met.size(); ++m)
        std::copy_n(gradient.data() + static_cast<int64_t>(m) * width, width, to + met[m] * width);
}

void ContextTable::read_met(int64_t* to, float* gradients) const {
    std::vector<int32_t> order(met.size());
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return met[a] < met[b]; });
    for (const int32_t m : order) {
        *to++ = met[static_cast<size_t>(m)];
        gradients = std::copy_n(gradient.data() + m * width, columns, gradients);
    }
}

void ContextTable::write_met(int64_t count, const int64_t* from, const float* gradients) {
    met.reserve(static_cast<size_t>(count));
    float* const to = gradient.zeros(static_cast<int64_t>(met.capacity()) * width);
    for (const int64_t row : met) slot[static_cast<size_t>(row)] = -1;
    met.assign(from, from + count);
    for (int64_t m = 0; m < count; ++m) {
        slot[static_cast<size_t>(from[m])] = static_cast<int32_t>(m);
        std::copy_n(gradients + m * columns, columns, to + m * width);
    }
}

Status ContextTable::move(double factor, double rate, bool descends, int threads) {
    return split(static_cast<int64_t>(met.size()), 256, threads, [&](int64_t first, int64_t last) {
        for (int64_t m = first; m < last; ++m) {
            const float* from = gradient.data() + m * width;
            if (m + kAhead < last) {
                const int64_t next = met[static_cast<size_t>(m + kAhead)];
                fetch(weight.data() + next * width, width, true);
                if (!descends) fetch(sum.data() + next, 1, true);
            }
            float* row = weight.data() + met[static_cast<size_t>(m)] * width;
            double by = rate * factor;
            if (!descends) {
                float& all = sum.data()[met[static_cast<size_t>(m)]];
                all += sum_of_squares(from, width) * static_cast<float>(factor * factor / static_cast<double>(columns));
                by *= kRate / std::sqrt(static_cast<double>(std::max(all, kTinySum)));
            }
            const auto step = static_cast<float>(by);
            for (int64_t i = 0; i < width; ++i) row[i] -= step * from[i];
        }
        return kOk;
    });
}

}  // namespace storycell
