#include "runtime/shard_loader.h"

#include "common/unit_weights.h"

#include <stdlib.h>

bool shard_list_buffers(const struct model *model, const struct part_range *parts, const enum weight_layout *layouts,
                        const bool *streamed, const struct buffer_options *options, struct buffer_list *list,
                        struct error *err) {
    struct buffer_options laid_out = *options;
    for (uint32_t index = 0; index < unit_count(model); index++) {
        laid_out.layout = layouts[index];
        laid_out.streamed = streamed[index];
        if (parts[index].begin < parts[index].end &&
            !unit_part_buffers(model, unit_at(model, index), parts[index], &laid_out, list, err))
            return false;
    }
    return device_part_buffers(model, parts, options, list, err) && window_buffers(model, options, list, err);
}

static bool create(struct device_memory *memory, const struct shard_request *request, size_t index,
                   struct error *err) {
    const struct buffer_spec *spec = &memory->list.specs[index];
    cl_mem_flags flags = spec->role == BUFFER_WINDOW ? CL_MEM_READ_ONLY : CL_MEM_READ_WRITE;
    float *stage = spec->role == BUFFER_STAGE ? request->stages[memory->stage_buffers[0] != NULL] : NULL;
    cl_mem buffer = NULL;
    if (stage)
        buffer = clCreateBuffer(request->context, flags | CL_MEM_USE_HOST_PTR, spec->bytes, stage, NULL);
    if (spec->kind == BUFFER_STAGING)
        flags |= CL_MEM_ALLOC_HOST_PTR;   /* pinned, where that matters */
    if (!buffer)
        buffer = spec->kind == BUFFER_WEIGHTS
            ? weight_loader_buffer(&memory->weights, spec, err)
            : device_buffer_new(request->context, flags, spec, request->device, err);
    memory->buffers[index] = buffer;
    memory->bytes_allocated += buffer ? spec->bytes : 0;
    return buffer != NULL;
}

static bool open_window(struct device_memory *memory, const struct shard_request *request, struct error *err) {
    struct window_request window = { .list = &memory->list, .loader = &memory->weights, .queue = request->queue,
                                     .device = request->device };
    uint32_t found = 0;
    for (size_t i = 0; i < memory->list.count; i++)
        if (memory->list.specs[i].role == BUFFER_WINDOW && found < 2)
            window.buffers[found++] = memory->buffers[i];
    memory->window = found ? weight_window_open(&window, err) : NULL;
    return !found || memory->window;
}

static bool map_stage(struct device_memory *memory, const struct shard_request *request,
                      const struct buffer_spec *spec, cl_mem buffer, struct error *err) {
    cl_mem *buffers = spec->role == BUFFER_GATHER ? memory->gather_buffers : memory->stage_buffers;
    float **mapped = spec->role == BUFFER_GATHER ? memory->gather : memory->stage;
    uint32_t slot = buffers[0] != NULL;
    if (buffers[slot])
        return error_set(err, ERROR_FAILED, "more staging than expected is listed for '%s'", request->device);
    cl_int code;
    mapped[slot] = clEnqueueMapBuffer(request->queue, buffer, CL_TRUE, CL_MAP_READ | CL_MAP_WRITE, 0,
                                      spec->used_bytes, 0, NULL, NULL, &code);
    if (!mapped[slot])
        return opencl_failed(err, code, "cannot map the staging of '%s'", request->device);
    buffers[slot] = buffer;
    return true;
}

/* Put one buffer where the forward pass looks for it. */
static void enter(struct device_memory *memory, const struct buffer_spec *spec, cl_mem buffer,
                  struct device_matrix *matrix) {
    if (spec->kind == BUFFER_SCRATCH) {
        memory->shared[spec->role] = buffer;
        if (spec->role == BUFFER_GEMM)
            memory->gemm_bytes = spec->used_bytes;
        if (spec->role == BUFFER_ACT)
            memory->act_values = spec->used_bytes / sizeof (float);
        return;
    }
    struct unit_memory *unit = &memory->units[spec->unit];
    if (buffer_role_is_matrix(spec->role)) {
        *matrix = (struct device_matrix){
            .buffer = buffer, .type = spec->type, .layout = spec->layout,
            .rows = (uint32_t)spec->row_count, .columns = (uint32_t)spec->column_count,
            .row_offset = (uint32_t)spec->row_target,
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
    memory->weights = (struct weight_loader){
        .model = request->model, .artifacts = request->artifacts, .context = request->context,
        .queue = request->queue, .device = request->device, .in_place = request->in_place,
    };
    if (!shard_list_buffers(request->model, request->parts, request->layouts, request->streamed,
                            request->options, &memory->list, err))
        return false;
    size_t count = memory->list.count;
    memory->units = calloc(unit_count(request->model), sizeof *memory->units);
    memory->buffers = calloc(count + 1, sizeof(cl_mem));
    memory->matrices = calloc(count + 1, sizeof *memory->matrices);
    if (!memory->units || !memory->buffers || !memory->matrices)
        return error_set(err, ERROR_FAILED, "cannot list the buffers of '%s': out of memory", request->device);

    for (uint32_t unit = 0; unit < unit_count(request->model); unit++)
        if (request->parts[unit].begin < request->parts[unit].end)
            memory->units[unit].slice = unit_slice_of(request->model, unit_at(request->model, unit),
                                                      request->parts[unit]);
    for (size_t i = 0; i < count; i++) {
        const struct buffer_spec *spec = &memory->list.specs[i];
        if (request->interrupted && *request->interrupted)
            return error_set(err, ERROR_INTERRUPTED, "interrupted while loading '%s'", request->device);
        if (spec->kind == BUFFER_STREAMED)
            memory->weights.stored_bytes += unit_stored_bytes(request->model, spec);
        else if (!create(memory, request, i, err))
            return false;
        cl_mem buffer = memory->buffers[i];
        if (spec->role == BUFFER_WINDOW)
            continue;
        if (spec->kind == BUFFER_STAGING) {
            if (!map_stage(memory, request, spec, buffer, err))
                return false;
            continue;
        }
        enter(memory, spec, buffer, &memory->matrices[i]);
    }
    memory->act_q8 = (struct q8_buffers){ memory->shared[BUFFER_ACT_Q8], memory->shared[BUFFER_ACT_SCALE],
                                          memory->shared[BUFFER_ACT_SUM] };
    cl_int code = clFinish(request->queue);
    return (code == CL_SUCCESS || opencl_failed(err, code, "cannot upload weights to '%s'", request->device)) &&
           open_window(memory, request, err);
}

void device_memory_release(struct device_memory *memory, cl_command_queue queue) {
    weight_window_close(memory->window);
    for (int slot = 0; slot < STAGE_COUNT; slot++) {
        if (memory->stage_buffers[slot])
            clEnqueueUnmapMemObject(queue, memory->stage_buffers[slot], memory->stage[slot], 0, NULL, NULL);
        if (memory->gather_buffers[slot])
            clEnqueueUnmapMemObject(queue, memory->gather_buffers[slot], memory->gather[slot], 0, NULL, NULL);
    }
    if (queue)
        clFinish(queue);
    for (size_t i = 0; memory->buffers && i < memory->list.count; i++)
        if (memory->buffers[i])
            clReleaseMemObject(memory->buffers[i]);
    weight_loader_release(&memory->weights);
    free(memory->buffers);
    free(memory->matrices);
    free(memory->units);
    buffer_list_release(&memory->list);
    *memory = (struct device_memory){ 0 };
}
