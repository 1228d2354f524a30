#include "engine/model.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "engine/blas.h"
#include "engine/folding.h"
#include "engine/kernels.h"
#include "engine/model_state.h"
#include "engine/pool.h"

namespace storycell {
namespace {

constexpr double kEpsilon = 1e-8, kTiny = 1e-6;  // torch's: AdamW's, and what is added to a norm
constexpr int64_t kCachedFloats = int64_t{1} << 18;  // a megabyte, as a core's second-level cache
constexpr int64_t kMostNumbers = int64_t{1} << 40;

Status drop(int64_t precision, int64_t count, uint64_t seed, double share, const float* from, float* to, int threads) {
    const Dropout a{precision, count, count, seed, 1.0 - share, from, to};
    return static_cast<Status>(storycell_dropout(&a, threads));
}

}  // namespace

Model::Model(const ModelConfig& c)
    : config(c), threads(static_cast<int>(c.threads)), H(whole_lanes(c.units)), V(c.characters), VW(whole_lanes(V)),
      G(kCells[c.cell].gates), S(kCells[c.cell].saved), D(whole_lanes(c.embedding ? c.embedding : V)),
      table({c.ngrams, c.ngram_rows, c.matches, c.characters}, c.embedding, D) {
    char name[48];
    if (c.embedding) embedding = add("embedding.weight", V, c.embedding, V, false);
    layers.resize(static_cast<size_t>(c.layers));
    for (int64_t k = 0; k < c.layers; ++k) {
        const int64_t read = k ? c.units : c.embedding ? c.embedding : V;
        const auto named = [&](const char* what) {
            std::snprintf(name, sizeof name, "recurrent.%s_l%lld", what, static_cast<long long>(k));
            return name;
        };
        Layer& layer = layers[static_cast<size_t>(k)];
        layer.input = add(named("weight_ih"), G * c.units, read, c.units, true);
        layer.recurrent = add(named("weight_hh"), G * c.units, c.units, c.units, true);
        parameters[layer.input].recurrent = parameters[layer.recurrent].recurrent = true;
        if (!c.gate_bias) continue;
        layer.input_bias = add(named("bias_ih"), G * c.units, 0, c.units, false);
        layer.recurrent_bias = add(named("bias_hh"), G * c.units, 0, c.units, false);
    }
    output = add("output.weight", V, c.units, V, true);
    output_bias = add("output.bias", V, 0, V, false);
    if (table.shape.any()) {  // last, so that everything else lies as it does without
        context = static_cast<int64_t>(parameters.size());
        Parameter p{};
        std::snprintf(p.name, sizeof p.name, "context_table.weight");
        p.rows = p.units = table.rows, p.columns = c.embedding, p.stride = D, p.table = true;
        parameters.push_back(p);
    }
    for (auto& kind : present) kind.assign(parameters.size(), 0);
    zeros.zeros(H);
    for (int kind : {kWeight, kGradient}) {
        keep(kind);
        present[kind].assign(parameters.size(), 1);
    }
}

int64_t Model::add(const char* name, int64_t rows, int64_t columns, int64_t units, bool decays) {
    Parameter p{};
    std::snprintf(p.name, sizeof p.name, "%s", name);
    p.rows = rows, p.columns = columns, p.units = units, p.decays = decays, p.offset = total;
    p.stride = columns ? whole_lanes(columns) : 1;
    p.first_row = total_rows;
    total += p.count(), total_rows += p.memory_rows();
    parameters.push_back(p);
    return static_cast<int64_t>(parameters.size()) - 1;
}

void Model::keep(int kind) {
    if (context >= 0 && kind == kSum && !table.sum.data()) table.sum.zeros(table.rows);
    if (context >= 0 && kind == kAverage && !table.average.data()) table.average.zeros(table.rows * D);
    if (numbers[kind].data() || kind == kSum) return;
    const auto each = static_cast<int64_t>(parameters.size());
    numbers[kind].zeros(kind == kStep ? each : kind == kRowSquare ? total_rows : total);
}

bool Model::keeps(int kind, int64_t index) const {
    const Parameter& p = parameters[static_cast<size_t>(index)];
    if (p.table) return kind == kWeight || kind == kGradient || kind == kAverage || kind == kSum;
    return kind == kRowSquare ? p.recurrent : kind != kSum;
}

void Model::forget(int kind) {
    if (kind == kSum && table.sum.data()) table.sum.zeros(table.sum.size());
    if (numbers[kind].data()) numbers[kind].zeros(numbers[kind].size());
    std::fill(present[kind].begin(), present[kind].end(), 0);
}

bool Model::whole(int kind) const {
    const auto& there = present[kind];
    return std::find(there.begin(), there.end(), 0) == there.end();
}

Status Model::read(int kind, int64_t index, float* to) const {
    if (!has(kind, index)) return kMissing;
    if (kind == kStep) return *to = *at(kStep, index), kOk;
    const Parameter& p = parameters[static_cast<size_t>(index)];
    if (p.table) {
        if (kind == kSum) return std::memcpy(to, table.sum.data(), static_cast<size_t>(p.rows) * sizeof(float)), kOk;
        Buffer dense;
        if (kind == kGradient) table.dense_gradient(dense.room(p.rows * D));
        const Buffer& from = kind == kWeight ? table.weight : kind == kAverage ? table.average : dense;
        for (int64_t r = 0; r < p.rows; ++r)
            std::memcpy(to + r * p.columns, from.data() + r * D, static_cast<size_t>(p.columns) * sizeof(float));
        return kOk;
    }
    const int64_t width = kind == kRowSquare ? 1 : p.width(), stride = kind == kRowSquare ? 1 : p.stride;
    for (int64_t r = 0; r < p.rows; ++r)
        std::memcpy(to + r * width, at(kind, index) + p.row(r) * stride, static_cast<size_t>(width) * sizeof(float));
    return kOk;
}

Status Model::write(int kind, int64_t index, const float* from) {
    const Parameter& p = parameters[static_cast<size_t>(index)];
    if (!keeps(kind, index) || (p.table && kind == kGradient)) return kBadSize;
    keep(kind);
    present[kind][static_cast<size_t>(index)] = 1;
    if (kind == kStep) return *at(kStep, index) = *from, kOk;
    if (p.table && kind == kSum)
        return std::memcpy(table.sum.data(), from, static_cast<size_t>(p.rows) * sizeof(float)), kOk;
    if (p.table) {
        float* to = (kind == kWeight ? table.weight : table.average).data();
        for (int64_t r = 0; r < p.rows; ++r)
            std::memcpy(to + r * D, from + r * p.columns, static_cast<size_t>(p.columns) * sizeof(float));
        if (kind == kWeight) ++version;
        return kOk;
    }
    const int64_t width = kind == kRowSquare ? 1 : p.width(), stride = kind == kRowSquare ? 1 : p.stride;
    for (int64_t r = 0; r < p.rows; ++r)
        std::memcpy(at(kind, index) + p.row(r) * stride, from + r * width, static_cast<size_t>(width) * sizeof(float));
    if (kind == kWeight) ++version;
    return kOk;
}

const float* Model::reset_bias(const Layer& layer) const {
    return layer.recurrent_bias < 0 ? zeros.data() : at(kWeight, layer.recurrent_bias) + 2 * H;
}

Status Model::pack(int64_t precision, int64_t inner, int64_t columns, int64_t gates, const float* source,
                   int64_t k_stride, int64_t j_stride, Buffer& to) const {
    const int64_t across = columns * (gates ? gates : 1);
    float* out = to.room(inner * across);
    return static_cast<Status>(storycell_pack(precision, inner, columns, gates, source, k_stride, j_stride, inner,
                                              across, out, threads));
}

Status Model::fold(Folded& to, const float* embedded) const {
    to.bias.resize(layers.size());
    for (size_t k = 0; k < layers.size(); ++k) {
        const Layer& layer = layers[k];
        const bool biased = layer.input_bias >= 0;
        fold_biases(config.cell, H, H, biased ? at(kWeight, layer.input_bias) : nullptr,
                    biased ? at(kWeight, layer.recurrent_bias) : nullptr, to.bias[k].room(G * H), nullptr,
                    config.gate_norm);
    }
    if (context >= 0) return kOk;
    const float* rows = embedded ? embedded : embedding < 0 ? nullptr : at(kWeight, embedding);
    return fold_table(V, G * H, D, at(kWeight, layers[0].input), rows, to.bias[0].data(),
                      to.table.room(V * G * H), to.packed, threads);
}

// Everything that the weights alone decide, once for each version of them, and what a chunk's dropout leaves of them.
Status Model::prepare(const Chunk& chunk) {
    const bool known = packed_version == version && packed_by == kernels() && packed_in == precision;
    packed_version = 0;
    const float* embedded = nullptr;
    if (embedding >= 0 && config.embedding_dropout > 0) {
        float* kept = kept_characters.room(VW);
        std::fill(kept, kept + VW, 1.0f);
        TRY(drop(0, VW, storycell_model_seed(chunk.seed, 0), config.embedding_dropout, kept, kept, threads));
        const float* weight = at(kWeight, embedding);
        float* to = kept_embedding.room(V * D);
        for (int64_t v = 0; v < V; ++v)
            for (int64_t d = 0; d < D; ++d) to[v * D + d] = kept[v] * weight[v * D + d];
        embedded = to;
    }
    if (!known || embedded) TRY(fold(folded, embedded));
    for (int64_t k = 0; k < config.layers; ++k) {
        Layer& layer = layers[static_cast<size_t>(k)];
        if (!known || config.weight_dropout > 0) {
            const float* weight = at(kWeight, layer.recurrent);
            if (config.weight_dropout > 0) {
                float* left = layer.dropped.room(G * H * H);
                TRY(drop(0, G * H * H, storycell_model_seed(chunk.seed, 1 + k), config.weight_dropout, weight, left,
                         threads));
                weight = left;
            }
            TRY(pack(precision, H, H, G > 1 ? G : 0, weight, 1, H, layer.packed_recurrent));
            TRY(pack(precision, kCells[config.cell].back * H, H, 0, weight, H, 1, layer.packed_recurrent_back));
        }
        if (known || (k == 0 && context < 0)) continue;
        const float* weight = at(kWeight, layer.input);
        const int64_t in = k ? H : D;
        TRY(pack(precision, in, G * H, 0, weight, 1, in, layer.packed_input));
        if (config.cell == kGru) {  // its third gate's gradient, as it is saved, does not meet the input
            float* to = spread.zeros(S * H * in);
            std::memcpy(to, weight, static_cast<size_t>(2 * H * in) * sizeof(float));
            std::memcpy(to + 3 * H * in, weight + 2 * H * in, static_cast<size_t>(H * in) * sizeof(float));
            weight = to;
        }
        TRY(pack(precision, S * H, in, 0, weight, in, 1, layer.packed_input_back));
    }
    if (!known) {
        const float* weight = at(kWeight, output);
        float *forth = packed_output.room(H * VW), *back = packed_output_back.room(VW * H);
        TRY(storycell_pack(precision, H, VW, 0, weight, 1, H, H, V, forth, threads));
        TRY(storycell_pack(precision, VW, H, 0, weight, H, 1, V, H, back, threads));
    }
    packed_version = version, packed_by = kernels(), packed_in = precision;
    return kOk;
}

Status Model::gradient(Chunk& chunk) {
    ready = false;
    if (chunk.carries && carried_streams && carried_streams != chunk.streams) return kOtherStreams;
    B = chunk.streams, T = chunk.steps;
    precision = config.precision;
    if (!rounds() && blas_wins(B / threads, H)) precision = kBlas;
    TRY(prepare(chunk));
    if (context >= 0) TRY(look_up(chunk));
    for (int64_t k = 0; k < config.layers; ++k) TRY(forward(k, chunk));
    TRY(loss(chunk));
    for (int64_t k = config.layers - 1; k >= 0; --k) TRY(backward(k, chunk));
    TRY(measure());
    chunk.norm = norm, nats = chunk.nats;
    ready = true;
    return kOk;
}

// What the first layer reads where characters meet rows of their context.
Status Model::look_up(const Chunk& chunk) {
    for (int64_t i = 0; i < B * T; ++i)
        if (chunk.ids[i] < 0 || chunk.ids[i] >= V) return kBadCharacter;
    float* const to = vectors.room(B * T * D);
    const float* embedded = config.embedding_dropout > 0 ? kept_embedding.data() : at(kWeight, embedding);
    TRY(table.look_up(B, T, chunk.ids, chunk.resets, chunk.carries && carried_streams, embedded, to, threads));
    return static_cast<Status>(
        storycell_convert(config.precision, to, read_vectors.room(elements(B * T * D)), B * T * D, threads));
}

Recurrence Model::recurrence(Layer& layer) {
    Recurrence a{};
    a.cell = config.cell, a.precision = precision, a.steps = T, a.streams = B, a.units = H;
    a.hidden = layer.hidden.data(), a.saved = layer.gates.data();
    if (config.cell == kLstm) a.cell_state = layer.cells.data();
    if (config.gate_norm) {
        a.gate_bias = at(kWeight, layer.input_bias), a.real_units = config.units;
        a.normalised = layer.normalised.room(elements(T * B * G * H)), a.mean_squares = layer.mean_squares.room(T * B * G);
    }
    return a;
}

// How many steps the layer below is read for at a time: what it adds to the gates is to stay in a core's cache.
int64_t Model::steps_together() const {
    return std::clamp<int64_t>(kCachedFloats * threads / (B * G * H), 1, T);
}

// The steps [begin, end) of a run forward through time; `projected` is theirs alone.
Recurrence Model::of_steps(const Recurrence& whole, int64_t begin, int64_t end) {
    const int64_t rows = begin * B;
    Recurrence a = whole;
    a.steps = end - begin;
    a.hidden = element(static_cast<float*>(whole.hidden), rows * H);
    a.saved = element(static_cast<float*>(whole.saved), rows * S * H);
    if (whole.cell_state) a.cell_state = whole.cell_state + rows * H;
    if (whole.gate_bias) {
        a.normalised = element(static_cast<float*>(whole.normalised), rows * G * H);
        a.mean_squares = whole.mean_squares + rows * G;
    }
    return a;
}

// The carried state, or zeros, before the first step.
Status Model::start(Layer& layer, const Chunk& chunk) {
    const bool carries = chunk.carries && carried_streams;
    const auto bytes = static_cast<size_t>(H) * sizeof(float);
    float* hidden = layer.carry.zeros(B * H);
    float* cell = config.cell == kLstm ? layer.cells.data() : nullptr;
    if (cell) std::memset(cell, 0, static_cast<size_t>(B) * bytes);
    for (int64_t b = 0; b < B && carries; ++b) {
        if (chunk.resets && chunk.resets[b]) continue;
        std::memcpy(hidden + b * H, layer.state.data() + b * H, bytes);
        if (cell) std::memcpy(cell + b * H, layer.cell.data() + b * H, bytes);
    }
    return static_cast<Status>(storycell_convert(precision, hidden, layer.hidden.data(), B * H, threads));
}

Status Model::forward(int64_t k, const Chunk& chunk) {
    Layer& layer = layers[static_cast<size_t>(k)];
    const int64_t BH = B * H;
    layer.hidden.room(elements((T + 1) * BH)), layer.gates.room(elements(T * B * S * H));
    if (config.cell == kLstm) layer.cells.room((T + 1) * BH);
    TRY(start(layer, chunk));
    Recurrence a = recurrence(layer);
    a.packed = layer.packed_recurrent.data();
    if (config.cell == kGru) a.carry = layer.carry.data(), a.reset_bias = reset_bias(layer);
    if (k == 0 && context < 0) {
        a.characters = V, a.ids = chunk.ids, a.ids_stream_stride = T, a.ids_step_stride = 1;
        a.table = folded.table.data();
        TRY(storycell_forward(&a, threads));
    } else {
        const int64_t in = k ? H : D, together = steps_together();
        const float* read = k ? layers[static_cast<size_t>(k - 1)].outputs : read_vectors.data();
        a.projected = projected.room(together * B * G * H);
        for (int64_t t = 0; t < T; t += together) {
            const Recurrence some = of_steps(a, t, std::min(T, t + together));
            const Product p{precision, some.steps * B, in, G * H, element(read, t * B * in), in, layer.packed_input.data(),
                            folded.bias[static_cast<size_t>(k)].data(), projected.data(), 0};
            TRY(storycell_product(&p, threads));
            TRY(storycell_forward(&some, threads));
        }
    }

    const float* last = element(layer.hidden.data(), T * BH);
    float* next = layer.next_state.room(BH);
    if (config.cell == kGru) layer.next_state.swap(layer.carry);
    else TRY(storycell_widen(precision, last, next, BH, threads));
    if (config.cell == kLstm)
        std::memcpy(layer.next_cell.room(BH), layer.cells.data() + T * BH, static_cast<size_t>(BH) * sizeof(float));

    layer.outputs = element(layer.hidden.data(), BH);
    if (config.dropout > 0) {
        float* kept = layer.kept.room(elements(T * BH));
        TRY(drop(precision, T * BH, storycell_model_seed(chunk.seed, 1 + config.layers + k), config.dropout,
                 layer.outputs, kept, threads));
        layer.outputs = kept;
    }
    return kOk;
}

Status Model::loss(Chunk& chunk) {
    const int64_t rows = T * B;
    OutputLoss a{};
    a.precision = precision, a.steps = T, a.streams = B, a.units = H, a.characters = V;
    a.hidden = layers.back().outputs;
    a.packed_forward = packed_output.data(), a.packed_backward = packed_output_back.data();
    a.bias = at(kWeight, output_bias);
    a.targets = chunk.targets, a.targets_stream_stride = T, a.targets_step_stride = 1;
    a.scale = 1.0 / static_cast<double>(rows);
    a.losses = losses.room(rows), a.logit_grads = logit_grads.room(elements(rows * VW));
    a.grad_hidden = grad_top.room(rows * H);
    a.soft = chunk.soft, a.share = chunk.share;
    TRY(storycell_output_loss(&a, threads));
    double sum = 0;
    for (int64_t r = 0; r < rows; ++r) sum += losses.data()[r];
    chunk.nats = sum / static_cast<double>(rows);
    TransposedProduct g{};
    g.precision = precision, g.rows = rows, g.m = VW, g.n = H, g.left = logit_grads.data();
    g.left_stride = VW, g.right = a.hidden, g.right_stride = H, g.out = at(kGradient, output);
    g.column_sums = at(kGradient, output_bias);
    return static_cast<Status>(storycell_transposed(&g, threads));
}

// The gradients of the gates [first, first + m), summed over all characters with what they met.
TransposedProduct Model::to_weight(Layer& layer, int64_t first, int64_t m, float* out, float* column_sums) {
    TransposedProduct g{};
    g.precision = precision, g.rows = T * B, g.m = m, g.n = H;
    g.left = element(layer.gates.data(), first), g.left_stride = S * H;
    g.right = layer.hidden.data(), g.right_stride = H, g.out = out, g.column_sums = column_sums;
    return g;
}

Status Model::backward(int64_t k, const Chunk& chunk) {
    Layer& layer = layers[static_cast<size_t>(k)];
    const bool gru = config.cell == kGru;
    const int64_t rows = T * B;
    if (config.dropout > 0)
        TRY(drop(0, rows * H, storycell_model_seed(chunk.seed, 1 + config.layers + k), config.dropout,
                 grad_top.data(), grad_top.data(), threads));
    Recurrence a = recurrence(layer);
    a.packed = layer.packed_recurrent_back.data(), a.grad_output = grad_top.data();
    a.grad_initial = grad_initial.room(B * H);
    (gru ? a.carry : a.grad_carry) = grad_carry.zeros(B * H);
    if (config.gate_norm) a.grad_gates = grad_gates.room(kMostTogether * G * H);
    TRY(storycell_backward(&a, threads));

    float* all = sums.room(G * H);         // over all characters, of the gradients that meet W_hh
    float* last = last_sums.zeros(H);      // gru: of those that meet the input's last gate
    float* grad = at(kGradient, layer.recurrent);
    TransposedProduct g = to_weight(layer, 0, G * H, grad, all);
    if (k == 0 && context < 0) {
        float* table = grad_table.room(V * G * H);
        if (!gru) {
            g.table_grad = table, g.ids = chunk.ids, g.ids_stream_stride = T, g.ids_step_stride = 1;
            g.streams = B, g.characters = V;
        }
        TRY(storycell_transposed(&g, threads));
        if (gru) {
            TableGradient t{precision, config.cell, T, B, H, V, chunk.ids, T, 1, layer.gates.data(), table};
            TRY(storycell_table_gradient(&t, threads));
            for (int64_t v = 0; v < V; ++v)
                for (int64_t j = 0; j < H; ++j) last[j] += table[v * G * H + 2 * H + j];
        }
        TRY(table_to_weights());
    } else if (k == 0) {
        TRY(input_gradient(layer, read_vectors.data(), D, grad_vectors.room(rows * D), all, last));
        TRY(vectors_to_weights());
    } else {
        TRY(input_gradient(layer, layers[static_cast<size_t>(k - 1)].outputs, H, grad_top.data(), all, last));
    }
    if (config.weight_dropout > 0)
        TRY(drop(0, G * H * H, storycell_model_seed(chunk.seed, 1 + k), config.weight_dropout, grad, grad, threads));
    if (layer.input_bias >= 0) {
        float *in = at(kGradient, layer.input_bias), *back = at(kGradient, layer.recurrent_bias);
        for (int64_t j = 0; j < G * H; ++j) {
            back[j] = all[j];
            in[j] = gru && j >= 2 * H ? last[j - 2 * H] : all[j];
        }
        for (int64_t b = 0, at = 0; config.gate_norm && b < B; b += streams_together(B), at += G * H)
            for (int64_t j = 0; j < G * H; ++j) in[j] = (b ? in[j] : 0) + grad_gates.data()[at + j];
    }
    return kOk;
}

// From the gradients of the gates those of both matrices, and to[T*B, width] of the vectors that were read.
Status Model::input_gradient(Layer& layer, const float* read, int64_t width, float* to, float* all, float* last) {
    float *grad = at(kGradient, layer.recurrent), *grad_input = at(kGradient, layer.input);
    if (config.cell == kGru) {
        TRY(transposed_pair({to_weight(layer, 0, 2 * H, grad, all), read, width, width, grad_input}, threads));
        TransposedProduct g = to_weight(layer, 2 * H, H, grad + 2 * H * H, all + 2 * H);
        TRY(storycell_transposed(&g, threads));
        g = to_weight(layer, 3 * H, H, grad_input + 2 * H * width, last);
        g.right = read, g.right_stride = g.n = width;
        TRY(storycell_transposed(&g, threads));
    } else {
        TRY(transposed_pair({to_weight(layer, 0, G * H, grad, all), read, width, width, grad_input}, threads));
    }
    const Product p{precision, T * B, S * H, width, layer.gates.data(), S * H, layer.packed_input_back.data(),
                    nullptr, to, 0};
    return static_cast<Status>(storycell_product(&p, threads));
}

// From the gradient of what the first layer read, those of the embedding and of the rows that were met.
Status Model::vectors_to_weights() {
    float* to = at(kGradient, embedding);
    TRY(table.spread(grad_vectors.data(), V, to, threads));
    if (config.embedding_dropout > 0)
        for (int64_t v = 0; v < V; ++v)
            for (int64_t d = 0; d < D; ++d) to[v * D + d] *= kept_characters.data()[v];
    return kOk;
}

// From the gradient of what each character adds to the gates, those of the first layer's input and the embedding.
Status Model::table_to_weights() {
    const Layer& layer = layers[0];
    float* grad = at(kGradient, layer.input);
    if (embedding < 0) {
        transpose(V, G * H, grad_table.data(), G * H, grad, D);
        return kOk;
    }
    const bool drops = config.embedding_dropout > 0;
    TransposedProduct g{};
    g.rows = V, g.m = G * H, g.n = D, g.left = grad_table.data(), g.left_stride = G * H;
    g.right = drops ? kept_embedding.data() : at(kWeight, embedding), g.right_stride = D, g.out = grad;
    TRY(storycell_transposed(&g, threads));
    TRY(pack(0, G * H, D, 0, at(kWeight, layer.input), D, 1, scratch));
    float* to = at(kGradient, embedding);
    const Product p{0, V, G * H, D, grad_table.data(), G * H, scratch.data(), nullptr, to, 0};
    TRY(storycell_product(&p, threads));
    for (int64_t v = 0; v < V && drops; ++v)
        for (int64_t d = 0; d < D; ++d) to[v * D + d] *= kept_characters.data()[v];
    return kOk;
}

// The norm of the whole gradient.
Status Model::measure() {
    tensors.assign(parameters.size() - (context >= 0), Tensor{});
    int64_t blocks = 0;
    for (size_t i = 0; i < tensors.size(); ++i) {
        tensors[i].grad = at(kGradient, static_cast<int64_t>(i)), tensors[i].count = parameters[i].count();
        blocks += storycell_blocks(tensors[i].count);
    }
    const Tensors a{static_cast<int64_t>(tensors.size()), tensors.data(), 1.0, block_sums.room(blocks)};
    TRY(storycell_gradient_squares(&a, threads));
    double squares = 0;
    for (int64_t i = 0; i < blocks; ++i) squares += block_sums.data()[i];
    if (context >= 0) TRY(table.squares(squares, threads));
    norm = std::sqrt(squares);
    return kOk;
}

Status Model::measure(double& to) {
    if (!ready) return kMissing;
    TRY(measure());
    to = norm;
    return kOk;
}

Status Model::apply(const Update& u) {
    if (!ready) return kMissing;
    if (!std::isfinite(norm) || !std::isfinite(nats)) return kNotFinite;
    const double factor = u.clip > 0 && u.clip < norm ? u.clip / (norm + kTiny) : 1.0;
    TRY(u.method == kSgd ? descend(u.rate * factor) : adapt(u, factor));
    if (context >= 0) {
        TRY(table.move(factor, u.rate, u.method == kSgd, threads));
        present[kSum].back() |= u.method != kSgd;
        table.carry_on();
    }
    ++version;
    for (Layer& layer : layers) {
        layer.state.swap(layer.next_state);
        layer.cell.swap(layer.next_cell);
    }
    carried_streams = B;
    ready = false;
    return kOk;
}

Status Model::descend(double rate) {
    const auto by = static_cast<float>(rate);
    return split(total / 16, 4096, threads, [&](int64_t first, int64_t last) {
        float* weight = numbers[kWeight].data();
        const float* grad = numbers[kGradient].data();
        for (int64_t i = first * 16; i < last * 16; ++i) weight[i] -= by * grad[i];
        return kOk;
    });
}

// AdamW; with Muon, for what is no matrix of a recurrent layer. Nothing is changed before all memory is there.
Status Model::adapt(const Update& u, double factor) {
    const bool by_rows = u.method == kNorMuon, rounded = by_rows || u.method == kMuon;
    for (int kind : {kMean, kSquare, kStep}) keep(kind);
    if (rounded) keep(kMomentum);
    if (by_rows) keep(kRowSquare);
    if (context >= 0) keep(kSum);
    tensors.clear(), tensors.reserve(parameters.size());
    matrices.clear(), matrices.reserve(parameters.size());
    for (size_t n = 0; n < parameters.size(); ++n) {
        const Parameter& p = parameters[n];
        const auto i = static_cast<int64_t>(n);
        if (p.table) continue;
        if (rounded && p.recurrent)
            matrices.push_back({at(kWeight, i), at(kGradient, i), at(kMomentum, i), by_rows ? at(kRowSquare, i) : nullptr,
                                p.memory_rows(), p.stride, p.rows, p.columns});
        else
            tensors.push_back({at(kWeight, i), at(kGradient, i), at(kMean, i), at(kSquare, i), at(kStep, i), p.count(),
                               u.rate, p.decays ? u.decay : 0.0, u.beta1, u.beta2, kEpsilon});
    }
    muon.take(matrices, rounds() && multiplies_bf16());
    const Tensors a{static_cast<int64_t>(tensors.size()), tensors.data(), factor, nullptr};
    TRY(storycell_adam_step(&a, threads));
    if (rounded) TRY(muon.step(factor, u.rate, u.decay, threads));
    for (size_t n = 0; n < parameters.size(); ++n) {
        if (parameters[n].table) continue;
        const bool moved = rounded && parameters[n].recurrent;
        for (int kind : {kMean, kSquare, kStep}) present[kind][n] |= !moved;
        present[kMomentum][n] |= moved;
        present[kRowSquare][n] |= moved && by_rows;
    }
    return kOk;
}

Status Model::average(double decay) {
    keep(kAverage);
    const bool begins = !whole(kAverage);
    present[kAverage].assign(parameters.size(), 1);
    const auto by = static_cast<float>(begins ? 1 : 1 - decay), back = static_cast<float>(begins ? 0 : decay);
    const auto move = [&](const float* weight, float* mean, int64_t first, int64_t last) {
        if (by < 0.5f)
            for (int64_t i = first * 16; i < last * 16; ++i) mean[i] += by * (weight[i] - mean[i]);
        else
            for (int64_t i = first * 16; i < last * 16; ++i) mean[i] = weight[i] - back * (weight[i] - mean[i]);
        return kOk;
    };
    TRY(split(total / 16, 4096, threads, [&](int64_t first, int64_t last) {
        return move(numbers[kWeight].data(), numbers[kAverage].data(), first, last);
    }));
    if (context < 0) return kOk;
    return split(table.rows * D / 16, 4096, threads, [&](int64_t first, int64_t last) {
        return move(table.weight.data(), table.average.data(), first, last);
    });
}

void Model::swap_average() {
    if (!whole(kAverage)) return;
    numbers[kWeight].swap(numbers[kAverage]);
    table.weight.swap(table.average);
    ++version;
}

void Model::read_state(float* hidden, float* cell) const {
    for (const Layer& layer : layers)
        for (int64_t b = 0; b < carried_streams; ++b) {
            const auto bytes = static_cast<size_t>(config.units) * sizeof(float);
            std::memcpy(hidden, layer.state.data() + b * H, bytes), hidden += config.units;
            if (config.cell != kLstm) continue;
            std::memcpy(cell, layer.cell.data() + b * H, bytes), cell += config.units;
        }
}

void Model::write_state(int64_t count, const float* hidden, const float* cell) {
    const auto real = static_cast<size_t>(config.units);
    std::vector<Buffer> all(layers.size() * 2);
    for (size_t k = 0; k < layers.size() && count; ++k) {
        float *h = all[2 * k].zeros(count * H), *c = config.cell == kLstm ? all[2 * k + 1].zeros(count * H) : nullptr;
        for (int64_t b = 0; b < count; ++b) {
            std::memcpy(h + b * H, hidden, real * sizeof(float)), hidden += real;
            if (c) std::memcpy(c + b * H, cell, real * sizeof(float)), cell += real;
        }
    }
    for (size_t k = 0; k < layers.size(); ++k) {
        layers[k].state.swap(all[2 * k]);
        layers[k].cell.swap(all[2 * k + 1]);
    }
    carried_streams = count;
    table.past.assign(static_cast<size_t>(context < 0 ? 0 : count * table.shape.memory()), 0);
}

}  // namespace storycell

