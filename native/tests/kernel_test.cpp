// The whole library under the address and undefined-behaviour sanitizers: every cell, precision
// and instruction set on odd sizes, with arrays of exactly the promised size on the heap. Checks
// the float32 products against plain loops; the recurrences against torch are in tests/native/. Memory
// is refused, and the work on threads made to fail, wherever either can happen.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "engine/context.h"
#include "engine/inference.h"
#include "engine/kernels.h"
#include "engine/pool.h"
#include "engine/storycell.h"
#include "engine/through_time.h"
#include "tests/scarce_memory.h"

using namespace storycell;

int model_failures();
int simd_portable();
#ifdef STORYCELL_X86
int simd_avx2();
int simd_avx512();
int simd_avx512vnni();
int simd_avx512bf16();
#endif
#ifdef STORYCELL_AVXVNNI
int simd_avxvnni();
#endif
#ifdef STORYCELL_ARM
int simd_neon();
#endif
#ifdef STORYCELL_ARM_EXTENSIONS
int simd_neondot();
int simd_neonbf16();
#endif

namespace {

int failures = 0;

void expect(bool ok, const char* what) {
    if (ok) return;
    ++failures;
    std::printf("FAILED: %s (%s)\n", what, storycell_isa());
}

// The call with each of its allocations refused in turn: it says so every time, and then works again.
template <class Call>
void survives_lack_of_memory(const char* what, Call call) {
    for (int n = 0;; ++n) {
        grant_allocations(n);
        const int status = call();
        const int refused = refused_allocations();
        grant_allocations(kUnlimited);
        if (!refused) {
            expect(n > 0, "the call allocates nothing, so this shows nothing");
            expect(status == kOk, what);
            return;
        }
        expect(status == kNoMemory, what);
    }
}

#ifndef STORYCELL_NO_THREADS
// Two parts that cannot both be computed by one thread; `fail` ends that of the caller or of the other.
template <class Fail>
Status meeting(bool of_caller, std::atomic<int>& ended, Fail fail) {
    std::atomic<int> arrived{0};
    const auto caller = std::this_thread::get_id();
    return split(2, 1, 2, [&](int64_t, int64_t) {
        ++arrived;
        while (arrived < 2) std::this_thread::yield();
        ++ended;
        if ((std::this_thread::get_id() == caller) == of_caller) return fail();
        return kOk;
    });
}

void failing_threads() {
    for (int round = 0; round < 50; ++round)
        for (bool of_caller : {true, false}) {
            std::atomic<int> ended{0};
            const auto full = [] { throw std::bad_alloc(); return kOk; };
            const auto strange = [] { throw 7; return kOk; };
            const auto refusing = [] { return kNotFinite; };
            expect(meeting(of_caller, ended, full) == kNoMemory, "a thread without memory");
            expect(meeting(of_caller, ended, strange) == kFailed, "a thread that throws");
            expect(meeting(of_caller, ended, refusing) == kNotFinite, "a thread that returns a status");
            expect(meeting(of_caller, ended, [] { return kOk; }) == kOk, "threads after a failure");
            expect(ended == 8, "every part ends before the call does");
        }
    for (int threads : {1, 2, 5}) {
        const Status status = split(threads, 1, threads, [](int64_t first, int64_t) {
            return first == 0 ? kOk : first == 1 ? kBadSize : kMissing;
        });
        expect(status == (threads == 1 ? kOk : kBadSize), "the first failure in order is told");
    }

    // More threads than ever before, and none can be started.
    std::atomic<int64_t> sum{0};
    grant_allocations(0);
    const Status status = split(100, 1, 64, [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) sum += i;
        return kOk;
    });
    const int refused = refused_allocations();
    grant_allocations(kUnlimited);
    expect(refused > 0 && status == kOk && sum == 4950, "work without the threads asked for");
}
#endif

float noise() { return static_cast<float>(std::rand()) / static_cast<float>(RAND_MAX) - 0.5f; }

std::vector<float> floats(int64_t n) {
    std::vector<float> v(static_cast<size_t>(n));
    for (float& x : v) x = noise();
    return v;
}

// n elements of either precision, exactly sized.
struct Elements {
    int64_t precision;
    std::vector<char> bytes;
    Elements(int64_t p, int64_t n) : precision(p), bytes(static_cast<size_t>(n * kElementBytes[p])) {}
    void* at(int64_t i) { return bytes.data() + i * kElementBytes[precision]; }
};

Elements elements(int64_t precision, const std::vector<float>& from) {
    Elements e(precision, static_cast<int64_t>(from.size()));
    const int64_t n = static_cast<int64_t>(from.size());
    expect(!storycell_convert(precision, from.data(), e.at(0), n, 2), "convert");
    return e;
}

// Small integers, whose products and sums are exact in any precision and order.
std::vector<float> integers(int64_t n) {
    std::vector<float> v(static_cast<size_t>(n));
    for (float& x : v) x = static_cast<float>(std::rand() % 9 - 4);
    return v;
}

void exact_products(int64_t precision, int64_t rows, int64_t inner, int64_t columns) {
    const auto left = integers(rows * inner), right = integers(inner * columns);
    const auto other = integers(rows * columns);
    auto l = elements(precision, left), o = elements(precision, other);
    Elements packed(precision, inner * columns);
    storycell_pack(precision, inner, columns, 0, right.data(), columns, 1, inner, columns,
                   packed.at(0), 1);
    std::vector<float> out(static_cast<size_t>(rows * columns));
    std::vector<float> grad(static_cast<size_t>(inner * columns));
    Product p{precision, rows, inner, columns, l.at(0), inner, packed.at(0), nullptr, out.data(), 0};
    expect(!storycell_product(&p, 2), "exact product");
    TransposedProduct t{precision, rows, inner, columns, l.at(0), inner, o.at(0), columns,
                        grad.data(), nullptr, nullptr, nullptr, 0, 0, 0, 0};
    expect(!storycell_transposed(&t, 2), "exact transposed");
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t j = 0; j < columns; ++j) {
            float sum = 0;
            for (int64_t k = 0; k < inner; ++k) sum += left[r * inner + k] * right[k * columns + j];
            expect(sum == out[r * columns + j], "exact product value");
        }
    for (int64_t m = 0; m < inner; ++m)
        for (int64_t n = 0; n < columns; ++n) {
            float sum = 0;
            for (int64_t k = 0; k < rows; ++k) sum += left[k * inner + m] * other[k * columns + n];
            expect(sum == grad[m * columns + n], "exact transposed value");
        }
}

