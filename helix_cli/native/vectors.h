/* Vectors of floats in the widest registers there are, as the compiler's own extension: one source for every processor. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __FMA__
#include <immintrin.h>
#endif

#ifdef __AVX512F__
enum { WIDTH = 16 };
#else
enum { WIDTH = 8 };
#endif

typedef float vector __attribute__((vector_size(4 * WIDTH)));
typedef uint32_t words __attribute__((vector_size(4 * WIDTH)));
typedef int32_t integers __attribute__((vector_size(4 * WIDTH)));
#define INLINE static inline __attribute__((always_inline))

/* a * b + c. Written out, because a compiler that may fuse does so in one place and not in another, and then a row's
 * bits depend on its company. */
INLINE vector fused(vector a, vector b, vector c) {
#if defined(__AVX512F__)
    return (vector)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
    return (vector)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

INLINE vector load_floats(const float *x) {
    vector v;
    memcpy(&v, x, sizeof v);
    return v;
}

INLINE void store_floats(float *x, vector v) { memcpy(x, &v, sizeof v); }

INLINE vector all_lanes(float x) { return x - (vector){0}; }

#ifdef __FMA__
INLINE __m128 quarter(vector v) {
#ifdef __AVX512F__
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256((__m512)v), _mm512_extractf32x8_ps((__m512)v, 1));
#else
    __m256 half = (__m256)v;
#endif
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}
#endif

/* The sums of the lanes of four vectors, each always in the same order: the upper half on the lower, and so on. */
INLINE void lane_sums(vector a, vector b, vector c, vector d, float sums[4]) {
#ifdef __FMA__
    __m128 qa = quarter(a), qb = quarter(b), qc = quarter(c), qd = quarter(d);
    __m128 ab = _mm_add_ps(_mm_movelh_ps(qa, qb), _mm_movehl_ps(qb, qa));
    __m128 cd = _mm_add_ps(_mm_movelh_ps(qc, qd), _mm_movehl_ps(qd, qc));
    _mm_storeu_ps(sums, _mm_add_ps(_mm_shuffle_ps(ab, cd, 0x88), _mm_shuffle_ps(ab, cd, 0xdd)));
#else
    vector all[4] = {a, b, c, d};
    for (int i = 0; i < 4; i++) {
        vector v = all[i];
        for (int half = WIDTH / 2; half > 0; half /= 2)
            for (int lane = 0; lane < half; lane++) v[lane] += v[lane + half];
        sums[i] = v[0];
    }
#endif
}

/* The sum of the lanes of one vector, in the order of `lane_sums`. */
INLINE float lane_sum(vector v) {
    float sums[4];
    lane_sums(v, v, v, v, sums);
    return sums[0];
}

/* e to the power of x for x <= 88, to about 2e-7 of its value; 0 below -87, and NaN of NaN. */
INLINE vector exponential(vector x) {
    const vector low = all_lanes(-87.0f);
    integers under = x < low;
    vector kept = (vector)(((integers)low & under) | ((integers)x & ~under));
    vector scaled = kept * all_lanes(1.44269504f) + all_lanes(12582912.0f);
    vector whole = scaled - all_lanes(12582912.0f);
    vector rest = fused(whole, all_lanes(-0.693359375f), kept);
    rest = fused(whole, all_lanes(2.12194440e-4f), rest);
    vector power = all_lanes(1.9875691500e-4f);
    power = fused(power, rest, all_lanes(1.3981999507e-3f));
    power = fused(power, rest, all_lanes(8.3334519073e-3f));
    power = fused(power, rest, all_lanes(4.1665795894e-2f));
    power = fused(power, rest, all_lanes(1.6666665459e-1f));
    power = fused(power, rest, all_lanes(5.0000001201e-1f));
    power = fused(power, rest * rest, rest) + all_lanes(1.0f);
    integers exponent = (__builtin_convertvector(whole, integers) + 127) << 23;
    vector value = power * (vector)exponent;
    return (vector)((integers)value & ~under);
}
