#include "engine/inference.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "engine/folding.h"
#include "engine/guarded.h"
#include "engine/model_state.h"
#include "engine/context.h"
#include "engine/pool.h"
#include "ops/prefetch.h"

namespace storycell {
namespace {

constexpr int64_t kRows = 2048;  // characters read at a time: what lies between two layers stays in the cache
constexpr int64_t kLogits = int64_t{1} << 22;  // as many logits at a time

void copy(float* to, const float* from, int64_t count) {
    std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
}

void clear(float* to, int64_t count) { std::memset(to, 0, static_cast<size_t>(count) * sizeof(float)); }

bool all_finite(const float* from, int64_t count) {
    return !from || std::all_of(from, from + count, [](float x) { return std::isfinite(x); });
}

// Rows of `from` floats as rows of `to`: zeros after what is there, or without what is too much. null: all zeros.
void resize_rows(const float* source, int64_t rows, int64_t from, int64_t to, float* out) {
    const int64_t both = std::min(from, to);
    for (int64_t r = 0; r < rows; ++r, out += to) {
        if (source) copy(out, source + r * from, both);
        clear(out + (source ? both : 0), to - (source ? both : 0));
    }
}

}  // namespace

class Network {
public:
    Network(const NetworkWeights& w, int64_t elements)
        : cell(w.cell), L(w.layers), H(w.units), V(w.characters), G(kCells[w.cell].gates), P(whole_lanes(w.units)),
          W(whole_lanes(w.characters)), normalises(w.gate_norm), context{w.ngrams, w.ngram_rows, w.matches, w.characters}, D(whole_lanes(w.embedding)), precision(elements),
          layers(static_cast<size_t>(w.layers)) {}

    Status pack(const NetworkWeights& w, int threads) {
        for (int64_t k = 0; k < L; ++k) {
            PackedLayer& layer = layers[k];
            fold_biases(cell, H, P, w.layer[k].input_bias, w.layer[k].recurrent_bias, layer.bias.room(G * P),
                        layer.reset_bias.room(P), normalises);
            if (normalises) pad_gates(w.layer[k].input_bias, 1, 1, layer.gate_bias.room(G * P));
            TRY(pack_gates(w.layer[k].recurrent, H, P, G > 1, precision, threads, layer.recurrent));
            if (k) TRY(pack_gates(w.layer[k].input, H, P, false, precision, threads, layer.input));
        }
        if (context.any()) {  // float32 in every precision
            TRY(pack_gates(w.layer[0].input, w.embedding, D, false, kFloat32, threads, layers[0].input));
            resize_rows(w.embedding_weight, V, w.embedding, D, embedding.room(V * D));
            resize_rows(w.context_table, context.rows(), w.embedding, D, context_table.room(context.rows() * D));
        } else {
            TRY(make_table(w, threads));
        }
        resize_rows(w.output_bias, 1, V, W, output_bias.room(W));
        finite = precision != kInt8 || (all_finite(w.output, V * H) && matrices_finite(w));
        return static_cast<Status>(storycell_pack(precision, P, W, 0, w.output, 1, H, H, V,
                                                  output.room(packed_bytes(precision, P, W) / 4), threads));
    }

