// The network for one image at a time: bytes in, embedding out. Built by native_build.py, called by native_backend.py.
#include "spectral_encoder.h"
#include "waterfall_encoder.h"

constexpr int CHANNELS = 4;  // of the normed image: red, green, blue and a zero

struct Numbers {  // of the architecture, in this order
    int image, stem_width, widths[4], ratios[4], heads[4];
    int waterfall_widths[3], waterfall_heads[3], key_dim, window, paper_gate, kernels[16];
};

struct Any {
    virtual ~Any() = default;
    // One picture of `channels` bytes a pixel, 1 (levels) or 3 (RGB), to its embedding; and, where `rows` is given, the
    // mean of each row of encoder 1's last map, then of encoder 2's.
    virtual void embed(const uint8_t* picture, int channels, int threads, float* out, float* rows) = 0;
};

// Something whose arrays lie in an arena of its own.
template <class Thing>
struct Housed {
    Arena arena;
    std::unique_ptr<Thing> thing;

    template <class Make>
    explicit Housed(const Make& make) {
        Arena::Use use(arena);
        thing.reset(make());
    }
    Thing* operator->() { return thing.get(); }
};

template <class T, class H>
struct Network : Any {
    struct Maps {
        Map<T> image;
        SpectralSpace<T> spectral;
        WaterfallSpace<T> waterfall;
    };
    using Space = Housed<Maps>;

    Numbers numbers;
    Array<float> palette, weight, bias;  // (256, 3); (image, image, CHANNELS) twice, the last channel zero
    float eps;
    SpectralEncoder<T, H> spectral;
    WaterfallEncoder<T, H> waterfall;
    int width;
    Norm embedding_norm;
    Product<float> gate;
    Norm output_norm;
    std::vector<std::unique_ptr<Space>> idle;  // of images that were computed before

    Network(const Numbers& n, Reader& reader)
        : numbers(n), palette(copied(reader, 256, 3, 3)), weight(copied(reader, long(n.image) * n.image, 3, CHANNELS)),
          bias(copied(reader, long(n.image) * n.image, 3, CHANNELS)), eps(*reader.take(1)),
          spectral(reader, n.image, CHANNELS, n.stem_width, n.widths, n.ratios, n.heads),
          waterfall(reader, n.image, CHANNELS, n.waterfall_widths, n.waterfall_heads, n.key_dim, n.kernels, n.window),
          width(n.widths[3]), embedding_norm(reader, width), gate(reader, width, 1, width),
          output_norm(reader, 2 * width) {
        if (reader.left()) throw std::length_error("more weights than the architecture has");
    }

    // n groups of numbers, each filled up with zeros.
    static Array<float> copied(Reader& reader, long n, int group, int filled) {
        Array<float> made(n * filled);
        for (long i = 0; i < n; ++i) std::memcpy(made.data() + i * filled, reader.take(group), 4 * group);
        return made;
    }

    void embed(const uint8_t* picture, int channels, int threads, float* out, float* rows) override {
        std::unique_ptr<Space> space = take();
        Maps& maps = *space->thing;
        Array<float> z(6L * width);  // both encoders' outputs, and what becomes of them
        Helpers team(threads);
        normed(*team, picture, channels, maps.image);
        team->both([&] { waterfall(Team::one(), maps.image, maps.waterfall, z.data() + width); },
                   [&] { spectral(*team, maps.image, maps.spectral, z.data()); });
        join(z.data(), z.data() + 2 * width, out);
        if (rows) {
            const Map<float>& last = maps.spectral.grids.back();
            row_means(last, rows);
            row_means(maps.waterfall.grids.back(), rows + last.side * width);
        }
        give(std::move(space));
    }

  private:
    std::unique_ptr<Space> take() {
        {
            std::lock_guard<std::mutex> lock(Helpers::mutex());
            if (!idle.empty()) {
                std::unique_ptr<Space> found = std::move(idle.back());
                idle.pop_back();
                return found;
            }
        }
        return std::unique_ptr<Space>(new Space(
            [&] { return new Maps{{numbers.image, CHANNELS, 3}, spectral.space(), waterfall.space()}; }));
    }
    // Kept for the next image, but no more than one a processor: a burst of calls leaves no memory behind.
    void give(std::unique_ptr<Space> space) {
        std::lock_guard<std::mutex> lock(Helpers::mutex());
        if (idle.size() < std::max(1u, std::thread::hardware_concurrency())) idle.push_back(std::move(space));
    }

