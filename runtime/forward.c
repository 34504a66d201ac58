#include "runtime/forward.h"

#include <math.h>

static bool write_to(const struct forward *forward, cl_mem buffer, enum buffer_role role, const void *values,
                     size_t bytes, struct error *err) {
    if (!buffer)
        return true;   /* no unit of this device reads it */
    cl_int code = clEnqueueWriteBuffer(forward->queue, buffer, CL_FALSE, 0, bytes, values, 0, NULL, NULL);
    return code == CL_SUCCESS ||
           opencl_failed(err, code, "cannot write %s to '%s'", buffer_role_name(role), forward->device);
}

static bool write_values(const struct forward *forward, enum buffer_role role, const void *values, size_t bytes,
                         struct error *err) {
    return write_to(forward, forward->memory->shared[role], role, values, bytes, err);
}

bool forward_write_input(const struct forward *forward, const struct forward_input *input, struct error *err) {
    size_t n = input->token_count;
    return write_values(forward, BUFFER_TOKENS, input->tokens, n * sizeof(int32_t), err) &&
           write_values(forward, BUFFER_POSITIONS, input->positions, n * sizeof(int32_t), err) &&
           write_values(forward, BUFFER_SEQUENCES, input->sequences, n * sizeof(int32_t), err) &&
           write_values(forward, BUFFER_ROPE, input->rope,
                        n * forward->model->rope.rotary_dim * sizeof(float), err);
}

bool forward_write_pages(const struct forward *forward, const int32_t *table, uint32_t entries,
                         struct error *err) {
    return write_values(forward, BUFFER_PAGES, table, entries * sizeof *table, err);
}

bool forward_write_residual(const struct forward *forward, const float *residual, uint32_t token_count,
                            struct error *err) {
    return write_to(forward, forward->residual, BUFFER_RESIDUAL, residual,
                    (size_t)token_count * forward->model->hidden_size * sizeof *residual, err);
}

/* Whether a matrix takes its input in blocks of int8. */
static bool takes_q8(const struct forward *forward, const struct device_matrix *matrix) {
    return forward->numeric == NUMERIC_INT8 && tensor_type_info(matrix->type)->is_quantised;
}

/* Fewer tokens are not worth making floats of the weights. */
#define GEMM_LEAST_TOKENS 32u

static bool takes_gemm(const struct forward *forward, const struct device_matrix *matrix, uint32_t n) {
    return forward->gemm_types && forward->gemm_types[matrix->type] && matrix->layout == LAYOUT_ROWS &&
           forward->memory->shared[BUFFER_GEMM] && n >= GEMM_LEAST_TOKENS;
}

/* The forms that the buffers of a matrix, which may differ in type, want their input in. */
struct input_forms { bool as_float, as_q8; };

static struct input_forms input_forms(const struct forward *forward, const struct matrix_list *list) {
    struct input_forms forms = { false, false };
    for (uint32_t i = 0; i < list->count; i++)
        *(takes_q8(forward, &list->entries[i]) ? &forms.as_q8 : &forms.as_float) = true;
    return forms;
}

/* The matrix with its buffer; a streamed one is waited for. give_back() when what reads
 * it is enqueued. */
static bool take(const struct forward *forward, const struct device_matrix *entry, struct device_matrix *matrix,
                 struct error *err) {
    const struct device_memory *memory = forward->memory;
    *matrix = *entry;
    if (!entry->buffer)
        matrix->buffer = weight_window_take(memory->window, (size_t)(entry - memory->matrices), err);
    return matrix->buffer != NULL;
}

static bool give_back(const struct forward *forward, const struct device_matrix *entry, struct error *err) {
    return entry->buffer || weight_window_return(forward->memory->window, err);
}

