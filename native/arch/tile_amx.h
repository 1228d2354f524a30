// The micro-kernel of the bfloat16 products on AMX tiles: a tile of up to 32 rows by up to four
// vectors of columns.
//
// A packed panel already is what TDPBF16PS wants of its right-hand side (a row of 16 pairs for every
// word of the inner dimension), and rows of elements are what it wants of its left. With more than 16
// rows two vectors are computed at a time: four products (16 cycles each) from four loads (8 each),
// and the panel, which comes from the second-level cache, is read once for all 32 rows. With fewer
// rows all vectors are computed at once: four independent sums hide the product's 52 cycles.
//
// Each element is summed over the inner dimension in pieces whose depth follows from that dimension
// alone, so a row's result does not depend on the rows computed beside it. The processor sums the
// even and the odd elements of a piece apart and flushes denormals: other bits than the other
// instruction sets give.
#pragma once
#include <immintrin.h>
#include <cstddef>
#include <cstdint>

#ifndef STORYCELL_SIMD
#define STORYCELL_SIMD "arch/simd_avx512.h"
#endif
#include "arch/simd.h"
#include "ops/precision.h"
#include "ops/tile.h"
#ifdef STORYCELL_EMULATE_AMX
#include "arch/amx_emulated.h"
#endif

namespace {

static_assert(Simd::width == 16, "a tile's row is a vector of AVX-512");

// What LDTILECFG reads.
struct alignas(64) TileShapes {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
};

// GCC's intrinsics do not say which memory they read: without this, stores to an operand could sink
// below its load.
inline void finish_stores() { asm volatile("" ::: "memory"); }

// Sixteen rows of sixteen words at `block`, `stride` words apart, transposed in place.
inline void transpose_words(float* block, ptrdiff_t stride) {
    __m512i a[16], b[16];
    for (int i = 0; i < 16; ++i) a[i] = _mm512_loadu_si512(block + i * stride);
    for (int i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; ++j) {
            a[i + 2 * j] = _mm512_unpacklo_epi64(b[i + j], b[i + j + 2]);
            a[i + 2 * j + 1] = _mm512_unpackhi_epi64(b[i + j], b[i + j + 2]);
        }
    // a[4 * q + c] now holds, in its 128-bit lane l, column 4 * l + c of rows 4 * q to 4 * q + 3.
    for (int c = 0; c < 4; ++c) {
        const __m512i even01 = _mm512_shuffle_i32x4(a[c], a[4 + c], 0x88);
        const __m512i odd01 = _mm512_shuffle_i32x4(a[c], a[4 + c], 0xdd);
        const __m512i even23 = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0x88);
        const __m512i odd23 = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0xdd);
        _mm512_storeu_si512(block + c * stride, _mm512_shuffle_i32x4(even01, even23, 0x88));
        _mm512_storeu_si512(block + (4 + c) * stride, _mm512_shuffle_i32x4(odd01, odd23, 0x88));
        _mm512_storeu_si512(block + (8 + c) * stride, _mm512_shuffle_i32x4(even01, even23, 0xdd));
        _mm512_storeu_si512(block + (12 + c) * stride, _mm512_shuffle_i32x4(odd01, odd23, 0xdd));
    }
}

// Tiles 0 to 3: sums; 4 and 5: left, upper and lower rows; 6 and 7: right. An object belongs to one
// thread's share of a product: it loads the tiles' shapes when they change, and gives the tiles back
// at the end.
template <>
class MicroKernel<Bfloat16> {
public:
    static constexpr int rows = 32;
    static constexpr int step_multiple = 16;
    static constexpr bool even_blocks = false;  // full blocks and a rest: one shape for almost all

    MicroKernel() = default;
    MicroKernel(const MicroKernel&) = delete;
    MicroKernel& operator=(const MicroKernel&) = delete;
    ~MicroKernel() {
        if (shaped_rows_) _tile_release();
    }

    // As the general MicroKernel; steps is a multiple of 8, as inner dimensions are of 16 elements.
    void by_rows(int height, int vectors, const float* a, ptrdiff_t row_stride, const float* panel,
                 int steps, float* tile) {
        shape(height, steps);
        multiply({a, row_stride, depth_, 16 * row_stride}, height, vectors, panel, tile);
    }

    static void arrange_panel(float*, int, int) {}

    // [steps][rows] words become blocks of 16 steps in which each row's words lie together: the upper
    // 16 rows from the block's start, the lower from word 16 on, both `rows` words apart. steps: a
    // multiple of 16.
    static void arrange_packed(float* strip, int steps) {
        for (int k = 0; k < steps; k += 16)
            for (int half = 0; half < rows; half += 16) transpose_words(strip + k * rows + half, rows);
    }

    void packed(int height, int vectors, const float* a, const float* panel, int steps,
                float* tile) {
        shape(height, steps);
        multiply({a, rows, 16 * rows, 16}, height, vectors, panel, tile);
    }

private:
    // In words: row r of a piece of the inner dimension is r * row after the piece's first row; rows
    // from 16 on count from `lower`; the next piece is `piece` further.
    struct Left {
        const float* first;
        ptrdiff_t row, piece, lower;
    };

