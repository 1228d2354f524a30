// What Muon (engine/muon.h) does to single numbers, and how what lies in rows becomes a right-hand side.
#pragma once
#include <cstdint>

#include "arch/simd.h"
#include "ops/precision.h"
#include "ops/tile.h"

namespace {

// Momentum, and Nesterov's look ahead: update = (1 - b) g + b momentum. count: a multiple of 16.
void nesterov(const float* gradient, double factor, double beta, float* momentum, float* update, int64_t count) {
    const Simd::F scale = Simd::set1(static_cast<float>(factor)), fresh = Simd::set1(static_cast<float>(1 - beta));
    for (int64_t i = 0; i < count; i += Simd::width) {
        const Simd::F g = Simd::load(gradient + i) * scale, old = Simd::load(momentum + i);
        const Simd::F m = Simd::fma(fresh, g - old, old);
        Simd::store(momentum + i, m);
        Simd::store(update + i, Simd::fnma(fresh, m - g, m));
    }
}

// to = a x + b y + c z; z may be null. count: a multiple of 16. `to` may be one of them.
void combine(double a, const float* x, double b, const float* y, double c, const float* z, float* to, int64_t count) {
    const Simd::F va = Simd::set1(static_cast<float>(a)), vb = Simd::set1(static_cast<float>(b));
    const Simd::F vc = Simd::set1(static_cast<float>(c));
    for (int64_t i = 0; i < count; i += Simd::width) {
        Simd::F sum = Simd::fma(vb, Simd::load(y + i), va * Simd::load(x + i));
        if (z) sum = Simd::fma(vc, Simd::load(z + i), sum);
        Simd::store(to + i, sum);
    }
}

// Rows [row, row + 16) of a plain packed right-hand side [inner, columns], from elements in rows one after another.
template <class P>
void pack_rows_as(int64_t inner, int64_t columns, int64_t row, const void* elements, void* packed) {
    using E = typename P::Element;
    constexpr int pw = P::per_word, w = Simd::width;
    const Packing shape{inner, columns, 0};
    const E* from = static_cast<const E*>(elements);
    for (int64_t panel = 0; panel < shape.panels(); ++panel) {
        const int vectors = shape.vectors(panel);
        float* to = reinterpret_cast<float*>(static_cast<E*>(packed) + shape.offset(panel)) + row / pw * vectors * w;
        const E* here = from + shape.column(panel, 0);
        for (int step = 0; step < 16 / pw; ++step)
            for (int v = 0; v < vectors; ++v) {
                const E* one = here + step * pw * columns + v * w;
                Simd::store(to + (step * vectors + v) * w, P::words(one, one + (pw - 1) * columns));
            }
        MicroKernel<P>::arrange_panel(to, vectors, 16 / pw);
    }
}

void pack_rows(int64_t precision, int64_t inner, int64_t columns, int64_t row, const void* elements, void* packed) {
    (precision ? pack_rows_as<Bfloat16> : pack_rows_as<Float32>)(inner, columns, row, elements, packed);
}

}  // namespace
