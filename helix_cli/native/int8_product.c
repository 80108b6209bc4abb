/* Rows of float times a matrix of eight-bit weights, summed exactly in integers.
 *
 * Each row is rounded to -LEVELS .. LEVELS with a scale of its own, so its result does not depend on the other rows. A
 * weight w is stored as the unsigned w + 128, OUTS outputs side by side, 32 inputs at a time: [n / OUTS][k / 32][OUTS][32],
 * one stream for the memory to fetch. The rounded rows of a group lie likewise, [k / 32][rows][32], which takes one address
 * for all of them. Few rows wait for the weights; many are taken BLOCK at a time, to stay in the second-level cache.
 *
 * x86 multiplies unsigned by signed bytes; what the 128 added is taken off again for the whole row. AVX2 adds two such
 * products in 16 bits: 2 * 255 * 63 < 2^15, so with 7 bits nothing can saturate. VNNI adds four in 32 bits, which leaves
 * room for 8. Elsewhere the compiler makes of the plain loop what the processor has.
 */

#include <float.h>
#include <math.h>
#include <stdint.h>

#ifdef __AVX2__
#include <immintrin.h>
#endif

#if defined(__AVX2__) && !defined(__AVX512VNNI__) && !defined(__AVXVNNI__)
enum { LEVELS = 63 };
#else
enum { LEVELS = 127 };
#endif

/* As many rows at a time, and outputs, as their sums fill the registers. */
#ifdef __AVX512VNNI__
enum { GROUP = 8, OUTS = 4 };
#else
enum { GROUP = 6, OUTS = 2 };
#endif

enum { WIDTH = 32, BLOCK = 64, OFFSET = 128, AHEAD = 4096, ALONE = 1 << 15 };
#define INLINE static inline __attribute__((always_inline))

/* The largest value of a rounded input, and the outputs that lie side by side. */
void helix_int8_form(int *levels, int *outs) { *levels = LEVELS, *outs = OUTS; }

/* Rounds a row; every 32 values of it are `stride` bytes after those before. */
static void round_row(const float *x, long k, long stride, int8_t *out, float *scale, int32_t *sum) {
    float largest = 0.0f;
    int broken = 0;
    for (long i = 0; i < k; i++) {
        float size = fabsf(x[i]);
        broken |= !(size <= FLT_MAX);
        largest = size > largest ? size : largest;
    }
    /* What is not finite must come out not finite, so that the engine sees it. */
    *scale = broken ? NAN : largest / LEVELS;
    float inverse = broken || largest < FLT_MIN ? 0.0f : LEVELS / largest;
    int32_t all = 0;
    for (long begin = 0; begin < k; begin += WIDTH, out += stride) {
        long count = k - begin < WIDTH ? k - begin : WIDTH;
        for (long i = 0; i < count; i++) {
            float value = broken ? 0.0f : nearbyintf(x[begin + i] * inverse);
            int8_t whole = (int8_t)(value > LEVELS ? LEVELS : value < -LEVELS ? -LEVELS : value);
            all += whole;
            out[i] = whole;
        }
        for (long i = count; i < WIDTH; i++) out[i] = 0;
    }
    *sum = OFFSET * all;
}

/* Sums of `rows` rows with the outputs at w; `rows` is a constant wherever this is inlined. */
#ifdef __AVX512VNNI__
INLINE void sums(const int8_t *x, long padded, const uint8_t *w, const int rows, int32_t out[GROUP][OUTS]) {
    __m512i acc[GROUP][2];
    for (int r = 0; r < rows; r++) acc[r][0] = acc[r][1] = _mm512_setzero_si512();
    for (long i = 0; i < padded; i += WIDTH, w += OUTS * WIDTH, x += rows * WIDTH) {
        _mm_prefetch((const char *)w + AHEAD, _MM_HINT_T0);
        _mm_prefetch((const char *)w + AHEAD + 64, _MM_HINT_T0);
        __m512i w01 = _mm512_loadu_si512(w), w23 = _mm512_loadu_si512(w + 2 * WIDTH);
        for (int r = 0; r < rows; r++) {
            __m512i v = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(x + r * WIDTH)));
            acc[r][0] = _mm512_dpbusd_epi32(acc[r][0], w01, v), acc[r][1] = _mm512_dpbusd_epi32(acc[r][1], w23, v);
        }
    }
    for (int r = 0; r < rows; r++) {
        /* Each half belongs to an output: pairs of sums, then their pairs, then the two quarters of each half. */
        __m512i pairs = _mm512_add_epi32(_mm512_unpacklo_epi32(acc[r][0], acc[r][1]), _mm512_unpackhi_epi32(acc[r][0], acc[r][1]));
        pairs = _mm512_add_epi32(pairs, _mm512_shuffle_epi32(pairs, 0x4e));
        __m256i low = _mm512_castsi512_si256(pairs), high = _mm512_extracti64x4_epi64(pairs, 1);
        __m128i first = _mm_add_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
        __m128i second = _mm_add_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
        /* Lanes 0 and 1 of `first` are outputs 0 and 2, of `second` 1 and 3. */
        _mm_storeu_si128((__m128i *)out[r], _mm_unpacklo_epi32(first, second));
    }
}
#elif defined(__AVX2__)
static inline int32_t total(__m256i v) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

