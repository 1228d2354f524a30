// The three cells' arithmetic on `width` units of one stream, after (forward) or before
// (backward) the matrix product. Pointers address the first of those units; gate vectors of one
// unit lie `units` apart in inputs and saved arrays, `width` apart in a forward tile.
#pragma once
#include <cstdint>

#include "arch/simd.h"
#include "engine/arguments.h"
#include "ops/activations.h"

namespace {

// sum: the tile's vectors, one per gate. input: table row or projected row. saved: null when no
// gradient is needed. before/after: fp32 state carried between steps (may be the same memory).
// hidden: where the new hidden state goes, in elements.
template <class P>
struct ForwardPointers {
    const float* sum;
    const float* input;
    typename P::Gate* saved;
    const float* before;
    float* after;
    typename P::Element* hidden;
    const float* reset_bias;
    int64_t units;
};

// grad: gradient to this step's hidden state without `carried`. saved holds the forward's values
// and receives the gradients of the gates' inputs, in elements. carried: fp32 gradient that
// reaches the state past the matrix product, in and out.
template <class P>
struct BackwardPointers {
    Simd::F grad;
    typename P::Gate* saved;
    const float* cell_before;                 // lstm
    const float* cell_after;                  // lstm
    const typename P::Element* hidden_before; // gru
    float* carried;
    int64_t units;
};

template <storycell::Cell kCell>
constexpr storycell::CellShape shape = storycell::kCells[kCell];

struct Lstm {  // i f g o, as torch
    static constexpr auto cell = storycell::kLstm;
    static constexpr int gates = shape<cell>.gates, saved = shape<cell>.saved, back = shape<cell>.back;
    static constexpr bool carries = true;

    struct Gates {
        Simd::F i, f, g, o;
    };

    template <class P>
    static inline void forward(const ForwardPointers<P>& p) {
        using S = Simd;
        constexpr int w = S::width;
        const int64_t h = p.units;
        open<P>({S::load(p.sum) + S::load(p.input), S::load(p.sum + w) + S::load(p.input + h),
                 S::load(p.sum + 2 * w) + S::load(p.input + 2 * h), S::load(p.sum + 3 * w) + S::load(p.input + 3 * h)},
                p);
    }

    // From what the gates are opened by; `sum` and `input` are not read.
    template <class P>
    static inline void open(const Gates& by, const ForwardPointers<P>& p) {
        using S = Simd;
        constexpr Accuracy q = P::forward;
        const int64_t h = p.units;
        const S::F i = sigmoid<q>(by.i), f = sigmoid<q>(by.f), g = tanh<q>(by.g), o = sigmoid<q>(by.o);
        const S::F c = S::fma(f, S::load(p.before), i * g);
        S::store(p.after, c);
        P::store(p.hidden, o * tanh<q>(c));
        if (p.saved) {
            P::store_gate(p.saved, i);
            P::store_gate(p.saved + h, f);
            P::store_gate(p.saved + 2 * h, g);
            P::store_gate(p.saved + 3 * h, o);
        }
    }

    template <class P>
    static inline void backward(const BackwardPointers<P>& p) {
        const int64_t h = p.units;
        const Gates d = gradients<P>(p);
        P::store(p.saved, d.i);
        P::store(p.saved + h, d.f);
        P::store(p.saved + 2 * h, d.g);
        P::store(p.saved + 3 * h, d.o);
    }

    // Of what the gates are opened by; `saved` is left as it is.
    template <class P>
    static inline Gates gradients(const BackwardPointers<P>& p) {
        using S = Simd;
        const int64_t h = p.units;
        const S::F one = S::set1(1.0f);
        const S::F i = P::load_gate(p.saved), f = P::load_gate(p.saved + h);
        const S::F g = P::load_gate(p.saved + 2 * h), o = P::load_gate(p.saved + 3 * h);
        const S::F t = tanh<P::backward>(S::load(p.cell_after));
        const S::F go = p.grad * o;
        const S::F dc = S::fma(go, S::fnma(t, t, one), S::load(p.carried));
        const S::F di = dc * g * S::fnma(i, i, i);
        const S::F df = dc * S::load(p.cell_before) * S::fnma(f, f, f);
        const S::F dg = dc * i * S::fnma(g, g, one);
        const S::F d_o = go * t * (one - o);
        S::store(p.carried, dc * f);
        return {di, df, dg, d_o};
    }
};

struct Gru {  // r z n, as torch: n = tanh(x_n + r * (h . W_n + b_hn))
    static constexpr auto cell = storycell::kGru;
    static constexpr int gates = shape<cell>.gates, saved = shape<cell>.saved, back = shape<cell>.back;
    static constexpr bool carries = true;

    template <class P>
    static inline void forward(const ForwardPointers<P>& p) {
        using S = Simd;
        constexpr Accuracy q = P::forward;
        constexpr int w = S::width;
        const int64_t h = p.units;
        const S::F r = sigmoid<q>(S::load(p.sum) + S::load(p.input));
        const S::F z = sigmoid<q>(S::load(p.sum + w) + S::load(p.input + h));
        const S::F hn = S::load(p.sum + 2 * w) + S::load(p.reset_bias);
        const S::F n = tanh<q>(S::fma(r, hn, S::load(p.input + 2 * h)));
        const S::F state = S::fma(z, S::load(p.before) - n, n);
        S::store(p.after, state);
        P::store(p.hidden, state);
        if (p.saved) {
            P::store_gate(p.saved, r);
            P::store_gate(p.saved + h, z);
            P::store_gate(p.saved + 2 * h, n);
            P::store(p.saved + 3 * h, hn);  // not bounded like a gate: bfloat16's range
        }
    }

    // Gradients are left as r, z, h_n (these three meet W_hh) and x_n.
    template <class P>
    static inline void backward(const BackwardPointers<P>& p) {
        using S = Simd;
        const int64_t h = p.units;
        const S::F one = S::set1(1.0f);
        const S::F r = P::load_gate(p.saved), z = P::load_gate(p.saved + h);
        const S::F n = P::load_gate(p.saved + 2 * h), hn = P::load(p.saved + 3 * h);
        const S::F grad = p.grad + S::load(p.carried);
        const S::F dn = grad * (one - z) * S::fnma(n, n, one);
        const S::F dz = grad * (P::load(p.hidden_before) - n) * S::fnma(z, z, z);
        const S::F dr = dn * hn * S::fnma(r, r, r);
        S::store(p.carried, grad * z);
        P::store(p.saved, dr);
        P::store(p.saved + h, dz);
        P::store(p.saved + 2 * h, dn * r);
        P::store(p.saved + 3 * h, dn);
    }
};

struct Rnn {  // h = tanh(x + h . W)
    static constexpr auto cell = storycell::kRnn;
    static constexpr int gates = shape<cell>.gates, saved = shape<cell>.saved, back = shape<cell>.back;
    static constexpr bool carries = false;

    template <class P>
    static inline void forward(const ForwardPointers<P>& p) {
        const Simd::F state = tanh<P::forward>(Simd::load(p.sum) + Simd::load(p.input));
        P::store(p.hidden, state);
        if (p.saved) P::store_gate(p.saved, state);
    }

    template <class P>
    static inline void backward(const BackwardPointers<P>& p) {
        const Simd::F n = P::load_gate(p.saved);
        P::store(p.saved, p.grad * Simd::fnma(n, n, Simd::set1(1.0f)));
    }
};

}  // namespace
