#include "kernels/matmul_variants.h"
#include "kernels/ops_internal.h"

#include <stdlib.h>
#include <string.h>

/* A matrix with a part of a group at its end, and more tokens than a tile. Steps and
 * scales are powers of two and the sums below 2^24 of their unit: every rounding is
 * exact, so the answer is known whatever the order. */
#define ROWS 37u
#define MOST_COLUMNS 256u
#define TOKENS 11u

struct proof {
    enum tensor_type type;
    uint32_t columns, blocks;                   /* three blocks of 32, or one of 256 */
    uint8_t weights[ROWS * MOST_COLUMNS * 4];   /* as a file has them */
    int8_t values[TOKENS * MOST_COLUMNS];
    float scales[TOKENS * MOST_COLUMNS / 32];
    int32_t sums[TOKENS * MOST_COLUMNS / 32];
    float x[TOKENS * MOST_COLUMNS];             /* values times scales */
    float y[TOKENS * ROWS];                /* the answer */
};

static uint32_t next_bits(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* 1/2, 1 or 2 */
static uint16_t some_half(uint32_t *state) {
    return float_to_half((float)(1u << next_bits(state) % 3) * 0.5f);
}

/* Small multiples of 1/4, which all types of float hold. */
static void fill_floats(struct proof *proof) {
    uint32_t state = 5, bytes = tensor_type_info(proof->type)->block_bytes;
    for (uint32_t i = 0; i < ROWS * proof->columns; i++) {
        float value = (float)((int)(next_bits(&state) % 255) - 127) * 0.25f;
        quantise(proof->type, &value, proof->weights + i * bytes, 1);
    }
}

/* The first block of the first rows and of each second token has the extremes, where
 * narrow sums would overflow. */
static void fill_blocks(struct proof *proof) {
    uint32_t state = 7, block_bytes = tensor_type_info(proof->type)->block_bytes;
    uint32_t halves = proof->type == TENSOR_Q4_1 ? 2 : 1;
    for (uint32_t i = 0; i < ROWS * proof->blocks; i++) {
        uint8_t *block = proof->weights + i * block_bytes;
        for (uint32_t h = 0; h < halves; h++) {
            uint16_t half = some_half(&state);
            memcpy(block + 2 * h, &half, sizeof half);
        }
        for (uint32_t j = 2 * halves; j < block_bytes; j++)
            block[j] = i < proof->blocks ? (proof->type == TENSOR_Q8_0 ? 0x80 : 0xff) : (uint8_t)next_bits(&state);
    }
}

/* Blocks of 256 with small factors. */
static void fill_large_blocks(struct proof *proof) {
    uint32_t state = 11, block_bytes = tensor_type_info(proof->type)->block_bytes;
    for (uint32_t i = 0; i < ROWS; i++) {
        uint8_t *block = proof->weights + i * block_bytes;
        for (uint32_t j = 0; j < block_bytes; j++)
            block[j] = (uint8_t)next_bits(&state);
        uint16_t d = some_half(&state), least = some_half(&state);
        if (proof->type == TENSOR_Q6_K) {
            for (uint32_t j = 192; j < 208; j++)
                block[j] = (uint8_t)(int8_t)((int)(next_bits(&state) % 7) - 3);
            memcpy(block + 208, &d, sizeof d);
            continue;
        }
        for (uint32_t j = 4; j < 16; j++)
            block[j] = (uint8_t)(next_bits(&state) & (j < 12 ? 3 : 0x33));
        memcpy(block, &d, sizeof d);
        memcpy(block + 2, &least, sizeof least);
    }
}

static void fill_proof(struct proof *proof) {
    const struct tensor_type_info *info = tensor_type_info(proof->type);
    uint32_t state = 9, row_bytes = proof->columns / info->block_values * info->block_bytes;
    if (info->block_values > 32)
        fill_large_blocks(proof);
    else if (info->is_quantised)
        fill_blocks(proof);
    else
        fill_floats(proof);
    for (uint32_t i = 0; i < TOKENS * proof->blocks; i++) {
        proof->scales[i] = (float)(1u << next_bits(&state) % 3) * 0.5f;
        for (uint32_t j = 0; j < 32; j++) {
            bool is_extreme = i / proof->blocks % 2 == 0 && i % proof->blocks == 0;
            int value = is_extreme ? (i % 4 ? -127 : 127) : (int)(next_bits(&state) % 255) - 127;
            proof->values[i * 32 + j] = (int8_t)value;
            proof->sums[i] += value;
            proof->x[i * 32 + j] = (float)value * proof->scales[i];
        }
    }
    for (uint32_t r = 0; r < ROWS; r++) {
        float row[MOST_COLUMNS];
        dequantise(proof->type, proof->weights + r * row_bytes, row, proof->columns);
        for (uint32_t t = 0; t < TOKENS; t++)
            for (uint32_t c = 0; c < proof->columns; c++)
                proof->y[t * ROWS + r] += row[c] * proof->x[t * proof->columns + c];
    }
}

static bool is_right(const struct proof *proof, const float *y, uint32_t tokens, struct error *err) {
    return !memcmp(y, proof->y, tokens * ROWS * sizeof *y) ||
           error_set(err, ERROR_FAILED, "the kernel for weights of type '%s' gives a wrong product of %u tokens",
                     tensor_type_info(proof->type)->name, tokens);
}

static cl_mem copy_buffer(struct ops *ops, const void *data, size_t bytes, struct error *err) {
    cl_int code;
    /* The API takes a pointer to non-const and only reads. */
    cl_mem buffer = clCreateBuffer(ops->context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR, bytes,
                                   (void *)(uintptr_t)data, &code);
    if (!buffer)
        opencl_failed(err, code, "cannot create a buffer of %zu bytes", bytes);
    return buffer;
}

enum { WEIGHTS, VALUES, SCALES, SUMS, X, Y, BUFFER_COUNT };

static bool run_proof(struct ops *ops, enum numeric_class numeric, const struct proof *proof,
                      const struct device_matrix *matrix, const cl_mem buffers[BUFFER_COUNT],
                      struct error *err) {
    const struct q8_buffers q8 = { buffers[VALUES], buffers[SCALES], buffers[SUMS] };
    static const uint32_t widths[] = { 1, 3, TOKENS };   /* 3: less than any tile */
    float y[TOKENS * ROWS];
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        uint32_t tokens = widths[i];
        bool fine = numeric == NUMERIC_INT8
                        ? op_matmul_q8(ops, matrix, &q8, buffers[Y], tokens, ROWS, false, err)
                        : op_matmul(ops, matrix, buffers[X], buffers[Y], tokens, ROWS, false, err);
        if (!fine)
            return false;
        cl_int code = clEnqueueReadBuffer(ops->queue, buffers[Y], CL_TRUE, 0, tokens * ROWS * sizeof *y, y, 0,
                                          NULL, NULL);
        if (code)
            return opencl_failed(err, code, "cannot read a product");
        if (!is_right(proof, y, tokens, err))
            return false;
    }
    return true;
}