/* y [n][y_stride] (+)= W x, where x is in the act buffers in the forms wanted. */
static bool multiply(const struct forward *forward, const struct matrix_list *list, cl_mem y, uint32_t y_stride,
                     uint32_t n, bool accumulate, struct error *err) {
    const struct device_memory *memory = forward->memory;
    for (uint32_t i = 0; i < list->count; i++) {
        struct device_matrix matrix;
        if (!take(forward, &list->entries[i], &matrix, err))
            return false;
        bool ok = takes_q8(forward, &matrix)
            ? op_matmul_q8(forward->ops, &matrix, &memory->act_q8, y, n, y_stride, accumulate, err)
            : takes_gemm(forward, &matrix, n)
            ? op_gemm(forward->ops, &matrix, memory->shared[BUFFER_ACT], y, memory->shared[BUFFER_GEMM],
                      memory->gemm_bytes, n, y_stride, accumulate, err)
            : op_matmul(forward->ops, &matrix, memory->shared[BUFFER_ACT], y, n, y_stride, accumulate, err);
        if (!give_back(forward, &list->entries[i], ok ? err : NULL) || !ok)
            return false;
    }
    return true;
}

/* act = the normed residual, in the forms that `list` takes. */
static bool norm(const struct forward *forward, cl_mem weight, const struct matrix_list *list, uint32_t n,
                 struct error *err) {
    const struct device_memory *memory = forward->memory;
    struct rms_norm_args args = {
        .token_count = (arg_int)n, .columns = (arg_int)forward->model->hidden_size,
        .epsilon = forward->model->norm_epsilon,
    };
    struct input_forms forms = input_forms(forward, list);
    cl_mem residual = forward->residual;
    return (!forms.as_float ||
            op_rms_norm(forward->ops, residual, weight, memory->shared[BUFFER_ACT], &args, err)) &&
           (!forms.as_q8 || op_rms_norm_q8(forward->ops, residual, weight, &memory->act_q8, &args, err));
}

static bool embed(const struct forward *forward, const struct unit_memory *unit, uint32_t n, struct error *err) {
    const struct device_memory *memory = forward->memory;
    for (uint32_t i = 0; i < unit->input.count; i++) {
        struct device_matrix table;
        if (!take(forward, &unit->input.entries[i], &table, err))
            return false;
        bool ok = op_embed(forward->ops, &table, memory->shared[BUFFER_TOKENS], forward->residual, n, err);
        if (!give_back(forward, &unit->input.entries[i], ok ? err : NULL) || !ok)
            return false;
    }
    return true;
}

/* act [n][inner_count] = attention over the heads that the device has. */
static bool attention_inner(const struct forward *forward, const struct unit_memory *unit, uint32_t n,
                            struct error *err) {
    const struct model *model = forward->model;
    const struct device_memory *memory = forward->memory;
    const struct unit_slice *slice = &unit->slice;
    cl_mem act = memory->shared[BUFFER_ACT], qkv = memory->shared[BUFFER_WIDE];
    cl_mem positions = memory->shared[BUFFER_POSITIONS], sequences = memory->shared[BUFFER_SEQUENCES];
    cl_mem pages = memory->shared[BUFFER_PAGES];
    uint32_t qkv_rows = (slice->head_count + 2 * slice->kv_head_count) * model->head_dim;

    struct rope_kv_args rope = {
        .token_count = (arg_int)n, .head_count = (arg_int)slice->head_count,
        .kv_head_count = (arg_int)slice->kv_head_count, .head_dim = (arg_int)model->head_dim,
        .rotary_dim = (arg_int)model->rope.rotary_dim, .page_columns = (arg_int)forward->page_columns,
        .has_bias = unit->qkv_bias != NULL, .has_qk_norm = unit->qk_norm != NULL,
        .norm_epsilon = model->norm_epsilon,
    };
    struct attention_args attend = {
        .token_count = (arg_int)n, .head_count = (arg_int)slice->head_count,
        .kv_head_count = (arg_int)slice->kv_head_count, .head_dim = (arg_int)model->head_dim,
        .qkv_stride = (arg_int)qkv_rows, .page_columns = (arg_int)forward->page_columns,
        .window = (arg_int)model->sliding_window, .scale = (float)(1.0 / sqrt(model->head_dim)),
        .key_count = (arg_int)forward->key_count,
    };
    return norm(forward, unit->norm, &unit->input, n, err) &&
           multiply(forward, &unit->input, qkv, qkv_rows, n, false, err) &&
           op_rope_kv(forward->ops, qkv, unit->qkv_bias, unit->qk_norm, memory->shared[BUFFER_ROPE], positions,
                      sequences, pages, unit->k, unit->v, &rope, err) &&
           op_attention(forward->ops, qkv, unit->k, unit->v, positions, sequences, pages, act, memory->act_values,
                        &attend, err);
}

