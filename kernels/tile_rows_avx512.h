/* tile_rows_avx512: six rows of halves or of bfloat16 times eight tokens, with the 32 registers
 * of AVX-512.
 *
 * A vector holds the 8 sums of one row in its low half and those of the next in its high one:
 * zmm0-7 are rows 0 and 1 with each token, zmm8-15 rows 2 and 3, zmm16-23 rows 4 and 5. Of eight
 * columns, zmm24-26 are the rows, zmm27-30 a token in both halves. One column's offset `c`,
 * from -columns up to 0, addresses all but the rows of halves.
 *
 * Instructions that convert take turns from fma. So the first eight tokens leave WIDE_COLUMNS of a
 * block's rows as floats, and the other tokens of a chunk only load them; lying side by side, they
 * also do not push each other out of the first cache as rows a multiple of a page apart do. The
 * floats and the sums of a chunk stay in the second cache, a tile's tokens in the first. */
#ifndef KERNELS_TILE_ROWS_AVX512_H
#define KERNELS_TILE_ROWS_AVX512_H

#include "kernels/numerics.h"
#include "kernels/kernel_args.h"

#define WIDE_ROWS 6
#define WIDE_TILE 8
#define WIDE_SUMS (WIDE_ROWS / 2 * WIDE_TILE)            /* vectors */
#define WIDE_COLUMNS 512
#define WIDE_PACKED (WIDE_ROWS / 2 * WIDE_COLUMNS / 8)   /* vectors */
#define WIDE_BLOCK 96    /* rows */
#define WIDE_CHUNK 64   /* tokens */

#ifdef WEIGHTS_BF16
#define WIDE_FLOATS(v) "vpmovzxwd %%ymm" #v ", %%zmm" #v "\n vpslld $16, %%zmm" #v ", %%zmm" #v "\n"
#else
#define WIDE_FLOATS(v) "vcvtph2ps %%ymm" #v ", %%zmm" #v "\n"
#endif
#define WIDE_PAIR(a, b, v, at)                                                            \
    "vmovdqu32 " a ", %%xmm" #v "\n vinserti32x4 $1, " b ", %%ymm" #v ", %%ymm" #v "\n"   \
    WIDE_FLOATS(v) "vmovups %%zmm" #v ", " at "(%[packed],%[c],8)\n"
