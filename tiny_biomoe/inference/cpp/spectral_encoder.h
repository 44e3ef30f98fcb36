// Encoder 1: spectral filters in the wide early stages, self-attention in the late ones (spectral_encoder.py).
#pragma once

#include "attention.h"
#include "spectral_filter.h"

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
        const Attention<T> head{tokens, dim, dim};
        T* normed = scratch<Norm, T>(long(tokens) * channels);
        T* qkv = scratch<SelfAttention, T>(4L * tokens * channels);
        T* mixed = qkv + 3L * tokens * channels;
        norm.tokens(x, normed, tokens);
        dense(team, query_key_value, static_cast<const T*>(normed), tokens, qkv);
        team.each(heads, [&](int h) {
            const T* q = qkv + h * dim;
            head(q, queries, q + channels, q + 2 * channels, 3 * channels, 1 / std::sqrt(float(dim)), nullptr,
                 mixed + h * dim, channels);
        });
        dense(team, projection, static_cast<const T*>(mixed), queries, x, x);
    }
};

// Norm, dense layer, depthwise convolution, GELU, dense layer and residual sum; hidden numbers are of type H.
template <class T, class H>
struct Mlp {
    int side, channels, hidden;
    Norm norm;
    Product<T> expand;
    Depthwise<H, Gelu<T>> depthwise;
    Product<T> reduce;

    Mlp(Reader& reader, int side, int channels, int hidden)
        : side(side), channels(channels), hidden(hidden), norm(reader, channels), expand(reader, hidden, 1, channels),
          depthwise(reader, hidden, 1), reduce(reader, channels, 1, hidden) {}

    // Of a grid (side, side, channels). done(y, row) is called with each row of the result, which lies
    // there for that long; of a large grid, which others still read, it must not write anything.
    template <class Done>
    void operator()(Team& team, const float* grid, const Done& done) const {
        if (side <= SMALL) return small(team, grid, done);
        static std::atomic<uint64_t> calls{0};
        const uint64_t call = ++calls;
        const int threads = team.threads();
        if (threads == 2) {  // the steps that are left where they meet are the short ones
            const int half = (side + 1) / 2, steps = (half + STEP - 1) / STEP;
            const auto begin = [&](int i) { return i <= steps ? std::min(STEP * i, half) : side - STEP * (2 * steps - i); };
            return team.each(2 * steps, [&](int i) { this->step(call, begin(i), begin(i + 1), grid, done); });
        }
        const int rows = threads > 2 ? (side + threads - 1) / threads : STEP;  // of a task
        team.each((side + rows - 1) / rows, [&](int i) {
            const int end = std::min(rows * (i + 1), side);
            for (int y = rows * i; y < end; y += STEP) this->step(call, y, std::min(y + STEP, end), grid, done);
        });
    }

  private:
    static constexpr int STEP = 8 / int(sizeof(T));  // rows of a large map that are computed at once
    static constexpr int SMALL = 16;  // side of a map that is computed layer by layer, at most

    // A small map, layer by layer.
    template <class Done>
    void small(Team& team, const float* grid, const Done& done) const {
        const int tokens = side * side;
        T* normed = scratch<Mlp, T>(long(tokens) * (channels + hidden));
        T* mixed = normed + long(tokens) * channels;
        H* wide = scratch<Mlp, H, 1>(long(tokens) * hidden);
        float* out = scratch<Mlp, float, 2>(long(tokens) * channels);
        norm.tokens(grid, normed, tokens);
        dense(team, expand, static_cast<const T*>(normed), tokens, wide);
        convolve(team, depthwise, static_cast<const H*>(wide), side, mixed);
        dense(team, reduce, static_cast<const T*>(mixed), tokens, out, grid);
        for (int y = 0; y < side; ++y) done(y, out + long(y) * side * channels);
    }