/* acc + the sums of each four products of `w`, unsigned, with `x`, signed. */
INLINE __m256i dot(__m256i acc, __m256i w, __m256i x) {
#ifdef __AVXVNNI__
    return _mm256_dpbusd_avx_epi32(acc, w, x);
#else
    return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
#endif
}

INLINE void sums(const int8_t *x, long padded, const uint8_t *w, const int rows, int32_t out[GROUP][OUTS]) {
    __m256i acc[GROUP][OUTS];
    for (int r = 0; r < rows; r++) acc[r][0] = acc[r][1] = _mm256_setzero_si256();
    for (long i = 0; i < padded; i += WIDTH, w += OUTS * WIDTH, x += rows * WIDTH) {
        _mm_prefetch((const char *)w + AHEAD, _MM_HINT_T0);
        __m256i w0 = _mm256_loadu_si256((const __m256i *)w), w1 = _mm256_loadu_si256((const __m256i *)(w + WIDTH));
        for (int r = 0; r < rows; r++) {
            __m256i v = _mm256_loadu_si256((const __m256i *)(x + r * WIDTH));
            acc[r][0] = dot(acc[r][0], w0, v), acc[r][1] = dot(acc[r][1], w1, v);
        }
    }
    for (int r = 0; r < rows; r++) out[r][0] = total(acc[r][0]), out[r][1] = total(acc[r][1]);
}
#else
INLINE void sums(const int8_t *x, long padded, const uint8_t *w, const int rows, int32_t out[GROUP][OUTS]) {
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < OUTS; j++) {
            int32_t sum = 0;
            for (long i = 0; i < padded; i += WIDTH)
                for (int l = 0; l < WIDTH; l++) sum += x[i * rows + r * WIDTH + l] * w[i * OUTS + j * WIDTH + l];
            out[r][j] = sum;
        }
}
#endif

static void group_sums(const int8_t *x, long padded, const uint8_t *w, long rows, int32_t out[GROUP][OUTS]) {
    switch (rows) {
    case 1: sums(x, padded, w, 1, out); break;
    case 2: sums(x, padded, w, 2, out); break;
    case 3: sums(x, padded, w, 3, out); break;
    case 4: sums(x, padded, w, 4, out); break;
    case 5: sums(x, padded, w, 5, out); break;
    case 6: sums(x, padded, w, 6, out); break;
#ifdef __AVX512VNNI__
    case 7: sums(x, padded, w, 7, out); break;
    case 8: sums(x, padded, w, 8, out); break;
#endif
    }
}

/* Rows of a group where `rows` are shared among as few groups as there may be. */
static long group_size(long rows) {
    long groups = (rows + GROUP - 1) / GROUP;
    return (rows + groups - 1) / groups;
}

/* y[m][n] = x[m][k] . w[n][k] * scales[n] (+ bias[n]) (+ added[m][n]); the last three are room to work in. */
void helix_int8(const float *x, long m, long k, const uint8_t *w, const float *scales, long n, const float *bias,
                const float *added, float *y, int threads, int8_t *rounded, float *row_scales, int32_t *row_sums) {
    long padded = (k + WIDTH - 1) / WIDTH * WIDTH, parts = (n + OUTS - 1) / OUTS;
    /* Waking a second thread costs as much as a small product. */
    if (m * n * k < ALONE) threads = 1;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (long r = 0; r < m; r++) {
            long block = r / BLOCK * BLOCK, end = block + BLOCK < m ? block + BLOCK : m;
            long group = group_size(end - block), first = block + (r - block) / group * group;
            long rows = end - first < group ? end - first : group;
            int8_t *place = rounded + first * padded + (r - first) * WIDTH;
            round_row(x + r * k, k, rows * WIDTH, place, row_scales + r, row_sums + r);
        }
        for (long block = 0; block < m; block += BLOCK) {
            long end = block + BLOCK < m ? block + BLOCK : m, group = group_size(end - block);
#pragma omp for schedule(static) nowait
            for (long part = 0; part < parts; part++) {
                const uint8_t *columns = w + part * OUTS * padded;
                for (long first = block; first < end; first += group) {
                    long rows = end - first < group ? end - first : group;
                    int32_t sum[GROUP][OUTS];
                    group_sums(rounded + first * padded, padded, columns, rows, sum);
                    for (long r = 0; r < rows; r++)
                        for (long j = 0; j < OUTS && part * OUTS + j < n; j++) {
                            long row = first + r, column = part * OUTS + j;
                            float value = (float)(sum[r][j] - row_sums[row]) * (row_scales[row] * scales[column]);
                            if (bias) value += bias[column];
                            if (added) value += added[row * n + column];
                            y[row * n + column] = value;
                        }
                }
            }
        }
    }
}
