#include "kernels/ops_internal.h"

#include "kernels/matmul_variants.h"
#include "kernels/turns.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* "WEIGHTS_Q4_0" */
static void write_weights_define(enum tensor_type type, char *define, size_t size) {
    snprintf(define, size, "WEIGHTS_%s", tensor_type_info(type)->name);
    for (char *c = define; *c; c++)
        *c = (char)toupper((unsigned char)*c);
}

bool ops_grid_is_large(const struct ops *ops, const struct matmul_variant *variant) {
    return !variant->shares_rows && ops->most_rows / variant->rows + variant->cpu_local + variant->gpu_local > LARGE_GRID;
}

static void release_kernels(struct matmul_kernels *kernels) {
    if (kernels->one)
        clReleaseKernel(kernels->one);
    if (kernels->tile)
        clReleaseKernel(kernels->tile);
    *kernels = (struct matmul_kernels) { 0 };
}

static bool build_variant(struct ops *ops, const struct matmul_variant *variant, enum tensor_type type,
                          struct matmul_kernels *kernels, struct error *err) {
    char weights[32], defines[96];
    write_weights_define(type, weights, sizeof weights);
    snprintf(defines, sizeof defines, "%s TILE=%u%s%s", weights, variant->tile, variant->defines[0] ? " " : "",
             variant->defines);
    const struct program_request request = {
        .source = variant->source, .defines = defines,
        .launches = ops_grid_is_large(ops, variant) ? LAUNCHES_BOTH : LAUNCHES_SMALL,
        .kernels = { "matmul_one", "matmul_tile" },
    };
    kernels->variant = variant;
    if (ops_open_program(ops, &request, (cl_kernel *const[]){ &kernels->one, &kernels->tile }, err))
        return true;
    release_kernels(kernels);
    return false;
}

/* Build and, unless it comes from the store, where only what was right is kept, prove it. */
static bool try_variant(struct ops *ops, const struct matmul_variant *variant, enum weight_layout layout,
                        enum tensor_type type, struct error *err) {
    struct matmul_kernels *kernels = &ops->matmul[variant->numeric][layout][type];
    uint32_t compiled = ops->builds.compiled;
    if (!build_variant(ops, variant, type, kernels, err))
        return false;
    if (!variant->needs_proof || ops->builds.compiled == compiled ||
        matmul_prove(ops, variant->numeric, layout, type, err))
        return true;
    release_kernels(kernels);
    ops_forget_program(ops);
    return false;
}

/* What the store says is best, if this machine still has it. */
static void try_stored(struct ops *ops, const struct matmul_variant *const *candidates, uint32_t count,
                       const struct variant_key *key, enum weight_layout layout, enum tensor_type type) {
    char stored[32] = "";
    if (ops->store && ops->store->find_variant)
        ops->store->find_variant(ops->store->context, ops->device, key, stored);
    for (uint32_t i = 0; i < count; i++) {
        struct error ignored = { 0 };
        if (strcmp(stored, candidates[i]->name) == 0 && try_variant(ops, candidates[i], layout, type, &ignored))
            return;
    }
}

/* The first variant that works; with a store, of several with machine instructions the fastest,
 * which is then kept. */
static bool try_all(struct ops *ops, const struct matmul_variant *const *candidates, uint32_t count,
                    const struct variant_key *key, enum weight_layout layout, enum tensor_type type,
                    struct error *err) {
    const bool compares = ops->store && ops->store->keep_variant;
    struct matmul_kernels *kernels = &ops->matmul[candidates[0]->numeric][layout][type], best = { 0 };
    double best_seconds = 0;
    for (uint32_t i = 0; i < count && !(best.variant && !candidates[i]->needs_proof); i++) {
        struct error reason = { 0 };
        double seconds;
        if (!try_variant(ops, candidates[i], layout, type, &reason)) {
            if (i + 1 == count && err)
                *err = reason;
            continue;
        }
        if (!compares)
            return true;
        if (!matmul_time(ops, candidates[i]->numeric, layout, type, &seconds, &reason))
            seconds = 1e9;
        if (best.variant && seconds >= best_seconds) {
            release_kernels(kernels);
            continue;
        }
        release_kernels(&best);
        best = *kernels;
        *kernels = (struct matmul_kernels){ 0 };
        best_seconds = seconds;
    }
    *kernels = best;
    if (best.variant) {
        struct error ignored = { 0 };
        ops->store->keep_variant(ops->store->context, ops->device, key, best.variant->name, best_seconds, &ignored);
    }
    return best.variant != NULL;
}