// Products of whole numbers of 8 bits, which are exact, of the sizes at which sums are largest too. Of each column one
// weight is 127 or -127, so that its scale is 1.
void byte_products(int64_t rows, int64_t inner, int64_t columns, bool largest) {
    std::vector<int8_t> left(static_cast<size_t>(rows * inner));
    std::vector<float> right(static_cast<size_t>(inner * columns));
    for (auto& x : left) x = static_cast<int8_t>(largest ? 127 - 254 * (std::rand() % 8 == 0) : std::rand() % 255 - 127);
    for (auto& x : right) x = static_cast<float>(largest ? 127 : std::rand() % 255 - 127);
    for (int64_t j = 0; j < columns; ++j) right[(j % inner) * columns + j] = j % 2 ? 127.0f : -127.0f;
    std::vector<char> packed(static_cast<size_t>(packed_bytes(kInt8, inner, columns)));
    expect(!storycell_pack(kInt8, inner, columns, 0, right.data(), columns, 1, inner, columns, packed.data(), 2), "pack");
    const auto bias = floats(columns);
    std::vector<float> out(static_cast<size_t>(rows * columns)), back = out;
    Product p{kInt8, rows, inner, columns, left.data(), inner, packed.data(), nullptr, out.data(), 0};
    expect(!storycell_product(&p, 2), "product of bytes");
    p.out = back.data(), p.descending = 1;
    expect(!storycell_product(&p, 1) && back == out, "threads and directions change no bits");
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t j = 0; j < columns; ++j) {
            int64_t sum = 0;
            for (int64_t k = 0; k < inner; ++k)
                sum += left[r * inner + k] * static_cast<int64_t>(right[k * columns + j]);
            expect(out[r * columns + j] == static_cast<float>(sum) * (1.0f / 127.0f), "exact product of bytes");
        }
    p.bias = bias.data(), p.left_stride = inner + 2;
    expect(storycell_product(&p, 1) == kBadSize, "rows that begin within a word refused");
}

// The whole of a two-layer network of 256, in int8, is read for each character: half of what bf16 reads.
void bytes_read() {
    const auto read = [](int64_t precision) {
        return 3 * packed_bytes(precision, 256, 4 * 256) + packed_bytes(precision, 256, 96);
    };
    expect(read(kInt8) < 850000 && read(kBfloat16) > 1600000, "bytes read for a character");
}

// A stream's states and gradients are, bit for bit, those it has alone.
void streams_apart(int64_t cell, int64_t precision, int64_t T, int64_t B, int64_t H) {
    const int64_t G = kCells[cell].gates, S = kCells[cell].saved;
    const auto weight = floats(G * H * H), input = floats(T * B * G * H), reset = floats(H);
    const auto start = floats(B * H);
    Elements forward(precision, G * H * H), backward(precision, G * H * H);
    storycell_pack(precision, H, H, G > 1 ? G : 0, weight.data(), 1, H, H, G * H, forward.at(0), 2);
    storycell_pack(precision, G * H, H, 0, weight.data(), H, 1, G * H, H, backward.at(0), 2);
    // Streams [first, first + n) alone: their gradients to the initial hidden state, [n, H].
    const auto gradients = [&](int64_t first, int64_t n, int threads) {
        Elements hidden(precision, (T + 1) * n * H), saved(precision, T * n * S * H);
        std::vector<float> cells(static_cast<size_t>((T + 1) * n * H), 0.25f), own, out;
        std::vector<float> carry(static_cast<size_t>(n * H), 0.25f), back = carry;
        for (int64_t t = 0; t < T; ++t)
            own.insert(own.end(), &input[(t * B + first) * G * H], &input[(t * B + first) * G * H] + n * G * H);
        const std::vector<float> initial(&start[first * H], &start[first * H] + n * H);
        storycell_convert(precision, initial.data(), hidden.at(0), n * H, 1);
        out.resize(static_cast<size_t>(n * H));
        Recurrence r{};
        r.cell = cell; r.precision = precision; r.steps = T; r.streams = n; r.units = H;
        r.packed = forward.at(0); r.projected = own.data(); r.reset_bias = reset.data();
        r.hidden = hidden.at(0); r.saved = saved.at(0);
        if (cell == kLstm) r.cell_state = cells.data(); else r.carry = carry.data();
        expect(!storycell_forward(&r, threads), "forward of some streams");
        r.packed = backward.at(0); r.grad_hidden = initial.data(); r.grad_carry = back.data();
        r.grad_initial = out.data();
        expect(!storycell_backward(&r, threads), "backward of some streams");
        return out;
    };
    const auto together = gradients(0, B, 1);
    expect(together == gradients(0, B, 3), "threads change no bits");
    for (int64_t b : {int64_t{0}, B / 2, B - 1}) {
        const auto alone = gradients(b, 1, 1);
        for (int64_t j = 0; j < H; ++j) expect(alone[j] == together[b * H + j], "streams apart");
    }
}

// All that a pass forth and back leaves, whatever threads share streams, units or both, is to the bit what one leaves.
void units_shared(int64_t cell, int64_t precision, int64_t T, int64_t B, int64_t H, bool one_thread) {
    const int64_t G = kCells[cell].gates, S = kCells[cell].saved, back = kCells[cell].back;
    const auto weight = floats(G * H * H), input = floats(T * B * G * H), reset = floats(H), start = floats(B * H);
    const auto grads = floats(T * B * H);
    Elements forward(precision, G * H * H), backward(precision, back * H * H);
    storycell_pack(precision, H, H, G > 1 ? G : 0, weight.data(), 1, H, H, G * H, forward.at(0), 1);
    storycell_pack(precision, back * H, H, 0, weight.data(), H, 1, back * H, H, backward.at(0), 1);
    // With `one_thread` no other can be started.
    const auto passed = [&](RecurrenceKernel* kernel, const Recurrence& r, int64_t steps, Grid grid) {
        grant_allocations(one_thread ? 0 : kUnlimited);
        const Status status = through_time(kernel, r, steps, grid);
        expect((refused_allocations() > 0) == (one_thread && grid.shares > 1), "a thread that cannot be started");
        grant_allocations(kUnlimited);
        return status;
    };
    // By this grid, or as the library likes with so many threads.
    const auto all = [&](Grid grid, int threads) {
        Elements hidden(precision, (T + 1) * B * H), saved(precision, T * B * S * H);
        std::vector<float> cells(static_cast<size_t>((T + 1) * B * H), 0.25f), out(static_cast<size_t>(B * H));
        std::vector<float> carry(out.size(), 0.25f), carried = carry;
        storycell_convert(precision, start.data(), hidden.at(0), B * H, 1);
        Recurrence r{};
        r.cell = cell; r.precision = precision; r.steps = T; r.streams = B; r.units = H;
        r.packed = forward.at(0); r.projected = input.data(); r.reset_bias = reset.data();
        r.hidden = hidden.at(0); r.saved = saved.at(0);
        if (cell == kLstm) r.cell_state = cells.data(); else r.carry = carry.data();
        expect(!(threads ? storycell_forward(&r, threads)
                         : static_cast<int>(passed(kernels()->forward, r, T, grid))), "forward of shared units");
        if (cell == kGru) r.carry = carried.data(); else r.grad_carry = carried.data();
        r.packed = backward.at(0); r.grad_output = grads.data(); r.grad_hidden = start.data();
        r.grad_initial = out.data();
        expect(!(threads ? storycell_backward(&r, threads)
                         : static_cast<int>(passed(kernels()->backward, r, T + 1, grid))), "backward of shared units");
        std::vector<float> found((T + 1) * B * H + T * B * S * H);
        storycell_widen(precision, hidden.at(0), found.data(), (T + 1) * B * H, 1);
        storycell_widen(precision, saved.at(0), found.data() + (T + 1) * B * H, T * B * S * H, 1);
        for (const auto* more : {&cells, &out, &carry, &carried}) found.insert(found.end(), more->begin(), more->end());
        return found;
    };
    const auto alone = all({1, 1}, 0);
    const int64_t panels = std::min(kernels()->panels(H, H, G), kernels()->panels(back * H, H, 0));
    if (one_thread) return expect(alone == all({kMostGroups, kMostShares}, 0), "one thread takes the others' shares");
    for (int64_t groups = 1; groups <= std::min<int64_t>(B, 3); ++groups)
        for (int64_t shares = 1; shares <= std::min(panels, kMostShares); ++shares)
            expect(alone == all({groups, shares}, 0), "shared units change no bits");
    for (int threads : {2, 5, 16}) expect(alone == all({}, threads), "threads change no bits");
}