    int shaped_rows_ = 0, shaped_depth_ = 0;  // of the shapes last loaded; 0: none
    int steps_ = 0, depth_ = 0, pieces_ = 0;

    void shape(int height, int steps) {
        if (steps != steps_) {
            steps_ = steps;
            for (depth_ = 16; steps % depth_;) --depth_;
            pieces_ = steps / depth_;
        }
        if (height == shaped_rows_ && depth_ == shaped_depth_) return;
        shaped_rows_ = height;
        shaped_depth_ = depth_;
        const int upper = height < 16 ? height : 16;
        const int lower = height > 16 ? height - 16 : upper;  // or tiles 2 and 3 serve the upper
        TileShapes shapes;
        const auto set = [&](int tile, int tile_rows, int row_bytes) {
            shapes.rows[tile] = static_cast<uint8_t>(tile_rows);
            shapes.row_bytes[tile] = static_cast<uint16_t>(row_bytes);
        };
        for (int sum = 0; sum < 4; ++sum) set(sum, sum < 2 ? upper : lower, 64);
        set(4, upper, depth_ * 4);
        set(5, lower, depth_ * 4);
        set(6, depth_, 64);
        set(7, depth_, 64);
        const TileShapes* address = &shapes;
        asm volatile("" : "+r"(address) : : "memory");  // as finish_stores; `shapes` is read
        _tile_loadconfig(address);
    }

    void multiply(const Left& left, int height, int vectors, const float* panel, float* tile) {
        finish_stores();
        if (height > 16) {
            if (vectors == 1) return pair_of_heights<1>(left, 1, panel, tile);
            pair_of_heights<2>(left, vectors, panel, tile);
            if (vectors == 3) pair_of_heights<1>(left, vectors, panel + 32, tile + 32);
            if (vectors == 4) pair_of_heights<2>(left, vectors, panel + 32, tile + 32);
            return;
        }
        switch (vectors) {
            case 1: return one_height<1>(left, panel, tile);
            case 2: return one_height<2>(left, panel, tile);
            case 3: return one_height<3>(left, panel, tile);
            default: return one_height<4>(left, panel, tile);
        }
    }

    // 17 to 32 rows by the first NV of the panel's `vectors` vectors.
    template <int NV>
    void pair_of_heights(const Left& left, int vectors, const float* panel, float* tile) const {
        constexpr ptrdiff_t tile_stride = kTileColumns * sizeof(float);
        const ptrdiff_t left_stride = left.row * 4, right_stride = vectors * 64;
        const float* a = left.first;
        _tile_zero(0);
        _tile_zero(2);
        if constexpr (NV > 1) _tile_zero(1);
        if constexpr (NV > 1) _tile_zero(3);
        for (int q = 0; q < pieces_; ++q) {
            _tile_loadd(6, panel, right_stride);
            _tile_loadd(4, a, left_stride);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(5, a + left.lower, left_stride);
            _tile_dpbf16ps(2, 5, 6);
            if constexpr (NV > 1) {
                _tile_loadd(7, panel + 16, right_stride);
                _tile_dpbf16ps(1, 4, 7);
                _tile_dpbf16ps(3, 5, 7);
            }
            a += left.piece;
            panel += static_cast<ptrdiff_t>(depth_) * vectors * 16;
        }
        _tile_stored(0, tile, tile_stride);
        _tile_stored(2, tile + 16 * kTileColumns, tile_stride);
        if constexpr (NV > 1) {
            _tile_stored(1, tile + 16, tile_stride);
            _tile_stored(3, tile + 16 * kTileColumns + 16, tile_stride);
        }
    }

    // 1 to 16 rows by all NV vectors of the panel.
    template <int NV>
    void one_height(const Left& left, const float* panel, float* tile) const {
        constexpr ptrdiff_t tile_stride = kTileColumns * sizeof(float), right_stride = NV * 64;
        const ptrdiff_t left_stride = left.row * 4;
        const float* a = left.first;
        _tile_zero(0);
        if constexpr (NV > 1) _tile_zero(1);
        if constexpr (NV > 2) _tile_zero(2);
        if constexpr (NV > 3) _tile_zero(3);
        for (int q = 0; q < pieces_; ++q) {
            _tile_loadd(4, a, left_stride);
            _tile_loadd(6, panel, right_stride);
            _tile_dpbf16ps(0, 4, 6);
            if constexpr (NV > 1) {
                _tile_loadd(7, panel + 16, right_stride);
                _tile_dpbf16ps(1, 4, 7);
            }
            if constexpr (NV > 2) {
                _tile_loadd(6, panel + 32, right_stride);
                _tile_dpbf16ps(2, 4, 6);
            }
            if constexpr (NV > 3) {
                _tile_loadd(7, panel + 48, right_stride);
                _tile_dpbf16ps(3, 4, 7);
            }
            a += left.piece;
            panel += depth_ * NV * 16;
        }
        _tile_stored(0, tile, tile_stride);
        if constexpr (NV > 1) _tile_stored(1, tile + 16, tile_stride);
        if constexpr (NV > 2) _tile_stored(2, tile + 32, tile_stride);
        if constexpr (NV > 3) _tile_stored(3, tile + 48, tile_stride);
    }
};

}  // namespace