/* Forms that come later are compared with the one that was best among fewer. */
static struct variant_key make_key(enum numeric_class numeric, enum weight_layout layout, enum tensor_type type,
                                   const struct matmul_variant *const *candidates, uint32_t count) {
    struct variant_key key = { .among = "" };
    snprintf(key.operation, sizeof key.operation, "matmul %s", numeric == NUMERIC_INT8 ? "int8" : "float");
    snprintf(key.format, sizeof key.format, layout == LAYOUT_ROWS ? "%s" : "%s/%s", tensor_type_info(type)->name,
             weight_layout_name(layout));
    for (uint32_t i = 0, length = 0; i < count && length < sizeof key.among; i++)
        length += (uint32_t)snprintf(key.among + length, sizeof key.among - length, i ? ",%s" : "%s", candidates[i]->name);
    return key;
}

bool ops_prepare_matmul(struct ops *ops, enum numeric_class numeric, enum weight_layout layout,
                        enum tensor_type type, const char *name, struct error *err) {
    struct matmul_kernels *kernels = &ops->matmul[numeric][layout][type];
    const struct matmul_variant *candidates[OPS_MOST_VARIANTS];
    uint32_t count = matmul_find_variants(ops->id, numeric, layout, type, candidates);
    const struct variant_key key = make_key(numeric, layout, type, candidates, count);
    if (kernels->variant)
        return true;
    for (uint32_t i = 0; name && i < count && !kernels->variant; i++)
        if (strcmp(name, candidates[i]->name) == 0 && !build_variant(ops, candidates[i], type, kernels, err))
            return false;
    if (!name && count > 1)   /* or there is nothing to choose */
        try_stored(ops, candidates, count, &key, layout, type);
    if (!name && !kernels->variant && count == 1 && !try_variant(ops, candidates[0], layout, type, err))
        return false;
    if (!name && !kernels->variant && count > 1 && !try_all(ops, candidates, count, &key, layout, type, err))
        return false;
    if (kernels->variant)
        return true;
    if (name)
        return error_set(err, ERROR_FAILED, "this machine has no kernel '%s' for weights of type '%s' (%s); "
                         "run phiplan again", name, tensor_type_info(type)->name, weight_layout_name(layout));
    if (layout == LAYOUT_ROWS)
        return error_set(err, ERROR_FAILED, "no kernel multiplies weights of type '%s' with int8 activations",
                         tensor_type_info(type)->name);
    return error_set(err, ERROR_FAILED, "no kernel multiplies weights of type '%s' in the layout '%s'",
                     tensor_type_info(type)->name, weight_layout_name(layout));
}

bool ops_prove_variant(cl_context context, cl_device_id id, cl_command_queue queue,
                       enum numeric_class numeric, enum weight_layout layout, enum tensor_type type,
                       const char *name, struct error *err) {
    struct ops ops;
    ops_init(&ops, context, id, queue);
    bool fine = ops_prepare_matmul(&ops, numeric, layout, type, name, err) &&
                matmul_prove(&ops, numeric, layout, type, err);
    ops_release(&ops);
    return fine;
}

