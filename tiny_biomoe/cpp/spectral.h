// Encoder 1: spectral filters in the wide early stages, self-attention in the late ones (spectral_encoder.py).
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
                store(a + y * PANEL + v, p * r - q * i);
                store(b + y * PANEL + v, p * i + q * r);
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

// Self-attention over tokens, with the norm before it and the residual sum. The first `queries` tokens alone may ask.
template <class T>
struct SelfAttention {
    int channels, heads;
    Norm norm;
    Product<T> query_key_value, projection;

    SelfAttention(Reader& reader, int channels, int heads)
        : channels(channels), heads(heads), norm(reader, channels), query_key_value(reader, 3 * channels, 1, channels),
          projection(reader, channels, 1, channels) {}

    // x (tokens, channels), of which the first `queries` are changed.
    void operator()(Team& team, float* x, int tokens, int queries) const {
        const int dim = channels / heads;
        const Attention head{tokens, dim, dim};
        T* normed = scratch<Norm, T>(long(tokens) * channels);
        float* qkv = scratch<SelfAttention, float>(4L * tokens * channels);
        float* mixed = qkv + 3L * tokens * channels;
        norm.tokens(x, normed, tokens);
        dense(team, query_key_value, normed, tokens, qkv);
        team.each(heads, [&](int h) {
            const float* q = qkv + h * dim;
            head(q, queries, q + channels, q + 2 * channels, 3 * channels, 1 / std::sqrt(float(dim)), nullptr,
                 mixed + h * dim, channels);
        });
        dense(team, projection, as<T>(mixed, long(queries) * channels), queries, x, x);
    }
};

// Norm, dense layer, depthwise convolution, GELU, dense layer and residual sum, a few rows at a time: the wide map
// between the dense layers never leaves the cache.
template <class T>
struct Mlp {
    int side, channels, hidden, step;
    Norm norm;
    Product<T> expand;
    Depthwise<T> depthwise;
    Product<T> reduce;

    Mlp(Reader& reader, int side, int channels, int hidden)
        : side(side), channels(channels), hidden(hidden), step(side > 16 ? 2 : side), norm(reader, channels),
          expand(reader, hidden, 1, channels), depthwise(reader, hidden, 1, Act::gelu),
          reduce(reader, channels, 1, hidden) {}

    // grid to out, both (side, side, channels); then(y) is called when row y of `out` is there.
    template <class Then>
    void operator()(Team& team, const float* grid, float* out, const Then& then) const {
        const int bands = std::min(team.threads(), side);
        team.each(bands, [&](int band) {
            this->band(side * band / bands, side * (band + 1) / bands, grid, out, then);
        });
    }

  private:
    template <class Then>
    void band(int from, int to, const float* grid, float* out, const Then& then) const {
        const long row = long(side) * channels, wide = long(side) * hidden;
        T* normed = scratch<Mlp, T>(step * row + row + (2 * step + 2) * wide);
        T* rows = normed + (step + 1) * row;  // of the wide map, from row `first` on
        T* mixed = rows + (step + 2) * wide;
        int first = std::max(0, from - 1), known = first;
        for (int y = from; y < to; y += step) {
            const int end = std::min(y + step, to), needed = std::min(end + 1, side), kept = std::max(0, y - 1);
            std::memmove(static_cast<void*>(rows), rows + (kept - first) * wide, (known - kept) * wide * sizeof(T));
            first = kept;
            while (known < needed) {
                const int next = std::min(needed, known + step + 1);
                norm.tokens(grid + known * row, normed, (next - known) * side);
                expand(normed, channels, 0, (next - known) * side, rows + (known - first) * wide, hidden);
                known = next;
            }
            for (int r = y; r < end; ++r) {
                const T* middle = rows + (r - first) * wide;
                const T* const around[3] = {r > 0 ? middle - wide : nullptr, middle,
                                            r + 1 < side ? middle + wide : nullptr};
                depthwise.row(around, side, mixed + (r - y) * wide);
            }
            reduce(mixed, hidden, 0, (end - y) * side, out + y * row, channels, grid + y * row);
            for (int r = y; r < end; ++r) then(r);
        }
    }
};

// What one image needs while it is computed.
template <class T>
struct SpectralSpace {
    Map<T> first, second;  // of the stem
    std::vector<Map<T>> normed;  // of each stage, as the next one reads it
    std::vector<Map<float>> grids;  // two of each stage: what its block reads and gives
    Array<float> re, im;
};

template <class T>
struct SpectralEncoder {
    struct Stage {
        std::unique_ptr<SpectralFilter> filter;
        std::unique_ptr<Norm> filter_norm;
        std::unique_ptr<SelfAttention<T>> attention;
        std::unique_ptr<Mlp<T>> mlp;
        std::unique_ptr<Norm> norm;  // behind the stage, before what makes the grid smaller; none at the last one
        std::unique_ptr<Conv<T>> conv;
        std::unique_ptr<Norm> conv_norm;
    };
    int side, width, outputs;
    std::vector<std::unique_ptr<Conv<T>>> stem;
    std::unique_ptr<Norm> stem_norm;
    std::vector<Stage> stages;
    std::unique_ptr<SelfAttention<T>> ask;
    std::unique_ptr<Norm> class_norm, norm;
    std::unique_ptr<Product<T>> expand, reduce;

