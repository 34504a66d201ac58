#include "tests/support_kernels.h"

#include "tests/reference_ops.h"

#include <stdio.h>
#include <stdlib.h>

struct shape {
    uint32_t rows, columns, tokens;
    bool accumulate;
};

/* Activations as op_quantise() makes them, with the extremes of int8 in the first block. */
static struct reference_q8 make_activations(uint64_t seed, uint32_t tokens, uint32_t columns) {
    size_t count = (size_t)tokens * columns;
    float *x = random_floats(seed, count);
    for (int i = 0; i < 32; i++)
        x[i] = i < 16 ? 1.0f : -1.0f;
    struct reference_q8 q8 = {
        .values = test_alloc(count), .scales = test_alloc(count / 32 * sizeof (float)),
        .sums = test_alloc(count / 32 * sizeof (int32_t)),
    };
    const struct quantise_args args = { .token_count = (int)tokens, .columns = (int)columns };
    reference_quantise(x, &q8, &args);
    free(x);
    return q8;
}

static void check_product(const struct kernel_device *device, struct ops *ops, enum tensor_type type,
                          const struct shape *shape) {
    uint32_t row_offset = 3, y_stride = shape->rows + 8;
    size_t weight_bytes, y_count = (size_t)shape->tokens * y_stride;
    size_t x_count = (size_t)shape->tokens * shape->columns;
    void *weights = random_weights(type, shape->rows * 31 + shape->columns, shape->rows, shape->columns,
                                   &weight_bytes);
    struct reference_q8 x = make_activations(shape->tokens + 5, shape->tokens, shape->columns);
    float *want = random_floats(77, y_count), *got = test_alloc(y_count * sizeof *got);
    const struct q8_buffers q8 = {
        .values = kernel_buffer(device, x_count, x.values),
        .scales = kernel_buffer(device, x_count / 32 * sizeof (float), x.scales),
        .sums = kernel_buffer(device, x_count / 32 * sizeof (int32_t), x.sums),
    };
    cl_mem y_buffer = kernel_buffer(device, y_count * sizeof *want, want);
    const struct device_matrix matrix = {
        .buffer = kernel_buffer(device, weight_bytes, weights), .type = type, .rows = shape->rows,
        .columns = shape->columns, .row_offset = row_offset,
    };
    const struct matmul_args args = {
        .token_count = (int)shape->tokens, .rows = (int)shape->rows, .columns = (int)shape->columns,
        .row_offset = (int)row_offset, .y_stride = (int)y_stride, .accumulate = shape->accumulate,
    };
    reference_matmul_q8(type, weights, &x, want, &args);

    struct error err = { 0 };
    ASSERT_OK(op_matmul_q8(ops, &matrix, &q8, y_buffer, shape->tokens, y_stride, shape->accumulate, &err),
              err);
    kernel_read(device, y_buffer, got, y_count * sizeof *got);
    char what[96];
    snprintf(what, sizeof what, "%s %u x %u, %u tokens", tensor_type_info(type)->name, shape->rows,
             shape->columns, shape->tokens);
    assert_floats(device, what, got, want, y_count);

    kernel_release(matrix.buffer);
    kernel_release(q8.values);
    kernel_release(q8.scales);
    kernel_release(q8.sums);
    kernel_release(y_buffer);
    free(weights);
    free(x.values);
    free(x.scales);
    free(x.sums);
    free(want);
    free(got);
}

/* The reference takes one token after the other: every width equals it, so all widths
 * are equal. */
static void check_type(enum tensor_type type) {
    static const uint32_t rows[] = { 1, 3, 4, 17, 66 }, tokens[] = { 1, 2, 7, 8, 9, 33 };
    static const uint32_t small[] = { 32, 96, 320 }, large[] = { 256, 768 };
    bool is_small = tensor_type_info(type)->block_values == 32;
    for (EACH_KERNEL_DEVICE(device)) {
        struct ops *ops = kernel_ops(device, type, NUMERIC_INT8, KV_F32);
        for (size_t r = 0; r < 5; r++)
            for (size_t c = 0; c < (is_small ? 3 : 2); c++)
                for (size_t t = 0; t < 6; t++) {
                    const struct shape shape = {
                        rows[r], is_small ? small[c] : large[c], tokens[t], (r + c + t) % 2
                    };
                    if (!device->is_simulator || (rows[r] < 20 && tokens[t] < 8))
                        check_product(device, ops, type, &shape);
                }
        ops_free(ops);
    }
}

static void q8_0_weights_times_int8(void **state) { (void)state; check_type(TENSOR_Q8_0); }
static void q4_0_weights_times_int8(void **state) { (void)state; check_type(TENSOR_Q4_0); }
static void q4_1_weights_times_int8(void **state) { (void)state; check_type(TENSOR_Q4_1); }
static void q5_0_weights_times_int8(void **state) { (void)state; check_type(TENSOR_Q5_0); }
static void q5_1_weights_times_int8(void **state) { (void)state; check_type(TENSOR_Q5_1); }
static void q4_k_weights_times_int8(void **state) { (void)state; check_type(TENSOR_Q4_K); }
static void q5_k_weights_times_int8(void **state) { (void)state; check_type(TENSOR_Q5_K); }
static void q6_k_weights_times_int8(void **state) { (void)state; check_type(TENSOR_Q6_K); }

static void float_weights_have_no_int8_product(void **state) {
    (void)state;
    for (EACH_KERNEL_DEVICE(device)) {
        struct ops *ops = kernel_ops(device, TENSOR_TYPE_COUNT, NUMERIC_INT8, KV_F32);
        cl_mem buffer = kernel_buffer(device, 64, NULL);
        const struct device_matrix matrix = { .buffer = buffer, .type = TENSOR_F16, .rows = 1, .columns = 32 };
        const struct q8_buffers q8 = { buffer, buffer, buffer };
        struct error err = { 0 };
        assert_false(op_matmul_q8(ops, &matrix, &q8, buffer, 1, 1, false, &err));
        assert_string_equal(err.text, "no kernel multiplies weights of type 'f16' with int8 activations");
        kernel_release(buffer);
        ops_free(ops);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(q8_0_weights_times_int8),
        cmocka_unit_test(q4_0_weights_times_int8),
        cmocka_unit_test(q4_1_weights_times_int8),
        cmocka_unit_test(q5_0_weights_times_int8),
        cmocka_unit_test(q5_1_weights_times_int8),
        cmocka_unit_test(q4_k_weights_times_int8),
        cmocka_unit_test(q5_k_weights_times_int8),
        cmocka_unit_test(q6_k_weights_times_int8),
        cmocka_unit_test(float_weights_have_no_int8_product),
    };
    return cmocka_run_group_tests(tests, NULL, kernel_close);
}
