/* matmul_q8: y = W x, quantised weights with int8 activations in blocks of 32.
 *
 *     y[t][row_offset + r] (+)= sum over c of W[r][c] * x[t][c]
 *
 *   weights  [rows][columns]         WEIGHTS_Q..., as the file stores them
 *   values   [tokens][columns]       int8     }
 *   scales   [tokens][columns / 32]  float    } see kernels/quantise.cl
 *   sums     [tokens][columns / 32]  int32    }
 *   y        [tokens][y_stride]      float; with `accumulate` y + sum
 *
 * Rounding: one accumulator; for each group of 32 columns in ascending order the
 * exact integer dot product, then fma(dot, step * scale, acc); types with a floor
 * then fma(floor, scale * sum, acc). The same for each token, whatever the tile.
 *
 * Launch: (rows / 4 rounded up, tokens / tile rounded up) work-items, one four rows
 *         and a tile of tokens: 1 in matmul_one, TILE in matmul_tile.
 * Speed:  products of 16-bit integers added in pairs are one instruction on x86
 *         (vpmaddwd), if written as in dot_32(); rows are summed across
 *         together, so that the float part is a lane a row.
 * Host:   kernels/ops_matmul.c, op_matmul_q8(). Test: tests/test_kernel_matmul_q8.c. */
#include "kernels/numerics.h"
#include "kernels/kernel_args.h"
#include "kernels/block_formats.h"

#ifndef TILE
#define TILE 4   /* tokens a work-item of matmul_tile takes */
#endif
#define ROWS 4

#define TOKENS for (int t = 0; t < tile; t++)

/* Neighbours' products added: below 2^21 for any quants. That max() changes nothing
 * is for us to know: without it, LLVM regroups the terms of the sum in dot_32() and
 * no longer finds the instruction. */
static inline int8 multiply_pairs(short16 w, short16 x) {
    int16 p = convert_int16(w) * convert_int16(x);
    return max(p.even + p.odd, (int8)(-(1 << 22)));
}

/* Eight partial sums of the 32 products. */
static inline int8 dot_32(short16 w0, short16 w1, short16 x0, short16 x1) {
    return multiply_pairs(w0, x0) + multiply_pairs(w1, x1);
}

/* The sums of a, b, c and d. */
static inline int4 sum_across(int8 a, int8 b, int8 c, int8 d) {
    int4 a4 = a.lo + a.hi, b4 = b.lo + b.hi, c4 = c.lo + c.hi, d4 = d.lo + d.hi;
    int4 ab = (int4)(a4.even, b4.even) + (int4)(a4.odd, b4.odd);
    int4 cd = (int4)(c4.even, d4.even) + (int4)(c4.odd, d4.odd);
    return (int4)(ab.even, cd.even) + (int4)(ab.odd, cd.odd);
}

static inline void matmul(struct matmul_args args, global const uchar *weights, global const char *values,
                   global const float *scales, global const int *sums, global float *y,
                   const int tile) {
    int row = get_global_id(0) * ROWS, first = get_global_id(1) * tile, groups = args.columns / 32;
    if (row >= args.rows || first >= args.token_count)
        return;
    /* Rows and tokens past the end repeat the last one, and are not stored. */
    int last = args.rows - 1;
    global const uchar *row0 = row_at(weights, row, args.columns);
    global const uchar *row1 = row_at(weights, min(row + 1, last), args.columns);
    global const uchar *row2 = row_at(weights, min(row + 2, last), args.columns);
    global const uchar *row3 = row_at(weights, min(row + 3, last), args.columns);
    size_t blocks[TILE];
    float4 acc[TILE];
    #pragma unroll
    TOKENS {
        blocks[t] = (size_t)min(first + t, args.token_count - 1) * groups;
        acc[t] = 0.0f;
    }
    for (int group = 0; group < groups; group++) {
        short16 a0, a1, b0, b1, c0, c1, d0, d1;
        load_quants(row0, group, &a0, &a1);
        load_quants(row1, group, &b0, &b1);
        load_quants(row2, group, &c0, &c1);
        load_quants(row3, group, &d0, &d1);
        struct group_scale a = load_scale(row0, group), b = load_scale(row1, group);
        struct group_scale c = load_scale(row2, group), d = load_scale(row3, group);
        float4 step = steps_of(a, b, c, d), floor = floors_of(a, b, c, d);
        #pragma unroll
        TOKENS {
            size_t block = blocks[t] + group;
            short16 x0 = convert_short16(vload16(2 * block, values));
            short16 x1 = convert_short16(vload16(2 * block + 1, values));
            int4 dot = sum_across(dot_32(a0, a1, x0, x1), dot_32(b0, b1, x0, x1),
                                  dot_32(c0, c1, x0, x1), dot_32(d0, d1, x0, x1));
            dot -= ZERO_POINT * sums[block];
            float scale = scales[block];
            acc[t] = fma(convert_float4(dot), step * scale, acc[t]);
            if (HAS_FLOOR)
                acc[t] = fma(floor, (float4)(scale * (float)sums[block]), acc[t]);
        }
    }
    #pragma unroll
    TOKENS {
        if (first + t < args.token_count) {
            global float *out = y + (size_t)(first + t) * args.y_stride + args.row_offset + row;
            float results[ROWS];
            vstore4(acc[t], 0, results);
            for (int r = 0; r < ROWS && row + r < args.rows; r++)
                out[r] = args.accumulate ? out[r] + results[r] : results[r];
        }
    }
}

kernel void matmul_one(struct matmul_args args, global const uchar *restrict weights,
                       global const char *restrict values, global const float *restrict scales,
                       global const int *restrict sums, global float *restrict y) {
    matmul(args, weights, values, scales, sums, y, 1);
}

kernel void matmul_tile(struct matmul_args args, global const uchar *restrict weights,
                        global const char *restrict values, global const float *restrict scales,
                        global const int *restrict sums, global float *restrict y) {
    matmul(args, weights, values, scales, sums, y, TILE);
}