/* residual += W act, where act [n][inner_total] is there as float. */
static bool add_output(const struct forward *forward, const struct unit_memory *unit, uint32_t n,
                       struct error *err) {
    const struct device_memory *memory = forward->memory;
    struct quantise_args quantised = { .token_count = (arg_int)n, .columns = (arg_int)unit->slice.inner_total };
    return (!input_forms(forward, &unit->output).as_q8 ||
            op_quantise(forward->ops, memory->shared[BUFFER_ACT], &memory->act_q8, &quantised, err)) &&
           multiply(forward, &unit->output, forward->residual, forward->model->hidden_size, n, true, err);
}

static bool attention(const struct forward *forward, const struct unit_memory *unit, uint32_t n,
                      struct error *err) {
    return attention_inner(forward, unit, n, err) && add_output(forward, unit, n, err);
}

/* wide [n][2][inner_count] = gate and up of the columns that the device has. */
static bool ffn_input(const struct forward *forward, const struct unit_memory *unit, uint32_t n, struct error *err) {
    return norm(forward, unit->norm, &unit->input, n, err) &&
           multiply(forward, &unit->input, forward->memory->shared[BUFFER_WIDE], 2 * unit->slice.inner_count, n,
                    false, err);
}

/* act [n][inner_count], as float: what another device quantises is the whole activation. */
static bool ffn_inner(const struct forward *forward, const struct unit_memory *unit, uint32_t n, struct error *err) {
    const struct device_memory *memory = forward->memory;
    struct swiglu_args args = { .token_count = (arg_int)n, .intermediate = (arg_int)unit->slice.inner_count };
    return ffn_input(forward, unit, n, err) &&
           op_swiglu(forward->ops, memory->shared[BUFFER_WIDE], memory->shared[BUFFER_ACT], &args, err);
}

static bool ffn(const struct forward *forward, const struct unit_memory *unit, uint32_t n, struct error *err) {
    const struct model *model = forward->model;
    const struct device_memory *memory = forward->memory;
    cl_mem wide = memory->shared[BUFFER_WIDE];
    struct swiglu_args args = { .token_count = (arg_int)n, .intermediate = (arg_int)model->intermediate_size };
    struct input_forms forms = input_forms(forward, &unit->output);
    return ffn_input(forward, unit, n, err) &&
           (!forms.as_float || op_swiglu(forward->ops, wide, memory->shared[BUFFER_ACT], &args, err)) &&
           (!forms.as_q8 || op_swiglu_q8(forward->ops, wide, &memory->act_q8, &args, err)) &&
           multiply(forward, &unit->output, forward->residual, model->hidden_size, n, true, err);
}

static bool named_unit(const struct forward *forward, uint32_t unit, struct error *err) {
    char name[24];
    unit_name(unit_at(forward->model, unit), name);
    return error_prefix(err, "'%s' on '%s'", name, forward->device);
}

bool forward_unit(const struct forward *forward, uint32_t unit, uint32_t token_count, struct error *err) {
    const struct unit_memory *memory = &forward->memory->units[unit];
    struct unit place = unit_at(forward->model, unit);
    bool ok = place.kind == UNIT_EMBED ? embed(forward, memory, token_count, err)
            : place.kind == UNIT_ATTN  ? attention(forward, memory, token_count, err)
                                       : ffn(forward, memory, token_count, err);
    return ok || named_unit(forward, unit, err);
}

/* Columns [begin, begin + count) of [n][columns] floats on the host, and [n][count] in the
 * buffer, whose rows are buffer_columns apart and begin at column buffer_begin. */
struct column_copy {
    size_t begin, count, columns, buffer_begin, buffer_columns, n;
};

