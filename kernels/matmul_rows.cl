/* matmul_rows: y = W x with weights of 16 bits, for CPUs that make floats of them quickly.
 *
 *     y[t][row_offset + r] (+)= sum over c of W[r][c] * x[t][c]
 *
 *   weights  [rows][columns]      WEIGHTS_F16 or _BF16, as the file stores them
 *   x        [tokens][columns]    float
 *   y        [tokens][y_stride]   float; with `accumulate` y + sum
 *   turns    see kernels/turns.h
 *
 * Rounding: that of kernels/matmul_float.cl, bit for bit.
 *
 * Launch: a few work-items of dimension 0 share the rows by turns; local size 1.
 * Speed:  the 8 partial sums of a row and a token are one chain of fma, each waiting for the
 *         one before: several rows at a time keep the machine busy. One token: the rate of
 *         memory; the rows that come next are asked for ahead. More: TILE tokens meet
 *         TILE_ROWS rows in registers; PART_COLUMNS of both stay in the first cache, the rows of
 *         a block in the second while all tokens pass. With AVX-512: kernels/tile_rows_avx512.h.
 * Host:   kernels/ops_matmul.c, op_matmul(). Test: tests/test_kernel_matmul.c. */
#include "kernels/numerics.h"
#include "kernels/kernel_args.h"
#include "kernels/block_formats.h"
#include "kernels/turns.h"
#ifdef ROWS_AVX2
#include "kernels/tile_rows_avx2.h"
#endif
#ifdef ROWS_AVX512
#include "kernels/tile_rows_avx512.h"
#endif

#ifndef TILE
#define TILE 4        /* tokens that share decoded weights in matmul_tile */
#endif
#define TILE_ROWS 3   /* with TILE: 3 * 4 vectors of sums, 3 of weights and 1 of x, of 16 registers */
#define ONE_ROWS 4
#define LEAST_AHEAD 8192   /* bytes: memory answers later than a few short rows take */
#define BLOCK_ROWS 48
#define BLOCK_VALUES (BLOCK_ROWS * 4096)
#define PART_COLUMNS 512

/* Two lines; past the end it does nothing. */
#ifdef ROWS_AVX2
#define PREFETCH_128(p) __asm__ volatile("prefetcht0 (%0)\n prefetcht0 64(%0)" : : "r"(p))
#else
#define PREFETCH_128(p)
#endif

static inline void store_sum(struct matmul_args args, global float *y, int token, int row, float8 sums) {
    global float *out = y + (size_t)token * args.y_stride + args.row_offset + row;
    *out = args.accumulate ? *out + sum_8(sums) : sum_8(sums);
}

/* ONE_ROWS rows from `row`, all of which are there, times one token; columns are a multiple
 * of 16. What comes before row `least` is not stored. */
static inline void multiply_one(struct matmul_args args, global const uchar *weights, global const float *x,
                                global float *y, int row, int least, int token) {
    const size_t stride = (size_t)args.columns * BLOCK_BYTES;
    global const uchar *w = weights + (size_t)row * stride, *next = w + max(ONE_ROWS * stride, (size_t)LEAST_AHEAD);
    float8 sums[ONE_ROWS];
    x += (size_t)token * args.columns;
    #pragma unroll
    for (int r = 0; r < ONE_ROWS; r++)
        sums[r] = (float8)(0.0f);
    for (int left = args.columns; left > 0; left -= 16) {
        float8 low = vload8(0, x), high = vload8(1, x);
        #pragma unroll
        for (int r = 0; r < ONE_ROWS; r++)
            sums[r] = fma(load_8_columns(w + r * stride, 0), low, sums[r]);
        #pragma unroll
        for (int r = 0; r < ONE_ROWS; r++)
            sums[r] = fma(load_8_columns(w + r * stride, 8), high, sums[r]);
        PREFETCH_128(next);
        next += 16 * BLOCK_BYTES * ONE_ROWS;
        w += 16 * BLOCK_BYTES;
        x += 16;
    }
    #pragma unroll
    for (int r = 0; r < ONE_ROWS; r++)
        if (row + r >= least)
            store_sum(args, y, token, row + r, sums[r]);
}

/* `columns` of TILE_ROWS rows `stride` bytes apart times those of TILE tokens at x + at[], added
 * to kept[row][token]. The rows at `next` come after these. */