/* Pairs of packed rows are WIDE_COLUMNS * 8 bytes apart. */
#define WIDE_HALVES(at, to)                                                               \
    WIDE_PAIR(#at "(%[w])", #at "(%[w],%[d])", 24, #to)                                   \
    WIDE_PAIR(#at "(%[w],%[d],2)", #at "(%[v])", 25, "4096+" #to)                         \
    WIDE_PAIR(#at "(%[v],%[d])", #at "(%[v],%[d],2)", 26, "8192+" #to)
#define WIDE_LOAD(at)                                                                     \
    "vmovups " #at "(%[packed],%[c],8), %%zmm24\n"                                        \
    "vmovups 4096+" #at "(%[packed],%[c],8), %%zmm25\n"                                   \
    "vmovups 8192+" #at "(%[packed],%[c],8), %%zmm26\n"
#define WIDE_TOKEN(at, x, v, a, b, d)                                                     \
    "vbroadcastf32x8 " #at "(%[" #x "],%[c],4), %%zmm" #v "\n"                            \
    "vfmadd231ps %%zmm24, %%zmm" #v ", %%zmm" #a "\n"                                     \
    "vfmadd231ps %%zmm25, %%zmm" #v ", %%zmm" #b "\n"                                     \
    "vfmadd231ps %%zmm26, %%zmm" #v ", %%zmm" #d "\n"
/* Of tokens WIDE_COLUMNS * 4 bytes apart, and of tokens anywhere. */
#define WIDE_COPIES(at)                                                                   \
    WIDE_TOKEN(at, x, 27, 0, 8, 16) WIDE_TOKEN(2048+at, x, 28, 1, 9, 17)                  \
    WIDE_TOKEN(4096+at, x, 29, 2, 10, 18) WIDE_TOKEN(6144+at, x, 30, 3, 11, 19)           \
    WIDE_TOKEN(8192+at, x, 27, 4, 12, 20) WIDE_TOKEN(10240+at, x, 28, 5, 13, 21)          \
    WIDE_TOKEN(12288+at, x, 29, 6, 14, 22) WIDE_TOKEN(14336+at, x, 30, 7, 15, 23)
#define WIDE_TOKENS(at)                                                                   \
    WIDE_TOKEN(at, x0, 27, 0, 8, 16) WIDE_TOKEN(at, x1, 28, 1, 9, 17)                     \
    WIDE_TOKEN(at, x2, 29, 2, 10, 18) WIDE_TOKEN(at, x3, 30, 3, 11, 19)                   \
    WIDE_TOKEN(at, x4, 27, 4, 12, 20) WIDE_TOKEN(at, x5, 28, 5, 13, 21)                   \
    WIDE_TOKEN(at, x6, 29, 6, 14, 22) WIDE_TOKEN(at, x7, 30, 7, 15, 23)
#define WIDE_ASK_FOR(rows)                                                                \
    "prefetcht0 (%[" #rows "])\n prefetcht0 (%[" #rows "],%[d])\n prefetcht0 (%[" #rows "],%[d],2)\n"
#define WIDE_LOAD_SUM(n) "vmovups " #n "*64(%[sums]), %%zmm" #n "\n"
#define WIDE_STORE_SUM(n) "vmovups %%zmm" #n ", " #n "*64(%[sums])\n"
#define WIDE_EACH(of)                                                                     \
    of(0) of(1) of(2) of(3) of(4) of(5) of(6) of(7) of(8) of(9) of(10) of(11)             \
    of(12) of(13) of(14) of(15) of(16) of(17) of(18) of(19) of(20) of(21) of(22) of(23)
#define WIDE_REGISTERS                                                                    \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",   \
    "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24",  \
    "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30"

#ifdef __OPENCL_VERSION__

/* Added to sums[pair of rows][token]: `columns`, a multiple of 16, at least 16, of the WIDE_ROWS
 * rows from `w`, `stride` values apart, times x[token][WIDE_COLUMNS]. The rows become
 * packed[pair][column / 8]. Those at `next` come after these. */
static inline void multiply_wide_first(global const ushort *w, global const ushort *next, size_t stride,
                                       const float *x, long columns, float16 *packed, float16 *sums) {
    global const ushort *v = w + 3 * stride, *next3 = next + 3 * stride;
    long c = -columns;
    __asm__ volatile(WIDE_EACH(WIDE_LOAD_SUM)
                     ".p2align 5\n 1:\n" WIDE_HALVES(0, 0) WIDE_COPIES(0)
                     WIDE_HALVES(16, 64) WIDE_COPIES(32) WIDE_ASK_FOR(n) WIDE_ASK_FOR(n3)
                     "add $32, %[w]\n add $32, %[v]\n add $32, %[n]\n add $32, %[n3]\n add $16, %[c]\n jl 1b\n"
                     WIDE_EACH(WIDE_STORE_SUM)
                     : [c] "+r"(c), [w] "+r"(w), [v] "+r"(v), [n] "+r"(next), [n3] "+r"(next3)
                     : [d] "r"(stride * sizeof *w), [x] "r"(x + columns), [packed] "r"((float *)packed + 2 * columns),
                       [sums] "r"(sums)
                     : "memory", "cc", WIDE_REGISTERS);
}

/* The same with rows that are packed and tokens at x + at[]. The part of a token at `next` is
 * asked for. */
static inline void multiply_wide_packed(const float16 *packed, global const float *x, const size_t at[WIDE_TILE],
                                        global const float *next, long columns, float16 *sums) {
    long c = -columns;
    x += columns;
    __asm__ volatile(WIDE_EACH(WIDE_LOAD_SUM)
                     ".p2align 5\n 1:\n" WIDE_LOAD(0) WIDE_TOKENS(0) "prefetcht1 (%[next],%[c],4)\n"
                     WIDE_LOAD(64) WIDE_TOKENS(32) "add $16, %[c]\n jl 1b\n" WIDE_EACH(WIDE_STORE_SUM)
                     : [c] "+r"(c)
                     : [x0] "r"(x + at[0]), [x1] "r"(x + at[1]), [x2] "r"(x + at[2]), [x3] "r"(x + at[3]),
                       [x4] "r"(x + at[4]), [x5] "r"(x + at[5]), [x6] "r"(x + at[6]), [x7] "r"(x + at[7]),
                       [packed] "r"((const float *)packed + 2 * columns), [next] "r"(next + columns), [sums] "r"(sums)
                     : "memory", "cc", WIDE_REGISTERS);
}

/* The tree of sum_8(), step by step, for two rows a vector. */
static inline float16 add_fours(float16 a, float16 b) {
    return (float16)(a.s0123, a.s89ab, b.s0123, b.s89ab) + (float16)(a.s4567, a.scdef, b.s4567, b.scdef);
}

static inline float16 add_twos(float16 a, float16 b) {
    return (float16)(a.s01, a.s45, a.s89, a.scd, b.s01, b.s45, b.s89, b.scd) +
           (float16)(a.s23, a.s67, a.sab, a.sef, b.s23, b.s67, b.sab, b.sef);
}

static inline float16 add_ones(float16 a, float16 b) {
    return (float16)(a.s02468ace, b.s02468ace) + (float16)(a.s13579bdf, b.s13579bdf);
}

/* Two rows with each token of a tile, to totals[token]. */
static inline void add_up_pair(const float16 *s, float (*totals)[WIDE_ROWS + WIDE_BLOCK], int column) {
    float16 pair = add_ones(add_twos(add_fours(s[0], s[1]), add_fours(s[2], s[3])),
                            add_twos(add_fours(s[4], s[5]), add_fours(s[6], s[7])));
    vstore2(pair.s01, 0, totals[0] + column);
    vstore2(pair.s23, 0, totals[1] + column);
    vstore2(pair.s45, 0, totals[2] + column);
    vstore2(pair.s67, 0, totals[3] + column);
    vstore2(pair.s89, 0, totals[4] + column);
    vstore2(pair.sab, 0, totals[5] + column);
    vstore2(pair.scd, 0, totals[6] + column);
    vstore2(pair.sef, 0, totals[7] + column);
}

/* The first row of a group: the last group of a matrix overlaps the one before. */
static inline int wide_row(struct matmul_args args, int row) {
    return min(row, args.rows - WIDE_ROWS);
}

/* A tile's rows from `row` to before `end`. A group may begin up to WIDE_ROWS before `row`. */
static inline void store_wide(struct matmul_args args, const float16 *sums, global float *y, int row, int end,
                              int token, int token_end) {
    float totals[WIDE_TILE][WIDE_ROWS + WIDE_BLOCK];
    for (int r = row; r < end; r += WIDE_ROWS)
        for (int i = 0; i < WIDE_ROWS; i += 2, sums += WIDE_TILE)
            add_up_pair(sums, totals, WIDE_ROWS + wide_row(args, r) - row + i);
    for (int t = 0; t < min(WIDE_TILE, token_end - token); t++) {
        global float *out = y + (size_t)(token + t) * args.y_stride + args.row_offset + row;
        const float *from = totals[t] + WIDE_ROWS;
        for (int r = 0; r < end - row; r++)
            out[r] = args.accumulate ? out[r] + from[r] : from[r];
    }
}

/* Where a token's values begin: a token past the last one repeats it, and is not stored. */
static inline size_t wide_token(struct matmul_args args, int token) {
    return (size_t)min(token, args.token_count - 1) * args.columns;
}

/* A chunk's first tile: the rows become floats. */
static inline void multiply_first_tile(struct matmul_args args, global const ushort *weights, global const float *x,
                                       int row, int end, int token, int columns, float16 *packed, float16 *sums) {
    float16 copy[WIDE_TILE * WIDE_COLUMNS / 16];
    const size_t stride = args.columns;
    for (int t = 0; t < WIDE_TILE; t++)
        for (int c = 0; c < columns / 16; c++)
            copy[t * WIDE_COLUMNS / 16 + c] = vload16(c, x + wide_token(args, token + t));
    for (int r = row; r < end; r += WIDE_ROWS, packed += WIDE_PACKED, sums += WIDE_SUMS) {
        global const ushort *w = weights + wide_row(args, r) * stride;
        global const ushort *next = r + WIDE_ROWS < end ? w + WIDE_ROWS * stride
                                                        : weights + row * stride + WIDE_COLUMNS;
        multiply_wide_first(w, next, stride, (const float *)copy, columns, packed, sums);
    }
}

/* Another tile. Each group asks for a token of the tile after it. */
static inline void multiply_next_tile(struct matmul_args args, const float16 *packed, global const float *x, int row,
                                      int end, int token, int columns, float16 *sums) {
    size_t at[WIDE_TILE];
    for (int t = 0; t < WIDE_TILE; t++)
        at[t] = wide_token(args, token + t);
    for (int r = row; r < end; r += WIDE_ROWS, packed += WIDE_PACKED, sums += WIDE_SUMS) {
        int next = token + WIDE_TILE + (r - row) / WIDE_ROWS;
        multiply_wide_packed(packed, x, at, x + wide_token(args, next), columns, sums);
    }
}

/* The rows from `row` to before `end` times the tokens from `token` to before `token_end`, at most
 * WIDE_BLOCK and WIDE_CHUNK. */
static inline void multiply_chunk(struct matmul_args args, global const ushort *weights, global const float *x,
                                  global float *y, int row, int end, int token, int token_end) {
    float16 packed[WIDE_BLOCK / WIDE_ROWS * WIDE_PACKED];
    float16 sums[WIDE_CHUNK / WIDE_TILE * WIDE_BLOCK / WIDE_ROWS * WIDE_SUMS];
    const int sums_of_tile = (end - row + WIDE_ROWS - 1) / WIDE_ROWS * WIDE_SUMS;
    const int tiles = (token_end - token + WIDE_TILE - 1) / WIDE_TILE;
    for (int i = 0; i < tiles * sums_of_tile; i++)
        sums[i] = 0.0f;
    for (int c = 0; c < args.columns; c += WIDE_COLUMNS) {
        const int columns = min(args.columns - c, WIDE_COLUMNS);
        multiply_first_tile(args, weights + c, x + c, row, end, token, columns, packed, sums);
        for (int i = 1; i < tiles; i++)
            multiply_next_tile(args, packed, x + c, row, end, token + i * WIDE_TILE, columns, sums + i * sums_of_tile);
    }
    for (int i = 0; i < tiles; i++)
        store_wide(args, sums + i * sums_of_tile, y, row, end, token + i * WIDE_TILE, token_end);
}

/* All tokens, of a matrix with WIDE_ROWS rows or more and a multiple of 16 columns. */
static inline void multiply_wide(struct matmul_args args, global const ushort *weights, global const float *x,
                                 global float *y, int row, int end) {
    for (int token = 0; token < args.token_count; token += WIDE_CHUNK)
        multiply_chunk(args, weights, x, y, row, end, token, min(token + WIDE_CHUNK, args.token_count));
}

/* Rows of a block: smaller ones where there would be few turns. */
static inline int wide_block(struct matmul_args args) {
    const int share = args.rows / (4 * (int)get_global_size(0));
    return clamp(share / WIDE_ROWS * WIDE_ROWS, WIDE_BLOCK / 2, WIDE_BLOCK);
}

#endif
#endif
