/* Kernels that come from a driver's binaries instead of a compiler. */
#include "tests/support_kernels.h"

#include "kernels/kernel_program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_KEPT = 32 };

static const struct device info = { .name = "test" };
static const struct program_request small_program = { .source = "kernels/quantise.cl", .defines = "",
                                                      .launches = "small", .kernels = { "quantise" } };

/* A store in memory. */
struct shelf {
    struct { struct program_key key; unsigned char *binary; size_t size; } kept[MOST_KEPT];
    uint32_t count, found;
    char variant[32];          /* of packed matrices; "": none kept */
    uint32_t variants_kept;
};

static bool is_packed_int8(const struct variant_key *key) {
    return strcmp(key->operation, "matmul int8") == 0 && strcmp(key->format, "q4_0/r16") == 0;
}

static void find_variant(void *context, const struct device *device, const struct variant_key *key,
                         char variant[32]) {
    const struct shelf *shelf = context;
    (void)device;
    snprintf(variant, 32, "%s", is_packed_int8(key) ? shelf->variant : "");
}

static bool keep_variant(void *context, const struct device *device, const struct variant_key *key,
                         const char *variant, double seconds, struct error *reason) {
    struct shelf *shelf = context;
    (void)device, (void)reason;
    assert_true(seconds > 0);
    if (is_packed_int8(key)) {
        snprintf(shelf->variant, sizeof shelf->variant, "%s", variant);
        shelf->variants_kept++;
    }
    return true;
}

static unsigned char *find(void *context, const struct device *device, const struct program_key *key, size_t *size,
                           struct error *reason) {
    struct shelf *shelf = context;
    (void)device, (void)reason;
    for (uint32_t i = 0; i < shelf->count; i++)
        if (strcmp(shelf->kept[i].key.source_hash, key->source_hash) == 0 &&
            strcmp(shelf->kept[i].key.launches, key->launches) == 0) {
            unsigned char *copy = test_alloc(shelf->kept[i].size);
            memcpy(copy, shelf->kept[i].binary, shelf->kept[i].size);
            *size = shelf->kept[i].size;
            shelf->found++;
            return copy;
        }
    return NULL;
}

static bool keep(void *context, const struct device *device, const struct program_key *key,
                 const unsigned char *binary, size_t size, struct error *reason) {
    struct shelf *shelf = context;
    (void)device, (void)reason;
    uint32_t at = 0;
    while (at < shelf->count && strcmp(shelf->kept[at].key.source_hash, key->source_hash))
        at++;
    assert_true(at < MOST_KEPT);
    free(at < shelf->count ? shelf->kept[at].binary : NULL);
    shelf->count += at == shelf->count;
    shelf->kept[at].key = *key;
    shelf->kept[at].size = size;
    shelf->kept[at].binary = test_alloc(size);
    memcpy(shelf->kept[at].binary, binary, size);
    return true;
}

static void clear(struct shelf *shelf) {
    for (uint32_t i = 0; i < shelf->count; i++)
        free(shelf->kept[i].binary);
    *shelf = (struct shelf){ 0 };
}

static struct ops *open_ops(const struct kernel_device *device, struct shelf *shelf, uint64_t most_rows,
                            struct ops_builds *builds) {
    struct error err = { 0 };
    const struct kernel_store store = { .context = shelf, .find_program = find, .keep_program = keep,
                                        .find_variant = find_variant, .keep_variant = keep_variant };
    struct ops_options options = { .numeric = NUMERIC_INT8, .kv_type = KV_F16, .store = &store, .device = &info,
                                   .most_rows = most_rows };
    options.packed_types[TENSOR_Q4_0] = options.weight_types[TENSOR_F16] = options.embed_types[TENSOR_F16] = true;
    options.weight_types[TENSOR_Q5_0] = options.gemm_types[TENSOR_F16] = true;
    struct ops *ops = ops_new(device->context, device->id, device->queue, &options, &err);
    if (!ops)
        fail_msg("%s: %s", device->name, err.text);
    *builds = *ops_builds(ops);
    return ops;
}

