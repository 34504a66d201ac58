/* matmul_r16_float: y = W x, weights packed in groups of 16 rows with float activations.
 *
 *     y[t][row_offset + r] (+)= sum over c of W[r][c] * x[t][c]
 *
 *   weights  WEIGHTS_Q8_0, _Q4_0, _Q4_1, _Q4_K or _Q6_K as common/pack_r16.h lays them out
 *   x        [tokens][columns]    float
 *   y        [tokens][y_stride]   float; with `accumulate` y + sum
 *
 * Rounding: that of kernels/matmul_float.cl, bit for bit.
 *
 * Launch: (rows, tokens / tile rounded up) work-items, one a row and a tile of
 *         tokens: 1 in matmul_one, TILE in matmul_tile.
 * Speed:  16 neighbours read the lines of their group together; a block is decoded
 *         once a tile. This is the class for comparing results, not for speed.
 * Host:   kernels/ops_matmul.c, op_matmul(). Test: tests/test_kernel_matmul_r16.c. */
#include "kernels/numerics.h"
#include "kernels/kernel_args.h"
#define DOT4_SCALAR
#include "kernels/packed_r16.h"

#ifndef TILE
#define TILE 4   /* tokens a work-item of matmul_tile takes */
#endif

#define TOKENS for (int t = 0; t < tile; t++)

#if defined(WEIGHTS_Q8_0) || HAS_HALVES
static inline char16 columns_16(uint a, uint b, uint c, uint d) {
    return (char16)(as_char4(a), as_char4(b), as_char4(c), as_char4(d));
}
#else
static inline char16 columns_16(uint a, uint b, uint c, uint d) {
    return (char16)(as_char4(a), as_char4(b), as_char4(c), as_char4(d)) - (char16)(DOT_ZERO);
}
#endif

static inline void matmul(struct matmul_args args, global const uchar *weights, global const float *x,
                          global float *y, const int tile) {
    int row = get_global_id(0), first = get_global_id(1) * tile, lane = row % GROUP_ROWS;
    if (row >= args.rows || first >= args.token_count)
        return;
    struct packed_group group = find_group(weights, args.rows, args.columns, row / GROUP_ROWS);
    global const float *inputs[TILE];
    float8 sums[TILE];
    #pragma unroll
    TOKENS {
        inputs[t] = x + (size_t)min(first + t, args.token_count - 1) * args.columns;
        sums[t] = 0.0f;
    }
    for (int b = 0; b < args.columns / GROUP_COLUMNS; b++) {
        quads w[8];
        load_block(group.quants + (size_t)b * QUANT_BYTES + lane * 4, w);
        float step = load_steps(group, b, lane);
        short16 first = convert_short16(columns_16(w[0], w[1], w[2], w[3]));
        short16 second = convert_short16(columns_16(w[4], w[5], w[6], w[7]));
#if HAS_HALVES
        global const uchar *factors = group.factors + (size_t)b * 2 * GROUP_ROWS + lane;
        first *= (short16)((short)LOAD_SIGNED(factors));
        second *= (short16)((short)LOAD_SIGNED(factors + GROUP_ROWS));
#endif
        float16 low = step * convert_float16(first);
        float16 high = step * convert_float16(second);
#if HAS_FLOOR
        float floor = load_floors(group, b, lane);
        low += floor;
        high += floor;
#endif
        #pragma unroll
        TOKENS {
            sums[t] = add_products(low, vload16(2 * b, inputs[t]), sums[t]);
            sums[t] = add_products(high, vload16(2 * b + 1, inputs[t]), sums[t]);
        }
    }
    #pragma unroll
    TOKENS {
        global float *out = y + (size_t)(first + t) * args.y_stride + args.row_offset + row;
        if (first + t < args.token_count)
            *out = args.accumulate ? *out + sum_8(sums[t]) : sum_8(sums[t]);
    }
}

kernel void matmul_one(struct matmul_args args, global const uchar *restrict weights,
                       global const float *restrict x, global float *restrict y) {
    matmul(args, weights, x, y, 1);
}

kernel void matmul_tile(struct matmul_args args, global const uchar *restrict weights,
                        global const float *restrict x, global float *restrict y) {
    matmul(args, weights, x, y, TILE);
}
