/* kv_cache: how K and V are kept, for the kernels that write and read them. A `row` is
 * the vector of one token and KV head; the build says which form it has:
 *   KV_HALF    [head_dim] half
 *   KV_Q8      [blocks * 32] int8, then [blocks] half scales; blocks of 32, zeros after
 *              head_dim: kv_vector_bytes() of common/unit_buffers.h
 *   otherwise  [head_dim] float
 * Rounding of KV_Q8: scale = half(max|x| / 127), value = round(x / scale) to even, within
 * +-127; read as value * scale. A block that is not finite has a NaN for a scale.
 *
 * KV_F16C: half bits become floats by the machine instruction of x86, KV_NATIVE: by the
 * built-in of OpenCL, which GPUs have in hardware; to the same values. KV_PREFETCH: on x86. */
#ifndef KERNELS_KV_CACHE_H
#define KERNELS_KV_CACHE_H

#include "kernels/numerics.h"

/* Tokens in a page; KV_PAGE_TOKENS of common/unit_buffers.h, checked by ops_attention.c. */
#define PAGE_TOKENS 32

#ifdef __OPENCL_VERSION__

#if defined(KV_Q8)

typedef char kv_value;
#define KV_ROW(dim) (((dim) + 31) / 32 * 34)   /* kv_values of a row */

static inline float kv_scale(global const kv_value *row, int block, int dim) {
    ushort bits = ((global const ushort *)(row + (dim + 31) / 32 * 32))[block];
#ifdef KV_F16C
    float4 scale;
    __asm__("vcvtph2ps %1, %0" : "=x"(scale) : "x"((ushort8)(bits)));
    return scale.x;
#else
    return half_to_float_2((int2)(bits)).x;
#endif
}

/* Dimensions 16 c and on. */
static inline float16 kv_load_16(global const kv_value *row, int c, int dim) {
    return convert_float16(convert_int16(vload16(c, row))) * kv_scale(row, c / 2, dim);
}

/* The same of 16 dimensions that are all there. */
static inline float16 kv_load_inner(global const kv_value *row, int c, int dim) {
    return kv_load_16(row, c, dim);
}

/* Dimensions d and d + 1; d even. */
static inline float2 kv_load_2(global const kv_value *row, int d, int dim) {
    return convert_float2(vload2(0, row + d)) * kv_scale(row, d / 32, dim);
}

static inline int16 kv_round(float16 x, float scale) {
    int16 value = as_int16(x / scale + ROUNDER) - ROUNDER_BITS;
    return clamp(value, (int16)(-127), (int16)(127));
}

static inline void kv_store_row(global const float *x, int dim, global kv_value *row) {
    int blocks = (dim + 31) / 32;
    global ushort *scales = (global ushort *)(row + blocks * 32);
    for (int block = 0; block < blocks; block++) {
        int left = dim - block * 32;
        float16 low = left >= 16 ? vload16(2 * block, x) : load_tail(x + 32 * block, left);
        float16 high = left >= 32 ? vload16(2 * block + 1, x)
                                  : load_tail(x + 32 * block + 16, left > 16 ? left - 16 : 0);
        int largest = largest_magnitude(low, high);
        float exact = largest < 0x7f800000 ? as_float(largest) / 127.0f : NAN;
        ushort bits = float_to_half_16((float16)(exact)).s0;
        float scale = half_to_float_2((int2)(bits)).x;
        int16 q0 = 0, q1 = 0;
        if (scale > 0.0f) {
            q0 = kv_round(low, scale);
            q1 = kv_round(high, scale);
        }
        vstore16(convert_char16(q0), 2 * block, row);
        vstore16(convert_char16(q1), 2 * block + 1, row);
        scales[block] = bits;
    }
}

#else

#define KV_ROW(dim) (dim)

#ifdef KV_HALF
typedef ushort kv_value;   /* half bits */
#else
typedef float kv_value;
#endif

static inline float16 kv_load_whole(global const kv_value *p) {
#if defined(KV_HALF) && defined(KV_F16C)
    float8 low, high;
    __asm__("vcvtph2ps %1, %0" : "=x"(low) : "m"(*(global const ushort8 *)p));
    __asm__("vcvtph2ps %1, %0" : "=x"(high) : "m"(*(global const ushort8 *)(p + 8)));
    return (float16)(low, high);
#elif defined(KV_HALF) && defined(KV_NATIVE)
    return vload_half16(0, (global const half *)p);
#elif defined(KV_HALF)
    return half_to_float_16(convert_int16(vload16(0, p)));
#else
    return vload16(0, p);
#endif
}

static inline float16 kv_load_inner(global const kv_value *row, int c, int dim) {
    return kv_load_whole(row + c * 16);
}

/* Dimensions d and, where there is one, d + 1. */
static inline float2 kv_load_2(global const kv_value *row, int d, int dim) {
    int next = d + 1 < dim ? d + 1 : d;
#if defined(KV_HALF) && defined(KV_NATIVE)
    return (float2)(vload_half(d, (global const half *)row), vload_half(next, (global const half *)row));
#elif defined(KV_HALF)
    return half_to_float_2((int2)(row[d], row[next]));
#else
    return (float2)(row[d], row[next]);
#endif
}

/* Dimensions 16 c and on; zeros from `dim` on, and no byte past it is read. */
static inline float16 kv_load_16(global const kv_value *row, int c, int dim) {
    if (c * 16 + 16 <= dim)
        return kv_load_whole(row + c * 16);
    kv_value values[16];
    for (int i = 0; i < 16; i++)
        values[i] = c * 16 + i < dim ? row[c * 16 + i] : 0;
#ifdef KV_HALF
    return half_to_float_16(convert_int16(vload16(0, values)));
#else
    return vload16(0, values);
#endif
}

static inline void kv_store_row(global const float *x, int dim, global kv_value *row) {
    int i = 0;
    for (; i + 16 <= dim; i += 16)
#ifdef KV_HALF
        vstore16(float_to_half_16(vload16(0, x + i)), 0, row + i);
#else
        vstore16(vload16(0, x + i), 0, row + i);
#endif
    if (i == dim)
        return;
    kv_value stored[16];
#ifdef KV_HALF
    vstore16(float_to_half_16(load_tail(x + i, dim - i)), 0, stored);
#else
    vstore16(load_tail(x + i, dim - i), 0, stored);
#endif
    for (int j = 0; i + j < dim; j++)
        row[i + j] = stored[j];
}

#endif

/* Have a row in the cache that is needed soon; where it cannot be asked for, it does nothing. */
static inline void kv_prefetch(global const kv_value *row, int dim) {
#ifdef KV_PREFETCH
    for (size_t i = 0; i < KV_ROW(dim) * sizeof (kv_value); i += 64)
        __asm__ volatile("prefetcht0 (%0)" : : "r"((global const char *)row + i));
#endif
}

#endif
#endif
