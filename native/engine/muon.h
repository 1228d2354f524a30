// Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon): momentum whose update is made orthogonal.
//
//     m <- b m + (1 - b) gradient                 momentum
//     u = (1 - b) gradient + b m                  Nesterov's look ahead
//     u <- u / sqrt(|u u^T|)                      no singular value is above 1 now, and the largest is near it
//     u <- p3(p2(p1(u)))                          p takes every singular value s to a s + b s^3 + c s^5
//     w <- w - rate (decay w + 0.2 sqrt(max(rows, columns)) u)
//
// NorMuon (Li et al. 2025, arXiv:2510.05491) does not let a few rows of a tall matrix take most of the step: before u
// is added,
//
//     s <- d s + (1 - d) mean(u^2)                of each row
//     u <- u / sqrt(s), and as long as it was     each row by its own s; |u| is kept
//
// The polynomials are those of nn/optim.py. All iterations are taken on the Gram matrix A = X^T X of the shorter side
// alone, as all that is made of it commutes: with P = a I + b A + c A A an iteration turns X into X P and A into P A P,
// so X meets the product of all P once. Products on the Gram matrix are symmetric, and half of each is computed. For
// 1024 x 256 that is less than half of the work of plain iterations.
//
// In bf16 every P is split into d I, where d is the mean of its diagonal, and the rest: d multiplies in float32, so only
// the rest is rounded, which is small where all singular values, or nearly all, are alike. The first iteration is in
// float32: singular values that are small before it are drowned in A by the rounding of the large ones.
#pragma once
#include <vector>

#include "engine/arguments.h"
#include "engine/buffer.h"

namespace storycell {

struct MuonMatrix {            // [rows, columns], contiguous, both in whole lanes; rows and columns of zeros change nothing
    float* weight;
    const float* gradient;
    float* momentum;
    float* row_squares;        // [rows], NorMuon's s; null: Muon
    int64_t rows, columns;
    int64_t real_rows, real_columns;  // without what fills whole lanes
};

class Muon {
public:
    static constexpr double kMomentum = 0.9, kSecondMomentum = 0.95;  // as nn/optim.py, which says why
    static constexpr int kIterations = 3;

    // Makes room; throws std::bad_alloc. `bf16` rounds what goes into the products.
    void take(const std::vector<MuonMatrix>& matrices, bool bf16);
    // One update of all matrices from `factor` times their gradients; asks for no memory.
    Status step(double factor, double rate, double decay, int threads);

private:
    struct Square {            // [n, n], symmetric
        Buffer numbers;
        Buffer left, packed;   // as bf16, if that is multiplied; as a right-hand side
    };
    struct Work {
        Buffer x;              // [rows, columns]: the update; if tall, and rows are no whole 32, with rows of zeros
        Buffer elements;       // bf16: x
        Buffer packed;         // x
        Buffer across;         // x^T, packed: tall as a left-hand side, wide as a right-hand side
        Buffer moved;          // [rows, columns]: where a product leaves a few rows at a time; NorMuon: u
        Buffer sums;           // of squares: one for each block of rows, or for each row
        Square gram, rest, all;  // A; the rest of a P; that of the product of all P so far
        Buffer product;        // [n, n]: what a product leaves
        double scale;          // 1 / sqrt(|A|)
        double mean, rest_mean, all_mean;  // of the diagonals: what was split off last; what `rest` and `all` lack
    };
    struct Terms {             // a x + b y + c z
        double a;
        const float* x;
        double b;
        const float* y;
        double c = 0;
        const float* z = nullptr;
    };
    std::vector<MuonMatrix> matrices_;
    std::vector<Work> work_;
    std::vector<SymmetricProduct> products_;
    int64_t precision_ = 0;
    int threads_ = 1;

    static bool tall(const MuonMatrix& x) { return x.rows >= x.columns; }
    static int64_t shorter(const MuonMatrix& x) { return tall(x) ? x.columns : x.rows; }
    static int64_t longer(const MuonMatrix& x) { return tall(x) ? x.rows : x.columns; }
    static int64_t inner(const MuonMatrix& x) { return tall(x) ? (x.rows + 31) / 32 * 32 : x.rows; }
    const void* elements(const Work& w) const { return precision_ ? w.elements.data() : w.x.data(); }
    static const void* left(int64_t precision, const Square& of) {
        return precision ? of.left.data() : of.numbers.data();
    }
    Status move_momentum(double factor);
    Status grams();
    Status iterate();
    Status multiply(int64_t precision, Square Work::*left_side, Square Work::*right_side);
    template <class Of>
    Status form(Square Work::*to, int64_t precision, bool splits, Of of);
    static double step_length(const MuonMatrix& x, double rate);
    Status multiply_rows(const MuonMatrix& x, Work& w, int64_t row, int64_t rows);
    Status move_weights(double rate, double decay);
    Status measure_rows();
    void scale_rows();
    Status move_rows(double rate, double decay);
    template <class Count, class Part>
    Status each(Count count, Part part);
};

}  // namespace storycell
