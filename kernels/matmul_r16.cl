/* matmul_r16: y = W x, weights packed in groups of 16 rows with int8 activations.
 *
 *     y[t][row_offset + r] (+)= sum over c of W[r][c] * x[t][c]
 *
 *   weights  WEIGHTS_Q8_0, _Q4_0, _Q4_1, _Q4_K or _Q6_K as common/pack_r16.h lays them out
 *   values   [tokens][columns]       int8     }
 *   scales   [tokens][columns / 32]  float    } see kernels/quantise.cl
 *   sums     [tokens][columns / 32]  int32    }
 *   y        [tokens][y_stride]      float; with `accumulate` y + sum
 *   turns    see kernels/turns.h
 *
 * Rounding: that of kernels/matmul_q8.cl, bit for bit, in every variant of dot4.h.
 *
 * Launch: CPU: a few work-items of dimension 0 share the groups of rows by turns.
 *         DOT4_SCALAR: (rows, tokens / tile rounded up), one a row and a tile of tokens.
 * Speed:  one token: the rate of memory; blocks are read in order, once, and asked for
 *         ahead. More: a group stays in the cache while all tokens pass, TILE at a time,
 *         so that a block is decoded once a tile.
 * Host:   kernels/ops_matmul.c, op_matmul_q8(). Test: tests/test_kernel_matmul_r16.c. */
#include "kernels/numerics.h"
#include "kernels/kernel_args.h"
#include "kernels/packed_r16.h"
#include "kernels/turns.h"

#ifndef TILE
#define TILE 8   /* tokens that share a decoded block in matmul_tile */
#endif

/* Activations of a tile; a token past the end repeats the last one, and is not stored. */
struct inputs {
    global const char *values;
    global const float *scales;
    global const int *sums;
};

#if defined(DOT4_AVX2) && !HAS_HALVES
#include "kernels/tile_avx2.h"
#elif defined(DOT4_VNNI) && !defined(DOT4_SPELLED_OUT)
#include "kernels/tile_vnni.h"
#endif

#define PARTS (GROUP_ROWS / LANES)   /* of a group: LANES rows each */

/* Lines of the quants that lie AHEAD bytes on; past the end it does nothing. */
#define AHEAD "4096"
#define AHEAD_1 "4160"
#define AHEAD_2 "4224"
#define AHEAD_3 "4288"
#if defined(DOT4_VNNI) || defined(DOT4_AVX2)
#define PREFETCH_256(p) __asm__ volatile("prefetcht0 " AHEAD "(%0)\n prefetcht0 " AHEAD_1 "(%0)\n prefetcht0 " \
                                         AHEAD_2 "(%0)\n prefetcht0 " AHEAD_3 "(%0)" : : "r"(p))
#else
#define PREFETCH_256(p)
#endif

static inline void store_rows(struct matmul_args args, global float *y, int token, int row, lane_floats acc) {
    global float *out = y + (size_t)token * args.y_stride + args.row_offset + row;
#if LANES > 1
    if (row + LANES > args.rows) {
        float results[LANES];
        STORE_LANES(acc, results);
        for (int r = 0; row + r < args.rows; r++)
            out[r] = args.accumulate ? out[r] + results[r] : results[r];
        return;
    }
#endif
    if (args.accumulate)
        acc = LOAD_LANES(out) + acc;
    STORE_LANES(acc, out);
}

