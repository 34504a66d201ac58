#include "runtime/shard_loader.h"

#include <stdlib.h>

bool shard_list_buffers(const struct model *model, const bool *held, const struct buffer_options *options,
                        struct buffer_list *list, struct error *err) {
    for (uint32_t index = 0; index < unit_count(model); index++)
        if (held[index] && !unit_buffers(model, unit_at(model, index), options, list, err))
            return false;
    return device_buffers(model, held, options, list, err);
}

static bool is_matrix(const struct buffer_spec *spec) {
    switch (spec->role) {
    case BUFFER_QKV: case BUFFER_O: case BUFFER_GATE_UP: case BUFFER_DOWN: case BUFFER_TABLE: case BUFFER_HEAD:
        return true;
    default:
        return false;
    }
}

/* Rows [row_begin, row_begin + row_count) of the refs laid one after the other. */
static bool read_matrix(const struct shard_request *request, const struct buffer_spec *spec,
                        const struct weight_ref *const *refs, uint32_t ref_count, uint8_t *target,
                        uint64_t *bytes_read, struct error *err) {
    uint64_t begin = spec->row_begin, left = spec->row_count, ref_begin = 0;
    for (uint32_t i = 0; i < ref_count && left > 0; ref_begin += refs[i++]->row_count) {
        const struct weight_ref *ref = refs[i];
        if (begin >= ref_begin + ref->row_count)
            continue;
        uint64_t skip = begin - ref_begin, rows = ref->row_count - skip < left ? ref->row_count - skip : left;
        const struct model_tensor *tensor = &request->model->tensors[ref->tensor];
        uint64_t bytes;
        if (tensor->type != spec->type || ref->column_count != spec->column_count ||
            !tensor_bytes(tensor->type, rows, ref->column_count, &bytes))
            return error_set(err, ERROR_FAILED, "tensor '%s' does not have the shape of its buffer", tensor->name);
        if (!weight_read_rows(request->model, ref, skip, rows, target, bytes_read, err))
            return false;
        target += bytes;
        begin += rows;
        left -= rows;
    }
    return left == 0 || error_set(err, ERROR_FAILED, "a matrix of the model lacks %llu rows",
                                  (unsigned long long)left);
}

/* Norms and biases, one after the other, as float32. */
static bool read_vectors(const struct shard_request *request, const struct buffer_spec *spec,
                         const struct weight_ref *const *refs, uint32_t ref_count, float *target,
                         uint64_t *bytes_read, struct error *err) {
    uint64_t room = spec->used_bytes / sizeof *target;
    for (uint32_t i = 0; i < ref_count; i++) {
        const struct model_tensor *tensor = &request->model->tensors[refs[i]->tensor];
        uint64_t values = refs[i]->row_count * refs[i]->column_count;
        uint64_t bytes = model_ref_bytes(request->model, refs[i]);
        if (values > room)
            return error_set(err, ERROR_FAILED, "tensor '%s' does not have the shape of its buffer", tensor->name);
        void *stored = malloc(bytes + 1);
        if (!stored)
            return error_set(err, ERROR_FAILED, "cannot read tensor '%s': out of memory", tensor->name);
        bool ok = weight_read_rows(request->model, refs[i], 0, refs[i]->row_count, stored, bytes_read, err);
        if (ok)
            dequantise(tensor->type, stored, target, values);
        free(stored);
        if (!ok)
            return false;
        target += values;
        room -= values;
    }
    return room == 0 || error_set(err, ERROR_FAILED, "a vector of the model lacks %llu values",
                                  (unsigned long long)room);
}

static bool load_weights(struct device_memory *memory, const struct shard_request *request,
                         const struct buffer_spec *spec, cl_mem buffer, struct error *err) {
    const struct weight_ref *refs[3];
    uint32_t ref_count = unit_matrix_refs(request->model, unit_at(request->model, spec->unit), spec->role, refs);
    cl_int code;
    void *bytes = clEnqueueMapBuffer(request->queue, buffer, CL_TRUE, CL_MAP_WRITE_INVALIDATE_REGION, 0,
                                     spec->used_bytes, 0, NULL, NULL, &code);
    if (!bytes)
        return opencl_failed(err, code, "cannot map %llu bytes of weights on '%s'",
                             (unsigned long long)spec->used_bytes, request->device);
    bool ok = is_matrix(spec)
        ? read_matrix(request, spec, refs, ref_count, bytes, &memory->bytes_loaded, err)
        : read_vectors(request, spec, refs, ref_count, bytes, &memory->bytes_loaded, err);
    code = clEnqueueUnmapMemObject(request->queue, buffer, bytes, 0, NULL, NULL);
    if (ok && code != CL_SUCCESS)
        return opencl_failed(err, code, "cannot upload weights to '%s'", request->device);
    return ok;
}

