/* kernel_store: what is remembered of kernels from one process to the next, as callbacks:
 * the folder that builds kernels knows no database.
 *
 * Everything is kept for a device and its driver. Calls come from the threads of several
 * devices at once. A failure to remember or to recall costs time, nothing else. */
#ifndef COMMON_KERNEL_STORE_H
#define COMMON_KERNEL_STORE_H

#include "common/device.h"

#define PROGRAM_MOST_BYTES (64u << 20)   /* of a binary that is kept */

struct program_key {
    char name[96];          /* for people: "kernels/rope_kv.cl KV_HALF" */
    /* SHA-256 of sources, build options, the device's OpenCL version and the host's CPU: a
     * binary may hold instructions that another CPU lacks. */
    char source_hash[65];
    char launches[16];      /* grids that were launched before the binary was taken, see kernels/ops.h */
};

/* Which form of a kernel was found best, see ops_variants(). */
struct variant_key {
    char operation[16];     /* "matmul int8", "matmul float" */
    char format[16];        /* of the weights: "q4_0/r16" */
    char among[64];         /* the forms that there are: "vnni,avx2,plain" */
};

struct kernel_store {
    void *context;

    /* The binary under this key, whole and as it was kept; the caller frees it. NULL with an
     * empty reason: there is none; with a sentence: it is damaged. */
    unsigned char *(*find_program)(void *context, const struct device *device, const struct program_key *key,
                                   size_t *size, struct error *reason);
    /* NULL where nothing can be kept. */
    bool (*keep_program)(void *context, const struct device *device, const struct program_key *key,
                         const unsigned char *binary, size_t size, struct error *reason);

    /* The name that was kept on this CPU; "" where there is none. NULL where there are none. */
    void (*find_variant)(void *context, const struct device *device, const struct variant_key *key,
                         char variant[32]);
    /* `seconds` says how long it took for what all were compared by. NULL as keep_program. */
    bool (*keep_variant)(void *context, const struct device *device, const struct variant_key *key,
                         const char *variant, double seconds, struct error *reason);
};

#endif