// With normalised gates: threads change no bits, a stream depends on no other, the last unit is padding and stays zero, and
// the gradient to the initial state is that of differences. What is missing is refused.
void normalised_gates(int64_t precision, int64_t T, int64_t B, int64_t H) {
    const int64_t G = 4, units = H - 1;
    auto weight = floats(G * H * H), input = floats(T * B * G * H), bias = floats(G * H), start = floats(B * H);
    for (int64_t k = 0; k < G; ++k) {
        for (int64_t j = 0; j < H; ++j) weight[static_cast<size_t>((k * H + units) * H + j)] = 0;
        for (int64_t j = 0; j < H; ++j) weight[static_cast<size_t>((k * H + j) * H + units)] = 0;
        for (int64_t i = 0; i < T * B; ++i) input[static_cast<size_t>((i * G + k) * H + units)] = 0;
        bias[static_cast<size_t>(k * H + units)] = 0;
    }
    for (int64_t b = 0; b < B; ++b) start[static_cast<size_t>(b * H + units)] = 0;
    Elements forward(precision, G * H * H), backward(precision, G * H * H);
    storycell_pack(precision, H, H, G, weight.data(), 1, H, H, G * H, forward.at(0), 1);
    storycell_pack(precision, G * H, H, 0, weight.data(), H, 1, G * H, H, backward.at(0), 1);
    struct Passed {
        std::vector<float> hidden, cells, initial, carried, sums;  // sums: [G*H]
    };
    // Streams [first, first + n) alone; the loss is the last hidden state times `start`.
    const auto pass = [&](int64_t first, int64_t n, int threads, const std::vector<float>& from) {
        Elements hidden(precision, (T + 1) * n * H), saved(precision, T * n * G * H), normalised(precision, T * n * G * H);
        std::vector<float> own, mean_squares(static_cast<size_t>(T * n * G)), groups(static_cast<size_t>(kMostTogether * G * H));
        Passed out;
        out.cells.assign(static_cast<size_t>((T + 1) * n * H), 0.0f), out.initial.resize(static_cast<size_t>(n * H));
        out.carried.assign(out.initial.size(), 0.0f);
        for (int64_t t = 0; t < T; ++t)
            own.insert(own.end(), &input[(t * B + first) * G * H], &input[(t * B + first) * G * H] + n * G * H);
        const std::vector<float> initial(&from[first * H], &from[first * H] + n * H);
        const std::vector<float> wanted(&start[first * H], &start[first * H] + n * H);
        storycell_convert(precision, initial.data(), hidden.at(0), n * H, 1);
        Recurrence r{};
        r.cell = kLstm, r.precision = precision, r.steps = T, r.streams = n, r.units = H;
        r.packed = forward.at(0), r.projected = own.data(), r.gate_bias = bias.data(), r.real_units = units;
        r.hidden = hidden.at(0), r.saved = saved.at(0), r.cell_state = out.cells.data();
        r.normalised = normalised.at(0), r.mean_squares = mean_squares.data();
        expect(!storycell_forward(&r, threads), "forward with normalised gates");
        out.hidden.resize(static_cast<size_t>((T + 1) * n * H));
        storycell_widen(precision, hidden.at(0), out.hidden.data(), (T + 1) * n * H, 1);
        r.packed = backward.at(0), r.grad_hidden = wanted.data(), r.grad_carry = out.carried.data();
        r.grad_initial = out.initial.data(), r.grad_gates = groups.data();
        expect(!storycell_backward(&r, threads), "backward with normalised gates");
        out.sums.assign(static_cast<size_t>(G * H), 0.0f);
        for (int64_t b = 0, row = 0; b < n; b += streams_together(n), ++row)
            for (int64_t j = 0; j < G * H; ++j) out.sums[static_cast<size_t>(j)] += groups[static_cast<size_t>(row * G * H + j)];

        const auto refused = [&](auto& field, auto wrong, int status, bool is_backward) {
            const auto right = field;
            field = wrong;
            expect((is_backward ? storycell_backward(&r, 1) : storycell_forward(&r, 1)) == status, "is refused");
            field = right;
        };
        for (bool is_backward : {false, true}) {
            refused(r.normalised, nullptr, kMissing, is_backward);
            refused(r.mean_squares, nullptr, kMissing, is_backward);
            for (int64_t wrong : {int64_t{0}, H + 1}) refused(r.real_units, wrong, kBadSize, is_backward);
            refused(r.cell, int64_t{kRnn}, kBadSize, is_backward);
        }
        refused(r.grad_gates, nullptr, kMissing, true);
        return out;
    };
    const Passed whole = pass(0, B, 1, start);
    const bool promises_bits = precision != kBlas;
    for (int threads : {2, 3, 16}) {
        const Passed other = pass(0, B, threads, start);
        expect(!promises_bits || (other.hidden == whole.hidden && other.cells == whole.cells &&
                                  other.initial == whole.initial && other.carried == whole.carried &&
                                  other.sums == whole.sums), "threads change no bits");
    }
    for (size_t i = static_cast<size_t>(units); i < whole.hidden.size(); i += static_cast<size_t>(H))
        expect(whole.hidden[i] == 0 && whole.cells[i] == 0, "padding stays zero");
    for (int64_t k = 1; k <= G; ++k) expect(whole.sums[static_cast<size_t>(k * H - 1)] == 0, "and has no gradient");
    if (promises_bits)
        for (int64_t b : {int64_t{0}, B / 2, B - 1}) {
            const Passed alone = pass(b, 1, 1, start);
            for (int64_t j = 0; j < H; ++j)
                expect(alone.initial[static_cast<size_t>(j)] == whole.initial[static_cast<size_t>(b * H + j)], "streams apart");
        }
    if (precision == kBfloat16) return;
    const auto loss = [&](const std::vector<float>& from) {
        const Passed found = pass(0, B, 1, from);
        double sum = 0;
        for (size_t i = 0; i < start.size(); ++i)
            sum += double(found.hidden[static_cast<size_t>(T * B * H) + i]) * double(start[i]);
        return sum;
    };
    auto up = start, down = start;
    const auto at = static_cast<size_t>(B / 2 * H + 3);
    up[at] += 0.01f, down[at] -= 0.01f;
    const double slope = (loss(up) - loss(down)) / 0.02;
    expect(std::fabs(slope - whole.initial[at]) < 2e-3 * (1 + std::fabs(slope)), "a gradient of differences");
}

