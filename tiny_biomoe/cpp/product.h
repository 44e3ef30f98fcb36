// Matrix products: rows that lie anywhere in memory, times weights that were laid out in panels beforehand.
//
// Every number of a result is one sum in one order, whatever tile, thread or place it is computed in: the same row
// gives the same bytes.
#pragma once

#include <limits>

#include "memory.h"
#include "simd.h"

#if defined(__AVX512F__) && defined(__AMX_BF16__) && defined(__AMX_TILE__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#define HAS_TILES 1
#else
#define HAS_TILES 0
#endif

// A row of the left matrix: `count` pieces of `length` numbers, `stride` apart; the rows of a kernel, or a plain row.
struct Pieces {
    int count, length;
    long stride;
};

constexpr int DEEP = 32;  // numbers of a row that hardware tiles of bfloat16 take at once: pieces are filled up to these
constexpr int HIGH = 32;  // rows that two hardware tiles take at once

template <class T>
constexpr int filled(int length) {
    return sizeof(T) == 4 ? length : (length + DEEP - 1) / DEEP * DEEP;
}

constexpr int panels(int columns) { return (columns + PANEL - 1) / PANEL; }

template <class T>
constexpr long panel_size(Pieces pieces) {
    return long(pieces.count) * filled<T>(pieces.length) * PANEL;
}

// Where number k of a piece lies that a column weighs, in panels one behind the other: in bfloat16 two by two.
template <class T>
constexpr long place(Pieces pieces, int column, int piece, int k) {
    const long before = column / PANEL * panel_size<T>(pieces) + long(piece) * filled<T>(pieces.length) * PANEL;
    return before + (sizeof(T) == 4 ? k * PANEL + column % PANEL : (k / 2 * PANEL + column % PANEL) * 2 + k % 2);
}

// Two steps of a sum of products of bfloat16: `pair` of a row, times a vector of pairs, one pair a column.
inline Vec dot(Vec sum, uint32_t pair, const bf16* columns) {
    Words w;
    std::memcpy(&w, columns, sizeof w);
#if defined(__AVX512BF16__)
    return (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(pair), (__m512bh)w);
#else
    uint32_t even = pair << 16, odd = pair & 0xffff0000;
    float a, b;
    std::memcpy(&a, &even, 4);
    std::memcpy(&b, &odd, 4);
    return sum + a * (Vec)(w << 16) + b * (Vec)(w & 0xffff0000);
#endif
}

// R rows times one panel, which steps by `ldb` numbers for each row of the right matrix. done(r, sums of row r), two vectors.
template <int R, class Done>
void tile(const float* a, long lda, Pieces pieces, const float* b, long ldb, const Done& done) {
    Vec sums[R][2] = {};
    for (int piece = 0; piece < pieces.count; ++piece, a += pieces.stride)
        for (int k = 0; k < pieces.length; ++k, b += ldb) {
            const Vec b0 = load(b), b1 = load(b + LANES);
#pragma GCC unroll 16
            for (int r = 0; r < R; ++r) {
                const float x = a[r * lda + k];
                sums[r][0] += x * b0;
                sums[r][1] += x * b1;
            }
        }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) done(r, sums[r][0], sums[r][1]);
}

template <int R, class Done>
void tile(const bf16* a, long lda, Pieces pieces, const bf16* b, long ldb, const Done& done) {
    Vec sums[R][2] = {};
    const long padding = (filled<bf16>(pieces.length) - pieces.length) / 2 * 2 * ldb;
    for (int piece = 0; piece < pieces.count; ++piece, a += pieces.stride, b += padding)
        for (int k = 0; k < pieces.length; k += 2, b += 2 * ldb) {
#pragma GCC unroll 16
            for (int r = 0; r < R; ++r) {
                uint32_t pair;
                std::memcpy(&pair, a + r * lda + k, 4);
                sums[r][0] = dot(sums[r][0], pair, b);
                sums[r][1] = dot(sums[r][1], pair, b + 2 * LANES);
            }
        }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) done(r, sums[r][0], sums[r][1]);
}

template <class T, class Done>
using Tile = void (*)(const T*, long, Pieces, const T*, long, const Done&);

template <class T, class Done, int... R>
Tile<T, Done> tile_of(int rows, std::integer_sequence<int, R...>) {
    static constexpr Tile<T, Done> tiles[] = {tile<R + 1, Done>...};
    return tiles[rows - 1];
}

// `tile` of so many rows, at most ROWS.
template <class T, class Done>
void rows_times_panel(int rows, const T* a, long lda, Pieces pieces, const T* b, long ldb, const Done& done) {
    tile_of<T, Done>(rows, std::make_integer_sequence<int, ROWS>{})(a, lda, pieces, b, ldb, done);
}

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

// Plain product of float32: c (rows, columns) = a (rows, inner) b (inner, columns), columns a multiple of PANEL.
inline void multiply(const float* a, long lda, int rows, int inner, const float* b, long ldb, float* c, long ldc,
                     int columns) {
    const int blocks = (rows + ROWS - 1) / ROWS;
    for (int n = 0; n < columns; n += PANEL)
        for (int block = 0; block < blocks; ++block) {
            const int from = rows * block / blocks, to = rows * (block + 1) / blocks;
            float* out = c + from * ldc + n;
            rows_times_panel(to - from, a + from * lda, lda, {1, inner, 0}, b + n, ldb,
                             [=](int r, Vec x, Vec y) { store(out + r * ldc, x, y); });
        }
}

// The left matrix: rows that lie `lda` apart, and as many in another place, if there is one.
template <class T>
struct Left {
    const T *first, *second;
    long lda;
    int rows;
};

