/* tile_vnni: blocks of 16 rows and 32 columns times eight tokens in AVX-512 VNNI; what a
 * compiler makes of it in C spills sums and addresses, for half of the speed.
 *
 * zmm0-7 hold the float sums of the 16 rows with each token over all blocks, zmm8-15 the
 * products of a block, exact. Two times four columns at a time: decode the quants once, meet
 * each token's activations, broadcast from memory. Then the float part as
 * kernels/matmul_r16.cl has it: the same roundings in the same order. Bound by the pipes that
 * multiply, two on Zen 5: 80 instructions a block of 4 or 8 bits take 40 cycles of some 48.
 *
 * Token t lies t * n * 8 bytes after v, its scale and sum t * n after those of the first, where n
 * is blocks * 4: with 1, 3, 5 and 7 times n in registers, and u = v + 8 n, all have addresses. */
#ifndef KERNELS_TILE_VNNI_H
#define KERNELS_TILE_VNNI_H

#include "kernels/packed_r16.h"

#define TILE_TOKENS 8

#define VALUES_0 "(%[v])"
#define VALUES_1 "(%[v],%[n],8)"
#define VALUES_2 "(%[u],%[n],8)"
#define VALUES_3 "(%[v],%[n3],8)"
#define VALUES_4 "(%[u],%[n3],8)"
#define VALUES_5 "(%[v],%[n5],8)"
#define VALUES_6 "(%[u],%[n5],8)"
#define VALUES_7 "(%[v],%[n7],8)"
/* `of` is scales or sums. */
#define BLOCK_0(of) "(%[" #of "])"
#define BLOCK_1(of) "(%[" #of "],%[n])"
#define BLOCK_2(of) "(%[" #of "],%[n],2)"
#define BLOCK_3(of) "(%[" #of "],%[n3])"
#define BLOCK_4(of) "(%[" #of "],%[n],4)"
#define BLOCK_5(of) "(%[" #of "],%[n5])"
#define BLOCK_6(of) "(%[" #of "],%[n3],2)"
#define BLOCK_7(of) "(%[" #of "],%[n7])"
#define SCALE(t) BLOCK_##t(scales) "%{1to16%}"

#define EACH_TOKEN(of) of(0, 8) of(1, 9) of(2, 10) of(3, 11) of(4, 12) of(5, 13) of(6, 14) of(7, 15)

#define DOT(t, a, at, w) "vpdpbusd " #at VALUES_##t "%{1to16%}, %%zmm" #w ", %%zmm" #a "\n"

#if HAS_HALVES

/* Quants are 0 .. 63: each half takes off 32 times the sum of its activations, which four more
 * products give for the first and the block's sum for the second. Halves times their factors are
 * below 2^24: exact in float. Token by token: zmm8 and 9 are the halves, zmm11 and 12 their
 * factors, zmm16-23 the quants, joined from two planes of nibbles and one of pairs of bits. */
#define JOIN(nibbles, to)                                                                   \
    "vpternlogd $0xb8, %%zmm" #nibbles ", %%zmm30, %%zmm" #to "\n"                           \
    "vpandd %%zmm14, %%zmm" #to ", %%zmm" #to "\n"
#define DECODE(at, bits_at, q0, q1, q2, q3)                                                 \
    "vmovdqu32 " #at "(%[w]), %%zmm26\n vmovdqu32 64+" #at "(%[w]), %%zmm27\n"                \
    "vmovdqu32 " #bits_at "(%[w]), %%zmm" #q2 "\n"                                           \
    "vpslld $4, %%zmm" #q2 ", %%zmm" #q0 "\n vpslld $2, %%zmm" #q2 ", %%zmm" #q1 "\n"          \
    "vpsrld $2, %%zmm" #q2 ", %%zmm" #q3 "\n" JOIN(26, q0) JOIN(27, q2)                      \
    "vpsrld $4, %%zmm26, %%zmm26\n vpsrld $4, %%zmm27, %%zmm27\n" JOIN(26, q1) JOIN(27, q3)
#define FOUR(t, a, at, q0, q1, q2, q3)                                                      \
    DOT(t, a, at, q0) DOT(t, a, at + 4, q1) DOT(t, a, at + 8, q2) DOT(t, a, at + 12, q3)