static inline void multiply_part(global const uchar *w, global const uchar *next, size_t stride, global const float *x,
                                 const size_t at[TILE], int columns, float8 *kept) {
#ifdef ROWS_AVX2
    if (columns % 32 == 0) {
        multiply_part_avx2((global const ushort *)w, (global const ushort *)next, stride / BLOCK_BYTES, x, at, columns,
                           kept);
        return;
    }
#endif
    float8 sums[TILE_ROWS * TILE];
    #pragma unroll
    for (int i = 0; i < TILE_ROWS * TILE; i++)
        sums[i] = kept[i];
    for (int c = 0; c < columns; c += 8) {
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

/* The rows from `row` to before `end`, BLOCK_ROWS at most, times TILE tokens from `token`; a
 * token past the last one repeats it, and a row past the last one those before it: neither is
 * stored. */
static inline void multiply_block(struct matmul_args args, global const uchar *weights, global const float *x,
                                  global float *y, int row, int end, int token) {
    const size_t stride = (size_t)args.columns * BLOCK_BYTES;
    float8 sums[BLOCK_ROWS * TILE];
    size_t at[TILE];
    for (int t = 0; t < TILE; t++)
        at[t] = (size_t)min(token + t, args.token_count - 1) * args.columns;
    for (int i = 0; i < BLOCK_ROWS * TILE; i++)
        sums[i] = (float8)(0.0f);
    for (int c = 0; c < args.columns; c += PART_COLUMNS) {
        const int columns = min(args.columns - c, PART_COLUMNS);
        global const uchar *part = weights + (size_t)c * BLOCK_BYTES;
        for (int r = row; r < end; r += TILE_ROWS) {
            global const uchar *w = part + min(r, args.rows - TILE_ROWS) * stride;
            global const uchar *next = r + TILE_ROWS < end ? w + TILE_ROWS * stride
                                                           : part + row * stride + PART_COLUMNS * BLOCK_BYTES;
            multiply_part(w, next, stride, x + c, at, columns, sums + (r - row) * TILE);
        }
    }
    for (int r = row; r < end; r++) {
        int first = row + (r - row) / TILE_ROWS * TILE_ROWS, back = first - min(first, args.rows - TILE_ROWS);
        for (int t = 0; t < TILE && token + t < args.token_count; t++)
            store_sum(args, y, token + t, r, sums[(r - row + back) * TILE + t]);
    }
}

/* One row and one token of any shape. */
static inline void multiply_any(struct matmul_args args, global const uchar *weights, global const float *x,
                                global float *y, int row, int token) {
    float8 sums = 0.0f;
    weights = row_at(weights, row, args.columns);
    x += (size_t)token * args.columns;
    for (int c = 0; c < args.columns; c += 8) {
        float values[8], others[8];
        for (int i = 0; i < 8; i++) {
            values[i] = c + i < args.columns ? load_column(weights, c + i) : 0.0f;
            others[i] = c + i < args.columns ? x[c + i] : 0.0f;
        }
        sums = fma(vload8(0, values), vload8(0, others), sums);
    }
    store_sum(args, y, token, row, sums);
}

static inline bool is_odd(struct matmul_args args) {
    return args.columns % 16 != 0 || args.rows < ONE_ROWS;
}

#ifdef ROWS_AVX512
/* With up to TILE tokens, TILE_ROWS rows at a time already come as fast as memory gives them. */
static inline bool is_wide(struct matmul_args args) {
    return args.token_count > TILE && args.rows >= WIDE_ROWS && !is_odd(args);
}
#endif

/* Rows that all tokens meet before the next ones. */
static inline int rows_of_block(struct matmul_args args) {
#ifdef ROWS_AVX512
    if (is_wide(args))
        return wide_block(args);
#endif
    const int most = BLOCK_VALUES / max(args.columns, 1);   /* a rehearsal has no columns */
    return clamp(most / TILE_ROWS * TILE_ROWS, TILE_ROWS, BLOCK_ROWS);
}

/* The rows of a block from `row` to before `end`. */
static inline void run_block(struct matmul_args args, global const uchar *weights, global const float *x,
                             global float *y, int row, int end) {
#ifdef ROWS_AVX512
    if (is_wide(args)) {
        multiply_wide(args, (global const ushort *)weights, x, y, row, end);
        return;
    }
#endif
    for (int token = 0; token < args.token_count; token += TILE)
        multiply_block(args, weights, x, y, row, end, token);
}

static inline void run_any(struct matmul_args args, global const uchar *weights, global const float *x,
                           global float *y, int begin, int end) {
    for (int token = 0; token < args.token_count; token++)
        for (int row = begin; row < end; row++)
            multiply_any(args, weights, x, y, row, token);
}

/* The last rows overlap those before where their count is no multiple. */
kernel void matmul_one(struct matmul_args args, global const uchar *restrict weights,
                       global const float *restrict x, global float *restrict y, global int *turns) {
    const int least = 1 + TURN_BYTES / (ONE_ROWS * BLOCK_BYTES * max(args.columns, 1));
    int begin, end;
    while (take_turn(turns, (args.rows + ONE_ROWS - 1) / ONE_ROWS, least, &begin, &end)) {
        if (is_odd(args))
            run_any(args, weights, x, y, begin * ONE_ROWS, min(end * ONE_ROWS, args.rows));
        for (int step = begin; step < end && !is_odd(args); step++)
            multiply_one(args, weights, x, y, min(step * ONE_ROWS, args.rows - ONE_ROWS), step * ONE_ROWS, 0);
    }
    leave_turns(turns);
}

kernel void matmul_tile(struct matmul_args args, global const uchar *restrict weights,
                        global const float *restrict x, global float *restrict y, global int *turns) {
    const int rows = rows_of_block(args);
    int begin, end;
    while (take_turn(turns, (args.rows + rows - 1) / rows, 1, &begin, &end)) {
        if (is_odd(args))
            run_any(args, weights, x, y, begin * rows, min(end * rows, args.rows));
        for (int row = begin * rows; row < end * rows && !is_odd(args); row += rows)
            run_block(args, weights, x, y, row, min(row + rows, args.rows));
    }
    leave_turns(turns);
}
