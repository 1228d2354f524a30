// What the threaded drivers (storycell.cpp) hand to the kernels of one instruction set. Everything
// here is plain data; the kernels own nothing and allocate nothing but small per-call scratch. The fields of
// what crosses the C interface are listed again in layout.cpp and in the Python binding, which compares.
//
// "Elements" are float (precision 0, or 3 where a BLAS multiplies them), bfloat16 (1) or, for generation, whole
// numbers of 8 bits (2). Sizes: T steps,
// B streams, H units (a multiple of 16; the caller pads with zero weights), V characters; G gates and S saved vectors
// per unit are in kCells.
#pragma once
#include <cstdint>

namespace storycell {

constexpr int64_t kBlock = 4096;  // elements of a tensor that an optimiser's kernel takes at a time

enum Precision : int { kFloat32 = 0, kBfloat16 = 1, kInt8 = 2, kBlas = 3 };
constexpr int64_t kElementBytes[] = {4, 2, 1, 4};  // by Precision

// In int8 a packed column has this many bytes beside its weights: its scale over 127 (float) and where its sum of
// whole numbers begins (int32).
constexpr int64_t kByteHeader = 8;

// Bytes of a packed right-hand side.
constexpr int64_t packed_bytes(int64_t precision, int64_t inner, int64_t columns) {
    return columns * (inner * kElementBytes[precision] + (precision == kInt8 ? kByteHeader : 0));
}

enum Status : int {         // what every function of the interface and every kernel returns
    kOk = 0,
    kBadSize = 1,       // a size is out of range
    kBadCharacter = 2,  // an id is outside [0, characters)
    kMissing = 3,       // a required pointer is null
    kNotFinite = 4,     // generation met logits that allow no draw
    kUnknownIsa = 5,    // named kernels are missing or cannot run here
    kNoMemory = 6,
    kFailed = 7,        // an exception that none of the above stands for
    kOtherStreams = 8,  // a chunk would carry on the state of another number of streams
};

enum Cell : int { kLstm = 0, kGru = 1, kRnn = 2 };

// gates (G): blocks of H columns that the input and the hidden state each add to. saved (S): vectors per
// unit and step that forward keeps; backward replaces them by gradients. back: how many of these, from the
// first, meet W_hh on the way back to the hidden state.
struct CellShape {
    const char* name;
    int gates, saved, back;
};
constexpr CellShape kCells[] = {{"lstm", 4, 4, 4}, {"gru", 3, 4, 3}, {"rnn", 1, 1, 1}};  // by Cell
constexpr int64_t kCellCount = sizeof kCells / sizeof *kCells;

struct Recurrence {
    int64_t cell, precision, steps, streams, units, characters;
    // Read only.
    const void* packed;         // W_hh packed for the direction: elements
    const int64_t* ids;         // [B, T] with strides below, or null when `projected` is given
    int64_t ids_stream_stride, ids_step_stride;
    const float* table;         // [V, G*H]: what a character adds to the gates
    const float* projected;     // [T, B, G*H]: what the layer below adds to the gates
    const float* reset_bias;    // gru only: b_hn [H]
    // Written by forward, read by backward. hidden[0] and cell_state[0] hold the initial state.
    void* hidden;               // [T+1, B, H] elements
    float* cell_state;          // lstm [T+1, B, H]; null when nothing is saved
    void* saved;                // [T, B, S*H] 16-bit or float; backward overwrites with dgates
    float* carry;               // [B, H] float: lstm cell state / gru hidden state, updated in place
    // Backward only.
    const float* grad_output;   // [T, B, H], or null
    const float* grad_hidden;   // [B, H] gradient to the final hidden state, or null
    float* grad_carry;          // [B, H] in: gradient to the final cell state; out: to the initial
    float* grad_initial;        // [B, H] out: gradient to the initial hidden state
    int64_t descending;         // forward only: panels from the last to the first, same result
    // Normalised gates (lstm; ops/gate_norm.h), where there is a bias for after the division; threads share no units then.
    const float* gate_bias;     // [G*H], or null: gates are not normalised
    int64_t real_units;         // the mean is over so many, the first
    void* normalised;           // [T, B, G*H] as `saved`: written where that is, read by backward
    float* mean_squares;        // [T, B, G], likewise
    float* grad_gates;          // backward, out: [kMostTogether, G*H] gradients of what the cell reads, summed over
};                              // the steps of streams_together(B) streams each; as many rows as that takes

constexpr int64_t kMostTogether = 16;
constexpr int64_t streams_together(int64_t streams) { return (streams + kMostTogether - 1) / kMostTogether; }

// What one call of a kernel computes of a Recurrence: some streams, some of its steps in the order in which they are done
// (backward has one more than `steps`, for the initial state) and, of the units, panels as they are packed: share
// `share` of `shares`. A step of a share may begin when that before is finished in all shares.
struct RecurrencePart {
    int64_t first, last;        // streams
    int64_t begin, end;         // steps
    int64_t share, shares;
};

struct Product {                // out[rows, columns] = left[rows, inner] . packed (+ bias)
    int64_t precision, rows, inner, columns;
    const void* left;           // elements, row stride below (in elements)
    int64_t left_stride;
    const void* packed;
    const float* bias;          // [columns] or null
    float* out;                 // row stride `columns`
    int64_t descending;         // panels from the last to the first, same result
};

struct TransposedProduct {      // out[m, n] = sum over rows of left[row, m] * right[row, n]
    int64_t precision, rows, m, n;
    const void* left;           // elements; row stride left_stride
    int64_t left_stride;
    const void* right;          // elements; row stride right_stride
    int64_t right_stride;
    float* out;                 // [m, n] contiguous, overwritten
    float* column_sums;         // [m] sums of left over rows, or null
    // With `table_grad` [characters, m], overwritten: left's rows are also added to the table row
    // of their character, while they are in cache. Row r is step r / streams of stream r % streams.
    float* table_grad;
    const int64_t* ids;
    int64_t ids_stream_stride, ids_step_stride, streams, characters;
};

struct TransposedPair {         // the same left-hand side with a second right-hand side; inside the library only
    TransposedProduct one;
    const void* right;          // or null
    int64_t right_stride, n;
    float* out;                 // [m, n]
};

// out[n, n] = left[n, inner] . packed, where that is symmetric: half of it is computed, and mirrored. Several at a
// time, so that small ones fill all threads; inside the library only.
struct SymmetricProduct {
    const void* left;           // elements [n, inner], or null where there are strips
    int64_t left_stride;
    const float* strips;        // the same as packed columns, or null
    const void* packed;         // plain, inner by n
    int64_t n, inner;           // multiples of 16; inner of 32 where there are strips
    float* out;                 // [n, n]
};
struct SymmetricProducts {
    int64_t precision, products;
    const SymmetricProduct* product;
};

struct TableGradient {          // grad[id, column] += dgates rows whose character is id
    int64_t precision, cell, steps, streams, units, characters;
    const int64_t* ids;
    int64_t ids_stream_stride, ids_step_stride;
    const void* gate_grads;     // [T, B, S*H] elements
    float* grad;                // [V, G*H], overwritten
};

struct OutputLoss {             // logits, softmax cross-entropy and its gradient, per row
    int64_t precision, steps, streams, units, characters;
    const void* hidden;         // [T*B, H] elements
    const void* packed_forward; // W_out^T: inner H, columns V rounded up to 16
    const void* packed_backward;// W_out: inner V rounded up, columns H; null: loss only
    const float* bias;          // [V rounded up]
    const int64_t* targets;     // [B, T] with strides
    int64_t targets_stream_stride, targets_step_stride;
    double scale;               // gradient of the result with respect to each row's loss
    float* losses;              // [T*B]
    void* logit_grads;          // [T*B, V rounded up] elements, or null
    float* grad_hidden;         // [T*B, H], or null
    // The gradient is that of (1 - share) of each row's loss and of share of the cross-entropy with `soft` [B, T, V], or
    // null: probabilities; `losses` are without it.
    const float* soft = nullptr;
    double share = 0;
};

struct GenerationLayer {
    const void* packed_recurrent;  // W_hh, gate-interleaved: elements
    const void* packed_input;      // W_ih, plain packing; null for the first layer
    const float* table;            // first layer: [V, G*H]
    const float* input_bias;       // later layers: [G*H], or null
    const float* reset_bias;       // gru: [H]
    void* hidden;                  // [2, B, H] elements: slot 0 in and out, slot 1 scratch
    float* carry;                  // [B, H]: lstm cell state / gru hidden state, in and out
    float* projected;              // later layers: [B, G*H] scratch
    const float* gate_bias;        // [G*H] of normalised gates, after the division; or null
};

// How one stream chooses its next character: FIELD(type, name), in the order of `Choice` in language_model.py. A list,
// so that a way to choose is added in one line: the struct and layout.cpp are made of it.
#define STORYCELL_CHOICE(FIELD)                                  \
    FIELD(double, temperature)                                   \
    FIELD(double, top_p)   /* >= 1: off */                       \
    FIELD(double, min_p)   /* <= 0: off */                       \
    FIELD(int64_t, top_k)  /* <= 0: off */                       \
    FIELD(int64_t, greedy) /* nonzero: lowest-id argmax, nothing drawn */
#define STORYCELL_MEMBER(type, name) type name;
struct Choice { STORYCELL_CHOICE(STORYCELL_MEMBER) };
#undef STORYCELL_MEMBER

struct Dropout {                // to[i] = from[i] / keep where a hash of (seed, i % period) keeps it, else 0
    int64_t precision, count, period;  // count a multiple of 16, period too
    uint64_t seed;
    double keep;                // probability of keeping, in (0, 1]
    const void* from;           // [count] elements
    void* to;                   // [count] elements, may be `from`
};

struct Generation {
    int64_t cell, precision, layers, streams, units, characters, length;
    const GenerationLayer* layer;  // [layers]
    const void* packed_output;     // inner H, columns V rounded up to 16
    const float* output_bias;      // [V rounded up]
    float* logits;                 // [B, V rounded up] scratch
    int64_t* current;              // [B]: the character fed next, in and out
    uint32_t* random;              // [B, 4]: xoshiro128++ states, in and out
    int64_t* out;                  // [B, length]
    float* kept_logits;            // [B, length, V rounded up]: what each was drawn from, or null
    const Choice* choice;          // [B]
    int64_t unknown;               // a character never written, or -1
    // With a context (context.h; 0: none) the first layer reads vectors, in float32: its packed_input is that, and it has
    // input_bias and projected instead of a table.
    int64_t ngrams = 0, ngram_rows = 0, matches = 0, embedding = 0;  // embedding: their width
    const float *embedding_weight = nullptr, *context_table = nullptr;  // [V, width], [rows, width]
    int64_t* past = nullptr;       // [B, memory], in and out
    float* vectors = nullptr;      // [B, width] scratch
    int64_t real_units = 0;        // of normalised gates, as in Recurrence
};

struct Tensor {                 // one of a model's tensors, as the optimiser sees it
    float *value, *grad;        // [count]
    float *mean, *square;       // [count] running means of the gradient and of its square
    float* step;                // [1] updates so far
    int64_t count;
    double rate, decay;         // learning rate; weight decay
    double beta1, beta2, epsilon;
};

struct Tensors {                // what the optimiser works on; each function reads what it needs
    int64_t tensors;
    const Tensor* tensor;       // [tensors]
    double factor;              // what scaling and the step multiply the gradients by
    float* sums;                // of squares: one for each block of each tensor
};

// A kernel on its thread's share [first, last) of what the comment beside it counts. May throw nothing.
template <class Arguments>
using RangeKernel = Status(const Arguments&, int64_t first, int64_t last);

using RecurrenceKernel = Status(const Recurrence&, const RecurrencePart&);

// One instruction set's kernels.
struct Kernels {
    const char* name;
    int width;  // of a vector
    int rows;   // of the micro-kernel's tile
    void (*pack)(int64_t precision, int64_t inner, int64_t columns, int64_t gates,
                 const float* source, int64_t k_stride, int64_t j_stride, int64_t valid_inner,
                 int64_t valid_columns, void* packed, int64_t first, int64_t last);
    int64_t (*panels)(int64_t inner, int64_t columns, int64_t gates);
    RecurrenceKernel *forward, *backward;
    RangeKernel<Product>* product;               // rows
    RangeKernel<TransposedProduct>* transposed;  // m / 16
    RangeKernel<TransposedPair>* transposed_pair;  // m / 16
    RangeKernel<SymmetricProducts>* symmetric;   // blocks, as symmetric_blocks counts them
    int64_t (*symmetric_blocks)(int64_t n);      // of a product [n, n]
    RangeKernel<TableGradient>* table_gradient;  // (G*H) / 16
    RangeKernel<OutputLoss>* output_loss;        // rows
    RangeKernel<Dropout>* dropout;               // 16 elements
    RangeKernel<Tensors>* gradient_squares;      // blocks
    RangeKernel<Tensors>* scale_gradients;       // blocks
    RangeKernel<Tensors>* adam_step;             // blocks
    void (*nesterov)(const float* gradient, double factor, double beta, float* momentum, float* update, int64_t count);
    void (*combine)(double a, const float* x, double b, const float* y, double c, const float* z, float* to,
                    int64_t count);              // to = a x + b y + c z
    void (*pack_rows)(int64_t precision, int64_t inner, int64_t columns, int64_t row, const void* elements,
                      void* packed);             // sixteen of them, plain
    // Columns as a left-hand side: how many floats, and panels of them, from elements [inner, columns] that may be read
    // 16 past their end.
    int64_t (*strips_floats)(int64_t precision, int64_t inner, int64_t columns);
    void (*pack_strips)(int64_t precision, int64_t inner, int64_t columns, const void* elements, float* strips,
                        int64_t first, int64_t last);
    void (*convert)(int64_t precision, const float* from, void* to, int64_t count);
    void (*widen)(int64_t precision, const void* from, float* to, int64_t count);
    void (*sampling_weights)(const float* logits, int64_t count, double top, double temperature,
                             double* weight);
};

}  // namespace storycell
