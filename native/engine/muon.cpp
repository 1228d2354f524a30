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
        w.x.room(count), w.packed.room(count), w.sums.room(blocks(x.rows));
        if (bf16) w.elements.room(count / 2);
        if (tall(x)) w.turned.room(count);  // in float32 also where the result is put
        for (Small small : {&Work::gram, &Work::square, &Work::p, &Work::product, &Work::left, &Work::left_p,
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

// x, by its norm at first, in the forms that the products read.
Status Muon::spread(bool normalise) {
    return each([](const MuonMatrix& x) { return blocks(x.rows); },
                [&](const MuonMatrix& x, Work& w, int64_t first, int64_t last) {
                    const int64_t from = first * kRows * x.columns, count = (last - first) * kRows * x.columns;
                    if (normalise) {
                        double squares = 0;
                        for (int64_t block = 0; block < blocks(x.rows); ++block) squares += w.sums.data()[block];
                        const auto scale = static_cast<float>(1 / (std::sqrt(squares) + kTiny));
                        float* here = w.x.data() + from;
                        for (int64_t i = 0; i < count; ++i) here[i] *= scale;
                    }
                    if (precision_)
                        kernels()->convert(1, w.x.data() + from, reinterpret_cast<uint16_t*>(w.elements.data()) + from,
                                           count);
                    for (int64_t block = first; block < last && tall(x); ++block)
                        turn(w.x.data(), x.rows, x.columns, block, precision_, w.turned.data());
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

// out = left . what is packed, which is known to be symmetric.
Status Muon::multiply(Small left, Small out) {
    products_.clear();
    for (size_t i = 0; i < matrices_.size(); ++i) {
        Work& w = work_[i];
        const int64_t n = shorter(matrices_[i]);
        products_.push_back({(w.*left).data(), n, w.packed_small.data(), n, n, (w.*out).data()});
    }
    return symmetric_products({precision_, static_cast<int64_t>(products_.size()), products_.data()}, threads_);
}

// p = a I + b gram + c gram gram; leaves the Gram matrix in `left`.
Status Muon::polynomial() {
    TRY(keep_left(&Work::gram, &Work::left));
    TRY(pack_small(&Work::gram));
    TRY(multiply(&Work::left, &Work::square));
    return each(shorter, [&](const MuonMatrix& x, Work& w, int64_t first, int64_t last) {
        const int64_t n = shorter(x);
        const auto b = static_cast<float>(kB), c = static_cast<float>(kC);
        for (int64_t r = first; r < last; ++r) {
            const float *gram = w.gram.data() + r * n, *square = w.square.data() + r * n;
            float* p = w.p.data() + r * n;
            for (int64_t j = 0; j < n; ++j) p[j] = b * gram[j] + c * square[j];
            p[r] += static_cast<float>(kA);
        }
    });
}

Status Muon::two_iterations() {
    TRY(polynomial());
    TRY(pack_small(&Work::p));
    TRY(keep_left(&Work::p, &Work::left_p));
    TRY(multiply(&Work::left, &Work::product));  // gram . p, and p . that
    TRY(keep_left(&Work::product, &Work::left));
    TRY(multiply(&Work::left, &Work::gram));
    TRY(polynomial());
    TRY(pack_small(&Work::p));
    TRY(multiply(&Work::left_p, &Work::product));
    for (size_t i = 0; i < matrices_.size(); ++i) {
        const MuonMatrix& x = matrices_[i];
        Work& w = work_[i];
        const int64_t n = shorter(x), m = longer(x);
        const float *left, *packed, *q = w.product.data();
        float* out = w.x.data();
        if (tall(x)) {
            TRY(storycell_pack(precision_, n, n, 0, q, n, 1, n, n, w.packed_small.data(), threads_));
            left = precision_ ? w.elements.data() : w.x.data(), packed = w.packed_small.data();
            if (!precision_) out = w.turned.data();
        } else {
            TRY(storycell_pack(precision_, n, m, 0, w.x.data(), m, 1, n, m, w.packed.data(), threads_));
            TRY(storycell_convert(precision_, q, w.left.data(), n * n, threads_));
            left = w.left.data(), packed = w.packed.data();
        }
        const Product a{precision_, x.rows, n, x.columns, left, n, packed, nullptr, out, 0};
        TRY(storycell_product(&a, threads_));
        if (out != w.x.data()) w.x.swap(w.turned);
    }
    return kOk;
}

Status Muon::move_weights(double rate, double decay) {
    const auto kept = static_cast<float>(1 - rate * decay);
    return each([](const MuonMatrix& x) { return blocks(x.rows); },
                [&](const MuonMatrix& x, Work& w, int64_t first, int64_t last) {
                    const auto size = static_cast<float>(-rate * 0.2 * std::sqrt(x.longest));
                    const float* update = w.x.data();
                    for (int64_t i = first * kRows * x.columns; i < last * kRows * x.columns; ++i)
                        x.weight[i] = x.weight[i] * kept + size * update[i];
                });
}

}  // namespace storycell
