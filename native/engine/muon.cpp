#include "engine/muon.h"

#include <algorithm>
#include <cmath>

#include "engine/kernels.h"
#include "engine/model_state.h"
#include "engine/pool.h"

namespace storycell {
namespace {

constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;  // lifts small singular values fastest
constexpr double kTiny = 1e-7;
constexpr int64_t kRows = 16;  // of a block: a thread's least share

int64_t blocks(int64_t rows) { return rows / kRows; }

// to[c, r] = x[r, c] for a block of rows, as elements.
void turn(const float* x, int64_t rows, int64_t columns, int64_t block, int64_t precision, void* to) {
    float column[kRows];
    const float* from = x + block * kRows * columns;
    for (int64_t c = 0; c < columns; ++c) {
        for (int64_t r = 0; r < kRows; ++r) column[r] = from[r * columns + c];
        kernels()->convert(precision, column, static_cast<char*>(to) + (c * rows + block * kRows) * (precision ? 2 : 4),
                           kRows);
    }
}

}  // namespace

// Status part(matrix, its work, first, last) over the shares of all matrices' counts as if they were one range.
template <class Count, class Part>
Status Muon::each(Count count, int threads, Part part) {
    int64_t all = 0;
    for (const MuonMatrix& x : matrices_) all += count(x);
    return split(all, 1, threads, [&](int64_t first, int64_t last) {
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
    matrices_ = matrices;
    if (work_.size() < matrices.size()) work_.resize(matrices.size());
    products_.reserve(2 * matrices.size());
    bf16_ = bf16;
    for (size_t i = 0; i < matrices.size(); ++i) {
        const MuonMatrix& x = matrices[i];
        Work& w = work_[i];
        const int64_t count = x.rows * x.columns, n = shorter(x);
        w.update.room(count), w.packed.room(count);
        if (bf16) w.elements.room(count / 2);
        if (tall(x)) w.turned.room(count);  // in float32 also where the result is put
        for (Buffer Work::*small : {&Work::gram, &Work::square, &Work::p, &Work::q, &Work::next, &Work::packed_small})
            (w.*small).room(n * n);
        w.sums.room(blocks(x.rows));
    }
}

Status Muon::step(double factor, double rate, double decay, int threads) {
    if (!kernels()) return kUnknownIsa;
    TRY(move_momentum(factor, threads));
    TRY(normalise(threads));
    TRY(grams(threads));
    TRY(polynomials(threads));
    return finish(rate, decay, threads);
}

Status Muon::move_momentum(double factor, int threads) {
    const auto scale = static_cast<float>(factor), fresh = static_cast<float>(1 - kMomentum);
    return each([](const MuonMatrix& x) { return blocks(x.rows); }, threads,
                [&](const MuonMatrix& x, Work& w, int64_t first, int64_t last) {
                    for (int64_t block = first; block < last; ++block) {
                        const int64_t from = block * kRows * x.columns, count = kRows * x.columns;
                        const float* gradient = x.gradient + from;
                        float *momentum = x.momentum + from, *update = w.update.data() + from;
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

Status Muon::normalise(int threads) {
    const int64_t precision = bf16_;
    return each([](const MuonMatrix& x) { return blocks(x.rows); }, threads,
                [&](const MuonMatrix& x, Work& w, int64_t first, int64_t last) {
                    double squares = 0;
                    for (int64_t block = 0; block < blocks(x.rows); ++block) squares += w.sums.data()[block];
                    const auto scale = static_cast<float>(1 / (std::sqrt(squares) + kTiny));
                    float* update = w.update.data();
                    for (int64_t i = first * kRows * x.columns; i < last * kRows * x.columns; ++i) update[i] *= scale;
                    if (bf16_) {
                        const int64_t from = first * kRows * x.columns;
                        kernels()->convert(1, update + from, reinterpret_cast<uint16_t*>(w.elements.data()) + from,
                                           (last - first) * kRows * x.columns);
                    }
                    for (int64_t block = first; block < last && tall(x); ++block)
                        turn(update, x.rows, x.columns, block, precision, w.turned.data());
                });
}

// The Gram matrix of the shorter side: X^T X of a tall matrix, X X^T of a wide one.
Status Muon::grams(int threads) {
    const int64_t precision = bf16_;
    TRY(each([](const MuonMatrix& x) { return kernels()->panels(longer(x), shorter(x), 0); }, threads,
             [&](const MuonMatrix& x, Work& w, int64_t first, int64_t last) {
                 const int64_t n = shorter(x), m = longer(x), step = tall(x) ? n : 1, across = tall(x) ? 1 : m;
                 kernels()->pack(precision, m, n, 0, w.update.data(), step, across, m, n, w.packed.data(), first, last);
             }));
    products_.clear();
    for (size_t i = 0; i < matrices_.size(); ++i) {
        const MuonMatrix& x = matrices_[i];
        Work& w = work_[i];
        const float* left = tall(x) ? w.turned.data() : bf16_ ? w.elements.data() : w.update.data();
        products_.push_back({left, longer(x), w.packed.data(), shorter(x), longer(x), w.gram.data()});
    }
    return symmetric_products({precision, static_cast<int64_t>(products_.size()), products_.data()}, threads);
}

Status Muon::pack_small(Buffer Work::*source, int threads) {
    return each([](const MuonMatrix& x) { return kernels()->panels(shorter(x), shorter(x), 0); }, threads,
                [&](const MuonMatrix& x, Work& w, int64_t first, int64_t last) {
                    const int64_t n = shorter(x);
                    kernels()->pack(0, n, n, 0, (w.*source).data(), n, 1, n, n, w.packed_small.data(), first, last);
                });
}

// out = left . what is packed; `and_gram`: also square = gram . what is packed.
Status Muon::multiply(Buffer Work::*left, Buffer Work::*out, bool and_gram, int threads) {
    products_.clear();
    for (size_t i = 0; i < matrices_.size(); ++i) {
        Work& w = work_[i];
        const int64_t n = shorter(matrices_[i]);
        if (left) products_.push_back({(w.*left).data(), n, w.packed_small.data(), n, n, (w.*out).data()});
        if (and_gram) products_.push_back({w.gram.data(), n, w.packed_small.data(), n, n, w.square.data()});
    }
    return symmetric_products({0, static_cast<int64_t>(products_.size()), products_.data()}, threads);
}

// q = the product of all iterations' polynomials of the Gram matrix.
Status Muon::polynomials(int threads) {
    for (int iteration = 0; iteration < kIterations; ++iteration) {
        const bool first = iteration == 0, last = iteration + 1 == kIterations;
        TRY(pack_small(&Work::gram, threads));
        TRY(multiply(nullptr, nullptr, true, threads));
        TRY(each(shorter, threads, [&](const MuonMatrix& x, Work& w, int64_t from, int64_t to) {
            const int64_t n = shorter(x);
            const auto b = static_cast<float>(kB), c = static_cast<float>(kC);
            for (int64_t r = from; r < to; ++r) {
                const float *gram = w.gram.data() + r * n, *square = w.square.data() + r * n;
                float* p = w.p.data() + r * n;
                for (int64_t j = 0; j < n; ++j) p[j] = b * gram[j] + c * square[j];
                p[r] += static_cast<float>(kA);
            }
        }));
        TRY(pack_small(&Work::p, threads));
        if (!first || !last) TRY(multiply(first ? nullptr : &Work::q, &Work::next, !last, threads));
        for (Work& w : work_) w.q.swap(first ? w.p : w.next);
        if (!last) TRY(multiply(&Work::square, &Work::gram, false, threads));  // gram . p, by p again
    }
    return kOk;
}

Status Muon::finish(double rate, double decay, int threads) {
    const int64_t precision = bf16_;
    for (size_t i = 0; i < matrices_.size(); ++i) {
        const MuonMatrix& x = matrices_[i];
        Work& w = work_[i];
        const int64_t n = shorter(x), m = longer(x), columns = x.columns;
        const float *left, *packed;
        float* out = w.update.data();
        if (tall(x)) {  // X Q
            TRY(storycell_pack(precision, n, n, 0, w.q.data(), n, 1, n, n, w.packed_small.data(), threads));
            left = bf16_ ? w.elements.data() : w.update.data(), packed = w.packed_small.data();
            if (!bf16_) out = w.turned.data();
        } else {  // Q X
            TRY(storycell_pack(precision, n, m, 0, w.update.data(), m, 1, n, m, w.packed.data(), threads));
            TRY(storycell_convert(precision, w.q.data(), w.next.data(), n * n, threads));
            left = w.next.data(), packed = w.packed.data();
        }
        const Product p{precision, x.rows, n, columns, left, n, packed, nullptr, out, 0};
        TRY(storycell_product(&p, threads));
        if (out != w.update.data()) w.update.swap(w.turned);
    }
    const auto kept = static_cast<float>(1 - rate * decay);
    return each([](const MuonMatrix& x) { return blocks(x.rows); }, threads,
                [&](const MuonMatrix& x, Work& w, int64_t first, int64_t last) {
                    const auto size = static_cast<float>(-rate * 0.2 * std::sqrt(x.longest));
                    const float* update = w.update.data();
                    for (int64_t i = first * kRows * x.columns; i < last * kRows * x.columns; ++i)
                        x.weight[i] = x.weight[i] * kept + size * update[i];
                });
}

}  // namespace storycell
