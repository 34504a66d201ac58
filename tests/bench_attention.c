/* bench_attention: speed of attention on the first OpenCL device, as CSV: shape, KV type,
 * depth, tokens, milliseconds of all the model's layers, GB/s of KV read once, GFLOP/s; and the
 * last two by the second of one core, which a busy machine disturbs less.
 *
 * usage: bench_attention [SHAPE]     only that shape
 *
 * One token at three depths, and prompts. Layers that together exceed the caches are read
 * one after the other; the best of several rounds. */
#include "kernels/ops.h"
#include "tests/support_bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static void bench_case(const struct bench *bench, const struct shape *shape, enum kv_type kv_type,
                       uint32_t depth, uint32_t tokens) {
    const struct model model = { .head_dim = shape->dim };
    const struct ops_options options = { .kv_type = kv_type };
    struct error err = { 0 };
    struct ops *ops = ops_new(bench->context, bench->device->id, bench->queue, &options, &err);
    bench_check(ops, &err);
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
        k[i] = bench_buffer(bench, pool, 0x2c);
        v[i] = bench_buffer(bench, pool, 0x2c);
    }
    cl_mem qkv = bench_buffer(bench, (size_t)tokens * row * shape->dim * 4, 0x3c);
    uint64_t out_values = (uint64_t)(tokens + ROOM_TOKENS) * shape->heads * shape->dim;
    cl_mem out = bench_buffer(bench, out_values * 4, 0);
    cl_mem sequences = bench_buffer(bench, tokens * 4, 0), at = bench_buffer(bench, tokens * 4, 0);
    cl_mem page_table = bench_buffer(bench, pages * 4, 0);
    clEnqueueWriteBuffer(bench->queue, page_table, CL_TRUE, 0, pages * 4, table, 0, NULL, NULL);
    clEnqueueWriteBuffer(bench->queue, at, CL_TRUE, 0, tokens * 4, positions, 0, NULL, NULL);
    const struct attention_args args = {
        .token_count = (int)tokens, .head_count = (int)shape->heads, .kv_head_count = (int)shape->kv_heads,
        .head_dim = (int)shape->dim, .qkv_stride = (int)(row * shape->dim), .page_columns = (int)pages,
        .scale = 0.1f, .key_count = (int)depth,
    };
    double best = 1e9, best_core = 1e9;
    for (int round = 0; round <= ROUNDS; round++) {   /* the first compiles */
        double start = bench_now(CLOCK_MONOTONIC), core_start = bench_now(CLOCK_PROCESS_CPUTIME_ID);
        for (uint32_t i = 0; i < copies; i++)
            bench_check(op_attention(ops, qkv, k[i], v[i], at, sequences, page_table, out, out_values, &args, &err), &err);
        clFinish(bench->queue);
        double seconds = (bench_now(CLOCK_MONOTONIC) - start) / copies;
        double core = (bench_now(CLOCK_PROCESS_CPUTIME_ID) - core_start) / copies;
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
    bench_devices(&found);
    if (!found.count)
        return 1;
    struct bench bench = bench_open(&found.devices[0]);
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
    bench_close(&bench);
    bench_release_devices(&found);
    return 0;
}
