#include "kernels/ops_internal.h"

#include "kernels/kernel_program.h"

#include <ctype.h>
#include <stdio.h>

/* How a buffer of weights lies. Packed layouts come as more rows below. */
enum weight_layout { LAYOUT_FILE };

#define TYPE_BIT(type) (1u << (type))
#define FLOAT_TYPES (TYPE_BIT(TENSOR_F32) | TYPE_BIT(TENSOR_F16) | TYPE_BIT(TENSOR_BF16))
#define QUANTISED_TYPES (TYPE_BIT(TENSOR_TYPE_COUNT) - 1 - FLOAT_TYPES)

/* A source with the kernels matmul_one and matmul_tile, and how to launch it. The
 * first row that serves a (type, class, layout) is taken. */
struct matmul_variant {
    const char *source;
    enum numeric_class numeric;
    enum weight_layout layout;
    uint32_t types;            /* of TYPE_BIT() */
    uint32_t rows;             /* of a work-item */
    uint32_t tile;             /* tokens of a work-item of matmul_tile: its TILE */
    uint32_t cpu_local, gpu_local;
};

static const struct matmul_variant variants[] = {
    { "kernels/matmul_float.cl", NUMERIC_FLOAT, LAYOUT_FILE, FLOAT_TYPES | QUANTISED_TYPES, 1, 4, 4, 64 },
    { "kernels/matmul_q8.cl",    NUMERIC_INT8,  LAYOUT_FILE, QUANTISED_TYPES,               4, 4, 1, 64 },
};

static const struct matmul_variant *find_variant(enum numeric_class numeric, enum weight_layout layout,
                                                 enum tensor_type type) {
    for (size_t i = 0; i < COUNT_OF(variants); i++)
        if (variants[i].numeric == numeric && variants[i].layout == layout &&
            variants[i].types & TYPE_BIT(type))
            return &variants[i];
    return NULL;
}

/* "WEIGHTS_Q4_0" */
static void write_weights_define(enum tensor_type type, char *define, size_t size) {
    snprintf(define, size, "WEIGHTS_%s", tensor_type_info(type)->name);
    for (char *c = define; *c; c++)
        *c = (char)toupper((unsigned char)*c);
}

bool ops_prepare_matmul(struct ops *ops, enum numeric_class numeric, enum tensor_type type,
                        struct error *err) {
    struct matmul_kernels *kernels = &ops->matmul[numeric][type];
    if (kernels->variant)
        return true;
    const struct matmul_variant *variant = find_variant(numeric, LAYOUT_FILE, type);
    if (!variant)
        return error_set(err, ERROR_FAILED, "no kernel multiplies weights of type '%s' with int8 activations",
                         tensor_type_info(type)->name);
    char weights[32], defines[64];
    write_weights_define(type, weights, sizeof weights);
    snprintf(defines, sizeof defines, "%s TILE=%u", weights, variant->tile);
    cl_program program = kernel_program_build(ops->context, ops->id, variant->source, defines, err);
    if (!program)
        return false;
    kernels->one = ops_kernel(program, "matmul_one", err);
    kernels->tile = kernels->one ? ops_kernel(program, "matmul_tile", err) : NULL;
    clReleaseProgram(program);
    if (kernels->tile)
        kernels->variant = variant;
    return kernels->tile != NULL;
}

void ops_release_matmul(struct ops *ops) {
    for (int i = 0; i < TENSOR_TYPE_COUNT; i++) {
        for (int numeric = 0; numeric < 2; numeric++) {
            if (ops->matmul[numeric][i].one)
                clReleaseKernel(ops->matmul[numeric][i].one);
            if (ops->matmul[numeric][i].tile)
                clReleaseKernel(ops->matmul[numeric][i].tile);
        }
        if (ops->embed[i])
            clReleaseKernel(ops->embed[i]);
    }
}

/* Kernels index with int32, and read rows of whole blocks. */
static bool check_matrix(const struct device_matrix *matrix, uint32_t token_count, uint32_t y_stride,
                         struct error *err) {
    const struct tensor_type_info *info = tensor_type_info(matrix->type);
    uint64_t most = INT32_MAX - 255;
    if (matrix->columns % info->block_values || (uint64_t)matrix->rows + matrix->row_offset > most ||
        matrix->columns > most || token_count > most || y_stride > most)
        return error_set(err, ERROR_FAILED, "cannot compute with a matrix of %u x %u values of type '%s'",
                         matrix->rows, matrix->columns, info->name);
    return true;
}

