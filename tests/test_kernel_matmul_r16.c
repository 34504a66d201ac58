#include "tests/support_kernels.h"

#include "kernels/kernel_program.h"
#include "kernels/matmul_variants.h"
#include "kernels/ops_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const enum tensor_type types[] = { TENSOR_Q8_0, TENSOR_Q4_0, TENSOR_Q4_1, TENSOR_Q4_K, TENSOR_Q6_K };

/* A matrix in both layouts, activations in both classes. */
struct product {
    struct device_matrix matrix[LAYOUT_COUNT];
    struct q8_buffers q8;
    cl_mem x, y[LAYOUT_COUNT];
    uint32_t tokens, y_stride;
    float *start;   /* what y holds before */
};

static cl_mem packed_buffer(const struct kernel_device *device, enum tensor_type type, uint32_t rows,
                            uint32_t columns, const void *weights) {
    struct r16_shape shape;
    assert_true(r16_shape_init(&shape, type, rows, columns));
    void *packed = test_alloc(shape.bytes);
    assert_true(r16_pack(&shape, 0, rows, weights, packed));
    cl_mem buffer = kernel_buffer(device, shape.bytes, packed);
    free(packed);
    return buffer;
}

/* The first 64 activations are extremes. */
static struct product make_product(const struct kernel_device *device, struct ops *ops, enum tensor_type type,
                                   uint32_t rows, uint32_t columns, uint32_t tokens) {
    size_t bytes, count = (size_t)tokens * columns;
    void *weights = random_weights(type, rows * 31 + columns, rows, columns, &bytes);
    float *x = random_floats(tokens + 5, count);
    for (size_t i = 0; i < count && i < 64; i++)
        x[i] = i % 48 < 32 ? 1.0f : -1.0f;
    struct product made = { .tokens = tokens, .y_stride = rows + 5 };
    made.start = random_floats(9, (size_t)tokens * made.y_stride);
    made.x = kernel_buffer(device, count * sizeof *x, x);
    made.q8 = (struct q8_buffers) {
        kernel_buffer(device, count, NULL), kernel_buffer(device, count / 32 * sizeof (float), NULL),
        kernel_buffer(device, count / 32 * sizeof (int32_t), NULL),
    };
    const struct quantise_args args = { .token_count = (int)tokens, .columns = (int)columns };
    struct error err = { 0 };
    ASSERT_OK(op_quantise(ops, made.x, &made.q8, &args, &err), err);
    for (int layout = 0; layout < LAYOUT_COUNT; layout++) {
        made.matrix[layout] = (struct device_matrix) {
            .buffer = layout == LAYOUT_R16 ? packed_buffer(device, type, rows, columns, weights)
                                           : kernel_buffer(device, bytes, weights),
            .type = type, .layout = (enum weight_layout)layout, .rows = rows, .columns = columns,
            .row_offset = 3,
        };
        made.y[layout] = kernel_buffer(device, (size_t)tokens * made.y_stride * sizeof (float), made.start);
    }
    free(weights);
    free(x);
    return made;
}

static void release(struct product *product) {
    for (int layout = 0; layout < LAYOUT_COUNT; layout++) {
        kernel_release(product->matrix[layout].buffer);
        kernel_release(product->y[layout]);
    }
    kernel_release(product->x);
    kernel_release(product->q8.values);
    kernel_release(product->q8.scales);
    kernel_release(product->q8.sums);
    free(product->start);
}

static void compute(struct ops *ops, const struct product *product, enum numeric_class numeric, int layout,
                    bool accumulate) {
    struct error err = { 0 };
    const struct device_matrix *matrix = &product->matrix[layout];
    if (numeric == NUMERIC_INT8)
        ASSERT_OK(op_matmul_q8(ops, matrix, &product->q8, product->y[layout], product->tokens,
                               product->y_stride, accumulate, &err), err);
    else
        ASSERT_OK(op_matmul(ops, matrix, product->x, product->y[layout], product->tokens, product->y_stride,
                            accumulate, &err), err);
}

static void check_product(const struct kernel_device *device, struct ops *ops, enum numeric_class numeric,
                          const char *variant, const struct product *product, bool accumulate) {
    size_t bytes = (size_t)product->tokens * product->y_stride * sizeof (float);
    float *want = test_alloc(bytes), *got = test_alloc(bytes);
    for (int layout = 0; layout < LAYOUT_COUNT; layout++)
        compute(ops, product, numeric, layout, accumulate);
    kernel_read(device, product->y[LAYOUT_ROWS], want, bytes);
    kernel_read(device, product->y[LAYOUT_R16], got, bytes);
    char what[128];
    const struct device_matrix *matrix = &product->matrix[LAYOUT_R16];
    snprintf(what, sizeof what, "variant %s, %s %u x %u, %u tokens", variant,
             tensor_type_info(matrix->type)->name, matrix->rows, matrix->columns, product->tokens);
    assert_bytes(device, what, got, want, bytes);
    assert_memory_not_equal(got, product->start, bytes);
    free(want);
    free(got);
}

