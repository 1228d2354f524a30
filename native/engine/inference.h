// A network that is only read: a character model's weights, packed once, to score, trace and generate with. A Network
// never changes after it was made, so any number of threads may use one at the same time; a call's buffers are its own,
// and are bounded whatever the length of the text.
//
// All arrays are plain float32, int64 and uint32, contiguous, without padding; weights have torch's shapes and order of
// gates. Functions that return int return a Status; after a failure what was to be written is unspecified.
#pragma once
#include "engine/storycell.h"

namespace storycell {

struct NetworkLayer {           // one recurrent layer's weights, read only
    const float *input;         // [G*H, D], D being H for all layers but the first
    const float *recurrent;     // [G*H, H]
    const float *input_bias, *recurrent_bias;  // [G*H], or both null
};

struct NetworkWeights {         // all of them; nothing is kept of the pointers
    int64_t cell, layers, units, characters, embedding;  // embedding: D of the first layer; 0: one-hot, so D = V
    const float* embedding_weight;  // [V, D], or null with embedding 0
    const NetworkLayer* layer;      // [layers]
    const float *output, *output_bias;  // [V, H], [V]
    int64_t ngrams = 0, ngram_rows = 0, matches = 0;  // context.h; 0: none
    const float* context_table = nullptr;             // [rows, D]
    int64_t gate_norm = 0;  // nonzero: normalised gates (ops/gate_norm.h), of lstm with biases alone
};

// Characters to be read, and what is wanted of that; a null is not computed. Only a network packed for float32 reads.
struct Reading {
    int64_t streams, steps;
    const int64_t* ids;                // [B, T]
    const int64_t* targets;            // [B, T], where `losses` is wanted
    const float *hidden, *cell;        // [L, B, H] state before; null: zeros. cell: of lstm
    float *final_hidden, *final_cell;  // [L, B, H] state after
    float* losses;                     // [B, T] nats
    float* logits;                     // [B, T, V]
    float *hiddens, *cells;            // [L, B, T, H] every state on the way
    const int64_t* past = nullptr;     // [B, memory] characters before, the latest first; null: zeros
    int64_t* final_past = nullptr;     // those after, or null
};

struct Writing {                       // characters to be generated
    int64_t streams, length;
    int64_t unknown;                   // a character never written, or -1
    const float *hidden, *cell;        // as in Reading
    float *final_hidden, *final_cell;  // state after all but the last character
    int64_t* current;                  // [B] fed first; out: the last character
    uint32_t* random;                  // [B, 4] xoshiro128++ states, in and out
    const Choice* choice;              // [B]
    int64_t* out;                      // [B, length]
    float* logits;                     // [B, length, V] what each was drawn from, or null
    int64_t* past = nullptr;           // [B, memory] of a network with a context, in and out
};

class Network;

}  // namespace storycell

// The rows [B, T, met] that ids [B, T] meet after past [B, memory], null for zeros (context.h).
STORYCELL_API int storycell_context_rows(int64_t ngrams, int64_t ngram_rows, int64_t matches, int64_t characters,
                                         int64_t streams, int64_t steps, const int64_t* ids, const int64_t* past,
                                         int64_t* rows);

// Packs weights for products in `precision`: that of whole numbers of 8 bits is for generation only.
STORYCELL_API int storycell_network_create(const storycell::NetworkWeights* weights, int64_t precision, int threads,
                                           storycell::Network** made);
STORYCELL_API void storycell_network_free(storycell::Network* network);
STORYCELL_API int storycell_network_read(const storycell::Network* network, const storycell::Reading* a, int threads);
// kNotFinite where the logits of a stream allow no draw; in int8 also where a weight or a state is not finite.
STORYCELL_API int storycell_network_write(const storycell::Network* network, const storycell::Writing* a, int threads);