    SpectralEncoder(Reader& reader, int image, int channels, int stem_width, const int* widths, const int* ratios,
                    const int* heads)
        : side(image / 4), width(stem_width), outputs(widths[3]) {
        stem.emplace_back(new Conv<T>(reader, channels, width, 7, 2, Act::relu));
        stem.emplace_back(new Conv<T>(reader, width, width, 3, 1, Act::relu));
        stem.emplace_back(new Conv<T>(reader, width, width, 3, 1, Act::relu));
        stem.emplace_back(new Conv<T>(reader, width, widths[0], 3, 2));
        stem_norm.reset(new Norm(reader, widths[0]));
        int s = side;
        for (int i = 0; i < 4; ++i) {
            Stage stage;
            if (heads[i]) {
                stage.attention.reset(new SelfAttention<T>(reader, widths[i], heads[i]));
            } else {
                stage.filter_norm.reset(new Norm(reader, widths[i]));
                stage.filter.reset(new SpectralFilter(reader, s, widths[i]));
            }
            stage.mlp.reset(new Mlp<T>(reader, s, widths[i], ratios[i] * widths[i]));
            if (i < 3) {
                stage.norm.reset(new Norm(reader, widths[i]));
                stage.conv.reset(new Conv<T>(reader, widths[i], widths[i + 1], 3, 2));
                stage.conv_norm.reset(new Norm(reader, widths[i + 1]));
            }
            stages.push_back(std::move(stage));
            s = (s + 1) / 2;
        }
        ask.reset(new SelfAttention<T>(reader, outputs, heads[3]));
        class_norm.reset(new Norm(reader, outputs));
        expand.reset(new Product<T>(reader, ratios[3] * outputs, 1, outputs, Act::gelu));
        reduce.reset(new Product<T>(reader, outputs, 1, ratios[3] * outputs));
        norm.reset(new Norm(reader, outputs));
    }

    SpectralSpace<T> space() const {
        SpectralSpace<T> made{{2 * side, width, 1}, {2 * side, width, 1}, {}, {}, Array<float>(), Array<float>()};
        long largest = 0;
        for (const Stage& stage : stages) {
            const int s = stage.mlp->side, c = stage.mlp->channels;
            made.normed.emplace_back(s, c, 1);
            made.grids.emplace_back(s, c);
            made.grids.emplace_back(s, c);
            if (stage.filter) largest = std::max(largest, long(s) * (s / 2 + 1) * c);
        }
        made.re = Array<float>(largest);
        made.im = Array<float>(largest);
        return made;
    }

    // The normed image to (outputs).
    void operator()(Team& team, const Map<T>& image, SpectralSpace<T>& space, float* out) const {
        (*stem[0])(team, image, space.first);
        (*stem[1])(team, space.first, space.second);
        (*stem[2])(team, space.second, space.first);
        shrink(team, *stem[3], *stem_norm, space.first, space.grids[0]);
        for (size_t i = 0; i < stages.size(); ++i) {
            const Stage& stage = stages[i];
            Map<float>&grid = space.grids[2 * i], &mixed = space.grids[2 * i + 1];
            if (stage.filter)
                (*stage.filter)(team, *stage.filter_norm, grid.at(0), space.re.data(), space.im.data());
            else
                (*stage.attention)(team, grid.at(0), grid.tokens(), grid.tokens());
            (*stage.mlp)(team, grid.at(0), mixed.at(0), [&](int y) {
                if (stage.norm) stage.norm->tokens(mixed.at(y), space.normed[i].at(y), mixed.side);
            });
            if (stage.conv) shrink(team, *stage.conv, *stage.conv_norm, space.normed[i], space.grids[2 * i + 2]);
        }
        gather(team, space.grids.back(), out);
    }

  private:
    static void shrink(Team& team, const Conv<T>& conv, const Norm& norm, const Map<T>& in, Map<float>& out) {
        team.each(out.side, [&](int y) {
            conv.row(in, y, out.at(y));
            norm.tokens(out.at(y), out.at(y), out.side);
        });
    }

    // The class token, at first the grid's mean, asks every token and itself.
    void gather(Team& team, const Map<float>& grid, float* out) const {
        const int n = grid.tokens();
        float* tokens = scratch<SpectralEncoder, float>(long(n + 1) * outputs);
        std::memset(tokens, 0, 4 * outputs);
        for (int t = 0; t < n; ++t)
            for (int c = 0; c < outputs; ++c) tokens[c] += grid.at(0)[long(t) * outputs + c];
        for (int c = 0; c < outputs; ++c) tokens[c] /= n;
        std::memcpy(tokens + outputs, grid.at(0), 4L * n * outputs);
        (*ask)(team, tokens, n + 1, 1);
        T* normed = scratch<Norm, T>(outputs);
        T* hidden = scratch<Product<T>, T>(expand->outputs);
        (*class_norm)(tokens, normed);
        (*expand)(normed, outputs, 0, 1, hidden, expand->outputs);
        (*reduce)(hidden, expand->outputs, 0, 1, tokens, outputs, tokens);
        (*norm)(tokens, out);
    }
};
