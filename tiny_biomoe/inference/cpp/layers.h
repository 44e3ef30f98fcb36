// What both encoders are made of: maps, norms, convolutions, dense layers.
#pragma once

#include "activations.h"
#include "parallel.h"
#include "product.h"

// A square map, channels last, within a frame of zeros that convolutions read and nobody writes.
template <class T>
struct Map {
    int side, channels, frame;
    long pitch;  // from a row to the one below
    Array<T> data;

    Map(int side, int channels, int frame = 0)
        : side(side), channels(channels), frame(frame), pitch(long(side + 2 * frame) * channels),
          data(pitch * (side + 2 * frame)) {}
    T* at(int y, int x = 0) { return data.data() + (y + frame) * pitch + (x + frame) * channels; }
    const T* at(int y, int x = 0) const { return const_cast<Map*>(this)->at(y, x); }
    int tokens() const { return side * side; }
};

// The mean of each row of a map without a frame: (side, channels).
inline void row_means(const Map<float>& map, float* out) {
    const int channels = map.channels;
    for (int y = 0; y < map.side; ++y, out += channels)
        for (int c = 0; c < channels; ++c) {
            out[c] = 0;
            for (int x = 0; x < map.side; ++x) out[c] += map.at(y, x)[c];
            out[c] /= map.side;
        }
}

// LayerNorm over the channels of a token.
struct Norm {
    int channels;
    Array<float> weight, bias;
    float eps;

    Norm(Reader& reader, int channels) : channels(channels), weight(channels), bias(channels) {
        std::memcpy(weight.data(), reader.take(channels), 4 * channels);
        std::memcpy(bias.data(), reader.take(channels), 4 * channels);
        eps = *reader.take(1);
    }

    template <class Out>
    void operator()(const float* x, Out* out) const {
        together<1>(x, out);
    }

    template <class Out>
    void tokens(const float* x, Out* out, int count) const {
        constexpr int N = 4;
        int i = 0;
        for (; i + N <= count; i += N) together<N>(x + long(i) * channels, out + long(i) * channels);
        for (; i < count; ++i) together<1>(x + long(i) * channels, out + long(i) * channels);
    }

  private:
    // N tokens, each as if it were alone: while one waits for a sum, the others are computed.
    template <int N, class Out>
    void together(const float* x, Out* out) const {
        const int whole = channels / (PARTS * LANES) * (PARTS * LANES);
        Vec totals[N][PARTS]{}, squares[N][PARTS]{};
        float mean[N], scale[N];
        for (int c = 0; c < whole; c += PARTS * LANES)
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n)
#pragma GCC unroll 2
                for (int p = 0; p < PARTS; ++p) totals[n][p] += load(x + n * channels + c + p * LANES);
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) {
            mean[n] = sum(totals[n]);
            for (int c = whole; c < channels; ++c) mean[n] += x[n * channels + c];
            mean[n] /= channels;
        }
        for (int c = 0; c < whole; c += PARTS * LANES)
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n)
#pragma GCC unroll 2
                for (int p = 0; p < PARTS; ++p) {
                    const Vec d = load(x + n * channels + c + p * LANES) - mean[n];
                    squares[n][p] += d * d;
                }
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) {
            float variance = sum(squares[n]);
            for (int c = whole; c < channels; ++c) variance += (x[n * channels + c] - mean[n]) * (x[n * channels + c] - mean[n]);
            scale[n] = 1 / std::sqrt(variance / channels + eps);
        }
        for (int c = 0; c < whole; c += LANES) {
            const Vec w = load(weight.data() + c), b = load(bias.data() + c);
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n)
                store(out + n * channels + c, (load(x + n * channels + c) - mean[n]) * scale[n] * w + b);
        }
        for (int n = 0; n < N; ++n)
            for (int c = whole; c < channels; ++c)
                assign(out[n * channels + c], (x[n * channels + c] - mean[n]) * scale[n] * weight[c] + bias[c]);
    }
};

