/* tile_vnni: blocks of 32 rows and 32 columns times four tokens in AVX-512 VNNI; what a
 * compiler makes of it in C spills sums and addresses, for half of the speed.
 *
 * Two groups of rows, so that a token's activations, once broadcast from memory, meet two
 * registers of quants: the pipes that load would bound it otherwise. zmm0-3 and 4-7 hold the float
 * sums of the groups with each token over all blocks, zmm8-11 and 12-15 the products of a block,
 * exact. Two times four columns at a time: decode the quants of both once, meet each token.
 * Then the float part as kernels/matmul_r16.cl has it: the same roundings in the same order.
 * Bound by the pipes that multiply, two on Zen 5: 80 instructions a block of 4 or 8 bits take 40
 * cycles of 43.
 *
 * The next group's quants lie `next` bytes after w, its steps and factors k bytes after the first's,
 * where k is blocks * 32; token t t * k bytes after v, its scale and sum t * n after those of the
 * first, where n is blocks * 4. */
#ifndef KERNELS_TILE_VNNI_H
#define KERNELS_TILE_VNNI_H

#include "kernels/packed_r16.h"

#define TILE_TOKENS 4
#define TILE_GROUPS 2

#define VALUES_0 "(%[v])"
#define VALUES_1 "(%[v],%[k])"
#define VALUES_2 "(%[v],%[k],2)"
#define VALUES_3 "(%[v],%[k3])"
/* `of` is scales or sums. */
#define BLOCK_0(of) "(%[" #of "])"
#define BLOCK_1(of) "(%[" #of "],%[n])"
#define BLOCK_2(of) "(%[" #of "],%[n],2)"
#define BLOCK_3(of) "(%[" #of "],%[n3])"

/* Each with its sums and its products in both groups, and a register for what both meet. */
#define EACH_TOKEN(of) of(0, 4, 8, 12, 24) of(1, 5, 9, 13, 25) of(2, 6, 10, 14, 26) of(3, 7, 11, 15, 27)
#define EACH_DOT(of, at, w, w2)                                                             \
    of(0, 8, 12, 24, at, w, w2) of(1, 9, 13, 25, at, w, w2)                                 \
    of(2, 10, 14, 26, at, w, w2) of(3, 11, 15, 27, at, w, w2)

#define ZERO(a) "vpxord %%zmm" #a ", %%zmm" #a ", %%zmm" #a "\n"

#if HAS_HALVES

/* Quants are 0 .. 63: each half of a block takes off 32 times the sum of its activations, which products with 32 give
 * for the first, in zmm24-27, and the block's sum for the second. Halves times their factors are below 2^24: exact in
 * float; the first's wait after the steps, in memory. zmm16-19 and 20-23 are the groups' quants of a half, joined from two planes of
 * nibbles and one of pairs of bits. */
#define MASK 0x0f0f0f0f
#define PREPARE "vpbroadcastd %[six_bits], %%zmm31\n vpbroadcastd %[thirty_two], %%zmm29\n"
#define JOIN(nibbles, to)                                                                   \
    "vpternlogd $0xb8, %%zmm" #nibbles ", %%zmm30, %%zmm" #to "\n"                           \
    "vpandd %%zmm31, %%zmm" #to ", %%zmm" #to "\n"
#define DECODE(at, bits_at, from, q0, q1, q2, q3)                                           \
    "vmovdqu32 " #at from ", %%zmm24\n vmovdqu32 64+" #at from ", %%zmm25\n"                  \
    "vmovdqu32 " #bits_at from ", %%zmm" #q2 "\n"                                            \
    "vpslld $4, %%zmm" #q2 ", %%zmm" #q0 "\n vpslld $2, %%zmm" #q2 ", %%zmm" #q1 "\n"          \
    "vpsrld $2, %%zmm" #q2 ", %%zmm" #q3 "\n" JOIN(24, q0) JOIN(25, q2)                      \
    "vpsrld $4, %%zmm24, %%zmm24\n vpsrld $4, %%zmm25, %%zmm25\n" JOIN(24, q1) JOIN(25, q3)
#define DECODE_HALF(at, bits_at)                                                            \
    DECODE(at, bits_at, "(%[w])", 16, 17, 18, 19) DECODE(at, bits_at, "(%[w],%[next])", 20, 21, 22, 23)
