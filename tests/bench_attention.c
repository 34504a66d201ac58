/* bench_attention: speed of attention on the first OpenCL device, as CSV: shape, KV type,
 * depth, tokens, milliseconds of all the model's layers, GB/s of KV read once, GFLOP/s; and the
 * last two by the second of one core, which a busy machine disturbs less.
 *
 * usage: bench_attention [SHAPE]     only that shape
 *
 * One token at three depths, and prompts. Layers that together exceed the caches are read
 * one after the other; the best of several rounds. */
#include "kernels/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROUNDS 7
#define SET_BYTES (256u << 20)   /* of KV read in one round, if the model has as much */
#define MOST_COPIES 32
#define MOST_TOKENS 512u
#define ROOM_TOKENS 64u          /* behind the result, for sums of spans */

struct shape {
    const char *name;
    uint32_t layers, heads, kv_heads, dim;
};

static const struct shape shapes[] = {
    { "phi-3-mini", 32, 32, 32, 96 }, { "smollm2-135m", 30, 9, 3, 64 }, { "qwen2.5-7b", 28, 28, 4, 128 },
};

static double now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void check(bool fine, const struct error *err) {
    if (!fine) {
        fprintf(stderr, "bench_attention: %s\n", err->text);
        exit(1);
    }
}

struct bench {
    const struct opencl_device *device;
    cl_context context;
    cl_command_queue queue;
};

/* Bytes that are small numbers in every format: no NaN, no subnormal. */
static cl_mem make_buffer(const struct bench *bench, size_t bytes, unsigned char fill) {
    cl_int code;
    cl_mem buffer = clCreateBuffer(bench->context, CL_MEM_READ_WRITE, bytes, NULL, &code);
    if (code == CL_SUCCESS)
        code = clEnqueueFillBuffer(bench->queue, buffer, &fill, 1, 0, bytes, 0, NULL, NULL);
    struct error err = { 0 };
    check(code == CL_SUCCESS || opencl_failed(&err, code, "cannot create a buffer"), &err);
    return buffer;
}

