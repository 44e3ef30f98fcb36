// Attention: each query gathers values by how its product with their keys compares.
#pragma once

#include <limits>

#include "activations.h"
#include "product.h"

// A token's key as a column of a panel.
inline void lay_key(const float* key, int dim, float* column) {
    for (int d = 0; d < dim; ++d) column[d * PANEL] = key[d];
}
inline void lay_key(const bf16* key, int dim, bf16* column) {
    int d = 0;
    for (; d + 1 < dim; d += 2) std::memcpy(column + d * PANEL, key + d, 4);
    if (d < dim) column[d * PANEL] = key[d];
}

// The values of a token, or in bfloat16 of two, as rows of panels that are `size` numbers apart.
inline void lay_values(const float* v, const float*, int dim, float* row, long size) {
    for (int d = 0; d < dim; d += LANES) store(row + d / PANEL * size + d % PANEL, load(v + d));
}
inline void lay_values(const bf16* v, const bf16* next, int dim, bf16* row, long size) {
    for (int d = 0; d < dim; d += LANES) {
        const Words pairs = (Words)load(next + d) | ((Words)load(v + d) >> 16);
        std::memcpy(row + d / PANEL * size + d % PANEL * 2, &pairs, sizeof pairs);
    }
}

// One head, whose queries, keys and values are numbers of type T.
template <class T>
struct Attention {
    int tokens, key_dim, value_dim;
    int columns() const { return int(whole(tokens, DEEP)); }

    // q (queries, key_dim), k (tokens, key_dim), v (tokens, value_dim): rows `ld` apart. A value's share is the softmax of
    // scale * (q k + bias), whose bias is (queries, columns()) or null.
    template <class Out>
    void operator()(const T* q, int queries, const T* k, const T* v, long ld, float scale, const float* bias, Out* out,
                    long ldo) const {
        constexpr int TOGETHER = sizeof(T) == 4 ? ROWS : HIGH;  // queries
        constexpr int GROUP = 4 / sizeof(T);  // numbers of a column that lie side by side
        const int wide = columns(), key_panels = panels(tokens), value_panels = panels(value_dim);
        const Pieces of_key{1, key_dim, 0}, of_values{1, tokens, 0};
        const long key_size = panel_size<T>(of_key), value_size = panel_size<T>(of_values);
        const long laid = key_panels * key_size + value_panels * value_size;
        T* keys = scratch<Attention, T>(laid + TOGETHER * wide);
        T *values = keys + key_panels * key_size, *shares = keys + laid;
        float* scores = scratch<Attention, float, 1>(TOGETHER * wide);
        const T* zeros = scratch<Attention, T, 2>(value_dim);  // never written
        std::memset(static_cast<void*>(keys), 0, sizeof(T) * laid);
        for (int t = 0; t < tokens; ++t)
            lay_key(k + t * ld, key_dim, keys + t / PANEL * key_size + t % PANEL * GROUP);
        for (int t = 0; t < tokens; t += GROUP) {
            const T* next = t + 1 < tokens ? v + (t + 1) * ld : zeros;
            lay_values(v + t * ld, next, value_dim, values + t * PANEL, value_size);
        }
        for (int from = 0; from < queries; from += TOGETHER, q += TOGETHER * ld, out += TOGETHER * ldo) {
            const int rows = std::min(TOGETHER, queries - from);
            rows_times_panels<T>({q, nullptr, ld, rows}, of_key, keys, key_panels, [&](int, int row, int panel) {
                return Finish<float>{Vec{}, Vec{}, false, PANEL, scores + row * wide + panel * PANEL, wide, nullptr};
            });
            float sums[TOGETHER];
            for (int r = 0; r < rows;) {
                float* x = scores + r * wide;
                const float* added = bias ? bias + long(from + r) * wide : nullptr;
                if (r + 2 <= rows)
                    exponentials<2>(x, added, scale, shares + r * wide, sums + r), r += 2;
                else
                    exponentials<1>(x, added, scale, shares + r * wide, sums + r), ++r;
            }
            rows_times_panels<T>({shares, nullptr, wide, rows}, of_values, values, value_panels, [&](int, int row, int panel) {
                const int column = panel * PANEL;
                return [=, &sums](int r, Vec a, Vec b) {
                    const float part = 1 / sums[row + r];
                    store_some(out + (row + r) * ldo + column, a * part, b * part, std::min(PANEL, value_dim - column));
                };
            });
        }
    }

  private:
    // exp(scale * (x + bias - the largest)) of N rows, nothing worth telling behind them, then zeros; and their sums.
    template <int N>
    void exponentials(float* x, const float* bias, float scale, T* out, float* sums) const {
        const int end = int(whole(tokens, PARTS * LANES)), ld = columns();
        Vec tops[N], totals[N][PARTS]{};
        float most[N];
        for (int n = 0; n < N; ++n) {
            if (bias)
                for (int i = n * ld; i < n * ld + tokens; i += LANES) store(x + i, load(x + i) + load(bias + i));
            for (int i = tokens; i < end; ++i) x[n * ld + i] = -std::numeric_limits<float>::infinity();
            tops[n] = load(x + n * ld);
        }
        for (int i = LANES; i < end; i += LANES)
#pragma GCC unroll 2
            for (int n = 0; n < N; ++n) tops[n] = larger(tops[n], load(x + n * ld + i));
#pragma GCC unroll 2
        for (int n = 0; n < N; ++n) most[n] = largest(tops[n]);
        for (int i = 0; i < end; i += PARTS * LANES)
#pragma GCC unroll 2
            for (int n = 0; n < N; ++n)
#pragma GCC unroll 2
                for (int p = 0; p < PARTS; ++p) {
                    const Vec e = exponential((load(x + n * ld + i + p * LANES) - most[n]) * scale);
                    store(out + n * ld + i + p * LANES, e);
                    totals[n][p] += e;
                }
#pragma GCC unroll 2
        for (int n = 0; n < N; ++n) {
            for (int i = end; i < ld; i += LANES) store(out + n * ld + i, Vec{});
            sums[n] = sum(totals[n]);
        }
    }
};