// A convolution, padded by half its kernel. The pixels of a kernel's row lie side by side: no patch is ever copied.
template <class T>
struct Conv {
    int kernel, stride;
    Product<T> product;

    Conv(Reader& reader, int inputs, int outputs, int kernel, int stride, bool relu = false)
        : kernel(kernel), stride(stride), product(reader, outputs, kernel, kernel * inputs, relu) {}

    // The whole map. then(y) is called when row y of `out` is there.
    template <class Out, class Then>
    void operator()(Team& team, const Map<T>& in, Map<Out>& out, const Then& then) const {
        team.each((out.side + 1) / 2, [&](int i) {  // two rows at a time: tiles are higher than small maps are wide
            const int y = 2 * i, end = std::min(y + 2, out.side);
            const T* corner = in.at(y * stride - kernel / 2, -(kernel / 2));
            const Left<T> left{corner, end > y + 1 ? corner + stride * in.pitch : nullptr, long(stride) * in.channels, out.side};
            product.panels_of(0, product.panel_count(), left, in.pitch, out.at(y), out.pitch, product.outputs, nullptr);
            for (int done = y; done < end; ++done) then(done);
        });
    }
    template <class Out>
    void operator()(Team& team, const Map<T>& in, Map<Out>& out) const {
        (*this)(team, in, out, [](int) {});
    }
};

// A dense layer of many tokens that lie one behind the other, shared out by panels and rows.
template <class T, class Out>
void dense(Team& team, const Product<T>& product, const T* x, int tokens, Out* out, const float* residual = nullptr) {
    constexpr int TOGETHER = 128;  // rows of a task
    const int panels = product.panel_count(), inputs = product.pieces.length, outputs = product.outputs;
    if (team.threads() == 1) return product(x, inputs, 0, tokens, out, outputs, residual);
    const int blocks = (tokens + TOGETHER - 1) / TOGETHER;
    team.each(panels * blocks, [&](int task) {
        const int panel = task / blocks, block = task % blocks;
        const long from = long(tokens) * block / blocks, to = long(tokens) * (block + 1) / blocks;
        product.panels_of(panel, panel + 1, {x + from * inputs, nullptr, inputs, int(to - from)}, 0, out + from * outputs,
                          0, outputs, residual ? residual + from * outputs : nullptr);
    });
}

// A 3 x 3 convolution of each channel by itself, and a function of each result.
template <class T, class Activate = Linear>
struct Depthwise {
    int channels, stride;
    Array<Weight<T>> weight, bias;  // (3, 3, channels) and (channels), each PANEL of them in the order of `load2`

    Depthwise(Reader& reader, int channels, int stride)
        : channels(channels), stride(stride), weight(9L * channels), bias(channels) {
        const float *weights = reader.take(9L * channels), *biases = reader.take(channels);
        for (int c = 0; c < channels; ++c) {
            const int from = c / PANEL * PANEL + order<T>(c % PANEL);
            bias[c] = Weight<T>(biases[from]);
            for (int tap = 0; tap < 9; ++tap) weight[tap * channels + c] = Weight<T>(weights[tap * channels + from]);
        }
    }

    // How many rows of the result are computed at once, where the registers hold them.
    int rows_at_once() const { return sizeof(T) == 2 && stride == 1 ? 2 : 1; }

    // Rows [y, end) of the result; x begins with row `first` of a map of `side` rows, and holds all that they read.
    template <class Out>
    void rows(const T* x, int first, int side, int y, int end, Out* out) const {
        const long row = long((side + stride - 1) / stride) * channels;
        for (const int begin = y; y < end;) {
            Out* to = out + (y - begin) * row;
            if (stride == 2)
                row_of<1, 2>(x, first, side, y++, to);
            else if (rows_at_once() == 1 || y + 1 == end)
                row_of<1, 1>(x, first, side, y++, to);
            else if constexpr (sizeof(T) == 2)
                row_of<2, 1>(x, first, side, std::exchange(y, y + 2), to);
        }
    }

