#include "planner/probe_measure.h"

#include "common/clock.h"
#include "kernels/ops.h"
#include "planner/robust_fit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double batch_seconds = 0.04;   /* long enough for the clock and the threads */
enum { BATCHES = 5, MOST_REPEATS = 1 << 16 };

static bool batch(const struct probe_bench *bench, probe_work *work, void *context, uint32_t count,
                  double *seconds, struct error *err) {
    double start = seconds_now();
    if (!work(context, count, err))
        return false;
    cl_int code = clFinish(bench->queue);
    *seconds = seconds_now() - start;
    return code == CL_SUCCESS || opencl_failed(err, code, "the device '%s' did not finish", bench->info->name);
}

bool probe_time(const struct probe_bench *bench, probe_work *work, void *context, double *seconds,
                struct error *err) {
    double elapsed, each[BATCHES];
    uint32_t count = 1, batches = 0;
    /* The first run may compile and touch memory; the second says how long a batch is. */
    if (!batch(bench, work, context, 1, &elapsed, err) || !batch(bench, work, context, 1, &elapsed, err))
        return false;
    while (elapsed < batch_seconds && count < MOST_REPEATS) {
        count *= elapsed < batch_seconds / 8 ? 8 : 2;
        if (!batch(bench, work, context, count, &elapsed, err))
            return false;
    }
    /* Their median: runs will meet the machine as it usually is, not at its best moment. */
    each[batches++] = elapsed / count;
    while (batches < BATCHES && elapsed < 10 * batch_seconds) {
        if (!batch(bench, work, context, count, &elapsed, err))
            return false;
        each[batches++] = elapsed / count;
    }
    *seconds = median_of(each, batches);
    *seconds = *seconds > 1e-9 ? *seconds : 1e-9;
    return true;
}

bool probe_time_once(const struct probe_bench *bench, probe_work *work, void *context, double *seconds,
                     struct error *err) {
    return batch(bench, work, context, 1, seconds, err) && batch(bench, work, context, 1, seconds, err);
}

cl_mem probe_buffer(const struct probe_bench *bench, uint64_t bytes, uint32_t word, struct error *err) {
    cl_int code;
    uint64_t rounded = (bytes + bench->info->alignment - 1) / bench->info->alignment * bench->info->alignment;
    cl_mem buffer = clCreateBuffer(bench->context, CL_MEM_READ_WRITE, rounded, NULL, &code);
    if (!buffer) {
        opencl_failed(err, code, "cannot allocate %llu bytes on '%s'", (unsigned long long)rounded,
                      bench->info->name);
        return NULL;
    }
    code = clEnqueueFillBuffer(bench->queue, buffer, &word, sizeof word, 0, rounded, 0, NULL, NULL);
    if (code == CL_SUCCESS)
        code = clFinish(bench->queue);
    if (code == CL_SUCCESS)
        return buffer;
    opencl_failed(err, code, "cannot fill %llu bytes on '%s'", (unsigned long long)rounded, bench->info->name);
    clReleaseMemObject(buffer);
    return NULL;
}

void probe_release_buffer(cl_mem buffer) {
    if (buffer)
        clReleaseMemObject(buffer);
}

void probe_report(const struct probe_bench *bench, const char *what, const char *format,
                  uint64_t working_set_bytes, double value, const char *unit) {
    struct probe_value figure = { .working_set_bytes = working_set_bytes, .value = value };
    snprintf(figure.what, sizeof figure.what, "%s", what);
    snprintf(figure.format, sizeof figure.format, "%s", format);
    snprintf(figure.unit, sizeof figure.unit, "%s", unit);
    bench->value(bench, &figure);
}

/* ---- copies between host and device ---- */

enum { HOP_BYTES = 4 << 10, COPY_BYTES = 16 << 20 };

struct copy { const struct probe_bench *bench; cl_mem buffer; void *host; size_t bytes; bool is_read; };

static bool copy_work(void *context, uint32_t count, struct error *err) {
    const struct copy *copy = context;
    cl_command_queue queue = copy->bench->queue;
    for (uint32_t i = 0; i < count; i++) {
        cl_int code = copy->is_read
            ? clEnqueueReadBuffer(queue, copy->buffer, CL_TRUE, 0, copy->bytes, copy->host, 0, NULL, NULL)
            : clEnqueueWriteBuffer(queue, copy->buffer, CL_TRUE, 0, copy->bytes, copy->host, 0, NULL, NULL);
        if (code != CL_SUCCESS)
            return opencl_failed(err, code, "cannot copy to or from '%s'", copy->bench->info->name);
    }
    return true;
}

