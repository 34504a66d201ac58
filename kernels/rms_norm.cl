/* rms_norm: out = x / sqrt(mean(x^2) + epsilon) * weight, as float or quantised.
 *
 *   x, out  [tokens][columns]  float
 *   weight  [columns]          float
 *   values, scales, sums       as in kernels/quantise.cl
 *
 * Rounding: squares in 16 partial sums (kernels/numerics.h); inverse =
 * 1 / sqrt(sum / columns + epsilon); then (x * inverse) * weight.
 *
 * Launch: (tokens) work-items, one a token.
 * Needs:  columns a multiple of 32 in rms_norm_q8.
 * Host:   kernels/ops.c, op_rms_norm(), op_rms_norm_q8(). Test: tests/test_kernel_norm.c. */
#include "kernels/numerics.h"
#include "kernels/kernel_args.h"
#include "kernels/quantise.h"

static inline float inverse_norm(global const float *x, struct rms_norm_args args) {
    return 1.0f / sqrt(sum_of_squares(x, args.columns) / (float)args.columns + args.epsilon);
}

kernel void rms_norm(struct rms_norm_args args, global const float *restrict x,
                     global const float *restrict weight, global float *restrict out) {
    int token = get_global_id(0);
    if (token >= args.token_count)
        return;
    x += (size_t)token * args.columns;
    out += (size_t)token * args.columns;
    float inverse = inverse_norm(x, args);
    int c = 0;
    for (; c + 16 <= args.columns; c += 16)
        vstore16(vload16(0, x + c) * inverse * vload16(0, weight + c), 0, out + c);
    for (; c < args.columns; c++)
        out[c] = x[c] * inverse * weight[c];
}

kernel void rms_norm_q8(struct rms_norm_args args, global const float *restrict x,
                        global const float *restrict weight, global char *restrict values,
                        global float *restrict scales, global int *restrict sums) {
    int token = get_global_id(0);
    if (token >= args.token_count)
        return;
    int groups = args.columns / 32;
    x += (size_t)token * args.columns;
    float inverse = inverse_norm(x, args);
    for (int g = 0; g < groups; g++)
        quantise_block(vload16(2 * g, x) * inverse * vload16(2 * g, weight),
                       vload16(2 * g + 1, x) * inverse * vload16(2 * g + 1, weight),
                       (size_t)token * groups + g, values, scales, sums);
}
