/* quantise: activations to int8 in blocks of 32 (kernels/quantise.h).
 *
 *   x       [tokens][columns]       float
 *   values  [tokens][columns]       int8
 *   scales  [tokens][columns / 32]  float
 *   sums    [tokens][columns / 32]  int32, of the block's values
 *
 * Launch: (columns / 32, tokens) work-items, one a block.
 * Host:   kernels/ops.c, op_quantise(). Test: tests/test_kernel_norm.c. */
#include "kernels/numerics.h"
#include "kernels/kernel_args.h"
#include "kernels/quantise.h"

kernel void quantise(struct quantise_args args, global const float *restrict x,
                     global char *restrict values, global float *restrict scales,
                     global int *restrict sums) {
    int group = get_global_id(0), token = get_global_id(1), groups = args.columns / 32;
    if (group >= groups || token >= args.token_count)
        return;
    size_t block = (size_t)token * groups + group;
    quantise_block(vload16(2 * block, x), vload16(2 * block + 1, x), block, values, scales, sums);
}
