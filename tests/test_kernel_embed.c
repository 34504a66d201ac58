#include "tests/support_kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A table of 11 rows, of which this buffer holds 4 to 10; ids in and around it. */
static void check_type(const struct kernel_device *device, struct ops *ops, enum tensor_type type,
                       uint32_t columns) {
    static const int32_t ids[] = { 4, 10, 3, 11, 7, -1, INT32_MAX, INT32_MIN, 7 };
    enum { TOKENS = sizeof ids / sizeof *ids, ROWS = 7, FIRST = 4 };
    size_t bytes, count = (size_t)TOKENS * columns;
    uint8_t *weights = random_weights(type, columns, ROWS, columns, &bytes);
    float *want = random_floats(8, count), *got = test_alloc(count * sizeof *got);
    cl_mem ids_buffer = kernel_buffer(device, sizeof ids, ids);
    cl_mem out = kernel_buffer(device, count * sizeof *want, want);
    const struct device_matrix table = {
        .buffer = kernel_buffer(device, bytes, weights), .type = type, .rows = ROWS, .columns = columns,
        .row_offset = FIRST,
    };
    for (int t = 0; t < TOKENS; t++)
        if (ids[t] >= FIRST && ids[t] < FIRST + ROWS)
            dequantise(type, weights + (size_t)(ids[t] - FIRST) * (bytes / ROWS), want + t * columns, columns);
    struct error err = { 0 };
    ASSERT_OK(op_embed(ops, &table, ids_buffer, out, TOKENS, &err), err);
    kernel_read(device, out, got, count * sizeof *got);
    char what[64];
    snprintf(what, sizeof what, "%s, %u columns", tensor_type_info(type)->name, columns);
    /* Q6_K: the sign of a zero differs, for the kernel multiplies quant and scale first. */
    for (size_t i = 0; i < count; i++)
        if (type == TENSOR_Q6_K && got[i] == 0.0f && want[i] == 0.0f)
            got[i] = want[i];
    assert_bytes(device, what, got, want, count * sizeof *got);
    kernel_release(ids_buffer);
    kernel_release(out);
    kernel_release(table.buffer);
    free(weights);
    free(want);
    free(got);
}

static void rows_of_every_type_come_out_as_dequantise_has_them(void **state) {
    (void)state;
    for (EACH_KERNEL_DEVICE(device)) {
        struct ops *ops = kernel_ops(device, TENSOR_TYPE_COUNT, NUMERIC_FLOAT, KV_F32);
        for (int type = 0; type < TENSOR_TYPE_COUNT; type++) {
            uint32_t block = tensor_type_info((enum tensor_type)type)->block_values;
            check_type(device, ops, (enum tensor_type)type, block == 256 ? 512 : 96);
            check_type(device, ops, (enum tensor_type)type, block == 1 ? 47 : block == 32 ? 32 : 256);
        }
        ops_free(ops);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_every_type_come_out_as_dequantise_has_them),
    };
    return cmocka_run_group_tests(tests, NULL, kernel_close);
}