static void check_variant(const struct kernel_device *device, enum numeric_class numeric,
                          enum tensor_type type, const char *variant) {
    static const uint32_t rows[] = { 1, 15, 16, 17, 66 }, tokens[] = { 1, 2, 3, 4, 7, 8, 9, 33 };
    static const uint32_t small[] = { 32, 96, 320 }, large[] = { 256, 512, 768 };
    const uint32_t *columns = tensor_type_info(type)->block_values > 32 ? large : small;
    struct ops_options options = { .numeric = numeric, .kv_type = KV_F32 };
    struct error err = { 0 };
    options.packed_types[type] = options.weight_types[type] = true;
    options.variants[LAYOUT_R16][type] = variant;
    struct ops *ops = ops_new(device->context, device->id, device->queue, &options, &err);
    ASSERT_OK(ops, err);
    for (size_t r = 0; r < 5; r++)
        for (size_t c = 0; c < 3; c++)
            for (size_t t = 0; t < 8; t++) {
                /* Blocks of 256 take as long as eight of 32; their kernels are the same elsewhere. */
                if (columns == large && (c == 1 || rows[r] == 15 || tokens[t] % 4 == 0))
                    continue;
                if (device->is_simulator && (rows[r] > 20 || tokens[t] > 9 || c > 1 ||
                                             (columns == large && (rows[r] != 17 || tokens[t] > 3))))
                    continue;
                struct product product = make_product(device, ops, type, rows[r], columns[c], tokens[t]);
                check_product(device, ops, numeric, variant, &product, (r + c + t) % 2);
                release(&product);
            }
    ops_free(ops);
}

static void check_class(enum numeric_class numeric, enum tensor_type type) {
    for (EACH_KERNEL_DEVICE(device)) {
        const char *names[OPS_MOST_VARIANTS];
        uint32_t count = ops_variants(device->id, numeric, LAYOUT_R16, type, names);
        assert_true(count > 0);
        assert_string_equal(names[count - 1], "plain");
        for (uint32_t i = 0; i < count; i++) {
            print_message("# %s: %s, variant %s\n", device->name, tensor_type_info(type)->name, names[i]);
            check_variant(device, numeric, type, names[i]);
        }
    }
}

static void packed_q8_0_times_int8_has_the_bits_of_rows(void **state) { (void)state; check_class(NUMERIC_INT8, TENSOR_Q8_0); }
static void packed_q4_0_times_int8_has_the_bits_of_rows(void **state) { (void)state; check_class(NUMERIC_INT8, TENSOR_Q4_0); }
static void packed_q4_1_times_int8_has_the_bits_of_rows(void **state) { (void)state; check_class(NUMERIC_INT8, TENSOR_Q4_1); }
static void packed_q4_k_times_int8_has_the_bits_of_rows(void **state) { (void)state; check_class(NUMERIC_INT8, TENSOR_Q4_K); }
static void packed_q6_k_times_int8_has_the_bits_of_rows(void **state) { (void)state; check_class(NUMERIC_INT8, TENSOR_Q6_K); }
static void packed_q4_k_times_float_has_the_bits_of_rows(void **state) { (void)state; check_class(NUMERIC_FLOAT, TENSOR_Q4_K); }
static void packed_q6_k_times_float_has_the_bits_of_rows(void **state) { (void)state; check_class(NUMERIC_FLOAT, TENSOR_Q6_K); }
static void packed_q8_0_times_float_has_the_bits_of_rows(void **state) { (void)state; check_class(NUMERIC_FLOAT, TENSOR_Q8_0); }
static void packed_q4_0_times_float_has_the_bits_of_rows(void **state) { (void)state; check_class(NUMERIC_FLOAT, TENSOR_Q4_0); }
static void packed_q4_1_times_float_has_the_bits_of_rows(void **state) { (void)state; check_class(NUMERIC_FLOAT, TENSOR_Q4_1); }

static void every_variant_is_proven(void **state) {
    (void)state;
    for (EACH_KERNEL_DEVICE(device))
        for (int numeric = 0; numeric < 2; numeric++)
            for (size_t t = 0; t < 5; t++) {
                enum numeric_class class = (enum numeric_class)numeric;
                const char *names[OPS_MOST_VARIANTS];
                uint32_t count = ops_variants(device->id, class, LAYOUT_R16, types[t], names);
                for (uint32_t i = 0; i < count; i++) {
                    struct error err = { 0 };
                    ASSERT_OK(ops_prove_variant(device->context, device->id, device->queue, class,
                                                LAYOUT_R16, types[t], names[i], &err), err);
                }
            }
}