  private:
    template <int TALL, int STRIDE, class Out>
    void row_of(const T* x, int first, int side, int y, Out* out) const {
        const T* above[TALL + 2];  // null outside of the map
        for (int i = 0; i < TALL + 2; ++i) {
            const int r = y * STRIDE + i - 1;
            above[i] = r >= 0 && r < side ? x + long(r - first) * side * channels : nullptr;
        }
        const int results = (side + STRIDE - 1) / STRIDE;
        int done = 0;
        for (; done + 4 <= results; done += 4) run<TALL, 4, STRIDE>(above, done * STRIDE - 1, side, out + long(done) * channels);
        for (; done < results; ++done) run<TALL, 1, STRIDE>(above, done * STRIDE - 1, side, out + long(done) * channels);
    }

    // TALL rows of N results side by side, from column `from` on: what they share is read once.
    template <int TALL, int N, int STRIDE, class Out>
    void run(const T* const (&rows)[TALL + 2], int from, int side, Out* out) const {
        const Activate activate;
        constexpr int WIDE = (N - 1) * STRIDE + 3;
        const T* zeros = scratch<Depthwise, T>(channels);  // never written
        const T* taps[TALL + 2][WIDE];
        for (int y = 0; y < TALL + 2; ++y)
            for (int i = 0; i < WIDE; ++i)
                taps[y][i] = rows[y] && from + i >= 0 && from + i < side ? rows[y] + long(from + i) * channels : zeros;
        const long row = long((side + STRIDE - 1) / STRIDE) * channels;
        for (int c = 0; c < channels; c += PANEL) {
            decltype(load2(rows[0])) sums[TALL][N], in[WIDE];
            for (int r = 0; r < TALL; ++r)
                for (int n = 0; n < N; ++n) sums[r][n] = load2(bias.data() + c);
#pragma GCC unroll 4
            for (int y = 0; y < TALL + 2; ++y) {
#pragma GCC unroll 9
                for (int i = 0; i < WIDE; ++i) in[i] = load2(taps[y][i] + c);
#pragma GCC unroll 2
                for (int r = 0; r < TALL; ++r)
#pragma GCC unroll 3
                    for (int dx = 0; dx < 3; ++dx) {
                        if (y - r < 0 || y - r > 2) continue;
                        const auto w = load2(weight.data() + (3 * (y - r) + dx) * channels + c);
#pragma GCC unroll 4
                        for (int n = 0; n < N; ++n) add_product(sums[r][n], in[n * STRIDE + dx], w);
                    }
            }
#pragma GCC unroll 2
            for (int r = 0; r < TALL; ++r)
#pragma GCC unroll 4
                for (int n = 0; n < N; ++n) store2(out + r * row + n * channels + c, each_of(activate, sums[r][n]));
        }
    }
};

// A whole map's depthwise convolution.
template <class T, class Activate, class Out>
void convolve(Team& team, const Depthwise<T, Activate>& depthwise, const T* x, int side, Out* out) {
    const int results = (side + depthwise.stride - 1) / depthwise.stride, rows = depthwise.rows_at_once();
    team.each((results + rows - 1) / rows, [&](int i) {
        const int y = rows * i;
        depthwise.rows(x, 0, side, y, std::min(y + rows, results), out + long(y) * results * depthwise.channels);
    });
}

// x as the numbers that products take: itself in float32, in bfloat16 a copy that holds until the next one.
template <class T>
const T* as(const float* x, long n) {
    if constexpr (sizeof(T) == 4) {
        return x;
    } else {
        T* copy = scratch<Product<T>, T>(n);
        for (long i = 0; i < n; i += LANES) store(copy + i, load(x + i));
        return copy;
    }
}
