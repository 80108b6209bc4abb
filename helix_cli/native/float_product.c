/* Rows of float times a matrix of float32 or bfloat16 weights, summed in float32.
 *
 * ROUNDED is bfloat16 weights times inputs that are rounded to bfloat16 too: where the processor multiplies such pairs
 * itself, it does so twice as fast. The weights lie as in the checkpoint, [n][k]. Each sum of a row with an output runs over k in the same order with the
 * same operations, however many rows and outputs are computed beside it, so a row's result does not depend on others.
 * Few rows wait for the stream of the weights. For many, a panel of outputs stays in the second-level cache and a
 * stretch of k of the rows in the first.
 */

#include "vectors.h"

enum { FLOAT32, BFLOAT16, ROUNDED };
enum { GROUP = 6, FEW = 8, TILE = 4, PANEL = 32 };
/* Outputs at a time, so that with up to GROUP rows, or FEW, their sums fill the registers. */
enum { OUTS = WIDTH == 16 ? 4 : 2, FEW_OUTS = WIDTH == 16 ? 2 : 1 };
enum { ROOM = 20480, LINE = 64, AHEAD = 4096, CACHED = 1 << 18, ALONE = 1 << 15 };

/* A vector's worth of memory holds one vector of float32 weights, or two of bfloat16: those at even places in the lower
 * halves of its words, those at odd places in the upper ones. The rows are sorted alike, see `sort`. */
INLINE vector load(const char *w, const int size, const int part) {
    words u;
    memcpy(&u, w, sizeof u);
    if (size == 2) u = part ? u & 0xffff0000u : u << 16;
    vector v;
    memcpy(&v, &u, sizeof v);
    return v;
}

INLINE float load_one(const char *w, const int size) {
    uint32_t u;
    if (size == 2) {
        uint16_t h;
        memcpy(&h, w, sizeof h);
        u = (uint32_t)h << 16;
    } else {
        memcpy(&u, w, sizeof u);
    }
    float value;
    memcpy(&value, &u, sizeof value);
    return value;
}

/* Bytes of a weight, and of an input. */
INLINE int weight_size(const int kind) { return kind == FLOAT32 ? 4 : 2; }
INLINE int input_size(const int kind) { return kind == ROUNDED ? 2 : 4; }

/* Whether ROUNDED is here. */
void helix_float_rounds(int *rounds) {
#ifdef __AVX512BF16__
    *rounds = 1;
#else
    *rounds = 0;
#endif
}

#ifdef __AVX512BF16__
INLINE void step_rounded(const char *x, long k, const char *w, const int rows, const int outs, vector acc[FEW][TILE]) {
    __m512bh wide[TILE];
    for (int j = 0; j < outs; j++) wide[j] = (__m512bh)_mm512_loadu_si512(w + 2 * j * k);
    for (int r = 0; r < rows; r++) {
        __m512bh v = (__m512bh)_mm512_loadu_si512(x + 2 * r * k);
        for (int j = 0; j < outs; j++) acc[r][j] = (vector)_mm512_dpbf16_ps((__m512)acc[r][j], v, wide[j]);
    }
}

static void round_row(const float *x, long whole, char *out) {
    for (long i = 0; i < whole; i += WIDTH)
        _mm256_storeu_si256((__m256i *)(out + 2 * i), (__m256i)_mm512_cvtneps_pbh((__m512)load_floats(x + i)));
}
#else
/* Nobody asks for it. */
INLINE void step_rounded(const char *x, long k, const char *w, const int rows, const int outs, vector acc[FEW][TILE]) {}
static void round_row(const float *x, long whole, char *out) {}
#endif

/* The products of one vector's worth of weights. */
INLINE void step(const char *x, long k, const char *w, const int rows, const int outs, const int kind,
                 vector acc[FEW][TILE]) {
    if (kind == ROUNDED) {
        step_rounded(x, k, w, rows, outs, acc);
        return;
    }
    const int size = weight_size(kind);
    for (int part = 0; part < 4 / size; part++) {
        vector wide[TILE];
        for (int j = 0; j < outs; j++) wide[j] = load(w + j * k * size, size, part);
        for (int r = 0; r < rows; r++) {
            vector v = load_floats((const float *)x + r * k + part * WIDTH);
            for (int j = 0; j < outs; j++) acc[r][j] = fused(v, wide[j], acc[r][j]);
        }
    }
}

/* Adds to `sums` the products of `rows` rows with `outs` outputs over k from `start` to `end`. Rows, outputs and kind are
 * constants wherever this is inlined, so that the sums are held in registers. */
INLINE void tile(const char *x, long k, const char *w, long start, long end, const int rows, const int outs,
                 const int kind, vector sums[][PANEL]) {
    const int size = weight_size(kind), in = input_size(kind);
    vector acc[FEW][TILE];
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < outs; j++) acc[r][j] = sums[r][j];
    /* What comes next is the rest of these outputs, or this stretch of the next ones. */
    const long line = LINE / size, unit = 4 * WIDTH / size, ahead = start == 0 && end + unit > k ? AHEAD : outs * k * size;
    long i = start;
    for (; i + line <= end; i += line) {
        for (int j = 0; j < outs; j++) __builtin_prefetch(w + (j * k + i) * size + ahead);
        for (long s = i; s < i + line; s += unit) step(x + s * in, k, w + s * size, rows, outs, kind, acc);
    }
    for (; i < end; i += unit) step(x + i * in, k, w + i * size, rows, outs, kind, acc);
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < outs; j++) sums[r][j] = acc[r][j];
}

