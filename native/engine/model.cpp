#include "engine/model.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <new>
#include <vector>

#include "engine/guarded.h"

namespace storycell {
namespace {

constexpr double kEpsilon = 1e-8, kTiny = 1e-6;  // torch's: AdamW's, and what is added to a norm
constexpr int64_t kMostNumbers = int64_t{1} << 40;

int64_t wide(int64_t n) { return (n + 15) / 16 * 16; }

// A tensor as it lies in memory: rows of `stride` numbers; each gate's block of `units` rows is followed by rows of
// zeros up to whole lanes. Padded units have zero weights, so they stay zero and so do their gradients.
struct Parameter {
    char name[64];
    int64_t rows, columns, units, stride, offset;
    bool decays;
    int64_t row(int64_t r) const { return r / units * wide(units) + r % units; }
    int64_t memory_rows() const { return rows / units * wide(units); }
    int64_t count() const { return memory_rows() * stride; }
    int64_t width() const { return columns ? columns : 1; }
};

struct Layer {
    int64_t input = -1, recurrent = -1, input_bias = -1, recurrent_bias = -1;  // parameters, or -1
    std::vector<float> hidden, cells, gates, projected;  // as Recurrence; elements of bf16 take half of the room
    std::vector<float> carry, state, cell;               // [B, H]; state, cell: what is carried to the next chunk
    std::vector<float> next_state, next_cell, bias, grad_input, grad_last, sums, last_sums;
};

#define TRY(call) if (const int bad = (call)) return static_cast<Status>(bad)

}  // namespace

class Model {
public:
    ModelConfig config;
    std::vector<Parameter> parameters;
    std::vector<float> numbers[4];  // by Kind
    std::vector<float> steps;

    explicit Model(const ModelConfig& c) : config(c), threads(static_cast<int>(c.threads)) {
        H = wide(c.units), V = c.characters, VW = wide(V), G = kCells[c.cell].gates, S = kCells[c.cell].saved;
        D = wide(c.embedding ? c.embedding : V);
        char name[48];
        if (c.embedding) embedding = add("embedding.weight", V, c.embedding, V, false);
        layers.resize(static_cast<size_t>(c.layers));
        for (int64_t k = 0; k < c.layers; ++k) {
            const int64_t read = k ? c.units : c.embedding ? c.embedding : V;
            const auto named = [&](const char* what) {
                std::snprintf(name, sizeof name, "recurrent.%s_l%lld", what, static_cast<long long>(k));
                return name;
            };
            layers[k].input = add(named("weight_ih"), G * c.units, read, c.units, true);
            layers[k].recurrent = add(named("weight_hh"), G * c.units, c.units, c.units, true);
            if (!c.gate_bias) continue;
            layers[k].input_bias = add(named("bias_ih"), G * c.units, 0, c.units, false);
            layers[k].recurrent_bias = add(named("bias_hh"), G * c.units, 0, c.units, false);
        }
        output = add("output.weight", V, c.units, V, true);
        output_bias = add("output.bias", V, 0, V, false);
        for (auto& kind : numbers) kind.assign(static_cast<size_t>(total), 0.0f);
        steps.assign(parameters.size(), 0.0f);
    }

    float* at(int kind, int64_t index) { return numbers[kind].data() + parameters[index].offset; }

    Status gradient(Chunk& chunk) {
        ready = false;
        B = chunk.streams, T = chunk.steps;
        TRY(fold());
        for (int64_t k = 0; k < config.layers; ++k) TRY(forward(k, chunk));
        TRY(loss(chunk));
        for (int64_t k = config.layers - 1; k >= 0; --k) TRY(backward(k, chunk));
        double squares = 0;
        for (float g : numbers[kGradient]) squares += double(g) * g;
        norm = chunk.norm = std::sqrt(squares);
        nats = chunk.nats;
        ready = true;
        return kOk;
    }

