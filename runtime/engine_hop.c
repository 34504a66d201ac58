/* engine_hop: the residual on its way from one device to the next.
 *
 * Each device has a residual buffer of its own. A hop between contexts is staged: read from
 * the one buffer into the pass's staging on the host, written from there to the other; with
 * as many stagings as passes travel nobody waits for one.
 *
 * Within a context nothing is copied: there the buffers belong to the passes, one to each
 * that travels, and a pass has the same buffer on every device of the context. What a device
 * computed is finished before the next one's commands are enqueued, which is where OpenCL
 * promises that a queue sees what another has written; a driver whose devices have memories
 * of their own moves the buffer by itself. It needs as many buffers as passes travel, and
 * no device that wants its own one at the same time, as slices do.
 *
 * Between contexts whose devices all use the host's memory, the stagings are buffers of each
 * context on the same memory, mapped while they are the host's. A pass is given one by
 * unmapping it, and maps it again where it goes on: as many commands as staging takes, and
 * nothing is copied. Where a pass stays in the context to its end it would have to be mapped
 * for that alone, so there it is written to a buffer as above. */
#include "runtime/engine_parts.h"

#include <stdlib.h>

#define PAGE_BYTES 4096u

const char *hop_way_phrase(enum hop_way way) {
    return way == HOP_SHARED ? "in the buffer that they share"
         : way == HOP_MAPPED ? "in memory that both map" : "through the host's memory";
}

/* ---- which buffers ---- */

static bool can_map(const struct engine *engine) {
    bool has_host_memory = engine->context_count > 1 && !engine->discrete;
    for (uint32_t i = 0; i < engine->device_count; i++)
        has_host_memory = has_host_memory && engine->devices[i].present.unified_memory;
    return has_host_memory;
}

bool engine_hops_prepare(struct engine *engine, struct error *err) {
    uint64_t alignment = PAGE_BYTES;
    for (uint32_t i = 0; i < engine->device_count; i++) {
        struct engine_device *device = &engine->devices[i];
        device->place = device->context->device_count++;
        device->context->queue = device->queue;
        alignment = device->options.alignment > alignment ? device->options.alignment : alignment;
    }
    engine->pass_count = engine->has_slices || engine->device_count < 2 ? 2 : engine->device_count;
    uint64_t bytes = (uint64_t)engine->micro_batch * engine->model->hidden_size * sizeof(float);
    bytes = (bytes + alignment - 1) / alignment * alignment;
    for (uint32_t slot = 0; slot < engine->pass_count && can_map(engine); slot++) {
        engine->stages[slot] = aligned_alloc(alignment, bytes);
        if (!engine->stages[slot])
            return error_set(err, ERROR_FAILED, "cannot hold micro-batches of %u tokens: out of memory",
                             engine->micro_batch);
    }
    return true;
}

void engine_hops_release(struct engine *engine) {
    for (uint32_t slot = 0; slot < PLAN_MAX_DEVICES; slot++)
        free(engine->stages[slot]);
}

static uint32_t shared_buffers(const struct engine *engine, const struct engine_context *context) {
    return engine->discrete || context->device_count < 2 ? 0 : context->device_count;
}

static bool is_shared(const struct engine *engine, const struct engine_context *context) {
    return engine->travelling <= (engine->has_slices ? 1 : shared_buffers(engine, context)) &&
           shared_buffers(engine, context);
}

/* Otherwise the first device to use a buffer would be the one that gets it, perhaps in the middle of a pass. */
static bool place_residual(const struct engine_device *device, struct error *err) {
    cl_int code = clEnqueueMigrateMemObjects(device->queue, 1, &device->memory.shared[BUFFER_RESIDUAL],
                                             CL_MIGRATE_MEM_OBJECT_CONTENT_UNDEFINED, 0, NULL, NULL);
    if (code == CL_SUCCESS)
        code = clFinish(device->queue);
    return code == CL_SUCCESS || opencl_failed(err, code, "cannot place the residual on '%s'", device->forward.device);
}

bool engine_hops_init(struct engine *engine, struct error *err) {
    for (uint32_t i = 0; i < engine->device_count; i++) {
        const struct engine_device *device = &engine->devices[i];
        const struct device_memory *memory = &device->memory;
        struct engine_context *context = device->context;
        context->residuals[device->place] = memory->shared[BUFFER_RESIDUAL];
        /* The slots in order, as far as drivers could use the memory. */
        for (uint32_t k = 0; k < STAGE_COUNT; k++) {
            const uint32_t slot = device->place * STAGE_COUNT + k;
            if (slot == context->mapped_count && slot < engine->pass_count && engine->stages[slot] &&
                memory->stage[k] == engine->stages[slot])
                context->mapped[context->mapped_count++] = memory->stage_buffers[k];
        }
        if (!place_residual(device, err))
            return false;
    }
    return true;
}

/* ---- on the way ---- */

