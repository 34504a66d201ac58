#include "tests/support_kernels.h"

#include "kernels/numerics.h"
#include "tests/reference_ops.h"

#include <stdio.h>
#include <stdlib.h>

static const uint32_t token_counts[] = { 1, 2, 7, 8, 9, 33 };
#define TOKEN_COUNTS (sizeof token_counts / sizeof *token_counts)

/* A q8 form on the device, beside what it must be. */
struct q8_pair {
    struct q8_buffers buffers;
    struct reference_q8 want;
    size_t count;
};

static struct q8_pair q8_new(const struct kernel_device *device, size_t count) {
    return (struct q8_pair) {
        .buffers = {
            .values = kernel_buffer(device, count, NULL),
            .scales = kernel_buffer(device, count / 32 * sizeof (float), NULL),
            .sums = kernel_buffer(device, count / 32 * sizeof (int32_t), NULL),
        },
        .want = {
            .values = test_alloc(count), .scales = test_alloc(count / 32 * sizeof (float)),
            .sums = test_alloc(count / 32 * sizeof (int32_t)),
        },
        .count = count,
    };
}

/* On the simulator, whose float results are only nearly equal, a value may round the
 * other way. */
static void q8_check_and_free(const struct kernel_device *device, const char *what, struct q8_pair *q8) {
    int8_t *values = test_alloc(q8->count);
    float *scales = test_alloc(q8->count / 32 * sizeof *scales);
    int32_t *sums = test_alloc(q8->count / 32 * sizeof *sums);
    kernel_read(device, q8->buffers.values, values, q8->count);
    kernel_read(device, q8->buffers.scales, scales, q8->count / 32 * sizeof *scales);
    kernel_read(device, q8->buffers.sums, sums, q8->count / 32 * sizeof *sums);
    assert_floats(device, what, scales, q8->want.scales, q8->count / 32);
    for (size_t block = 0; block < q8->count / 32; block++) {
        int32_t sum = 0;
        for (size_t i = block * 32; i < block * 32 + 32; i++) {
            sum += values[i];
            if (abs(values[i] - q8->want.values[i]) > (device->is_simulator ? 1 : 0))
                fail_msg("%s: %s: value %zu is %d, not %d", device->name, what, i, values[i],
                         q8->want.values[i]);
        }
        assert_int_equal(sums[block], sum);
    }
    free(values);
    free(scales);
    free(sums);
    free(q8->want.values);
    free(q8->want.scales);
    free(q8->want.sums);
    kernel_release(q8->buffers.values);
    kernel_release(q8->buffers.scales);
    kernel_release(q8->buffers.sums);
}

static void check_norm(const struct kernel_device *device, struct ops *ops, uint32_t tokens, uint32_t columns) {
    size_t count = (size_t)tokens * columns;
    float *x = random_floats(columns + tokens, count), *weight = random_floats(3, columns);
    float *want = test_alloc(count * sizeof *want), *got = test_alloc(count * sizeof *got);
    cl_mem x_buffer = kernel_buffer(device, count * sizeof *x, x), out = kernel_buffer(device, count * 4, NULL);
    cl_mem weight_buffer = kernel_buffer(device, columns * sizeof *weight, weight);
    const struct rms_norm_args args = { (int)tokens, (int)columns, 1e-5f };
    struct error err = { 0 };
    reference_rms_norm(x, weight, want, &args);
    ASSERT_OK(op_rms_norm(ops, x_buffer, weight_buffer, out, &args, &err), err);
    kernel_read(device, out, got, count * sizeof *got);
    char what[64];
    snprintf(what, sizeof what, "rms_norm of %u tokens of %u", tokens, columns);
    assert_floats(device, what, got, want, count);
    if (columns % 32 == 0) {
        struct q8_pair q8 = q8_new(device, count);
        const struct quantise_args quantise_args = { (int)tokens, (int)columns };
        reference_quantise(want, &q8.want, &quantise_args);
        ASSERT_OK(op_rms_norm_q8(ops, x_buffer, weight_buffer, &q8.buffers, &args, &err), err);
        q8_check_and_free(device, what, &q8);
    } else {
        const struct q8_buffers none = { out, out, out };
        assert_false(op_rms_norm_q8(ops, x_buffer, weight_buffer, &none, &args, &err));
    }
    kernel_release(x_buffer);
    kernel_release(weight_buffer);
    kernel_release(out);
    free(x);
    free(weight);
    free(want);
    free(got);
}