/* `parts` parts of a group from part `part`, times `tile` tokens from `first`. */
static inline void multiply(struct matmul_args args, struct packed_group group, int group_row, const int part,
                            const int parts, struct inputs x, global float *y, int first, const int tile) {
    int blocks = args.columns / GROUP_COLUMNS, last = args.token_count - 1;
    lane_floats acc[PARTS * TILE];
    size_t at[TILE];
    #pragma unroll
    for (int t = 0; t < tile; t++)
        at[t] = (size_t)min(first + t, last) * blocks;
    #pragma unroll
    for (int i = 0; i < parts * tile; i++)
        acc[i] = (lane_floats)(0.0f);
    for (int b = 0; b < blocks; b++) {
        global const uchar *quants = group.quants + (size_t)b * QUANT_BYTES;
        if (tile == 1) {
            PREFETCH_256(quants);
#if QUANT_BYTES > 256
            PREFETCH_256(quants + 256);
#endif
        }
        #pragma unroll
        for (int p = 0; p < parts; p++) {
            int lane = (part + p) * LANES;
            quads w[8];
            load_block(quants + lane * 4, w);
            lane_floats step = load_steps(group, b, lane);
#if HAS_FLOOR
            lane_floats floor = load_floors(group, b, lane);
#endif
#if HAS_HALVES
            global const uchar *factors = group.factors + (size_t)b * 2 * GROUP_ROWS + lane;
            lane_ints first_half = LOAD_SIGNED(factors), second_half = LOAD_SIGNED(factors + GROUP_ROWS);
#endif
            #pragma unroll
            for (int t = 0; t < tile; t++) {
                size_t block = at[t] + b;
                float scale = x.scales[block];
#if HAS_HALVES
                lane_ints dot = dot_halves(w, (global const int *)(x.values + block * 32), first_half, second_half);
#else
                int sum = x.sums[block];
                lane_ints dot = dot_block(w, (global const int *)(x.values + block * 32), -DOT_ZERO * sum);
#endif
                acc[p * tile + t] = fma(TO_FLOATS(dot), step * (lane_floats)(scale), acc[p * tile + t]);
#if HAS_FLOOR
                acc[p * tile + t] = fma(floor, (lane_floats)(scale * (float)sum), acc[p * tile + t]);
#endif
            }
        }
    }
    #pragma unroll
    for (int t = 0; t < tile; t++)
        if (first + t <= last)
            for (int p = 0; p < parts; p++)
                store_rows(args, y, first + t, group_row + (part + p) * LANES, acc[p * tile + t]);
}

#if LANES == 1

#define TURNS_ARGUMENT
#define RUN(tile)                                                                                     \
    int row = get_global_id(0), first = get_global_id(1) * (tile);                                        \
    if (row >= args.rows || first >= args.token_count)                                                    \
        return;                                                                                           \
    struct packed_group group = find_group(weights, args.rows, args.columns, row / GROUP_ROWS);           \
    multiply(args, group, row - row % GROUP_ROWS, row % GROUP_ROWS, 1, x, y, first, tile)

#else

#define TURNS_ARGUMENT , global int *turns

/* Each of this work-item's groups, as it takes its turns. */
#define GROUPS_OF_ITEM(group, least)                                                                      \
    for (int group, end; take_turn(turns, (args.rows + GROUP_ROWS - 1) / GROUP_ROWS, least, &group, &end);) \
        for (; group < end; group++)

static inline void run_one(struct matmul_args args, global const uchar *weights, struct inputs x,
                           global float *y, global int *turns) {
    const int least = 1 + TURN_BYTES / (QUANT_BYTES * max(args.columns / GROUP_COLUMNS, 1));
    GROUPS_OF_ITEM(g, least)
        multiply(args, find_group(weights, args.rows, args.columns, g), g * GROUP_ROWS, 0, PARTS, x, y, 0, 1);
}

#ifdef TILE_TOKENS

/* Rows and tokens of a tile: TILE_GROUPS groups and TILE_TOKENS tokens, of which those before first_group and
 * first_token are not stored: another tile has them. */
struct tile {
    int group, first_group, token, first_token;
};

