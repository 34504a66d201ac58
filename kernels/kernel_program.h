/* kernel_program: OpenCL programs from the sources that travel in the binary, or from
 * what a driver made of them before. */
#ifndef KERNELS_KERNEL_PROGRAM_H
#define KERNELS_KERNEL_PROGRAM_H

#include "common/kernel_store.h"
#include "common/opencl.h"

#define PROGRAM_MOST_KERNELS 4

struct program_request {
    const char *source;     /* "kernels/rms_norm.cl" */
    const char *defines;    /* words apart by blanks, each a -D ("WEIGHTS_Q4_0 TILE=8"; "" for none) */
    const char *launches;   /* for the key, see kernels/ops_internal.h */
    const char *kernels[PROGRAM_MOST_KERNELS];   /* wanted of it; NULL: no more */
};

struct built_program {
    cl_program program;
    cl_kernel kernels[PROGRAM_MOST_KERNELS];     /* as in the request */
    bool is_compiled;       /* not from the store */
    char why_compiled[200]; /* what was wrong with what the store has; "" where it has none */
    struct program_key key; /* filled where a store was given */
};

/* Make a program for one device from the binary in `store`, or compile it where the store is
 * NULL, has none, or has one that the driver refuses. False, with the head of the build log in
 * the sentence, where that fails; otherwise the caller releases the program and the kernels. */
bool kernel_program_open(cl_context context, cl_device_id id, const struct program_request *request,
                         const struct kernel_store *store, const struct device *device,
                         struct built_program *built, struct error *err);
void kernel_program_release(struct built_program *built);   /* zeroed is fine; leaves it zeroed */

/* Give the driver's binary to the store. */
bool kernel_program_keep(const struct built_program *built, cl_device_id id, const struct kernel_store *store,
                         const struct device *device, struct error *reason);

/* The program alone, compiled; NULL on failure, otherwise the caller releases it. */
cl_program kernel_program_build(cl_context context, cl_device_id id, const char *name,
                                const char *defines, struct error *err);

#endif