// What threads share by which sizes: streams where they have enough of them, units besides where they have not.
void grids() {
    Recurrence r{};
    r.cell = kLstm, r.units = 256, r.steps = 128;
    const auto chosen = [&](int64_t streams, int threads) {
        const Kernels& k = *kernels();
        r.streams = streams;
        return choose_grid(k, r, k.panels(4 * r.units, r.units, 0), threads);
    };
    for (int64_t units : {16, 64, 256, 1024})
        for (int64_t streams : {1, 2, 3, 8, 64, 1000})
            for (int threads : {1, 2, 3, 7, 16, 64, 1000}) {
                r.units = units;
                const Grid g = chosen(streams, threads);
                expect(g.groups >= 1 && g.groups <= streams && g.shares >= 1 && g.groups * g.shares <= threads,
                       "a grid has no more threads than there are");
                expect(g.shares <= kMostShares && (g.shares == 1 || g.groups <= kMostGroups), "a grid has its place");
                if (units == 16 || streams >= 8 * threads) expect(g.shares == 1, "nothing to be gained by sharing units");
            }
    r.units = 256;
    expect(chosen(1, 2).shares == 2 && chosen(1, 16).shares > 2 && chosen(4, 16).shares > 1, "few streams share units");
    r.steps = 8;
    expect(chosen(1, 16).shares == 1, "no thread is woken for a few characters");
    r.steps = 128, r.precision = kBlas;
    expect(chosen(1, 16).shares == 1, "a BLAS has all units at once");
    const float bias = 0;
    r.precision = kFloat32, r.gate_bias = &bias;
    expect(chosen(1, 16).shares == 1, "normalised gates need all units at once");
}

void products(int64_t precision, int64_t rows, int64_t inner, int64_t columns) {
    const auto left = floats(rows * inner), right = floats(inner * columns), bias = floats(columns);
    auto l = elements(precision, left);
    Elements packed(precision, inner * columns);
    expect(!storycell_pack(precision, inner, columns, 0, right.data(), columns, 1, inner, columns,
                           packed.at(0), 2), "pack");
    std::vector<float> out(static_cast<size_t>(rows * columns));
    Product p{precision, rows, inner, columns, l.at(0), inner, packed.at(0), bias.data(), out.data(), 0};
    expect(!storycell_product(&p, 2), "product");
    const double tolerance = precision ? 3e-2 : 1e-4;
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t j = 0; j < columns; ++j) {
            double sum = bias[j];
            for (int64_t k = 0; k < inner; ++k) sum += double(left[r * inner + k]) * right[k * columns + j];
            expect(std::fabs(sum - out[r * columns + j]) < tolerance * std::sqrt(double(inner)), "product value");
        }
    auto r = elements(precision, floats(rows * columns));
    std::vector<float> wide(static_cast<size_t>(rows * columns)), sums(static_cast<size_t>(inner));
    storycell_widen(precision, r.at(0), wide.data(), rows * columns, 1);
    std::vector<float> grad(static_cast<size_t>(inner * columns));
    std::vector<int64_t> ids(static_cast<size_t>(rows));
    for (auto& id : ids) id = std::rand() % 5;
    std::vector<float> table(static_cast<size_t>(5 * inner));
    TransposedProduct t{precision, rows, inner, columns, l.at(0), inner, r.at(0), columns,
                        grad.data(), sums.data(), table.data(), ids.data(), rows, 1, 1, 5};
    if (precision == kBlas) expect(!storycell_transposed(&t, 3), "transposed by a BLAS");
    else survives_lack_of_memory("transposed", [&] { return storycell_transposed(&t, 3); });
    for (int64_t m = 0; m < inner; ++m) {
        double sum = 0;
        for (int64_t id = 0; id < 5; ++id) sum += table[id * inner + m];
        expect(std::fabs(sum - sums[m]) < 1e-3, "table rows sum to the column sums");
    }
    for (int64_t m = 0; m < inner; ++m)
        for (int64_t n = 0; n < columns; ++n) {
            double sum = 0;
            for (int64_t k = 0; k < rows; ++k) sum += double(left[k * inner + m]) * wide[k * columns + n];
            expect(std::fabs(sum - grad[m * columns + n]) < tolerance * std::sqrt(double(rows)), "transposed value");
        }
}

