#include "engine/muon.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/kernels.h"
#include "engine/model_state.h"
#include "engine/pool.h"

namespace storycell {
namespace {

constexpr float kA = 3.4445f, kB = -4.7750f, kC = 2.0315f;  // lifts small singular values fastest
constexpr double kTiny = 1e-7;
constexpr int64_t kRows = 16;  // of a block: a thread's least share

int64_t blocks(int64_t rows) { return rows / kRows; }

// to[c, r] = x[r, c] for a block of rows.
void turn(const float* x, int64_t rows, int64_t columns, int64_t block, float* to) {
    const float* from = x + block * kRows * columns;
    to += block * kRows;
    for (int64_t c0 = 0; c0 < columns; c0 += kRows)
        for (int64_t c = c0; c < c0 + kRows; ++c)
            for (int64_t r = 0; r < kRows; ++r) to[c * rows + r] = from[r * columns + c];
}

// The same for 16-bit elements, four by four in words of four elements.
void turn(const uint16_t* x, int64_t rows, int64_t columns, int64_t block, uint16_t* to) {
    constexpr uint64_t even = 0x0000ffff0000ffff, low = 0x00000000ffffffff;
    const uint16_t* from = x + block * kRows * columns;
    to += block * kRows;
    for (int64_t c = 0; c < columns; c += 4)
        for (int64_t r = 0; r < kRows; r += 4) {
            uint64_t w[4];
            for (int i = 0; i < 4; ++i) std::memcpy(&w[i], from + (r + i) * columns + c, sizeof w[i]);
            const uint64_t a = (w[0] & even) | (w[1] & even) << 16, b = (w[0] >> 16 & even) | (w[1] & ~even);
            const uint64_t d = (w[2] & even) | (w[3] & even) << 16, e = (w[2] >> 16 & even) | (w[3] & ~even);
            const uint64_t turned[4] = {(a & low) | d << 32, (b & low) | e << 32, a >> 32 | (d & ~low), b >> 32 | (e & ~low)};
            for (int i = 0; i < 4; ++i) std::memcpy(to + (c + i) * rows + r, &turned[i], sizeof turned[i]);
        }
}

}  // namespace

// part(matrix, its work, first, last) over the shares of all matrices' counts as if they were one range.
template <class Count, class Part>
Status Muon::each(Count count, Part part) {
    int64_t all = 0;
    for (const MuonMatrix& x : matrices_) all += count(x);
    return split(all, 1, threads_, [&](int64_t first, int64_t last) {
        int64_t before = 0;
        for (size_t i = 0; i < matrices_.size(); ++i) {
            const int64_t here = count(matrices_[i]);
            const int64_t from = std::max<int64_t>(first - before, 0), to = std::min(last - before, here);
            if (from < to) part(matrices_[i], work_[i], from, to);
            before += here;
        }
        return kOk;
    });
}

void Muon::take(const std::vector<MuonMatrix>& matrices, bool bf16) {
    matrices_.reserve(matrices.size()), products_.reserve(matrices.size());
    if (work_.size() < matrices.size()) work_.resize(matrices.size());
    for (size_t i = 0; i < matrices.size(); ++i) {
        const MuonMatrix& x = matrices[i];
        Work& w = work_[i];
        const int64_t count = x.rows * x.columns, n = shorter(x);
        w.x.room(count), w.moved.room(count), w.packed.room(count), w.sums.room(blocks(x.rows));
        if (bf16) w.elements.room(count / 2);
        if (tall(x)) w.turned.room(count);
        for (Small small : {&Work::gram, &Work::rest, &Work::first_rest, &Work::product, &Work::left, &Work::left_rest,
                            &Work::packed_small})
            (w.*small).room(n * n);
    }
    matrices_ = matrices, precision_ = bf16;
}

Status Muon::step(double factor, double rate, double decay, int threads) {
    if (!kernels()) return kUnknownIsa;
    threads_ = threads;
    TRY(move_momentum(factor));
    static_assert(kIterations % 2 == 0, "they are taken two at a time");
    for (int iteration = 0; iteration < kIterations; iteration += 2) {
        TRY(spread(iteration == 0));
        TRY(grams());
        TRY(two_iterations());
    }
    return move_weights(rate, decay);
}

Status Muon::move_momentum(double factor) {
    const auto scale = static_cast<float>(factor), fresh = static_cast<float>(1 - kMomentum);
    return each([](const MuonMatrix& x) { return blocks(x.rows); },
                [&](const MuonMatrix& x, Work& w, int64_t first, int64_t last) {
                    for (int64_t block = first; block < last; ++block) {
                        const int64_t from = block * kRows * x.columns, count = kRows * x.columns;
                        const float* gradient = x.gradient + from;
                        float *momentum = x.momentum + from, *update = w.x.data() + from;
                        for (int64_t i = 0; i < count; ++i) {
                            const float g = scale * gradient[i], m = momentum[i] + fresh * (g - momentum[i]);
                            momentum[i] = m;
                            update[i] = m - fresh * (m - g);
                        }
                        float lanes[16] = {};  // several sums, which the compiler can keep in vectors
                        for (int64_t i = 0; i < count; i += 16)
                            for (int64_t l = 0; l < 16; ++l) lanes[l] += update[i + l] * update[i + l];
                        double sum = 0;
                        for (float lane : lanes) sum += lane;
                        w.sums.data()[block] = static_cast<float>(sum);
                    }
                });
}

// x, which at first is divided by its norm and later has moved, in the forms that the products read.
Status Muon::spread(bool first_time) {
    return each([](const MuonMatrix& x) { return blocks(x.rows); },
                [&](const MuonMatrix& x, Work& w, int64_t first, int64_t last) {
                    const int64_t from = first * kRows * x.columns, count = (last - first) * kRows * x.columns;
                    float* here = w.x.data() + from;
                    if (first_time) {
                        double squares = 0;
                        for (int64_t block = 0; block < blocks(x.rows); ++block) squares += w.sums.data()[block];
                        const auto scale = static_cast<float>(1 / (std::sqrt(squares) + kTiny));
                        for (int64_t i = 0; i < count; ++i) here[i] *= scale;
                    } else {
                        const float *moved = w.moved.data() + from, mean = w.mean;
                        for (int64_t i = 0; i < count; ++i) here[i] = mean * here[i] + moved[i];
                    }
                    auto* rounded = reinterpret_cast<uint16_t*>(w.elements.data());
                    auto* turned = reinterpret_cast<uint16_t*>(w.turned.data());
                    if (precision_) kernels()->convert(1, w.x.data() + from, rounded + from, count);
                    for (int64_t block = first; block < last && tall(x); ++block)
                        if (precision_) turn(rounded, x.rows, x.columns, block, turned);
                        else turn(w.x.data(), x.rows, x.columns, block, w.turned.data());
                });
}

// The Gram matrix of the shorter side: x^T x of a tall matrix, x x^T of a wide one.
Status Muon::grams() {
    TRY(each([](const MuonMatrix& x) { return kernels()->panels(longer(x), shorter(x), 0); },
             [&](const MuonMatrix& x, Work& w, int64_t first, int64_t last) {
                 const int64_t n = shorter(x), m = longer(x), step = tall(x) ? n : 1, across = tall(x) ? 1 : m;
                 kernels()->pack(precision_, m, n, 0, w.x.data(), step, across, m, n, w.packed.data(), first, last);
             }));
    products_.clear();
    for (size_t i = 0; i < matrices_.size(); ++i) {
        const MuonMatrix& x = matrices_[i];
        Work& w = work_[i];
        const float* left = tall(x) ? w.turned.data() : precision_ ? w.elements.data() : w.x.data();
        products_.push_back({left, longer(x), w.packed.data(), shorter(x), longer(x), w.gram.data()});
    }
    return symmetric_products({precision_, static_cast<int64_t>(products_.size()), products_.data()}, threads_);
}

Status Muon::pack_small(Small source) {
    return each([](const MuonMatrix& x) { return kernels()->panels(shorter(x), shorter(x), 0); },
                [&](const MuonMatrix& x, Work& w, int64_t first, int64_t last) {
                    const int64_t n = shorter(x);
                    kernels()->pack(precision_, n, n, 0, (w.*source).data(), n, 1, n, n, w.packed_small.data(), first,
                                    last);
                });
}

Status Muon::keep_left(Small source, Small to) {
    return each(shorter, [&](const MuonMatrix& x, Work& w, int64_t first, int64_t last) {
        const int64_t n = shorter(x);
        char* place = reinterpret_cast<char*>((w.*to).data()) + first * n * (precision_ ? 2 : 4);
        kernels()->convert(precision_, (w.*source).data() + first * n, place, (last - first) * n);
    });
}

// product = left . what is packed, which is known to be symmetric.
Status Muon::multiply(Small left) {
    products_.clear();
    for (size_t i = 0; i < matrices_.size(); ++i) {
        Work& w = work_[i];
        const int64_t n = shorter(matrices_[i]);
        products_.push_back({(w.*left).data(), n, w.packed_small.data(), n, n, w.product.data()});
    }
    return symmetric_products({precision_, static_cast<int64_t>(products_.size()), products_.data()}, threads_);
}

// part(work, first, last) over the elements of all matrices' [n, n].
template <class Part>
Status Muon::each_small(Part part) {
    return each(shorter, [&](const MuonMatrix& x, Work& w, int64_t first, int64_t last) {
        part(w, first * shorter(x), last * shorter(x));
    });
}

// mean = `before` + the mean of the diagonal, which is taken off it.
void Muon::split_off_mean(Small from, float before) {
    for (size_t i = 0; i < matrices_.size(); ++i) {
        const int64_t n = shorter(matrices_[i]);
        float* matrix = (work_[i].*from).data();
        double sum = 0;
        for (int64_t r = 0; r < n; ++r) sum += matrix[r * n + r];
        const auto mean = static_cast<float>(sum / static_cast<double>(n));
        for (int64_t r = 0; r < n; ++r) matrix[r * n + r] -= mean;
        work_[i].mean = before + mean;
    }
}

// mean I + rest = a I + b gram + c gram gram. Leaves rest packed, and the Gram matrix in `left`.
Status Muon::polynomial() {
    TRY(keep_left(&Work::gram, &Work::left));
    TRY(pack_small(&Work::gram));
    TRY(multiply(&Work::left));
    TRY(each_small([](Work& w, int64_t first, int64_t last) {
        const float *gram = w.gram.data(), *square = w.product.data();
        float* rest = w.rest.data();
        for (int64_t i = first; i < last; ++i) rest[i] = kB * gram[i] + kC * square[i];
    }));
    split_off_mean(&Work::rest, kA);
    return pack_small(&Work::rest);
}

// gram = gram . (mean I + rest)
Status Muon::multiply_gram() {
    TRY(multiply(&Work::left));
    return each_small([](Work& w, int64_t first, int64_t last) {
        const float *product = w.product.data(), mean = w.mean;
        float* gram = w.gram.data();
        for (int64_t i = first; i < last; ++i) gram[i] = mean * gram[i] + product[i];
    });
}

Status Muon::two_iterations() {
    TRY(polynomial());
    TRY(keep_left(&Work::rest, &Work::left_rest));
    TRY(multiply_gram());
    TRY(keep_left(&Work::gram, &Work::left));
    TRY(multiply_gram());
    for (Work& w : work_) w.first_rest.swap(w.rest), w.first_mean = w.mean;
    TRY(polynomial());
    TRY(multiply(&Work::left_rest));
    TRY(each_small([](Work& w, int64_t first, int64_t last) {
        const float *one = w.first_rest.data(), *two = w.rest.data(), by_one = w.mean, by_two = w.first_mean;
        float* product = w.product.data();
        for (int64_t i = first; i < last; ++i) product[i] += by_one * one[i] + by_two * two[i];
    }));
    for (Work& w : work_) w.first_mean *= w.mean;
    split_off_mean(&Work::product, 0);
    for (Work& w : work_) w.mean += w.first_mean;
    return multiply_x();
}

// moved = x . product, or product . x; then `mean` x + moved is what x becomes.
Status Muon::multiply_x() {
    for (size_t i = 0; i < matrices_.size(); ++i) {
        const MuonMatrix& x = matrices_[i];
        Work& w = work_[i];
        const int64_t n = shorter(x), m = longer(x);
        const float *left = precision_ ? w.elements.data() : w.x.data(), *packed = w.packed_small.data();
        if (tall(x)) {
            TRY(storycell_pack(precision_, n, n, 0, w.product.data(), n, 1, n, n, w.packed_small.data(), threads_));
        } else {
            TRY(storycell_pack(precision_, n, m, 0, w.x.data(), m, 1, n, m, w.packed.data(), threads_));
            TRY(storycell_convert(precision_, w.product.data(), w.left.data(), n * n, threads_));
            left = w.left.data(), packed = w.packed.data();
        }
        const Product a{precision_, x.rows, n, x.columns, left, n, packed, nullptr, w.moved.data(), 0};
        TRY(storycell_product(&a, threads_));
    }
    return kOk;
}

Status Muon::move_weights(double rate, double decay) {
    const auto kept = static_cast<float>(1 - rate * decay);
    return each([](const MuonMatrix& x) { return blocks(x.rows); },
                [&](const MuonMatrix& x, Work& w, int64_t first, int64_t last) {
                    const auto size = static_cast<float>(-rate * 0.2 * std::sqrt(x.longest));
                    const float *update = w.x.data(), *moved = w.moved.data(), mean = w.mean;
                    for (int64_t i = first * kRows * x.columns; i < last * kRows * x.columns; ++i)
                        x.weight[i] = x.weight[i] * kept + size * (mean * update[i] + moved[i]);
                });
}

}  // namespace storycell
