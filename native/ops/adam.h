// The optimiser's step over all of a model's tensors: the sum of the gradients' squares, their
// scaling, and AdamW. Tensors are cut into blocks of fixed size, whoever computes them, so no bit
// depends on the number of threads.
#pragma once
#include <cmath>
#include <cstring>

#include "arch/simd.h"
#include "engine/arguments.h"

namespace {

using storycell::kBlock;
static_assert(kBlock % Simd::width == 0, "only a tensor's last vector is not whole");

// Calls visit(tensor, first element, elements, block) for the blocks [first, last) of all tensors.
template <class Visit>
inline void for_blocks(const storycell::Tensors& a, int64_t first, int64_t last, Visit visit) {
    int64_t block = 0;
    for (int64_t i = 0; i < a.tensors && block < last; ++i) {
        const int64_t count = a.tensor[i].count;
        for (int64_t from = 0; from < count; from += kBlock, ++block)
            if (block >= first && block < last)
                visit(a.tensor[i], from, count - from < kBlock ? count - from : kBlock, block);
    }
}

// A vector of n <= width floats and back, without touching what lies behind them.
inline Simd::F load_some(const float* from, int64_t n) {
    if (n >= Simd::width) return Simd::load(from);
    alignas(64) float lanes[Simd::width] = {};
    std::memcpy(lanes, from, static_cast<size_t>(n) * sizeof(float));
    return Simd::load(lanes);
}

inline void store_some(float* to, Simd::F v, int64_t n) {
    if (n >= Simd::width) return Simd::store(to, v);
    alignas(64) float lanes[Simd::width];
    Simd::store(lanes, v);
    std::memcpy(to, lanes, static_cast<size_t>(n) * sizeof(float));
}

storycell::Status gradient_squares(const storycell::Tensors& a, int64_t first, int64_t last) {
    for_blocks(a, first, last, [&](const storycell::Tensor& p, int64_t from, int64_t n, int64_t block) {
        Simd::F sum[4] = {Simd::set1(0), Simd::set1(0), Simd::set1(0), Simd::set1(0)};
        for (int64_t i = 0, v = 0; i < n; i += Simd::width, v = (v + 1) % 4) {
            const Simd::F g = load_some(p.grad + from + i, n - i);
            sum[v] = Simd::fma(g, g, sum[v]);
        }
        a.sums[block] = Simd::sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
    });
    return storycell::kOk;
}

storycell::Status scale_gradients(const storycell::Tensors& a, int64_t first, int64_t last) {
    const Simd::F factor = Simd::set1(static_cast<float>(a.factor));
    for_blocks(a, first, last, [&](const storycell::Tensor& p, int64_t from, int64_t n, int64_t) {
        float* grad = p.grad + from;
        for (int64_t i = 0; i < n; i += Simd::width)
            store_some(grad + i, load_some(grad + i, n - i) * factor, n - i);
    });
    return storycell::kOk;
}

// Decoupled weight decay (Loshchilov & Hutter 2017, arXiv:1711.05101), in the order of torch's own, with `factor` times
// the gradients.
storycell::Status adam_step(const storycell::Tensors& a, int64_t first, int64_t last) {
    using S = Simd;
    const auto lanes = [](double x) { return S::set1(static_cast<float>(x)); };
    for_blocks(a, first, last, [&](const storycell::Tensor& p, int64_t from, int64_t n, int64_t) {
        const S::F new_mean = lanes(1 - p.beta1), old_square = lanes(p.beta2);
        const S::F new_square = lanes(1 - p.beta2), epsilon = lanes(p.epsilon);
        const double correction = std::sqrt(1 - std::pow(p.beta2, *p.step));
        const S::F kept = lanes(1 - p.rate * p.decay), inverse = lanes(1 / correction);
        const S::F factor = lanes(a.factor);
        const S::F size = lanes(-p.rate / (1 - std::pow(p.beta1, *p.step)));
        for (int64_t i = from; i < from + n; i += S::width) {
            const int64_t here = from + n - i;
            const S::F grad = load_some(p.grad + i, here) * factor, old = load_some(p.mean + i, here);
            const S::F mean = S::fma(grad - old, new_mean, old);
            const S::F square =
                S::fma(grad * grad, new_square, load_some(p.square + i, here) * old_square);
            const S::F step = mean / S::fma(S::sqrt(square), inverse, epsilon);
            store_some(p.mean + i, mean, here);
            store_some(p.square + i, square, here);
            store_some(p.value + i, S::fma(step, size, load_some(p.value + i, here) * kept), here);
        }
    });
    return storycell::kOk;
}

}  // namespace