static void a_norm_equals_the_reference_as_float_and_quantised(void **state) {
    (void)state;
    static const uint32_t columns[] = { 32, 96, 320, 304, 5, 47 };
    for (EACH_KERNEL_DEVICE(device)) {
        struct ops *ops = kernel_ops(device, TENSOR_TYPE_COUNT, NUMERIC_FLOAT, KV_F32);
        for (size_t c = 0; c < 6; c++)
            for (size_t t = 0; t < TOKEN_COUNTS; t++)
                check_norm(device, ops, token_counts[t], columns[c]);
        ops_free(ops);
    }
}

static void check_swiglu(const struct kernel_device *device, struct ops *ops, uint32_t tokens,
                         uint32_t intermediate) {
    size_t count = (size_t)tokens * intermediate;
    float *wide = random_floats(intermediate + tokens, 2 * count);
    float *want = test_alloc(count * sizeof *want), *got = test_alloc(count * sizeof *got);
    for (size_t i = 0; i < 2 * count; i++)
        wide[i] *= 30.0f;
    cl_mem wide_buffer = kernel_buffer(device, 2 * count * sizeof *wide, wide);
    cl_mem out = kernel_buffer(device, count * sizeof *got, NULL);
    const struct swiglu_args args = { (int)tokens, (int)intermediate };
    struct error err = { 0 };
    reference_swiglu(wide, want, &args);
    ASSERT_OK(op_swiglu(ops, wide_buffer, out, &args, &err), err);
    kernel_read(device, out, got, count * sizeof *got);
    char what[64];
    snprintf(what, sizeof what, "swiglu of %u tokens of %u", tokens, intermediate);
    assert_floats(device, what, got, want, count);
    if (intermediate % 32 == 0) {
        struct q8_pair q8 = q8_new(device, count);
        const struct quantise_args quantise_args = { (int)tokens, (int)intermediate };
        reference_quantise(want, &q8.want, &quantise_args);
        ASSERT_OK(op_swiglu_q8(ops, wide_buffer, &q8.buffers, &args, &err), err);
        q8_check_and_free(device, what, &q8);
    }
    kernel_release(wide_buffer);
    kernel_release(out);
    free(wide);
    free(want);
    free(got);
}

static void a_gated_product_equals_the_reference_as_float_and_quantised(void **state) {
    (void)state;
    static const uint32_t columns[] = { 32, 96, 352, 304, 5, 47 };
    for (EACH_KERNEL_DEVICE(device)) {
        struct ops *ops = kernel_ops(device, TENSOR_TYPE_COUNT, NUMERIC_FLOAT, KV_F32);
        for (size_t c = 0; c < 6; c++)
            for (size_t t = 0; t < TOKEN_COUNTS; t++)
                check_swiglu(device, ops, token_counts[t], columns[c]);
        ops_free(ops);
    }
}

/* Blocks with something special, one a row of 32. */
static void make_special_blocks(float x[9][32]) {
    float *plain = random_floats(9, 9 * 32);
    for (int i = 0; i < 9 * 32; i++)
        x[i / 32][i % 32] = plain[i];
    free(plain);
    for (int i = 0; i < 32; i++) {
        x[1][i] = 0.0f;
        x[2][i] = -0.0f;
        x[3][i] = (float)(i - 16) * 0.5f;     /* with the next line: scale 1, ties */
        x[4][i] = 3e38f * (float)(i % 2 ? 1 : -1);
        x[5][i] = 1e-45f * (float)i;
    }
    x[3][0] = 127.0f;
    x[6][31] = NAN;
    x[7][0] = INFINITY;
    x[8][15] = -INFINITY;
}

