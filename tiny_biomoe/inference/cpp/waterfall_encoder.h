// Encoder 2: convolutional mixing around waterfall attention (waterfall_encoder.py).
#pragma once

#include "attention.h"
#include "layers.h"

// Depthwise convolution and feed-forward network, both with their residual sums.
template <class T>
struct Mixer {
    Depthwise<float> depthwise;  // one more in the middle of its kernels: the residual
    Product<T> expand, reduce;

    Mixer(Reader& reader, int channels)
        : depthwise(reader, channels, 1), expand(reader, 2 * channels, 1, channels, true),
          reduce(reader, channels, 1, 2 * channels) {}

    // x (side, side, channels), in place.
    void operator()(Team& team, float* x, int side) const {
        const int channels = depthwise.channels, tokens = side * side;
        const long size = long(tokens) * channels;
        float* y = scratch<Mixer, float>(size);
        T* hidden = scratch<Mixer, T, 1>(2 * size);
        convolve(team, depthwise, x, side, y);
        dense(team, expand, as<T>(y, size), tokens, hidden);
        dense(team, reduce, static_cast<const T*>(hidden), tokens, x, y);
    }
};

// Attention within windows, head after head: each reads its share of the channels and what the one before it gave.
template <class T>
struct Waterfall {
    int side, channels, heads, key_dim, value_dim, window;
    Mixer<T> before, after;
    struct Head {
        Product<float> query_key_value;
        int kernel;
        Array<float> weight, shift;  // of the query's depthwise convolution, (kernel, kernel, key_dim)
        Array<float> bias;  // of each pair of tokens
    };
    std::vector<Head> parts;
    Product<T> projection;

    Waterfall(Reader& reader, int side, int channels, int heads, int key_dim, const int* kernels, int window)
        : side(side), channels(channels), heads(heads), key_dim(key_dim), value_dim(channels / heads), window(window),
          before(reader, channels), after(reader, channels), parts(read(reader, kernels)),
          projection(reader, channels, 1, channels) {}

    // x (side, side, channels), in place.
    void operator()(Team& team, float* x) const {
        const int across = side / window;
        float* mixed = scratch<Waterfall, float>(long(side) * side * channels);
        before(team, x, side);
        team.each(across * across, [&](int w) {
            const long corner = (long(w / across) * side + w % across) * window * channels;
            attend(x + corner, mixed + corner);
        });
        dense(team, projection, as<T>(mixed, long(side) * side * channels), side * side, x, x);
        after(team, x, side);
    }

  private:
    std::vector<Head> read(Reader& reader, const int* kernels) const {
        const int tokens = window * window, wide = Attention<float>{tokens, key_dim, value_dim}.columns();
        std::vector<Head> made;
        for (int h = 0; h < heads; ++h) {
            const int k = kernels[h];
            Head head{Product<float>(reader, 2 * key_dim + value_dim, 1, value_dim), k, Array<float>(k * k * key_dim),
                      Array<float>(key_dim), Array<float>(long(tokens) * wide)};
            std::memcpy(head.weight.data(), reader.take(k * k * key_dim), 4L * k * k * key_dim);
            std::memcpy(head.shift.data(), reader.take(key_dim), 4L * key_dim);
            for (int t = 0; t < tokens; ++t)
                std::memcpy(head.bias.data() + long(t) * wide, reader.take(tokens), 4L * tokens);
            made.push_back(std::move(head));
        }
        return made;
    }

    // One window, which begins at x within a map, to the same place of `mixed`, behind the ReLU.
    void attend(const float* x, float* mixed) const {
        const int tokens = window * window, width = 2 * key_dim + value_dim;
        const Attention<float> core{tokens, key_dim, value_dim};
        const int most = std::max(value_dim, key_dim);  // of a token: what a head reads, then its spread queries
        float* part = scratch<Waterfall, float, 1>(long(tokens) * (most + value_dim + width));
        float* given = part + long(tokens) * most;
        float* qkv = given + long(tokens) * value_dim;
        for (int h = 0; h < heads; ++h) {
            for (int t = 0; t < tokens; ++t) {
                const float* from = x + (long(t / window) * side + t % window) * channels + h * value_dim;
                for (int c = 0; c < value_dim; ++c)
                    part[t * value_dim + c] = from[c] + (h ? given[t * value_dim + c] : 0.0f);
            }
            parts[h].query_key_value(part, value_dim, 0, tokens, qkv, width);
            spread(parts[h], qkv, width, part);
            for (int t = 0; t < tokens; ++t) std::memcpy(qkv + long(t) * width, part + t * key_dim, 4 * key_dim);
            core(qkv, tokens, qkv + key_dim, qkv + 2 * key_dim, width, 1, parts[h].bias.data(), given, value_dim);
            for (int t = 0; t < tokens; ++t) {
                float* to = mixed + (long(t / window) * side + t % window) * channels + h * value_dim;
                for (int c = 0; c < value_dim; ++c) to[c] = std::max(given[t * value_dim + c], 0.0f);
            }
        }
    }