/* One row of each of two products: [packed q4_0, f16]. */
static void multiply(const struct kernel_device *device, struct ops *ops, float y[2][64]) {
    enum { ROWS = 64, COLUMNS = 64 };
    struct error err = { 0 };
    struct r16_shape shape;
    size_t bytes;
    void *weights = random_weights(TENSOR_Q4_0, 3, ROWS, COLUMNS, &bytes);
    void *halves = random_weights(TENSOR_F16, 4, ROWS, COLUMNS, &bytes);
    assert_true(r16_shape_init(&shape, TENSOR_Q4_0, ROWS, COLUMNS));
    uint8_t *packed = test_alloc(shape.bytes);
    r16_pack(&shape, 0, ROWS, weights, packed);
    float *x = random_floats(5, COLUMNS);
    cl_mem buffers[] = { kernel_buffer(device, shape.bytes, packed), kernel_buffer(device, bytes, halves),
                         kernel_buffer(device, COLUMNS * sizeof *x, x), kernel_buffer(device, COLUMNS, NULL),
                         kernel_buffer(device, COLUMNS / 8, NULL), kernel_buffer(device, COLUMNS / 8, NULL),
                         kernel_buffer(device, ROWS * sizeof(float), NULL) };
    const struct q8_buffers q8 = { buffers[3], buffers[4], buffers[5] };
    const struct quantise_args args = { .token_count = 1, .columns = COLUMNS };
    const struct device_matrix matrices[] = {
        { .buffer = buffers[0], .type = TENSOR_Q4_0, .layout = LAYOUT_R16, .rows = ROWS, .columns = COLUMNS },
        { .buffer = buffers[1], .type = TENSOR_F16, .layout = LAYOUT_ROWS, .rows = ROWS, .columns = COLUMNS },
    };
    ASSERT_OK(op_quantise(ops, buffers[2], &q8, &args, &err), err);
    ASSERT_OK(op_matmul_q8(ops, &matrices[0], &q8, buffers[6], 1, ROWS, false, &err), err);
    kernel_read(device, buffers[6], y[0], ROWS * sizeof(float));
    ASSERT_OK(op_matmul(ops, &matrices[1], buffers[2], buffers[6], 1, ROWS, false, &err), err);
    kernel_read(device, buffers[6], y[1], ROWS * sizeof(float));
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        kernel_release(buffers[i]);
    free(weights);
    free(halves);
    free(packed);
    free(x);
}

/* One device is enough: compiling takes its time. Skips the test on a simulator. */
static const struct kernel_device *some_device(void) {
    uint32_t count;
    const struct kernel_device *devices = kernel_devices(&count);
    if (devices[count - 1].is_simulator)
        SKIP_BECAUSE("the simulator is too slow");
    return &devices[count - 1];
}

static bool has_program(const struct shelf *shelf, const char *name) {
    for (uint32_t i = 0; i < shelf->count; i++)
        if (strcmp(shelf->kept[i].key.name, name) == 0)
            return true;
    return false;
}

static uint32_t count_programs(const struct shelf *shelf, const char *source) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < shelf->count; i++)
        count += strncmp(shelf->kept[i].key.name, source, strlen(source)) == 0;
    return count;
}

static void what_was_compiled_once_is_loaded_and_gives_the_same_bits(void **state) {
    (void)state;
    const struct kernel_device *device = some_device();
    struct shelf shelf = { 0 };
    struct ops_builds first, second;
    float y[2][2][64];
    struct ops *ops = open_ops(device, &shelf, 100, &first);
    multiply(device, ops, y[0]);
    ops_free(ops);
    assert_true(first.compiled >= 10);
    assert_true(has_program(&shelf, "kernels/expand.cl WEIGHTS_F16"));
    assert_int_equal(first.loaded, 0);
    assert_int_equal(first.kept, first.compiled);
    assert_int_equal(shelf.count, first.compiled);
    ops = open_ops(device, &shelf, 100, &second);
    multiply(device, ops, y[1]);
    ops_free(ops);
    assert_int_equal(second.compiled, 0);
    /* Of the forms with machine instructions only the fastest is loaded. */
    uint32_t timed = count_programs(&shelf, "kernels/matmul_r16.cl");
    assert_true(timed >= 1);
    assert_int_equal(second.loaded, first.compiled - (timed - 1));
    assert_string_equal(second.reason, "");
    assert_memory_equal(y[0], y[1], sizeof y[0]);
    /* Only kernels whose work-items each have some rows, those of q5_0 here, meet a large grid. */
    ops_free(open_ops(device, &shelf, 300000, &second));
    assert_true(second.compiled > 0 && second.loaded > 0);
    assert_int_equal(second.kept, second.compiled);
    clear(&shelf);
}

static void a_binary_that_is_no_binary_is_compiled_anew(void **state) {
    (void)state;
    const struct kernel_device *device = some_device();
    struct shelf shelf = { 0 };
    struct ops_builds builds;
    ops_free(open_ops(device, &shelf, 100, &builds));
    memset(shelf.kept[0].binary, 'x', shelf.kept[0].size);
    shelf.kept[1].size = 3;
    ops_free(open_ops(device, &shelf, 100, &builds));
    assert_int_equal(builds.compiled, 2);
    assert_int_equal(builds.kept, 2);
    assert_non_null(strstr(builds.reason, "refuses the stored binary"));
    ops_free(open_ops(device, &shelf, 100, &builds));
    assert_int_equal(builds.compiled, 0);
    clear(&shelf);
}