void recurrence(int64_t cell, int64_t precision, int64_t T, int64_t B, int64_t H, int64_t V) {
    const int64_t G = kCells[cell].gates, S = kCells[cell].saved;
    const auto weight = floats(G * H * H), table = floats(V * G * H), reset = floats(H);
    Elements forward(precision, G * H * H), backward(precision, G * H * H);
    storycell_pack(precision, H, H, G > 1 ? G : 0, weight.data(), 1, H, H, G * H, forward.at(0), 2);
    storycell_pack(precision, G * H, H, 0, weight.data(), H, 1, G * H, H, backward.at(0), 2);
    std::vector<int64_t> ids(static_cast<size_t>(B * T));
    for (auto& id : ids) id = std::rand() % V;
    Elements hidden(precision, (T + 1) * B * H), saved(precision, T * B * S * H);
    auto cells = floats((T + 1) * B * H), carry = floats(B * H), grad_carry = floats(B * H);
    const auto grad_output = floats(T * B * H), grad_hidden = floats(B * H);
    std::vector<float> grad_initial(static_cast<size_t>(B * H));
    Recurrence r{};
    r.cell = cell; r.precision = precision; r.steps = T; r.streams = B; r.units = H;
    r.characters = V; r.packed = forward.at(0); r.ids = ids.data(); r.ids_stream_stride = T;
    r.ids_step_stride = 1; r.table = table.data(); r.reset_bias = reset.data();
    r.hidden = hidden.at(0); r.saved = saved.at(0);
    if (cell == kLstm) r.cell_state = cells.data(); else r.carry = carry.data();
    expect(!storycell_forward(&r, 2), "forward");
    r.packed = backward.at(0); r.grad_output = grad_output.data();
    r.grad_hidden = grad_hidden.data(); r.grad_carry = grad_carry.data();
    r.grad_initial = grad_initial.data();
    expect(!storycell_backward(&r, 2), "backward");
    std::vector<float> grad_table(static_cast<size_t>(V * G * H));
    TableGradient g{precision, cell, T, B, H, V, ids.data(), T, 1, saved.at(0), grad_table.data()};
    expect(!storycell_table_gradient(&g, 2), "table gradient");
    for (float x : grad_table) expect(std::isfinite(x), "finite table gradient");
    for (float x : grad_initial) expect(std::isfinite(x), "finite gradient to the state");
    ids[0] = V;
    expect(storycell_table_gradient(&g, 2) == kBadCharacter, "bad character refused");
    r.precision = kInt8;
    expect(storycell_forward(&r, 2) == kBadSize, "gates saved in int8 refused");
    r.saved = nullptr;
    expect(storycell_backward(&r, 2) == kBadSize, "gradients in int8 refused");

    const int64_t wide = (V + 15) / 16 * 16;
    const auto out = floats(V * H), bias = floats(wide);
    Elements of(precision, H * wide), ob(precision, wide * H), logit_grads(precision, T * B * wide);
    storycell_pack(precision, H, wide, 0, out.data(), 1, H, H, V, of.at(0), 2);
    storycell_pack(precision, wide, H, 0, out.data(), H, 1, V, H, ob.at(0), 2);
    std::vector<int64_t> targets(static_cast<size_t>(B * T), V - 1);
    std::vector<float> losses(static_cast<size_t>(T * B)), grad(static_cast<size_t>(T * B * H));
    OutputLoss o{precision, T, B, H, V, hidden.at(B * H), of.at(0), ob.at(0), bias.data(),
                 targets.data(), T, 1, 1.0f, losses.data(), logit_grads.at(0), grad.data()};
    survives_lack_of_memory("output loss", [&] { return storycell_output_loss(&o, 2); });
    for (float x : losses) expect(std::isfinite(x) && x > 0, "finite loss");

    Dropout d{precision, T * B * H, B * H, 0x1234567890abcdefull, 0.75, hidden.at(0), hidden.at(0)};
    expect(!storycell_dropout(&d, 2), "dropout");
    d.keep = 0.0;
    expect(storycell_dropout(&d, 2) == kBadSize, "nothing kept refused");

    Elements slots(precision, 2 * B * H), upper_slots(precision, 2 * B * H);
    Elements input(precision, G * H * H);
    storycell_pack(precision, H, G * H, 0, weight.data(), 1, H, H, G * H, input.at(0), 2);
    std::vector<float> upper_carry(static_cast<size_t>(B * H)), projected(static_cast<size_t>(B * G * H));
    std::vector<float> logits(static_cast<size_t>(B * wide));
    std::vector<int64_t> current(static_cast<size_t>(B), 0), written(static_cast<size_t>(B * 9));
    std::vector<uint32_t> random(static_cast<size_t>(B * 4), 7);
    std::vector<Choice> how(static_cast<size_t>(B), Choice{0.9, 0.95, 0.01, 20, 0});
    std::vector<float> kept(static_cast<size_t>(B * 9 * wide));
    GenerationLayer layers[] = {{forward.at(0), nullptr, table.data(), nullptr, reset.data(), slots.at(0),
                                 carry.data(), nullptr, nullptr},
                                {forward.at(0), input.at(0), nullptr, table.data(), reset.data(),
                                 upper_slots.at(0), upper_carry.data(), projected.data(), nullptr}};
    Generation a{cell, precision, 2, B, H, V, 9, layers, of.at(0), bias.data(), logits.data(),
                 current.data(), random.data(), written.data(), kept.data(), how.data(), 1};
    if (precision == kBlas) return expect(storycell_generate(&a, 2) == kBadSize, "generation by a BLAS refused");
    survives_lack_of_memory("generate", [&] { return storycell_generate(&a, 2); });
    const auto refused_without = [&](auto& pointer) {
        const auto kept_pointer = pointer;
        pointer = nullptr;
        expect(storycell_generate(&a, 2) == kMissing, "generation without an array refused");
        pointer = kept_pointer;
    };
    for (GenerationLayer& layer : layers) {
        refused_without(layer.packed_recurrent);
        refused_without(layer.hidden);
        if (cell != kRnn) refused_without(layer.carry);
        if (cell == kGru) refused_without(layer.reset_bias);
    }
    refused_without(layers[0].table);
    refused_without(layers[1].packed_input);
    refused_without(layers[1].projected);
    refused_without(a.layer);
    refused_without(a.packed_output);
    refused_without(a.output_bias);
    refused_without(a.logits);
    refused_without(a.current);
    refused_without(a.random);
    refused_without(a.out);
    refused_without(a.choice);
    layers[1].gate_bias = bias.data();
    for (int64_t units : {int64_t{-1}, int64_t{0}, H + 1}) {
        a.real_units = units;
        expect(storycell_generate(&a, 2) == kBadSize, "normalised gates of no units refused");
    }
    a.real_units = H;
    if (cell != kLstm) expect(storycell_generate(&a, 2) == kBadSize, "normalised gates of another cell refused");
    layers[1].gate_bias = nullptr;
    a.cell = kCellCount;
    expect(storycell_generate(&a, 2) == kBadSize, "unknown cell refused");
    a.cell = cell;
    expect(!storycell_generate(&a, 2), "generate");
    for (int64_t id : written) expect(id >= 0 && id < V && id != 1, "character written");
    for (float x : kept) expect(std::isfinite(x), "logits kept");
}