    Status apply(double rate, double limit, double decay, double beta1, double beta2) {
        if (!ready) return kMissing;
        if (!std::isfinite(norm) || !std::isfinite(nats)) return kNotFinite;
        std::vector<Tensor> tensors;
        for (size_t i = 0; i < parameters.size(); ++i)
            tensors.push_back({at(kWeight, i), at(kGradient, i), at(kMean, i), at(kSquare, i), &steps[i],
                               parameters[i].count(), rate, parameters[i].decays ? decay : 0.0, beta1, beta2,
                               kEpsilon});
        Tensors a{static_cast<int64_t>(tensors.size()), tensors.data(), limit / (norm + kTiny), nullptr};
        if (limit > 0 && limit < norm) TRY(storycell_scale_gradients(&a, threads));
        TRY(storycell_adam_step(&a, threads));
        for (Layer& layer : layers) {
            layer.state.swap(layer.next_state);
            layer.cell.swap(layer.next_cell);
        }
        carried_streams = B;
        ready = false;
        return kOk;
    }

    int64_t streams() const { return carried_streams; }

    void read_state(float* hidden, float* cell) const {
        for (const Layer& layer : layers)
            for (int64_t b = 0; b < carried_streams; ++b) {
                const auto bytes = static_cast<size_t>(config.units) * sizeof(float);
                std::memcpy(hidden, layer.state.data() + b * H, bytes), hidden += config.units;
                if (config.cell != kLstm) continue;
                std::memcpy(cell, layer.cell.data() + b * H, bytes), cell += config.units;
            }
    }

    void write_state(int64_t count, const float* hidden, const float* cell) {
        const auto size = static_cast<size_t>(count * H), real = static_cast<size_t>(config.units);
        std::vector<std::vector<float>> all(layers.size() * 2, std::vector<float>(size));
        for (size_t k = 0; k < layers.size(); ++k)
            for (int64_t b = 0; b < count; ++b) {
                std::memcpy(all[2 * k].data() + b * H, hidden, real * sizeof(float)), hidden += real;
                if (config.cell != kLstm) continue;
                std::memcpy(all[2 * k + 1].data() + b * H, cell, real * sizeof(float)), cell += real;
            }
        for (size_t k = 0; k < layers.size(); ++k) {
            layers[k].state.swap(all[2 * k]);
            layers[k].cell.swap(all[2 * k + 1]);
        }
        carried_streams = count;
    }

private:
    int threads;
    int64_t H, V, VW, G, S, D, B = 0, T = 0, total = 0, carried_streams = 0;
    int64_t embedding = -1, output, output_bias;
    std::vector<Layer> layers;
    std::vector<float> packed, packed_back, table, grad_table, grad_top, below, logit_grads, losses, grad_initial,
        grad_carry, reset_bias;
    bool ready = false;
    double norm = 0, nats = 0;

    int64_t add(const char* name, int64_t rows, int64_t columns, int64_t units, bool decays) {
        Parameter p{};
        std::snprintf(p.name, sizeof p.name, "%s", name);
        p.rows = rows, p.columns = columns, p.units = units, p.decays = decays, p.offset = total;
        p.stride = columns ? wide(columns) : 1;
        total += p.count();
        parameters.push_back(p);
        return static_cast<int64_t>(parameters.size()) - 1;
    }

    static float* room(std::vector<float>& v, int64_t count) {
        v.resize(static_cast<size_t>(count));
        return v.data();
    }
    bool rounds() const { return config.precision == 1; }
    int64_t elements(int64_t count) const { return rounds() ? (count + 1) / 2 : count; }  // in floats
    float* element(float* from, int64_t index) const { return from + (rounds() ? index / 2 : index); }
    const float* bias_of(int64_t parameter) { return parameter < 0 ? nullptr : at(kWeight, parameter); }

    Status pack(int64_t precision, int64_t inner, int64_t columns, int64_t gates, const float* source,
                int64_t k_stride, int64_t j_stride, std::vector<float>& to) {
        const int64_t across = columns * (gates ? gates : 1);
        float* out = room(to, inner * across);
        return static_cast<Status>(storycell_pack(precision, inner, columns, gates, source, k_stride, j_stride, inner,
                                                  across, out, threads));
    }

