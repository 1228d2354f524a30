#include "engine/muon.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "engine/kernels.h"
#include "engine/model_state.h"
#include "engine/pool.h"

namespace storycell {
namespace {

constexpr struct {
    double a, b, c;
} kPolynomials[] = {{8.0934, -23.6204, 17.4462}, {3.6366, -2.7219, 0.5365}, {2.6613, -1.9772, 0.4526}};
static_assert(sizeof kPolynomials / sizeof *kPolynomials == Muon::kIterations, "one for each");
constexpr double kTiny = 1e-7, kTiniest = 1e-10;
constexpr int64_t kRows = 16;         // of a block: a thread's least share
constexpr int64_t kSome = 3 * kRows;  // rows that are multiplied, and moved while they are cached

int64_t blocks(int64_t rows) { return rows / kRows; }

// Elements [from, ...) of an array.
const void* at(const void* elements, int64_t precision, int64_t from) {
    return static_cast<const char*>(elements) + from * (precision ? 2 : 4);
}
void* at(float* elements, int64_t precision, int64_t from) {
    return reinterpret_cast<char*>(elements) + from * (precision ? 2 : 4);
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
            before += here;
            if (from >= to) continue;
            if (const Status bad = part(matrices_[i], work_[i], from, to)) return bad;
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
        const int64_t n = shorter(x), count = std::max(inner(x), x.rows) * x.columns;
        w.x.room(count + 16), w.packed.room(count), w.moved.room(count);  // products by columns read 16 past the end
        w.sums.room(x.rows);
        if (bf16) w.elements.room(count / 2 + 16);
        w.across.room(tall(x) ? kernels()->strips_floats(bf16, inner(x), n) : count);
        for (Square* square : {&w.gram, &w.rest, &w.all}) {
            square->numbers.room(n * n), square->packed.room(n * n);
            if (bf16) square->left.room(n * n / 2);
        }
        w.product.room(n * n);
    }
    matrices_ = matrices, precision_ = bf16;
}

Status Muon::step(double factor, double rate, double decay, int threads) {
    if (!kernels()) return kUnknownIsa;
    threads_ = threads;
    TRY(move_momentum(factor));
    TRY(grams());
    TRY(iterate());
    if (matrices_.empty() || !matrices_[0].row_squares) return move_weights(rate, decay);
    TRY(measure_rows());
    scale_rows();
    return move_rows(rate, decay);
}

// Momentum and update, the update in the forms that the products read.
Status Muon::move_momentum(double factor) {
    return each([](const MuonMatrix& x) { return blocks(x.rows); },
                [&](const MuonMatrix& x, Work& w, int64_t first, int64_t last) {
                    const int64_t count = kRows * x.columns;
                    const auto place = [&](int64_t block) {
                        const int64_t from = block * count;
                        if (precision_)
                            kernels()->convert(1, w.x.data() + from, at(w.elements.data(), 1, from), count);
                        kernels()->pack_rows(precision_, inner(x), x.columns, block * kRows,
                                             at(elements(w), precision_, from), w.packed.data());
                    };
                    for (int64_t block = first; block < last; ++block) {
                        const int64_t from = block * count;
                        kernels()->nesterov(x.gradient + from, factor, kMomentum, x.momentum + from,
                                            w.x.data() + from, count);
                        place(block);
                    }
                    if (last == blocks(x.rows) && inner(x) > x.rows) {
                        std::memset(w.x.data() + last * count, 0, static_cast<size_t>(count) * sizeof(float));
                        place(last);
                    }
                    return kOk;
                });
}

// The Gram matrix of the shorter side, x^T x of a tall matrix and x x^T of a wide one, divided by its norm.
Status Muon::grams() {
    TRY(each([](const MuonMatrix& x) { return kernels()->panels(longer(x), shorter(x), 0); },
             [&](const MuonMatrix& x, Work& w, int64_t first, int64_t last) {
                 if (tall(x))
                     kernels()->pack_strips(precision_, inner(x), x.columns, elements(w), w.across.data(), first, last);
                 else
                     kernels()->pack(precision_, x.columns, x.rows, 0, w.x.data(), 1, x.columns, x.columns, x.rows,
                                     w.across.data(), first, last);
                 return kOk;
             }));
    products_.clear();
    for (size_t i = 0; i < matrices_.size(); ++i) {
        const MuonMatrix& x = matrices_[i];
        Work& w = work_[i];
        if (tall(x))
            products_.push_back({nullptr, 0, w.across.data(), w.packed.data(), x.columns, inner(x), w.product.data()});
        else
            products_.push_back(
                {elements(w), x.columns, nullptr, w.across.data(), x.rows, x.columns, w.product.data()});
    }
    TRY(symmetric_products({precision_, static_cast<int64_t>(products_.size()), products_.data()}, threads_));
    TRY(each([](const MuonMatrix& x) { return blocks(shorter(x)); },
             [](const MuonMatrix& x, Work& w, int64_t first, int64_t last) {
                 const int64_t count = kRows * shorter(x);
                 for (int64_t block = first; block < last; ++block)
                     w.sums.data()[block] = sum_of_squares(w.product.data() + block * count, count);
                 return kOk;
             }));
    for (size_t i = 0; i < matrices_.size(); ++i) {
        Work& w = work_[i];
        double squares = 0;
        for (int64_t block = 0; block < blocks(shorter(matrices_[i])); ++block) squares += w.sums.data()[block];
        w.scale = 1 / (std::sqrt(std::sqrt(squares)) + kTiny);
    }
    return form(&Work::gram, 0, false, [](const Work& w) {
        return Terms{w.scale * w.scale, w.product.data(), 0, w.product.data()};
    });
}

// product = left . right, which is known to be symmetric.
Status Muon::multiply(int64_t precision, Square Work::*left_side, Square Work::*right_side) {
    products_.clear();
    for (size_t i = 0; i < matrices_.size(); ++i) {
        Work& w = work_[i];
        const int64_t n = shorter(matrices_[i]);
        products_.push_back(
            {left(precision, w.*left_side), n, nullptr, (w.*right_side).packed.data(), n, n, w.product.data()});
    }
    return symmetric_products({precision, static_cast<int64_t>(products_.size()), products_.data()}, threads_);
}

// to = the terms that `of` gives for a matrix's work, packed for products of that precision. If it splits, the mean of
// the diagonal is taken off it, and is `mean`.
template <class Of>
Status Muon::form(Square Work::*to, int64_t precision, bool splits, Of of) {
    for (size_t i = 0; i < matrices_.size() && splits; ++i) {
        const int64_t n = shorter(matrices_[i]);
        const Terms t = of(work_[i]);
        double sum = 0;
        for (int64_t r = 0; r < n * n; r += n + 1) sum += t.a * t.x[r] + t.b * t.y[r] + (t.z ? t.c * t.z[r] : 0);
        work_[i].mean = sum / static_cast<double>(n);
    }
    return each([](const MuonMatrix& x) { return blocks(shorter(x)); },
                [&](const MuonMatrix& x, Work& w, int64_t first, int64_t last) {
                    const int64_t n = shorter(x), count = kRows * n;
                    const Terms t = of(w);
                    Square& square = w.*to;
                    for (int64_t block = first; block < last; ++block) {
                        const int64_t from = block * count;
                        float* numbers = square.numbers.data() + from;
                        kernels()->combine(t.a, t.x + from, t.b, t.y + from, t.c, t.z ? t.z + from : nullptr, numbers,
                                           count);
                        for (int64_t r = 0; r < kRows && splits; ++r)
                            numbers[r * n + block * kRows + r] -= static_cast<float>(w.mean);
                        if (precision_) kernels()->convert(1, numbers, at(square.left.data(), 1, from), count);
                        kernels()->pack_rows(precision, n, n, block * kRows, at(left(precision, square), precision, from),
                                             square.packed.data());
                    }
                    return kOk;
                });
}

// all_mean I + all = the product of all P.
Status Muon::iterate() {
    for (int k = 0; k < kIterations; ++k) {
        const auto p = kPolynomials[k];
        const int64_t precision = k ? precision_ : 0;
        TRY(multiply(precision, &Work::gram, &Work::gram));
        TRY(form(&Work::rest, precision, true, [p](const Work& w) {
            return Terms{p.b, w.gram.numbers.data(), p.c, w.product.data()};
        }));
        for (size_t i = 0; i < matrices_.size(); ++i) work_[i].rest_mean = p.a + work_[i].mean;
        for (int side = 0; side < 2 && k + 1 < kIterations; ++side) {
            TRY(multiply(precision, &Work::gram, &Work::rest));
            TRY(form(&Work::gram, precision_, false, [](const Work& w) {
                return Terms{w.rest_mean, w.gram.numbers.data(), 1, w.product.data()};
            }));
        }
        if (k == 0) {
            for (size_t i = 0; i < matrices_.size(); ++i) {
                Work& w = work_[i];
                std::swap(w.all, w.rest), w.all_mean = w.rest_mean;
            }
            continue;
        }
        TRY(multiply(precision, &Work::all, &Work::rest));
        TRY(form(&Work::all, precision, true, [](const Work& w) {
            return Terms{w.rest_mean, w.all.numbers.data(), w.all_mean, w.rest.numbers.data(), 1, w.product.data()};
        }));
        for (size_t i = 0; i < matrices_.size(); ++i) {
            Work& w = work_[i];
            w.all_mean = w.all_mean * w.rest_mean + w.mean;
        }
    }
    return kOk;
}

// w.moved = what the product of all P, without its diagonal's mean, makes of these rows of x.
Status Muon::multiply_rows(const MuonMatrix& x, Work& w, int64_t row, int64_t rows) {
    const int64_t n = shorter(x);
    const void* left_side = tall(x) ? elements(w) : left(precision_, w.all);
    const Product a{precision_, rows, n, x.columns, at(left_side, precision_, row * n), n,
                    tall(x) ? w.all.packed.data() : w.packed.data(), nullptr, w.moved.data() + row * x.columns, 0};
    return kernels()->product(a, 0, rows);
}

double Muon::step_length(const MuonMatrix& x, double rate) {
    return rate * 0.2 * std::sqrt(static_cast<double>(std::max(x.real_rows, x.real_columns)));
}

Status Muon::move_weights(double rate, double decay) {
    return each([](const MuonMatrix& x) { return blocks(x.rows); },
                [&](const MuonMatrix& x, Work& w, int64_t first, int64_t last) {
                    const double by = -step_length(x, rate) * w.scale;
                    for (int64_t row = first * kRows; row < last * kRows; row += kSome) {
                        const int64_t rows = std::min(kSome, last * kRows - row), from = row * x.columns;
                        if (const Status bad = multiply_rows(x, w, row, rows)) return bad;
                        kernels()->combine(1 - rate * decay, x.weight + from, by * w.all_mean, w.x.data() + from, by,
                                           w.moved.data() + from, x.weight + from, rows * x.columns);
                    }
                    return kOk;
                });
}

// NorMuon: u, and the sums of its rows' squares.
Status Muon::measure_rows() {
    return each([](const MuonMatrix& x) { return blocks(x.rows); },
                [&](const MuonMatrix& x, Work& w, int64_t first, int64_t last) {
                    for (int64_t row = first * kRows; row < last * kRows; row += kSome) {
                        const int64_t rows = std::min(kSome, last * kRows - row), from = row * x.columns;
                        if (const Status bad = multiply_rows(x, w, row, rows)) return bad;
                        float* u = w.moved.data() + from;
                        kernels()->combine(w.scale * w.all_mean, w.x.data() + from, w.scale, u, 0, nullptr, u,
                                           rows * x.columns);
                        for (int64_t r = 0; r < rows; ++r)
                            w.sums.data()[row + r] = sum_of_squares(u + r * x.columns, x.columns);
                    }
                    return kOk;
                });
}

// What each row is multiplied by, in place of its sum.
void Muon::scale_rows() {
    for (size_t i = 0; i < matrices_.size(); ++i) {
        const MuonMatrix& x = matrices_[i];
        float* sums = work_[i].sums.data();
        double before = 0, after = 0;
        for (int64_t r = 0; r < x.rows; ++r) {
            const double mean = sums[r] / static_cast<double>(x.real_columns);
            x.row_squares[r] += static_cast<float>((1 - kSecondMomentum) * (mean - x.row_squares[r]));
            const double by = 1 / (std::sqrt(static_cast<double>(x.row_squares[r])) + kTiniest);
            before += sums[r], after += sums[r] * by * by, sums[r] = static_cast<float>(by);
        }
        const double kept = after > 0 ? std::sqrt(before / after) : 0;
        for (int64_t r = 0; r < x.rows; ++r) sums[r] = static_cast<float>(sums[r] * kept);
    }
}

Status Muon::move_rows(double rate, double decay) {
    return each([](const MuonMatrix& x) { return x.rows; },
                [&](const MuonMatrix& x, Work& w, int64_t first, int64_t last) {
                    for (int64_t row = first; row < last; ++row) {
                        const int64_t from = row * x.columns;
                        kernels()->combine(1 - rate * decay, x.weight + from, -step_length(x, rate) * w.sums.data()[row],
                                           w.moved.data() + from, 0, nullptr, x.weight + from, x.columns);
                    }
                    return kOk;
                });
}

}  // namespace storycell
