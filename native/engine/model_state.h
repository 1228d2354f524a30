// What a model consists of in memory; for the library's own files (model.cpp learns, others read).
#pragma once
#include <cstdint>
#include <vector>

#include "engine/buffer.h"
#include "engine/guarded.h"
#include "engine/model.h"
#include "engine/muon.h"
#include "engine/context_table.h"

namespace storycell {

#define TRY(call) \
    if (const int bad = (call)) return static_cast<Status>(bad)

inline int64_t whole_lanes(int64_t n) { return (n + 15) / 16 * 16; }

// A tensor as it lies in memory: rows of `stride` numbers; each gate's block of `units` rows is followed by rows of
// zeros up to whole lanes. Padded units have zero weights, so they stay zero and so do their gradients.
struct Parameter {
    char name[64];
    int64_t rows, columns, units, stride, offset, first_row;  // where it begins; in what has a number for each row
    bool decays;
    bool recurrent;  // a matrix of a recurrent layer: what Muon moves
    bool table;      // of the context: its numbers are in ContextTable
    int64_t row(int64_t r) const { return r / units * whole_lanes(units) + r % units; }
    int64_t memory_rows() const { return rows / units * whole_lanes(units); }
    int64_t count() const { return memory_rows() * stride; }
    int64_t width() const { return columns ? columns : 1; }
};

// Weights as the kernels read them: all biases of a layer in one (gru's without b_hn, which `reset_bias` gives, and that of
// normalised gates without b_ih), and what each character adds to the first layer's gates. float32.
struct Folded {
    std::vector<Buffer> bias;  // of each layer, [G*H]
    Buffer table;              // [V, G*H], with the first layer's bias
    Buffer packed;
};

struct Layer {
    int64_t input = -1, recurrent = -1, input_bias = -1, recurrent_bias = -1;  // parameters, or -1
    // Of a chunk, as in Recurrence, in elements; `kept` is what dropout leaves of the outputs [T, B, H].
    Buffer hidden, cells, gates, kept;
    Buffer normalised, mean_squares;      // with gate_norm
    const float* outputs = nullptr;       // `kept`, or `hidden` from its second step on
    Buffer carry, next_state, next_cell;  // [B, H]
    Buffer state, cell;                   // [B, H]: what is carried to the next chunk
    Buffer dropped;                       // the recurrent weights that a chunk's dropout has left
    Buffer packed_input, packed_recurrent, packed_input_back, packed_recurrent_back;
};

class Model {
public:
    explicit Model(const ModelConfig& c);

    const ModelConfig config;
    const int threads;
    // H, D, VW: units, width of the input and characters in whole lanes. G, S: gates and saved vectors of the cell.
    const int64_t H, V, VW, G, S, D;
    std::vector<Parameter> parameters;
    std::vector<Layer> layers;
    int64_t embedding = -1, context = -1, output = -1, output_bias = -1;  // parameters, or -1
    uint64_t version = 1;                                   // raised whenever a weight changes

    float* at(int kind, int64_t index) { return numbers[kind].data() + place(kind, index); }
    const float* at(int kind, int64_t index) const { return numbers[kind].data() + place(kind, index); }
    bool keeps(int kind, int64_t index) const;  // whether there can be such a tensor
    bool has(int kind, int64_t index) const { return present[kind][static_cast<size_t>(index)]; }
    void keep(int kind);  // makes room for a Kind, zeros
    bool whole(int kind) const;  // whether every tensor of it is there
    void forget(int kind);
    Status read(int kind, int64_t index, float* to) const;
    Status write(int kind, int64_t index, const float* from);

    // The weights folded, with this [V, D] instead of the embedding where it is not null.
    Status fold(Folded& to, const float* embedded = nullptr) const;
    const float* reset_bias(const Layer& layer) const;  // gru: [H]
    Status pack(int64_t precision, int64_t inner, int64_t columns, int64_t gates, const float* source,
                int64_t k_stride, int64_t j_stride, Buffer& to) const;

    Status gradient(Chunk& chunk);
    float* gradients(int64_t& count) { return count = total, numbers[kGradient].data(); }
    Status measure(double& to);
    Status apply(const Update& update);
    Status average(double decay);
    void swap_average();

    int64_t streams() const { return carried_streams; }
    void read_state(float* hidden, float* cell) const;
    ContextTable table;  // with it the first layer reads vectors; without, it looks up what a character adds to its gates
    void write_state(int64_t count, const float* hidden, const float* cell);

private:
    int64_t B = 0, T = 0, total = 0, total_rows = 0, carried_streams = 0;
    Buffer numbers[kKinds];  // by Kind, each tensor at its `place`
    std::vector<char> present[kKinds];
    uint64_t packed_version = 0;  // of the weights that were packed and folded last, and by which kernels
    const Kernels* packed_by = nullptr;
    int64_t precision = kFloat32, packed_in = kFloat32;  // of the chunk's products: the model's, or by a BLAS
    Folded folded;
    Buffer zeros;  // [H]
    Buffer packed_output, packed_output_back, kept_characters, kept_embedding;
    Buffer vectors, read_vectors, grad_vectors;  // [T*B, D]: what the first layer reads, as elements, its gradient
    Buffer projected, grad_table, grad_top, logit_grads, losses, grad_initial, grad_carry, sums, last_sums, spread,
        block_sums, scratch, grad_gates;
    std::vector<Tensor> tensors;
    std::vector<MuonMatrix> matrices;
    Muon muon;
    bool ready = false;
    double norm = 0, nats = 0;

    int64_t place(int kind, int64_t index) const {
        const Parameter& p = parameters[static_cast<size_t>(index)];
        return kind == kStep ? index : kind == kRowSquare ? p.first_row : p.offset;
    }
    int64_t add(const char* name, int64_t rows, int64_t columns, int64_t units, bool decays);
    bool rounds() const { return config.precision == 1; }
    int64_t elements(int64_t count) const { return rounds() ? (count + 1) / 2 : count; }  // in floats
    float* element(float* from, int64_t index) const { return from + (rounds() ? index / 2 : index); }
    const float* element(const float* from, int64_t index) const { return from + (rounds() ? index / 2 : index); }
    Status prepare(const Chunk& chunk);
    Status look_up(const Chunk& chunk);
    Status start(Layer& layer, const Chunk& chunk);
    Recurrence recurrence(Layer& layer);
    int64_t steps_together() const;
    Recurrence of_steps(const Recurrence& whole, int64_t begin, int64_t end);
    Status forward(int64_t k, const Chunk& chunk);
    Status loss(Chunk& chunk);
    Status input_gradient(Layer& layer, const float* read, int64_t width, float* to, float* all, float* last);
    TransposedProduct to_weight(Layer& layer, int64_t first, int64_t m, float* out, float* column_sums);
    Status backward(int64_t k, const Chunk& chunk);
    Status table_to_weights();
    Status vectors_to_weights();
    Status measure();
    Status descend(double rate);
    Status adapt(const Update& update, double factor);
};

}  // namespace storycell