using namespace storycell;

Model* storycell_model_create(const ModelConfig* c) {
    const auto share = [](double p) { return p >= 0 && p < 1; };
    if (!c || c->cell < 0 || c->cell >= kCellCount || c->precision < 0 || c->precision > 1 || c->threads < 1 ||
        c->threads > 1024 || c->layers < 1 || c->layers > 1024 || c->units < 1 || c->units > (1 << 16) ||
        c->characters < 1 || c->characters > (1 << 21) || c->embedding < 0 || c->embedding > (1 << 16) ||
        !ContextShape{c->ngrams, c->ngram_rows, c->matches, c->characters}.fits() ||
        ((c->ngrams || c->matches) && !c->embedding) ||
        c->gate_norm < 0 || c->gate_norm > (c->cell == kLstm && c->gate_bias) ||
        !share(c->dropout) || !share(c->weight_dropout) || !share(c->embedding_dropout))
        return nullptr;
    if ((c->units + 16) * (c->characters + c->units + 16) > kMostNumbers / (8 * c->layers)) return nullptr;
    Model* made = nullptr;
    guarded([&] {
        made = new Model(*c);
        return kOk;
    });
    return made;
}

void storycell_model_free(Model* model) { delete model; }

int64_t storycell_model_tensors(const Model* m) { return m ? static_cast<int64_t>(m->parameters.size()) : 0; }

