// Vectors of float32, as wide as the processor has them, in GCC's and Clang's notation for vectors.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__)
constexpr int LANES = 16, ROWS = 14;  // ROWS x PANEL sums fit the registers: 28 of 32
#elif defined(__AVX2__)
constexpr int LANES = 8, ROWS = 6;  // 12 of 16
#elif defined(__x86_64__)
constexpr int LANES = 4, ROWS = 6;  // 12 of 16
#else
constexpr int LANES = 4, ROWS = 14;  // 28 of 32, as of NEON
#endif
constexpr int PARTS = LANES < 8 ? 8 / LANES : 1;  // vectors that a sum of many is gathered in: so 4 lanes round as 8 do
constexpr int PANEL = 2 * LANES;  // columns of a product that are computed at once

typedef float Vec __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t Words __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));

struct bf16 {  // the upper half of a float32
    uint16_t bits;
};

constexpr float ROUNDING = 12582912;  // 1.5 * 2^23: a sum with it is rounded to whole numbers, which its last bits are

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

// One vector, or two behind one another.
inline void store(bf16* p, Vec v) {
#if defined(__AVX512BF16__)
    const __m256bh h = _mm512_cvtneps_pbh((__m512)v);
#else
    const Halves h = __builtin_convertvector(rounded(v) >> 16, Halves);
#endif
    std::memcpy(p, &h, sizeof h);
}
inline void store(float* p, Vec v, Vec w) {
    store(p, v);
    store(p + LANES, w);
}
inline void store(bf16* p, Vec v, Vec w) {
#if defined(__AVX512BF16__)
    const __m512bh both = _mm512_cvtne2ps_pbh((__m512)w, (__m512)v);
    std::memcpy(p, &both, sizeof both);
#else
    store(p, v);
    store(p + LANES, w);
#endif
}

// The first n numbers of a vector.
inline void store_some(float* p, Vec v, int n) {
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1), (__m512)v);
#else
    std::memcpy(p, &v, 4 * n);
#endif
}
inline void store_some(bf16* p, Vec v, int n) {
#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__)
    _mm256_mask_storeu_epi16(p, __mmask16((1u << n) - 1), (__m256i)_mm512_cvtneps_pbh((__m512)v));
#else
    bf16 part[LANES];
    store(part, v);
    std::memcpy(p, part, 2 * n);
#endif
}

#if defined(__AVX512FP16__)
// Numbers of 16 bits whose sums and products the processor computes 32 at a time. From 6e-5 to 65504 they are eight times
// as fine as bfloat16, and down to 1e-5 as fine; what is larger must end as NaN, not unnoticed.
typedef _Float16 fp16;
typedef fp16 Fp16Vec __attribute__((vector_size(64)));

inline void store(fp16* p, Vec v, Vec w) {
    const __m256i a = _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT), b = _mm512_cvtps_ph((__m512)w, _MM_FROUND_TO_NEAREST_INT);
    std::memcpy(p, &a, sizeof a);
    std::memcpy(p + LANES, &b, sizeof b);
}
inline void store_some(fp16* p, Vec v, int n) {
    _mm256_mask_storeu_epi16(p, __mmask16((1u << n) - 1), _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT));
}
#endif

// The first n numbers of two vectors.
template <class T>
inline void store_some(T* p, Vec v, Vec w, int n) {
    if (n == PANEL) return store(p, v, w);
    store_some(p, v, std::min(n, LANES));
    if (n > LANES) store_some(p + LANES, w, n - LANES);
}

// As many numbers as two vectors hold, in an order that costs least: `order(i)` gives which one place i of the two is.
struct Two {
    Vec a, b;
};

template <class T>
constexpr int order(int i) {
    return !std::is_same<T, bf16>() ? i : i < LANES ? 2 * i : 2 * (i - LANES) + 1;
}