static bool copy_columns(const struct forward *forward, cl_mem buffer, float *host, const struct column_copy *copy,
                         bool is_write, struct error *err) {
    const size_t value = sizeof(float);
    const size_t buffer_origin[3] = { copy->buffer_begin * value, 0, 0 }, host_origin[3] = { copy->begin * value, 0, 0 };
    const size_t region[3] = { copy->count * value, copy->n, 1 };
    const size_t buffer_pitch = copy->buffer_columns * value, host_pitch = copy->columns * value;
    cl_int code = is_write
        ? clEnqueueWriteBufferRect(forward->queue, buffer, CL_FALSE, buffer_origin, host_origin, region,
                                   buffer_pitch, 0, host_pitch, 0, host, 0, NULL, NULL)
        : clEnqueueReadBufferRect(forward->queue, buffer, CL_TRUE, buffer_origin, host_origin, region,
                                  buffer_pitch, 0, host_pitch, 0, host, 0, NULL, NULL);
    return code == CL_SUCCESS ||
           opencl_failed(err, code, is_write ? "cannot write a slice of values to '%s'"
                                           : "cannot read a slice of values from '%s'", forward->device);
}

bool forward_slice_inner(const struct forward *forward, uint32_t unit, uint32_t token_count, float *activation,
                         struct error *err) {
    const struct unit_memory *memory = &forward->memory->units[unit];
    const struct unit_slice *slice = &memory->slice;
    const struct column_copy copy = { .begin = slice->inner_begin, .count = slice->inner_count, .n = token_count,
                                      .columns = slice->inner_total, .buffer_columns = slice->inner_count };
    bool is_attn = unit_at(forward->model, unit).kind == UNIT_ATTN;
    return ((is_attn ? attention_inner : ffn_inner)(forward, memory, token_count, err) &&
            copy_columns(forward, forward->memory->shared[BUFFER_ACT], activation, &copy, false, err)) ||
           named_unit(forward, unit, err);
}

static struct column_copy residual_columns(const struct forward *forward, uint32_t unit, uint32_t token_count) {
    const struct unit_slice *slice = &forward->memory->units[unit].slice;
    const size_t hidden = forward->model->hidden_size;
    return (struct column_copy){ .begin = slice->output_begin, .count = slice->output_count, .columns = hidden,
                                 .buffer_begin = slice->output_begin, .buffer_columns = hidden, .n = token_count };
}

bool forward_write_residual_slice(const struct forward *forward, uint32_t unit, const float *residual,
                                  uint32_t token_count, struct error *err) {
    const struct column_copy copy = residual_columns(forward, unit, token_count);
    /* The cast: a write only reads it. */
    return copy.count == 0 ||
           copy_columns(forward, forward->residual, (float *)(uintptr_t)residual, &copy, true, err);
}

bool forward_slice_output(const struct forward *forward, uint32_t unit, uint32_t token_count,
                          const float *activation, float *residual, struct error *err) {
    const struct unit_memory *memory = &forward->memory->units[unit];
    const struct column_copy copy = residual_columns(forward, unit, token_count);
    if (copy.count == 0)
        return true;
    return (write_values(forward, BUFFER_ACT, activation,
                         (size_t)token_count * memory->slice.inner_total * sizeof *activation, err) &&
            add_output(forward, memory, token_count, err) &&
            copy_columns(forward, forward->residual, residual, &copy, false, err)) ||
           named_unit(forward, unit, err);
}

bool forward_head(const struct forward *forward, uint32_t unit, const uint32_t *wanted,
                  uint32_t wanted_count, float *logits, struct error *err) {
    const struct model *model = forward->model;
    const struct unit_memory *head = &forward->memory->units[unit];
    cl_mem residual = forward->residual;
    cl_mem result = forward->memory->shared[BUFFER_LOGITS];
    const struct unit_slice *slice = &head->slice;
    size_t row_bytes = model->hidden_size * sizeof(float), logit_bytes = model->vocab_size * sizeof(float);

    for (uint32_t done = 0, rows; done < wanted_count; done += rows) {
        rows = wanted_count - done < forward->logit_rows ? wanted_count - done : forward->logit_rows;
        /* Gather the wanted rows at the front, in place: wanted is ascending, so that row i is
         * never one that is still to be moved. */
        for (uint32_t i = 0; i < rows; i++) {
            uint32_t row = wanted[done + i];
            cl_int code = row == i ? CL_SUCCESS
                : clEnqueueCopyBuffer(forward->queue, residual, residual, row * row_bytes, i * row_bytes,
                                      row_bytes, 0, NULL, NULL);
            if (code != CL_SUCCESS)
                return opencl_failed(err, code, "'head' on '%s': cannot gather rows", forward->device);
        }
        if (!norm(forward, head->norm, &head->input, rows, err) ||
            !multiply(forward, &head->input, result, slice->output_count, rows, false, err))
            return error_prefix(err, "'head' on '%s'", forward->device);
        bool is_last = done + rows == wanted_count;
        const struct column_copy copy = { .begin = slice->output_begin, .count = slice->output_count, .n = rows,
                                          .columns = model->vocab_size, .buffer_columns = slice->output_count };
        if (!slice->is_whole) {
            if (!copy_columns(forward, result, logits + (size_t)done * model->vocab_size, &copy, false, err))
                return false;
            continue;
        }
        cl_int code = clEnqueueReadBuffer(forward->queue, result, is_last, 0, rows * logit_bytes,
                                          logits + (size_t)done * model->vocab_size, 0, NULL, NULL);
        if (code != CL_SUCCESS)
            return opencl_failed(err, code, "cannot read logits from '%s'", forward->device);
    }
    return true;
}