bool probe_measure_copies(const struct probe_bench *bench, struct error *err) {
    double seconds[2][2];   /* [small, large][write, read] */
    struct copy copy = { .bench = bench, .buffer = probe_buffer(bench, COPY_BYTES, 0, err),
                         .host = calloc(1, COPY_BYTES) };
    bool fine = copy.buffer && copy.host;
    if (copy.buffer && !copy.host)
        error_set(err, ERROR_FAILED, "cannot measure copies: out of memory");
    for (int size = 0; fine && size < 2; size++) {
        copy.bytes = size ? COPY_BYTES : HOP_BYTES;
        for (int direction = 0; fine && direction < 2; direction++) {
            copy.is_read = direction;
            fine = probe_time(bench, copy_work, &copy, &seconds[size][direction], err);
        }
    }
    if (fine) {
        double slower = seconds[1][0] > seconds[1][1] ? seconds[1][0] : seconds[1][1];
        probe_report(bench, "hop", "", HOP_BYTES, (seconds[0][0] + seconds[0][1]) / 2, "s");
        probe_report(bench, "copy", "", COPY_BYTES, COPY_BYTES / slower, "B/s");
    }
    probe_release_buffer(copy.buffer);
    free(copy.host);
    return fine;
}

/* ---- launches ---- */

struct small_launch { const struct probe_bench *bench; struct ops *ops; cl_mem wide, out; bool waits; };

static bool launch_work(void *context, uint32_t count, struct error *err) {
    const struct small_launch *launch = context;
    const struct swiglu_args args = { .token_count = 1, .intermediate = 32 };
    for (uint32_t i = 0; i < count; i++)
        if (!op_swiglu(launch->ops, launch->wide, launch->out, &args, err) ||
            (launch->waits && clFinish(launch->bench->queue) != CL_SUCCESS))
            return false;
    return true;
}

static bool measure_launches(const struct probe_bench *bench, struct ops *ops, struct error *err) {
    double queued, waited;
    struct small_launch launch = { .bench = bench, .ops = ops, .wide = probe_buffer(bench, 256, 0, err) };
    launch.out = launch.wide ? probe_buffer(bench, 128, 0, err) : NULL;
    bool fine = launch.out && probe_time(bench, launch_work, &launch, &queued, err);
    launch.waits = true;
    fine = fine && probe_time(bench, launch_work, &launch, &waited, err);
    if (fine) {
        probe_report(bench, "launch", "", 0, queued, "s");
        probe_report(bench, "finish", "", 0, waited, "s");
    }
    probe_release_buffer(launch.wide);
    probe_release_buffer(launch.out);
    return fine;
}

/* ---- memory ---- */

/* What a driver reports may be taken by others, or never have been there. Only for
 * devices with memory of their own: host RAM is the operating system's to tell. */
static void measure_memory(const struct probe_bench *bench) {
    enum { MOST_CHUNKS = 1024 };
    static cl_mem chunks[MOST_CHUNKS];   /* one device at a time in this process */
    uint64_t chunk = (uint64_t)1 << 30, total = 0;
    uint32_t count = 0;
    if (chunk > bench->info->max_buffer_bytes)
        chunk = bench->info->max_buffer_bytes;
    chunk -= chunk % bench->info->alignment;
    /* Halve the chunk where it does not fit any more, to find the last of it. */
    while (count < MOST_CHUNKS && chunk >= (uint64_t)16 << 20 && total < bench->info->memory_bytes) {
        chunks[count] = probe_buffer(bench, chunk, 0, NULL);
        if (chunks[count]) {
            count++;
            total += chunk;
        } else {
            chunk = chunk / 2 - chunk / 2 % bench->info->alignment;
        }
    }
    while (count)
        probe_release_buffer(chunks[--count]);
    clFinish(bench->queue);
    if (total)
        probe_report(bench, "memory", "", 0, (double)total, "B");
}

/* ---- all ---- */

bool probe_measure(const struct probe_bench *bench, struct error *err) {
    const struct probe_request *request = bench->request;
    /* Kernels of the weight types are built when they are first measured, so that each
     * is a step of its own. */
    struct ops_options options = { .numeric = request->numeric, .kv_type = request->kv_type };
    bench->step(bench, "building kernels");
    struct ops *ops = ops_new(bench->context, bench->id, bench->queue, &options, err);
    if (!ops)
        return false;
    bench->step(bench, "launches and copies");
    bool fine = measure_launches(bench, ops, err) && probe_measure_copies(bench, err) &&
                probe_measure_matrices(bench, ops, err) && probe_measure_attention(bench, ops, err);
    ops_free(ops);
    if (fine && !bench->info->is_cpu_pool) {
        bench->step(bench, "memory");
        measure_memory(bench);
    }
    return fine;
}
