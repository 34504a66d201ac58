/* CLBlast, forced on every device: within rounding of our own product. */
#include "tests/support_kernels.h"

#include "tests/reference_ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void check_product(const struct kernel_device *device, struct ops *ops, enum tensor_type type,
                          uint64_t room_rows, bool accumulate) {
    enum { ROWS = 40, COLUMNS = 64, TOKENS = 8, OFFSET = 3, STRIDE = ROWS + 5 };
    size_t weight_bytes, y_count = (size_t)TOKENS * STRIDE;
    struct error err = { 0 };
    void *weights = random_weights(type, 11, ROWS, COLUMNS, &weight_bytes);
    float *x = random_floats(5, TOKENS * COLUMNS), *want = random_floats(7, y_count), *got = test_alloc(y_count * 4);
    float *before = test_alloc(y_count * 4);
    memcpy(before, want, y_count * 4);
    cl_mem weight_buffer = kernel_buffer(device, weight_bytes, weights);
    cl_mem x_buffer = kernel_buffer(device, TOKENS * COLUMNS * 4, x), y_buffer = kernel_buffer(device, y_count * 4, want);
    uint64_t room_bytes = room_rows * COLUMNS * 4;
    cl_mem room = kernel_buffer(device, room_bytes, NULL);
    const struct matmul_args args = { .token_count = TOKENS, .rows = ROWS, .columns = COLUMNS, .row_offset = OFFSET,
                                      .y_stride = STRIDE, .accumulate = accumulate };
    reference_matmul(type, weights, x, want, &args);
    const struct device_matrix matrix = { .buffer = weight_buffer, .type = type, .rows = ROWS, .columns = COLUMNS,
                                          .row_offset = OFFSET };
    ASSERT_OK(op_gemm(ops, &matrix, x_buffer, y_buffer, room, room_bytes, TOKENS, STRIDE, accumulate, &err), err);
    kernel_read(device, y_buffer, got, y_count * sizeof *got);
    for (size_t i = 0; i < y_count; i++) {
        bool is_ours = i % STRIDE >= OFFSET && i % STRIDE < OFFSET + ROWS;
        double scale = 0;
        for (int c = 0; c < COLUMNS; c++)
            scale += fabs((double)x[i / STRIDE * COLUMNS + c]);
        if (is_ours ? !(fabs((double)got[i] - want[i]) <= 1e-5 * (scale + fabs((double)want[i]) + 1))
                    : got[i] != before[i])
            fail_msg("%s, value %zu: %.7f for %.7f", tensor_type_info(type)->name, i, got[i], want[i]);
    }
    kernel_release(weight_buffer);
    kernel_release(x_buffer);
    kernel_release(y_buffer);
    kernel_release(room);
    free(weights);
    free(x);
    free(want);
    free(got);
    free(before);
}

static void the_library_multiplies_as_we_do(void **state) {
    (void)state;
    struct error err = { 0 };
    if (!getenv("CLBLAST"))
        SKIP_BECAUSE("it compiles for some 20 s; make check-clblast runs it");
    if (!ops_gemm_is_there(&err))
        SKIP_BECAUSE("no libclblast.so.1");
    uint32_t count;
    const struct kernel_device *device = kernel_devices(&count);
    if (device->is_simulator)
        SKIP_BECAUSE("CLBlast's own kernels take minutes on the simulator");
    /* One device: its first product compiles for seconds. */
    struct ops *ops = kernel_ops(device, TENSOR_TYPE_COUNT, NUMERIC_FLOAT, KV_F32);
    check_product(device, ops, TENSOR_F16, 16, true);     /* three portions, the last of 8 rows */
    check_product(device, ops, TENSOR_F32, 1, false);     /* as it lies there */
    check_product(device, ops, TENSOR_Q8_0, 40, false);
    ops_free(ops);
}

static void what_cannot_be_expanded_is_refused(void **state) {
    (void)state;
    uint32_t count;
    const struct kernel_device *device = kernel_devices(&count);
    struct ops *ops = kernel_ops(device, TENSOR_TYPE_COUNT, NUMERIC_FLOAT, KV_F32);
    cl_mem buffer = kernel_buffer(device, 4096, NULL);
    struct device_matrix matrix = { .buffer = buffer, .type = TENSOR_F16, .rows = 16, .columns = 64 };
    struct error err = { 0 };
    assert_false(op_gemm(ops, &matrix, buffer, buffer, buffer, 255, 2, 16, false, &err));   /* less than a row */
    matrix.type = TENSOR_Q8_0;
    matrix.layout = LAYOUT_R16;
    assert_false(op_gemm(ops, &matrix, buffer, buffer, buffer, 4096, 2, 16, false, &err));
    assert_non_null(strstr(err.text, "r16"));
    kernel_release(buffer);
    ops_free(ops);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_library_multiplies_as_we_do),
        cmocka_unit_test(what_cannot_be_expanded_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, kernel_close);
}
