/* ops_rehearse: launch every kernel once so that its driver specialises it, then take the
 * binaries. Every kernel guards itself by the counts in its arguments: with no tokens and no
 * rows its work-items do nothing, however many there are, and no buffer is touched. */
#include "kernels/matmul_variants.h"
#include "kernels/ops_internal.h"

#include <stdio.h>

enum { DUMMY_BYTES = 4096 };

static bool rehearse_fixed(struct ops *ops, cl_mem dummy, struct error *err) {
    const struct q8_buffers q8 = { dummy, dummy, dummy };
    const struct rms_norm_args norm = { .columns = 32 };
    const struct quantise_args quantise = { .columns = 32 };
    const struct rope_kv_args rope = { .head_count = 1, .kv_head_count = 1 };
    const struct attention_args attention = { .head_count = 1, .kv_head_count = 1 };
    const struct swiglu_args swiglu = { .intermediate = 32 };
    return op_rms_norm(ops, dummy, dummy, dummy, &norm, err) &&
           op_rms_norm_q8(ops, dummy, dummy, &q8, &norm, err) && op_quantise(ops, dummy, &q8, &quantise, err) &&
           op_rope_kv(ops, dummy, NULL, NULL, dummy, dummy, dummy, dummy, dummy, dummy, &rope, err) &&
           op_attention(ops, dummy, dummy, dummy, dummy, dummy, dummy, dummy, 0, &attention, err) &&
           op_swiglu(ops, dummy, dummy, &swiglu, err) && op_swiglu_q8(ops, dummy, &q8, &swiglu, err);
}

/* Without rows: one token and several are different kernels. */
static bool rehearse_matmul(struct ops *ops, enum numeric_class numeric, const struct device_matrix *matrix,
                            struct error *err) {
    const struct q8_buffers q8 = { matrix->buffer, matrix->buffer, matrix->buffer };
    for (uint32_t tokens = 1; tokens <= 2; tokens++)
        if (numeric == NUMERIC_INT8 ? !op_matmul_q8(ops, matrix, &q8, matrix->buffer, tokens, 0, false, err)
                                    : !op_matmul(ops, matrix, matrix->buffer, matrix->buffer, tokens, 0, false, err))
            return false;
    return true;
}

static bool rehearse_matrices(struct ops *ops, cl_mem dummy, struct error *err) {
    for (int numeric = 0; numeric < 2; numeric++)
        for (int layout = 0; layout < LAYOUT_COUNT; layout++)
            for (int type = 0; type < TENSOR_TYPE_COUNT; type++) {
                const struct matmul_variant *variant = ops->matmul[numeric][layout][type].variant;
                const struct device_matrix matrix = { .buffer = dummy, .type = (enum tensor_type)type,
                                                      .layout = (enum weight_layout)layout };
                if (!variant)
                    continue;
                ops->rehearsed_items = 1;
                if (!rehearse_matmul(ops, (enum numeric_class)numeric, &matrix, err))
                    return false;
                ops->rehearsed_items = LARGE_GRID + 1;
                if (ops_grid_is_large(ops, variant) &&
                    !rehearse_matmul(ops, (enum numeric_class)numeric, &matrix, err))
                    return false;
            }
    ops->rehearsed_items = 1;
    for (int type = 0; type < TENSOR_TYPE_COUNT; type++) {
        const struct device_matrix table = { .buffer = dummy, .type = (enum tensor_type)type, .layout = LAYOUT_ROWS };
        if ((ops->embed[type] && !op_embed(ops, &table, dummy, dummy, 0, err)) ||
            (ops->expand[type] && !ops_expand(ops, &table, dummy, 0, 0, err)))
            return false;
    }
    return true;
}

bool ops_rehearse(struct ops *ops, struct error *err) {
    cl_int code;
    cl_mem dummy = clCreateBuffer(ops->context, CL_MEM_READ_WRITE, DUMMY_BYTES, NULL, &code);
    if (!dummy)
        return opencl_failed(err, code, "cannot create a buffer of %d bytes", DUMMY_BYTES);
    ops->rehearsed_items = 1;
    bool ok = rehearse_fixed(ops, dummy, err) && rehearse_matrices(ops, dummy, err);
    ops->rehearsed_items = 0;
    code = clFinish(ops->queue);
    clReleaseMemObject(dummy);
    return ok && (code == CL_SUCCESS || opencl_failed(err, code, "cannot try the kernels"));
}

/* A failure costs the next start time, not this one its kernels. */
void ops_keep_programs(struct ops *ops) {
    struct error reason = { 0 };
    if (!ops->store->keep_program)
        return;
    bool ok = ops_rehearse(ops, &reason);
    for (uint32_t i = 0; ok && i < ops->compiled_count; i++) {
        ok = kernel_program_keep(&ops->compiled[i], ops->id, ops->store, ops->device, &reason);
        ops->builds.kept += ok;
    }
    if (!ok && !ops->builds.reason[0])
        snprintf(ops->builds.reason, sizeof ops->builds.reason, "%s", reason.text);
}