    Status read(const Reading& a, int threads) const {
        const int64_t B = a.streams, BP = B * P, rows = a.logits ? std::min(kRows, kLogits / W) : kRows;
        const int64_t most = std::min(a.steps, std::max<int64_t>(1, rows / B));  // steps
        Buffer h, c, one, two, inputs, every_cell, row_logits, row_losses, read_vectors;
        const bool looks_up = context.any();
        std::vector<Context> contexts = remembered(a.past, B);
        float* const vectors = looks_up ? read_vectors.room(most * B * D) : nullptr;
        pad_state(a.hidden, B, h);
        pad_state(cell == kLstm ? a.cell : nullptr, B, c);
        float *above = one.room((most + 1) * BP), *below = L > 1 ? two.room((most + 1) * BP) : above;
        float* const projected = L > 1 || looks_up ? inputs.room(most * BP * G) : nullptr;
        float* const cells = a.cells && cell == kLstm ? every_cell.room((most + 1) * BP) : nullptr;
        float* const logits = a.logits ? row_logits.room(most * B * W) : nullptr;
        float* const losses = a.losses ? row_losses.room(most * B) : nullptr;
        for (int64_t t = 0; t < a.steps; t += most) {
            const int64_t n = std::min(most, a.steps - t);
            for (int64_t k = 0; k < L; ++k) {
                Recurrence r = arguments(k, B);
                r.steps = n;
                r.hidden = above;
                r.carry = cell == kLstm ? c.data() + k * BP : cell == kGru ? h.data() + k * BP : nullptr;
                if (cells) {
                    r.cell_state = cells;
                    copy(cells, c.data() + k * BP, BP);
                }
                copy(above, h.data() + k * BP, BP);
                if (k == 0 && looks_up) TRY(look_up_all(a, t, n, contexts, vectors, threads));
                if (k || looks_up) {
                    const int64_t in = k ? P : D;
                    const Product p{0, n * B, in, G * P, k ? below + BP : vectors, in, layers[k].input.data(),
                                    input_bias(k), projected, 0};
                    TRY(storycell_product(&p, threads));
                    r.projected = projected;
                } else {
                    r.ids = a.ids + t;
                    r.ids_stream_stride = a.steps, r.ids_step_stride = 1;
                }
                TRY(storycell_forward(&r, threads));
                copy(h.data() + k * BP, above + n * BP, BP);
                if (cells) copy(c.data() + k * BP, cells + n * BP, BP);
                if (a.hiddens) hand_out(above + BP, P, H, a, t, n, a.hiddens + k * B * a.steps * H);
                if (cells) hand_out(cells + BP, P, H, a, t, n, a.cells + k * B * a.steps * H);
                std::swap(below, above);
            }
            if (losses) {
                OutputLoss o{};
                o.steps = n, o.streams = B, o.units = P, o.characters = V, o.hidden = below + BP;
                o.packed_forward = output.data(), o.bias = output_bias.data();
                o.targets = a.targets + t, o.targets_stream_stride = a.steps, o.targets_step_stride = 1;
                o.losses = losses;
                TRY(storycell_output_loss(&o, threads));
                hand_out(losses, 1, 1, a, t, n, a.losses);
            }
            if (logits) {
                const Product p{0, n * B, P, W, below + BP, P, output.data(), output_bias.data(), logits, 0};
                TRY(storycell_product(&p, threads));
                hand_out(logits, W, V, a, t, n, a.logits);
            }
        }
        if (a.final_hidden) resize_rows(h.data(), L * B, P, H, a.final_hidden);
        if (a.final_cell && cell == kLstm) resize_rows(c.data(), L * B, P, H, a.final_cell);
        for (int64_t b = 0; looks_up && a.final_past && b < B; ++b)
            contexts[static_cast<size_t>(b)].end(a.final_past + b * context.memory());
        return kOk;
    }