#define MULTIPLY(t, a)                                                                      \
    "vpxord %%zmm10, %%zmm10, %%zmm10\n" FOUR(t, 10, 0, 15, 15, 15, 15)                     \
    "vpsubd %%zmm10, %%zmm31, %%zmm8\n" FOUR(t, 8, 0, 16, 17, 18, 19)                       \
    "vpbroadcastd " BLOCK_##t(sums) ", %%zmm9\n vpslld $5, %%zmm9, %%zmm9\n"                  \
    "vpsubd %%zmm9, %%zmm10, %%zmm9\n" FOUR(t, 9, 16, 20, 21, 22, 23)                       \
    "vcvtdq2ps %%zmm8, %%zmm8\n vcvtdq2ps %%zmm9, %%zmm9\n vmulps %%zmm11, %%zmm8, %%zmm8\n"   \
    "vfmadd231ps %%zmm12, %%zmm9, %%zmm8\n vmulps " SCALE(t) ", %%zmm25, %%zmm10\n"           \
    "vfmadd231ps %%zmm10, %%zmm8, %%zmm" #t "\n"
#define MASK 0x0f0f0f0f
#define PREPARE "vpbroadcastd %[six_bits], %%zmm14\n vpbroadcastd %[thirty_two], %%zmm15\n"
#define ADD_BLOCK                                                                           \
    DECODE(0, 256, 16, 17, 18, 19) DECODE(128, 320, 20, 21, 22, 23) LOAD_16(steps, 25)      \
    "vpmovsxbd (%[floors]), %%zmm11\n vpmovsxbd 16(%[floors]), %%zmm12\n add $32, %[floors]\n" \
    "vcvtdq2ps %%zmm11, %%zmm11\n vcvtdq2ps %%zmm12, %%zmm12\n" EACH_TOKEN(MULTIPLY)
#define FLOORS_OPERAND , [floors] "+r"(floors)

#else

/* The products start at what undoes the offset of the quants: -DOT_ZERO times the block's sum. */
#if DOT_ZERO
#if DOT_ZERO == 8
#define ZERO_SHIFT "3"
#else
#define ZERO_SHIFT "7"
#endif
#define START(t, a)                                                                         \
    "vpbroadcastd " BLOCK_##t(sums) ", %%zmm24\n vpslld $" ZERO_SHIFT ", %%zmm24, %%zmm24\n"  \
    "vpsubd %%zmm24, %%zmm31, %%zmm" #a "\n"
#else
#define START(t, a) "vpxord %%zmm" #a ", %%zmm" #a ", %%zmm" #a "\n"
#endif
#define EACH_DOT(at, w)                                                                     \
    DOT(0, 8, at, w) DOT(1, 9, at, w) DOT(2, 10, at, w) DOT(3, 11, at, w)                   \
    DOT(4, 12, at, w) DOT(5, 13, at, w) DOT(6, 14, at, w) DOT(7, 15, at, w)

#if HAS_NIBBLES
#define MASK 0x0f0f0f0f
#define DECODE(at, low, high)                                                               \
    "vmovdqu32 " #at "(%[w]), %%zmm" #low "\n vpsrld $4, %%zmm" #low ", %%zmm" #high "\n"       \
    "vpandd %%zmm30, %%zmm" #low ", %%zmm" #low "\n vpandd %%zmm30, %%zmm" #high ", %%zmm" #high "\n"
#define PRODUCTS                                                                            \
    DECODE(0, 16, 17) DECODE(64, 18, 19) EACH_DOT(0, 16) EACH_DOT(4, 17) DECODE(128, 20, 21) \
    EACH_DOT(8, 18) EACH_DOT(12, 19) DECODE(192, 22, 23) EACH_DOT(16, 20) EACH_DOT(20, 21)  \
    EACH_DOT(24, 22) EACH_DOT(28, 23)
#else
#define MASK 0x80808080   /* adds 128 to signed quants */
#define DECODE(at, w) "vpxord " #at "(%[w]), %%zmm30, %%zmm" #w "\n"
#define PRODUCTS                                                                            \
    DECODE(0, 16) EACH_DOT(0, 16) DECODE(64, 17) EACH_DOT(4, 17) DECODE(128, 18)            \
    EACH_DOT(8, 18) DECODE(192, 19) EACH_DOT(12, 19) DECODE(256, 20) EACH_DOT(16, 20)       \
    DECODE(320, 21) EACH_DOT(20, 21) DECODE(384, 22) EACH_DOT(24, 22) DECODE(448, 23)       \
    EACH_DOT(28, 23)