    // Both biases as one, and what each character adds to the first layer's gates.
    Status fold() {
        for (Layer& layer : layers) {
            float* bias = room(layer.bias, G * H);
            const float *in = bias_of(layer.input_bias), *back = bias_of(layer.recurrent_bias);
            for (int64_t j = 0; j < G * H; ++j)
                bias[j] = in ? in[j] + (config.cell == kGru && j >= 2 * H ? 0.0f : back[j]) : 0.0f;
        }
        float* to = room(table, VW * G * H);
        const float* in = at(kWeight, layers[0].input);
        if (embedding < 0) {
            for (int64_t v = 0; v < V; ++v)
                for (int64_t j = 0; j < G * H; ++j) to[v * G * H + j] = in[j * D + v] + layers[0].bias[j];
            return kOk;
        }
        TRY(pack(0, D, G * H, 0, in, 1, D, packed));
        const Product a{0, V, D, G * H, at(kWeight, embedding), D, packed.data(), layers[0].bias.data(), to, 0};
        return static_cast<Status>(storycell_product(&a, threads));
    }

    Recurrence recurrence(Layer& layer) {
        Recurrence a{};
        a.cell = config.cell, a.precision = config.precision, a.steps = T, a.streams = B, a.units = H;
        a.hidden = layer.hidden.data(), a.saved = layer.gates.data();
        if (config.cell == kLstm) a.cell_state = layer.cells.data();
        return a;
    }

    Status forward(int64_t k, const Chunk& chunk) {
        Layer& layer = layers[k];
        const int64_t BH = B * H;
        room(layer.hidden, elements((T + 1) * BH));
        room(layer.gates, elements(T * B * S * H));
        if (config.cell == kLstm) room(layer.cells, (T + 1) * BH);
        layer.carry.assign(static_cast<size_t>(BH), 0.0f);
        std::vector<float> start(static_cast<size_t>(BH), 0.0f);
        const bool carries = chunk.carries && carried_streams == B;
        if (carries) start = layer.state;
        TRY(storycell_convert(config.precision, start.data(), layer.hidden.data(), BH, threads));
        if (config.cell == kGru) layer.carry = start;
        if (config.cell == kLstm) {
            if (carries) std::memcpy(layer.cells.data(), layer.cell.data(), BH * sizeof(float));
            else std::memset(layer.cells.data(), 0, BH * sizeof(float));
        }
        Recurrence a = recurrence(layer);
        if (k == 0) {
            a.characters = V, a.ids = chunk.ids, a.ids_stream_stride = T, a.ids_step_stride = 1, a.table = table.data();
        } else {
            TRY(pack(config.precision, H, G * H, 0, at(kWeight, layer.input), 1, H, packed));
            const Product p{config.precision, T * B, H, G * H, element(layers[k - 1].hidden.data(), BH), H,
                            packed.data(), layer.bias.data(), room(layer.projected, T * B * G * H), 0};
            TRY(storycell_product(&p, threads));
            a.projected = layer.projected.data();
        }
        TRY(pack(config.precision, H, H, G > 1 ? G : 0, at(kWeight, layer.recurrent), 1, H, packed));
        a.packed = packed.data();
        if (config.cell != kRnn) a.carry = layer.carry.data();
        reset_bias.assign(static_cast<size_t>(H), 0.0f);
        if (config.cell == kGru)
            a.reset_bias = config.gate_bias ? bias_of(layer.recurrent_bias) + 2 * H : reset_bias.data();
        TRY(storycell_forward(&a, threads));
        room(layer.next_state, BH);
        if (config.cell == kGru) layer.next_state = layer.carry;
        else TRY(storycell_widen(config.precision, element(layer.hidden.data(), T * BH), layer.next_state.data(), BH,
                                 threads));
        if (config.cell == kLstm)
            layer.next_cell.assign(layer.cells.begin() + T * BH, layer.cells.begin() + (T + 1) * BH);
        return kOk;
    }