static struct ops *ops_of_halves(const struct kernel_device *device, const char *variant) {
    struct ops_options options = { .numeric = NUMERIC_FLOAT, .kv_type = KV_F32 };
    struct error err = { 0 };
    options.weight_types[TENSOR_F16] = true;
    options.variants[LAYOUT_ROWS][TENSOR_F16] = variant;
    struct ops *ops = ops_new(device->context, device->id, device->queue, &options, &err);
    ASSERT_OK(ops, err);
    return ops;
}

/* Every half there is, subnormals and NaN too. */
static void rows_of_halves_have_the_same_bits_in_every_variant(void **state) {
    (void)state;
    enum { ROWS = 256, COLUMNS = 272, TOKENS = 9 };   /* 256 halves and a tail in a row */
    static uint16_t weights[ROWS][COLUMNS];
    static float x[TOKENS][COLUMNS], want[2][TOKENS][ROWS], got[TOKENS][ROWS];
    float *values = random_floats(3, TOKENS * COLUMNS);
    memcpy(x, values, sizeof x);
    free(values);
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLUMNS; c++)
            weights[r][c] = (uint16_t)(r << 8 | (c & 255));
    for (EACH_KERNEL_DEVICE(device)) {
        const char *names[OPS_MOST_VARIANTS];
        struct error err = { 0 };
        uint32_t count = ops_variants(device->id, NUMERIC_FLOAT, LAYOUT_ROWS, TENSOR_F16, names);
        const struct device_matrix matrix = {
            .buffer = kernel_buffer(device, sizeof weights, weights), .type = TENSOR_F16, .rows = ROWS,
            .columns = COLUMNS,
        };
        cl_mem x_buffer = kernel_buffer(device, sizeof x, x), y = kernel_buffer(device, sizeof got, NULL);
        assert_string_equal(names[count - 1], "plain");
        for (uint32_t i = count; i-- > 0;) {
            ASSERT_OK(ops_prove_variant(device->context, device->id, device->queue, NUMERIC_FLOAT, LAYOUT_ROWS,
                                        TENSOR_F16, names[i], &err), err);
            struct ops *ops = ops_of_halves(device, names[i]);
            for (uint32_t tokens = 1; tokens <= TOKENS; tokens += TOKENS - 1) {
                ASSERT_OK(op_matmul(ops, &matrix, x_buffer, y, tokens, ROWS, false, &err), err);
                kernel_read(device, y, got, sizeof got);
                if (i + 1 == count)
                    memcpy(want[tokens > 1], got, sizeof got);
                else
                    assert_floats(device, names[i], *got, *want[tokens > 1], tokens * ROWS);
            }
            ops_free(ops);
        }
        kernel_release(matrix.buffer);
        kernel_release(x_buffer);
        kernel_release(y);
    }
}

/* Kernels of one type under the name of another: right for nothing but that type. */
static void a_wrong_kernel_is_not_proven(void **state) {
    (void)state;
    for (EACH_KERNEL_DEVICE(device)) {
        struct ops ops;
        struct error err = { 0 };
        ops_init(&ops, device->context, device->id, device->queue);
        assert_true(ops_prepare_matmul(&ops, NUMERIC_INT8, LAYOUT_R16, TENSOR_Q4_0, "plain", &err));
        struct matmul_kernels *kernels = ops.matmul[NUMERIC_INT8][LAYOUT_R16];
        kernels[TENSOR_Q4_1] = kernels[TENSOR_Q4_0];
        kernels[TENSOR_Q4_0] = (struct matmul_kernels) { 0 };
        assert_false(matmul_prove(&ops, NUMERIC_INT8, LAYOUT_R16, TENSOR_Q4_1, &err));
        assert_string_equal(err.text, "the kernel for weights of type 'q4_1' gives a wrong product of 1 tokens");
        ops_release(&ops);
    }
}