#define FACTORS(at)                                                                         \
    "vpmovsxbd " #at "(%[floors]), %%zmm16\n vpmovsxbd " #at "(%[floors],%[k]), %%zmm17\n"      \
    "vcvtdq2ps %%zmm16, %%zmm16\n vcvtdq2ps %%zmm17, %%zmm17\n"

#define START(t, t2, a, b, sum) ZERO(a) ZERO(b) ZERO(sum)
#define DOT(t, a, b, sum, at, w, w2)                                                        \
    "vpbroadcastd " #at VALUES_##t ", %%zmm28\n"                                              \
    "vpdpbusd %%zmm28, %%zmm" #w ", %%zmm" #a "\n vpdpbusd %%zmm28, %%zmm" #w2 ", %%zmm" #b "\n"
#define DOT_AND_SUM(t, a, b, sum, at, w, w2)                                                \
    DOT(t, a, b, sum, at, w, w2) "vpdpbusd %%zmm28, %%zmm29, %%zmm" #sum "\n"
#define KEEP(a, sum, factor)                                                                \
    "vpsubd %%zmm" #sum ", %%zmm" #a ", %%zmm" #a "\n vcvtdq2ps %%zmm" #a ", %%zmm" #a "\n"     \
    "vmulps %%zmm" #factor ", %%zmm" #a ", %%zmm" #a "\n vmovaps %%zmm" #a ", 64*(" #a "-4)(%[steps])\n"
#define END_FIRST(t, t2, a, b, sum)                                                             \
    KEEP(a, sum, 16) KEEP(b, sum, 17) "vpbroadcastd " BLOCK_##t(sums) ", %%zmm18\n"           \
    "vpslld $5, %%zmm18, %%zmm18\n vpsubd %%zmm18, %%zmm" #sum ", %%zmm" #a "\n"              \
    "vmovdqa32 %%zmm" #a ", %%zmm" #b "\n"
#define ADD_DOT(acc, a, factor, step)                                                       \
    "vcvtdq2ps %%zmm" #a ", %%zmm" #a "\n"                                                   \
    "vfmadd213ps 64*(" #a "-4)(%[steps]), %%zmm" #factor ", %%zmm" #a "\n"                   \
    "vmulps " #step "(%[steps]), %%zmm28, %%zmm18\n vfmadd231ps %%zmm18, %%zmm" #a ", %%zmm" #acc "\n"
#define ACCUMULATE(t, t2, a, b, sum)                                                        \
    "vbroadcastss " BLOCK_##t(scales) ", %%zmm28\n" ADD_DOT(t, a, 16, 0) ADD_DOT(t2, b, 17, 64)

#define ADD_BLOCK                                                                           \
    DECODE_HALF(0, 256) EACH_TOKEN(START)                                                   \
    EACH_DOT(DOT_AND_SUM, 0, 16, 20) EACH_DOT(DOT_AND_SUM, 4, 17, 21)                       \
    EACH_DOT(DOT_AND_SUM, 8, 18, 22) EACH_DOT(DOT_AND_SUM, 12, 19, 23)                      \
    FACTORS(0) EACH_TOKEN(END_FIRST) DECODE_HALF(128, 320)                                  \
    EACH_DOT(DOT, 16, 16, 20) EACH_DOT(DOT, 20, 17, 21)                                     \
    EACH_DOT(DOT, 24, 18, 22) EACH_DOT(DOT, 28, 19, 23)                                     \
    FACTORS(16) EACH_TOKEN(ACCUMULATE) "add $32, %[floors]\n"

#else

/* The products start at what undoes the offset of the quants: -DOT_ZERO times the block's sum. */
#if DOT_ZERO
#if DOT_ZERO == 8
#define ZERO_SHIFT "3"
#else
#define ZERO_SHIFT "7"
#endif
#define START(t, t2, a, b, x)                                                               \
    "vpbroadcastd " BLOCK_##t(sums) ", %%zmm28\n vpslld $" ZERO_SHIFT ", %%zmm28, %%zmm28\n"  \
    "vpsubd %%zmm28, %%zmm31, %%zmm" #a "\n vmovdqa32 %%zmm" #a ", %%zmm" #b "\n"
#else
#define START(t, t2, a, b, x) ZERO(a) ZERO(b)
#endif