    Status loss(Chunk& chunk) {
        const int64_t rows = T * B;
        const float* weight = at(kWeight, output);
        room(packed, H * VW), room(packed_back, VW * H);
        TRY(storycell_pack(config.precision, H, VW, 0, weight, 1, H, H, V, packed.data(), threads));
        TRY(storycell_pack(config.precision, VW, H, 0, weight, H, 1, V, H, packed_back.data(), threads));
        OutputLoss a{};
        a.precision = config.precision, a.steps = T, a.streams = B, a.units = H, a.characters = V;
        a.hidden = element(layers.back().hidden.data(), B * H);
        a.packed_forward = packed.data(), a.packed_backward = packed_back.data(), a.bias = at(kWeight, output_bias);
        a.targets = chunk.targets, a.targets_stream_stride = T, a.targets_step_stride = 1;
        a.scale = 1.0 / static_cast<double>(rows);
        a.losses = room(losses, rows), a.logit_grads = room(logit_grads, elements(rows * VW));
        a.grad_hidden = room(grad_top, rows * H);
        TRY(storycell_output_loss(&a, threads));
        double sum = 0;
        for (int64_t r = 0; r < rows; ++r) sum += losses[r];
        chunk.nats = sum / static_cast<double>(rows);
        TransposedProduct g{};
        g.precision = config.precision, g.rows = rows, g.m = VW, g.n = H, g.left = logit_grads.data(),
        g.left_stride = VW, g.right = a.hidden, g.right_stride = H, g.out = at(kGradient, output);
        g.column_sums = at(kGradient, output_bias);
        return static_cast<Status>(storycell_transposed(&g, threads));
    }

    TransposedProduct to_weight(Layer& layer, int64_t first, int64_t m, const float* right, float* out, float* sums) {
        TransposedProduct g{};
        g.precision = config.precision, g.rows = T * B, g.m = m, g.n = H;
        g.left = element(layer.gates.data(), first), g.left_stride = S * H;
        g.right = right, g.right_stride = H, g.out = out, g.column_sums = sums;
        return g;
    }

    Status backward(int64_t k, const Chunk& chunk) {
        Layer& layer = layers[k];
        const bool gru = config.cell == kGru;
        const int64_t rows = T * B, meets = kCells[config.cell].back * H;
        TRY(pack(config.precision, meets, H, 0, at(kWeight, layer.recurrent), H, 1, packed));
        Recurrence a = recurrence(layer);
        a.packed = packed.data(), a.grad_output = grad_top.data();
        a.grad_initial = room(grad_initial, B * H);
        grad_carry.assign(static_cast<size_t>(B * H), 0.0f);
        (gru ? a.carry : a.grad_carry) = grad_carry.data();
        TRY(storycell_backward(&a, threads));

        float* sums = room(layer.sums, G * H);  // over all characters, of the gradients that meet W_hh
        TransposedProduct g = to_weight(layer, 0, G * H, layer.hidden.data(), at(kGradient, layer.recurrent), sums);
        TRY(storycell_transposed(&g, threads));
        float* last_sums = room(layer.last_sums, H);  // gru: of those that meet the input's last gate
        if (k == 0) {
            TableGradient t{config.precision, config.cell, T, B, H, V, chunk.ids, T, 1, layer.gates.data(),
                            room(grad_table, VW * G * H)};
            TRY(storycell_table_gradient(&t, threads));
            std::memset(last_sums, 0, H * sizeof(float));
            for (int64_t v = 0; v < V && gru; ++v)
                for (int64_t j = 0; j < H; ++j) last_sums[j] += grad_table[v * G * H + 2 * H + j];
            TRY(table_to_weights());
        } else {
            const float* read = element(layers[k - 1].hidden.data(), B * H);
            float* grad = at(kGradient, layer.input);
            const int64_t shared = gru ? 2 * H : G * H;
            g = to_weight(layer, 0, shared, read, grad, nullptr);
            TRY(storycell_transposed(&g, threads));
            if (gru) {
                g = to_weight(layer, 3 * H, H, read, grad + 2 * H * H, last_sums);
                TRY(storycell_transposed(&g, threads));
            }
            // Gradients of the gates to what was read; gru's third does not meet the input.
            const float* weight = at(kWeight, layer.input);
            std::vector<float> spread;
            if (gru) {
                spread.assign(static_cast<size_t>(S * H * H), 0.0f);
                std::memcpy(spread.data(), weight, 2 * H * H * sizeof(float));
                std::memcpy(spread.data() + 3 * H * H, weight + 2 * H * H, H * H * sizeof(float));
                weight = spread.data();
            }
            TRY(pack(config.precision, S * H, H, 0, weight, H, 1, packed));
            const Product p{config.precision, rows, S * H, H, layer.gates.data(), S * H, packed.data(), nullptr,
                            grad_top.data(), 0};
            TRY(storycell_product(&p, threads));
        }
        if (layer.input_bias >= 0) {
            float *in = at(kGradient, layer.input_bias), *back = at(kGradient, layer.recurrent_bias);
            for (int64_t j = 0; j < G * H; ++j) {
                back[j] = sums[j];
                in[j] = gru && j >= 2 * H ? last_sums[j - 2 * H] : sums[j];
            }
        }
        return kOk;
    }