static void quantising_keeps_zeros_ties_extremes_and_marks_what_is_not_finite(void **state) {
    (void)state;
    float x[9][32];
    make_special_blocks(x);
    for (EACH_KERNEL_DEVICE(device)) {
        struct ops *ops = kernel_ops(device, TENSOR_TYPE_COUNT, NUMERIC_FLOAT, KV_F32);
        cl_mem x_buffer = kernel_buffer(device, sizeof x, x);
        const struct quantise_args args = { 3, 96 };
        struct q8_pair q8 = q8_new(device, 9 * 32);
        reference_quantise(x[0], &q8.want, &args);
        assert_true(isnan(q8.want.scales[6]) && isnan(q8.want.scales[7]) && isnan(q8.want.scales[8]));
        assert_int_equal(q8.want.values[3 * 32 + 17], 0);    /* 0.5 goes to even */
        assert_int_equal(q8.want.values[3 * 32 + 19], 2);    /* 1.5, too */
        struct error err = { 0 };
        ASSERT_OK(op_quantise(ops, x_buffer, &q8.buffers, &args, &err), err);
        q8_check_and_free(device, "special blocks", &q8);
        kernel_release(x_buffer);
        ops_free(ops);
    }
}

static void a_nan_comes_through_norm_and_gate(void **state) {
    (void)state;
    for (EACH_KERNEL_DEVICE(device)) {
        struct ops *ops = kernel_ops(device, TENSOR_TYPE_COUNT, NUMERIC_FLOAT, KV_F32);
        float x[64] = { 0 }, got[32];
        x[7] = NAN;
        cl_mem buffer = kernel_buffer(device, sizeof x, x), out = kernel_buffer(device, sizeof got, NULL);
        struct error err = { 0 };
        ASSERT_OK(op_rms_norm(ops, buffer, buffer, out, &(struct rms_norm_args) { 1, 32, 1e-5f }, &err), err);
        kernel_read(device, out, got, sizeof got);
        assert_true(isnan(got[0]) && isnan(got[7]));
        ASSERT_OK(op_swiglu(ops, buffer, out, &(struct swiglu_args) { 1, 32 }, &err), err);
        kernel_read(device, out, got, sizeof got);
        assert_true(!isnan(got[0]) && isnan(got[7]));
        kernel_release(buffer);
        kernel_release(out);
        ops_free(ops);
    }
}

static void the_exponential_is_accurate_over_its_range(void **state) {
    (void)state;
    double worst = 0.0;
    for (float x = -87.32f; x < 88.72f; x += 0.000997f) {
        double want = exp((double)x), error = fabs((double)exp_1(x) - want) / (want * 0x1p-24);
        worst = error > worst ? error : worst;
    }
    print_message("# largest error of exp: %.2f half ulps at most\n", worst);
    assert_true(worst < 2.5);
    assert_true(exp_1(0.0f) == 1.0f);
    assert_true(exp_1(-INFINITY) == 0.0f && exp_1(-88.0f) == 0.0f && exp_1(-1e30f) == 0.0f);
    assert_true(isinf(exp_1(88.8f)) && isinf(exp_1(1e30f)) && isinf(exp_1(INFINITY)));
    assert_true(isnan(exp_1(NAN)) && isnan(exp_1(-NAN)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_norm_equals_the_reference_as_float_and_quantised),
        cmocka_unit_test(a_gated_product_equals_the_reference_as_float_and_quantised),
        cmocka_unit_test(quantising_keeps_zeros_ties_extremes_and_marks_what_is_not_finite),
        cmocka_unit_test(a_nan_comes_through_norm_and_gate),
        cmocka_unit_test(the_exponential_is_accurate_over_its_range),
    };
    return cmocka_run_group_tests(tests, NULL, kernel_close);
}
