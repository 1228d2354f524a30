// A BLAS of the system's for the float32 products of training: Accelerate on a Mac, which alone reaches Apple's matrix
// unit, or OpenBLAS where the library was built to look for it (CMake's STORYCELL_BLAS). It is loaded when the program
// runs, so nothing is needed to build or to install.
//
// Its sums depend on how many rows are computed beside one, so what has to be the same for every batch (reading,
// generating, the server, compression) keeps the kernels of ops/tile.h.
#pragma once
#include <cstdint>

namespace storycell {

// C [m, n] = A [m, k] . B [k, n], float32, row by row; kBlas' `transposed`: A is given as [k, m].
using Sgemm = void (*)(int order, int transposed_a, int transposed_b, int m, int n, int k, float alpha, const float* a,
                       int lda, const float* b, int ldb, float beta, float* c, int ldc);
constexpr int kRowMajor = 101, kAsIs = 111, kTransposed = 112;  // CBLAS's numbers

Sgemm sgemm();            // null: there is none, or it is switched off
const char* blas_name();  // empty: likewise
bool use_blas(const char* choice);  // "on": for every size; "off"; "": where it wins. False: there is none, or no such choice

// Whether a chunk's float32 products go there, by streams a thread and units.
bool blas_wins(int64_t streams, int64_t units);

}  // namespace storycell
