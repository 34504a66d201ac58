/* bench_matmul: speed of the matrix products in each layout and variant on every
 * OpenCL device, as CSV, against what this machine can read.
 *
 * usage: bench_matmul [-c] [-q] [TYPE...]    default: all types
 *   -q   small matrices only
 *   -c   for a busy machine: CPU seconds of this process, shared by all cores, instead of
 *        the clock's; waiting costs nothing then
 *
 * A line is one shape: columns device, type, layout, variant, rows, columns, tokens,
 * rate, unit, of_row_layout (ratio to the row layout's kernel), of_read_limit. One token reads
 * copies of the matrix, more than a cache holds, one after the other, and counts
 * their bytes; more tokens count a product and a sum as two operations. All variants
 * of a shape take turns, and so does a loop of two threads that only reads (the limit);
 * the figure is the median of the turns. Not counted: quantising the activations. */
#include "kernels/ops.h"
#include "tests/support_bench.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SET_BYTES (160u << 20)   /* of matrices read in one turn */
#define MOST_COPIES 1024u
#define MOST_CANDIDATES (1 + OPS_MOST_VARIANTS)
#define TURNS 7
#define MOST_TOKENS 256u
#define MOST_COLUMNS 8192u
#define MOST_ROWS 49152u

struct products {
    struct bench bench;
    struct q8_buffers q8;
    cl_mem x, y;
};

struct candidate {
    const char *variant;
    struct ops *ops;
    enum weight_layout layout;
    cl_mem *copies;
    uint64_t bytes;
    double seconds[TURNS];   /* a product, one a turn */
};

static bool counts_cpu_time;

static double now(void) {
    double seconds = bench_now(counts_cpu_time ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC);
    return counts_cpu_time ? seconds / (double)sysconf(_SC_NPROCESSORS_ONLN) : seconds;
}

static void *allocate(size_t bytes) {
    void *memory = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (!memory) {
        fprintf(stderr, "bench_matmul: out of memory\n");
        exit(1);
    }
    memset(memory, 0x2c, bytes);
    return memory;
}

