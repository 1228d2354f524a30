// The library's C interface: checks sizes and characters, splits the work over threads and calls
// the chosen kernels. No state but the thread pool and the choice of instruction set; every
// buffer belongs to the caller, who guarantees that it has the size named in arguments.h and
// that no two written buffers overlap. Thread-safe: concurrent calls take turns at the pool.
//
// Functions that return int return a Status. No exception leaves the library. After a failure inside a
// kernel (kNoMemory, kNotFinite, kFailed) what was to be written is unspecified; after one of the
// checks nothing was written. All strings are the library's own and live as long as it does.
#pragma once
#include <cstdint>

#include "engine/arguments.h"

#if defined(_WIN32)
#define STORYCELL_API extern "C" __declspec(dllexport)
#else
#define STORYCELL_API extern "C" __attribute__((visibility("default")))
#endif

STORYCELL_API const char* storycell_isa();
STORYCELL_API int storycell_use_isa(const char* name);  // "" or null: the best
// The BLAS that float32 products of training may go to, by name; empty: none. "on": for all sizes, "off", "" or null:
// where it wins. kUnknownIsa: there is none, or no such choice.
STORYCELL_API const char* storycell_blas();
STORYCELL_API int storycell_use_blas(const char* choice);
STORYCELL_API const char* storycell_layout();           // layout.h: for the caller to compare with its own
STORYCELL_API const char* storycell_explain(int status);  // a sentence without its full stop
// A packed right-hand side, of packed_bytes.
STORYCELL_API int storycell_pack(int64_t precision, int64_t inner, int64_t columns, int64_t gates,
                                 const float* source, int64_t k_stride, int64_t j_stride,
                                 int64_t valid_inner, int64_t valid_columns, void* packed,
                                 int threads);
STORYCELL_API int storycell_forward(const storycell::Recurrence* a, int threads);
STORYCELL_API int storycell_backward(const storycell::Recurrence* a, int threads);
STORYCELL_API int storycell_product(const storycell::Product* a, int threads);
STORYCELL_API int storycell_transposed(const storycell::TransposedProduct* a, int threads);
STORYCELL_API int storycell_table_gradient(const storycell::TableGradient* a, int threads);
STORYCELL_API int storycell_output_loss(const storycell::OutputLoss* a, int threads);
STORYCELL_API int storycell_dropout(const storycell::Dropout* a, int threads);
// Sums of the gradients' squares by block (the caller adds them up), their product with `factor`,
// and a step of AdamW with that product, which raises `step`. Tensors are checked for null only.
STORYCELL_API int storycell_gradient_squares(const storycell::Tensors* a, int threads);
STORYCELL_API int storycell_scale_gradients(const storycell::Tensors* a, int threads);
STORYCELL_API int storycell_adam_step(const storycell::Tensors* a, int threads);
STORYCELL_API int64_t storycell_blocks(int64_t count);  // of a tensor of so many elements
STORYCELL_API int storycell_generate(const storycell::Generation* a, int threads);
// float <-> elements; count a multiple of 16.
STORYCELL_API int storycell_convert(int64_t precision, const float* from, void* to, int64_t count,
                                    int threads);
STORYCELL_API int storycell_widen(int64_t precision, const void* from, float* to, int64_t count,
                                  int threads);
