/* Paged attention over float32 K/V, each token by itself.
 *
 * A token's scores, its softmax and its sum of values run over its own positions in their order, by the same operations
 * whatever else is fed and wherever its blocks lie, so its bits do not depend on company. Tokens of one sequence that are
 * computed together read each key while it is in the cache.
 */

#include <stddef.h>

#include "vectors.h"

#ifdef _OPENMP
#include <omp.h>
#endif

enum { TOKENS = 4, ALONE = 1 << 13 };

typedef struct {
    const int32_t *blocks; /* of the sequence, from its first position */
    long start, length;    /* the fed tokens, in the batch */
    long first;            /* the position of the first of them */
} span;

typedef struct {
    long heads, kv_heads, dim, block_size, num_slots, window;
    const float *keys, *values; /* [kv_heads][num_slots][dim] */
} pool;

static inline long slot(const span *s, long position, long block_size) {
    return s->blocks[position / block_size] * block_size + position % block_size;
}

/* The first position that a token at `position` sees. */
static inline long lowest(long position, long window) {
    return window && position >= window ? position - window + 1 : 0;
}

/* The products of up to four queries with one key. */
INLINE void dots(const float *queries, const float *key, long dim, const int count, float sums[4]) {
    vector sum[4] = {{0}, {0}, {0}, {0}};
    for (long i = 0; i < dim; i += WIDTH) {
        vector k = load_floats(key + i);
        for (int q = 0; q < count; q++) sum[q] = fused(load_floats(queries + q * dim + i), k, sum[q]);
    }
    lane_sums(sum[0], sum[1], sum[2], sum[3], sums);
}

/* Scores of `group` queries of one token with the keys of `low` to `high` - 1, all in one block; scores of position
 * `origin` come first. */
static void score(const pool *p, const span *s, const float *queries, const float *keys, long low, long high, long origin,
                  long group, float scale, float *scores, long stride) {
    const float *key = keys + slot(s, low, p->block_size) * p->dim;
    for (long position = low; position < high; position++, key += p->dim)
        for (long q = 0; q < group; q += 4) {
            float sums[4];
            long count = group - q < 4 ? group - q : 4;
            const float *these = queries + q * p->dim;
            switch (count) {
            case 1: dots(these, key, p->dim, 1, sums); break;
            case 2: dots(these, key, p->dim, 2, sums); break;
            case 3: dots(these, key, p->dim, 3, sums); break;
            default: dots(these, key, p->dim, 4, sums);
            }
            for (long i = 0; i < count; i++) scores[(q + i) * stride + position - origin] = sums[i] * scale;
        }
}

/* Turns `count` scores into weights that are not normalised, and returns their sum; room behind them is written. */
static float soften(float *scores, long count) {
    float largest = -INFINITY;
    for (long i = 0; i < count; i++) largest = scores[i] > largest ? scores[i] : largest;
    long padded = (count + WIDTH - 1) / WIDTH * WIDTH;
    for (long i = count; i < padded; i++) scores[i] = -INFINITY;
    vector sum = {0};
    for (long i = 0; i < padded; i += WIDTH) {
        vector weight = exponential(load_floats(scores + i) - all_lanes(largest));
        store_floats(scores + i, weight);
        sum += weight;
    }
    return lane_sum(sum);
}

/* A part of up to four vectors of the values of `low` to `high` - 1, weighted, for one query or two. */
INLINE void weigh_part(const pool *p, const span *s, const float *values, long low, long high, const float *weights,
                       long stride, const float *totals, float *out, const int queries, const int vectors) {
    vector sums[2][4] = {{{0}, {0}, {0}, {0}}, {{0}, {0}, {0}, {0}}};
    for (long position = low; position < high;) {
        long end = (position / p->block_size + 1) * p->block_size;
        const float *value = values + slot(s, position, p->block_size) * p->dim;
        for (end = end < high ? end : high; position < end; position++, value += p->dim)
            for (int q = 0; q < queries; q++) {
                vector weight = all_lanes(weights[q * stride + position - low]);
                for (int i = 0; i < vectors; i++)
                    sums[q][i] = fused(weight, load_floats(value + i * WIDTH), sums[q][i]);
            }
    }
    for (int q = 0; q < queries; q++)
        for (int i = 0; i < vectors; i++) store_floats(out + q * p->dim + i * WIDTH, sums[q][i] / all_lanes(totals[q]));
}

