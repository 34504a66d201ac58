/* dot4: products of four int8 columns at a time, LANES rows side by side; what
 * differs between machines in the kernels of packed matrices, and nothing else.
 *
 * The build says which with one of these; all give the same integers:
 *   DOT4_VNNI     x86 AVX-512 VNNI: 16 lanes, vpdpbusd; DOT4_SPELLED_OUT puts plain C in
 *                 its place, to test the rest where the CPU lacks it
 *   DOT4_AVX2     x86 AVX2: 8 lanes, vpmaddubsw in 16-bit sums, vpmaddwd once a block
 *   DOT4_SCALAR   one lane: a work-item of a GPU is a row
 *   otherwise     8 lanes in plain OpenCL C; the simulator runs it too
 * The x86 ones are inline assembly, which PoCL's compiler takes, also where it does
 * not know the CPU's features: the host asks the CPU, and proves the result.
 *
 * A block of 32 columns is eight `quads`: in each lane four bytes of a row. Quants of
 * 4 bits are unsigned. Those of 6 and 8 bits are signed, except for VNNI, which takes those
 * of 8 with 128 added and DOT_ZERO undoing it, and those of 6 with 32 added. Activations are
 * -127 .. 127. Where halves of a block have factors, dot_halves() takes their place:
 * |dot| stays below 2^24. */
#ifndef KERNELS_DOT4_H
#define KERNELS_DOT4_H

#include "kernels/numerics.h"

#if defined(WEIGHTS_Q8_0)
#define QUANT_BYTES 512   /* of 16 rows in a block */
#define HAS_NIBBLES 0
#elif defined(WEIGHTS_Q6_K)
#define QUANT_BYTES 384
#define HAS_NIBBLES 0
#else
#define QUANT_BYTES 256
#define HAS_NIBBLES 1
#endif
/* Two halves of a block, whose products are multiplied by integers of their own. */
#if defined(WEIGHTS_Q6_K)
#define HAS_HALVES 1
#else
#define HAS_HALVES 0
#endif

#if defined(WEIGHTS_Q4_0)
#define DOT_ZERO 8
#elif defined(WEIGHTS_Q8_0) && defined(DOT4_VNNI)
#define DOT_ZERO 128
#else
#define DOT_ZERO 0
#endif

#ifdef __OPENCL_VERSION__

#if defined(DOT4_VNNI)
#define LANES 16
typedef uint16 quads;
typedef int16 lane_ints;
typedef float16 lane_floats;
#define LOAD_QUADS(p) vload16(0, p)
#define LOAD_HALVES(p) vload_half16(0, p)
#define LOAD_BYTES(p) convert_float16(vload16(0, p))
#define LOAD_SIGNED(p) convert_int16(vload16(0, (global const char *)(p)))
#define LOAD_LANES(p) vload16(0, p)
#define STORE_LANES(v, p) vstore16(v, 0, p)
#define TO_FLOATS(v) convert_float16(v)
#elif defined(DOT4_SCALAR)
#define LANES 1
typedef uint quads;
typedef int lane_ints;
typedef float lane_floats;
#define LOAD_QUADS(p) (*(p))
#define LOAD_HALVES(p) vload_half(0, p)
#define LOAD_BYTES(p) ((float)*(p))
#define LOAD_SIGNED(p) ((int)*(global const char *)(p))
#define LOAD_LANES(p) (*(p))
#define STORE_LANES(v, p) (*(p) = (v))
#define TO_FLOATS(v) ((float)(v))
#else
#define LANES 8
typedef uint8 quads;
typedef int8 lane_ints;
typedef float8 lane_floats;
#define LOAD_QUADS(p) vload8(0, p)
#define LOAD_HALVES(p) vload_half8(0, p)
#define LOAD_BYTES(p) convert_float8(vload8(0, p))
#define LOAD_SIGNED(p) convert_int8(vload8(0, (global const char *)(p)))
#define LOAD_LANES(p) vload8(0, p)
#define STORE_LANES(v, p) vstore8(v, 0, p)
#define TO_FLOATS(v) convert_float8(v)
#endif

