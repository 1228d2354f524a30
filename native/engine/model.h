// A character model that owns its weights, gradients, moments and carried states, behind a C interface. Tensors have
// torch's names, shapes and order of gates; all that crosses is plain float32 and int64. Calls on one model must not
// overlap. Functions that return int return a Status; after a failure weights, moments and carried states are as before.
#pragma once
#include "engine/storycell.h"

namespace storycell {

struct ModelConfig {  // embedding 0: one-hot characters
    int64_t cell, layers, units, characters, embedding, gate_bias, precision, threads;
};

struct Chunk {  // characters to learn from
    int64_t streams, steps;
    const int64_t *ids, *targets;        // [B, T], contiguous
    int64_t carries;                     // nonzero: go on from the state that the last applied chunk left, if any
    double nats, norm;                   // out: mean loss; norm of the whole gradient
};

enum Kind : int { kWeight = 0, kGradient = 1, kMean = 2, kSquare = 3, kStep = 4 };

class Model;

}  // namespace storycell

// Null where a size is out of range or there is no memory.
STORYCELL_API storycell::Model* storycell_model_create(const storycell::ModelConfig* config);
STORYCELL_API void storycell_model_free(storycell::Model* model);
STORYCELL_API int64_t storycell_model_tensors(const storycell::Model* model);
STORYCELL_API const char* storycell_model_name(const storycell::Model* model, int64_t index);  // null: no such tensor
STORYCELL_API int64_t storycell_model_rows(const storycell::Model* model, int64_t index);
STORYCELL_API int64_t storycell_model_columns(const storycell::Model* model, int64_t index);  // 0: a vector
// One tensor [rows, columns] of a Kind (kStep: one number), out of the model or into it.
STORYCELL_API int storycell_model_read(const storycell::Model* model, int kind, int64_t index, float* to);
STORYCELL_API int storycell_model_write(storycell::Model* model, int kind, int64_t index, const float* from);
// Loss and gradient of a chunk; nothing is changed but the gradients.
STORYCELL_API int storycell_model_gradient(storycell::Model* model, storycell::Chunk* chunk);
// Clips the gradient (limit 0: not) and takes a step of AdamW, then carries on the chunk's last state. Matrices but the
// embedding decay. kNotFinite, and nothing changed, where loss or norm were not finite; kMissing without a gradient.
STORYCELL_API int storycell_model_apply(storycell::Model* model, double rate, double limit, double decay, double beta1,
                                        double beta2);
// The state that the last applied chunk left, [layers, B, units] each (cell: of lstm, else null or ignored); B = 0: none.
STORYCELL_API int64_t storycell_model_streams(const storycell::Model* model);
STORYCELL_API int storycell_model_read_state(const storycell::Model* model, float* hidden, float* cell);
STORYCELL_API int storycell_model_write_state(storycell::Model* model, int64_t streams, const float* hidden,
                                              const float* cell);