void ops_release_matmul(struct ops *ops) {
    for (int i = 0; i < TENSOR_TYPE_COUNT; i++) {
        for (int numeric = 0; numeric < 2; numeric++)
            for (int layout = 0; layout < LAYOUT_COUNT; layout++)
                release_kernels(&ops->matmul[numeric][layout][i]);
        if (ops->embed[i])
            clReleaseKernel(ops->embed[i]);
        if (ops->expand[i])
            clReleaseKernel(ops->expand[i]);
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

_Static_assert(TURN_INTS == 32, "BUFFER_TURNS of common/unit_buffers.h");

bool ops_open_turns(struct ops *ops, cl_mem turns, struct error *err) {
    const cl_int zero = 0;
    const size_t bytes = TURN_INTS * sizeof zero;
    cl_int code = CL_SUCCESS;
    if (turns)
        clRetainMemObject(turns);
    else
        turns = clCreateBuffer(ops->context, CL_MEM_READ_WRITE, bytes, NULL, &code);
    if (turns)
        code = clEnqueueFillBuffer(ops->queue, turns, &zero, sizeof zero, 0, bytes, 0, NULL, NULL);
    ops->turns = turns;
    return code == CL_SUCCESS || opencl_failed(err, code, "cannot create a buffer of %zu bytes", bytes);
}

/* `arguments` has room for one more. */
static bool launch_matmul(struct ops *ops, enum numeric_class numeric, const struct device_matrix *matrix,
                          const struct matmul_args *args, struct kernel_argument *arguments, size_t argument_count,
                          struct error *err) {
    const struct matmul_kernels *kernels = &ops->matmul[numeric][matrix->layout][matrix->type];
    if (!kernels->variant && !ops_prepare_matmul(ops, numeric, matrix->layout, matrix->type, NULL, err))
        return false;
    const struct matmul_variant *variant = kernels->variant;
    size_t tokens = (size_t)args->token_count, tile = tokens > 1 ? variant->tile : 1;
    struct launch launch = {
        { (matrix->rows + variant->rows - 1) / variant->rows, (tokens + tile - 1) / tile },
        variant->cpu_local, variant->gpu_local
    };
    if (variant->shares_rows) {
        if (!ops->turns && !ops_open_turns(ops, NULL, err))
            return false;
        arguments[argument_count++] = (struct kernel_argument)ARGUMENT(ops->turns);
        launch.items[0] = (size_t)ops->compute_units * TURN_ITEMS_OF_UNIT;
        launch.items[1] = tokens > 0;
    }
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
    struct kernel_argument arguments[] = { ARGUMENT(args), ARGUMENT(matrix->buffer), ARGUMENT(x), ARGUMENT(y), { 0 } };
    return check_matrix(matrix, token_count, y_stride, err) &&
           launch_matmul(ops, NUMERIC_FLOAT, matrix, &args, arguments, COUNT_OF(arguments) - 1, err);
}

bool op_matmul_q8(struct ops *ops, const struct device_matrix *matrix, const struct q8_buffers *x,
                  cl_mem y, uint32_t token_count, uint32_t y_stride, bool accumulate,
                  struct error *err) {
    const struct matmul_args args = make_args(matrix, token_count, y_stride, accumulate);
    struct kernel_argument arguments[] = {
        ARGUMENT(args), ARGUMENT(matrix->buffer), ARGUMENT(x->values), ARGUMENT(x->scales),
        ARGUMENT(x->sums), ARGUMENT(y), { 0 }
    };
    return check_matrix(matrix, token_count, y_stride, err) &&
           launch_matmul(ops, NUMERIC_INT8, matrix, &args, arguments, COUNT_OF(arguments) - 1, err);
}

bool ops_open_decoder(struct ops *ops, const char *source, const char *name, enum tensor_type type,
                      cl_kernel *kernel, struct error *err) {
    char weights[32];
    write_weights_define(type, weights, sizeof weights);
    const struct program_request request = { .source = source, .defines = weights, .launches = LAUNCHES_SMALL,
                                             .kernels = { name } };
    return ops_open_program(ops, &request, (cl_kernel *const[]){ kernel }, err);
}

bool ops_prepare_embed(struct ops *ops, enum tensor_type type, struct error *err) {
    return ops->embed[type] ||
           ops_open_decoder(ops, "kernels/embed.cl", "embed", type, &ops->embed[type], err);
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
    if (table->layout != LAYOUT_ROWS)
        return error_set(err, ERROR_FAILED, "cannot look up embeddings in the layout '%s'",
                         weight_layout_name(table->layout));
    return check_matrix(table, token_count, 0, err) && ops_prepare_embed(ops, table->type, err) &&
           ops_launch(ops, ops->embed[table->type], "embed", &launch, arguments, COUNT_OF(arguments), err);
}