/* A block's quants of LANES rows, from the byte of the first of them. */
static inline void load_block(global const uchar *p, quads w[8]) {
#if HAS_NIBBLES
    #pragma unroll
    for (int q = 0; q < 4; q++) {
        quads v = LOAD_QUADS((global const uint *)(p + q * 64));
        w[2 * q] = v & (quads)(0x0f0f0f0fu);
        w[2 * q + 1] = (v >> 4) & (quads)(0x0f0f0f0fu);
    }
#elif HAS_HALVES
    /* Bits 4 and 5 from the second plane; 32 is taken off each byte, none of which borrows. */
    const quads low = (quads)(0x0f0f0f0fu), high = (quads)(0x30303030u);
    #pragma unroll
    for (int h = 0; h < 2; h++) {
        quads a = LOAD_QUADS((global const uint *)(p + 2 * h * 64));
        quads b = LOAD_QUADS((global const uint *)(p + 2 * h * 64 + 64));
        quads bits = LOAD_QUADS((global const uint *)(p + 256 + h * 64));
        w[4 * h] = (a & low) | ((bits << 4) & high);
        w[4 * h + 1] = ((a >> 4) & low) | ((bits << 2) & high);
        w[4 * h + 2] = (b & low) | (bits & high);
        w[4 * h + 3] = ((b >> 4) & low) | ((bits >> 2) & high);
    }
#ifndef DOT4_VNNI
    const quads top = (quads)(0x80808080u), zero = (quads)(0x20202020u);
    #pragma unroll
    for (int q = 0; q < 8; q++)
        w[q] = ((w[q] | top) - zero) ^ top;
#endif
#else
    #pragma unroll
    for (int q = 0; q < 8; q++) {
        w[q] = LOAD_QUADS((global const uint *)(p + q * 64));
#ifdef DOT4_VNNI
        w[q] ^= (quads)(0x80808080u);
#endif
    }
#endif
}

/* start + the products of the block with the 32 activations at x, exact. */
#if defined(DOT4_VNNI)

#ifdef DOT4_SPELLED_OUT
static inline int16 dot4(int16 acc, uint16 w, int x) {
    int4 c = convert_int4(as_char4(x));
    acc += as_int16(w & (uint16)(255)) * (int16)(c.x) + as_int16((w >> 8) & (uint16)(255)) * (int16)(c.y);
    return acc + as_int16((w >> 16) & (uint16)(255)) * (int16)(c.z) + as_int16(w >> 24) * (int16)(c.w);
}
#define DOT4(acc, w, x) acc = dot4(acc, w, *(x))
#else
#define DOT4(acc, w, x) __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(w), "m"(*(x)))
#endif
#if HAS_HALVES
/* The quants have 32 added. */
static inline lane_ints dot_halves(const quads w[8], global const int *x, lane_ints first, lane_ints second) {
    const quads added = (quads)(0x20202020u);
    lane_ints dots[2] = { (lane_ints)(0), (lane_ints)(0) }, zeros[2] = { (lane_ints)(0), (lane_ints)(0) };
    #pragma unroll
    for (int q = 0; q < 8; q++) {
        DOT4(dots[q / 4], w[q], x + q);
        DOT4(zeros[q / 4], added, x + q);
    }
    return first * (dots[0] - zeros[0]) + second * (dots[1] - zeros[1]);
}
#else
static inline lane_ints dot_block(const quads w[8], global const int *x, int start) {
    lane_ints even = (lane_ints)(start), odd = (lane_ints)(0);
    #pragma unroll
    for (int q = 0; q < 8; q += 2) {
        DOT4(even, w[q], x + q);
        DOT4(odd, w[q + 1], x + q + 1);
    }
    return even + odd;
}
#endif

#elif defined(DOT4_AVX2)

#define ADD_PAIRS_8(to, u, s) __asm__("vpmaddubsw %2, %1, %0" : "=x"(to) : "x"(u), "x"(s))
#define ADD_PAIRS_16(to, a, b) __asm__("vpmaddwd %2, %1, %0" : "=x"(to) : "x"(a), "x"(b))
#define MAGNITUDES(to, w) __asm__("vpabsb %1, %0" : "=x"(to) : "x"(w))
#define TAKE_SIGNS(to, x, w) __asm__("vpsignb %2, %1, %0" : "=x"(to) : "x"(x), "x"(w))

#if HAS_HALVES

/* Sixteen products of at most 32 * 127, |w| times x with the sign of w, added in pairs and
 * fours: within 16 bits. */
static inline short16 dot_half(const quads w[4], global const int *x) {
    short16 pairs[4];
    #pragma unroll
    for (int q = 0; q < 4; q++) {
        quads magnitudes, signed_x;
        MAGNITUDES(magnitudes, w[q]);
        TAKE_SIGNS(signed_x, (lane_ints)(x[q]), w[q]);
        ADD_PAIRS_8(pairs[q], magnitudes, signed_x);
    }
    return (pairs[0] + pairs[1]) + (pairs[2] + pairs[3]);
}

static inline lane_ints dot_halves(const quads w[8], global const int *x, lane_ints first, lane_ints second) {
    const lane_ints low = (lane_ints)(0xffff);
    lane_ints a, b;
    ADD_PAIRS_16(a, dot_half(w, x), (first & low) | (first << 16));
    ADD_PAIRS_16(b, dot_half(w + 4, x + 4), (second & low) | (second << 16));
    return a + b;
}

#else