// A network of plain weights: what it reads in one pass and in two is the same, and it writes from where it has read.
void network(int64_t cell, int64_t L, int64_t H, int64_t V, int64_t D, bool biases, bool has_context, bool normalises) {
    const int64_t G = kCells[cell].gates, B = 3, T = 800;  // longer than what is read in one piece
    const bool is_lstm = cell == kLstm;
    std::vector<std::vector<float>> kept;
    const auto weight = [&](int64_t n) { return kept.push_back(floats(n)), kept.back().data(); };
    std::vector<NetworkLayer> layers;
    for (int64_t k = 0; k < L; ++k) {
        const float *input = weight(G * H * (k ? H : D ? D : V)), *recurrent = weight(G * H * H);
        layers.push_back({input, recurrent, biases ? weight(G * H) : nullptr, biases ? weight(G * H) : nullptr});
    }
    NetworkWeights w{cell, L, H, V, D, D ? weight(V * D) : nullptr, layers.data(), weight(V * H), weight(V)};
    if (has_context) w.ngrams = 3, w.ngram_rows = 29, w.matches = 6, w.context_table = weight((29 + 6 * V) * D);
    w.gate_norm = normalises;
    const size_t remembered = has_context ? static_cast<size_t>(B * kMemory) : 0;
    std::vector<int64_t> past(remembered), half_past(remembered), all_past(remembered);
    const auto given = [&](std::vector<int64_t>& from) { return has_context ? from.data() : nullptr; };
    Network* made = nullptr;
    survives_lack_of_memory("a network packed", [&] {
        storycell_network_free(made);
        return storycell_network_create(&w, 0, 2, &made);
    });
    Network* rounded = nullptr;
    expect(!storycell_network_create(&w, kBfloat16, 2, &rounded), "a network packed for bf16");
    Network* whole = nullptr;
    survives_lack_of_memory("a network packed for int8", [&] {
        storycell_network_free(whole);
        return storycell_network_create(&w, kInt8, 2, &whole);
    });

    const size_t states = static_cast<size_t>(L * B * H), texts = static_cast<size_t>(B * T);
    std::vector<int64_t> ids(texts), first(static_cast<size_t>(B * 300)), second(static_cast<size_t>(B * 500));
    for (size_t i = 0; i < texts; ++i) {
        const int64_t id = ids[i] = std::rand() % V, b = static_cast<int64_t>(i) / T, t = static_cast<int64_t>(i) % T;
        (t < 300 ? first[b * 300 + t] : second[b * 500 + t - 300]) = id;
    }
    std::vector<float> h(states), c(states), losses(texts), logits(texts * V), hiddens(states * T), cells(states * T);
    Reading r{B, T, ids.data(), ids.data(), nullptr, nullptr, h.data(), is_lstm ? c.data() : nullptr,
              losses.data(), logits.data(), hiddens.data(), is_lstm ? cells.data() : nullptr};
    r.final_past = given(past);
    survives_lack_of_memory("a text read", [&] { return storycell_network_read(made, &r, 2); });
    for (float x : losses) expect(std::isfinite(x) && x > 0, "finite loss");
    for (int64_t k = 0; k < L; ++k)
        for (int64_t b = 0; b < B; ++b)
            for (int64_t j = 0; j < H; ++j) {
                const int64_t at = (k * B + b) * H + j, last = ((k * B + b) * T + T - 1) * H + j;
                expect(h[at] == hiddens[last] && (!is_lstm || c[at] == cells[last]), "the last state is the final one");
            }
    std::vector<float> half_h(states), half_c(states), all_h(states), all_c(states);
    Reading half{B, 300, first.data(), nullptr, nullptr, nullptr, half_h.data(), half_c.data(), nullptr, nullptr,
                 nullptr, nullptr};
    half.final_past = given(half_past);
    expect(!storycell_network_read(made, &half, 1), "half of a text");
    Reading rest{B, 500, second.data(), nullptr, half_h.data(), half_c.data(), all_h.data(), all_c.data(), nullptr,
                 nullptr, nullptr, nullptr};
    rest.past = given(half_past), rest.final_past = given(all_past);
    expect(!storycell_network_read(made, &rest, 3), "the other half");
    expect(all_h == h && (!is_lstm || all_c == c) && all_past == past, "two halves are the whole");

    std::vector<int64_t> current(B, 0), out(static_cast<size_t>(B * 9));
    std::vector<uint32_t> random(static_cast<size_t>(B * 4), 7);
    std::vector<Choice> how(B, Choice{0.9, 0.95, 0.01, 20, 0});
    std::vector<float> drawn(static_cast<size_t>(B * 9 * V));
    Writing a{B, 9, 1, h.data(), c.data(), all_h.data(), all_c.data(), current.data(), random.data(), how.data(),
              out.data(), drawn.data()};
    a.past = given(past);
    for (Network* n : {made, rounded, whole}) {
        survives_lack_of_memory("a text written", [&] { return storycell_network_write(n, &a, 2); });
        for (int64_t id : out) expect(id >= 0 && id < V && id != 1, "character written");
        for (float x : drawn) expect(std::isfinite(x), "logits kept");
    }

    const auto refused = [&](int status, auto& field, auto wrong, auto call, const char* what) {
        const auto right = field;
        field = wrong;
        expect(call() == status, what);
        field = right;
    };
    const auto read = [&] { return storycell_network_read(made, &r, 2); };
    const auto write = [&] { return storycell_network_write(made, &a, 2); };
    refused(kMissing, r.ids, nullptr, read, "no characters refused");
    refused(kMissing, r.targets, nullptr, read, "losses without targets refused");
    refused(kMissing, r.losses, nullptr, read, "targets without losses refused");
    refused(kBadSize, r.steps, 0, read, "no steps refused");
    refused(kBadSize, r.streams, int64_t{1} << 40, read, "too many streams refused");
    refused(kBadCharacter, ids[texts - 1], V, read, "a bad character refused");
    refused(kBadCharacter, ids[0], -1, read, "a negative character refused");
    expect(storycell_network_read(rounded, &r, 2) == kBadSize, "reading in bf16 refused");
    expect(storycell_network_read(whole, &r, 2) == kBadSize, "reading in int8 refused");
    expect(storycell_network_read(made, &r, 0) == kBadSize, "no threads refused");
    if (is_lstm) refused(kMissing, rest.cell, nullptr, [&] { return storycell_network_read(made, &rest, 2); }, "cell");
    if (is_lstm) refused(kMissing, a.final_cell, nullptr, write, "writing without a final cell state refused");
    refused(kMissing, a.current, nullptr, write, "writing from nothing refused");
    refused(kMissing, a.random, nullptr, write, "writing without random numbers refused");
    refused(kMissing, a.choice, nullptr, write, "writing without a choice refused");
    refused(kMissing, a.out, nullptr, write, "writing to nothing refused");
    refused(kMissing, a.final_hidden, nullptr, write, "writing without a final state refused");
    refused(kBadSize, a.length, 0, write, "nothing to write refused");
    refused(kBadSize, how[1].temperature, 0.0, write, "temperature 0 refused");
    refused(kBadCharacter, current[2], V, write, "a bad first character refused");
    if (has_context) {
        refused(kMissing, a.past, nullptr, write, "writing without a past refused");
        refused(kBadCharacter, past[remembered - 1], V, write, "a past of other characters refused");
        r.past = past.data();
        refused(kBadCharacter, past[0], -1, read, "and a negative one");
    }

    Network* none = made;
    const auto create = [&] { return storycell_network_create(&w, 0, 2, &none); };
    refused(kBadSize, w.cell, kCellCount, create, "an unknown cell refused");
    refused(kBadSize, w.units, 0, create, "no units refused");
    refused(kBadSize, w.layers, -1, create, "negative layers refused");
    refused(kMissing, w.layer, nullptr, create, "no layers refused");
    refused(kMissing, w.output, nullptr, create, "no output refused");
    refused(kMissing, w.embedding_weight, D ? nullptr : w.output, create, "half an embedding refused");
    refused(kMissing, layers[0].input, nullptr, create, "half a layer refused");
    if (has_context) {
        refused(kMissing, w.context_table, nullptr, create, "a context without a table refused");
        refused(kBadSize, w.matches, kLongestMatch + 1, create, "too long a match refused");
        refused(kBadSize, w.matches, 1, create, "a match of one refused");
        refused(kBadSize, w.ngrams, 1, create, "an n-gram of one refused");
    }
    refused(kMissing, layers[0].input_bias, biases ? nullptr : w.output, create, "half a bias refused");
    refused(kBadSize, w.gate_norm, 2, create, "what is neither normalised nor not refused");
    refused(kBadSize, w.gate_norm, -1, create, "what is neither normalised nor not refused");
    if (!is_lstm) refused(kBadSize, w.gate_norm, 1, create, "normalised gates of another cell refused");
    if (is_lstm && !biases) refused(kMissing, w.gate_norm, 1, create, "normalised gates without biases refused");
    expect(!none, "what was not made is null");
    expect(storycell_network_create(&w, 0, 0, &none) == kBadSize, "no threads refused");
    storycell_network_free(made);
    storycell_network_free(rounded);
    storycell_network_free(whole);
    storycell_network_free(nullptr);
}

