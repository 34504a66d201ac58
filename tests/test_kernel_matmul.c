#include "tests/support_kernels.h"

#include "common/embedded.h"
#include "kernels/kernel_program.h"
#include "tests/reference_ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One product: `rows` rows land at row_offset of a y that is wider than they are. */
struct shape {
    uint32_t rows, columns, tokens;
    bool accumulate;
};

static void check_product(const struct kernel_device *device, struct ops *ops, enum tensor_type type,
                          const struct shape *shape) {
    uint32_t row_offset = 3, y_stride = shape->rows + 8;
    size_t weight_bytes, y_count = (size_t)shape->tokens * y_stride;
    void *weights = random_weights(type, shape->rows * 31 + shape->columns, shape->rows, shape->columns,
                                   &weight_bytes);
    float *x = random_floats(shape->tokens + 5, (size_t)shape->tokens * shape->columns);
    float *want = random_floats(77, y_count), *got = test_alloc(y_count * sizeof *got);
    cl_mem weight_buffer = kernel_buffer(device, weight_bytes, weights);
    cl_mem x_buffer = kernel_buffer(device, (size_t)shape->tokens * shape->columns * sizeof *x, x);
    cl_mem y_buffer = kernel_buffer(device, y_count * sizeof *want, want);
    const struct matmul_args args = {
        .token_count = (int)shape->tokens, .rows = (int)shape->rows, .columns = (int)shape->columns,
        .row_offset = (int)row_offset, .y_stride = (int)y_stride, .accumulate = shape->accumulate,
    };
    reference_matmul(type, weights, x, want, &args);

    const struct device_matrix matrix = {
        .buffer = weight_buffer, .type = type, .rows = shape->rows, .columns = shape->columns,
        .row_offset = row_offset,
    };
    struct error err = { 0 };
    ASSERT_OK(op_matmul(ops, &matrix, x_buffer, y_buffer, shape->tokens, y_stride, shape->accumulate, &err),
              err);
    kernel_read(device, y_buffer, got, y_count * sizeof *got);
    char what[96];
    snprintf(what, sizeof what, "%s %u x %u, %u tokens", tensor_type_info(type)->name, shape->rows,
             shape->columns, shape->tokens);
    assert_floats(device, what, got, want, y_count);

    kernel_release(weight_buffer);
    kernel_release(x_buffer);
    kernel_release(y_buffer);
    free(weights);
    free(x);
    free(want);
    free(got);
}

/* Several blocks of rows, the last of fewer than meet in registers; parts of rows; chunks of tokens. */
static void check_large(const struct kernel_device *device, struct ops *ops, enum tensor_type type) {
    static const struct shape shapes[] = { { 50, 1040, 131, true }, { 1540, 32, 9, false } };
    for (size_t i = 0; i < 2 && !device->is_simulator; i++)
        check_product(device, ops, type, &shapes[i]);
}

/* The reference takes one token after the other: every width equals it, so all widths
 * are equal. */
static void check_variant(const struct kernel_device *device, enum tensor_type type, const char *variant) {
    static const uint32_t rows[] = { 1, 17, 66 }, tokens[] = { 1, 2, 7, 8, 9, 33 };
    static const uint32_t odd[] = { 32, 96, 320, 608, 304, 5, 47, 1 }, small[] = { 32, 96, 320 }, large[] = { 256, 768 };
    uint32_t block = tensor_type_info(type)->block_values;
    const uint32_t *columns = block == 1 ? odd : block == 32 ? small : large;
    size_t column_count = block == 1 ? 8 : block == 32 ? 3 : 2;
    struct ops_options options = { .numeric = NUMERIC_FLOAT, .kv_type = KV_F32 };
    struct error err = { 0 };
    options.weight_types[type] = true;
    options.variants[LAYOUT_ROWS][type] = variant;
    struct ops *ops = ops_new(device->context, device->id, device->queue, &options, &err);
    ASSERT_OK(ops, err);
    for (size_t r = 0; r < 3; r++)
        for (size_t c = 0; c < column_count; c++)
            for (size_t t = 0; t < 6; t++) {
                const struct shape shape = { rows[r], columns[c], tokens[t], (r + c + t) % 2 };
                if (!device->is_simulator || (rows[r] < 20 && tokens[t] < 8 && c < 4))
                    check_product(device, ops, type, &shape);
            }
    if (block == 1)
        check_large(device, ops, type);
    ops_free(ops);
}

