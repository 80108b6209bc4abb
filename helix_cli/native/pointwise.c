/* The operations between the matrix products of a layer, each in one pass over its rows. */

#include "vectors.h"

enum { ALONE = 1 << 15 };

/* y[m][k] = x / sqrt(mean(x * x) + eps) * weight, row by row; k is a multiple of the width. */
void helix_norm(const float *x, long m, long k, const float *weight, float eps, float *y, int threads) {
    if (m * k < ALONE) threads = 1;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long r = 0; r < m; r++) {
        const float *in = x + r * k;
        float *out = y + r * k;
        vector sum = {0};
        for (long i = 0; i < k; i += WIDTH) {
            vector v = load_floats(in + i);
            sum = fused(v, v, sum);
        }
        vector factor = all_lanes(1.0f / sqrtf(lane_sum(sum) / (float)k + eps));
        for (long i = 0; i < k; i += WIDTH)
            store_floats(out + i, load_floats(in + i) * factor * load_floats(weight + i));
    }
}

/* y[m][k] = silu(x[:, :k]) * x[:, k:], for x [m][2 k]; k is a multiple of the width. */
void helix_gate(const float *x, long m, long k, float *y, int threads) {
    if (m * k < ALONE) threads = 1;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long r = 0; r < m; r++)
        for (long i = 0; i < k; i += WIDTH) {
            vector gate = load_floats(x + 2 * r * k + i), up = load_floats(x + (2 * r + 1) * k + i);
            /* e to the power of more than 87 would not be a number; the quotient is 0 long before. */
            vector least = all_lanes(-87.0f);
            integers under = gate < least;
            vector bounded = (vector)(((integers)least & under) | ((integers)gate & ~under));
            store_floats(y + r * k + i, gate / (all_lanes(1.0f) + exponential(-bounded)) * up);
        }
}

/* Turns pairs of floats in place: x[m][heads][pairs] times turns[m][pairs], both complex; a row of x is `stride` floats. */
void helix_rotate(float *x, long m, long stride, long heads, long pairs, const float *turns) {
    for (long r = 0; r < m; r++)
        for (long h = 0; h < heads; h++) {
            float *in = x + r * stride + h * 2 * pairs;
            const float *turn = turns + r * 2 * pairs;
            for (long i = 0; i < 2 * pairs; i += 2) {
                float real = in[i], imaginary = in[i + 1];
                in[i] = real * turn[i] - imaginary * turn[i + 1];
                in[i + 1] = real * turn[i + 1] + imaginary * turn[i];
            }
        }
}