// The left matrix times panels that lie one behind the other: each is filled up, and begins where the last one ends.
// done(place, row, panel) gives the `Done` of a tile whose first row that is, of the first or the second place.
template <class T, class Begin>
void rows_times_panels(Left<T> left, Pieces pieces, const T* panels, int count, const Begin& done) {
    const long size = panel_size<T>(pieces), lda = left.lda;
#if HAS_TILES
    if constexpr (sizeof(T) == 2)
        if (tiles_allowed()) {
            const bool two = left.second;
            const int step = two ? 16 : 32, whole = left.rows / step * step;
            for (int part = 0; part < 2; ++part) {  // whole tiles, then what is left
                const int from = part ? whole : 0, to = part ? left.rows : whole, n = std::min(step, to - from);
                if (from == to) continue;
                const int upper = std::min(n, 16), lower = n - 16 + (two ? 16 : 0);
                if (!part || !whole || upper != 16 || (lower != 16 && lower > 0)) {
                    const Shape shape(upper, lower);
                    _tile_loadconfig(&shape);
                }
                for (int panel = 0; panel < count; ++panel)
                    for (int row = from; row < to; row += n) {
                        const T* a = left.first + row * lda;
                        hardware_tile(upper, std::max(lower, 0), a, two ? left.second + row * lda : a + 16 * lda, lda,
                                      pieces, panels + panel * size, done(0, row, panel),
                                      done(two, two ? row : row + 16, panel));
                    }
            }
            _tile_release();  // else every change of threads would save them
            return;
        }
#endif
    if (!left.rows) return;
    const int blocks = (left.rows + ROWS - 1) / ROWS, high = (left.rows + blocks - 1) / blocks;
    for (int panel = 0; panel < count; ++panel)
        for (int place = 0; place < (left.second ? 2 : 1); ++place)
            for (int row = 0; row < left.rows; row += high)
                rows_times_panel(std::min(high, left.rows - row), (place ? left.second : left.first) + row * lda, lda,
                                 pieces, panels + panel * size, PANEL, done(place, row, panel));
}

// What becomes of a product's results once the bias is added.
enum class End { PLAIN, RELU, RESIDUAL };

// Bias and end of a tile's rows, on their way to where the result lies: `width` columns from `out` on.
template <class Out, End END>
struct Finish {
    Vec bias_a, bias_b;
    int width;
    Out* out;
    long ldo;
    const float* residual;  // whole panels are read, of which what lies beyond `width` counts for nothing

    void operator()(int r, Vec a, Vec b) const {
        a += bias_a;
        b += bias_b;
        if constexpr (END == End::RELU) {
            a = larger(a, Vec{});
            b = larger(b, Vec{});
        }
        if constexpr (END == End::RESIDUAL) {
            a += load(residual + r * ldo);
            b += load(residual + r * ldo + LANES);
        }
        store_some(out + r * ldo, a, b, width);
    }
};

// The weights of a linear layer or a convolution, with bias and perhaps a ReLU, which takes no residual.
template <class T>
struct Product {
    int outputs;
    Pieces pieces;  // but for the stride, which belongs to what is read
    bool relu;
    Array<T> weights;  // in panels
    Array<float> bias;

    // weights (outputs, pieces, length), then biases (outputs)
    Product(Reader& reader, int outputs, int count, int length, bool relu = false)
        : outputs(outputs), pieces{count, length, 0}, relu(relu),
          weights(panel_count() * panel_size<T>(pieces)), bias(panel_count() * PANEL) {
        const float* weight = reader.take(long(outputs) * count * length);
        for (int o = 0; o < outputs; ++o)
            for (int piece = 0; piece < count; ++piece)
                for (int k = 0; k < length; ++k) assign(weights[place<T>(pieces, o, piece, k)], *weight++);
        std::memcpy(bias.data(), reader.take(outputs), 4 * outputs);
    }

    int panel_count() const { return panels(outputs); }

    // Rows of the left matrix, `lda` apart, to rows of `out`, `ldo` apart; `residual` lies as `out` does.
    template <class Out>
    void operator()(const T* a, long lda, long stride, int rows, Out* out, long ldo,
                    const float* residual = nullptr) const {
        panels_of(0, panel_count(), {a, nullptr, lda, rows}, stride, out, 0, ldo, residual);
    }

    // Some panels of it. Rows of the second place go to `pitch` behind those of the first one.
    template <class Out>
    void panels_of(int first, int last, Left<T> left, long stride, Out* out, long pitch, long ldo,
                   const float* residual) const {
        if (residual)
            ended<End::RESIDUAL>(first, last, left, stride, out, pitch, ldo, residual);
        else if (relu)
            ended<End::RELU>(first, last, left, stride, out, pitch, ldo, residual);
        else
            ended<End::PLAIN>(first, last, left, stride, out, pitch, ldo, residual);
    }

  private:
    template <End END, class Out>
    void ended(int first, int last, Left<T> left, long stride, Out* out, long pitch, long ldo,
               const float* residual) const {
        const Pieces reach{pieces.count, pieces.length, stride};
        rows_times_panels(left, reach, weights.data() + first * panel_size<T>(pieces), last - first,
                          [&](int place, int row, int panel) {
            const int column = (first + panel) * PANEL;
            const long to = place * pitch + row * ldo + column;
            return Finish<Out, END>{load(bias.data() + column), load(bias.data() + column + LANES),
                                    std::min(PANEL, outputs - column), out + to, ldo,
                                    residual + (END == End::RESIDUAL ? to : 0)};
        });
    }
};
