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

struct kernel_store {
    void *context;

    /* The binary under this key, whole and as it was kept; the caller frees it. NULL with an
     * empty reason: there is none; with a sentence: it is damaged. */
    unsigned char *(*find_program)(void *context, const struct device *device, const struct program_key *key,
                                   size_t *size, struct error *reason);
    /* NULL where nothing can be kept. */
    bool (*keep_program)(void *context, const struct device *device, const struct program_key *key,
                         const unsigned char *binary, size_t size, struct error *reason);
};

#endif
