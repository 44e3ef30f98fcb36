// Attention: each query gathers values by how its product with their keys compares.
#pragma once

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
        const long key_size = key_panels * panel_size<T>({1, key_dim, 0});
        const long value_size = value_panels * panel_size<T>({1, tokens, 0});
        T* keys = scratch<Attention, T>(key_size + value_size + TOGETHER * wide);
        T *values = keys + key_size, *shares = values + value_size;
        float* scores = scratch<Attention, float, 1>(TOGETHER * wide);
        const T* zeros = scratch<Attention, T, 2>(value_dim);  // never written
        std::memset(static_cast<void*>(keys), 0, sizeof(T) * (key_size + value_size));
        for (int t = 0; t < tokens; ++t)
            lay_key(k + t * ld, key_dim, keys + t / PANEL * panel_size<T>({1, key_dim, 0}) + t % PANEL * GROUP);
        for (int t = 0; t < tokens; t += GROUP)
            lay_values(v + t * ld, t + 1 < tokens ? v + (t + 1) * ld : zeros, value_dim, values + t * PANEL, panel_size<T>({1, tokens, 0}));
        for (int from = 0; from < queries; from += TOGETHER, q += TOGETHER * ld, out += TOGETHER * ldo) {
            const int rows = std::min(TOGETHER, queries - from);
            rows_times_panels<T>({q, nullptr, ld, rows}, {1, key_dim, 0}, keys, key_panels, [&](int, int row, int panel) {
                return [=, to = scores + long(row) * wide + panel * PANEL](int r, Vec a, Vec b) { store(to + r * wide, a, b); };
            });
            float sums[TOGETHER];
            for (int r = 0; r < rows; ++r)
                sums[r] = exponentials(scores + long(r) * wide, bias ? bias + long(from + r) * wide : nullptr, scale,
                                       shares + long(r) * wide);
            rows_times_panels<T>({shares, nullptr, wide, rows}, {1, tokens, 0}, values, value_panels, [&](int, int row, int panel) {
                const int column = panel * PANEL;
                return [=, &sums](int r, Vec a, Vec b) {
                    const float part = 1 / sums[row + r];
                    store_some(out + (row + r) * ldo + column, a * part, b * part, std::min(PANEL, value_dim - column));
                };
            });
        }
    }

  private:
    // exp(scale * (x + bias - the largest)), and zeros behind them; returns their sum.
    float exponentials(float* x, const float* bias, float scale, T* out) const {
        const int end = int(whole(tokens, LANES));
        if (bias)
            for (int i = 0; i < tokens; i += LANES) store(x + i, load(x + i) + load(bias + i));
        for (int i = tokens; i < end; ++i) x[i] = -std::numeric_limits<float>::infinity();
        Vec top = load(x);
        for (int i = LANES; i < end; i += LANES) top = larger(top, load(x + i));
        const float most = largest(top);
        Vec total{};
        for (int i = 0; i < end; i += LANES) {
            const Vec e = exponential((load(x + i) - most) * scale);
            store(out + i, e);
            total += e;
        }
        for (int i = end; i < columns(); i += LANES) store(out + i, Vec{});
        return sum(total);
    }
};