// The rows of a text, by comparing all places; and again in two pieces, so long that a line of characters is moved.
void context_rows(const ContextShape& shape, int64_t few) {
    const int64_t B = 2, T = 2 * kMemory + 3000, M = shape.matches, V = shape.characters, P = shape.memory(), N = shape.met();
    std::vector<int64_t> ids(static_cast<size_t>(B * T)), rows(static_cast<size_t>(B * T * N));
    for (int64_t& id : ids) id = std::rand() % 700 ? 1 + std::rand() % few : 0;
    const auto call = [&](int64_t streams, int64_t steps, const int64_t* of, const int64_t* past, int64_t* to) {
        return storycell_context_rows(shape.ngrams, shape.ngram_rows, M, V, streams, steps, of, past, to);
    };
    survives_lack_of_memory("rows", [&] { return call(B, T, ids.data(), nullptr, rows.data()); });
    for (int64_t b = 0; b < B; ++b) {
        const int64_t* line = &ids[static_cast<size_t>(b * T)];
        for (int64_t t = 0, begin = 0; t < T; ++t) {
            if (!line[t]) begin = t + 1;
            if (t % 7 && t < T - 300) continue;
            int64_t longest = 1, row = 0;
            for (int64_t d = 1; M && d <= P - M + 1 && t - d >= begin; ++d) {
                int64_t n = 0;
                while (n < M && t - d - n >= begin && line[t - n] == line[t - d - n]) ++n;
                if (n > longest) longest = n, row = (n - 1) * V + line[t - d + 1];
            }
            if (M) expect(rows[static_cast<size_t>((b * T + t + 1) * N - 1)] == shape.of_ngrams() + row, "a match's row");
        }
        const int64_t first = 1777;
        std::vector<int64_t> past(static_cast<size_t>(P)), piece(static_cast<size_t>((T - first) * N));
        for (int64_t n = 0; n < P && n < first && line[first - 1 - n]; ++n) past[static_cast<size_t>(n)] = line[first - 1 - n];
        const std::vector<int64_t> rest(line + first, line + T);
        expect(!call(1, T - first, rest.data(), past.data(), piece.data()), "rows after a past");
        expect(std::equal(piece.begin(), piece.end(), rows.begin() + (b * T + first) * N), "are those of the whole");
        past[0] = V;
        expect(call(1, 1, rest.data(), past.data(), piece.data()) == kBadCharacter, "an unknown past refused");
    }
    expect(call(1, 0, ids.data(), nullptr, rows.data()) == kBadSize, "no characters refused");
    expect(call(1, 1, nullptr, nullptr, rows.data()) == kMissing, "rows of nothing refused");
    expect(call(1, 1, ids.data(), nullptr, nullptr) == kMissing, "rows to nothing refused");
    ids[0] = V;
    expect(call(1, 1, ids.data(), nullptr, rows.data()) == kBadCharacter, "an unknown character refused");
    for (int64_t wrong : {int64_t{1}, int64_t{-1}, kLongestMatch + 1})
        expect(storycell_context_rows(0, 0, wrong, V, 1, 1, rows.data(), nullptr, rows.data()) == kBadSize, "a match refused");
    expect(storycell_context_rows(0, 0, 0, V, 1, 1, rows.data(), nullptr, rows.data()) == kBadSize, "no context refused");
}

// Three tensors of awkward sizes: the same step by the formulas, in doubles.
void optimiser_step() {
    const std::vector<int64_t> counts = {1, 37, 2 * kBlock + 5};
    std::vector<std::vector<float>> value, grad, mean, square;
    std::vector<float> steps(counts.size(), 2.0f);
    std::vector<Tensor> tensors;
    double squares = 0, summed = 0;
    int64_t blocks = 0;
    for (int64_t n : counts) {
        for (auto* kind : {&value, &grad, &mean, &square}) kind->push_back(floats(n));
        for (float& x : square.back()) x = std::fabs(x);
        for (float g : grad.back()) squares += double(g) * g;
        blocks += storycell_blocks(n);
    }
    for (size_t i = 0; i < counts.size(); ++i)
        tensors.push_back({value[i].data(), grad[i].data(), mean[i].data(), square[i].data(),
                           &steps[i], counts[i], 0.01, 0.1 * double(i), 0.9, 0.99, 1e-8});
    std::vector<float> sums(static_cast<size_t>(blocks));
    Tensors a{static_cast<int64_t>(counts.size()), tensors.data(), 0.5, sums.data()};
    expect(!storycell_gradient_squares(&a, 2), "squares");
    for (float s : sums) summed += s;
    expect(std::fabs(summed - squares) < 1e-5 * squares, "sum of squares");
    const auto before = value, means = mean, seconds = square, grads = grad;
    expect(!storycell_scale_gradients(&a, 2), "scaling");
    a.factor = 1.0;
    expect(!storycell_adam_step(&a, 2), "adam");
    for (size_t i = 0; i < counts.size(); ++i)
        for (size_t j = 0; j < value[i].size(); ++j) {
            const double g = 0.5 * grads[i][j], m = 0.9 * means[i][j] + 0.1 * g;
            const double s = 0.99 * seconds[i][j] + 0.01 * g * g;
            const double by = m / (1 - std::pow(0.9, 3)) / (std::sqrt(s / (1 - std::pow(0.99, 3))) + 1e-8);
            expect(std::fabs(before[i][j] * (1 - 0.001 * double(i)) - 0.01 * by - value[i][j]) < 1e-6, "weight");
            expect(std::fabs(m - mean[i][j]) < 1e-6 && std::fabs(s - square[i][j]) < 1e-6, "moments");
            expect(steps[i] == 3.0f, "updates counted");
        }
    expect(storycell_adam_step(&a, 0) == kBadSize, "no threads refused");
    tensors[1].mean = nullptr;
    expect(storycell_adam_step(&a, 2) == kMissing, "missing moments refused");
    for (float updates : steps) expect(updates == 3.0f, "an update that is refused is not counted");
    a.tensor = nullptr;
    expect(storycell_adam_step(&a, 2) == kMissing, "missing tensors refused");
}

}  // namespace