static void the_best_variant_is_chosen_once_and_a_stored_one_is_taken(void **state) {
    (void)state;
    const struct kernel_device *device = some_device();
    const char *names[OPS_MOST_VARIANTS];
    uint32_t count = ops_variants(device->id, NUMERIC_INT8, LAYOUT_R16, TENSOR_Q4_0, names);
    struct shelf shelf = { 0 };
    struct ops_builds builds;
    float y[2][2][64];
    struct ops *ops = open_ops(device, &shelf, 100, &builds);
    multiply(device, ops, y[0]);
    ops_free(ops);
    assert_int_equal(shelf.variants_kept, count > 1);
    if (count < 2) {
        clear(&shelf);
        SKIP_BECAUSE("one form of the kernel is all that this device has");
    }
    bool is_known = false;
    for (uint32_t i = 0; i < count; i++)
        is_known = is_known || strcmp(names[i], shelf.variant) == 0;
    assert_true(is_known);
    ops_free(open_ops(device, &shelf, 100, &builds));
    assert_int_equal(shelf.variants_kept, 1);

    /* Another one, with the same bits. */
    snprintf(shelf.variant, sizeof shelf.variant, "plain");
    assert_false(has_program(&shelf, "kernels/matmul_r16.cl WEIGHTS_Q4_0 TILE=8"));
    ops = open_ops(device, &shelf, 100, &builds);
    multiply(device, ops, y[1]);
    ops_free(ops);
    assert_true(has_program(&shelf, "kernels/matmul_r16.cl WEIGHTS_Q4_0 TILE=8"));
    assert_int_equal(shelf.variants_kept, 1);
    assert_memory_equal(y[0], y[1], sizeof y[0]);

    /* One that this machine does not have. */
    snprintf(shelf.variant, sizeof shelf.variant, "neon");
    ops_free(open_ops(device, &shelf, 100, &builds));
    assert_int_equal(shelf.variants_kept, 2);
    assert_int_equal(builds.compiled, 0);
    assert_string_not_equal(shelf.variant, "neon");
    clear(&shelf);
}

static void a_binary_for_one_of_the_devices_of_a_context_is_kept(void **state) {
    (void)state;
    uint32_t count;
    const struct kernel_device *devices = kernel_devices(&count);
    cl_platform_id platforms[2] = { 0 };
    for (uint32_t i = 0; i < 2 && i < count; i++)
        clGetDeviceInfo(devices[i].id, CL_DEVICE_PLATFORM, sizeof *platforms, &platforms[i], NULL);
    if (count < 2 || devices[0].is_simulator || platforms[0] != platforms[1])
        SKIP_BECAUSE("no two devices of a platform");
    struct shelf shelf = { 0 };
    struct error err = { 0 };
    const cl_device_id ids[] = { devices[0].id, devices[1].id };
    cl_context context = opencl_context(ids, 2, &err);
    ASSERT_OK(context, err);
    const struct kernel_store store = { .context = &shelf, .find_program = find, .keep_program = keep };
    for (int i = 0; i < 2; i++) {
        struct built_program built;
        ASSERT_OK(kernel_program_open(context, ids[i], &small_program, &store, &info, &built, &err), err);
        assert_true(built.is_compiled);
        ASSERT_OK(kernel_program_keep(&built, ids[i], &store, &info, &err), err);
        kernel_program_release(&built);
        ASSERT_OK(kernel_program_open(context, ids[i], &small_program, &store, &info, &built, &err), err);
        assert_false(built.is_compiled);
        kernel_program_release(&built);
        clear(&shelf);
    }
    clReleaseContext(context);
}

static void a_store_that_keeps_nothing_changes_nothing(void **state) {
    (void)state;
    const struct kernel_device *device = some_device();
    struct shelf shelf = { 0 };
    struct error err = { 0 };
    struct built_program built;
    const struct kernel_store store = { .context = &shelf, .find_program = find };
    ASSERT_OK(kernel_program_open(device->context, device->id, &small_program, &store, &info, &built, &err), err);
    assert_true(built.is_compiled);
    assert_string_equal(built.why_compiled, "");
    assert_int_equal(strlen(built.key.source_hash), 64);
    kernel_program_release(&built);
    assert_int_equal(shelf.count, 0);
}

static void other_options_are_another_program(void **state) {
    (void)state;
    const struct kernel_device *device = some_device();
    struct shelf shelf = { 0 };
    struct error err = { 0 };
    struct built_program built[2];
    const struct kernel_store store = { .context = &shelf, .find_program = find };
    struct program_request request = { .source = "kernels/rope_kv.cl", .defines = "", .launches = "small",
                                       .kernels = { "rope_kv" } };
    ASSERT_OK(kernel_program_open(device->context, device->id, &request, &store, &info, &built[0], &err), err);
    request.defines = "KV_HALF";
    ASSERT_OK(kernel_program_open(device->context, device->id, &request, &store, &info, &built[1], &err), err);
    assert_string_not_equal(built[0].key.source_hash, built[1].key.source_hash);
    kernel_program_release(&built[0]);
    kernel_program_release(&built[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_compiled_once_is_loaded_and_gives_the_same_bits),
        cmocka_unit_test(a_binary_that_is_no_binary_is_compiled_anew),
        cmocka_unit_test(the_best_variant_is_chosen_once_and_a_stored_one_is_taken),
        cmocka_unit_test(a_binary_for_one_of_the_devices_of_a_context_is_kept),
        cmocka_unit_test(a_store_that_keeps_nothing_changes_nothing),
        cmocka_unit_test(other_options_are_another_program),
    };
    return cmocka_run_group_tests(tests, NULL, kernel_close);
}
