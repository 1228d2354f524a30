// A character model that owns its weights, gradients, optimiser state and carried states, behind a C interface. Tensors
// have torch's names, shapes and order of gates; all that crosses is plain float32 and int64. Calls on one model must not
// overlap. Functions that return int return a Status; after a failure weights, optimiser state, running mean and carried
// states are as before.
#pragma once
#include "engine/storycell.h"

namespace storycell {

struct ModelConfig {  // embedding 0: one-hot characters; shares that are dropped in [0, 1)
    int64_t cell, layers, units, characters, embedding, gate_bias, precision, threads;
    double dropout, weight_dropout, embedding_dropout;
    int64_t ngrams, ngram_rows, matches;  // context.h; 0: none
    int64_t gate_norm;  // nonzero: normalised gates (ops/gate_norm.h), of lstm with gate_bias alone
};

struct Chunk {  // characters to learn from
    int64_t streams, steps;
    const int64_t *ids, *targets;        // [B, T], contiguous
    const uint8_t* resets;               // [B], nonzero: this stream starts from the zero state; or null
    int64_t carries;                     // nonzero: go on from the state that the last applied chunk left, if any
    uint64_t seed;                       // of the dropout's masks
    const float* soft = nullptr;         // [B, T, characters]: probabilities to learn beside the targets, or null
    double share = 0;                    // of the loss that is theirs, 0 to 1
    double nats = 0, norm = 0;           // out: mean loss of the targets alone; norm of the whole gradient
};

enum Method : int { kAdamW = 0, kSgd = 1, kMuon = 2, kNorMuon = 3 };

struct Update {  // clip 0: not; the betas are AdamW's, and Muon's for what is no matrix of a recurrent layer
    int64_t method;
    double rate, clip, decay, beta1, beta2;
};

// What is kept of every parameter; kStep is one number. kMomentum is Muon's, kAverage the running mean of the weights.
// One number of each row: kSum, the sum of all squares, which Adagrad keeps of the context's table and of nothing else;
// kRowSquare, NorMuon's running mean of the squares of its updates, of nothing else.
enum Kind : int {
    kWeight = 0, kGradient = 1, kMean = 2, kSquare = 3, kStep = 4, kMomentum = 5, kAverage = 6, kSum = 7, kRowSquare = 8
};
constexpr int kKinds = 9;

class Model;

}  // namespace storycell

// Null where a size is out of range or there is no memory.
STORYCELL_API storycell::Model* storycell_model_create(const storycell::ModelConfig* config);
STORYCELL_API void storycell_model_free(storycell::Model* model);
STORYCELL_API int64_t storycell_model_tensors(const storycell::Model* model);
STORYCELL_API const char* storycell_model_name(const storycell::Model* model, int64_t index);  // null: no such tensor
STORYCELL_API int64_t storycell_model_rows(const storycell::Model* model, int64_t index);
STORYCELL_API int64_t storycell_model_columns(const storycell::Model* model, int64_t index);  // 0: a vector
// Whether a tensor of this Kind is there: optimiser state and running mean come with the first update or `write`.
STORYCELL_API int64_t storycell_model_has(const storycell::Model* model, int kind, int64_t index);
// One tensor [rows, columns] of a Kind (kStep: one number; kSum, kRowSquare: [rows]), out of the model (kMissing: not there) or into it.
STORYCELL_API int storycell_model_read(const storycell::Model* model, int kind, int64_t index, float* to);
STORYCELL_API int storycell_model_write(storycell::Model* model, int kind, int64_t index, const float* from);
STORYCELL_API int storycell_model_forget(storycell::Model* model, int kind);  // all of a Kind but the weights
// Loss and gradient of a chunk; nothing is changed but the gradients. kOtherStreams: it cannot carry on the state. The
// masks are those of storycell_dropout in memory's order (units in whole lanes), `period` = `count`, with
// storycell_model_seed of: 0 the characters of the embedding, 1 + k the recurrent weights of layer k, 1 + layers + k the
// outputs [T, B, H] of layer k.
STORYCELL_API int storycell_model_gradient(storycell::Model* model, storycell::Chunk* chunk);
STORYCELL_API uint64_t storycell_model_seed(uint64_t seed, int64_t mask);
// The gradient between `gradient` and `apply`, for whoever adds up those of several processes. All but the context's table
// as it lies in memory, zeros up to whole lanes included: `count` numbers, in the same place as long as the model lives.
// Of the table the rows that have a gradient, in rising order, and their gradients [rows, columns]; other rows than it
// had may be given. `measure` takes the norm of what is there then, which `apply` clips by.
STORYCELL_API float* storycell_model_gradients(storycell::Model* model, int64_t* count);
STORYCELL_API int64_t storycell_model_met(const storycell::Model* model);  // how many rows
STORYCELL_API int storycell_model_read_met(const storycell::Model* model, int64_t* rows, float* gradients);
STORYCELL_API int storycell_model_write_met(storycell::Model* model, int64_t count, const int64_t* rows,
                                            const float* gradients);
STORYCELL_API int storycell_model_measure(storycell::Model* model, double* norm);  // kMissing without a gradient
// Clips the gradient and takes a step, then carries on the chunk's last state. Matrices but the embedding decay.
// kNotFinite, and nothing changed, where loss or norm were not finite; kMissing without a gradient.
STORYCELL_API int storycell_model_apply(storycell::Model* model, const storycell::Update* update);
// Moves the running mean to decay * mean + (1 - decay) * weights; the first time it becomes the weights.
STORYCELL_API int storycell_model_average(storycell::Model* model, double decay);
STORYCELL_API int storycell_model_swap_average(storycell::Model* model);  // with the weights; nothing where there is none
// The state that the last applied chunk left, [layers, B, units] each (cell: of lstm, else null or ignored); B = 0: none.
STORYCELL_API int64_t storycell_model_streams(const storycell::Model* model);
STORYCELL_API int storycell_model_read_state(const storycell::Model* model, float* hidden, float* cell);
STORYCELL_API int storycell_model_write_state(storycell::Model* model, int64_t streams, const float* hidden,
                                              const float* cell);
// The characters that its streams remember, [B, memory], the latest first; after `write_state`, which forgets them.
STORYCELL_API int storycell_model_read_past(const storycell::Model* model, int64_t* past);
STORYCELL_API int storycell_model_write_past(storycell::Model* model, const int64_t* past);