inline Two load2(const float* p) { return {load(p), load(p + LANES)}; }
inline Two load2(const bf16* p) {
    Words w;
    std::memcpy(&w, p, sizeof w);
    return {(Vec)(w << 16), (Vec)(w & 0xffff0000)};
}

inline void store2(float* p, Two x) { store(p, x.a, x.b); }
inline void store2(bf16* p, Two x) {
    const Words w = (rounded(x.a) >> 16) | (rounded(x.b) & 0xffff0000);
    std::memcpy(p, &w, sizeof w);
}

// a * b + c * d, and a * b - c * d. A compiler rounds one of the products, and on ARM not the one that it rounds on x86.
#if defined(__aarch64__)
inline Vec products(Vec a, Vec b, Vec c, Vec d) { return (Vec)vfmaq_f32((float32x4_t)(c * d), (float32x4_t)a, (float32x4_t)b); }
inline Vec less_product(Vec a, Vec b, Vec c, Vec d) { return (Vec)vfmaq_f32((float32x4_t)(-(c * d)), (float32x4_t)a, (float32x4_t)b); }
#else
inline Vec products(Vec a, Vec b, Vec c, Vec d) { return a * b + c * d; }
inline Vec less_product(Vec a, Vec b, Vec c, Vec d) { return a * b - c * d; }
#endif

inline void add_product(Two& sum, Two x, Two y) {
    sum.a += x.a * y.a;
    sum.b += x.b * y.b;
}
template <class Function>
Two each_of(const Function& function, Two x) {
    return {function(x.a), function(x.b)};
}

#if defined(__AVX512FP16__)
inline Fp16Vec load2(const fp16* p) {
    Fp16Vec v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
inline void store2(bf16* p, Fp16Vec x) {
    const auto part = [&](auto extract) { return (Vec)_mm512_cvtph_ps(extract); };
    const __m512i w = (__m512i)x;
    store(p, part(_mm512_castsi512_si256(w)), part(_mm512_extracti64x4_epi64(w, 1)));
}
inline void add_product(Fp16Vec& sum, Fp16Vec x, Fp16Vec y) { sum += x * y; }
template <class Function>
Fp16Vec each_of(const Function& function, Fp16Vec x) {
    return function(x);
}

template <class T>
using Hidden = std::conditional_t<std::is_same<T, bf16>::value, fp16, T>;  // of maps between two products
template <class T>
using Weight = std::conditional_t<std::is_same<T, fp16>::value, fp16, float>;  // that such a map is multiplied with
#else
template <class T>
using Hidden = T;
template <class T>
using Weight = float;
#endif

inline bf16 narrow(float x) {
    uint32_t w;
    std::memcpy(&w, &x, 4);
    return {uint16_t((w + 0x7fff + ((w >> 16) & 1)) >> 16)};
}

inline void assign(float& to, float x) { to = x; }
inline void assign(bf16& to, float x) { to = narrow(x); }

// Of two numbers; NaN where the first one is, so that nothing hides it.
#if defined(__AVX512F__)
inline Vec larger(Vec x, Vec least) { return (Vec)_mm512_max_ps((__m512)least, (__m512)x); }
inline Vec smaller(Vec x, Vec most) { return (Vec)_mm512_min_ps((__m512)most, (__m512)x); }
#else
inline Vec larger(Vec x, Vec least) { return x < least ? least : x; }
inline Vec smaller(Vec x, Vec most) { return x > most ? most : x; }
#endif

// Of all numbers of some vectors, half by half.
inline float sum(const Vec (&parts)[PARTS]) {
    Vec v = parts[0];
    for (int i = 1; i < PARTS; ++i) v += parts[i];
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)v);
#else
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; ++i) v[i] += v[i + half];
    return v[0];
#endif
}

// NaN may go unnoticed here: whoever subtracts the largest finds it again.
inline float largest(Vec v) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)v);
#else
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; ++i) v[i] = std::max(v[i], v[i + half]);
    return v[0];
#endif
}