static void bench_case(const struct bench *bench, const struct shape *shape, enum kv_type kv_type,
                       uint32_t depth, uint32_t tokens) {
    const struct model model = { .head_dim = shape->dim };
    const struct ops_options options = { .kv_type = kv_type };
    struct error err = { 0 };
    struct ops *ops = ops_new(bench->context, bench->device->id, bench->queue, &options, &err);
    check(ops, &err);
    uint32_t pages = (depth + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS, row = shape->heads + 2 * shape->kv_heads;
    size_t token_bytes = shape->kv_heads * kv_vector_bytes(&model, kv_type);
    size_t pool = (size_t)pages * KV_PAGE_TOKENS * token_bytes;
    uint32_t copies = (uint32_t)(SET_BYTES / (2 * pool));
    copies = tokens > 1 ? 1 : copies < 1 ? 1 : copies > MOST_COPIES ? MOST_COPIES : copies;
    copies = copies > shape->layers ? shape->layers : copies;
    int32_t *table = calloc(pages, sizeof *table), positions[MOST_TOKENS];
    if (!table)
        exit(1);
    for (uint32_t i = 0; i < pages; i++)
        table[i] = (int32_t)i;
    for (uint32_t i = 0; i < tokens; i++)
        positions[i] = (int32_t)(depth - tokens + i);
    cl_mem k[MOST_COPIES], v[MOST_COPIES];
    for (uint32_t i = 0; i < copies; i++) {
        k[i] = make_buffer(bench, pool, 0x2c);
        v[i] = make_buffer(bench, pool, 0x2c);
    }
    cl_mem qkv = make_buffer(bench, (size_t)tokens * row * shape->dim * 4, 0x3c);
    uint64_t out_values = (uint64_t)(tokens + ROOM_TOKENS) * shape->heads * shape->dim;
    cl_mem out = make_buffer(bench, out_values * 4, 0);
    cl_mem sequences = make_buffer(bench, tokens * 4, 0), at = make_buffer(bench, tokens * 4, 0);
    cl_mem page_table = make_buffer(bench, pages * 4, 0);
    clEnqueueWriteBuffer(bench->queue, page_table, CL_TRUE, 0, pages * 4, table, 0, NULL, NULL);
    clEnqueueWriteBuffer(bench->queue, at, CL_TRUE, 0, tokens * 4, positions, 0, NULL, NULL);
    const struct attention_args args = {
        .token_count = (int)tokens, .head_count = (int)shape->heads, .kv_head_count = (int)shape->kv_heads,
        .head_dim = (int)shape->dim, .qkv_stride = (int)(row * shape->dim), .page_columns = (int)pages,
        .scale = 0.1f, .key_count = (int)depth,
    };
    double best = 1e9, best_core = 1e9;
    for (int round = 0; round <= ROUNDS; round++) {   /* the first compiles */
        double start = now(CLOCK_MONOTONIC), core_start = now(CLOCK_PROCESS_CPUTIME_ID);
        for (uint32_t i = 0; i < copies; i++)
            check(op_attention(ops, qkv, k[i], v[i], at, sequences, page_table, out, out_values, &args, &err), &err);
        clFinish(bench->queue);
        double seconds = (now(CLOCK_MONOTONIC) - start) / copies;
        double core = (now(CLOCK_PROCESS_CPUTIME_ID) - core_start) / copies;
        if (round && core < best_core)
            best_core = core;
        if (round && seconds < best)
            best = seconds;
    }
    double keys = depth - (tokens - 1) / 2.0;   /* seen by a token, on average */
    double bytes = 2.0 * (double)token_bytes * depth, operations = 4.0 * shape->heads * shape->dim * keys * tokens;
    printf("%s,%s,%u,%u,%.2f,%.2f,%.1f,%.2f,%.1f\n", shape->name, kv_type_name(kv_type), depth, tokens,
           best * shape->layers * 1e3, bytes / best * 1e-9, operations / best * 1e-9, bytes / best_core * 1e-9,
           operations / best_core * 1e-9);
    fflush(stdout);
    for (uint32_t i = 0; i < copies; i++) {
        clReleaseMemObject(k[i]);
        clReleaseMemObject(v[i]);
    }
    const cl_mem buffers[] = { qkv, out, sequences, at, page_table };
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        clReleaseMemObject(buffers[i]);
    free(table);
    ops_free(ops);
}

int main(int argument_count, char **arguments) {
    struct opencl_devices found;
    struct error err = { 0 };
    check(opencl_choose_icds(NULL, 0, &err), &err);
    check(opencl_enumerate(&found, NULL, &err), &err);
    if (!found.count)
        return 1;
    struct bench bench = { .device = &found.devices[0], .context = opencl_context(&found.devices[0].id, 1, &err) };
    check(bench.context, &err);
    bench.queue = opencl_queue(bench.context, bench.device->id, &err);
    check(bench.queue, &err);
    printf("shape,kv,depth,tokens,ms of all layers,GB/s,GFLOP/s,GB/s a core,GFLOP/s a core\n");
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        if (argument_count > 1 && strcmp(arguments[1], shapes[i].name))
            continue;
        for (int type = KV_F32; type <= KV_Q8_0; type++) {
            static const uint32_t depths[] = { 128, 1024, 3900 };
            for (size_t d = 0; d < sizeof depths / sizeof *depths; d++)
                bench_case(&bench, &shapes[i], (enum kv_type)type, depths[d], 1);
            bench_case(&bench, &shapes[i], (enum kv_type)type, MOST_TOKENS, MOST_TOKENS);
        }
    }
    clReleaseCommandQueue(bench.queue);
    clReleaseContext(bench.context);
    opencl_devices_release(&found);
    opencl_shutdown();
    return 0;
}
