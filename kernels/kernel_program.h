/* kernel_program: OpenCL programs from the sources that travel in the binary. */
#ifndef KERNELS_KERNEL_PROGRAM_H
#define KERNELS_KERNEL_PROGRAM_H

#include "common/opencl.h"

/* Build embedded source `name` ("kernels/rms_norm.cl") for one device with
 * -D DEFINES, words apart by blanks ("WEIGHTS_Q4_0 KV_HALF"; "" for none). NULL
 * on failure, with the head of the build log in the sentence; otherwise the
 * caller releases it. */
cl_program kernel_program_build(cl_context context, cl_device_id id, const char *name,
                                const char *defines, struct error *err);

#endif
