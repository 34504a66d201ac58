/* attention_avx512: two queries times eight keys, and four queries' weights times 32 dimensions of
 * the values, with the 32 registers of AVX-512; what a compiler makes of it in C goes through
 * memory for the sums.
 *
 * Of scores, zmm0-7 hold the 16 partial sums of the first query with each key, zmm8-15 of the
 * second. Then they become sixteen sums by the tree of sum_16(): halves, quarters, pairs,
 * neighbours, of two vectors at a time. */
#ifndef KERNELS_ATTENTION_AVX512_H
#define KERNELS_ATTENTION_AVX512_H

#include "kernels/kv_cache.h"

/* Where assembly is welcome. */
#if defined(KV_PREFETCH) && defined(__AVX512F__)
#define ATTENTION_AVX512

#define SCORE_KEY(at, a, b)                                                               \
    "vmovups (%[rows]" at "), %%zmm18\n"                                                  \
    "vfmadd231ps %%zmm16, %%zmm18, %%zmm" #a "\n vfmadd231ps %%zmm17, %%zmm18, %%zmm" #b "\n"
#define SCORE_ZERO(a) "vxorps %%xmm" #a ", %%xmm" #a ", %%xmm" #a "\n"
/* What `first` and `second` take of registers a and b, added, to a. */
#define SCORE_ADD(first, second, a, b)                                                    \
    first "%%zmm" #b ", %%zmm" #a ", %%zmm18\n " second "%%zmm" #b ", %%zmm" #a ", %%zmm19\n" \
    "vaddps %%zmm19, %%zmm18, %%zmm" #a "\n"
#define SCORE_HALVES(a, b) SCORE_ADD("vshuff64x2 $0x44, ", "vshuff64x2 $0xee, ", a, b)
#define SCORE_QUARTERS(a, b) SCORE_ADD("vshuff64x2 $0x88, ", "vshuff64x2 $0xdd, ", a, b)
#define SCORE_PAIRS(a, b) SCORE_ADD("vunpcklpd ", "vunpckhpd ", a, b)
#define SCORE_NEIGHBOURS(a, b) SCORE_ADD("vshufps $0x88, ", "vshufps $0xdd, ", a, b)

/* A lane's weights of the keys of a page fill 128 bytes; its sums are registers a and b. */
#define WEIGH_LANE(at, a, b)                                                              \
    "vbroadcastss " #at "(%[weights]), %%zmm10\n"                                         \
    "vfmadd231ps %%zmm8, %%zmm10, %%zmm" #a "\n vfmadd231ps %%zmm9, %%zmm10, %%zmm" #b "\n"
#define WEIGH_LOAD(at, place, a, b)                                                       \
    "vbroadcastss " #at "(%[rescale]), %%zmm10\n vmulps (%[sums]" place "), %%zmm10, %%zmm" #a "\n" \
    "vmulps 64(%[sums]" place "), %%zmm10, %%zmm" #b "\n"
#define WEIGH_STORE(place, a, b)                                                          \
    "vmovups %%zmm" #a ", (%[sums]" place ")\n vmovups %%zmm" #b ", 64(%[sums]" place ")\n"

#ifdef __OPENCL_VERSION__

/* scores[0 .. 7] of `query` and `next_scores` of `next` with the keys rows[key][stride], stride a
 * multiple of 16, at least 16. */