    // Rows [y, end) of a large map: the wide map between the dense layers never leaves the cache. A thread keeps the rows
    // of it that it computed last, for its next ones: of two threads the caller goes down the map, the helper up, until
    // they meet. More than two would meet one another's rows all the time: each is given a band.
    template <class Done>
    void step(uint64_t call, int y, int end, const float* grid, const Done& done) const {
        struct Kept {
            uint64_t call;
            int first, last;
        };
        static thread_local Kept kept{};
        const long row = long(side) * channels, wide = long(side) * hidden;
        const int first = std::max(0, y - 1), last = std::min(end + 1, side);
        H* rows = scratch<Mlp, H, 1>((STEP + 2) * wide);  // of the wide map, from `first` to before `last`
        T* normed = scratch<Mlp, T>((STEP + 2) * row + STEP * wide);
        T* mixed = normed + (STEP + 2) * row;
        float* out = scratch<Mlp, float, 2>(STEP * row);
        int from = std::max(first, kept.first), to = std::min(last, kept.last);  // the rows that are there already
        if (kept.call == call && from < to)
            std::memmove(static_cast<void*>(rows + (from - first) * wide), rows + (from - kept.first) * wide,
                         (to - from) * wide * sizeof(H));
        else
            from = to = last;
        const auto fill = [&](int begin, int stop) {
            norm.tokens(grid + begin * row, normed, (stop - begin) * side);
            expand(normed, channels, 0, (stop - begin) * side, rows + (begin - first) * wide, hidden);
        };
        fill(first, from);
        fill(to, last);
        kept = {call, first, last};
        depthwise.rows(rows, first, side, y, end, mixed);
        reduce(mixed, hidden, 0, (end - y) * side, out, channels, grid + y * row);
        for (int r = y; r < end; ++r) done(r, out + (r - y) * row);
    }
};

// What one image needs while it is computed.
template <class T>
struct SpectralSpace {
    Map<T> first, second;  // of the stem
    std::vector<Map<T>> normed;  // of each stage, as the next one reads it
    std::vector<Map<float>> grids;  // of each stage
    Array<float> re, im;
};

template <class T, class H>
struct SpectralEncoder {
    struct Stage {
        std::unique_ptr<SpectralFilter> filter;
        std::unique_ptr<Norm> filter_norm;
        std::unique_ptr<SelfAttention<T>> attention;
        std::unique_ptr<Mlp<T, H>> mlp;
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
        stem.emplace_back(new Conv<T>(reader, channels, width, 7, 2, true));
        stem.emplace_back(new Conv<T>(reader, width, width, 3, 1, true));
        stem.emplace_back(new Conv<T>(reader, width, width, 3, 1, true));
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
            stage.mlp.reset(new Mlp<T, H>(reader, s, widths[i], ratios[i] * widths[i]));
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
        expand.reset(new Product<T>(reader, ratios[3] * outputs, 1, outputs));
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
            Map<float>& grid = space.grids[i];
            if (stage.filter)
                (*stage.filter)(team, *stage.filter_norm, grid.at(0), space.re.data(), space.im.data());
            else
                (*stage.attention)(team, grid.at(0), grid.tokens(), grid.tokens());
            (*stage.mlp)(team, grid.at(0), [&](int y, const float* row) {
                if (stage.norm)
                    stage.norm->tokens(row, space.normed[i].at(y), grid.side);
                else
                    std::memcpy(grid.at(y), row, sizeof(float) * grid.pitch);
            });
            if (stage.conv) shrink(team, *stage.conv, *stage.conv_norm, space.normed[i], space.grids[i + 1]);
        }
        gather(team, space.grids.back(), out);
    }

  private:
    static void shrink(Team& team, const Conv<T>& conv, const Norm& norm, const Map<T>& in, Map<float>& out) {
        conv(team, in, out, [&](int y) { norm.tokens(out.at(y), out.at(y), out.side); });
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
        float* hidden = scratch<SpectralEncoder, float, 1>(expand->outputs);
        (*class_norm)(tokens, normed);
        (*expand)(normed, outputs, 0, 1, hidden, expand->outputs);
        for (int c = 0; c < expand->outputs; c += LANES) store(hidden + c, Gelu<T>()(load(hidden + c)));
        (*reduce)(as<T>(hidden, expand->outputs), expand->outputs, 0, 1, tokens, outputs, tokens);
        (*norm)(tokens, out);
    }
};