bool forward_copy_page(const struct forward *forward, int32_t from, int32_t to, uint64_t head_bytes,
                       struct error *err) {
    for (uint32_t unit = 0; unit < unit_count(forward->model); unit++) {
        const struct unit_memory *memory = &forward->memory->units[unit];
        const uint64_t page_bytes = memory->slice.kv_head_count * head_bytes;
        cl_mem pages[2] = { memory->k, memory->v };
        for (int i = 0; i < 2; i++) {
            cl_int code = !pages[i] ? CL_SUCCESS
                : clEnqueueCopyBuffer(forward->queue, pages[i], pages[i], (uint64_t)from * page_bytes,
                                      (uint64_t)to * page_bytes, page_bytes, 0, NULL, NULL);
            if (code != CL_SUCCESS)
                return opencl_failed(err, code, "cannot copy a KV page on '%s'", forward->device);
        }
    }
    return true;
}

/* What lies in `target` where it is read, in `source` where it is written. */
static bool move_page(const struct forward *forward, int32_t page, uint64_t head_bytes, uint8_t *target,
                      const uint8_t *source, struct error *err) {
    const struct model *model = forward->model;
    const uint64_t group = model->head_count / model->kv_head_count * (uint64_t)model->head_dim;
    uint64_t at = 0;
    cl_int code = CL_SUCCESS;
    for (uint32_t unit = 0; unit < unit_count(model) && code == CL_SUCCESS; unit++) {
        if (unit_at(model, unit).kind != UNIT_ATTN)
            continue;
        const struct unit_memory *memory = &forward->memory->units[unit];
        const uint64_t bytes = memory->slice.kv_head_count * head_bytes, from = (uint64_t)page * bytes;
        const uint64_t first = memory->slice.inner_begin / group * head_bytes;   /* of its heads */
        cl_mem pages[2] = { memory->k, memory->v };
        for (int i = 0; i < 2; i++, at += model->kv_head_count * head_bytes) {
            if (!pages[i] || code != CL_SUCCESS)
                continue;
            code = target ? clEnqueueReadBuffer(forward->queue, pages[i], CL_FALSE, from, bytes,
                                                target + at + first, 0, NULL, NULL)
                          : clEnqueueWriteBuffer(forward->queue, pages[i], CL_FALSE, from, bytes,
                                                 source + at + first, 0, NULL, NULL);
        }
    }
    /* After a failure, too: what is queued uses the caller's memory. */
    cl_int finished = clFinish(forward->queue);
    code = code == CL_SUCCESS ? finished : code;
    return code == CL_SUCCESS || opencl_failed(err, code, "cannot move a KV page of '%s'", forward->device);
}

bool forward_read_page(const struct forward *forward, int32_t page, uint64_t head_bytes, uint8_t *bytes,
                       struct error *err) {
    return move_page(forward, page, head_bytes, bytes, NULL, err);
}

bool forward_write_page(const struct forward *forward, int32_t page, uint64_t head_bytes, const uint8_t *bytes,
                        struct error *err) {
    return move_page(forward, page, head_bytes, NULL, bytes, err);
}
