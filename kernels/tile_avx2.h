/* tile_avx2: a block of 16 rows and 32 columns times four tokens in AVX2; what a
 * compiler makes of it in C spills half of the sixteen registers, for 2/3 of the speed.
 *
 * Rows 0-7 of the group meet token t in register a<t>, rows 8-15 in b<t>. Each four
 * columns: decode both halves' quants once, broadcast a token's four activations, and
 * for both halves
 *   4 bits   vpmaddubsw, added in 16 bits (sixteen products of at most 15 * 127), and one
 *            vpmaddwd a block
 *   8 bits   vpmaddubsw of |w| and x with the sign of w (two products stay within 16
 *            bits), vpmaddwd, added in 32 bits
 * then the float part as kernels/matmul_r16.cl has it: the same roundings in the same
 * order. Tokens lie `columns` bytes apart, their scales and sums blocks * 4 bytes. */
#ifndef KERNELS_TILE_AVX2_H
#define KERNELS_TILE_AVX2_H

#include "kernels/packed_r16.h"

#define TILE_TOKENS 4
#define TILE_GROUPS 1

/* Operands: w quants, v values, x temporary; s and s3 one and three strides of values. */
#define VALUES_0(at) #at "(%[v])"
#define VALUES_1(at) #at "(%[v],%[s])"
#define VALUES_2(at) #at "(%[v],%[s],2)"
#define VALUES_3(at) #at "(%[v],%[s3])"
/* `of` is scales or sums; n and n3 one and three strides of both. */
#define BLOCK_0(of) "(%[" #of "])"
#define BLOCK_1(of) "(%[" #of "],%[n])"
#define BLOCK_2(of) "(%[" #of "],%[n],2)"
#define BLOCK_3(of) "(%[" #of "],%[n3])"

#if HAS_NIBBLES

/* Two times four columns: l0 and l1 from the low nibbles, h0 and h1 from the high ones. */
#define DECODE(at)                                                                          \
    "vmovdqu " #at "(%[w]), %[l0]\n vmovdqu " #at "+32(%[w]), %[l1]\n"                      \
    "vpsrld $4, %[l0], %[h0]\n vpsrld $4, %[l1], %[h1]\n"                                   \
    "vpand %[mask], %[l0], %[l0]\n vpand %[mask], %[l1], %[l1]\n"                           \
    "vpand %[mask], %[h0], %[h0]\n vpand %[mask], %[h1], %[h1]\n"
#define FIRST(from, a, b)                                                                   \
    "vpbroadcastd " from ", %[x]\n"                                                         \
    "vpmaddubsw %[x], %[l0], %[" #a "]\n vpmaddubsw %[x], %[l1], %[" #b "]\n"
#define NEXT(from, low, high, a, b)                                                         \
    "vpbroadcastd " from ", %[x]\n"                                                         \
    "vpmaddubsw %[x], %[" #low "], %[t]\n vpmaddubsw %[x], %[" #high "], %[x]\n"            \
    "vpaddw %[t], %[" #a "], %[" #a "]\n vpaddw %[x], %[" #b "], %[" #b "]\n"
#define TOKENS_FIRST                                                                        \
    FIRST(VALUES_0(0), a0, b0) FIRST(VALUES_1(0), a1, b1)                                   \
    FIRST(VALUES_2(0), a2, b2) FIRST(VALUES_3(0), a3, b3)
#define TOKENS_NEXT(at, low, high)                                                          \
    NEXT(VALUES_0(at), low, high, a0, b0) NEXT(VALUES_1(at), low, high, a1, b1)             \
    NEXT(VALUES_2(at), low, high, a2, b2) NEXT(VALUES_3(at), low, high, a3, b3)
#define PRODUCTS                                                                            \
    DECODE(0) TOKENS_FIRST TOKENS_NEXT(4, h0, h1)                                           \
    DECODE(64) TOKENS_NEXT(8, l0, l1) TOKENS_NEXT(12, h0, h1)                               \
    DECODE(128) TOKENS_NEXT(16, l0, l1) TOKENS_NEXT(20, h0, h1)                             \
    DECODE(192) TOKENS_NEXT(24, l0, l1) TOKENS_NEXT(28, h0, h1)