/* Everything of the variant but the instruction itself, on any machine. */
static void the_vnni_form_has_the_bits_of_rows(void **state) {
    (void)state;
    static const char *const defines[] = {
        "WEIGHTS_Q8_0 TILE=8 DOT4_VNNI DOT4_SPELLED_OUT", "WEIGHTS_Q4_0 TILE=8 DOT4_VNNI DOT4_SPELLED_OUT",
        "WEIGHTS_Q4_1 TILE=8 DOT4_VNNI DOT4_SPELLED_OUT", "WEIGHTS_Q4_K TILE=8 DOT4_VNNI DOT4_SPELLED_OUT",
    };
    static const struct { uint32_t rows, columns, tokens; } shapes[] = {
        { 1, 32, 1 }, { 17, 96, 9 }, { 64, 320, 8 }, { 100, 64, 3 }, { 33, 320, 33 },
    };
    for (EACH_KERNEL_DEVICE(device))
        for (size_t i = 0; i < 4 && !device->is_simulator; i++) {
            struct ops_options options = { .numeric = NUMERIC_INT8, .kv_type = KV_F32 };
            struct error err = { 0 };
            options.packed_types[types[i]] = options.weight_types[types[i]] = true;
            options.variants[LAYOUT_R16][types[i]] = "plain";
            struct ops *ops = ops_new(device->context, device->id, device->queue, &options, &err);
            ASSERT_OK(ops, err);
            cl_program program = kernel_program_build(device->context, device->id, "kernels/matmul_r16.cl",
                                                      defines[i], &err);
            ASSERT_OK(program, err);
            struct matmul_kernels *kernels = &ops->matmul[NUMERIC_INT8][LAYOUT_R16][types[i]];
            clReleaseKernel(kernels->one);
            clReleaseKernel(kernels->tile);
            kernels->one = clCreateKernel(program, "matmul_one", NULL);
            kernels->tile = clCreateKernel(program, "matmul_tile", NULL);
            assert_true(kernels->one && kernels->tile);
            clReleaseProgram(program);
            ASSERT_OK(matmul_prove(ops, NUMERIC_INT8, LAYOUT_R16, types[i], &err), err);
            for (size_t s = 0; s < 5; s++) {
                struct product product = make_product(device, ops, types[i], shapes[s].rows,
                                                      shapes[s].columns * (types[i] == TENSOR_Q4_K ? 8 : 1),
                                                      shapes[s].tokens);
                check_product(device, ops, NUMERIC_INT8, "vnni spelled out", &product, s % 2);
                release(&product);
            }
            ops_free(ops);
        }
}

static void an_unknown_variant_is_refused(void **state) {
    (void)state;
    for (EACH_KERNEL_DEVICE(device)) {
        struct error err = { 0 };
        assert_false(ops_prove_variant(device->context, device->id, device->queue, NUMERIC_INT8, LAYOUT_R16,
                                       TENSOR_Q4_0, "neon", &err));
        assert_string_equal(err.text, "this machine has no kernel 'neon' for weights of type 'q4_0' (r16); "
                            "run phiplan again");
        const char *names[OPS_MOST_VARIANTS];
        assert_int_equal(ops_variants(device->id, NUMERIC_INT8, LAYOUT_R16, TENSOR_Q5_0, names), 0);
        assert_int_equal(ops_variants(device->id, NUMERIC_FLOAT, LAYOUT_R16, TENSOR_F16, names), 0);
        assert_int_equal(ops_variants(device->id, NUMERIC_INT8, LAYOUT_ROWS, TENSOR_Q5_0, names), 1);
    }
}

static void packed_tables_are_not_looked_up(void **state) {
    (void)state;
    for (EACH_KERNEL_DEVICE(device)) {
        struct ops *ops = kernel_ops(device, TENSOR_TYPE_COUNT, NUMERIC_INT8, KV_F32);
        cl_mem buffer = kernel_buffer(device, 1024, NULL);
        const struct device_matrix table = {
            .buffer = buffer, .type = TENSOR_Q4_0, .layout = LAYOUT_R16, .rows = 1, .columns = 32
        };
        struct error err = { 0 };
        assert_false(op_embed(ops, &table, buffer, buffer, 1, &err));
        assert_string_equal(err.text, "cannot look up embeddings in the layout 'r16'");
        kernel_release(buffer);
        ops_free(ops);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_q8_0_times_int8_has_the_bits_of_rows),
        cmocka_unit_test(packed_q4_0_times_int8_has_the_bits_of_rows),
        cmocka_unit_test(packed_q4_1_times_int8_has_the_bits_of_rows),
        cmocka_unit_test(packed_q4_k_times_int8_has_the_bits_of_rows),
        cmocka_unit_test(packed_q6_k_times_int8_has_the_bits_of_rows),
        cmocka_unit_test(packed_q4_k_times_float_has_the_bits_of_rows),
        cmocka_unit_test(packed_q6_k_times_float_has_the_bits_of_rows),
        cmocka_unit_test(packed_q8_0_times_float_has_the_bits_of_rows),
        cmocka_unit_test(packed_q4_0_times_float_has_the_bits_of_rows),
        cmocka_unit_test(packed_q4_1_times_float_has_the_bits_of_rows),
        cmocka_unit_test(every_variant_is_proven),
        cmocka_unit_test(rows_of_halves_have_the_same_bits_in_every_variant),
        cmocka_unit_test(a_wrong_kernel_is_not_proven),
        cmocka_unit_test(the_vnni_form_has_the_bits_of_rows),
        cmocka_unit_test(an_unknown_variant_is_refused),
        cmocka_unit_test(packed_tables_are_not_looked_up),
    };
    return cmocka_run_group_tests(tests, NULL, kernel_close);
}
