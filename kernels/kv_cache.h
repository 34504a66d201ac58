/* kv_cache: how K and V are kept, for the kernels that write and read them. The
 * build says KV_HALF for half, nothing for float. */
#ifndef KERNELS_KV_CACHE_H
#define KERNELS_KV_CACHE_H

#include "kernels/numerics.h"

/* Tokens in a page; KV_PAGE_TOKENS of common/unit_buffers.h, checked by ops.c. */
#define PAGE_TOKENS 32

#ifdef __OPENCL_VERSION__

#ifdef KV_HALF
typedef half kv_value;
#define kv_store(value, i, p) vstore_half_rte(value, i, p)
#define kv_load(i, p) vload_half(i, p)
#define kv_load_16(p) vload_half16(0, p)
#else
typedef float kv_value;
#define kv_store(value, i, p) ((p)[i] = (value))
#define kv_load(i, p) ((p)[i])
#define kv_load_16(p) vload16(0, p)
#endif

/* The first `count` < 16 values at p, then zeros: no byte past them is read. */
static inline float16 kv_load_tail(global const kv_value *p, int count) {
    float values[16];
    for (int i = 0; i < 16; i++)
        values[i] = i < count ? kv_load(i, p) : 0.0f;
    return vload16(0, values);
}

#endif
#endif
