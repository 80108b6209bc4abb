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

/* Scores of `group` queries of one token with the keys of `low` to `high` - 1, all in one block; scores of position
 * `origin` come first. */
static void score(const pool *p, const span *s, const float *queries, const float *keys, long low, long high, long origin,
                  long group, float scale, float *scores, long stride) {
    const float *key = keys + slot(s, low, p->block_size) * p->dim;
    for (long position = low; position < high; position++, key += p->dim) {
        for (long q = 0; q < group; q++) {
            const float *query = queries + q * p->dim;
            vector sum = {0};
            for (long i = 0; i < p->dim; i += WIDTH) sum = fused(load_floats(query + i), load_floats(key + i), sum);
            scores[q * stride + position - origin] = lane_sum(sum) * scale;
        }
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

/* out[dim] = the values of `low` to `high` - 1, weighted. */
static void weigh(const pool *p, const span *s, const float *values, long low, long high, const float *weights, float total,
                  float *out) {
    for (long part = 0; part < p->dim; part += 4 * WIDTH) {
        long vectors = (p->dim - part) / WIDTH < 4 ? (p->dim - part) / WIDTH : 4;
        vector sums[4] = {{0}, {0}, {0}, {0}};
        const float *value = NULL;
        for (long position = low; position < high; position++, value += p->dim) {
            if (position == low || position % p->block_size == 0)
                value = values + slot(s, position, p->block_size) * p->dim + part;
            vector weight = all_lanes(weights[position - low]);
            if (vectors == 4)
                for (int i = 0; i < 4; i++) sums[i] = fused(weight, load_floats(value + i * WIDTH), sums[i]);
            else
                for (long i = 0; i < vectors; i++) sums[i] = fused(weight, load_floats(value + i * WIDTH), sums[i]);
        }
        for (long i = 0; i < vectors; i++) store_floats(out + part + i * WIDTH, sums[i] / all_lanes(total));
    }
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
        for (long q = 0; q < group; q++) {
            float *scores = room + ((t - from) * group + q) * stride;
            float total = soften(scores, position + 1 - low);
            weigh(p, s, values, low, position + 1, scores, total, out + ((s->start + t) * p->heads + head * group + q) * p->dim);
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