/* out[queries][dim] = the values of `low` to `high` - 1, weighted. */
static void weigh(const pool *p, const span *s, const float *values, long low, long high, const float *weights, long stride,
                  const float *totals, float *out, long queries) {
    long part = 0;
    for (; part + 4 * WIDTH <= p->dim; part += 4 * WIDTH)
        if (queries == 2)
            weigh_part(p, s, values + part, low, high, weights, stride, totals, out + part, 2, 4);
        else
            weigh_part(p, s, values + part, low, high, weights, stride, totals, out + part, 1, 4);
    for (; part < p->dim; part += WIDTH)
        for (long q = 0; q < queries; q++)
            weigh_part(p, s, values + part, low, high, weights + q * stride, stride, totals + q, out + q * p->dim + part, 1, 1);
}

/* Tokens `from` to `to` - 1 of a span, for the queries that share K/V head `head`. */
static void attend(const pool *p, const span *s, const float *qkv, long from, long to, long head, float *out, float *room,
                   long stride) {
    long group = p->heads / p->kv_heads, width = (p->heads + 2 * p->kv_heads) * p->dim;
    const float *keys = p->keys + head * p->num_slots * p->dim, *values = p->values + head * p->num_slots * p->dim;
    float scale = 1.0f / sqrtf((float)p->dim);
    long last = s->first + to;
    for (long block = 0; block < last; block += p->block_size)
        for (long t = from; t < to; t++) {
            long position = s->first + t, low = lowest(position, p->window);
            long begin = block > low ? block : low;
            long end = block + p->block_size < position + 1 ? block + p->block_size : position + 1;
            const float *queries = qkv + (s->start + t) * width + head * group * p->dim;
            if (begin < end) score(p, s, queries, keys, begin, end, low, group, scale, room + (t - from) * group * stride, stride);
        }
    for (long t = from; t < to; t++) {
        long position = s->first + t, low = lowest(position, p->window);
        for (long q = 0; q < group; q += 2) {
            long count = group - q < 2 ? 1 : 2;
            float *scores = room + ((t - from) * group + q) * stride, totals[2];
            for (long i = 0; i < count; i++) totals[i] = soften(scores + i * stride, position + 1 - low);
            float *mine = out + ((s->start + t) * p->heads + head * group + q) * p->dim;
            weigh(p, s, values, low, position + 1, scores, stride, totals, mine, count);
        }
    }
}

static void write(const span *s, const float *qkv, long t, long heads, long kv_heads, long dim, long block_size,
                  long num_slots, float *pool_start) {
    const float *token = qkv + (s->start + t) * (heads + 2 * kv_heads) * dim + heads * dim;
    long place = slot(s, s->first + t, block_size);
    for (long head = 0; head < 2 * kv_heads; head++)
        memcpy(pool_start + (head * num_slots + place) * dim, token + head * dim, dim * sizeof(float));
}

/* Writes the K/V of every fed token into `kv` [2][kv_heads][num_slots][dim], then attends: qkv [T][heads + 2 kv_heads][dim]
 * to out [T][heads][dim]. `spans` [num_spans][4]: the place of its table in `tables`, start, length, first position.
 * `room` has `stride` floats, a multiple of 16, for each query head of TOKENS tokens, for every thread. */
void helix_attention(const float *qkv, float *kv, long heads, long kv_heads, long dim, long block_size, long num_slots,
                     long window, const int64_t *spans, long num_spans, const int32_t *tables, float *out, float *room,
                     long stride, int threads) {
    pool p = {heads, kv_heads, dim, block_size, num_slots, window, kv, kv + kv_heads * num_slots * dim};
    long tasks = 0, work = 0;
    for (long i = 0; i < num_spans; i++) {
        const int64_t *row = spans + 4 * i;
        span s = {tables + row[0], row[1], row[2], row[3]};
        for (long t = 0; t < s.length; t++) write(&s, qkv, t, heads, kv_heads, dim, block_size, num_slots, kv);
        tasks += (s.length + TOKENS - 1) / TOKENS * kv_heads;
        work += s.length * (s.first + s.length) * heads;
    }
    /* Waking a second thread costs as much as a short attention. */
    if (work < ALONE) threads = 1;
    long group = heads / kv_heads;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (long task = 0; task < tasks; task++) {
        long left = task / kv_heads, i = 0, parts;
        for (; left >= (parts = (spans[4 * i + 2] + TOKENS - 1) / TOKENS); i++) left -= parts;
        const int64_t *row = spans + 4 * i;
        span s = {tables + row[0], row[1], row[2], row[3]};
        long from = left * TOKENS, to = from + TOKENS < s.length ? from + TOKENS : s.length;
#ifdef _OPENMP
        float *mine = room + (long)omp_get_thread_num() * TOKENS * group * stride;
#else
        float *mine = room;
#endif
        attend(&p, &s, qkv, from, to, task % kv_heads, out, mine, stride);
    }
}
