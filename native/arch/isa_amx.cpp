// Lanes of AVX-512, bfloat16 products on AMX tiles (Sapphire Rapids and newer).
#define STORYCELL_SIMD "arch/simd_avx512.h"
#include "arch/tile_amx.h"
#include "arch/kernels_for_isa.inc"
STORYCELL_KERNELS(kAmx, "amx")

namespace storycell {

// Whether tiles multiply as they must: small integers, whose sums are exact, in both layouts of the
// left-hand side, with rows for two tiles and an inner dimension of two pieces. Run once before
// these kernels are offered. The processor must have AMX, and the process the permission to use it.
bool amx_multiplies() {
    using Micro = MicroKernel<Bfloat16>;
    constexpr int rows = 19, vectors = 3, columns = vectors * 16, steps = 32, inner = 2 * steps;
    const auto left = [](int r, int k) { return static_cast<float>((7 * r + 3 * k) % 11 - 5); };
    const auto right = [](int k, int j) { return static_cast<float>((5 * k + 2 * j) % 13 - 6); };
    alignas(64) uint16_t by_rows[rows * inner], panel[inner * columns];
    alignas(64) uint16_t strip[inner * Micro::rows] = {};
    for (int k = 0; k < inner; ++k) {
        for (int r = 0; r < rows; ++r) {
            const uint16_t x = Bfloat16::round(left(r, k));
            by_rows[r * inner + k] = x;
            strip[(k / 2 * Micro::rows + r) * 2 + k % 2] = x;
        }
        for (int j = 0; j < columns; ++j)
            panel[(k / 2 * columns + j) * 2 + k % 2] = Bfloat16::round(right(k, j));
    }
    Micro::arrange_packed(reinterpret_cast<float*>(strip), steps);
    alignas(64) float tiles[2][Micro::rows * kTileColumns];
    {
        Micro micro;
        micro.by_rows(rows, vectors, words(by_rows), inner / 2, words(panel), steps, tiles[0]);
        micro.packed(rows, vectors, words(strip), words(panel), steps, tiles[1]);
    }
    for (int r = 0; r < rows; ++r)
        for (int j = 0; j < columns; ++j) {
            float sum = 0.0f;
            for (int k = 0; k < inner; ++k) sum += left(r, k) * right(k, j);
            for (const auto& tile : tiles)
                if (tile[r * kTileColumns + j] != sum) return false;
        }
    return true;
}

}  // namespace storycell