#define TO_INT32(a) "vpmaddwd %[ones], %[" #a "], %[" #a "]\n"

#else

/* Four columns: l0 and l1 as they are, h0 and h1 their magnitudes. */
#define DECODE(at)                                                                          \
    "vmovdqu " #at "(%[w]), %[l0]\n vmovdqu " #at "+32(%[w]), %[l1]\n"                      \
    "vpabsb %[l0], %[h0]\n vpabsb %[l1], %[h1]\n"
#define PAIRS(from)                                                                         \
    "vpbroadcastd " from ", %[x]\n vpsignb %[l0], %[x], %[t]\n vpsignb %[l1], %[x], %[x]\n" \
    "vpmaddubsw %[t], %[h0], %[t]\n vpmaddubsw %[x], %[h1], %[x]\n"
#define FIRST(from, a, b)                                                                   \
    PAIRS(from) "vpmaddwd %[ones], %[t], %[" #a "]\n vpmaddwd %[ones], %[x], %[" #b "]\n"
#define NEXT(from, a, b)                                                                    \
    PAIRS(from) "vpmaddwd %[ones], %[t], %[t]\n vpmaddwd %[ones], %[x], %[x]\n"             \
    "vpaddd %[t], %[" #a "], %[" #a "]\n vpaddd %[x], %[" #b "], %[" #b "]\n"
#define TOKENS_FIRST                                                                        \
    FIRST(VALUES_0(0), a0, b0) FIRST(VALUES_1(0), a1, b1)                                   \
    FIRST(VALUES_2(0), a2, b2) FIRST(VALUES_3(0), a3, b3)
#define TOKENS_NEXT(at)                                                                     \
    NEXT(VALUES_0(at), a0, b0) NEXT(VALUES_1(at), a1, b1)                                   \
    NEXT(VALUES_2(at), a2, b2) NEXT(VALUES_3(at), a3, b3)
#define PRODUCTS                                                                            \
    DECODE(0) TOKENS_FIRST DECODE(64) TOKENS_NEXT(4) DECODE(128) TOKENS_NEXT(8)             \
    DECODE(192) TOKENS_NEXT(12) DECODE(256) TOKENS_NEXT(16) DECODE(320) TOKENS_NEXT(20)     \
    DECODE(384) TOKENS_NEXT(24) DECODE(448) TOKENS_NEXT(28)
#define TO_INT32(a)

#endif

/* x is what the block's sum contributes. */
#if DOT_ZERO == 8
#define SUM_TERM "vpslld $3, %[x], %[x]\n"                /* 8 * sum, to be taken off */
#define ADD_ZERO(a) "vpsubd %[x], %[" #a "], %[" #a "]\n"
#define ADD_FLOOR(floor, a)
#elif HAS_FLOOR
#define SUM_TERM "vcvtdq2ps %[x], %[x]\n vmulps %[t], %[x], %[x]\n"   /* scale * sum */
#define ADD_ZERO(a)
#define ADD_FLOOR(floor, a) "vfmadd231ps %[" #floor "], %[x], %[" #a "]\n"
#else
#define SUM_TERM
#define ADD_ZERO(a)
#define ADD_FLOOR(floor, a)
#endif

/* acc = fma(dot, step * scale, acc), then fma(floor, scale * sum, acc) */
#define ACCUMULATE_HALF(a, step, floor, at)                                                 \
    TO_INT32(a) ADD_ZERO(a) "vcvtdq2ps %[" #a "], %[" #a "]\n"                              \
    "vmulps %[" #step "], %[t], %[h0]\n"                                                    \
    "vfmadd213ps " #at "(%[acc]), %[h0], %[" #a "]\n" ADD_FLOOR(floor, a)                   \
    "vmovups %[" #a "], " #at "(%[acc])\n"
