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
 *         TILE_ROWS rows in registers, one half of the partial sums after the other, since
 *         both are more than registers; PART_COLUMNS of both stay in the first cache,
 *         BLOCK_ROWS rows in the second while all tokens pass.
 * Host:   kernels/ops_matmul.c, op_matmul(). Test: tests/test_kernel_matmul.c. */
#include "kernels/numerics.h"
#include "kernels/kernel_args.h"
#include "kernels/block_formats.h"
#ifdef HALVES_F16C
#include "kernels/tile_f16c.h"
#endif

#ifndef TILE
#define TILE 4        /* tokens that share decoded weights in matmul_tile */
#endif
#define TILE_ROWS 3   /* with TILE: 3 * 4 vectors of sums, 3 of weights and 1 of x, of 16 registers */
#define ONE_ROWS 4
#define BLOCK_ROWS 48
#define PART_COLUMNS 512

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

/* ONE_ROWS rows from `row`, all of which are there, times one token; columns are a multiple
 * of 16. What comes before row `least` is not stored. */
static inline void multiply_one(struct matmul_args args, global const uchar *weights, global const float *x,
                                global float *y, int row, int least, int token) {
    const size_t stride = (size_t)args.columns * BLOCK_BYTES;
    global const uchar *w = weights + (size_t)row * stride, *next = w + ONE_ROWS * stride;
    float8 low[ONE_ROWS], high[ONE_ROWS];
    x += (size_t)token * args.columns;
    #pragma unroll
    for (int r = 0; r < ONE_ROWS; r++)
        low[r] = high[r] = (float8)(0.0f);
    for (int left = args.columns; left > 0; left -= 16) {
        float8 v = vload8(0, x), u = vload8(1, x);
        #pragma unroll
        for (int r = 0; r < ONE_ROWS; r++)
            low[r] = fma(load_8_columns(w + r * stride, 0), v, low[r]);
        #pragma unroll
        for (int r = 0; r < ONE_ROWS; r++)
            high[r] = fma(load_8_columns(w + r * stride, 8), u, high[r]);
        PREFETCH_128(next);
        next += 16 * BLOCK_BYTES * ONE_ROWS;
        w += 16 * BLOCK_BYTES;
        x += 16;
    }
    #pragma unroll
    for (int r = 0; r < ONE_ROWS; r++)
        if (row + r >= least)
            store_sum(args, y, token, row + r, low[r], high[r]);
}

/* TILE_ROWS rows `stride` bytes apart times TILE tokens at x + at[]: of each 16 columns the
 * eight from `part`, added to sums[row][token]. */
static inline void multiply_part(global const uchar *w, size_t stride, global const float *x, const size_t at[TILE],
                                 int columns, const int part, float8 *kept) {
#ifdef HALVES_F16C
    if (columns % 32 == 0) {
        multiply_part_f16c((global const half *)w + part, stride / BLOCK_BYTES, x + part, at, columns, kept);
        return;
    }
#endif
    float8 sums[TILE_ROWS * TILE];
    #pragma unroll
    for (int i = 0; i < TILE_ROWS * TILE; i++)
        sums[i] = kept[i];
    for (int c = part; c < columns; c += 16) {
        float8 values[TILE_ROWS];
        #pragma unroll
        for (int r = 0; r < TILE_ROWS; r++)
            values[r] = load_8_columns(w + r * stride, c);
        #pragma unroll
        for (int t = 0; t < TILE; t++) {
            float8 v = vload8(0, x + at[t] + c);
            #pragma unroll
            for (int r = 0; r < TILE_ROWS; r++)
                sums[r * TILE + t] = fma(values[r], v, sums[r * TILE + t]);
        }
    }
    #pragma unroll
    for (int i = 0; i < TILE_ROWS * TILE; i++)
        kept[i] = sums[i];
}

/* BLOCK_ROWS rows from `row`, those before `end`, times TILE tokens from `token`; a token past
 * the last one repeats it, and a row past the last one those before it: neither is stored. */
static inline void multiply_block(struct matmul_args args, global const uchar *weights, global const float *x,
                                  global float *y, int row, int end, int token) {
    const size_t stride = (size_t)args.columns * BLOCK_BYTES;
    float8 low[BLOCK_ROWS * TILE], high[BLOCK_ROWS * TILE];
    size_t at[TILE];
    end = min(end, row + BLOCK_ROWS);
    for (int t = 0; t < TILE; t++)
        at[t] = (size_t)min(token + t, args.token_count - 1) * args.columns;
    for (int i = 0; i < BLOCK_ROWS * TILE; i++)
        low[i] = high[i] = (float8)(0.0f);
    for (int c = 0; c < args.columns; c += PART_COLUMNS)
        for (int r = 0; row + r < end; r += TILE_ROWS) {
            global const uchar *w = weights + min(row + r, args.rows - TILE_ROWS) * stride + (size_t)c * BLOCK_BYTES;
            int columns = min(args.columns - c, PART_COLUMNS);
            multiply_part(w, stride, x + c, at, columns, 0, low + r * TILE);
            multiply_part(w, stride, x + c, at, columns, 8, high + r * TILE);
        }
    for (int r = 0; row + r < end; r++) {
        int first = row + r / TILE_ROWS * TILE_ROWS, back = first - min(first, args.rows - TILE_ROWS);
        for (int t = 0; t < TILE && token + t < args.token_count; t++)
            store_sum(args, y, token + t, row + r, low[(r + back) * TILE + t], high[(r + back) * TILE + t]);
    }
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

static inline bool is_odd(struct matmul_args args) {
    return args.columns % 16 != 0 || args.rows < ONE_ROWS;
}

static inline void run_any(struct matmul_args args, global const uchar *weights, global const float *x,
                           global float *y, int begin, int end) {
    for (int token = 0; token < args.token_count; token++)
        for (int row = begin; row < end; row++)
            multiply_any(args, weights, x, y, row, token);
}

/* The last rows overlap those before where their count is no multiple. */
kernel void matmul_one(struct matmul_args args, global const uchar *restrict weights,
                       global const float *restrict x, global float *restrict y) {
    ROWS_OF_ITEM(ONE_ROWS, begin, end);
    if (is_odd(args))
        run_any(args, weights, x, y, begin, end);
    for (int row = begin; row < end && !is_odd(args); row += ONE_ROWS)
        multiply_one(args, weights, x, y, min(row, args.rows - ONE_ROWS), row, 0);
}

kernel void matmul_tile(struct matmul_args args, global const uchar *restrict weights,
                        global const float *restrict x, global float *restrict y) {
    ROWS_OF_ITEM(TILE_ROWS, begin, end);
    if (is_odd(args))
        run_any(args, weights, x, y, begin, end);
    for (int block = begin; block < end && !is_odd(args); block += BLOCK_ROWS)
        for (int token = 0; token < args.token_count; token += TILE)
            multiply_block(args, weights, x, y, block, end, token);
}
