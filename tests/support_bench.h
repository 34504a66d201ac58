/* support_bench: what the bench programs share: a clock, a device, buffers, and an end with a
 * sentence where something fails. No test needs it. */
#ifndef TESTS_SUPPORT_BENCH_H
#define TESTS_SUPPORT_BENCH_H

#include "common/opencl.h"

#include <time.h>

/* One device with a queue of its own. */
struct bench {
    const struct opencl_device *device;   /* borrowed */
    cl_context context;
    cl_command_queue queue;
};

struct bench bench_open(const struct opencl_device *device);
void bench_close(const struct bench *bench);

/* Every device of this machine; the caller ends with bench_release_devices(). */
void bench_devices(struct opencl_devices *found);
void bench_release_devices(struct opencl_devices *found);

/* `bytes` bytes of `fill`; the caller releases it. Bytes that are small numbers in every format
 * make neither NaNs nor subnormals, which would take other times. */
cl_mem bench_buffer(const struct bench *bench, size_t bytes, unsigned char fill);

/* Seconds of that clock. */
double bench_now(clockid_t clock);

/* End the program with the sentence in `err` unless `fine`. */
void bench_check(bool fine, const struct error *err);

#endif
