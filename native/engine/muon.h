// Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon): momentum whose update is made orthogonal.
//
//     m <- b m + (1 - b) gradient                 momentum
//     u = (1 - b) gradient + b m                  Nesterov's look ahead
//     u = p(p(p(p(u / |u|))))                     p takes every singular value s to a s + b s^3 + c s^5
//     w <- w - rate (decay w + 0.2 sqrt(max(rows, columns)) u)
//
// Two iterations at a time are taken on the Gram matrix A = X X^T of the shorter side alone, as all that is made of it
// commutes: with P = a I + b A + c A A an iteration turns X into P X and A into P A P, so X meets the product of two P
// once. Every such factor is split into d I, where d is the mean of its diagonal, and the rest: d multiplies in float32,
// so that in bf16 only the rest is rounded, which is small where all singular values, or nearly all, are alike. Products on the Gram matrix are symmetric, and half of each is computed. For 1024 x 256 that is less than half of
// the work of plain iterations. Four at a time would be a third, but what rounding leaves in directions where X is
// nearly zero grows by a^2 in every iteration until the Gram matrix is taken anew.
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

    // Makes room; throws std::bad_alloc. `bf16` rounds what goes into the products.
    void take(const std::vector<MuonMatrix>& matrices, bool bf16);
    // One update of all matrices from `factor` times their gradients; asks for no memory.
    Status step(double factor, double rate, double decay, int threads);

private:
    struct Work {
        Buffer x;                // [rows, columns]: the update on its way to being orthogonal
        Buffer elements;         // bf16: x
        Buffer turned;           // tall: x^T, elements
        Buffer packed;           // x
        Buffer moved;            // [rows, columns]: what a product leaves
        Buffer sums;             // of squares, one for each block of rows
        Buffer gram, rest, first_rest, product;  // [n, n]; two R, and what a product leaves
        Buffer left, left_rest;  // [n, n] elements: a left-hand side; the first R
        Buffer packed_small;     // [n, n]
        float mean, first_mean;  // of the diagonals of the two P, or of their product: what the rests lack
    };
    using Small = Buffer Work::*;
    std::vector<MuonMatrix> matrices_;
    std::vector<Work> work_;
    std::vector<SymmetricProduct> products_;
    int64_t precision_ = 0;
    int threads_ = 1;

    static bool tall(const MuonMatrix& x) { return x.rows >= x.columns; }
    static int64_t shorter(const MuonMatrix& x) { return tall(x) ? x.columns : x.rows; }
    static int64_t longer(const MuonMatrix& x) { return tall(x) ? x.rows : x.columns; }
    Status move_momentum(double factor);
    Status spread(bool first_time);
    Status grams();
    Status pack_small(Small source);
    Status keep_left(Small source, Small to);
    Status multiply(Small left);
    template <class Part>
    Status each_small(Part part);
    void split_off_mean(Small from, float before);
    Status polynomial();
    Status multiply_gram();
    Status two_iterations();
    Status multiply_x();
    Status move_weights(double rate, double decay);
    template <class Count, class Part>
    Status each(Count count, Part part);
};

}  // namespace storycell
