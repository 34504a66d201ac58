/* engine_hop: the residual on its way from one device to the next.
 *
 * Each device has a residual buffer of its own. A hop between contexts is staged: read from
 * the one buffer into the pass's staging on the host, written from there to the other; with
 * as many stagings as passes travel nobody waits for one.
 * Within a context nothing is copied: there the buffers belong to the passes, one to each
 * that travels, and a pass has the same buffer on every device of the context. What a device
 * computed is finished before the next one's commands are enqueued, which is where OpenCL
 * promises that a queue sees what another has written; a driver whose devices have memories
 * of their own moves the buffer by itself. It needs as many buffers as passes travel, and
 * no device that wants its own one at the same time, as slices do. */
#include "runtime/engine_parts.h"

const char *hop_way_phrase(enum hop_way way) {
    return way == HOP_SHARED ? "in the buffer that they share" : "through the host's memory";
}

static uint32_t shared_buffers(const struct engine *engine, const struct engine_context *context) {
    return engine->discrete || context->device_count < 2 ? 0 : context->device_count;
}

static bool is_shared(const struct engine *engine, const struct engine_context *context) {
    return engine->travelling <= (engine->has_slices ? 1 : shared_buffers(engine, context)) &&
           shared_buffers(engine, context);
}

bool engine_hops_init(struct engine *engine, struct error *err) {
    for (uint32_t i = 0; i < engine->device_count; i++) {
        struct engine_device *device = &engine->devices[i];
        struct engine_context *context = device->context;
        context->residuals[context->device_count++] = device->memory.shared[BUFFER_RESIDUAL];
    }
    engine->pass_count = engine->has_slices || engine->device_count < 2 ? 2 : engine->device_count;
    /* Otherwise the device that uses a buffer first would be the one that gets it. */
    for (uint32_t i = 0; i < engine->device_count; i++) {
        struct engine_device *device = &engine->devices[i];
        cl_mem residual = device->memory.shared[BUFFER_RESIDUAL];
        cl_int code = !shared_buffers(engine, device->context) ? CL_SUCCESS
            : clEnqueueMigrateMemObjects(device->queue, 1, &residual, CL_MIGRATE_MEM_OBJECT_CONTENT_UNDEFINED, 0, NULL,
                                         NULL);
        if (code == CL_SUCCESS)
            code = clFinish(device->queue);
        if (code != CL_SUCCESS)
            return opencl_failed(err, code, "cannot place the residual on '%s'", device->forward.device);
    }
    return true;
}

/* Times are taken only where they are asked for, since measuring waits; prompts are left out:
 * their micro-batches wait for each other on the way. */
static bool note_arrival(struct engine_device *device, const struct pass *pass, enum hop_way way, struct error *err) {
    if (!device->engine->measure_hops || !pass->segment || pass->is_prefill)
        return true;
    cl_int code = clFinish(device->queue);
    device->hops[way].seconds += worker_clock() - pass->hop_started;
    device->hops[way].count++;
    return code == CL_SUCCESS || opencl_failed(err, code, "cannot write the residual to '%s'", device->forward.device);
}

bool engine_hop_arrive(struct engine_device *device, struct pass *pass, bool in_slices, struct error *err) {
    const struct engine_context *context = device->context;
    bool shares = !in_slices && is_shared(device->engine, context);
    device->forward.residual = shares ? context->residuals[pass->slot] : device->memory.shared[BUFFER_RESIDUAL];
    if (pass->shared)
        return note_arrival(device, pass, HOP_SHARED, err);
    return !pass->residual ||
           (forward_write_residual(&device->forward, pass->residual, pass->input.token_count, err) &&
            (in_slices || note_arrival(device, pass, HOP_STAGED, err)));
}

bool engine_hop_depart(struct engine_device *device, struct pass *pass, struct error *err) {
    struct engine *engine = device->engine;
    const struct segment *next = &engine->segments[pass->segment + 1];
    const struct engine_context *context = device->context;
    bool shares = is_shared(engine, context) && !next->slice_count &&
                  engine->devices[next->device].context == context;
    cl_int code = shares || engine->measure_hops ? clFinish(device->queue) : CL_SUCCESS;
    pass->hop_started = worker_clock();
    pass->shared = shares ? context : NULL;
    pass->residual = shares ? NULL : pass->stage;
    if (code == CL_SUCCESS && !shares) {
        size_t bytes = (size_t)pass->input.token_count * engine->model->hidden_size * sizeof *pass->stage;
        code = clEnqueueReadBuffer(device->queue, device->forward.residual, CL_TRUE, 0, bytes, pass->stage, 0, NULL, NULL);
    }
    return code == CL_SUCCESS || opencl_failed(err, code, "cannot finish units on '%s'", device->forward.device);
}