/* Times are taken only where they are asked for, since measuring waits; prompts are left out:
 * their micro-batches wait for each other on the way. */
static bool note_arrival(struct engine_device *device, const struct pass *pass, enum hop_way way, struct error *err) {
    if (!device->engine->measure_hops || !pass->segment || pass->is_prefill)
        return true;
    cl_int code = clFinish(device->queue);
    device->hops[way].seconds += seconds_now() - pass->hop_started;
    device->hops[way].count++;
    return code == CL_SUCCESS || opencl_failed(err, code, "cannot write the residual to '%s'", device->forward.device);
}

static bool is_within(const struct engine *engine, uint32_t segment, const struct engine_context *context) {
    const struct segment *at = &engine->segments[segment];
    return !at->slice_count && engine->devices[at->device].context == context;
}

static bool leaves(const struct pass *pass, const struct engine_context *context) {
    for (uint32_t i = pass->segment + 1; i < pass->segment_end; i++)
        if (!is_within(pass->engine, i, context))
            return true;
    return false;
}

/* All of it: the next pass may be longer. */
static cl_int map_slot(const struct engine *engine, struct engine_context *context, uint32_t slot,
                       cl_command_queue queue) {
    cl_int code;
    size_t bytes = (size_t)engine->micro_batch * engine->model->hidden_size * sizeof(float);
    clEnqueueMapBuffer(queue, context->mapped[slot], CL_TRUE, CL_MAP_READ | CL_MAP_WRITE, 0, bytes, 0, NULL, NULL, &code);
    context->is_given[slot] = code != CL_SUCCESS;
    return code;
}

static bool give_slot(struct engine_device *device, struct pass *pass, struct error *err) {
    struct engine_context *context = device->context;
    cl_int code = clEnqueueUnmapMemObject(device->queue, context->mapped[pass->slot], pass->stage, 0, NULL, NULL);
    context->is_given[pass->slot] = code == CL_SUCCESS;
    return code == CL_SUCCESS || opencl_failed(err, code, "cannot give the residual to '%s'", device->forward.device);
}

/* An interrupt may have left it with a device. */
bool engine_hop_begin(struct engine *engine, struct pass *pass, struct error *err) {
    for (uint32_t i = 0; i < engine->context_count; i++) {
        struct engine_context *context = &engine->contexts[i];
        if (pass->slot >= context->mapped_count || !context->is_given[pass->slot])
            continue;
        cl_int code = map_slot(engine, context, pass->slot, context->queue);
        if (code != CL_SUCCESS)
            return opencl_failed(err, code, "cannot map the staging of a pass");
    }
    return true;
}

bool engine_hop_arrive(struct engine_device *device, struct pass *pass, bool in_slices, struct error *err) {
    const struct engine_context *context = device->context;
    cl_mem own = device->memory.shared[BUFFER_RESIDUAL];
    if (in_slices) {   /* of several devices at once: the pass is theirs to read only */
        device->forward.residual = own;
        return !pass->residual ||
               forward_write_residual(&device->forward, pass->residual, pass->input.token_count, err);
    }
    if (pass->shared) {
        device->forward.residual = pass->buffer;
        return note_arrival(device, pass, HOP_SHARED, err);
    }
    pass->is_mapped = pass->slot < context->mapped_count && leaves(pass, context);
    pass->buffer = pass->is_mapped ? context->mapped[pass->slot]
                 : is_shared(device->engine, context) ? context->residuals[pass->slot] : own;
    device->forward.residual = pass->buffer;
    if (pass->is_mapped)
        return give_slot(device, pass, err) && (!pass->residual || note_arrival(device, pass, HOP_MAPPED, err));
    return !pass->residual ||
           (forward_write_residual(&device->forward, pass->residual, pass->input.token_count, err) &&
            note_arrival(device, pass, HOP_STAGED, err));
}

bool engine_hop_depart(struct engine_device *device, struct pass *pass, struct error *err) {
    struct engine *engine = device->engine;
    struct engine_context *context = device->context;
    bool shares = (pass->is_mapped || is_shared(engine, context)) && is_within(engine, pass->segment + 1, context);
    cl_int code = shares || engine->measure_hops ? clFinish(device->queue) : CL_SUCCESS;
    pass->hop_started = seconds_now();
    pass->shared = shares ? context : NULL;
    pass->residual = shares ? NULL : pass->stage;
    if (code == CL_SUCCESS && !shares && pass->is_mapped) {
        code = map_slot(engine, context, pass->slot, device->queue);
    } else if (code == CL_SUCCESS && !shares) {
        size_t bytes = (size_t)pass->input.token_count * engine->model->hidden_size * sizeof *pass->stage;
        code = clEnqueueReadBuffer(device->queue, pass->buffer, CL_TRUE, 0, bytes, pass->stage, 0, NULL, NULL);
    }
    return code == CL_SUCCESS || opencl_failed(err, code, "cannot finish units on '%s'", device->forward.device);
}