/* Asks for its share of the groups that come next, which have as many tiles. */
static inline void multiply_tile(struct matmul_args args, global const uchar *weights, struct tile tile,
                                 struct inputs x, global float *y) {
    const int blocks = args.columns / GROUP_COLUMNS, tiles = (args.token_count + TILE_TOKENS - 1) / TILE_TOKENS;
    const int count = SCALE_BLOCKS > 1 ? SCALE_BLOCKS : blocks;
    const struct packed_group group = find_group(weights, args.rows, args.columns, tile.group);
    const long next = TILE_GROUPS * QUANT_BYTES, share = next / tiles;   /* bytes a block */
    global const uchar *ahead = group.quants + (next + tile.first_token / TILE_TOKENS * share) * blocks;
    lane_floats acc[TILE_GROUPS * TILE_TOKENS * PARTS];
    for (int i = 0; i < TILE_GROUPS * TILE_TOKENS * PARTS; i++)
        acc[i] = (lane_floats)(0.0f);
    for (int b = 0; b < blocks; b += count)
        add_blocks(group, b, count, blocks, x, tile.token, ahead + b * share, share, acc);
    for (int g = tile.first_group - tile.group; g < TILE_GROUPS; g++)
        for (int t = tile.first_token - tile.token; t < TILE_TOKENS; t++)
            for (int p = 0; p < PARTS; p++)
                store_rows(args, y, tile.token + t, (tile.group + g) * GROUP_ROWS + p * LANES,
                           acc[(g * TILE_TOKENS + t) * PARTS + p]);
}

/* The last groups and tokens overlap those before where the count is no multiple of a tile's; fewer than a tile's go
 * one by one. */
static inline void run_tiles(struct matmul_args args, global const uchar *weights, struct inputs x,
                             global float *y, global int *turns) {
    const int groups = (args.rows + GROUP_ROWS - 1) / GROUP_ROWS;
    const int last_group = groups - TILE_GROUPS, last_token = args.token_count - TILE_TOKENS;
    for (int turn, end; take_turn(turns, (groups + TILE_GROUPS - 1) / TILE_GROUPS, 1, &turn, &end);)
        for (int group = turn * TILE_GROUPS; group < min(end * TILE_GROUPS, groups); group += TILE_GROUPS)
            if (last_group >= 0 && last_token >= 0)
                for (int token = 0; token < args.token_count; token += TILE_TOKENS) {
                    struct tile tile = { min(group, last_group), group, min(token, last_token), token };
                    multiply_tile(args, weights, tile, x, y);
                }
            else
                for (int g = group; g < min(group + TILE_GROUPS, groups); g++)
                    for (int token = 0; token < args.token_count; token++)
                        multiply(args, find_group(weights, args.rows, args.columns, g), g * GROUP_ROWS, 0, PARTS, x, y,
                                 token, 1);
}

#else

static inline void run_tiles(struct matmul_args args, global const uchar *weights, struct inputs x,
                             global float *y, global int *turns) {
    GROUPS_OF_ITEM(g, 1) {
        struct packed_group group = find_group(weights, args.rows, args.columns, g);
        for (int first = 0; first < args.token_count; first += TILE)
            for (int part = 0; part < PARTS; part++)
                multiply(args, group, g * GROUP_ROWS, part, 1, x, y, first, TILE);
    }
}

#endif
#endif

kernel void matmul_one(struct matmul_args args, global const uchar *restrict weights,
                       global const char *restrict values, global const float *restrict scales,
                       global const int *restrict sums, global float *restrict y TURNS_ARGUMENT) {
    struct inputs x = { values, scales, sums };
#if LANES == 1
    RUN(1);
#else
    run_one(args, weights, x, y, turns);
    leave_turns(turns);
#endif
}

kernel void matmul_tile(struct matmul_args args, global const uchar *restrict weights,
                        global const char *restrict values, global const float *restrict scales,
                        global const int *restrict sums, global float *restrict y TURNS_ARGUMENT) {
    struct inputs x = { values, scales, sums };
#if LANES == 1
    RUN(TILE);
#else
    run_tiles(args, weights, x, y, turns);
    leave_turns(turns);
#endif
}