    Status table_to_weights() {
        const Layer& layer = layers[0];
        float* grad = at(kGradient, layer.input);
        if (embedding < 0) {
            for (int64_t j = 0; j < G * H; ++j)
                for (int64_t v = 0; v < V; ++v) grad[j * D + v] = grad_table[v * G * H + j];
            return kOk;
        }
        TransposedProduct g{};
        g.rows = V, g.m = G * H, g.n = D, g.left = grad_table.data(), g.left_stride = G * H;
        g.right = at(kWeight, embedding), g.right_stride = D, g.out = grad;
        TRY(storycell_transposed(&g, threads));
        TRY(pack(0, G * H, D, 0, at(kWeight, layer.input), D, 1, packed));
        const Product p{0, V, G * H, D, grad_table.data(), G * H, packed.data(), nullptr, at(kGradient, embedding), 0};
        return static_cast<Status>(storycell_product(&p, threads));
    }
};

}  // namespace storycell

using namespace storycell;

Model* storycell_model_create(const ModelConfig* c) {
    if (!c || c->cell < 0 || c->cell >= kCellCount || c->precision < 0 || c->precision > 1 || c->threads < 1 ||
        c->threads > 1024 || c->layers < 1 || c->layers > 1024 || c->units < 1 || c->units > (1 << 16) ||
        c->characters < 1 || c->characters > (1 << 21) || c->embedding < 0 || c->embedding > (1 << 16))
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
    return known(m, index) ? m->parameters[index].name : nullptr;
}
int64_t storycell_model_rows(const Model* m, int64_t index) { return known(m, index) ? m->parameters[index].rows : 0; }
int64_t storycell_model_columns(const Model* m, int64_t index) {
    return known(m, index) ? m->parameters[index].columns : 0;
}

int storycell_model_read(const Model* m, int kind, int64_t index, float* to) {
    if (!m || !to) return kMissing;
    if (!known(m, index) || kind < kWeight || kind > kStep) return kBadSize;
    if (kind == kStep) return *to = m->steps[index], kOk;
    const Parameter& p = m->parameters[index];
    const float* from = m->numbers[kind].data() + p.offset;
    for (int64_t r = 0; r < p.rows; ++r)
        std::memcpy(to + r * p.width(), from + p.row(r) * p.stride, static_cast<size_t>(p.width()) * sizeof(float));
    return kOk;
}

int storycell_model_write(Model* m, int kind, int64_t index, const float* from) {
    if (!m || !from) return kMissing;
    if (!known(m, index) || kind < kWeight || kind > kStep) return kBadSize;
    if (kind == kStep) return m->steps[index] = *from, kOk;
    const Parameter& p = m->parameters[index];
    for (int64_t r = 0; r < p.rows; ++r)
        std::memcpy(m->at(kind, index) + p.row(r) * p.stride, from + r * p.width(),
                    static_cast<size_t>(p.width()) * sizeof(float));
    return kOk;
}

int storycell_model_gradient(Model* m, Chunk* c) {
    if (!m || !c || !c->ids || !c->targets) return kMissing;
    if (c->streams < 1 || c->steps < 1 || c->streams > (1 << 24) || c->steps > (1 << 24) ||
        c->streams * c->steps >= (int64_t{1} << 31))
        return kBadSize;
    return guarded([&] { return m->gradient(*c); });
}

int storycell_model_apply(Model* m, double rate, double limit, double decay, double beta1, double beta2) {
    if (!m) return kMissing;
    return guarded([&] { return m->apply(rate, limit, decay, beta1, beta2); });
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
