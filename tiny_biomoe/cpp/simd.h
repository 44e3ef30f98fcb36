// Vectors of float32, as wide as the processor has them, in GCC's and Clang's notation for vectors.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int LANES = 16, ROWS = 14;  // ROWS x PANEL sums fit the registers: 28 of 32
#elif defined(__AVX2__)
constexpr int LANES = 8, ROWS = 6;  // 12 of 16
#elif defined(__x86_64__)
constexpr int LANES = 4, ROWS = 6;  // 12 of 16
#else
constexpr int LANES = 4, ROWS = 14;  // 28 of 32, as on ARM
#endif
constexpr int PANEL = 2 * LANES;  // columns of a product that are computed at once

typedef float Vec __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t Words __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));

struct bf16 {  // the upper half of a float32
    uint16_t bits;
};

inline Vec all(float x) { return x - Vec{}; }

inline Vec load(const float* p) {
    Vec v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

inline void store(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }

inline Vec load(const bf16* p) {
    Halves h;
    std::memcpy(&h, p, sizeof h);
    return (Vec)(__builtin_convertvector(h, Words) << 16);
}

// Rounded to nearest, ties to even: the upper halves.
inline Words rounded(Vec v) {
    const Words w = (Words)v;
    return w + 0x7fff + ((w >> 16) & 1);
}

inline void store(bf16* p, Vec v) {
    Halves h = __builtin_convertvector(rounded(v) >> 16, Halves);
    std::memcpy(p, &h, sizeof h);
}

// As many numbers as two vectors hold, in an order that costs least: `order(i)` says which one place i of the two is.
struct Two {
    Vec a, b;
};

template <class T>
constexpr int order(int i) {
    return sizeof(T) == 4 ? i : i < LANES ? 2 * i : 2 * (i - LANES) + 1;
}

inline Two load2(const float* p) { return {load(p), load(p + LANES)}; }
inline Two load2(const bf16* p) {
    Words w;
    std::memcpy(&w, p, sizeof w);
    return {(Vec)(w << 16), (Vec)(w & 0xffff0000)};
}

inline void store2(float* p, Two x) {
    store(p, x.a);
    store(p + LANES, x.b);
}
inline void store2(bf16* p, Two x) {
    const Words w = (rounded(x.a) >> 16) | (rounded(x.b) & 0xffff0000);
    std::memcpy(p, &w, sizeof w);
}

inline bf16 narrow(float x) {
    uint32_t w;
    std::memcpy(&w, &x, 4);
    return {uint16_t((w + 0x7fff + ((w >> 16) & 1)) >> 16)};
}

inline void assign(float& to, float x) { to = x; }
inline void assign(bf16& to, float x) { to = narrow(x); }

// Of two numbers; NaN where the first one is, so that nothing hides it.
inline Vec larger(Vec x, Vec least) { return x < least ? least : x; }
inline Vec smaller(Vec x, Vec most) { return x > most ? most : x; }

inline float sum(Vec v) {
    float total = 0;
    for (int i = 0; i < LANES; ++i) total += v[i];
    return total;
}

// 1 / x to 24 bits, for x that is neither huge nor tiny.
inline Vec inverse(Vec x) {
#if defined(__AVX512F__)
    Vec y = (Vec)_mm512_rcp14_ps((__m512)x);
    return y + y * (1.0f - x * y);
#else
    return 1.0f / x;
#endif
}

// Sums of powers, the highest coefficient last.
template <int N>
inline Vec polynomial(Vec x, const float (&coefficients)[N]) {
    Vec y = all(coefficients[N - 1]);
    for (int i = N - 2; i >= 0; --i) y = y * x + coefficients[i];
    return y;
}

// e^x to two units in the last place, from e^-87 to e^88: what is smaller or larger is these.
inline Vec exponential(Vec x) {
    x = smaller(larger(x, all(-87)), all(88));
    const Vec shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: the sum is rounded to whole numbers
    const Vec n = shifted - 12582912.0f;
    const Vec rest = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // x - n ln 2, |rest| < 0.35
    const float taylor[] = {1, 1, 1 / 2.0f, 1 / 6.0f, 1 / 24.0f, 1 / 120.0f, 1 / 720.0f, 1 / 5040.0f};
    const Ints power = ((Ints)shifted - 0x4b400000 + 127) << 23;
    return polynomial(rest, taylor) * (Vec)power;
}

// x times the normal distribution's share below x; erf by a quotient fitted to it, 7e-8 off up to 4 and constant beyond.
inline Vec gelu(Vec x) {
    const float above[] = {1.12837873f, 0.202495119f, 0.0543073289f, 0.00427766686f, 2.9527404e-4f, 1.93949067e-6f};
    const float below[] = {1, 0.512785403f, 0.119072536f, 0.0159886865f, 0.00128500769f, 3.74958739e-5f};
    const Vec z = smaller(larger(x * 0.707106781f, all(-4)), all(4));
    const Vec t = z * z;
    const Vec erf = z * polynomial(t, above) * inverse(polynomial(t, below));
    const Vec half = 0.5f * x;
    return half + half * erf;
}
