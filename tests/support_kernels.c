#include "tests/support_kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_DEVICES 16
#define GUARD_BYTES 64
#define GUARD_VALUE 0x5a

static struct opencl_devices present;
static struct kernel_device devices[MOST_DEVICES];
static uint32_t device_count;

int kernel_close(void **state) {
    (void)state;
    for (uint32_t i = 0; i < device_count; i++) {
        clReleaseCommandQueue(devices[i].queue);
        clReleaseContext(devices[i].context);
    }
    device_count = 0;
    opencl_devices_release(&present);
    opencl_shutdown();
    return 0;
}

static void open_devices(void) {
    struct error err = { 0 };
    setenv("POCL_DEVICES", "pthread basic", 0);
#ifdef __SANITIZE_ADDRESS__
    /* Drivers that are unloaded before the end leave leaks that no name can suppress. */
    setenv("OCL_ICD_VENDORS", "pocl.icd", 0);
#endif
    ASSERT_OK(opencl_choose_icds(NULL, 0, &err), err);
    ASSERT_OK(opencl_enumerate(&present, NULL, &err), err);
    for (uint32_t i = 0; i < present.count && device_count < MOST_DEVICES; i++) {
        struct kernel_device *device = &devices[device_count];
        device->name = present.devices[i].info.name;
        device->id = present.devices[i].id;
        device->context = opencl_context(&device->id, 1, &err);
        ASSERT_OK(device->context, err);
        device->queue = opencl_queue(device->context, device->id, &err);
        ASSERT_OK(device->queue, err);
        device->is_simulator = strstr(present.devices[i].info.platform, "Oclgrind") != NULL;
        print_message("# device: %s, %s\n", present.devices[i].info.platform, device->name);
        device_count++;
    }
    if (!device_count)
        fail_msg("no OpenCL device on this machine; install pocl-opencl-icd");
}

const struct kernel_device *kernel_devices(uint32_t *count) {
    if (!device_count)
        open_devices();
    *count = device_count;
    return devices;
}

struct ops *kernel_ops(const struct kernel_device *device, enum tensor_type type,
                       enum numeric_class numeric, enum kv_type kv_type) {
    struct ops_options options = { .numeric = numeric, .kv_type = kv_type };
    struct error err = { 0 };
    if (type != TENSOR_TYPE_COUNT)
        options.weight_types[type] = true;
    struct ops *ops = ops_new(device->context, device->id, device->queue, &options, &err);
    ASSERT_OK(ops, err);
    return ops;
}

void *test_alloc(size_t bytes) {
    void *memory = calloc(1, bytes ? bytes : 1);
    if (!memory)
        abort();
    return memory;
}

cl_mem kernel_buffer(const struct kernel_device *device, size_t bytes, const void *data) {
    char *image = test_alloc(bytes + GUARD_BYTES);
    if (data)
        memcpy(image, data, bytes);
    memset(image + bytes, GUARD_VALUE, GUARD_BYTES);
    cl_int code;
    cl_mem buffer = clCreateBuffer(device->context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR,
                                   bytes + GUARD_BYTES, image, &code);
    free(image);
    assert_int_equal(code, CL_SUCCESS);
    return buffer;
}

void kernel_read(const struct kernel_device *device, cl_mem buffer, void *data, size_t bytes) {
    unsigned char guard[GUARD_BYTES];
    assert_int_equal(clEnqueueReadBuffer(device->queue, buffer, CL_TRUE, 0, bytes, data, 0, NULL, NULL),
                     CL_SUCCESS);
    assert_int_equal(clEnqueueReadBuffer(device->queue, buffer, CL_TRUE, bytes, GUARD_BYTES, guard, 0,
                                         NULL, NULL), CL_SUCCESS);
    for (int i = 0; i < GUARD_BYTES; i++)
        if (guard[i] != GUARD_VALUE)
            fail_msg("%s: byte %d past a buffer was written", device->name, i);
}

void kernel_release(cl_mem buffer) {
    assert_int_equal(clReleaseMemObject(buffer), CL_SUCCESS);
}

uint32_t random_bits(struct random *random) {
    random->state = random->state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random->state >> 33);
}

float random_float(struct random *random) {
    float value = (float)((int)(random_bits(random) & 0xffffff) - 0x800000) / (float)0x800000;
    return ldexpf(value, -(int)(random_bits(random) % 5));
}

float *random_floats(uint64_t seed, size_t count) {
    struct random random = { seed };
    float *values = test_alloc(count * sizeof *values);
    for (size_t i = 0; i < count; i++)
        values[i] = random_float(&random);
    return values;
}

void *random_weights(enum tensor_type type, uint64_t seed, uint32_t rows, uint32_t columns, size_t *bytes) {
    const struct tensor_type_info *info = tensor_type_info(type);
    struct random random = { seed };
    uint64_t total;
    if (!tensor_bytes(type, rows, columns, &total))
        abort();
    *bytes = (size_t)total;
    uint8_t *weights = test_alloc(*bytes);
    if (!info->is_quantised) {
        float *values = random_floats(seed, (size_t)rows * columns);
        quantise(type, values, weights, (uint64_t)rows * columns);
        free(values);
        return weights;
    }
    for (size_t i = 0; i < *bytes; i++)
        weights[i] = (uint8_t)random_bits(&random);
    /* Where the block's halves lie: a random one could be infinite. */
    bool has_two = type == TENSOR_Q4_1 || type == TENSOR_Q5_1 || type == TENSOR_Q4_K || type == TENSOR_Q5_K;
    size_t first = type == TENSOR_Q6_K ? 208 : 0;
    for (size_t block = 0; block < *bytes / info->block_bytes; block++)
        for (size_t i = 0; i < (has_two ? 2u : 1u); i++) {
            uint16_t half = float_to_half(random_float(&random) / 16.0f);
            memcpy(weights + block * info->block_bytes + first + 2 * i, &half, sizeof half);
        }
    return weights;
}

static bool is_same(const struct kernel_device *device, float got, float want) {
    if (isnan(got) || isnan(want))
        return isnan(got) && isnan(want);
    if (device->is_simulator)
        return fabsf(got - want) <= 1e-5f + 1e-5f * fabsf(want);
    return memcmp(&got, &want, sizeof got) == 0;
}

void assert_floats(const struct kernel_device *device, const char *what, const float *got,
                   const float *want, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!is_same(device, got[i], want[i]))
            fail_msg("%s: %s: value %zu is %.9g (%a), not %.9g (%a)", device->name, what, i,
                     (double)got[i], (double)got[i], (double)want[i], (double)want[i]);
}

void assert_bytes(const struct kernel_device *device, const char *what, const void *got,
                  const void *want, size_t bytes) {
    const unsigned char *a = got, *b = want;
    for (size_t i = 0; i < bytes; i++)
        if (a[i] != b[i])
            fail_msg("%s: %s: byte %zu is %d, not %d", device->name, what, i, a[i], b[i]);
}