    // Colour, scale to [0, 1] and LayerNorm of the whole image. Bytes are few: what the norm makes of each is tabled.
    void normed(Team& team, const uint8_t* picture, int channels, Map<T>& image) const {
        const long pixels = long(image.side) * image.side;
        int counts[4][256] = {};  // in turn, so that equal bytes in a row do not wait for one another
        for (long i = 0; i < pixels * channels; ++i) ++counts[i % 4][picture[i]];
        const int colours = channels == 1 ? 3 : 1;  // that a byte stands for: a level's three, or its own
        const double n = 3.0 * pixels;
        const auto share = [&](int byte) { return (counts[0][byte] + counts[1][byte] + counts[2][byte] + counts[3][byte]) / n; };
        double mean = 0, variance = 0;
        for (int i = 0; i < 256 * colours; ++i) mean += share(i / colours) * value(i, colours);
        for (int i = 0; i < 256 * colours; ++i) {
            const double d = value(i, colours) - mean;
            variance += share(i / colours) * d * d;
        }
        const double scale = 1 / std::sqrt(variance + eps);
        float table[256][CHANNELS] = {};
        for (int i = 0; i < 256 * 3; ++i)
            table[i / 3][i % 3] = float((value(colours == 3 ? i : i / 3, colours) - mean) * scale);
        const long row = long(image.side) * CHANNELS;  // whole vectors
        team.each(image.side, [&](int y) {
            const uint8_t* bytes = picture + long(y) * image.side * channels;
            float* colour = scratch<Network, float, 1>(row);
            for (int x = 0; x < image.side; ++x)
                if (channels == 1)
                    std::memcpy(colour + x * CHANNELS, table[bytes[x]], 4 * CHANNELS);
                else
                    for (int c = 0; c < 3; ++c) colour[x * CHANNELS + c] = table[bytes[3 * x + c]][c];
            for (long i = 0; i < row; i += LANES)
                store(image.at(y) + i, load(colour + i) * load(weight.data() + y * row + i) + load(bias.data() + y * row + i));
        });
    }

    // In [0, 1]: of 256 levels the three colours each, or of 256 bytes themselves.
    float value(int i, int colours) const { return colours == 3 ? palette[i] : i / 255.0f; }

    // Norm, gate and output norm (Eqs. 5 to 7): z (2, width) to out (2 * width).
    void join(const float* z, float* room, float* out) const {
        float *opened = room, *gated = room + 2 * width;
        for (int e = 0; e < 2; ++e) {
            const float* x = z + e * width;
            float* logits = opened + width;
            for (int c = 0; c < width; ++c) opened[c] = numbers.paper_gate ? x[c] : elu(x[c]);
            gate(opened, width, 0, 1, logits, width);
            embedding_norm(x, gated + e * width);
            for (int c = 0; c < width; ++c) {
                const float logit = numbers.paper_gate ? elu(logits[c]) : logits[c];
                gated[e * width + c] *= std::min(std::max(logit, 0.0f), 1.0f);
            }
        }
        output_norm(gated, out);
    }

    static float elu(float x) { return x > 0 ? x : std::expm1(x); }
};

using House = Housed<Any>;

template <class T, class H>
std::unique_ptr<House> housed(const Numbers& numbers, Reader reader) {
    return std::unique_ptr<House>(new House([&] { return new Network<T, H>(numbers, reader); }));
}

// Whether both give a picture of noise the same vector, but for what bfloat16 rounds.
bool alike(House& one, House& other, const Numbers& numbers) {
    std::vector<uint8_t> picture(long(numbers.image) * numbers.image);
    uint32_t state = 1;
    for (uint8_t& level : picture) level = uint8_t((state = state * 1664525 + 1013904223) >> 24);
    std::vector<float> vectors[2];
    for (int i : {0, 1}) {
        vectors[i].resize(2 * numbers.widths[3]);
        (i ? other : one)->embed(picture.data(), 1, 1, vectors[i].data(), nullptr);
    }
    for (size_t c = 0; c < vectors[0].size(); ++c)
        if (!(std::fabs(vectors[0][c] - vectors[1][c]) < 0.03f)) return false;
    return true;
}

// Of bfloat16; with the quickest hidden numbers that the processor has, if the network's fit into them.
std::unique_ptr<House> housed_half(const Numbers& numbers, const Reader& reader) {
    auto exact = housed<bf16, bf16>(numbers, reader);
    if constexpr (!std::is_same<Hidden<bf16>, bf16>()) {
        auto quick = housed<bf16, Hidden<bf16>>(numbers, reader);
        if (alike(*quick, *exact, numbers)) return quick;
    }
    return exact;
}

#pragma GCC visibility push(default)
extern "C" {

// A network of these weights, or null, and why in `message`.
void* build(const int* numbers, const float* weights, long count, int half, char* message, long room) {
    try {
        Numbers n;
        std::memcpy(&n, numbers, sizeof n);
        const Reader reader(weights, count);
        return (half ? housed_half(n, reader) : housed<float, float>(n, reader)).release();
    } catch (const std::exception& error) {
        std::strncpy(message, error.what(), room - 1);
        return nullptr;
    }
}

// Whether products of bfloat16 use hardware tiles, which rounds in another order.
int tiles() { return tiles_allowed(); }

// As `Any::embed`, whose `rows` may be null; 0 unless memory ran out.
int embed(void* network, const uint8_t* picture, int channels, int threads, float* out, float* rows) {
    try {
        (*static_cast<Housed<Any>*>(network))->embed(picture, channels, threads, out, rows);
        return 0;
    } catch (...) {
        return 1;
    }
}

void destroy(void* network) { delete static_cast<Housed<Any>*>(network); }
}
#pragma GCC visibility pop