// kernel_test [NAME...]: only these instruction sets, all of which must run here, and of which the first must be the one
// that the library chooses by itself. Without names every set that runs here.
int main(int count, char** words) {
    const std::vector<std::string> named(words + 1, words + count);
    const std::string chosen = storycell_isa();
    size_t tested = 0;
    bool chosen_tested = false;
    if (!named.empty() && chosen != named[0]) {
        ++failures;
        std::printf("FAILED: this processor should get %s, not %s\n", words[1], chosen.c_str());
    }
    expect(split(1, 1, 1, [](int64_t, int64_t) -> Status { throw 7; }) == kFailed, "alone, throwing");
#ifndef STORYCELL_NO_THREADS
    units_shared(kLstm, kFloat32, 3, 70, 144, true);  // before there is another thread
    failing_threads();
#endif
    context_rows({0, 0, 16, 5}, 2);
    context_rows({3, 29, 2, 5}, 4);
    context_rows({16, 101, kLongestMatch, 5}, 1);
    context_rows({4, 7, 0, 5}, 4);
    const struct {
        const char* isa;
        int (*simd_failures)();
    } sets[] = {
        {"portable", simd_portable},
#ifdef STORYCELL_X86
        {"avx2", simd_avx2}, {"avx512", simd_avx512}, {"avx512vnni", simd_avx512vnni},
        {"avx512bf16", simd_avx512bf16}, {"amx", nullptr},
#endif
#ifdef STORYCELL_AVXVNNI
        {"avxvnni", simd_avxvnni},
#endif
#ifdef STORYCELL_ARM
        {"neon", simd_neon},
#endif
#ifdef STORYCELL_ARM_EXTENSIONS
        {"neondot", simd_neondot}, {"neonbf16", simd_neonbf16}, {"bfmmla", nullptr},
#endif
    };
    std::vector<int64_t> precisions{kFloat32, kBfloat16};
    if (*storycell_blas()) {
        precisions.push_back(kBlas);
        std::printf("%s multiplies too\n", storycell_blas());
    }
    for (const auto& [isa, simd_failures] : sets) {
        if (!named.empty() && std::find(named.begin(), named.end(), isa) == named.end()) continue;
        if (storycell_use_isa(isa)) continue;
        if (simd_failures) failures += simd_failures();
        for (int64_t precision : precisions) {
            products(precision, 1, 16, 16);
            products(precision, 13, 48, 80);
            products(precision, 401, 32, 96);
            products(precision, 700, 96, 80);  // large enough for two threads
            for (int64_t rows : {1, 6, 16, 17, 33, 401})
                for (int64_t inner : {16, 32, 48, 80, 176})
                    exact_products(precision, rows, inner, 16 * (1 + rows % 5) + 16);
            normalised_gates(precision, 1, 1, 16);
            normalised_gates(precision, 4, 7, 48);
            normalised_gates(precision, 2, 51, 80);
            for (int64_t cell : {0, 1, 2}) {
                recurrence(cell, precision, 1, 1, 16, 2);
                recurrence(cell, precision, 3, 7, 48, 17);
                recurrence(cell, precision, 5, 3, 80, 300);
                recurrence(cell, precision, 2, 70, 32, 17);
                if (precision == kBlas) continue;  // it promises none of these
                streams_apart(cell, precision, 3, 51, 80);
                units_shared(cell, precision, 3, 1, 272, false);
                units_shared(cell, precision, 3, 5, 144, false);
            }
        }
        for (int64_t rows : {1, 2, 3, 5, 6, 7, 16, 50})
            for (int64_t inner : {16, 32, 48, 176, 1024}) byte_products(rows, inner, 16 * (1 + rows % 7), rows % 2);
        bytes_read();
        grids();
        for (int64_t cell : {0, 1, 2}) {
            network(cell, 1, 1, 2, 0, false, false, false);
            network(cell, 3, 19, 21, 5, true, false, false);
            network(cell, 1, 17, 6, 3, true, true, false);
        }
        network(kLstm, 3, 19, 21, 5, true, false, true);
        network(kLstm, 1, 17, 6, 3, true, true, true);
        optimiser_step();
        failures += model_failures();
        if (*storycell_blas()) {
            expect(!storycell_use_blas("on"), "a BLAS for every size");
            failures += model_failures();
            storycell_use_blas("");
        }
        std::printf("%s done\n", isa);
        ++tested;
        chosen_tested |= chosen == isa;
    }
    expect(chosen_tested, "what the library chooses by itself is among what was tested");
    expect(named.empty() || tested == named.size(), "every instruction set that was named was tested");
    expect(storycell_use_isa("vax") == kUnknownIsa, "unknown kernels refused");
    expect(storycell_use_blas("vax") == kUnknownIsa, "an unknown choice of BLAS refused");
    const bool has_blas = *storycell_blas();
    expect(storycell_use_blas("on") == (has_blas ? kOk : kUnknownIsa), "a BLAS that is missing refused");
    expect(storycell_use_blas("off") == kOk && !*storycell_blas(), "a BLAS switched off");
    float number = 0;
    expect(storycell_pack(kBlas, 16, 16, 0, &number, 1, 16, 0, 0, &number, 1) == kBadSize, "no BLAS, no products by it");
    storycell_use_blas("");
    for (int missing : {storycell_forward(nullptr, 1), storycell_backward(nullptr, 1), storycell_product(nullptr, 1),
                        storycell_transposed(nullptr, 1), storycell_table_gradient(nullptr, 1),
                        storycell_output_loss(nullptr, 1), storycell_dropout(nullptr, 1),
                        storycell_gradient_squares(nullptr, 1), storycell_scale_gradients(nullptr, 1),
                        storycell_adam_step(nullptr, 1), storycell_generate(nullptr, 1),
                        storycell_network_create(nullptr, 0, 1, nullptr), storycell_network_read(nullptr, nullptr, 1),
                        storycell_network_write(nullptr, nullptr, 1)})
        expect(missing == kMissing, "no arguments refused");
    if (!failures) std::printf("all passed\n");
    return failures != 0;
}
