// Matrix products: rows that lie anywhere in memory, times weights that were laid out in panels beforehand.
//
// Every number of a result is one sum in one order, whatever tile, thread or place it is computed in: the same row
// gives the same bytes.
#pragma once

#include "tiles.h"

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

// The left matrix times panels that lie one behind the other: each is filled up, and begins where the last one ends.
// done(place, row, panel) gives the `Done` of a tile whose first row that is, of the first or the second place.
template <class T, class Begin>
void rows_times_panels(Left<T> left, Pieces pieces, const T* right, int count, const Begin& done) {
    const long size = panel_size<T>(pieces), lda = left.lda;
#if HAS_TILES
    if constexpr (sizeof(T) == 2)
        if (tiles_allowed()) {
            const bool two = left.second;
            const int step = two ? 16 : 32, full = left.rows / step * step;
            for (int part = 0; part < 2; ++part) {  // whole tiles, then what is left
                const int from = part ? full : 0, to = part ? left.rows : full, n = std::min(step, to - from);
                if (from == to) continue;
                const int upper = std::min(n, 16), lower = two ? upper : n - upper;
                const bool shaped = part && full && upper == 16 && !lower;  // as whole tiles were
                if (!shaped) {
                    const Shape shape(upper, lower);
                    _tile_loadconfig(&shape);
                }
                for (int panel = 0; panel < count; ++panel)
                    for (int row = from; row < to; row += n) {
                        const T *a = left.first + row * lda, *low = two ? left.second + row * lda : a + 16 * lda;
                        hardware_tile(upper, lower, a, low, lda, pieces, right + panel * size, done(0, row, panel),
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
                                 pieces, right + panel * size, PANEL, done(place, row, panel));
}

// Bias, ReLU and residual of a tile's rows, on their way to where the result lies: `width` columns from `out` on.
template <class Out>
struct Finish {
    Vec bias_a, bias_b;
    bool relu;
    int width;
    Out* out;
    long ldo;
    const float* residual;  // or null; whole panels are read, of which what lies beyond `width` counts for nothing

    void operator()(int r, Vec a, Vec b) const {
        a += bias_a;
        b += bias_b;
        if (relu) {
            a = larger(a, Vec{});
            b = larger(b, Vec{});
        }
        if (residual) {
            a += load(residual + r * ldo);
            b += load(residual + r * ldo + LANES);
        }
        store_some(out + r * ldo, a, b, width);
    }
};

// The weights of a linear layer or a convolution, with bias and perhaps a ReLU.
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
        const Pieces reach{pieces.count, pieces.length, stride};
        rows_times_panels(left, reach, weights.data() + first * panel_size<T>(pieces), last - first,
                          [&](int place, int row, int panel) {
            const int column = (first + panel) * PANEL;
            const long to = place * pitch + row * ldo + column;
            return Finish<Out>{load(bias.data() + column), load(bias.data() + column + LANES), relu,
                               std::min(PANEL, outputs - column), out + to, ldo, residual ? residual + to : nullptr};
        });
    }
};
