/* Rows of float times a matrix of eight-bit weights, summed exactly in integers.
 *
 * Each row is rounded to -LEVELS .. LEVELS with a scale of its own, so its result does not depend on the other rows. A
 * weight w is stored as the unsigned w + 128, two outputs side by side, 32 inputs at a time: [n / 2][k / 32][2][32], one
 * stream for the memory to fetch. Few rows wait for that stream; many are taken 64 at a time, to stay in the second-level
 * cache.
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

/* Sums that fill the registers: as many rows at a time, and pairs of outputs. */
#ifdef __AVX512VNNI__
enum { GROUP = 12, PAIRS = 2 };
#else
enum { GROUP = 6, PAIRS = 1 };
#endif

#define INLINE static inline __attribute__((always_inline))
enum { WIDTH = 32, PAIR = 2, OUTS = PAIRS * PAIR, BLOCK = 60, OFFSET = 128, AHEAD = 4096, ALONE = 1 << 15 };

/* The largest value of a rounded input. */
void helix_int8_levels(int *levels) { *levels = LEVELS; }

static void round_row(const float *x, long k, long padded, int8_t *out, float *scale, int32_t *sum) {
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
    for (long i = 0; i < k; i++) {
        float value = broken ? 0.0f : nearbyintf(x[i] * inverse);
        int8_t whole = (int8_t)(value > LEVELS ? LEVELS : value < -LEVELS ? -LEVELS : value);
        all += whole;
        out[i] = whole;
    }
    for (long i = k; i < padded; i++) out[i] = 0;
    *sum = OFFSET * all;
}

#ifdef __AVX2__
static inline int32_t total(__m256i v) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}
#endif

/* Sums of `rows` rows with the outputs of `pairs` pairs from w on; both are constants wherever this is inlined. */
#ifdef __AVX512VNNI__
INLINE void sums(const int8_t *x, long padded, const uint8_t *w, const int rows, const int pairs, int32_t out[GROUP][OUTS]) {
    __m512i acc[GROUP][PAIRS];
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < pairs; p++) acc[r][p] = _mm512_setzero_si512();
    for (long i = 0; i < padded; i += WIDTH, w += PAIR * WIDTH) {
        __m512i both[PAIRS];
        for (int p = 0; p < pairs; p++) {
            const uint8_t *pair = w + p * PAIR * padded;
            _mm_prefetch((const char *)pair + AHEAD, _MM_HINT_T0);
            both[p] = _mm512_loadu_si512(pair);
        }
        for (int r = 0; r < rows; r++) {
            __m512i v = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(x + r * padded + i)));
            for (int p = 0; p < pairs; p++) acc[r][p] = _mm512_dpbusd_epi32(acc[r][p], both[p], v);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < pairs; p++) {
            out[r][PAIR * p] = total(_mm512_castsi512_si256(acc[r][p]));
            out[r][PAIR * p + 1] = total(_mm512_extracti64x4_epi64(acc[r][p], 1));
        }
}
#elif defined(__AVX2__)
/* acc + the sums of each four products of `w`, unsigned, with `x`, signed. */
INLINE __m256i dot(__m256i acc, __m256i w, __m256i x) {
#ifdef __AVXVNNI__
    return _mm256_dpbusd_avx_epi32(acc, w, x);
#else
    return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
#endif
}

INLINE void sums(const int8_t *x, long padded, const uint8_t *w, const int rows, const int pairs, int32_t out[GROUP][OUTS]) {
    (void)pairs;
    __m256i acc[GROUP][PAIR];
    for (int r = 0; r < rows; r++) acc[r][0] = acc[r][1] = _mm256_setzero_si256();
    for (long i = 0; i < padded; i += WIDTH, w += PAIR * WIDTH) {
        _mm_prefetch((const char *)w + AHEAD, _MM_HINT_T0);
        __m256i w0 = _mm256_loadu_si256((const __m256i *)w), w1 = _mm256_loadu_si256((const __m256i *)(w + WIDTH));
        for (int r = 0; r < rows; r++) {
            __m256i v = _mm256_loadu_si256((const __m256i *)(x + r * padded + i));
            acc[r][0] = dot(acc[r][0], w0, v), acc[r][1] = dot(acc[r][1], w1, v);
        }
    }
    for (int r = 0; r < rows; r++) out[r][0] = total(acc[r][0]), out[r][1] = total(acc[r][1]);
}
#else
INLINE void sums(const int8_t *x, long padded, const uint8_t *w, const int rows, const int pairs, int32_t out[GROUP][OUTS]) {
    (void)pairs;
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < PAIR; j++) {
            int32_t sum = 0;
            for (long i = 0; i < padded; i += WIDTH)
                for (int l = 0; l < WIDTH; l++) sum += x[r * padded + i + l] * w[i * PAIR + j * WIDTH + l];
            out[r][j] = sum;
        }
}
#endif

INLINE void group_sums(const int8_t *x, long padded, const uint8_t *w, long rows, const int pairs, int32_t out[GROUP][OUTS]) {
    switch (rows) {
    case 1: sums(x, padded, w, 1, pairs, out); break;
    case 2: sums(x, padded, w, 2, pairs, out); break;
    case 3: sums(x, padded, w, 3, pairs, out); break;
    case 4: sums(x, padded, w, 4, pairs, out); break;
    case 5: sums(x, padded, w, 5, pairs, out); break;
#ifdef __AVX512VNNI__
    case 6: sums(x, padded, w, 6, pairs, out); break;
    case 7: sums(x, padded, w, 7, pairs, out); break;
    case 8: sums(x, padded, w, 8, pairs, out); break;
    case 9: sums(x, padded, w, 9, pairs, out); break;
    case 10: sums(x, padded, w, 10, pairs, out); break;
    case 11: sums(x, padded, w, 11, pairs, out); break;
#endif
    default: sums(x, padded, w, GROUP, pairs, out);
    }
}

/* y[m][n] = x[m][k] . w[n][k] * scales[n] (+ bias[n]) (+ added[m][n]); the last three are room to work in. */
void helix_int8(const float *x, long m, long k, const uint8_t *w, const float *scales, long n, const float *bias,
                const float *added, float *y, int threads, int8_t *rounded, float *row_scales, int32_t *row_sums) {
    long padded = (k + WIDTH - 1) / WIDTH * WIDTH, pairs = (n + PAIR - 1) / PAIR, parts = (pairs + PAIRS - 1) / PAIRS;
    /* Waking a second thread costs as much as a small product. */
    if (m * n * k < ALONE) threads = 1;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (long r = 0; r < m; r++)
            round_row(x + r * k, k, padded, rounded + r * padded, row_scales + r, row_sums + r);
        for (long block = 0; block < m; block += BLOCK) {
            long end = block + BLOCK < m ? block + BLOCK : m;
            long group = (end - block + GROUP - 1) / GROUP;
            group = (end - block + group - 1) / group;
#pragma omp for schedule(static) nowait
            for (long part = 0; part < parts; part++) {
                const uint8_t *columns = w + part * OUTS * padded;
                for (long first = block; first < end; first += group) {
                    long rows = end - first < group ? end - first : group;
                    int32_t sum[GROUP][OUTS];
                    if (PAIRS == 1 || part * PAIRS + 1 == pairs)
                        group_sums(rounded + first * padded, padded, columns, rows, 1, sum);
                    else
                        group_sums(rounded + first * padded, padded, columns, rows, PAIRS, sum);
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