    Status write(const Writing& a, int threads) const {
        const int64_t B = a.streams, BP = B * P, slot = BP * kElementBytes[precision] / 4;  // in floats
        // A byte holds no NaN that would show in the logits.
        const float* const cell_state = cell == kLstm ? a.cell : nullptr;
        if (precision == kInt8 && (!finite || !all_finite(a.hidden, L * B * H) || !all_finite(cell_state, L * B * H)))
            return kNotFinite;
        Buffer h, carry, slots, projected, logits, kept, vectors;
        pad_state(a.hidden, B, h);
        pad_state(cell == kLstm ? a.cell : a.hidden, B, carry);
        slots.room(2 * slot * L), projected.room(BP * G), logits.room(B * W);
        if (a.logits) kept.room(a.length * B * W);
        std::vector<GenerationLayer> all(layers.size());
        for (int64_t k = 0; k < L; ++k) {
            const PackedLayer& layer = layers[k];
            float* hidden = slots.data() + 2 * slot * k;
            TRY(storycell_convert(precision, h.data() + k * BP, hidden, BP, threads));
            const bool reads = k || context.any();
            all[k] = {layer.recurrent.data(), reads ? layer.input.data() : nullptr, reads ? nullptr : table.data(),
                      reads ? input_bias(k) : nullptr, layer.reset_bias.data(), hidden, carry.data() + k * BP,
                      reads ? projected.data() : nullptr, gate_bias(k)};
        }
        Generation g{cell, precision, L, B, P, V, a.length, all.data(), output.data(), output_bias.data(),
                     logits.data(), a.current, a.random, a.out, kept.data(), a.choice, a.unknown,
                     context.ngrams, context.ngram_rows, context.matches, D, embedding.data(), context_table.data(), a.past,
                     context.any() ? vectors.room(B * D) : nullptr, H};
        TRY(storycell_generate(&g, threads));
        for (int64_t k = 0; k < L && cell != kGru; ++k)
            TRY(storycell_widen(precision, slots.data() + 2 * slot * k, h.data() + k * BP, BP, threads));
        resize_rows(cell == kGru ? carry.data() : h.data(), L * B, P, H, a.final_hidden);
        if (cell == kLstm) resize_rows(carry.data(), L * B, P, H, a.final_cell);
        if (a.logits) resize_rows(kept.data(), B * a.length, W, V, a.logits);
        return kOk;
    }

    bool reads() const { return precision == kFloat32; }
    bool has_cell() const { return cell == kLstm; }
    bool remembers() const { return context.any(); }
    Status check_past(const int64_t* past, int64_t B) const {
        for (int64_t i = 0; past && i < B * context.memory(); ++i)
            if (past[i] < 0 || past[i] >= V) return kBadCharacter;
        return kOk;
    }

private:
    struct PackedLayer {
        Buffer recurrent, input;  // packed
        Buffer bias, reset_bias;  // [G*P]: of input and hidden together; gru: [P] of the hidden part of its last gate
        Buffer gate_bias;         // [G*P] of normalised gates: of the input, and `bias` of hidden alone
    };

    int64_t cell, L, H, V, G, P, W;  // P, W: units and characters in whole lanes
    bool normalises;                 // its gates
    ContextShape context;
    int64_t D;                       // width of the input in whole lanes
    int64_t precision;
    bool finite = true;  // its matrices, where bytes would not show what is not
    std::vector<PackedLayer> layers;
    Buffer table, output, output_bias;  // table [V, G*P]: what a character adds to the first layer's gates
    Buffer embedding, context_table;    // instead of it, with a context: [V, D], [rows, D]

    // Each gate's block of rows is followed by zeros up to whole lanes, and so is each row: padded units stay zero.
    void pad_gates(const float* source, int64_t columns, int64_t padded, float* out) const {
        for (int64_t gate = 0; gate < G; ++gate) {
            resize_rows(source + gate * H * columns, H, columns, padded, out + gate * P * padded);
            clear(out + (gate * P + H) * padded, (P - H) * padded);
        }
    }

    // A weight [G*H, inner], packed as the right-hand side [padded inner, G*P] of what is read.
    Status pack_gates(const float* source, int64_t inner, int64_t padded, bool interleaved, int64_t elements,
                      int threads, Buffer& to) const {
        Buffer plain;
        pad_gates(source, inner, padded, plain.room(G * P * padded));
        return static_cast<Status>(storycell_pack(elements, padded, interleaved ? P : G * P, interleaved ? G : 0,
                                                  plain.data(), 1, padded, padded, G * P,
                                                  to.room(packed_bytes(elements, padded, G * P) / 4), threads));
    }