static bool create(struct device_memory *memory, const struct shard_request *request, size_t index,
                   struct error *err) {
    const struct buffer_spec *spec = &memory->list.specs[index];
    cl_mem_flags flags = CL_MEM_READ_WRITE;
    if (spec->kind == BUFFER_WEIGHTS)
        flags = CL_MEM_READ_ONLY;
    else if (spec->kind == BUFFER_STAGING)
        flags |= CL_MEM_ALLOC_HOST_PTR;   /* pinned, where that matters */
    cl_int code;
    memory->buffers[index] = clCreateBuffer(request->context, flags, spec->bytes, NULL, &code);
    if (!memory->buffers[index])
        return opencl_failed(err, code, "cannot allocate %.1f MB (%s) on '%s'; plan it with a lower --max-memory",
                             1e-6 * (double)spec->bytes, buffer_role_name(spec->role), request->device);
    memory->bytes_allocated += spec->bytes;
    return true;
}

static bool map_stage(struct device_memory *memory, const struct shard_request *request,
                      const struct buffer_spec *spec, cl_mem buffer, struct error *err) {
    uint32_t slot = memory->stage_buffers[0] != NULL;
    if (memory->stage_buffers[slot])
        return error_set(err, ERROR_FAILED, "more staging than expected is listed for '%s'", request->device);
    cl_int code;
    memory->stage[slot] = clEnqueueMapBuffer(request->queue, buffer, CL_TRUE, CL_MAP_READ | CL_MAP_WRITE, 0,
                                             spec->used_bytes, 0, NULL, NULL, &code);
    if (!memory->stage[slot])
        return opencl_failed(err, code, "cannot map the staging of '%s'", request->device);
    memory->stage_buffers[slot] = buffer;
    return true;
}

/* Put one buffer where the forward pass looks for it. */
static void enter(struct device_memory *memory, const struct buffer_spec *spec, cl_mem buffer,
                  struct device_matrix *matrix) {
    if (spec->kind == BUFFER_SCRATCH) {
        memory->shared[spec->role] = buffer;
        return;
    }
    struct unit_memory *unit = &memory->units[spec->unit];
    if (is_matrix(spec)) {
        *matrix = (struct device_matrix){
            .buffer = buffer, .type = spec->type, .rows = (uint32_t)spec->row_count,
            .columns = (uint32_t)spec->column_count, .row_offset = (uint32_t)spec->row_begin,
        };
        bool is_output = spec->role == BUFFER_O || spec->role == BUFFER_DOWN;
        struct matrix_list *list = is_output ? &unit->output : &unit->input;
        if (list->count++ == 0)
            list->entries = matrix;   /* the list has the entries of a matrix together */
        return;
    }
    switch (spec->role) {
    case BUFFER_NORM: unit->norm = buffer; break;
    case BUFFER_QKV_BIAS: unit->qkv_bias = buffer; break;
    case BUFFER_QK_NORM: unit->qk_norm = buffer; break;
    case BUFFER_K: unit->k = buffer; break;
    case BUFFER_V: unit->v = buffer; break;
    default: break;
    }
}

bool shard_load(struct device_memory *memory, const struct shard_request *request, struct error *err) {
    *memory = (struct device_memory){ 0 };
    if (!shard_list_buffers(request->model, request->held, request->options, &memory->list, err))
        return false;
    size_t count = memory->list.count;
    memory->units = calloc(unit_count(request->model), sizeof *memory->units);
    memory->buffers = calloc(count + 1, sizeof(cl_mem));
    memory->matrices = calloc(count + 1, sizeof *memory->matrices);
    if (!memory->units || !memory->buffers || !memory->matrices)
        return error_set(err, ERROR_FAILED, "cannot list the buffers of '%s': out of memory", request->device);

    for (size_t i = 0; i < count; i++) {
        const struct buffer_spec *spec = &memory->list.specs[i];
        if (request->interrupted && *request->interrupted)
            return error_set(err, ERROR_INTERRUPTED, "interrupted while loading '%s'", request->device);
        if (!create(memory, request, i, err))
            return false;
        cl_mem buffer = memory->buffers[i];
        if (spec->kind == BUFFER_STAGING) {
            if (!map_stage(memory, request, spec, buffer, err))
                return false;
            continue;
        }
        enter(memory, spec, buffer, &memory->matrices[i]);
        if (spec->kind == BUFFER_WEIGHTS && !load_weights(memory, request, spec, buffer, err))
            return false;
    }
    memory->act_q8 = (struct q8_buffers){ memory->shared[BUFFER_ACT_Q8], memory->shared[BUFFER_ACT_SCALE],
                                          memory->shared[BUFFER_ACT_SUM] };
    cl_int code = clFinish(request->queue);
    return code == CL_SUCCESS || opencl_failed(err, code, "cannot upload weights to '%s'", request->device);
}

void device_memory_release(struct device_memory *memory, cl_command_queue queue) {
    for (int slot = 0; slot < STAGE_COUNT; slot++)
        if (memory->stage_buffers[slot])
            clEnqueueUnmapMemObject(queue, memory->stage_buffers[slot], memory->stage[slot], 0, NULL, NULL);
    if (queue)
        clFinish(queue);
    for (size_t i = 0; memory->buffers && i < memory->list.count; i++)
        if (memory->buffers[i])
            clReleaseMemObject(memory->buffers[i]);
    free(memory->buffers);
    free(memory->matrices);
    free(memory->units);
    buffer_list_release(&memory->list);
    *memory = (struct device_memory){ 0 };
}
