#include "kernels/ops_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sources in the order of building; a source with several kernels is built once. */
static const struct {
    const char *source, *name;
} fixed_kernels[FIXED_KERNEL_COUNT] = {
    [KERNEL_RMS_NORM]    = { "kernels/rms_norm.cl", "rms_norm" },
    [KERNEL_RMS_NORM_Q8] = { "kernels/rms_norm.cl", "rms_norm_q8" },
    [KERNEL_QUANTISE]    = { "kernels/quantise.cl", "quantise" },
    [KERNEL_ROPE_KV]     = { "kernels/rope_kv.cl", "rope_kv" },
    [KERNEL_ATTENTION]   = { "kernels/attention.cl", "attention" },
    [KERNEL_ATTENTION_TILE] = { "kernels/attention_tile.cl", "attention_tile" },
    [KERNEL_ATTENTION_JOIN] = { "kernels/attention_join.cl", "attention_join" },
    [KERNEL_SWIGLU]      = { "kernels/swiglu.cl", "swiglu" },
    [KERNEL_SWIGLU_Q8]   = { "kernels/swiglu.cl", "swiglu_q8" },
};

bool ops_open_program(struct ops *ops, const struct program_request *request, cl_kernel *const kernels[],
                      struct error *err) {
    struct built_program built;
    struct built_program *grown = realloc(ops->compiled, (ops->compiled_count + (size_t)1) * sizeof *grown);
    if (!grown)
        return error_set(err, ERROR_FAILED, "cannot build '%s': out of memory", request->source);
    ops->compiled = grown;
    if (!kernel_program_open(ops->context, ops->id, request, ops->store, ops->device, &built, err))
        return false;
    for (int i = 0; i < PROGRAM_MOST_KERNELS && request->kernels[i]; i++) {
        *kernels[i] = built.kernels[i];
        built.kernels[i] = NULL;
    }
    *(built.is_compiled ? &ops->builds.compiled : &ops->builds.loaded) += 1;
    if (built.is_compiled && !ops->builds.reason[0])
        snprintf(ops->builds.reason, sizeof ops->builds.reason, "%s", built.why_compiled);
    if (built.is_compiled && ops->store)
        ops->compiled[ops->compiled_count++] = built;
    else
        kernel_program_release(&built);   /* kernels keep it alive */
    return true;
}

void ops_forget_program(struct ops *ops) {
    if (ops->compiled_count)
        kernel_program_release(&ops->compiled[--ops->compiled_count]);
}

/* All kernels of a source at once. */
static bool open_fixed(struct ops *ops, int first, const char *defines, struct error *err) {
    struct program_request request = { .source = fixed_kernels[first].source, .defines = defines,
                                       .launches = LAUNCHES_SMALL };
    cl_kernel *kernels[PROGRAM_MOST_KERNELS];
    int count = 0;
    for (int i = first; i < FIXED_KERNEL_COUNT && fixed_kernels[i].source == fixed_kernels[first].source; i++) {
        request.kernels[count] = fixed_kernels[i].name;
        kernels[count++] = &ops->fixed[i];
    }
    return ops_open_program(ops, &request, kernels, err);
}

static bool build_fixed(struct ops *ops, struct error *err) {
    const bool has_tiles = ops->is_cpu && !ops->plain_attention;
    const char *const defines[][2] = {
        [KV_F32] = { "", has_tiles ? "KV_PREFETCH" : "" },
        [KV_F16] = { has_tiles ? "KV_HALF" : "KV_HALF KV_NATIVE",
                     has_tiles ? "KV_HALF KV_F16C KV_PREFETCH" : "KV_HALF KV_NATIVE" },
        [KV_Q8_0] = { "KV_Q8", has_tiles ? "KV_Q8 KV_F16C KV_PREFETCH" : "KV_Q8" },
    };
    bool has_f16c = ops_has_f16c(ops->id);
    for (int i = 0; i < FIXED_KERNEL_COUNT; i++) {
        if (ops->fixed[i] || i == (has_tiles ? KERNEL_ATTENTION : KERNEL_ATTENTION_TILE))
            continue;
        bool has_kv = i == KERNEL_ROPE_KV || i == KERNEL_ATTENTION || i == KERNEL_ATTENTION_TILE;
        if (has_kv && has_f16c && open_fixed(ops, i, defines[ops->kv_type][1], NULL))
            continue;
        has_f16c = has_f16c && !has_kv;   /* a compiler that refuses the instruction */
        if (!open_fixed(ops, i, has_kv ? defines[ops->kv_type][0] : "", err))
            return false;
    }
    return true;
}