    bool matrices_finite(const NetworkWeights& w) const {
        for (int64_t k = 0; k < L; ++k)
            if (!all_finite(w.layer[k].recurrent, G * H * H) || (k && !all_finite(w.layer[k].input, G * H * H)) ||
                !all_finite(layers[k].bias.data(), G * P) || !all_finite(layers[k].reset_bias.data(), P))
                return false;
        if (context.any())
            return all_finite(w.layer[0].input, G * H * w.embedding) && all_finite(embedding.data(), V * D) &&
                   all_finite(context_table.data(), context.rows() * D);
        return all_finite(table.data(), V * G * P);
    }

    std::vector<Context> remembered(const int64_t* past, int64_t B) const {
        std::vector<Context> to(static_cast<size_t>(context.any() ? B : 0), Context(context));
        for (size_t b = 0; b < to.size(); ++b)
            to[b].begin(past ? past + static_cast<int64_t>(b) * context.memory() : nullptr);
        return to;
    }

    // What the first layer reads of n steps from t on, [n, B, D].
    Status look_up_all(const Reading& a, int64_t t, int64_t n, std::vector<Context>& contexts, float* to,
                       int threads) const {
        const int64_t B = a.streams;
        for (int64_t i = 0; i < B * n; ++i) {
            const int64_t id = a.ids[i / n * a.steps + t + i % n];
            if (id < 0 || id >= V) return kBadCharacter;
        }
        return split(B, 8, threads, [&](int64_t first, int64_t last) {
            const int64_t N = context.met();
            std::vector<int64_t> met(static_cast<size_t>(n * N));
            for (int64_t b = first; b < last; ++b) {
                const int64_t* const ids = a.ids + b * a.steps + t;
                for (int64_t i = 0; i < n; ++i) contexts[static_cast<size_t>(b)].meet(ids[i], met.data() + i * N);
                for (int64_t i = 0; i < n; ++i) {
                    for (int64_t k = 0; k < N && i + kAhead < n; ++k)
                        fetch(context_table.data() + met[static_cast<size_t>((i + kAhead) * N + k)] * D, D, false);
                    add_rows(context, met.data() + i * N, D, embedding.data(), context_table.data(), ids[i],
                             to + (i * B + b) * D);
                }
            }
            return kOk;
        });
    }

    Status make_table(const NetworkWeights& w, int threads) {
        const int64_t columns = w.embedding ? w.embedding : V, padded = whole_lanes(columns);
        Buffer input, rows, packed;
        pad_gates(w.layer[0].input, columns, padded, input.room(G * P * padded));
        if (w.embedding) resize_rows(w.embedding_weight, V, columns, padded, rows.room(V * padded));
        return fold_table(V, G * P, padded, input.data(), rows.data(), input_bias(0), table.room(V * G * P), packed,
                          threads);
    }

    const float* input_bias(int64_t k) const { return layers[k].bias.data(); }
    const float* gate_bias(int64_t k) const { return normalises ? layers[k].gate_bias.data() : nullptr; }

    void pad_state(const float* plain, int64_t B, Buffer& to) const {
        resize_rows(plain, L * B, H, P, to.room(L * B * P));
    }

    Recurrence arguments(int64_t k, int64_t B) const {
        Recurrence r{};
        r.cell = cell, r.streams = B, r.units = P, r.characters = V;
        r.packed = layers[k].recurrent.data(), r.table = table.data(), r.reset_bias = layers[k].reset_bias.data();
        r.gate_bias = gate_bias(k), r.real_units = H;
        return r;
    }