static bool launch_matmul(struct ops *ops, enum numeric_class numeric, const struct device_matrix *matrix,
                          const struct matmul_args *args, const struct kernel_argument *arguments,
                          size_t argument_count, struct error *err) {
    if (!ops_prepare_matmul(ops, numeric, matrix->type, err))
        return false;
    const struct matmul_kernels *kernels = &ops->matmul[numeric][matrix->type];
    const struct matmul_variant *variant = kernels->variant;
    size_t tokens = (size_t)args->token_count, tile = tokens > 1 ? variant->tile : 1;
    const struct launch launch = {
        { (matrix->rows + variant->rows - 1) / variant->rows, (tokens + tile - 1) / tile },
        variant->cpu_local, variant->gpu_local
    };
    return ops_launch(ops, tokens > 1 ? kernels->tile : kernels->one, variant->source, &launch, arguments,
                      argument_count, err);
}

static struct matmul_args make_args(const struct device_matrix *matrix, uint32_t token_count,
                                    uint32_t y_stride, bool accumulate) {
    return (struct matmul_args) {
        .token_count = (arg_int)token_count,
        .rows = (arg_int)matrix->rows,
        .columns = (arg_int)matrix->columns,
        .row_offset = (arg_int)matrix->row_offset,
        .y_stride = (arg_int)y_stride,
        .accumulate = accumulate,
    };
}

bool op_matmul(struct ops *ops, const struct device_matrix *matrix, cl_mem x, cl_mem y,
               uint32_t token_count, uint32_t y_stride, bool accumulate, struct error *err) {
    const struct matmul_args args = make_args(matrix, token_count, y_stride, accumulate);
    const struct kernel_argument arguments[] = {
        ARGUMENT(args), ARGUMENT(matrix->buffer), ARGUMENT(x), ARGUMENT(y)
    };
    return check_matrix(matrix, token_count, y_stride, err) &&
           launch_matmul(ops, NUMERIC_FLOAT, matrix, &args, arguments, COUNT_OF(arguments), err);
}

bool op_matmul_q8(struct ops *ops, const struct device_matrix *matrix, const struct q8_buffers *x,
                  cl_mem y, uint32_t token_count, uint32_t y_stride, bool accumulate,
                  struct error *err) {
    const struct matmul_args args = make_args(matrix, token_count, y_stride, accumulate);
    const struct kernel_argument arguments[] = {
        ARGUMENT(args), ARGUMENT(matrix->buffer), ARGUMENT(x->values), ARGUMENT(x->scales),
        ARGUMENT(x->sums), ARGUMENT(y)
    };
    return check_matrix(matrix, token_count, y_stride, err) &&
           launch_matmul(ops, NUMERIC_INT8, matrix, &args, arguments, COUNT_OF(arguments), err);
}

/* Built at first use: mostly the table stays on the host. */
static bool prepare_embed(struct ops *ops, enum tensor_type type, struct error *err) {
    if (ops->embed[type])
        return true;
    char weights[32];
    write_weights_define(type, weights, sizeof weights);
    cl_program program = kernel_program_build(ops->context, ops->id, "kernels/embed.cl", weights, err);
    if (!program)
        return false;
    ops->embed[type] = ops_kernel(program, "embed", err);
    clReleaseProgram(program);
    return ops->embed[type] != NULL;
}

bool op_embed(struct ops *ops, const struct device_matrix *table, cl_mem ids, cl_mem out,
              uint32_t token_count, struct error *err) {
    const struct embed_args args = {
        .token_count = (arg_int)token_count,
        .columns = (arg_int)table->columns,
        .row_begin = (arg_int)table->row_offset,
        .row_count = (arg_int)table->rows,
    };
    const struct kernel_argument arguments[] = {
        ARGUMENT(args), ARGUMENT(table->buffer), ARGUMENT(ids), ARGUMENT(out)
    };
    const struct launch launch = { { (table->columns + 31) / 32, token_count }, 16, 64 };
    return check_matrix(table, token_count, 0, err) && prepare_embed(ops, table->type, err) &&
           ops_launch(ops, ops->embed[table->type], "embed", &launch, arguments, COUNT_OF(arguments), err);
}
