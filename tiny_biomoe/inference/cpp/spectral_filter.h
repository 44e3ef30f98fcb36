// The spectral filter: tokens mixed by a learnt weight of each spatial frequency (SpectralFilter of spectral_encoder.py).
#pragma once

#include "layers.h"

// irfft2(K * rfft2(x)), both transforms as matrix products. A transform of n numbers is split into the cosines of what
// is even about the first of them and the sines of what is odd, which leaves a quarter of the multiplications.
struct SpectralFilter {
    int n, m, channels;  // tokens a side, m = n / 2 + 1 frequencies of a row
    Array<float> cosine, sine, minus_sine, cosine_back, sine_back;
    Array<float> real, imaginary;  // (n, m, channels)

    SpectralFilter(Reader& reader, int n, int channels)
        : n(n), m(n / 2 + 1), channels(channels), cosine(m * m), sine(m * m), minus_sine(m * m), cosine_back(m * m),
          sine_back(m * m), real(long(n) * m * channels), imaginary(long(n) * m * channels) {
        const double turn = 2 * std::acos(-1.0) / n, size = std::sqrt(double(n));
        for (int j = 0; j < m; ++j)
            for (int k = 0; k < m; ++k) {
                cosine[j * m + k] = float(std::cos(turn * (j * k % n)) / size);
                cosine_back[j * m + k] = cosine[j * m + k] * (k == 0 || k == m - 1 ? 1 : 2);
            }
        for (int j = 1; j < m - 1; ++j)
            for (int k = 1; k < m - 1; ++k) {
                const int place = (j - 1) * (m - 2) + k - 1;
                sine[place] = float(std::sin(turn * (j * k % n)) / size);
                minus_sine[place] = -sine[place];
                sine_back[place] = 2 * sine[place];
            }
        const float* weight = reader.take(2L * n * m * channels);
        for (long i = 0; i < long(n) * m * channels; ++i) {
            real[i] = *weight++;
            imaginary[i] = *weight++;
        }
    }

    // The grid is read through `norm`; the result is added to it. re and im: (n, m, channels).
    void operator()(Team& team, const Norm& norm, float* grid, float* re, float* im) const {
        const long row = long(n) * channels, half = long(m) * channels;
        team.each(n, [&](int y) { to_frequencies(norm, grid + y * row, re + y * half, im + y * half); });
        team.each(int(half / PANEL), [&](int panel) { weigh(re + panel * PANEL, im + panel * PANEL, panel * PANEL); });
        team.each(n, [&](int y) { add_back(re + y * half, im + y * half, grid + y * row); });
    }

  private:
    // Of n rows of `width` numbers: what is even (m rows) and odd (m - 2) about the first and the middle one.
    void part(const float* x, long ld, int width, float* even, float* odd) const {
        for (int j = 0; j < m; ++j)
            for (int c = 0; c < width; c += LANES) {
                const Vec here = load(x + j * ld + c);
                if (j == 0 || j == m - 1) {
                    store(even + long(j) * width + c, here);
                    continue;
                }
                const Vec there = load(x + (n - j) * ld + c);
                store(even + long(j) * width + c, here + there);
                store(odd + long(j - 1) * width + c, here - there);
            }
    }

    void to_frequencies(const Norm& norm, const float* tokens, float* re, float* im) const {
        const int c = channels;
        float* normed = scratch<SpectralFilter, float>(2L * n * c);
        float* even = normed + n * c;
        float* odd = even + m * c;
        norm.tokens(tokens, normed, n);
        part(normed, c, c, even, odd);
        multiply(cosine.data(), m, m, m, even, c, re, c, c);
        multiply(minus_sine.data(), m - 2, m - 2, m - 2, odd, c, im + c, c, c);
        std::memset(im, 0, 4 * c);
        std::memset(im + (m - 1) * c, 0, 4 * c);
    }