static void check_type(enum tensor_type type) {
    for (EACH_KERNEL_DEVICE(device)) {
        const char *names[OPS_MOST_VARIANTS];
        uint32_t count = ops_variants(device->id, NUMERIC_FLOAT, LAYOUT_ROWS, type, names);
        assert_true(count > 0);
        for (uint32_t i = 0; i < count; i++)
            check_variant(device, type, names[i]);
    }
}

static void f32_weights_times_floats(void **state) { (void)state; check_type(TENSOR_F32); }
static void f16_weights_times_floats(void **state) { (void)state; check_type(TENSOR_F16); }
static void bf16_weights_times_floats(void **state) { (void)state; check_type(TENSOR_BF16); }
static void q8_0_weights_times_floats(void **state) { (void)state; check_type(TENSOR_Q8_0); }
static void q4_0_weights_times_floats(void **state) { (void)state; check_type(TENSOR_Q4_0); }
static void q4_1_weights_times_floats(void **state) { (void)state; check_type(TENSOR_Q4_1); }
static void q5_0_weights_times_floats(void **state) { (void)state; check_type(TENSOR_Q5_0); }
static void q5_1_weights_times_floats(void **state) { (void)state; check_type(TENSOR_Q5_1); }
static void q4_k_weights_times_floats(void **state) { (void)state; check_type(TENSOR_Q4_K); }
static void q5_k_weights_times_floats(void **state) { (void)state; check_type(TENSOR_Q5_K); }
static void q6_k_weights_times_floats(void **state) { (void)state; check_type(TENSOR_Q6_K); }

static void a_row_that_ends_inside_a_block_is_refused(void **state) {
    (void)state;
    for (EACH_KERNEL_DEVICE(device)) {
        struct ops *ops = kernel_ops(device, TENSOR_TYPE_COUNT, NUMERIC_FLOAT, KV_F32);
        cl_mem buffer = kernel_buffer(device, 64, NULL);
        const struct device_matrix matrix = { .buffer = buffer, .type = TENSOR_Q4_0, .rows = 1, .columns = 33 };
        struct error err = { 0 };
        assert_false(op_matmul(ops, &matrix, buffer, buffer, 1, 1, false, &err));
        assert_non_null(strstr(err.text, "1 x 33 values of type 'q4_0'"));
        kernel_release(buffer);
        ops_free(ops);
    }
}

/* fma(a, b, c) for every row's a and c and every token's b: with 17 columns, the first and
 * the last meet in one partial sum. Half of the values bring the sum to the middle between two
 * floats but for a last bit far below. */