bool matmul_prove(struct ops *ops, enum numeric_class numeric, enum weight_layout layout,
                  enum tensor_type type, struct error *err) {
    struct r16_shape shape = { .bytes = 1 };
    const uint32_t columns = tensor_type_info(type)->block_values > 32 ? MOST_COLUMNS : 96;
    bool has_layout = r16_shape_init(&shape, type, ROWS, columns);
    if (!has_layout && tensor_type_info(type)->is_quantised)
        return true;   /* kernels of rows in plain OpenCL C, which have no variants */
    struct proof *proof = calloc(1, sizeof *proof);
    uint8_t *packed = calloc(1, shape.bytes);
    cl_mem buffers[BUFFER_COUNT] = { 0 };
    bool fine = false;
    if (!proof || !packed) {
        error_set(err, ERROR_FAILED, "cannot prove a kernel: out of memory");
        goto cleanup;
    }
    proof->type = type;
    proof->columns = columns;
    proof->blocks = columns / 32;
    fill_proof(proof);
    if (has_layout)
        r16_pack(&shape, 0, ROWS, proof->weights, packed);
    const struct {
        const void *data;
        size_t bytes;
    } contents[BUFFER_COUNT] = {
        [WEIGHTS] = { layout == LAYOUT_R16 ? packed : proof->weights,
                      layout == LAYOUT_R16 ? shape.bytes : sizeof proof->weights },
        [VALUES] = { proof->values, sizeof proof->values },
        [SCALES] = { proof->scales, sizeof proof->scales },
        [SUMS] = { proof->sums, sizeof proof->sums },
        [X] = { proof->x, sizeof proof->x },
        [Y] = { proof->x, sizeof proof->y },
    };
    for (int i = 0; i < BUFFER_COUNT; i++)
        if (!(buffers[i] = copy_buffer(ops, contents[i].data, contents[i].bytes, err)))
            goto cleanup;
    const struct device_matrix matrix = {
        .buffer = buffers[WEIGHTS], .type = type, .layout = layout, .rows = ROWS, .columns = columns
    };
    fine = run_proof(ops, numeric, proof, &matrix, buffers, err);
cleanup:
    for (int i = 0; i < BUFFER_COUNT; i++)
        if (buffers[i])
            clReleaseMemObject(buffers[i]);
    free(packed);
    free(proof);
    return fine;
}
