/* matmul_rows: y = W x with weights of halves, for CPUs that convert them quickly.
 *
 *     y[t][row_offset + r] (+)= sum over c of W[r][c] * x[t][c]
 *
 *   weights  [rows][columns]      WEIGHTS_F16, as the file stores them
 *   x        [tokens][columns]    float
 *   y        [tokens][y_stride]   float; with `accumulate` y + sum
 *
 * Rounding: that of kernels/matmul_float.cl, bit for bit.
 *
 * Launch: any number of work-items of dimension 0 share the rows evenly; local size 1.
 * Speed:  the 16 partial sums of a row and a token are two chains of fma, which wait for
 *         each other: several rows at a time keep the machine busy. One token: the rate of
 *         memory; the rows that come next are asked for ahead. More: TILE tokens meet
 *         TILE_ROWS rows in registers, and BLOCK_ROWS rows stay in the cache while all
 *         tokens pass.
 * Host:   kernels/ops_matmul.c, op_matmul(). Test: tests/test_kernel_matmul.c. */
#include "kernels/numerics.h"
#include "kernels/kernel_args.h"
#include "kernels/block_formats.h"

#ifndef TILE
#define TILE 3        /* tokens that share decoded weights in matmul_tile */
#endif
#define TILE_ROWS 2   /* with TILE: 2 * 2 * 3 vectors of sums, of 16 registers */
#define ONE_ROWS 4
#define BLOCK_ROWS 16
#define MOST_SUMS (TILE * TILE_ROWS > ONE_ROWS ? TILE * TILE_ROWS : ONE_ROWS)

/* Two lines; past the end it does nothing. */
#ifdef HALVES_F16C
#define PREFETCH_128(p) __asm__ volatile("prefetcht0 (%0)\n prefetcht0 64(%0)" : : "r"(p))
#else
#define PREFETCH_128(p)
#endif

static inline void store_sum(struct matmul_args args, global float *y, int token, int row, float8 low, float8 high) {
    global float *out = y + (size_t)token * args.y_stride + args.row_offset + row;
    float sum = sum_16((float16)(low, high));
    *out = args.accumulate ? *out + sum : sum;
}

/* `rows` rows from `row` times `tile` tokens from `token`, all of which are there; columns are
 * a multiple of 16. What comes before row `least_row` and token `least` is not stored. */
static inline __attribute__((always_inline)) void multiply(struct matmul_args args, global const uchar *weights, global const float *x,
                            global float *y, int row, int least_row, int token, int least, const int rows,
                            const int tile) {
    const size_t stride = (size_t)args.columns * BLOCK_BYTES, x_stride = args.columns;
    global const uchar *w = weights + (size_t)row * stride, *next = w + rows * stride;
    float8 sums[2][MOST_SUMS];   /* number 0-7 and 8-15 of a row and a token */
    x += (size_t)token * x_stride;
    #pragma unroll
    for (int i = 0; i < rows * tile; i++)
        sums[0][i] = sums[1][i] = (float8)(0.0f);
    for (int left = args.columns; left > 0; left -= 16) {
        #pragma unroll
        for (int part = 0; part < 2; part++) {
            float8 values[ONE_ROWS];
            #pragma unroll
            for (int r = 0; r < rows; r++)
                values[r] = load_8_columns(w + r * stride, 8 * part);
            #pragma unroll
            for (int t = 0; t < tile; t++) {
                float8 v = vload8(part, x + t * x_stride);
                #pragma unroll
                for (int r = 0; r < rows; r++)
                    sums[part][r * tile + t] = fma(values[r], v, sums[part][r * tile + t]);
            }
        }
        if (tile == 1) {
            PREFETCH_128(next);
            next += 16 * BLOCK_BYTES * rows;
        }
        w += 16 * BLOCK_BYTES;
        x += 16;
    }
    #pragma unroll
    for (int t = 0; t < tile; t++)
        #pragma unroll
        for (int r = 0; r < rows; r++)
            if (row + r >= least_row && token + t >= least)
                store_sum(args, y, token + t, row + r, sums[0][r * tile + t], sums[1][r * tile + t]);
}

/* One row and one token of any shape. */
static inline void multiply_any(struct matmul_args args, global const uchar *weights, global const float *x,
                                global float *y, int row, int token) {
    float8 low = 0.0f, high = 0.0f;
    weights = row_at(weights, row, args.columns);
    x += (size_t)token * args.columns;
    for (int c = 0; c < args.columns; c += 16) {
        float values[16];
        for (int i = 0; i < 16; i++)
            values[i] = c + i < args.columns ? load_column(weights, c + i) : 0.0f;
        float16 v = c + 16 <= args.columns ? vload16(0, x + c) : load_tail(x + c, args.columns - c);
        low = fma(vload8(0, values), v.lo, low);
        high = fma(vload8(1, values), v.hi, high);
    }
    store_sum(args, y, token, row, low, high);
}

/* This work-item's rows, in whole steps but for the last one. */
#define ROWS_OF_ITEM(step, begin, end)                                                              \
    const size_t shares = ((size_t)args.rows + (step) - 1) / (step), items = get_global_size(0);    \
    const int begin = (int)(shares * get_global_id(0) / items) * (step);                            \
    const int end = min((int)(shares * (get_global_id(0) + 1) / items) * (step), args.rows)

/* The last step overlaps the one before where the count is no multiple, in rows as in tokens. */
static inline void run_one(struct matmul_args args, global const uchar *weights, global const float *x,
                           global float *y, int begin, int end, int token) {
    for (int row = begin; row < end; row += ONE_ROWS)
        multiply(args, weights, x, y, min(row, args.rows - ONE_ROWS), row, token, token, ONE_ROWS, 1);
}

static inline bool is_odd(struct matmul_args args) {
    return args.columns % 16 != 0 || args.rows < ONE_ROWS;
}

static inline void run_any(struct matmul_args args, global const uchar *weights, global const float *x,
                           global float *y, int begin, int end) {
    for (int token = 0; token < args.token_count; token++)
        for (int row = begin; row < end; row++)
            multiply_any(args, weights, x, y, row, token);
}

kernel void matmul_one(struct matmul_args args, global const uchar *restrict weights,
                       global const float *restrict x, global float *restrict y) {
    ROWS_OF_ITEM(ONE_ROWS, begin, end);
    if (is_odd(args))
        run_any(args, weights, x, y, begin, end);
    else
        run_one(args, weights, x, y, begin, end, 0);
}

kernel void matmul_tile(struct matmul_args args, global const uchar *restrict weights,
                        global const float *restrict x, global float *restrict y) {
    ROWS_OF_ITEM(ONE_ROWS, begin, end);
    if (is_odd(args)) {
        run_any(args, weights, x, y, begin, end);
        return;
    }
    for (int token = 0; token < args.token_count && args.token_count < TILE; token++)
        run_one(args, weights, x, y, begin, end, token);
    for (int block = begin; block < end && args.token_count >= TILE; block += BLOCK_ROWS)
        for (int token = 0; token < args.token_count; token += TILE)
            for (int row = block; row < min(block + BLOCK_ROWS, end); row += TILE_ROWS)
                multiply(args, weights, x, y, min(row, args.rows - TILE_ROWS), row,
                         min(token, args.token_count - TILE), token, TILE_ROWS, TILE);
}