/* A panel of outputs over one stretch of k, for a constant number of rows. */
INLINE void stretch(const char *x, long k, const char *w, long start, long end, const int rows, long outs,
                    const int kind, vector sums[][PANEL]) {
    const int most = rows <= 3 ? TILE : rows <= GROUP ? OUTS : FEW_OUTS, size = weight_size(kind);
    long j = 0;
    for (; j + most <= outs; j += most)
        tile(x, k, w + j * k * size, start, end, rows, most, kind, (vector(*)[PANEL])&sums[0][j]);
    for (; j < outs; j++) tile(x, k, w + j * k * size, start, end, rows, 1, kind, (vector(*)[PANEL])&sums[0][j]);
}

#define BY_ROWS(kind)                                                       \
    switch (rows) {                                                         \
    case 1: stretch(x, k, w, start, end, 1, outs, kind, sums); break;       \
    case 2: stretch(x, k, w, start, end, 2, outs, kind, sums); break;       \
    case 3: stretch(x, k, w, start, end, 3, outs, kind, sums); break;       \
    case 4: stretch(x, k, w, start, end, 4, outs, kind, sums); break;       \
    case 5: stretch(x, k, w, start, end, 5, outs, kind, sums); break;       \
    case 6: stretch(x, k, w, start, end, 6, outs, kind, sums); break;       \
    case 7: stretch(x, k, w, start, end, 7, outs, kind, sums); break;       \
    default: stretch(x, k, w, start, end, 8, outs, kind, sums);             \
    }

static void group_stretch(const char *x, long k, const char *w, long start, long end, long rows, long outs, int kind,
                          vector sums[][PANEL]) {
    if (kind == ROUNDED) BY_ROWS(ROUNDED) else if (kind == BFLOAT16) BY_ROWS(BFLOAT16) else BY_ROWS(FLOAT32)
}

/* x rounded to bfloat16, to the even one of two that are as near. */
static float rounded(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    u = (u + 0x7fff + (u >> 16 & 1)) & 0xffff0000u;
    if (x == x) memcpy(&x, &u, sizeof x);
    return x;
}

/* `sum` and the products of what of k fills no vector. */
static float with_rest(float sum, const float *x, const char *w, long from, long k, int kind) {
    const int size = weight_size(kind);
    for (long i = from; i < k; i++) sum += (kind == ROUNDED ? rounded(x[i]) : x[i]) * load_one(w + i * size, size);
    return sum;
}

/* Puts the even places of every two vectors before the odd ones, as `load` gives the weights. */
static void sort_row(const float *x, long k, float *out) {
    for (long i = 0; i + 2 * WIDTH <= k; i += 2 * WIDTH)
        for (int lane = 0; lane < WIDTH; lane++) {
            out[i + lane] = x[i + 2 * lane];
            out[i + WIDTH + lane] = x[i + 2 * lane + 1];
        }
}

/* y[m][n] = x[m][k] . w[n][k] (+ bias[n]) (+ added[m][n]), with w of float32, or of bfloat16, for which `room` [m][k] is
 * room to work in. */
void helix_float(const float *x, long m, long k, const void *weights, int kind, long n, const float *bias,
                 const float *added, float *y, int threads, float *room) {
    const char *w = weights;
    long size = weight_size(kind), in = input_size(kind);
    long unit = 4 * WIDTH / size, whole = k / unit * unit, groups = (m + GROUP - 1) / GROUP;
    /* Waking a second thread costs as much as a small product. */
    if (m * n * k < ALONE) threads = 1;
    const char *inputs = (const char *)(kind == FLOAT32 ? x : room);
#pragma omp parallel for num_threads(m > FEW ? threads : 1) schedule(static)
    for (long r = 0; r < m; r++)
        if (kind == ROUNDED)
            round_row(x + r * k, whole, (char *)room + r * k * in);
        else if (kind == BFLOAT16)
            sort_row(x + r * k, k, room + r * k);
    /* Up to FEW rows go over the weights once, at their pace; more are faster in groups that need fewer loads. */
    long most = m <= FEW ? (m ? m : 1) : (m + groups - 1) / groups;
    long width = CACHED / (k * size + 1) / TILE * TILE;
    width = width < TILE ? TILE : width > PANEL ? PANEL : width;
    long panels = (n + width - 1) / width, length = ROOM / in / most / unit * unit;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long panel = 0; panel < panels; panel++) {
        long column = panel * width, outs = n - column < width ? n - column : width;
        const char *top = w + column * k * size;
        for (long first = 0; first < m; first += most) {
            long rows = m - first < most ? m - first : most;
            vector sums[FEW][PANEL];
            float lanes[4];
            memset(sums, 0, sizeof sums);
            for (long start = 0; start < whole; start += length) {
                long end = start + length < whole ? start + length : whole;
                group_stretch(inputs + first * k * in, k, top, start, end, rows, outs, kind, sums);
            }
            for (long r = first; r < first + rows; r++)
                for (long j = 0; j < outs; j++) {
                    const vector *four = sums[r - first] + j / 4 * 4;
                    if (j % 4 == 0) lane_sums(four[0], four[1], four[2], four[3], lanes);
                    float value = with_rest(lanes[j % 4], x + r * k, top + j * k * size, whole, k, kind);
                    if (bias) value += bias[column + j];
                    if (added) value += added[r * n + column + j];
                    y[r * n + column + j] = value;
                }
        }
    }
}