static bool known(const Model* m, int64_t index) { return m && index >= 0 && index < storycell_model_tensors(m); }

const char* storycell_model_name(const Model* m, int64_t index) {
    return known(m, index) ? m->parameters[static_cast<size_t>(index)].name : nullptr;
}
int64_t storycell_model_rows(const Model* m, int64_t index) {
    return known(m, index) ? m->parameters[static_cast<size_t>(index)].rows : 0;
}
int64_t storycell_model_columns(const Model* m, int64_t index) {
    return known(m, index) ? m->parameters[static_cast<size_t>(index)].columns : 0;
}

static bool kind_ok(int kind) { return kind >= kWeight && kind < kKinds; }

int64_t storycell_model_has(const Model* m, int kind, int64_t index) {
    return known(m, index) && kind_ok(kind) && m->has(kind, index);
}

int storycell_model_read(const Model* m, int kind, int64_t index, float* to) {
    if (!m || !to) return kMissing;
    if (!known(m, index) || !kind_ok(kind)) return kBadSize;
    return guarded([&] { return m->read(kind, index, to); });
}

int storycell_model_write(Model* m, int kind, int64_t index, const float* from) {
    if (!m || !from) return kMissing;
    if (!known(m, index) || !kind_ok(kind)) return kBadSize;
    return guarded([&] { return m->write(kind, index, from); });
}