#define DOT(t, a, b, x, at, w, w2)                                                          \
    "vpbroadcastd " #at VALUES_##t ", %%zmm" #x "\n"                                          \
    "vpdpbusd %%zmm" #x ", %%zmm" #w ", %%zmm" #a "\n vpdpbusd %%zmm" #x ", %%zmm" #w2 ", %%zmm" #b "\n"

#if HAS_NIBBLES
#define MASK 0x0f0f0f0f
#define DECODE(from, low, high)                                                             \
    "vmovdqu32 " from ", %%zmm" #low "\n vpsrld $4, %%zmm" #low ", %%zmm" #high "\n"          \
    "vpandd %%zmm30, %%zmm" #low ", %%zmm" #low "\n vpandd %%zmm30, %%zmm" #high ", %%zmm" #high "\n"
#define COLUMNS(at, x_at, x_at_4)                                                           \
    DECODE(#at "(%[w])", 16, 17) DECODE(#at "(%[w],%[next])", 18, 19)                       \
    EACH_DOT(DOT, x_at, 16, 18) EACH_DOT(DOT, x_at_4, 17, 19)
#define PRODUCTS COLUMNS(0, 0, 4) COLUMNS(64, 8, 12) COLUMNS(128, 16, 20) COLUMNS(192, 24, 28)
#else
#define MASK 0x80808080   /* adds 128 to signed quants */
#define COLUMNS(at, x_at, w, w2)                                                            \
    "vpxord " #at "(%[w]), %%zmm30, %%zmm" #w "\n vpxord " #at "(%[w],%[next]), %%zmm30, %%zmm" #w2 "\n" \
    EACH_DOT(DOT, x_at, w, w2)
#define PRODUCTS                                                                            \
    COLUMNS(0, 0, 16, 18) COLUMNS(64, 4, 17, 19) COLUMNS(128, 8, 16, 18) COLUMNS(192, 12, 17, 19) \
    COLUMNS(256, 16, 16, 18) COLUMNS(320, 20, 17, 19) COLUMNS(384, 24, 16, 18) COLUMNS(448, 28, 17, 19)
#endif

/* acc = fma(dot, step * scale, acc), then fma(floor, scale * sum, acc) */
#define ADD_DOT(acc, a, step)                                                               \
    "vmulps %%zmm28, %%zmm" #step ", %%zmm29\n vcvtdq2ps %%zmm" #a ", %%zmm" #a "\n"           \
    "vfmadd231ps %%zmm29, %%zmm" #a ", %%zmm" #acc "\n"
#define ACCUMULATE(t, t2, a, b, x)                                                          \
    "vbroadcastss " BLOCK_##t(scales) ", %%zmm28\n" ADD_DOT(t, a, 20) ADD_DOT(t2, b, 21) ADD_FLOORS(t, t2, x)
#if HAS_FLOOR
#define ADD_FLOORS(t, t2, x)                                                                \
    "vpbroadcastd " BLOCK_##t(sums) ", %%zmm" #x "\n vcvtdq2ps %%zmm" #x ", %%zmm" #x "\n"    \
    "vmulps %%zmm28, %%zmm" #x ", %%zmm" #x "\n"                                             \
    ADD_FLOOR " %%zmm" #x ", %%zmm22, %%zmm" #t "\n" ADD_FLOOR " %%zmm" #x ", %%zmm23, %%zmm" #t2 "\n"
#else
#define ADD_FLOORS(t, t2, x)
#endif

/* Halves from the planes, or eight blocks' floats times a block's factors. */
#if SCALE_BLOCKS > 1
#define TIMES(factors, at, to)                                                              \
    "vpmovzxbd " factors ", %%zmm" #to "\n vcvtdq2ps %%zmm" #to ", %%zmm" #to "\n"             \
    "vmulps " #at "(%[steps]), %%zmm" #to ", %%zmm" #to "\n"
#define LOAD_STEPS                                                                          \
    TIMES("(%[floors])", 0, 20) TIMES("(%[floors],%[k])", 64, 21)                           \
    TIMES("16(%[floors])", 128, 22) TIMES("16(%[floors],%[k])", 192, 23) "add $32, %[floors]\n"
#define ADD_FLOOR "vfnmadd231ps"   /* floors are negative */
#else
#define LOAD_HALVES_OF(plane, to, to2)                                                      \
    "vcvtph2ps (%[" #plane "]), %%zmm" #to "\n vcvtph2ps (%[" #plane "],%[k]), %%zmm" #to2 "\n" \
    "add $32, %[" #plane "]\n"
#if HAS_FLOOR
#define LOAD_STEPS LOAD_HALVES_OF(steps, 20, 21) LOAD_HALVES_OF(floors, 22, 23)
#define ADD_FLOOR "vfmadd231ps"
#else
#define LOAD_STEPS LOAD_HALVES_OF(steps, 20, 21)
#endif
#endif

#define PREPARE "vpxord %%zmm31, %%zmm31, %%zmm31\n"
#define ADD_BLOCK EACH_TOKEN(START) PRODUCTS LOAD_STEPS EACH_TOKEN(ACCUMULATE)

#endif

/* The second cache is asked for eight lines a block, of which those past `share` come again with the next. */
#define ASK                                                                                 \
    "prefetcht1 (%[ahead])\n prefetcht1 64(%[ahead])\n prefetcht1 128(%[ahead])\n"           \
    "prefetcht1 192(%[ahead])\n prefetcht1 256(%[ahead])\n prefetcht1 320(%[ahead])\n"       \
    "prefetcht1 384(%[ahead])\n prefetcht1 448(%[ahead])\n add %[share], %[ahead]\n"

#define LOAD_ACC(acc) "vmovups 64*" #acc "(%[acc]), %%zmm" #acc "\n"
#define STORE_ACC(acc) "vmovups %%zmm" #acc ", 64*" #acc "(%[acc])\n"
#define EACH_ACC(of) of(0) of(1) of(2) of(3) of(4) of(5) of(6) of(7)

#ifdef __OPENCL_VERSION__

/* acc [group][token][16 rows] += `count` blocks, at least one and no more than SCALE_BLOCKS where that is more than
 * one, from block `b` on of this group and the next of a matrix that has `blocks`; token `from` of x is the first.
 * Each asks for `share` bytes more from `ahead` on. */
static inline void add_blocks(struct packed_group group, int b, int count, int blocks, struct inputs x, int from,
                              global const uchar *ahead, long share, float16 acc[TILE_GROUPS * TILE_TOKENS]) {
    const uint mask = MASK, six_bits = 0x3f3f3f3f, thirty_two = 0x20202020;
    const long k = (long)blocks * 32, n = (long)blocks * 4, next = (long)blocks * QUANT_BYTES;
    const size_t block = (size_t)from * blocks + b;
    global const uchar *w = group.quants + (size_t)b * QUANT_BYTES;
    global const char *v = x.values + block * 32;
    global const float *scales = x.scales + block;
    global const int *sums = x.sums + block;
#if SCALE_BLOCKS > 1
    const int at = b / SCALE_BLOCKS * GROUP_ROWS, next_at = at + blocks / SCALE_BLOCKS * GROUP_ROWS;
    float16 halves[4 + TILE_GROUPS * TILE_TOKENS] = {
        LOAD_HALVES(group.steps + at), LOAD_HALVES(group.steps + next_at),
        LOAD_HALVES(group.floors + at), LOAD_HALVES(group.floors + next_at),
    };
    float16 *steps = halves;
    global const uchar *floors = group.factors + (size_t)b * 2 * GROUP_ROWS;
#else
    global const half *steps = group.steps + b * GROUP_ROWS, *floors = group.floors + b * GROUP_ROWS;
#endif
    __asm__ volatile("vpbroadcastd %[mask], %%zmm30\n" PREPARE EACH_ACC(LOAD_ACC)
                     ".p2align 4\n 1:\n" ASK ADD_BLOCK
                     "add $%c[quant_bytes], %[w]\n add $32, %[v]\n add $4, %[scales]\n add $4, %[sums]\n"
                     "decl %[count]\n jnz 1b\n" EACH_ACC(STORE_ACC)
                     : [w] "+r"(w), [steps] "+r"(steps), [v] "+r"(v), [scales] "+r"(scales), [sums] "+r"(sums),
                       [ahead] "+r"(ahead), [floors] "+r"(floors), [count] "+m"(count)
                     : [next] "r"(next), [k] "r"(k), [k3] "r"(3 * k), [n] "r"(n), [n3] "r"(3 * n), [acc] "r"(acc),
                       [share] "m"(share), [mask] "m"(mask), [six_bits] "m"(six_bits),
                       [thirty_two] "m"(thirty_two), [quant_bytes] "i"(QUANT_BYTES)
                     : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                       "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19",
                       "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29",
                       "xmm30", "xmm31");
}

#endif
#endif
