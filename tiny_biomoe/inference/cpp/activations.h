// The functions of one number, a vector of them at a time.
#pragma once

#include "simd.h"

// Sums of powers, the highest coefficient last.
template <int N>
inline Vec polynomial(Vec x, const float (&coefficients)[N]) {
    Vec y = all(coefficients[N - 1]);
#pragma GCC unroll 8
    for (int i = N - 2; i >= 0; --i) y = y * x + coefficients[i];
    return y;
}

// e^x to three units in the last place, for x up to 88; e^-87 for what is smaller.
inline Vec exponential(Vec x) {
    x = larger(x, all(-87));
    const Vec shifted = x * 1.44269504f + ROUNDING, n = shifted - ROUNDING;
    const Vec rest = x - n * 0.693145752f - n * 1.42860677e-6f;  // x - n ln 2, |rest| < 0.35
    constexpr float taylor[] = {1, 1, 1 / 2.0f, 1 / 6.0f, 1 / 24.0f, 1 / 120.0f, 1 / 720.0f};
    const Vec power = (Vec)(((Ints)shifted - (Ints)all(ROUNDING) + 127) << 23);
    return polynomial(rest, taylor) * power;
}

#if defined(__AVX512F__)
// By how much max(x, 0) exceeds GELU: |x| times the share of the normal distribution beyond it, by Taylor's series about
// the nearest of 32 places. Beyond 5.7, where it is 3e-8, it is nothing, and NaN of an infinite x.
template <int DEGREE>
struct Excess {
    static constexpr int PLACES = 2 * LANES;
    static constexpr float STEP = 0.1875f;
    alignas(64) float terms[DEGREE + 1][PLACES] = {};

    Excess() {
        for (int i = 0; i < PLACES - 1; ++i) {
            const double a = i * STEP, density = std::exp(-a * a / 2) / std::sqrt(2 * std::acos(-1.0));
            const double beyond = std::erfc(a / std::sqrt(2.0)) / 2;
            const double derivatives[] = {a * beyond, beyond - a * density, (a * a - 2) * density,
                                          (4 * a - a * a * a) * density, (a * a * a * a - 7 * a * a + 4) * density};
            double scale = 1;
            for (int k = 0; k <= DEGREE; scale *= STEP / ++k) terms[k][i] = float(derivatives[k] * scale);
        }
    }

    Vec operator()(Vec x) const {
        const Vec steps = (Vec)_mm512_abs_ps((__m512)(x * (1 / STEP)));
        const Vec shifted = smaller(steps + ROUNDING, all(ROUNDING + PLACES - 1)), rest = steps - (shifted - ROUNDING);
        const auto term = [&](int k) {
            return (Vec)_mm512_permutex2var_ps((__m512)load(terms[k]), (__m512i)shifted, (__m512)load(terms[k] + LANES));
        };
        Vec y = term(DEGREE);
#pragma GCC unroll 8
        for (int k = DEGREE - 1; k >= 0; --k) y = y * rest + term(k);
        return y;
    }
};

template <class T>
inline const Excess<sizeof(T) == 4 ? 4 : 2> excess;

#if defined(__AVX512FP16__)
// The same of 32 numbers of 16 bits, all of whose terms lie in registers.
struct Fp16Excess {
    Fp16Vec terms[3];

    Fp16Excess() {
        const Excess<2> exact;
        for (int k = 0; k < 3; ++k)
            for (int i = 0; i < 32; ++i) terms[k][i] = fp16(exact.terms[k][i]);
    }

    Fp16Vec operator()(Fp16Vec x) const {
        constexpr fp16 rounding = 1536;  // 1.5 * 2^10, see ROUNDING
        const Fp16Vec steps = (Fp16Vec)_mm512_abs_ph((__m512h)(x * fp16(1 / Excess<2>::STEP)));
        const Fp16Vec shifted = (Fp16Vec)_mm512_min_ph((__m512h)(rounding + 31 - Fp16Vec{}), (__m512h)(steps + rounding));
        const Fp16Vec rest = steps - (shifted - rounding);
        const auto term = [&](int k) { return (Fp16Vec)_mm512_permutexvar_epi16((__m512i)shifted, (__m512i)terms[k]); };
        return (term(2) * rest + term(1)) * rest + term(0);
    }
};
inline const Fp16Excess fp16_excess;
#endif

// x times the normal distribution's share below x, off by at most 2e-7; for numbers of bfloat16 by 1e-4, of fp16 by 1e-3
// (and NaN beyond 12 284).
template <class T>
struct Gelu {
    Vec operator()(Vec x) const { return larger(x, Vec{}) - excess<T>(x); }
#if defined(__AVX512FP16__)
    Fp16Vec operator()(Fp16Vec x) const { return (Fp16Vec)_mm512_max_ph(__m512h{}, (__m512h)x) - fp16_excess(x); }
#endif
};
#else
// x times the normal distribution's share below x; erf by a quotient fitted to it, 7e-8 off up to 4 and constant beyond.
template <class>
struct Gelu {
    Vec operator()(Vec x) const {
        constexpr float above[] = {1.12837873f,    0.202495119f,  0.0543073289f,
                                   0.00427766686f, 2.9527404e-4f, 1.93949067e-6f};
        constexpr float below[] = {1, 0.512785403f, 0.119072536f, 0.0159886865f, 0.00128500769f, 3.74958739e-5f};
        const Vec z = smaller(larger(x * 0.707106781f, all(-4)), all(4));
        const Vec t = z * z;
        const Vec erf = z * polynomial(t, above) / polynomial(t, below);
        const Vec half = 0.5f * x;
        return half + half * erf;
    }
};
#endif

struct Linear {
    Vec operator()(Vec x) const { return x; }
};

struct Relu {
    Vec operator()(Vec x) const { return larger(x, Vec{}); }
#if defined(__AVX512FP16__)
    Fp16Vec operator()(Fp16Vec x) const { return (Fp16Vec)_mm512_max_ph(__m512h{}, (__m512h)x) + x * fp16(0); }  // NaN of -inf
#endif
};

inline Vec sigmoid(Vec x) { return 1.0f / (1.0f + exponential(smaller(-x, all(88)))); }
