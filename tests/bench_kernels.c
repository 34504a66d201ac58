/* bench_kernels: speed of the matrix products and of attention on every OpenCL
 * device, as CSV: device, kernel, type, tokens, the rate and its unit.
 *
 * usage: bench_kernels [TYPE]     only that type of weights
 *
 * Decode (one token) reads COPIES matrices one after the other, more than a cache
 * holds, and counts their bytes; 64 tokens count a product and a sum as two
 * operations. The best of several rounds. */
#include "kernels/ops.h"
#include "tests/support_bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS 4096u
#define COLUMNS 4096u
#define WIDE_TOKENS 64u
#define SET_BYTES (192u << 20)   /* of matrices read in one round */
#define MOST_COPIES 64
#define ROUNDS 5

static void report(const struct bench *bench, const char *kernel, const char *type, unsigned tokens,
                   double rate, const char *unit) {
    printf("%s,%s,%s,%u,%.2f,%s\n", bench->device->info.name, kernel, type, tokens, rate, unit);
    fflush(stdout);
}

/* Seconds of the fastest round: each takes every copy once. */
static double time_matmul(const struct bench *bench, struct ops *ops, const struct device_matrix *matrices,
                          uint32_t copies, enum numeric_class numeric, const struct q8_buffers *q8,
                          cl_mem x, cl_mem y, uint32_t tokens) {
    struct error err = { 0 };
    double best = 1e9;
    for (int round = 0; round <= ROUNDS; round++) {   /* the first compiles */
        double start = bench_now(CLOCK_MONOTONIC);
        for (uint32_t i = 0; i < copies; i++)
            bench_check(numeric == NUMERIC_INT8
                      ? op_matmul_q8(ops, &matrices[i], q8, y, tokens, ROWS, false, &err)
                      : op_matmul(ops, &matrices[i], x, y, tokens, ROWS, false, &err), &err);
        clFinish(bench->queue);
        double seconds = bench_now(CLOCK_MONOTONIC) - start;
        if (round && seconds < best)
            best = seconds;
    }
    return best;
}

static void bench_type(const struct bench *bench, enum tensor_type type, enum numeric_class numeric) {
    const char *name = tensor_type_info(type)->name;
    const char *kernel = numeric == NUMERIC_INT8 ? "matmul_q8" : "matmul_float";
    struct ops_options options = { .numeric = numeric, .kv_type = KV_F16 };
    struct error err = { 0 };
    options.weight_types[type] = true;
    struct ops *ops = ops_new(bench->context, bench->device->id, bench->queue, &options, &err);
    bench_check(ops, &err);
    uint64_t bytes;
    bench_check(tensor_bytes(type, ROWS, COLUMNS, &bytes), &err);
    uint32_t copies = (uint32_t)(SET_BYTES / bytes);
    struct device_matrix matrices[MOST_COPIES];
    copies = copies > MOST_COPIES ? MOST_COPIES : copies < 1 ? 1 : copies;
    for (uint32_t i = 0; i < copies; i++)
        matrices[i] = (struct device_matrix) {
            .buffer = bench_buffer(bench, bytes, 0x2c), .type = type, .rows = ROWS, .columns = COLUMNS
        };
    const struct q8_buffers q8 = {
        .values = bench_buffer(bench, WIDE_TOKENS * COLUMNS, 1),
        .scales = bench_buffer(bench, WIDE_TOKENS * COLUMNS / 32 * 4, 0x3c),
        .sums = bench_buffer(bench, WIDE_TOKENS * COLUMNS / 32 * 4, 0),
    };
    cl_mem x = bench_buffer(bench, WIDE_TOKENS * COLUMNS * 4, 0x3c);
    cl_mem y = bench_buffer(bench, WIDE_TOKENS * ROWS * 4, 0);
    double one = time_matmul(bench, ops, matrices, copies, numeric, &q8, x, y, 1);
    report(bench, kernel, name, 1, (double)bytes * copies / one * 1e-9, "GB/s");
    uint32_t few = copies < 4 ? copies : 4;
    double wide = time_matmul(bench, ops, matrices, few, numeric, &q8, x, y, WIDE_TOKENS);
    report(bench, kernel, name, WIDE_TOKENS, 2.0 * ROWS * COLUMNS * WIDE_TOKENS * few / wide * 1e-9, "GFLOP/s");
    for (uint32_t i = 0; i < copies; i++)
        clReleaseMemObject(matrices[i].buffer);
    clReleaseMemObject(q8.values);
    clReleaseMemObject(q8.scales);
    clReleaseMemObject(q8.sums);
    clReleaseMemObject(x);
    clReleaseMemObject(y);
    ops_free(ops);
}