static inline void score_eight(const float *query, const float *next, const float *rows, long stride, float scale,
                               float *scores, float *next_scores) {
    const uint16 order = (uint16)(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const long s = stride * 4;
    long count = stride / 16;
    __asm__ volatile(SCORE_ZERO(0) SCORE_ZERO(1) SCORE_ZERO(2) SCORE_ZERO(3) SCORE_ZERO(4) SCORE_ZERO(5) SCORE_ZERO(6)
                     SCORE_ZERO(7) SCORE_ZERO(8) SCORE_ZERO(9) SCORE_ZERO(10) SCORE_ZERO(11) SCORE_ZERO(12)
                     SCORE_ZERO(13) SCORE_ZERO(14) SCORE_ZERO(15) ".p2align 4\n 1:\n"
                     "vmovups (%[query]), %%zmm16\n vmovups (%[next]), %%zmm17\n"
                     SCORE_KEY("", 0, 8) SCORE_KEY(",%[s]", 1, 9) SCORE_KEY(",%[s],2", 2, 10) SCORE_KEY(",%[s3]", 3, 11)
                     SCORE_KEY(",%[s],4", 4, 12) SCORE_KEY(",%[s5]", 5, 13) SCORE_KEY(",%[s3],2", 6, 14)
                     SCORE_KEY(",%[s7]", 7, 15)
                     "add $64, %[query]\n add $64, %[next]\n add $64, %[rows]\n dec %[count]\n jnz 1b\n"
                     SCORE_HALVES(0, 1) SCORE_HALVES(2, 3) SCORE_HALVES(4, 5) SCORE_HALVES(6, 7)
                     SCORE_HALVES(8, 9) SCORE_HALVES(10, 11) SCORE_HALVES(12, 13) SCORE_HALVES(14, 15)
                     SCORE_QUARTERS(0, 2) SCORE_QUARTERS(4, 6) SCORE_QUARTERS(8, 10) SCORE_QUARTERS(12, 14)
                     SCORE_PAIRS(0, 4) SCORE_PAIRS(8, 12) SCORE_NEIGHBOURS(0, 8)
                     "vmovups %[order], %%zmm1\n vpermps %%zmm0, %%zmm1, %%zmm0\n vbroadcastss %[scale], %%zmm1\n"
                     "vmulps %%zmm1, %%zmm0, %%zmm0\n vmovups %%ymm0, (%[scores])\n"
                     "vextractf64x4 $1, %%zmm0, (%[next_scores])\n"
                     : [query] "+r"(query), [next] "+r"(next), [rows] "+r"(rows), [count] "+r"(count)
                     : [s] "r"(s), [s3] "r"(3 * s), [s5] "r"(5 * s), [s7] "r"(7 * s), [order] "m"(order),
                       [scale] "m"(scale), [scores] "r"(scores), [next_scores] "r"(next_scores)
                     : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                       "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19");
}

/* sums[lane][stride] = sums * rescale[lane], then for each of `count` keys, at least one,
 * + weights[lane][PAGE_TOKENS] times values[key][stride], of four lanes and 32 dimensions. */
static inline void add_values(float *sums, const float *rescale, const float *weights, const float *values, long stride,
                              long count) {
    const long s = stride * 4;
    __asm__ volatile(WEIGH_LOAD(0, "", 0, 1) WEIGH_LOAD(4, ",%[s]", 2, 3) WEIGH_LOAD(8, ",%[s],2", 4, 5)
                     WEIGH_LOAD(12, ",%[s3]", 6, 7) ".p2align 4\n 1:\n"
                     "vmovups (%[values]), %%zmm8\n vmovups 64(%[values]), %%zmm9\n"
                     WEIGH_LANE(0, 0, 1) WEIGH_LANE(128, 2, 3) WEIGH_LANE(256, 4, 5) WEIGH_LANE(384, 6, 7)
                     "add $4, %[weights]\n add %[s], %[values]\n dec %[count]\n jnz 1b\n"
                     WEIGH_STORE("", 0, 1) WEIGH_STORE(",%[s]", 2, 3) WEIGH_STORE(",%[s],2", 4, 5)
                     WEIGH_STORE(",%[s3]", 6, 7)
                     : [weights] "+r"(weights), [values] "+r"(values), [count] "+r"(count)
                     : [sums] "r"(sums), [rescale] "r"(rescale), [s] "r"(s), [s3] "r"(3 * s)
                     : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                       "xmm10");
}

#endif
#endif
#endif