int storycell_model_forget(Model* m, int kind) {
    if (!m) return kMissing;
    if (!kind_ok(kind) || kind == kWeight || kind == kGradient) return kBadSize;
    m->forget(kind);
    return kOk;
}

uint64_t storycell_model_seed(uint64_t seed, int64_t mask) {  // splitmix64 (doi.org/10.1145/2660193.2660195)
    uint64_t z = seed + (static_cast<uint64_t>(mask) + 1) * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

int storycell_model_gradient(Model* m, Chunk* c) {
    if (!m || !c || !c->ids || !c->targets) return kMissing;
    if (c->streams < 1 || c->steps < 1 || c->streams > (1 << 24) || c->steps > (1 << 24) ||
        c->streams * c->steps >= (int64_t{1} << 31))
        return kBadSize;
    if (!(c->share >= 0 && c->share <= 1)) return kBadSize;
    return guarded([&] { return m->gradient(*c); });
}

float* storycell_model_gradients(Model* m, int64_t* count) { return m && count ? m->gradients(*count) : nullptr; }

int64_t storycell_model_met(const Model* m) { return m ? m->table.met_rows() : 0; }

int storycell_model_read_met(const Model* m, int64_t* rows, float* gradients) {
    if (!m || !rows || !gradients) return kMissing;
    return guarded([&] {
        m->table.read_met(rows, gradients);
        return kOk;
    });
}

int storycell_model_write_met(Model* m, int64_t count, const int64_t* rows, const float* gradients) {
    if (!m || !rows || !gradients) return kMissing;
    if (count < 0 || count > m->table.rows) return kBadSize;
    for (int64_t i = 0; i < count; ++i)
        if (rows[i] < (i ? rows[i - 1] + 1 : 0) || rows[i] >= m->table.rows) return kBadSize;
    return guarded([&] { return m->table.write_met(count, rows, gradients), kOk; });
}

int storycell_model_measure(Model* m, double* norm) {
    if (!m || !norm) return kMissing;
    return guarded([&] { return m->measure(*norm); });
}

int storycell_model_apply(Model* m, const Update* u) {
    if (!m || !u) return kMissing;
    const auto beta = [](double x) { return x >= 0 && x < 1; };
    if (u->method < kAdamW || u->method > kNorMuon || !std::isfinite(u->rate) || !std::isfinite(u->decay) ||
        !(u->clip >= 0) || !beta(u->beta1) || !beta(u->beta2))
        return kBadSize;
    return guarded([&] { return m->apply(*u); });
}

int storycell_model_average(Model* m, double decay) {
    if (!m) return kMissing;
    if (!(decay >= 0 && decay <= 1)) return kBadSize;
    return guarded([&] { return m->average(decay); });
}

int storycell_model_swap_average(Model* m) {
    if (!m) return kMissing;
    m->swap_average();
    return kOk;
}

int64_t storycell_model_streams(const Model* m) { return m ? m->streams() : 0; }

int storycell_model_read_state(const Model* m, float* hidden, float* cell) {
    if (!m || !hidden || (m->config.cell == kLstm && !cell)) return kMissing;
    m->read_state(hidden, cell);
    return kOk;
}

int storycell_model_write_state(Model* m, int64_t streams, const float* hidden, const float* cell) {
    if (!m || (streams && (!hidden || (m->config.cell == kLstm && !cell)))) return kMissing;
    if (streams < 0 || streams > (1 << 24)) return kBadSize;
    return guarded([&] {
        m->write_state(streams, hidden, cell);
        return kOk;
    });
}

int storycell_model_read_past(const Model* m, int64_t* past) {
    if (!m || !past) return kMissing;
    std::copy(m->table.past.begin(), m->table.past.end(), past);
    return kOk;
}

int storycell_model_write_past(Model* m, const int64_t* past) {
    if (!m || !past) return kMissing;
    for (size_t i = 0; i < m->table.past.size(); ++i)
        if (past[i] < 0 || past[i] >= m->V) return kBadCharacter;
    std::copy_n(past, m->table.past.size(), m->table.past.begin());
    return kOk;
}