/* `tokens` queries at the end of 2,048 keys: 32 heads of 96 over 8 KV heads. */
static void bench_attention(const struct bench *bench, enum kv_type kv_type, uint32_t tokens) {
    enum { HEADS = 32, KV_HEADS = 8, DIM = 96, KEYS = 2048, PAGES = KEYS / KV_PAGE_TOKENS };
    struct ops_options options = { .kv_type = kv_type };
    struct error err = { 0 };
    struct ops *ops = ops_new(bench->context, bench->device->id, bench->queue, &options, &err);
    bench_check(ops, &err);
    size_t value_bytes = kv_type == KV_F16 ? 2 : 4, kv_bytes = (size_t)KEYS * KV_HEADS * DIM * value_bytes;
    int32_t pages[PAGES], positions[WIDE_TOKENS];
    for (int i = 0; i < PAGES; i++)
        pages[i] = i;
    for (uint32_t i = 0; i < tokens; i++)
        positions[i] = (int32_t)(KEYS - tokens + i);
    cl_mem k = bench_buffer(bench, kv_bytes, 0x2c), v = bench_buffer(bench, kv_bytes, 0x2c);
    cl_mem qkv = bench_buffer(bench, (size_t)tokens * (HEADS + 2 * KV_HEADS) * DIM * 4, 0x3c);
    cl_mem out = bench_buffer(bench, (size_t)tokens * HEADS * DIM * 4, 0);
    cl_mem sequences = bench_buffer(bench, tokens * 4, 0);
    cl_mem page_table = bench_buffer(bench, sizeof pages, 0), at = bench_buffer(bench, sizeof positions, 0);
    clEnqueueWriteBuffer(bench->queue, page_table, CL_TRUE, 0, sizeof pages, pages, 0, NULL, NULL);
    clEnqueueWriteBuffer(bench->queue, at, CL_TRUE, 0, tokens * 4, positions, 0, NULL, NULL);
    const struct attention_args args = {
        .token_count = (int)tokens, .head_count = HEADS, .kv_head_count = KV_HEADS, .head_dim = DIM,
        .qkv_stride = (HEADS + 2 * KV_HEADS) * DIM, .page_columns = PAGES, .scale = 0.1f,
    };
    double best = 1e9;
    for (int round = 0; round <= ROUNDS; round++) {
        double start = bench_now(CLOCK_MONOTONIC);
        bench_check(op_attention(ops, qkv, k, v, at, sequences, page_table, out, 0, &args, &err), &err);
        clFinish(bench->queue);
        if (round && bench_now(CLOCK_MONOTONIC) - start < best)
            best = bench_now(CLOCK_MONOTONIC) - start;
    }
    report(bench, "attention", kv_type_name(kv_type), tokens, 4.0 * HEADS * DIM * KEYS * tokens / best * 1e-9,
           "GFLOP/s");
    const cl_mem buffers[] = { k, v, qkv, out, sequences, page_table, at };
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        clReleaseMemObject(buffers[i]);
    ops_free(ops);
}

static void bench_device(const struct opencl_device *device, const char *only) {
    struct bench bench = bench_open(device);
    for (int i = 0; i < TENSOR_TYPE_COUNT; i++) {
        enum tensor_type type = (enum tensor_type)i;
        if (only && strcmp(only, tensor_type_info(type)->name))
            continue;
        if (tensor_type_info(type)->is_quantised)
            bench_type(&bench, type, NUMERIC_INT8);
        bench_type(&bench, type, NUMERIC_FLOAT);
    }
    for (int wide = 0; wide < 2 && (!only || !strcmp(only, "attention")); wide++) {
        bench_attention(&bench, KV_F16, wide ? WIDE_TOKENS : 1);
        bench_attention(&bench, KV_F32, wide ? WIDE_TOKENS : 1);
    }
    bench_close(&bench);
}

int main(int argument_count, char **arguments) {
    struct opencl_devices found;
    bench_devices(&found);
    printf("device,kernel,type,tokens,rate,unit\n");
    for (uint32_t i = 0; i < found.count; i++)
        bench_device(&found.devices[i], argument_count > 1 ? arguments[1] : NULL);
    bench_release_devices(&found);
    return 0;
}
