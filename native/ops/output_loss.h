// Output layer, softmax cross-entropy and both gradients in one pass over the rows: logits live
// only in a strip of scratch that stays in the first-level cache.
#pragma once
#include <cmath>
#include <cstdint>

#include "arch/simd.h"
#include "engine/arguments.h"
#include "ops/activations.h"
#include "ops/matmul.h"
#include "ops/scratch.h"

namespace {

template <class P>
storycell::Status output_loss_rows(const storycell::OutputLoss& a, int64_t first, int64_t last) {
    using E = typename P::Element;
    constexpr int w = Simd::width;
    constexpr int64_t strip = (MicroKernel<P>::rows > 8 ? 2 : 4) * MicroKernel<P>::rows;
    const int64_t V = a.characters, wide = (V + 15) / 16 * 16, H = a.units;
    const Scratch scratch(strip * wide);
    float* logits = scratch.floats();
    if (!logits) return storycell::kNoMemory;
    const auto* hidden = static_cast<const E*>(a.hidden);
    auto* grads = static_cast<E*>(a.logit_grads);
    const auto scale = static_cast<float>(a.scale);
    const auto soft_scale = static_cast<float>(a.soft ? a.scale * a.share : 0.0);
    for (int64_t r0 = first; r0 < last; r0 += strip) {
        const int64_t rows = last - r0 < strip ? last - r0 : strip;
        storycell::Product forward{a.precision, rows, H, wide, hidden + r0 * H, H,
                                   a.packed_forward, a.bias, logits, 0};
        if (const storycell::Status bad = product_rows<P>(forward, 0, rows)) return bad;
        for (int64_t r = 0; r < rows; ++r) {
            float* row = logits + r * wide;
            const int64_t t = (r0 + r) / a.streams, b = (r0 + r) % a.streams;
            const int64_t target =
                a.targets[b * a.targets_stream_stride + t * a.targets_step_stride];
            for (int64_t j = V; j < wide; ++j) row[j] = -INFINITY;
            Simd::F most = Simd::load(row);
            for (int64_t j = w; j < wide; j += w) most = Simd::larger(most, Simd::load(row + j));
            const float top = Simd::largest(most), at_target = row[target];
            Simd::F sum = Simd::set1(0.0f);
            for (int64_t j = 0; j < wide; j += w) {
                const Simd::F e = exponential_of_negative(Simd::load(row + j) - Simd::set1(top));
                Simd::store(row + j, e);
                sum = sum + e;
            }
            const float total = Simd::sum(sum);
            a.losses[r0 + r] = std::log(total) - (at_target - top);
            if (!grads) continue;
            const Simd::F factor = Simd::set1(scale / total);
            for (int64_t j = 0; j < wide; j += w)
                Simd::store(row + j, Simd::load(row + j) * factor);
            if (a.soft) {
                const float* soft = a.soft + (b * a.steps + t) * V;
                for (int64_t j = 0; j < V; ++j) row[j] -= soft_scale * soft[j];
            }
            row[target] -= scale - soft_scale;
            for (int64_t j = V; j < wide; ++j) row[j] = 0.0f;
            for (int64_t j = 0; j < wide; j += w)
                P::store(grads + (r0 + r) * wide + j, Simd::load(row + j));
        }
        if (!grads) continue;
        storycell::Product backward{a.precision, rows, wide, H, grads + r0 * wide, wide,
                                    a.packed_backward, nullptr, a.grad_hidden + r0 * H, 0};
        if (const storycell::Status bad = product_rows<P>(backward, 0, rows)) return bad;
    }
    return storycell::kOk;
}

}  // namespace