    // Of a panel of columns: their transform, times the filter, and back.
    void weigh(float* re, float* im, long place) const {
        const long ld = long(m) * channels;
        float* room = scratch<SpectralFilter, float>(long(2 * n + 8 * m) * PANEL);
        float* a = room;  // (n, PANEL), real parts
        float* b = a + n * PANEL;  // imaginary parts
        for (int y = 0; y < n; ++y) {
            std::memcpy(a + y * PANEL, re + y * ld, 4 * PANEL);
            std::memcpy(b + y * PANEL, im + y * ld, 4 * PANEL);
        }
        transform(a, b, 1, b + n * PANEL);
        for (int y = 0; y < n; ++y)
            for (int v = 0; v < PANEL; v += LANES) {
                const Vec p = load(a + y * PANEL + v), q = load(b + y * PANEL + v);
                const Vec r = load(real.data() + y * ld + place + v), i = load(imaginary.data() + y * ld + place + v);
                store(a + y * PANEL + v, less_product(p, r, q, i));
                store(b + y * PANEL + v, products(p, i, q, r));
            }
        transform(a, b, -1, b + n * PANEL);
        for (int y = 0; y < n; ++y) {
            std::memcpy(re + y * ld, a + y * PANEL, 4 * PANEL);
            std::memcpy(im + y * ld, b + y * PANEL, 4 * PANEL);
        }
    }

    // sum over y of (a + ib) exp(-i sign turn y k), in place; room for 8 m rows of PANEL.
    void transform(float* a, float* b, float sign, float* room) const {
        const long step = long(m) * PANEL;
        float *even_a = room, *odd_a = room + step, *even_b = room + 2 * step, *odd_b = room + 3 * step;
        float *cos_a = room + 4 * step, *sin_a = room + 5 * step, *cos_b = room + 6 * step, *sin_b = room + 7 * step;
        part(a, PANEL, PANEL, even_a, odd_a);
        part(b, PANEL, PANEL, even_b, odd_b);
        multiply(cosine.data(), m, m, m, even_a, PANEL, cos_a, PANEL, PANEL);
        multiply(cosine.data(), m, m, m, even_b, PANEL, cos_b, PANEL, PANEL);
        multiply(sine.data(), m - 2, m - 2, m - 2, odd_a, PANEL, sin_a, PANEL, PANEL);
        multiply(sine.data(), m - 2, m - 2, m - 2, odd_b, PANEL, sin_b, PANEL, PANEL);
        for (int k = 0; k < m; ++k)
            for (int v = 0; v < PANEL; v += LANES) {
                const long here = k * PANEL + v, there = (n - k) * PANEL + v, inner = here - PANEL;
                const Vec p = load(cos_a + here), r = load(cos_b + here);
                if (k == 0 || k == m - 1) {
                    store(a + here, p);
                    store(b + here, r);
                    continue;
                }
                const Vec q = sign * load(sin_a + inner), s = sign * load(sin_b + inner);
                store(a + here, p + s);
                store(b + here, r - q);
                store(a + there, p - s);
                store(b + there, r + q);
            }
    }

    void add_back(const float* re, const float* im, float* tokens) const {
        const int c = channels;
        float* even = scratch<SpectralFilter, float>(2L * m * c);
        float* odd = even + m * c;
        multiply(cosine_back.data(), m, m, m, re, c, even, c, c);
        multiply(sine_back.data(), m - 2, m - 2, m - 2, im + c, c, odd, c, c);
        for (int j = 0; j < m; ++j)
            for (int v = 0; v < c; v += LANES) {
                float *here = tokens + j * c + v, *there = tokens + (n - j) * c + v;
                const Vec p = load(even + j * c + v);
                if (j == 0 || j == m - 1) {
                    store(here, load(here) + p);
                    continue;
                }
                const Vec s = load(odd + (j - 1) * c + v);
                store(here, load(here) + p - s);
                store(there, load(there) + p + s);
            }
    }
};
