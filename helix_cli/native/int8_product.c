/* Rows of float times a matrix of eight-bit weights, summed exactly in integers.
 *
 * Each row is rounded to -63 .. 63 with a scale of its own, so its result does not depend on the other rows. A weight w
 * is stored as the unsigned w + 128, two outputs side by side, 32 inputs at a time: [n / 2][k / 32][2][32], one stream
 * for the memory to fetch. Few rows wait for that stream; many are taken 64 at a time, to stay in the second-level cache.
 *
 * AVX2 multiplies unsigned by signed bytes and adds two such products in 16 bits: 2 * 255 * 63 < 2^15, so nothing can
 * saturate; what the 128 added is taken off again for the whole row. Elsewhere the compiler makes of the plain loop
 * what the processor has.
 */

#include <float.h>
#include <math.h>
#include <stdint.h>

#ifdef __AVX2__
#include <immintrin.h>
#endif

enum { WIDTH = 32, PAIR = 2, GROUP = 6, BLOCK = 64, LEVELS = 63, OFFSET = 128, AHEAD = 4096, ALONE = 1 << 15 };

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

/* Sums of `rows` rows with the two outputs at w; `rows` is a constant wherever this is inlined. */
static inline __attribute__((always_inline)) void sums(
    const int8_t *x, long padded, const uint8_t *w, const int rows, int32_t out[GROUP][PAIR]) {
    __m256i acc[GROUP][PAIR];
    const __m256i ones = _mm256_set1_epi16(1);
    for (int r = 0; r < rows; r++) acc[r][0] = acc[r][1] = _mm256_setzero_si256();
    for (long i = 0; i < padded; i += WIDTH, w += PAIR * WIDTH) {
        _mm_prefetch((const char *)w + AHEAD, _MM_HINT_T0);
        __m256i w0 = _mm256_loadu_si256((const __m256i *)w), w1 = _mm256_loadu_si256((const __m256i *)(w + WIDTH));
        for (int r = 0; r < rows; r++) {
            __m256i v = _mm256_loadu_si256((const __m256i *)(x + r * padded + i));
            __m256i p0 = _mm256_maddubs_epi16(w0, v), p1 = _mm256_maddubs_epi16(w1, v);
            acc[r][0] = _mm256_add_epi32(acc[r][0], _mm256_madd_epi16(p0, ones));
            acc[r][1] = _mm256_add_epi32(acc[r][1], _mm256_madd_epi16(p1, ones));
        }
    }
    for (int r = 0; r < rows; r++) out[r][0] = total(acc[r][0]), out[r][1] = total(acc[r][1]);
}
#else
static inline void sums(const int8_t *x, long padded, const uint8_t *w, const int rows, int32_t out[GROUP][PAIR]) {
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < PAIR; j++) {
            int32_t sum = 0;
            for (long i = 0; i < padded; i += WIDTH)
                for (int l = 0; l < WIDTH; l++) sum += x[r * padded + i + l] * w[i * PAIR + j * WIDTH + l];
            out[r][j] = sum;
        }
}
#endif

static void group_sums(const int8_t *x, long padded, const uint8_t *w, long rows, int32_t out[GROUP][PAIR]) {
    switch (rows) {
    case 1: sums(x, padded, w, 1, out); break;
    case 2: sums(x, padded, w, 2, out); break;
    case 3: sums(x, padded, w, 3, out); break;
    case 4: sums(x, padded, w, 4, out); break;
    case 5: sums(x, padded, w, 5, out); break;
    default: sums(x, padded, w, 6, out);
    }
}

/* y[m][n] = x[m][k] . w[n][k] * scales[n] (+ bias[n]) (+ added[m][n]); the last three are room to work in. */
void helix_int8(const float *x, long m, long k, const uint8_t *w, const float *scales, long n, const float *bias,
                const float *added, float *y, int threads, int8_t *rounded, float *row_scales, int32_t *row_sums) {
    long padded = (k + WIDTH - 1) / WIDTH * WIDTH, pairs = (n + PAIR - 1) / PAIR;
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
            for (long pair = 0; pair < pairs; pair++) {
                const uint8_t *columns = w + pair * PAIR * padded;
                for (long first = block; first < end; first += group) {
                    long rows = end - first < group ? end - first : group;
                    int32_t sum[GROUP][PAIR];
                    group_sums(rounded + first * padded, padded, columns, rows, sum);
                    for (long r = 0; r < rows; r++)
                        for (long j = 0; j < PAIR && pair * PAIR + j < n; j++) {
                            long row = first + r, column = pair * PAIR + j;
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