    // Rows of a piece [n, B] into those of the text [B, T], from step t on.
    static void hand_out(const float* rows, int64_t stride, int64_t count, const Reading& a, int64_t t, int64_t n,
                         float* to) {
        for (int64_t b = 0; b < a.streams; ++b)
            for (int64_t s = 0; s < n; ++s)
                copy(to + (b * a.steps + t + s) * count, rows + (s * a.streams + b) * stride, count);
    }
};

namespace {

constexpr int64_t kMost = int64_t{1} << 24;

bool between(int64_t n, int64_t least, int64_t most) { return n >= least && n <= most; }

Status check(const NetworkWeights& w, int64_t precision, int threads) {
    if (!between(w.cell, 0, kCellCount - 1) || !between(precision, kFloat32, kInt8) || !between(threads, 1, 1024) ||
        !between(w.layers, 1, 1024) || !between(w.units, 1, 1 << 16) || !between(w.characters, 1, 1 << 21) ||
        !between(w.embedding, 0, 1 << 16) || !between(w.gate_norm, 0, w.cell == kLstm))
        return kBadSize;
    const ContextShape context{w.ngrams, w.ngram_rows, w.matches, w.characters};
    if (!context.fits() || (context.any() && !w.embedding)) return kBadSize;
    if (context.any() && !w.context_table) return kMissing;
    if (!w.layer || !w.output || !w.output_bias || !w.embedding != !w.embedding_weight) return kMissing;
    for (int64_t k = 0; k < w.layers; ++k) {
        const NetworkLayer& layer = w.layer[k];
        if (!layer.input || !layer.recurrent || !layer.input_bias != !layer.recurrent_bias) return kMissing;
        if (w.gate_norm && !layer.input_bias) return kMissing;
    }
    return kOk;
}

}  // namespace
}  // namespace storycell

using namespace storycell;

int storycell_network_create(const NetworkWeights* weights, int64_t precision, int threads, Network** made) {
    if (!weights || !made) return kMissing;
    *made = nullptr;
    if (const Status bad = check(*weights, precision, threads)) return bad;
    return guarded([&] {
        auto network = std::make_unique<Network>(*weights, precision);
        TRY(network->pack(*weights, threads));
        *made = network.release();
        return kOk;
    });
}

int storycell_context_rows(int64_t ngrams, int64_t ngram_rows, int64_t matches, int64_t characters, int64_t streams,
                           int64_t steps, const int64_t* ids, const int64_t* past, int64_t* rows) {
    const ContextShape shape{ngrams, ngram_rows, matches, characters};
    if (!ids || !rows) return kMissing;
    if (!between(streams, 1, kMost) || !between(steps, 1, kMost) || !between(characters, 1, 1 << 21) || !shape.any() ||
        !shape.fits())
        return kBadSize;
    const auto known = [&](int64_t id) { return id >= 0 && id < characters; };
    if (!std::all_of(ids, ids + streams * steps, known) ||
        (past && !std::all_of(past, past + streams * shape.memory(), known)))
        return kBadCharacter;
    return guarded([&] {
        Context context(shape);
        for (int64_t b = 0; b < streams; ++b) {
            context.begin(past ? past + b * shape.memory() : nullptr);
            for (int64_t t = 0; t < steps; ++t, rows += shape.met()) context.meet(*ids++, rows);
        }
        return kOk;
    });
}

void storycell_network_free(Network* network) { delete network; }

int storycell_network_read(const Network* network, const Reading* a, int threads) {
    if (!network || !a || !a->ids || !a->targets != !a->losses) return kMissing;
    if (a->hidden && network->has_cell() && !a->cell) return kMissing;
    if (!between(a->streams, 1, kMost) || !between(a->steps, 1, kMost) || !network->reads()) return kBadSize;
    if (const Status bad = network->check_past(a->past, a->streams)) return bad;
    return guarded([&] { return network->read(*a, threads); });
}

int storycell_network_write(const Network* network, const Writing* a, int threads) {
    if (!network || !a || !a->current || !a->random || !a->choice || !a->out || !a->final_hidden) return kMissing;
    if (network->has_cell() && (!a->final_cell || (a->hidden && !a->cell))) return kMissing;
    if (!between(a->streams, 1, kMost) || !between(a->length, 1, kMost)) return kBadSize;
    if (network->remembers() && !a->past) return kMissing;
    return guarded([&] { return network->write(*a, threads); });
}
