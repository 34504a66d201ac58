/* matmul_float: y = W x with float activations, any type of weights.
 *
 *     y[t][row_offset + r] (+)= sum over c of W[r][c] * x[t][c]
 *
 *   weights  [rows][columns]      WEIGHTS_..., as the file stores them
 *   x        [tokens][columns]    float
 *   y        [tokens][y_stride]   float; with `accumulate` y + sum
 *
 * Rounding: 8 partial sums, number j over the columns c with c % 8 == j in
 * ascending order, one fma a column; then the tree of sum_8(). The same for
 * each token, whatever the tile.
 *
 * Launch: (rows, tokens / tile rounded up) work-items, one a row and a tile of
 *         tokens: 1 in matmul_one, TILE in matmul_tile.
 * Speed:  a weight is read and decoded once a tile.
 * Host:   kernels/ops_matmul.c, op_matmul(). Test: tests/test_kernel_matmul.c. */
#include "kernels/numerics.h"
#include "kernels/kernel_args.h"
#include "kernels/block_formats.h"

#ifndef TILE
#define TILE 4   /* tokens a work-item of matmul_tile takes */
#endif

#define TOKENS for (int t = 0; t < tile; t++)

static inline void matmul(struct matmul_args args, global const uchar *weights, global const float *x,
                   global float *y, const int tile) {
    int row = get_global_id(0), first = get_global_id(1) * tile;
    if (row >= args.rows || first >= args.token_count)
        return;
    weights = row_at(weights, row, args.columns);
    /* A short last tile does its last token again, and stores it once. */
    global const float *inputs[TILE];
    float8 sums[TILE];
    #pragma unroll
    TOKENS {
        inputs[t] = x + (size_t)min(first + t, args.token_count - 1) * args.columns;
        sums[t] = 0.0f;
    }
#if IS_QUANTISED
    for (int group = 0; group < args.columns / 32; group++) {
        float16 low, high;
        load_group(weights, group, &low, &high);
        #pragma unroll
        TOKENS {
            sums[t] = add_products(low, vload16(2 * group, inputs[t]), sums[t]);
            sums[t] = add_products(high, vload16(2 * group + 1, inputs[t]), sums[t]);
        }
    }
#else
    int c = 0;
    for (; c + 16 <= args.columns; c += 16) {
        float16 w = load_columns(weights, c);
        #pragma unroll
        TOKENS sums[t] = add_products(w, vload16(0, inputs[t] + c), sums[t]);
    }
    if (c < args.columns) {
        float tail[16];
        for (int i = 0; i < 16; i++)
            tail[i] = c + i < args.columns ? load_column(weights, c + i) : 0.0f;
        float16 w = vload16(0, tail);
        #pragma unroll
        TOKENS sums[t] = add_products(w, load_tail(inputs[t] + c, args.columns - c), sums[t]);
    }
#endif
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