static int compare(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double median(const double *values) {
    double sorted[TURNS];
    memcpy(sorted, values, sizeof sorted);
    qsort(sorted, TURNS, sizeof *sorted, compare);
    return sorted[TURNS / 2];
}

/* The read limit: a thread a core, each sums its part of a set. */
struct reader {
    pthread_t thread;
    const uint64_t *words;
    size_t count;
    uint64_t sum;
};

static void *read_words(void *argument) {
    struct reader *reader = argument;
    uint64_t sums[16] = { 0 };
    for (size_t i = 0; i + 16 <= reader->count; i += 16) {
        __builtin_prefetch(reader->words + i + 512);   /* it gets nearer to the limit so */
        __builtin_prefetch(reader->words + i + 520);
        for (size_t j = 0; j < 16; j++)
            sums[j] += reader->words[i + j];
    }
    for (size_t j = 0; j < 16; j++)
        reader->sum += sums[j];
    return NULL;
}

static double time_reading(const void *set) {
    static struct reader readers[64];
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    count = count < 1 ? 1 : count > 64 ? 64 : count;
    double start = now();
    for (long i = 0; i < count; i++) {
        size_t words = SET_BYTES / 8 / (size_t)count;
        readers[i] = (struct reader) { .words = (const uint64_t *)set + (size_t)i * words, .count = words };
        if (pthread_create(&readers[i].thread, NULL, read_words, &readers[i]))
            exit(1);
    }
    for (long i = 0; i < count; i++)
        pthread_join(readers[i].thread, NULL);
    return now() - start;
}

static void multiply(const struct products *products, const struct candidate *candidate, uint32_t copy,
                     enum tensor_type type, uint32_t rows, uint32_t columns, uint32_t tokens) {
    struct error err = { 0 };
    const struct device_matrix matrix = {
        .buffer = candidate->copies[copy], .type = type, .layout = candidate->layout, .rows = rows,
        .columns = columns,
    };
    bench_check(tensor_type_info(type)->is_quantised
              ? op_matmul_q8(candidate->ops, &matrix, &products->q8, products->y, tokens, rows, false, &err)
              : op_matmul(candidate->ops, &matrix, products->x, products->y, tokens, rows, false, &err), &err);
}

static uint64_t matrix_bytes(enum tensor_type type, enum weight_layout layout, uint32_t rows, uint32_t columns) {
    struct r16_shape shape = { 0 };
    uint64_t bytes = 0;
    if (layout == LAYOUT_R16)
        return r16_shape_init(&shape, type, rows, columns) ? shape.bytes : 0;
    return tensor_bytes(type, rows, columns, &bytes) ? bytes : 0;
}

static uint32_t copies_of(uint64_t bytes, uint32_t tokens) {
    uint64_t copies = tokens > 1 ? 1 : SET_BYTES / bytes;
    return copies < 1 ? 1 : copies > MOST_COPIES ? MOST_COPIES : (uint32_t)copies;
}

static void print(const struct products *products, const struct candidate *candidate, const struct candidate *base,
                  enum tensor_type type, uint32_t rows, uint32_t columns, uint32_t tokens, double limit) {
    double seconds = median(candidate->seconds);
    double rate = (tokens > 1 ? 2.0 * rows * columns * tokens : (double)candidate->bytes) / seconds * 1e-9;
    printf("%s,%s,%s,%s,%u,%u,%u,%.2f,%s,%.2f,", products->bench.device->info.name, tensor_type_info(type)->name,
           weight_layout_name(candidate->layout), candidate->variant, rows, columns, tokens, rate,
           tokens > 1 ? "GOP/s" : "GB/s", median(base->seconds) / seconds);
    printf(tokens > 1 ? "\n" : "%.2f\n", rate / limit);
    fflush(stdout);
}

static void bench_shape(const struct products *products, struct candidate *candidates, uint32_t count,
                        enum tensor_type type, uint32_t rows, uint32_t columns, uint32_t tokens) {
    double limits[TURNS];
    void *set = allocate(SET_BYTES);
    for (uint32_t i = 0; i < count; i++) {
        struct candidate *candidate = &candidates[i];
        candidate->bytes = matrix_bytes(type, candidate->layout, rows, columns);
        uint32_t copies = copies_of(candidate->bytes, tokens);
        candidate->copies = allocate(copies * sizeof *candidate->copies);
        for (uint32_t c = 0; c < copies; c++)
            candidate->copies[c] = bench_buffer(&products->bench, candidate->bytes, 0x2c);
    }
    for (int turn = -1; turn < TURNS; turn++) {   /* the first compiles */
        for (uint32_t i = 0; i < count; i++) {
            struct candidate *candidate = &candidates[i];
            uint32_t copies = copies_of(candidate->bytes, tokens);
            double start = now();
            for (uint32_t c = 0; c < copies; c++)
                multiply(products, candidate, c, type, rows, columns, tokens);
            clFinish(products->bench.queue);
            if (turn >= 0)
                candidate->seconds[turn] = (now() - start) / copies;
        }
        if (turn >= 0)
            limits[turn] = tokens > 1 ? 1.0 : time_reading(set);
    }
    double limit = SET_BYTES / median(limits) * 1e-9;
    for (uint32_t i = 0; i < count; i++) {
        print(products, &candidates[i], &candidates[0], type, rows, columns, tokens, limit);
        for (uint32_t c = 0; c < copies_of(candidates[i].bytes, tokens); c++)
            clReleaseMemObject(candidates[i].copies[c]);
        free(candidates[i].copies);
    }
    free(set);
}

static struct candidate make_candidate(const struct products *products, enum tensor_type type,
                                       enum weight_layout layout, const char *variant) {
    struct ops_options options = {
        .numeric = tensor_type_info(type)->is_quantised ? NUMERIC_INT8 : NUMERIC_FLOAT, .kv_type = KV_F16
    };
    struct error err = { 0 };
    (layout == LAYOUT_R16 ? options.packed_types : options.weight_types)[type] = true;
    options.variants[layout][type] = variant;
    struct candidate made = { .variant = variant, .layout = layout };
    made.ops = ops_new(products->bench.context, products->bench.device->id, products->bench.queue, &options, &err);
    bench_check(made.ops, &err);
    return made;
}

static void bench_type(const struct products *products, enum tensor_type type, bool is_quick) {
    static const struct { uint32_t rows, columns; } shapes[] = {
        { 576, 576 }, { 1536, 576 }, { 576, 1536 }, { 49152, 576 },
        { 9216, 3072 }, { 16384, 3072 }, { 3072, 8192 }, { 32064, 3072 },
    };
    static const uint32_t widths[] = { 1, 64, 256 };
    enum numeric_class numeric = tensor_type_info(type)->is_quantised ? NUMERIC_INT8 : NUMERIC_FLOAT;
    struct candidate candidates[MOST_CANDIDATES * LAYOUT_COUNT];
    uint32_t count = 0;
    for (int layout = 0; layout < LAYOUT_COUNT; layout++) {
        const char *names[OPS_MOST_VARIANTS];
        uint32_t found = ops_variants(products->bench.device->id, numeric, (enum weight_layout)layout, type, names);
        for (uint32_t i = 0; i < found; i++)
            candidates[count++] = make_candidate(products, type, (enum weight_layout)layout, names[i]);
    }
    for (size_t w = 0; w < 3; w++)
        for (size_t s = 0; s < (is_quick ? 3 : 8); s++)
            if ((widths[w] == 1 || shapes[s].rows < 16384) &&
                shapes[s].columns % tensor_type_info(type)->block_values == 0)
                bench_shape(products, candidates, count, type, shapes[s].rows, shapes[s].columns, widths[w]);
    for (uint32_t i = 0; i < count; i++)
        ops_free(candidates[i].ops);
}

static void bench_device(const struct opencl_device *device, char **types, bool is_quick) {
    struct products products = { .bench = bench_open(device) };
    products.q8 = (struct q8_buffers) {
        bench_buffer(&products.bench, MOST_TOKENS * MOST_COLUMNS, 1),
        bench_buffer(&products.bench, MOST_TOKENS * MOST_COLUMNS / 32 * 4, 0x3c),
        bench_buffer(&products.bench, MOST_TOKENS * MOST_COLUMNS / 32 * 4, 0),
    };
    products.x = bench_buffer(&products.bench, MOST_TOKENS * MOST_COLUMNS * 4, 0x3c);
    products.y = bench_buffer(&products.bench, MOST_TOKENS * MOST_ROWS * 4, 0);
    for (int i = 0; i < TENSOR_TYPE_COUNT; i++) {
        bool is_wanted = !*types;
        for (char **type = types; *type; type++)
            is_wanted |= !strcmp(*type, tensor_type_info((enum tensor_type)i)->name);
        if (is_wanted)
            bench_type(&products, (enum tensor_type)i, is_quick);
    }
    const cl_mem buffers[] = { products.q8.values, products.q8.scales, products.q8.sums, products.x, products.y };
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        clReleaseMemObject(buffers[i]);
    bench_close(&products.bench);
}

int main(int argument_count, char **arguments) {
    struct opencl_devices found;
    bool is_quick = false;
    int option;
    while ((option = getopt(argument_count, arguments, "cq")) != -1) {
        if (option == '?')
            return 2;
        *(option == 'c' ? &counts_cpu_time : &is_quick) = true;
    }
    bench_devices(&found);
    printf("device,type,layout,variant,rows,columns,tokens,rate,unit,of_row_layout,of_read_limit\n");
    for (uint32_t i = 0; i < found.count; i++)
        bench_device(&found.devices[i], arguments + optind, is_quick);
    bench_release_devices(&found);
    return 0;
}
