#include "tests/support_bench.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

double bench_now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

void bench_check(bool fine, const struct error *err) {
    if (!fine) {
        fprintf(stderr, "%s: %s\n", program_invocation_short_name, err->text);
        exit(1);
    }
}

struct bench bench_open(const struct opencl_device *device) {
    struct error err = { 0 };
    struct bench bench = { .device = device, .context = opencl_context(&device->id, 1, &err) };
    bench_check(bench.context, &err);
    bench.queue = opencl_queue(bench.context, device->id, &err);
    bench_check(bench.queue, &err);
    return bench;
}

void bench_close(const struct bench *bench) {
    clReleaseCommandQueue(bench->queue);
    clReleaseContext(bench->context);
}

void bench_devices(struct opencl_devices *found) {
    struct error err = { 0 };
    bench_check(opencl_choose_icds(NULL, 0, &err), &err);
    bench_check(opencl_enumerate(found, NULL, &err), &err);
}

void bench_release_devices(struct opencl_devices *found) {
    opencl_devices_release(found);
    opencl_shutdown();
}

cl_mem bench_buffer(const struct bench *bench, size_t bytes, unsigned char fill) {
    cl_int code;
    cl_mem buffer = clCreateBuffer(bench->context, CL_MEM_READ_WRITE, bytes, NULL, &code);
    if (code == CL_SUCCESS)
        code = clEnqueueFillBuffer(bench->queue, buffer, &fill, 1, 0, bytes, 0, NULL, NULL);
    struct error err = { 0 };
    bench_check(code == CL_SUCCESS || opencl_failed(&err, code, "cannot create a buffer"), &err);
    return buffer;
}
