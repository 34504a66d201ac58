/* ops_gemm: the product of a whole pass by CLBlast. */
#include "kernels/clblast_door.h"
#include "kernels/ops_internal.h"

bool ops_gemm_is_there(struct error *err) {
    return clblast_is_there(err);
}

bool ops_prepare_expand(struct ops *ops, enum tensor_type type, struct error *err) {
    if (ops->expand[type] || type == TENSOR_F32)   /* which is what the library takes */
        return true;
    return ops_open_decoder(ops, "kernels/expand.cl", "expand", type, &ops->expand[type], err);
}

bool ops_expand(struct ops *ops, const struct device_matrix *matrix, cl_mem out, uint64_t row, uint64_t rows,
                struct error *err) {
    const struct expand_args args = { .row_begin = (arg_int)row, .row_count = (arg_int)rows,
                                      .columns = (arg_int)matrix->columns };
    const struct kernel_argument arguments[] = { ARGUMENT(args), ARGUMENT(matrix->buffer), ARGUMENT(out) };
    const struct launch launch = { { (matrix->columns + 31) / 32, rows }, 16, 64 };
    return ops_launch(ops, ops->expand[matrix->type], "expand", &launch, arguments, COUNT_OF(arguments), err);
}

bool op_gemm(struct ops *ops, const struct device_matrix *matrix, cl_mem x, cl_mem y, cl_mem room,
             uint64_t room_bytes, uint32_t token_count, uint32_t y_stride, bool accumulate, struct error *err) {
    const bool is_float = matrix->type == TENSOR_F32;
    uint64_t at_a_time = is_float ? matrix->rows : room_bytes / sizeof(float) / (matrix->columns ? matrix->columns : 1);
    if (!at_a_time || matrix->layout != LAYOUT_ROWS)
        return error_set(err, ERROR_FAILED, "a matrix of %u x %u values in the layout '%s' cannot be expanded in %llu "
                         "bytes", matrix->rows, matrix->columns, weight_layout_name(matrix->layout),
                         (unsigned long long)room_bytes);
    if (!ops_prepare_expand(ops, matrix->type, err))
        return false;
    for (uint64_t row = 0, rows; row < matrix->rows; row += rows) {
        rows = matrix->rows - row < at_a_time ? matrix->rows - row : at_a_time;
        const struct clblast_product product = {
            .weights = is_float ? matrix->buffer : room, .x = x, .y = y, .token_count = token_count,
            .rows = rows, .columns = matrix->columns, .y_offset = matrix->row_offset + row,
            .y_stride = y_stride, .accumulate = accumulate };
        if ((!is_float && !ops_expand(ops, matrix, room, row, rows, err)) ||
            !clblast_multiply(ops->queue, &product, err))
            return false;
    }
    return true;
}
