/* swiglu: out = silu(gate) * up, silu(x) = x / (1 + e^-x), as float or quantised.
 *
 *   wide  [tokens][2 * intermediate]  float, gate then up
 *   out   [tokens][intermediate]      float
 *   values, scales, sums              as in kernels/quantise.cl
 *
 * Launch: (intermediate / 32 rounded up, tokens) work-items, 32 columns each.
 * Needs:  intermediate a multiple of 32 in swiglu_q8.
 * Host:   kernels/ops.c, op_swiglu(), op_swiglu_q8(). Test: tests/test_kernel_norm.c. */
#include "kernels/numerics.h"
#include "kernels/kernel_args.h"
#include "kernels/quantise.h"

static inline float16 gated(float16 gate, float16 up) {
    return gate / (1.0f + exp_16(-gate)) * up;
}

kernel void swiglu(struct swiglu_args args, global const float *restrict wide,
                   global float *restrict out) {
    int c = get_global_id(0) * 32, token = get_global_id(1), count = args.intermediate;
    if (c >= count || token >= args.token_count)
        return;
    global const float *gate = wide + (size_t)token * 2 * count, *up = gate + count;
    int end = min(c + 32, count);
    out += (size_t)token * count;
    for (; c + 16 <= end; c += 16)
        vstore16(gated(vload16(0, gate + c), vload16(0, up + c)), 0, out + c);
    for (; c < end; c++)
        out[c] = gate[c] / (1.0f + exp_1(-gate[c])) * up[c];
}

kernel void swiglu_q8(struct swiglu_args args, global const float *restrict wide,
                      global char *restrict values, global float *restrict scales,
                      global int *restrict sums) {
    int group = get_global_id(0), token = get_global_id(1), groups = args.intermediate / 32;
    if (group >= groups || token >= args.token_count)
        return;
    global const float *gate = wide + (size_t)token * 2 * args.intermediate;
    global const float *up = gate + args.intermediate;
    quantise_block(gated(vload16(2 * group, gate), vload16(2 * group, up)),
                   gated(vload16(2 * group + 1, gate), vload16(2 * group + 1, up)),
                   (size_t)token * groups + group, values, scales, sums);
}