    // The depthwise convolution of the queries within their window: to (tokens, key_dim).
    void spread(const Head& head, const float* queries, int ld, float* out) const {
        const int reach = head.kernel / 2;
        for (int y = 0; y < window; ++y)
            for (int x = 0; x < window; ++x, out += key_dim)
                for (int c = 0; c < key_dim; c += LANES) {
                    Vec total = load(head.shift.data() + c);
                    for (int v = std::max(0, y - reach); v <= std::min(window - 1, y + reach); ++v)
                        for (int u = std::max(0, x - reach); u <= std::min(window - 1, x + reach); ++u)
                            total += load(queries + (v * window + u) * ld + c) *
                                     load(head.weight.data() + ((v - y + reach) * head.kernel + u - x + reach) * key_dim + c);
                    store(out + c, total);
                }
    }
};

// Half the map, at another width; hidden numbers are of type H.
template <class T, class H>
struct Merging {
    int side;
    Mixer<T> before;
    Product<T> expand;
    Depthwise<H, Relu> depthwise;
    Product<T> squeeze, excite, reduce;
    Mixer<T> after;

    Merging(Reader& reader, int side, int inputs, int outputs)
        : side(side), before(reader, inputs), expand(reader, 4 * inputs, 1, inputs, true),
          depthwise(reader, 4 * inputs, 2), squeeze(reader, inputs, 1, 4 * inputs, true),
          excite(reader, 4 * inputs, 1, inputs), reduce(reader, outputs, 1, 4 * inputs),
          after(reader, outputs) {}

    // x (side, side, inputs), which is changed, to out (half, half, outputs).
    void operator()(Team& team, float* x, float* out) const {
        const int hidden = depthwise.channels, half = (side + 1) / 2, tokens = half * half;
        before(team, x, side);
        const long wide = long(side) * side * hidden, size = long(tokens) * hidden;
        float* mean = scratch<Merging, float>(2L * hidden + squeeze.outputs);
        float *share = mean + hidden, *squeezed = share + hidden;
        H* expanded = scratch<Merging, H, 1>(wide);
        T* mixed = scratch<Merging, T, 2>(size);
        dense(team, expand, as<T>(x, long(side) * side * expand.pieces.length), side * side, expanded);
        convolve(team, depthwise, static_cast<const H*>(expanded), side, mixed);
        for (int c = 0; c < hidden; c += LANES) {
            Vec total{};
            for (int t = 0; t < tokens; ++t) total += load(mixed + long(t) * hidden + c);
            store(mean + c, total / float(tokens));
        }
        dense(team, squeeze, as<T>(mean, hidden), 1, squeezed);
        dense(team, excite, as<T>(squeezed, squeeze.outputs), 1, share);
        for (int c = 0; c < hidden; c += LANES) store(share + c, sigmoid(load(share + c)));
        for (int t = 0; t < tokens; ++t)
            for (int c = 0; c < hidden; c += LANES)
                store(mixed + long(t) * hidden + c, load(mixed + long(t) * hidden + c) * load(share + c));
        dense(team, reduce, static_cast<const T*>(mixed), tokens, out);
        after(team, out, half);
    }
};

template <class T>
struct WaterfallSpace {
    std::vector<Map<T>> patches;
    std::vector<Map<float>> grids;
};

template <class T, class H>
struct WaterfallEncoder {
    int image, outputs;
    std::vector<std::unique_ptr<Conv<T>>> patches;
    std::vector<std::unique_ptr<Waterfall<T>>> blocks;
    std::vector<std::unique_ptr<Merging<T, H>>> merges;

    WaterfallEncoder(Reader& reader, int image, int channels, const int* widths, const int* heads, int key_dim,
                     const int* kernels, int window)
        : image(image), outputs(widths[2]) {
        int inputs = channels, side = image / 16;
        for (int i = 0; i < 4; ++i) {
            const int width = widths[0] >> (3 - i);
            patches.emplace_back(new Conv<T>(reader, inputs, width, 3, 2, i < 3));
            inputs = width;
        }
        for (int i = 0; i < 3; ++i) {
            blocks.emplace_back(
                new Waterfall<T>(reader, side, widths[i], heads[i], key_dim, kernels, std::min(side, window)));
            if (i < 2) merges.emplace_back(new Merging<T, H>(reader, side, widths[i], widths[i + 1]));
            side = (side + 1) / 2;
        }
    }

    WaterfallSpace<T> space() const {
        WaterfallSpace<T> made;
        int side = image;
        for (int i = 0; i < 3; ++i) made.patches.emplace_back(side /= 2, patches[i]->product.outputs, 1);
        for (const auto& block : blocks) made.grids.emplace_back(block->side, block->channels);
        return made;
    }

    // The normed image to (outputs).
    void operator()(Team& team, const Map<T>& image, WaterfallSpace<T>& space, float* out) const {
        const Map<T>* from = &image;
        for (int i = 0; i < 3; ++i) {
            (*patches[i])(team, *from, space.patches[i]);
            from = &space.patches[i];
        }
        (*patches[3])(team, *from, space.grids[0]);
        for (size_t i = 0; i < blocks.size(); ++i) {
            (*blocks[i])(team, space.grids[i].at(0));
            if (i < merges.size()) (*merges[i])(team, space.grids[i].at(0), space.grids[i + 1].at(0));
        }
        const Map<float>& last = space.grids.back();
        std::memset(out, 0, 4 * outputs);
        for (int t = 0; t < last.tokens(); ++t)
            for (int c = 0; c < outputs; ++c) out[c] += last.at(0)[long(t) * outputs + c];
        for (int c = 0; c < outputs; ++c) out[c] /= last.tokens();
    }
};