struct ops *ops_new(cl_context context, cl_device_id id, cl_command_queue queue,
                    const struct ops_options *options, struct error *err) {
    struct ops *ops = calloc(1, sizeof *ops);
    if (!ops) {
        error_set(err, ERROR_FAILED, "cannot prepare the kernels: out of memory");
        return NULL;
    }
    ops_init(ops, context, id, queue);
    ops->kv_type = options->kv_type;
    ops->plain_attention = options->plain_attention;
    ops->attention_splits = options->attention_splits;
    ops->store = options->store;
    ops->device = options->device;
    ops->most_rows = options->most_rows;
    bool fine = (!options->turns || ops_open_turns(ops, options->turns, err)) && build_fixed(ops, err);
    for (int i = 0; fine && i < TENSOR_TYPE_COUNT; i++) {
        enum tensor_type weights = (enum tensor_type)i;
        bool is_int8 = options->numeric == NUMERIC_INT8 && tensor_type_info(weights)->is_quantised;
        for (int layout = 0; fine && layout < LAYOUT_COUNT; layout++)
            if (layout == LAYOUT_ROWS ? options->weight_types[i] : options->packed_types[i])
                fine = ops_prepare_matmul(ops, is_int8 ? NUMERIC_INT8 : NUMERIC_FLOAT,
                                          (enum weight_layout)layout, weights, options->variants[layout][i],
                                          err);
        fine = fine && (!options->embed_types[i] || ops_prepare_embed(ops, weights, err)) &&
               (!(options->gemm_types[i] && options->weight_types[i]) || ops_prepare_expand(ops, weights, err));
    }
    if (fine && ops->compiled_count)
        ops_keep_programs(ops);
    while (ops->compiled_count)
        ops_forget_program(ops);
    ops->store = NULL;
    ops->device = NULL;
    if (!fine) {
        ops_free(ops);
        return NULL;
    }
    return ops;
}

/* Mesa's llvmpipe calls itself a CPU but compiles as for a GPU: it takes minutes for the
 * kernels with large private memory that are made for CPUs. */
static bool is_software_gpu(cl_device_id id) {
    char name[256] = "";
    clGetDeviceInfo(id, CL_DEVICE_NAME, sizeof name - 1, name, NULL);
    return strncmp(name, "llvmpipe", 8) == 0;
}

bool ops_is_cpu(cl_device_id id) {
    cl_device_type type = 0;
    clGetDeviceInfo(id, CL_DEVICE_TYPE, sizeof type, &type, NULL);
    return (type & CL_DEVICE_TYPE_CPU) && !is_software_gpu(id);
}

void ops_init(struct ops *ops, cl_context context, cl_device_id id, cl_command_queue queue) {
    *ops = (struct ops) { .context = context, .id = id, .queue = queue };
    cl_uint units = 1;
    clGetDeviceInfo(id, CL_DEVICE_MAX_COMPUTE_UNITS, sizeof units, &units, NULL);
    ops->is_cpu = ops_is_cpu(id);
    ops->compute_units = units ? units : 1;
}

void ops_release(struct ops *ops) {
    for (int i = 0; i < FIXED_KERNEL_COUNT; i++)
        if (ops->fixed[i])
            clReleaseKernel(ops->fixed[i]);
    ops_release_matmul(ops);
    if (ops->turns)
        clReleaseMemObject(ops->turns);
    while (ops->compiled_count)
        ops_forget_program(ops);
    free(ops->compiled);
}

const struct ops_builds *ops_builds(const struct ops *ops) {
    return &ops->builds;
}

void ops_note_buffers(struct ops_options *options, const struct buffer_list *list) {
    for (size_t i = 0; i < list->count; i++) {
        const struct buffer_spec *spec = &list->specs[i];
        if ((spec->kind != BUFFER_WEIGHTS && spec->kind != BUFFER_STREAMED) || !buffer_role_is_matrix(spec->role))
            continue;
        bool *types = spec->role == BUFFER_TABLE ? options->embed_types
                    : spec->layout == LAYOUT_R16 ? options->packed_types : options->weight_types;
        types[spec->type] = true;
        if (spec->row_count > options->most_rows)
            options->most_rows = spec->row_count;
    }
}

void ops_free(struct ops *ops) {
    if (ops)
        ops_release(ops);
    free(ops);
}

bool ops_launch(struct ops *ops, cl_kernel kernel, const char *name, const struct launch *launch,
                const struct kernel_argument *arguments, size_t argument_count, struct error *err) {
    for (size_t i = 0; i < argument_count; i++) {
        cl_int code = clSetKernelArg(kernel, (cl_uint)i, arguments[i].size, arguments[i].value);
        if (code != CL_SUCCESS)
            return opencl_failed(err, code, "cannot set argument %zu of the kernel '%s'", i, name);
    }
    size_t local[2] = { ops->is_cpu ? launch->cpu_local : launch->gpu_local, 1 };
    size_t global[2] = { (launch->items[0] + local[0] - 1) / local[0] * local[0], launch->items[1] };
    if (ops->rehearsed_items) {
        global[0] = (ops->rehearsed_items + local[0] - 1) / local[0] * local[0];
        global[1] = 1;
    }
    if (!global[0] || !global[1])
        return true;
    cl_int code = clEnqueueNDRangeKernel(ops->queue, kernel, 2, NULL, global, local, 0, NULL, NULL);
    return code == CL_SUCCESS || opencl_failed(err, code, "cannot launch the kernel '%s'", name);
}