static void fma_made_of_floats_rounds_once(void **state) {
    (void)state;
    enum { ROWS = 96, TOKENS = 96, COLUMNS = 17 };
    struct random random = { 5 };
    float *weights = test_alloc(ROWS * COLUMNS * sizeof *weights), *x = test_alloc(TOKENS * COLUMNS * sizeof *x);
    float *got = test_alloc(ROWS * TOKENS * sizeof *got), *want = test_alloc(ROWS * TOKENS * sizeof *want);
    for (int i = 0; i < ROWS; i++) {
        float tiny = ldexpf(1.0f, -(i / 2 % 23 + 1)), sign = i & 4 ? -1.0f : 1.0f;
        float *a = &weights[i * COLUMNS + 16], *c = &weights[i * COLUMNS], *b = &x[i * COLUMNS + 16];
        *a = i & 1 ? 1.0f + tiny : random_float(&random);
        *b = i & 1 ? ldexpf(sign * (1.0f - tiny), -24) : ldexpf(random_float(&random), -(int)(random_bits(&random) % 40));
        *c = i % 4 == 3 ? -sign * (1.0f + ldexpf((float)(i | 1), -23)) : i & 1 ? 1.0f + ldexpf(1.0f, -23)
                                                                              : random_float(&random);
        x[i * COLUMNS] = 1.0f;
    }
    for (int t = 0; t < TOKENS; t++)
        for (int r = 0; r < ROWS; r++)
            want[t * ROWS + r] = fmaf(weights[r * COLUMNS + 16], x[t * COLUMNS + 16], weights[r * COLUMNS]) + 0.0f;
    for (EACH_KERNEL_DEVICE(device)) {
        struct error err = { 0 };
        cl_int code;
        cl_program program = kernel_program_build(device->context, device->id, "kernels/matmul_float.cl",
                                                  "WEIGHTS_F32 FMA_OF_FLOATS", &err);
        ASSERT_OK(program, err);
        cl_kernel kernel = clCreateKernel(program, "matmul_one", &code);
        assert_int_equal(code, CL_SUCCESS);
        const struct matmul_args args = { .token_count = TOKENS, .rows = ROWS, .columns = COLUMNS, .y_stride = ROWS };
        cl_mem weight_buffer = kernel_buffer(device, ROWS * COLUMNS * sizeof *weights, weights);
        cl_mem x_buffer = kernel_buffer(device, TOKENS * COLUMNS * sizeof *x, x);
        cl_mem y_buffer = kernel_buffer(device, ROWS * TOKENS * sizeof *got, NULL);
        const size_t global[2] = { ROWS, TOKENS }, local[2] = { 1, 1 };
        assert_int_equal(clSetKernelArg(kernel, 0, sizeof args, &args), CL_SUCCESS);
        assert_int_equal(clSetKernelArg(kernel, 1, sizeof weight_buffer, &weight_buffer), CL_SUCCESS);
        assert_int_equal(clSetKernelArg(kernel, 2, sizeof x_buffer, &x_buffer), CL_SUCCESS);
        assert_int_equal(clSetKernelArg(kernel, 3, sizeof y_buffer, &y_buffer), CL_SUCCESS);
        assert_int_equal(clEnqueueNDRangeKernel(device->queue, kernel, 2, NULL, global, local, 0, NULL, NULL),
                         CL_SUCCESS);
        kernel_read(device, y_buffer, got, ROWS * TOKENS * sizeof *got);
        assert_bytes(device, "fma", got, want, ROWS * TOKENS * sizeof *got);
        kernel_release(weight_buffer);
        kernel_release(x_buffer);
        kernel_release(y_buffer);
        clReleaseKernel(kernel);
        clReleaseProgram(program);
    }
    free(weights);
    free(x);
    free(got);
    free(want);
}

/* One device does: this is about the widths of vectors that it knows. */
static void every_kernel_can_take_fma_of_floats(void **state) {
    (void)state;
    uint32_t count;
    const struct kernel_device *device = kernel_devices(&count);
    for (const struct embedded_file *file = embedded_kernels; file->name; file++) {
        bool is_of_floats = strcmp(file->name, "kernels/matmul_rows.cl") == 0;
        struct error err = { 0 };
        cl_program program = kernel_program_build(device->context, device->id, file->name,
                                                  is_of_floats ? "WEIGHTS_F16 FMA_OF_FLOATS"
                                                               : "WEIGHTS_Q4_1 FMA_OF_FLOATS", &err);
        ASSERT_OK(program, err);
        clReleaseProgram(program);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f32_weights_times_floats),
        cmocka_unit_test(f16_weights_times_floats),
        cmocka_unit_test(bf16_weights_times_floats),
        cmocka_unit_test(q8_0_weights_times_floats),
        cmocka_unit_test(q4_0_weights_times_floats),
        cmocka_unit_test(q4_1_weights_times_floats),
        cmocka_unit_test(q5_0_weights_times_floats),
        cmocka_unit_test(q5_1_weights_times_floats),
        cmocka_unit_test(q4_k_weights_times_floats),
        cmocka_unit_test(q5_k_weights_times_floats),
        cmocka_unit_test(q6_k_weights_times_floats),
        cmocka_unit_test(a_row_that_ends_inside_a_block_is_refused),
        cmocka_unit_test(fma_made_of_floats_rounds_once),
        cmocka_unit_test(every_kernel_can_take_fma_of_floats),
    };
    return cmocka_run_group_tests(tests, NULL, kernel_close);
}
