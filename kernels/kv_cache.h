/* kv_cache: how K and V are kept, for the kernels that write and read them. The
 * build says KV_HALF for half, nothing for float. */
#ifndef KERNELS_KV_CACHE_H
#define KERNELS_KV_CACHE_H

#include "kernels/numerics.h"

/* Tokens in a page; KV_PAGE_TOKENS of common/unit_buffers.h, checked by ops.c. */
#define PAGE_TOKENS 32

#ifdef __OPENCL_VERSION__

#ifdef KV_HALF
typedef ushort kv_value;   /* half bits */
static inline float16 kv_load_16(global const kv_value *p) {
    return half_to_float_16(convert_int16(vload16(0, p)));
}
static inline void kv_store_16(float16 values, global kv_value *p) {
    vstore16(float_to_half_16(values), 0, p);
}
#else
typedef float kv_value;
static inline float16 kv_load_16(global const kv_value *p) {
    return vload16(0, p);
}
static inline void kv_store_16(float16 values, global kv_value *p) {
    vstore16(values, 0, p);
}
#endif

/* The first `count` < 16 values at p, then zeros: no byte past them is read. */
static inline float16 kv_load_tail(global const kv_value *p, int count) {
    kv_value values[16];
    for (int i = 0; i < 16; i++)
        values[i] = i < count ? p[i] : 0;
#ifdef KV_HALF
    return half_to_float_16(convert_int16(vload16(0, values)));
#else
    return vload16(0, values);
#endif
}

static inline void kv_store_tail(float16 values, int count, global kv_value *p) {
    kv_value stored[16];
#ifdef KV_HALF
    vstore16(float_to_half_16(values), 0, stored);
#else
    vstore16(values, 0, stored);
#endif
    for (int i = 0; i < count; i++)
        p[i] = stored[i];
}

#endif
#endif