bool ops_launch_fixed(struct ops *ops, enum fixed_kernel which, const struct launch *launch,
                      const struct kernel_argument *arguments, size_t count, struct error *err) {
    return ops_launch(ops, ops->fixed[which], fixed_kernels[which].name, launch, arguments, count, err);
}

/* The int8 form has blocks of 32. */
static bool check_blocks(const char *name, arg_int columns, struct error *err) {
    return columns % 32 == 0 ||
           error_set(err, ERROR_FAILED, "the kernel '%s' needs a multiple of 32 columns, not %d", name,
                     (int)columns);
}

bool op_rms_norm(struct ops *ops, cl_mem x, cl_mem weight, cl_mem out,
                 const struct rms_norm_args *args, struct error *err) {
    const struct kernel_argument arguments[] = {
        ARGUMENT(*args), ARGUMENT(x), ARGUMENT(weight), ARGUMENT(out)
    };
    const struct launch launch = { { (size_t)args->token_count, 1 }, 1, 64 };
    return ops_launch_fixed(ops, KERNEL_RMS_NORM, &launch, arguments, COUNT_OF(arguments), err);
}

bool op_rms_norm_q8(struct ops *ops, cl_mem x, cl_mem weight, const struct q8_buffers *out,
                    const struct rms_norm_args *args, struct error *err) {
    const struct kernel_argument arguments[] = {
        ARGUMENT(*args), ARGUMENT(x), ARGUMENT(weight), ARGUMENT(out->values), ARGUMENT(out->scales),
        ARGUMENT(out->sums)
    };
    const struct launch launch = { { (size_t)args->token_count, 1 }, 1, 64 };
    return check_blocks("rms_norm_q8", args->columns, err) &&
           ops_launch_fixed(ops, KERNEL_RMS_NORM_Q8, &launch, arguments, COUNT_OF(arguments), err);
}

bool op_quantise(struct ops *ops, cl_mem x, const struct q8_buffers *out,
                 const struct quantise_args *args, struct error *err) {
    const struct kernel_argument arguments[] = {
        ARGUMENT(*args), ARGUMENT(x), ARGUMENT(out->values), ARGUMENT(out->scales), ARGUMENT(out->sums)
    };
    const struct launch launch = { { (size_t)args->columns / 32, (size_t)args->token_count }, 32, 64 };
    return check_blocks("quantise", args->columns, err) &&
           ops_launch_fixed(ops, KERNEL_QUANTISE, &launch, arguments, COUNT_OF(arguments), err);
}

bool op_rope_kv(struct ops *ops, cl_mem qkv, cl_mem bias, cl_mem qk_norm, cl_mem rope,
                cl_mem positions, cl_mem sequences, cl_mem page_table, cl_mem k, cl_mem v,
                const struct rope_kv_args *args, struct error *err) {
    if ((args->has_bias && !bias) || (args->has_qk_norm && !qk_norm))
        return error_set(err, ERROR_FAILED, "the kernel 'rope_kv' was given no bias or no norm");
    /* Some drivers refuse a missing buffer, also one that is not read. */
    cl_mem some_bias = bias ? bias : rope, some_norm = qk_norm ? qk_norm : rope;
    const struct kernel_argument arguments[] = {
        ARGUMENT(*args), ARGUMENT(qkv), ARGUMENT(some_bias), ARGUMENT(some_norm), ARGUMENT(rope),
        ARGUMENT(positions), ARGUMENT(sequences), ARGUMENT(page_table), ARGUMENT(k), ARGUMENT(v)
    };
    size_t heads = (size_t)args->head_count + 2 * (size_t)args->kv_head_count;
    const struct launch launch = { { heads, (size_t)args->token_count }, 4, 64 };
    return ops_launch_fixed(ops, KERNEL_ROPE_KV, &launch, arguments, COUNT_OF(arguments), err);
}

bool op_swiglu(struct ops *ops, cl_mem wide, cl_mem out, const struct swiglu_args *args,
               struct error *err) {
    const struct kernel_argument arguments[] = { ARGUMENT(*args), ARGUMENT(wide), ARGUMENT(out) };
    size_t groups = ((size_t)args->intermediate + 31) / 32;
    const struct launch launch = { { groups, (size_t)args->token_count }, 16, 64 };
    return ops_launch_fixed(ops, KERNEL_SWIGLU, &launch, arguments, COUNT_OF(arguments), err);
}

bool op_swiglu_q8(struct ops *ops, cl_mem wide, const struct q8_buffers *out,
                  const struct swiglu_args *args, struct error *err) {
    const struct kernel_argument arguments[] = {
        ARGUMENT(*args), ARGUMENT(wide), ARGUMENT(out->values), ARGUMENT(out->scales), ARGUMENT(out->sums)
    };
    const struct launch launch = { { (size_t)args->intermediate / 32, (size_t)args->token_count }, 16, 64 };
    return check_blocks("swiglu_q8", args->intermediate, err) &&
           ops_launch_fixed(ops, KERNEL_SWIGLU_Q8, &launch, arguments, COUNT_OF(arguments), err);
}
