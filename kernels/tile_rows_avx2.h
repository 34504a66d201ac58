/* tile_rows_avx2: three rows of halves or of bfloat16 times four tokens; what a compiler
 * makes of it in C multiplies addresses anew each time, for 3/4 of the speed.
 *
 * ymm0-3 hold the sums of the first row with each token, ymm4-7 of the second, ymm8-11 of
 * the third. Eight columns of each row become floats, then meet each token's; every 32, the
 * rows that come next are asked for, a line each. One column's offset `c`, from -columns up
 * to 0, addresses all. */
#ifndef KERNELS_TILE_ROWS_AVX2_H
#define KERNELS_TILE_ROWS_AVX2_H

#include "kernels/numerics.h"

#ifdef WEIGHTS_BF16
#define ROW(at, w, to) "vpmovzxwd " #at "(%[" #w "],%[c],2), " to "\n vpslld $16, " to ", " to "\n"
#else
#define ROW(at, w, to) "vcvtph2ps " #at "(%[" #w "],%[c],2), " to "\n"
#endif
#define TOKEN(at, x, a, b, d)                                                             \
    "vmovups " #at "(%[" #x "],%[c],4), %%ymm15\n"                                        \
    "vfmadd231ps %%ymm12, %%ymm15, " a "\n vfmadd231ps %%ymm13, %%ymm15, " b "\n"         \
    "vfmadd231ps %%ymm14, %%ymm15, " d "\n"
#define EIGHT_COLUMNS(rows_at, tokens_at)                                                 \
    ROW(rows_at, w0, "%%ymm12") ROW(rows_at, w1, "%%ymm13") ROW(rows_at, w2, "%%ymm14")   \
    TOKEN(tokens_at, x0, "%%ymm0", "%%ymm4", "%%ymm8") TOKEN(tokens_at, x1, "%%ymm1", "%%ymm5", "%%ymm9")   \
    TOKEN(tokens_at, x2, "%%ymm2", "%%ymm6", "%%ymm10") TOKEN(tokens_at, x3, "%%ymm3", "%%ymm7", "%%ymm11")
#define ASK_FOR(row) "prefetcht0 (%[" #row "],%[c],2)\n"
#define LOAD_SUM(to, at) "vmovups " #at "(%[sums]), " to "\n"
#define STORE_SUM(from, at) "vmovups " from ", " #at "(%[sums])\n"
#define EACH_SUM(of)                                                                      \
    of("%%ymm0", 0) of("%%ymm1", 32) of("%%ymm2", 64) of("%%ymm3", 96)                    \
    of("%%ymm4", 128) of("%%ymm5", 160) of("%%ymm6", 192) of("%%ymm7", 224)               \
    of("%%ymm8", 256) of("%%ymm9", 288) of("%%ymm10", 320) of("%%ymm11", 352)

#ifdef __OPENCL_VERSION__

/* As multiply_part() in kernels/matmul_rows.cl; `columns`, a multiple of 32, at least 32;
 * strides in values. */
static inline void multiply_part_avx2(global const ushort *w, global const ushort *next, size_t stride,
                                      global const float *x, const size_t at[4], long columns, float8 *sums) {
    global const ushort *w0 = w + columns, *w1 = w0 + stride, *w2 = w1 + stride;
    global const ushort *n0 = next + columns, *n1 = n0 + stride, *n2 = n1 + stride;
    global const float *x0 = x + at[0] + columns, *x1 = x + at[1] + columns, *x2 = x + at[2] + columns,
                       *x3 = x + at[3] + columns;
    long c = -columns;
    __asm__ volatile(EACH_SUM(LOAD_SUM)
                     ".p2align 4\n 1:\n" EIGHT_COLUMNS(0, 0) EIGHT_COLUMNS(16, 32) ASK_FOR(n0) ASK_FOR(n1) ASK_FOR(n2)
                     EIGHT_COLUMNS(32, 64) EIGHT_COLUMNS(48, 96) "add $32, %[c]\n jl 1b\n"
                     EACH_SUM(STORE_SUM)
                     : [c] "+r"(c)
                     : [w0] "r"(w0), [w1] "r"(w1), [w2] "r"(w2), [n0] "r"(n0), [n1] "r"(n1), [n2] "r"(n2),
                       [x0] "r"(x0), [x1] "r"(x1), [x2] "r"(x2), [x3] "r"(x3), [sums] "r"(sums)
                     : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                       "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

#endif
#endif