#endif

/* acc = fma(dot, step * scale, acc), then fma(floor, scale * sum, acc) */
#define ACCUMULATE(t, a)                                                                    \
    "vmulps " SCALE(t) ", %%zmm25, %%zmm27\n vcvtdq2ps %%zmm" #a ", %%zmm" #a "\n"              \
    "vfmadd231ps %%zmm27, %%zmm" #a ", %%zmm" #t "\n" ADD_FLOOR(t)
#if HAS_FLOOR
#define ADD_FLOOR(t)                                                                        \
    "vpbroadcastd " BLOCK_##t(sums) ", %%zmm28\n vcvtdq2ps %%zmm28, %%zmm28\n"                \
    "vmulps " SCALE(t) ", %%zmm28, %%zmm28\n vfmadd231ps %%zmm28, %%zmm26, %%zmm" #t "\n"
#define LOAD_FLOORS LOAD_16(floors, 26) "add $" STEP_BYTES ", %[floors]\n"
#define FLOORS_OPERAND , [floors] "+r"(floors)
#else
#define FLOORS_OPERAND
#define ADD_FLOOR(t)
#define LOAD_FLOORS
#endif

#define PREPARE
#define ADD_BLOCK                                                                           \
    EACH_TOKEN(START) PRODUCTS LOAD_16(steps, 25) LOAD_FLOORS EACH_TOKEN(ACCUMULATE)

#endif

/* Halves from the planes, or floats already multiplied by their factors. */
#if SCALE_BLOCKS > 1
#define LOAD_16(from, to) "vmovups (%[" #from "]), %%zmm" #to "\n"
#define STEP_BYTES "64"
#else
#define LOAD_16(from, to) "vcvtph2ps (%[" #from "]), %%zmm" #to "\n"
#define STEP_BYTES "32"
#endif

#define LOAD_ACC(t, a) "vmovups 64*" #t "(%[acc]), %%zmm" #t "\n"
#define STORE_ACC(t, a) "vmovups %%zmm" #t ", 64*" #t "(%[acc])\n"

#ifdef __OPENCL_VERSION__

#if SCALE_BLOCKS > 1
typedef const float16 *sixteen;
#else
typedef global const half *sixteen;
#endif

#if HAS_HALVES
typedef global const uchar *sixteen_more;   /* two factors a row and block */
#else
typedef sixteen sixteen_more;
#endif

/* acc [token][16 rows] += `count` blocks, at least one, of a matrix that has `blocks`; block
 * `block` of x is the first token's. */
static inline void add_blocks(global const uchar *quants, sixteen steps, sixteen_more floors, struct inputs x,
                              size_t block, int blocks, int count, float16 acc[TILE_TOKENS]) {
    const uint mask = MASK, six_bits = 0x3f3f3f3f, thirty_two = 0x20202020;
    const long n = (long)blocks * 4;
    global const char *v = x.values + block * 32, *u = v + 8 * n;
    global const float *scales = x.scales + block;
    global const int *sums = x.sums + block;
    __asm__ volatile("vpbroadcastd %[mask], %%zmm30\n vpxord %%zmm31, %%zmm31, %%zmm31\n" EACH_TOKEN(LOAD_ACC)
                     PREPARE ".p2align 4\n 1:\n" ADD_BLOCK
                     "add $%c[quant_bytes], %[w]\n add $" STEP_BYTES ", %[steps]\n add $32, %[v]\n add $32, %[u]\n"
                     "add $4, %[scales]\n add $4, %[sums]\n decl %[count]\n jnz 1b\n" EACH_TOKEN(STORE_ACC)
                     : [w] "+r"(quants), [steps] "+r"(steps), [v] "+r"(v), [u] "+r"(u), [scales] "+r"(scales),
                       [sums] "+r"(sums), [count] "+m"(count) FLOORS_OPERAND
                     : [n] "r"(n), [n3] "r"(3 * n), [n5] "r"(5 * n), [n7] "r"(7 * n), [acc] "r"(acc), [mask] "m"(mask),
                       [six_bits] "m"(six_bits), [thirty_two] "m"(thirty_two), [quant_bytes] "i"(QUANT_BYTES)
                     : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                       "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19",
                       "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm30",
                       "xmm31");
}

#endif
#endif
