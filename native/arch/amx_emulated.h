// The six AMX intrinsics that tile_amx.h uses, in plain C++, for processors without AMX: so that the
// whole AMX path runs in tests anywhere. Selected by STORYCELL_EMULATE_AMX, never in a build that is
// installed. Follows Intel's manual (volume 2, LDTILECFG to TDPBF16PS) including what faults: any use
// of tiles the processor would refuse ends the program with a message. Tiles belong to their thread.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {
namespace amx {

constexpr int kTiles = 8, kRows = 16, kRowBytes = 64;  // palette 1

struct Tile {
    int rows = 0, row_bytes = 0;
    uint8_t bytes[kRows][kRowBytes];
    float number(int row, int i) const {
        float value;
        std::memcpy(&value, bytes[row] + 4 * i, 4);
        return value;
    }
};

struct State {
    bool configured = false;
    Tile tiles[kTiles];
};

inline thread_local State state;

inline void require(bool allowed, const char* what) {
    if (allowed) return;
    std::fprintf(stderr, "emulated AMX: this would fault: %s\n", what);
    std::abort();
}

inline Tile& tile(int index) {
    require(state.configured, "a tile is used without a configuration");
    require(index >= 0 && index < kTiles, "no such tile");
    require(state.tiles[index].rows > 0, "a tile without a shape is used");
    return state.tiles[index];
}

inline void release() { state = State(); }

// config: 64 bytes: palette, first row, 14 zeros, sixteen 16-bit row sizes, sixteen row counts.
inline void load_configuration(const void* config) {
    uint8_t bytes[64];
    std::memcpy(bytes, config, 64);
    if (bytes[0] == 0) return release();
    require(bytes[0] == 1, "unknown palette");
    for (int i = 1; i < 16; ++i) require(bytes[i] == 0, "reserved bytes of a configuration");
    release();
    for (int i = 0; i < 16; ++i) {
        uint16_t row_bytes;
        std::memcpy(&row_bytes, bytes + 16 + 2 * i, 2);
        const int rows = bytes[48 + i];
        require(i < kTiles || (row_bytes == 0 && rows == 0), "more tiles than the palette has");
        require(rows <= kRows && row_bytes <= kRowBytes, "a tile larger than the palette's");
        require((rows == 0) == (row_bytes == 0), "rows without bytes or bytes without rows");
        if (i >= kTiles) continue;
        state.tiles[i].rows = rows;
        state.tiles[i].row_bytes = row_bytes;
        std::memset(state.tiles[i].bytes, 0, sizeof state.tiles[i].bytes);
    }
    state.configured = true;
}

inline void zero(int index) {
    Tile& t = tile(index);
    std::memset(t.bytes, 0, sizeof t.bytes);
}

// Rows are `stride` bytes apart; what lies beyond the tile's shape is not touched.
inline void load(int index, const void* base, int64_t stride) {
    zero(index);
    Tile& t = tile(index);
    for (int r = 0; r < t.rows; ++r)
        std::memcpy(t.bytes[r], static_cast<const char*>(base) + r * stride,
                    static_cast<size_t>(t.row_bytes));
}

inline void store(int index, void* base, int64_t stride) {
    const Tile& t = tile(index);
    for (int r = 0; r < t.rows; ++r)
        std::memcpy(static_cast<char*>(base) + r * stride, t.bytes[r],
                    static_cast<size_t>(t.row_bytes));
}

inline float flushed(float x) {
    return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x;
}

// The upper or lower bfloat16 of a word, which is a float's upper half.
inline float half_of(const Tile& t, int row, int word, int half) {
    const uint8_t* at = t.bytes[row] + 4 * word + 2 * half;
    const uint32_t bits = static_cast<uint32_t>(at[0] | at[1] << 8) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return flushed(value);
}

// sums[m][n] += left[m] . right[.][n] over pairs. Even and odd elements are summed apart, then
// together, then onto the sum; every operation rounds to nearest and flushes denormals.
inline void multiply_pairs(int sums, int left, int right) {
    Tile& c = tile(sums);
    const Tile &a = tile(left), &b = tile(right);
    require(sums != left && sums != right && left != right, "one tile in two places");
    require(c.rows == a.rows && c.row_bytes == b.row_bytes && a.row_bytes == 4 * b.rows,
            "shapes that do not meet");
    require(a.row_bytes % 4 == 0 && c.row_bytes % 4 == 0, "parts of words");
    for (int m = 0; m < c.rows; ++m)
        for (int n = 0; n < c.row_bytes / 4; ++n) {
            float sum[2] = {0.0f, 0.0f};
            for (int k = 0; k < b.rows; ++k)
                for (int half = 0; half < 2; ++half)
                    sum[half] = flushed(std::fma(half_of(a, m, k, half), half_of(b, k, n, half),
                                                 sum[half]));
            const float pair = flushed(sum[0] + sum[1]);
            const float out = flushed(flushed(c.number(m, n)) + pair);
            std::memcpy(c.bytes[m] + 4 * n, &out, 4);
        }
}

}  // namespace amx
}  // namespace

// Where the compiler's own are macros, as with GCC.
#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig(config) amx::load_configuration(config)
#define _tile_release() amx::release()
#define _tile_zero(tile) amx::zero(tile)
#define _tile_loadd(tile, base, stride) amx::load(tile, base, stride)
#define _tile_stored(tile, base, stride) amx::store(tile, base, stride)
#define _tile_dpbf16ps(sums, left, right) amx::multiply_pairs(sums, left, right)