#define ACCUMULATE(t, at)                                                                   \
    "vpbroadcastd " BLOCK_##t(sums) ", %[x]\n vbroadcastss " BLOCK_##t(scales) ", %[t]\n"   \
    SUM_TERM ACCUMULATE_HALF(a##t, l0, h1, at) ACCUMULATE_HALF(b##t, l1, f1, at + 32)

/* Halves from the planes, or floats already multiplied by their factors. */
#if SCALE_BLOCKS > 1
#define LOAD_STEPS "vmovups (%[steps]), %[l0]\n vmovups 32(%[steps]), %[l1]\n"
#define FLOORS "vmovups (%[floors]), %[h1]\n vmovups 32(%[floors]), %[f1]\n"
#else
#define LOAD_STEPS "vcvtph2ps (%[steps]), %[l0]\n vcvtph2ps 16(%[steps]), %[l1]\n"
#define FLOORS "vcvtph2ps (%[floors]), %[h1]\n vcvtph2ps 16(%[floors]), %[f1]\n"
#endif
#if HAS_FLOOR
#define LOAD_FLOORS FLOORS
#else
#define LOAD_FLOORS
#endif

#ifdef __OPENCL_VERSION__

#if SCALE_BLOCKS > 1
typedef const float8 *sixteen;
#define SIXTEEN 2
#else
typedef global const half *sixteen;
#define SIXTEEN GROUP_ROWS
#endif

/* acc [token][16 rows] += one block. The strides are in bytes. */
static inline void add_block(global const uchar *quants, sixteen steps, sixteen floors,
                             global const char *values, global const float *scales, global const int *sums,
                             long value_stride, long block_stride, float8 acc[2 * TILE_TOKENS]) {
    const uint8 mask = (uint8)(0x0f0f0f0fu);
    const short16 ones = (short16)(1);
    short16 a0, a1, a2, a3, b0, b1, b2, b3;
    uint8 l0, l1, h0, h1, f1, x, t;
    __asm__(PRODUCTS
            LOAD_STEPS LOAD_FLOORS
            ACCUMULATE(0, 0) ACCUMULATE(1, 64) ACCUMULATE(2, 128) ACCUMULATE(3, 192)
            : [a0] "=&x"(a0), [a1] "=&x"(a1), [a2] "=&x"(a2), [a3] "=&x"(a3), [b0] "=&x"(b0),
              [b1] "=&x"(b1), [b2] "=&x"(b2), [b3] "=&x"(b3), [l0] "=&x"(l0), [l1] "=&x"(l1),
              [h0] "=&x"(h0), [h1] "=&x"(h1), [f1] "=&x"(f1), [x] "=&x"(x), [t] "=&x"(t)
            : [w] "r"(quants), [steps] "r"(steps), [floors] "r"(floors), [v] "r"(values),
              [scales] "r"(scales), [sums] "r"(sums), [s] "r"(value_stride), [s3] "r"(3 * value_stride),
              [n] "r"(block_stride), [n3] "r"(3 * block_stride), [acc] "r"(acc),
              [mask] "x"(mask), [ones] "m"(ones)
            : "memory");
}

/* acc [token][16 rows] += `count` blocks, no more than SCALE_BLOCKS where that is more than one, from block `b` on of
 * a matrix that has `blocks`; token `from` of x is the first. Each asks for `share` bytes more from `ahead` on. */
static inline void add_blocks(struct packed_group group, int b, int count, int blocks, struct inputs x, int from,
                              global const uchar *ahead, long share, float8 acc[2 * TILE_TOKENS]) {
    size_t block = (size_t)from * blocks + b;
#if SCALE_BLOCKS > 1
    float8 steps[2 * SCALE_BLOCKS], floors[2 * SCALE_BLOCKS];
    for (int i = 0; i < 2 * count; i++) {
        steps[i] = load_steps(group, b + i / 2, i % 2 * LANES);
        floors[i] = load_floors(group, b + i / 2, i % 2 * LANES);
    }
#else
    sixteen steps = group.steps + b * GROUP_ROWS, floors = group.floors + b * GROUP_ROWS;
#endif
    for (int i = 0; i < count; i++, block++) {
        for (long line = 0; line < share; line += 64)
            __asm__ volatile("prefetcht1 (%0)" : : "r"(ahead + i * share + line));
        add_block(group.quants + (size_t)(b + i) * QUANT_BYTES, steps + i * SIXTEEN, floors + i * SIXTEEN,
                  x.values + block * 32, x.scales + block, x.sums + block, (long)blocks * 32, (long)blocks * 4, acc);
    }
}

#endif
#endif
