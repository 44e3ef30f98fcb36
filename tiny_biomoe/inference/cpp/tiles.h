// Products of bfloat16 by the matrix tiles that some processors have.
#pragma once

#include "panels.h"

#if defined(__AVX512F__) && defined(__AMX_BF16__) && defined(__AMX_TILE__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#define HAS_TILES 1
#else
#define HAS_TILES 0
#endif

#if HAS_TILES
// Whether the operating system lets this process use the matrix tiles of its processor.
inline bool tiles_allowed() {
    static const bool allowed = syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0;
    return allowed;
}

struct alignas(64) Shape {  // of the eight tiles, each of up to 16 rows of 64 bytes
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {};

    // Sums in tiles 0 to 3, `upper` rows of the left matrix in tile 4 and `lower` ones in 5, a panel in 6 and 7.
    Shape(int upper, int lower) {
        for (int i : {0, 1, 4}) rows[i] = uint8_t(upper);
        for (int i : {2, 3, 5}) rows[i] = uint8_t(std::max(lower, 1));
        rows[6] = rows[7] = 16;
    }
};

// `upper` rows and `lower` ones, for which the tiles are shaped, times one panel of 32.
template <class Upper, class Lower>
void hardware_tile(int upper, int lower, const bf16* a, const bf16* low, long lda, Pieces pieces, const bf16* b,
                   const Upper& upper_done, const Lower& lower_done) {
    alignas(64) float c[HIGH * PANEL];
    _tile_zero(0);
    _tile_zero(1);
    if (lower) {
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int piece = 0; piece < pieces.count; ++piece, a += pieces.stride, low += pieces.stride)
        for (int k = 0; k < pieces.length; k += DEEP, b += DEEP * PANEL) {
            _tile_loadd(4, a + k, 2 * lda);
            _tile_loadd(6, b, 4 * PANEL);
            _tile_loadd(7, b + PANEL, 4 * PANEL);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            if (lower) {
                _tile_loadd(5, low + k, 2 * lda);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
        }
    _tile_stored(0, c, 4 * PANEL);
    _tile_stored(1, c + LANES, 4 * PANEL);
    if (lower) {
        _tile_stored(2, c + 16 * PANEL, 4 * PANEL);
        _tile_stored(3, c + 16 * PANEL + LANES, 4 * PANEL);
    }
    for (int r = 0; r < upper; ++r) upper_done(r, load(c + r * PANEL), load(c + r * PANEL + LANES));
    for (int r = 0; r < lower; ++r) lower_done(r, load(c + (16 + r) * PANEL), load(c + (16 + r) * PANEL + LANES));
}
#else
inline bool tiles_allowed() { return false; }
#endif
