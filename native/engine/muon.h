// Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon): momentum whose update is made orthogonal.
//
//     m <- b m + (1 - b) gradient                 momentum
//     u = (1 - b) gradient + b m                  Nesterov's look ahead
//     u = p(p(p(p(u / |u|))))                     p lifts every singular value s to a s + b s^3 + c s^5
//     w <- w - rate (decay w + 0.2 sqrt(max(rows, columns)) u)
//
// The polynomials are taken on the Gram matrix X X^T of the shorter side alone, as all of them commute: with A the Gram
// matrix and P = a I + b A + c A A, an iteration turns X into P X and A into P A P; the product Q of all P meets X once,
// at the end. Every product on the Gram matrix is symmetric, so half of it is computed. For 1024 x 256 that is a third of
// the work of four plain iterations.
#pragma once
#include <vector>

#include "engine/arguments.h"
#include "engine/buffer.h"

namespace storycell {

struct MuonMatrix {            // [rows, columns], contiguous, both in whole lanes; rows and columns of zeros change nothing
    float* weight;
    const float* gradient;
    float* momentum;
    int64_t rows, columns;
    double longest;            // the longer side without what fills whole lanes
};

class Muon {
public:
    static constexpr double kMomentum = 0.9;  // as nn/optim.py, which says why
    static constexpr int kIterations = 4;

    // Makes room; throws std::bad_alloc. `bf16`: X is rounded where it is multiplied; the Gram matrix is float32 always.
    void take(const std::vector<MuonMatrix>& matrices, bool bf16);
    // One update of all matrices from `factor` times their gradients; asks for no memory.
    Status step(double factor, double rate, double decay, int threads);

private:
    struct Work {
        Buffer update;           // [rows, columns]; in the end X made orthogonal
        Buffer elements;         // bf16: X
        Buffer turned;           // tall: X^T, elements
        Buffer packed;           // X by X's shorter side, or X itself
        Buffer gram, square, p, q, next, packed_small;  // [n, n]
        Buffer sums;             // of squares, one for each block of rows
    };
    std::vector<MuonMatrix> matrices_;
    std::vector<Work> work_;
    std::vector<SymmetricProduct> products_;
    bool bf16_ = false;

    static bool tall(const MuonMatrix& x) { return x.rows >= x.columns; }
    static int64_t shorter(const MuonMatrix& x) { return tall(x) ? x.columns : x.rows; }
    static int64_t longer(const MuonMatrix& x) { return tall(x) ? x.rows : x.columns; }
    Status move_momentum(double factor, int threads);
    Status normalise(int threads);
    Status grams(int threads);
    Status polynomials(int threads);
    Status pack_small(Buffer Work::*source, int threads);
    Status multiply(Buffer Work::*left, Buffer Work::*out, bool and_gram, int threads);
    Status finish(double rate, double decay, int threads);
    template <class Count, class Part>
    Status each(Count count, int threads, Part part);
};

}  // namespace storycell
