/* matmul_time: how long a product takes, to choose among those that are right. */
#include "common/clock.h"
#include "kernels/matmul_variants.h"
#include "kernels/ops_internal.h"

enum { ROWS = 1024, COLUMNS = 1024, TOKENS = 64, ROUNDS = 3 };

/* Bytes that are 0: no denormals, no infinities, in any format. */
static cl_mem zeros(struct ops *ops, size_t bytes, struct error *err) {
    const cl_uint zero = 0;
    cl_int code;
    cl_mem buffer = clCreateBuffer(ops->context, CL_MEM_READ_WRITE, bytes, NULL, &code);
    if (buffer) {
        code = clEnqueueFillBuffer(ops->queue, buffer, &zero, sizeof zero, 0, bytes / sizeof zero * sizeof zero, 0,
                                   NULL, NULL);
        if (code == CL_SUCCESS)
            return buffer;
        clReleaseMemObject(buffer);
    }
    opencl_failed(err, code, "cannot create a buffer of %zu bytes", bytes);
    return NULL;
}

enum { WEIGHTS, X, Y, SCALES, SUMS, BUFFER_COUNT };

/* One token TOKENS times, then TOKENS at once. */
static bool multiply(struct ops *ops, enum numeric_class numeric, const struct device_matrix *matrix,
                     const cl_mem buffers[BUFFER_COUNT], double *seconds, struct error *err) {
    const struct q8_buffers q8 = { buffers[X], buffers[SCALES], buffers[SUMS] };
    double start = seconds_now();
    for (uint32_t i = 0; i <= TOKENS; i++) {
        uint32_t tokens = i < TOKENS ? 1 : TOKENS;
        if (numeric == NUMERIC_INT8 ? !op_matmul_q8(ops, matrix, &q8, buffers[Y], tokens, ROWS, false, err)
                                    : !op_matmul(ops, matrix, buffers[X], buffers[Y], tokens, ROWS, false, err))
            return false;
    }
    cl_int code = clFinish(ops->queue);
    *seconds = seconds_now() - start;
    return code == CL_SUCCESS || opencl_failed(err, code, "cannot time a product");
}

bool matmul_time(struct ops *ops, enum numeric_class numeric, enum weight_layout layout, enum tensor_type type,
                 double *seconds, struct error *err) {
    struct device_matrix matrix = { .type = type, .layout = layout, .rows = ROWS, .columns = COLUMNS };
    struct r16_shape shape;
    uint64_t bytes;
    cl_mem buffers[BUFFER_COUNT] = { 0 };
    bool ok = true;
    if (layout == LAYOUT_R16 ? !r16_shape_init(&shape, type, ROWS, COLUMNS) : !tensor_bytes(type, ROWS, COLUMNS, &bytes))
        return error_set(err, ERROR_FAILED, "cannot time products with weights of type '%s'",
                         tensor_type_info(type)->name);
    const size_t sizes[BUFFER_COUNT] = {
        [WEIGHTS] = layout == LAYOUT_R16 ? shape.bytes : bytes, [X] = TOKENS * COLUMNS * sizeof(float),
        [Y] = TOKENS * ROWS * sizeof(float), [SCALES] = TOKENS * COLUMNS / 32 * sizeof(float),
        [SUMS] = TOKENS * COLUMNS / 32 * sizeof(int32_t),
    };
    for (int i = 0; ok && i < BUFFER_COUNT; i++)
        ok = (buffers[i] = zeros(ops, sizes[i], err)) != NULL;
    matrix.buffer = buffers[WEIGHTS];
    double once = 0;
    ok = ok && multiply(ops, numeric, &matrix, buffers, &once, err);   /* may compile */
    *seconds = once;
    for (int round = 0; ok && round < ROUNDS; round++) {
        ok = multiply(ops, numeric, &matrix, buffers, &once, err);
        if (once < *seconds)
            *seconds = once;
    }
    for (int i = 0; i < BUFFER_COUNT; i++)
        if (buffers[i])
            clReleaseMemObject(buffers[i]);
    return ok;
}
