/* support_kernels: what the tests of kernels share: every device of this machine,
 * buffers, random data, comparison by bits. */
#ifndef TESTS_SUPPORT_KERNELS_H
#define TESTS_SUPPORT_KERNELS_H

#include "kernels/ops.h"
#include "tests/support.h"

struct kernel_device {
    const char *name;          /* borrowed */
    cl_device_id id;
    cl_context context;
    cl_command_queue queue;
    bool is_simulator;         /* oclgrind: slow, and its fma() rounds twice */
};

/* All devices present, opened at the first call. PoCL shows its devices `pthread` and
 * `basic`, unless POCL_DEVICES says otherwise. Fails the test where there is none. */
const struct kernel_device *kernel_devices(uint32_t *count);

/* Releases them: the group's teardown. (At exit it would be too late for oclgrind.) */
int kernel_close(void **state);

/* for (EACH_KERNEL_DEVICE(device)) { ... } */
#define EACH_KERNEL_DEVICE(device) \
    uint32_t device_left_ = 0, once_ = 1; once_; once_ = 0) \
    for (const struct kernel_device *device = kernel_devices(&device_left_); device_left_; device++, device_left_--

/* Launchers for one type of weights (TENSOR_TYPE_COUNT: none). */
struct ops *kernel_ops(const struct kernel_device *device, enum tensor_type type,
                       enum numeric_class numeric, enum kv_type kv_type);

/* A buffer with a copy of `data` (NULL: unset). A guard of 64 bytes follows it;
 * kernel_read() fails the test where something was written there. */
cl_mem kernel_buffer(const struct kernel_device *device, size_t bytes, const void *data);
void kernel_read(const struct kernel_device *device, cl_mem buffer, void *data, size_t bytes);
void kernel_release(cl_mem buffer);

/* The same sequence for the same seed. */
struct random { uint64_t state; };
uint32_t random_bits(struct random *random);
float random_float(struct random *random);      /* in [-1, 1), no two scales alike */
float *random_floats(uint64_t seed, size_t count);             /* caller frees */
/* Blocks with every quant possible and moderate scales; the caller frees them. */
void *random_weights(enum tensor_type type, uint64_t seed, uint32_t rows, uint32_t columns, size_t *bytes);

void *test_alloc(size_t bytes);   /* zeroed; aborts without memory */

/* Equal bits (a NaN equals any NaN); on the simulator nearly equal. */
void assert_floats(const struct kernel_device *device, const char *what, const float *got,
                   const float *want, size_t count);
/* Always equal bits. */
void assert_bytes(const struct kernel_device *device, const char *what, const void *got,
                  const void *want, size_t bytes);

#endif