static inline lane_ints dot_block(const quads w[8], global const int *x, int start) {
    const short16 ones = (short16)(1);
    lane_ints sum;
#if HAS_NIBBLES
    /* Sixteen products of at most 15 * 127 stay within 16 bits. */
    short16 pairs[2];
    ADD_PAIRS_8(pairs[0], w[0], (lane_ints)(x[0]));
    ADD_PAIRS_8(pairs[1], w[1], (lane_ints)(x[1]));
    #pragma unroll
    for (int q = 2; q < 8; q++) {
        short16 pair;
        ADD_PAIRS_8(pair, w[q], (lane_ints)(x[q]));
        pairs[q % 2] += pair;
    }
    ADD_PAIRS_16(sum, pairs[0] + pairs[1], ones);
    return sum + (lane_ints)(start);
#else
    /* |w| * (x with the sign of w): two products stay within 16 bits. */
    lane_ints sums[2] = { (lane_ints)(start), (lane_ints)(0) };
    #pragma unroll
    for (int q = 0; q < 8; q++) {
        quads magnitudes, signed_x;
        short16 pairs;
        MAGNITUDES(magnitudes, w[q]);
        TAKE_SIGNS(signed_x, (lane_ints)(x[q]), w[q]);
        ADD_PAIRS_8(pairs, magnitudes, signed_x);
        ADD_PAIRS_16(sum, pairs, ones);
        sums[q % 2] += sum;
    }
    return sums[0] + sums[1];
#endif
}

#endif

#elif defined(DOT4_SCALAR)

static inline int dot_quads(const quads *w, global const int *x, int count) {
    int sum = 0;
    #pragma unroll
    for (int q = 0; q < count; q++) {
        int4 a = convert_int4(as_char4(w[q])), b = convert_int4(as_char4(x[q]));
        int4 p = a * b;
        sum += (p.x + p.y) + (p.z + p.w);
    }
    return sum;
}

#if HAS_HALVES
static inline lane_ints dot_halves(const quads w[8], global const int *x, lane_ints first, lane_ints second) {
    return first * dot_quads(w, x, 4) + second * dot_quads(w + 4, x + 4, 4);
}
#else
static inline lane_ints dot_block(const quads w[8], global const int *x, int start) {
    return start + dot_quads(w, x, 8);
}
#endif

#else

/* Bytes 0 and 2, and 1 and 3, of each lane as 16-bit numbers. */
#if HAS_NIBBLES
#define EVEN_BYTES(w) as_short16((w) & (quads)(0x00ff00ffu))
#define ODD_BYTES(w) as_short16(((w) >> 8) & (quads)(0x00ff00ffu))
#else
#define EVEN_BYTES(w) ((as_short16(w) << (short16)(8)) >> (short16)(8))
#define ODD_BYTES(w) (as_short16(w) >> (short16)(8))

/* Neighbours' products added: vpmaddwd on x86, if LLVM does not regroup the terms, which
 * max(), though it changes nothing, keeps it from. */
static inline int8 multiply_pairs(short16 w, short16 x) {
    int16 p = convert_int16(w) * convert_int16(x);
    return max(p.even + p.odd, (int8)(-(1 << 22)));
}
#endif

#if HAS_HALVES

static inline lane_ints dot_half(const quads w[4], global const int *x) {
    lane_ints sum = (lane_ints)(0);
    #pragma unroll
    for (int q = 0; q < 4; q++) {
        short16 xs = as_short16((lane_ints)(x[q]));
        short16 even_x = (xs << (short16)(8)) >> (short16)(8), odd_x = xs >> (short16)(8);
        sum += multiply_pairs(EVEN_BYTES(w[q]), even_x) + multiply_pairs(ODD_BYTES(w[q]), odd_x);
    }
    return sum;
}

static inline lane_ints dot_halves(const quads w[8], global const int *x, lane_ints first, lane_ints second) {
    return first * dot_half(w, x) + second * dot_half(w + 4, x + 4);
}

#else

static inline lane_ints dot_block(const quads w[8], global const int *x, int start) {
    lane_ints sum = (lane_ints)(start);
#if HAS_NIBBLES
    short16 pairs = (short16)(0);   /* sixteen products of at most 15 * 127 */
#endif
    #pragma unroll
    for (int q = 0; q < 8; q++) {
        short16 xs = as_short16((lane_ints)(x[q]));
        short16 even_x = (xs << (short16)(8)) >> (short16)(8), odd_x = xs >> (short16)(8);
#if HAS_NIBBLES
        pairs += EVEN_BYTES(w[q]) * even_x + ODD_BYTES(w[q]) * odd_x;
#else
        sum += multiply_pairs(EVEN_BYTES(w[q]), even_x) + multiply_pairs(ODD_BYTES(w[q]), odd_x);
#endif
    }
#if HAS_NIBBLES
    sum += convert_int8(pairs.even) + convert_int8(pairs.odd);
#endif
    return sum;
}

#endif
#endif
#endif
#endif
