#include "runtime/engine_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void engine_arrived(struct engine *engine, bool *is_busy) {
    pthread_mutex_lock(&engine->lock);
    *is_busy = false;
    engine->busy_count--;
    pthread_cond_broadcast(&engine->changed);
    pthread_mutex_unlock(&engine->lock);
}

static void run_task(struct worker_message *message) {
    struct engine_device *device =
        (struct engine_device *)((char *)message - offsetof(struct engine_device, message));
    device->task_ok = device->task(device, &device->task_error);
    engine_arrived(device->engine, &device->is_busy);
}

bool engine_run_all(struct engine *engine, bool (*task)(struct engine_device *, struct error *),
                    struct error *err) {
    pthread_mutex_lock(&engine->lock);
    engine->busy_count += engine->device_count;
    pthread_mutex_unlock(&engine->lock);
    for (uint32_t i = 0; i < engine->device_count; i++) {
        struct engine_device *device = &engine->devices[i];
        device->task = task;
        device->message.run = run_task;
        device->is_busy = true;
        device_worker_post(device->worker, &device->message);
    }
    pthread_mutex_lock(&engine->lock);
    while (engine->busy_count)
        engine_wait(engine);
    pthread_mutex_unlock(&engine->lock);
    for (uint32_t i = 0; i < engine->device_count; i++)
        if (!engine->devices[i].task_ok) {
            if (err)
                *err = engine->devices[i].task_error;
            return false;
        }
    return true;
}

static bool load_device(struct engine_device *device, struct error *err) {
    struct engine *engine = device->engine;
    double started = seconds_now();
    struct shard_request request = {
        .model = engine->model, .parts = device->parts, .options = &device->options,
        .device = device->planned->device.short_name, .context = device->context->handle, .queue = device->queue,
        .interrupted = engine->interrupted, .layouts = device->layouts, .streamed = device->streamed,
        .artifacts = device->artifacts,
        .in_place = device->present.unified_memory && !engine->discrete,
    };
    for (uint32_t k = 0; k < STAGE_COUNT; k++) {
        const uint32_t slot = device->place * STAGE_COUNT + k;
        request.stages[k] = slot < engine->pass_count ? engine->stages[slot] : NULL;
    }
    if (!shard_load(&device->memory, &request, err))
        return false;
    struct ops_options options = { .numeric = engine->numeric, .kv_type = engine->kv_type,
                                   .store = engine->kernels, .device = &device->present,
                                   .turns = device->memory.shared[BUFFER_TURNS] };
    ops_note_buffers(&options, &device->memory.list);
    memcpy(options.gemm_types, device->gemm_types, sizeof options.gemm_types);
    device->ops = ops_new(device->context->handle, device->id, device->queue, &options, err);
    if (!device->ops)
        return error_prefix(err, "'%s'", request.device);
    device->forward = (struct forward){
        .model = engine->model, .ops = device->ops, .queue = device->queue, .device = request.device,
        .memory = &device->memory, .numeric = engine->numeric,
        .gemm_types = device->has_gemm ? device->gemm_types : NULL, .page_columns = engine->kv.page_columns,
        .logit_rows = engine->logit_rows < engine->micro_batch ? engine->logit_rows : engine->micro_batch,
        .residual = device->memory.shared[BUFFER_RESIDUAL],
    };
    device->load_seconds = seconds_now() - started;
    return true;
}

static bool map_table(struct engine *engine, struct error *err) {
    if (!engine->has_host_embed)
        return true;
    double started = seconds_now();
    const struct model *model = engine->model;
    const struct weight_ref *embed = &model->embed;
    const struct model_tensor *tensor = &model->tensors[embed->tensor];
    uint64_t skip, bytes;
    if (!tensor_bytes(tensor->type, embed->row_begin, embed->column_count, &skip) ||
        !tensor_bytes(tensor->type, embed->row_count, embed->column_count, &bytes))
        return error_set(err, ERROR_FAILED, "tensor '%s' is not a table of embeddings", tensor->name);
    bool ok = file_map_range(&engine->table, model->files[tensor->file].path, tensor->offset + skip, bytes, err);
    engine->host_load_seconds = seconds_now() - started;
    return ok;
}

static bool is_together(const struct engine_device *a, const struct engine_device *b) {
    const struct engine *engine = a->engine;
    return a == b || (a->platform == b->platform && engine->apart != 1 &&
                      (!engine->apart || (a != engine->devices && b != engine->devices)));
}

/* One context for the devices of a platform, a queue and a thread for each device. */
static bool start_devices(struct engine *engine, struct error *err) {
    for (uint32_t i = 0; i < engine->device_count; i++) {
        struct engine_device *device = &engine->devices[i];
        const char *name = device->planned->device.short_name;
        if (!device->context) {
            cl_device_id ids[PLAN_MAX_DEVICES];
            uint32_t count = 0;
            for (uint32_t j = i; j < engine->device_count; j++)
                if (is_together(&engine->devices[j], device))
                    ids[count++] = engine->devices[j].id;
            struct engine_context *context = &engine->contexts[engine->context_count];
            context->handle = opencl_context(ids, count, err);
            if (!context->handle)
                return error_prefix(err, "'%s'", name);
            engine->context_count++;
            for (uint32_t j = i; j < engine->device_count; j++)
                if (is_together(&engine->devices[j], device))
                    engine->devices[j].context = context;
        }
        device->queue = opencl_queue(device->context->handle, device->id, err);
        if (!device->queue)
            return error_prefix(err, "'%s'", name);
        device->worker = device_worker_new(name, err);
        if (!device->worker)
            return false;
    }
    return true;
}

static bool allocate(struct engine *engine, struct error *err) {
    engine->lengths_before = calloc(engine->sequence_count, sizeof *engine->lengths_before);
    engine->copies = calloc(engine->sequence_count, sizeof *engine->copies);
    engine->tap_row = calloc(engine->model->hidden_size, sizeof *engine->tap_row);
    if (!engine->lengths_before || !engine->copies || !engine->tap_row)
        return error_set(err, ERROR_FAILED, "cannot open the engine: out of memory");
    if (!kv_cache_init(&engine->kv, engine->context, engine->sequence_count, err))
        return false;
    engine->kv.window = engine->keep_pages ? 0 : engine->model->sliding_window;
    return rope_init(&engine->rope, &engine->model->rope, err);
}

/* Other sums than the promised ones are not for --exact. */
static bool take_gemm_types(struct engine *engine, const struct engine_options *options, struct error *err) {
    for (uint32_t i = 0; i < engine->device_count && options && options->gemm_types && !engine->exact; i++) {
        struct engine_device *device = &engine->devices[i];
        memcpy(device->gemm_types, options->gemm_types[device->planned - engine->plan->devices],
               sizeof device->gemm_types);
        for (int t = 0; t < TENSOR_TYPE_COUNT; t++)
            device->has_gemm = device->has_gemm || device->gemm_types[t];
        struct error reason = { 0 };
        if (device->has_gemm && !ops_gemm_is_there(&reason))
            return engine_stale(engine, err, "'%s' was planned with CLBlast: %s", device->planned->device.short_name,
                                reason.text);
    }
    return true;
}

struct engine *engine_open(const struct model *model, const struct plan *plan,
                           const struct engine_options *options, struct error *err) {
    struct engine *engine = calloc(1, sizeof *engine);
    if (!engine) {
        error_set(err, ERROR_FAILED, "cannot open the engine: out of memory");
        return NULL;
    }
    pthread_mutex_init(&engine->lock, NULL);
    pthread_cond_init(&engine->changed, NULL);
    engine->model = model;
    engine->plan = plan;
    engine->exact = options && options->exact;
    engine->numeric = engine->exact ? NUMERIC_FLOAT : plan->numeric;
    engine->kv_type = engine->exact ? KV_F32 : plan->request.kv_type;
    engine->sequence_count = options && options->sequence_count ? options->sequence_count : 1;
    engine->logit_rows = options && options->logit_rows ? options->logit_rows : 1;
    engine->interrupted = options ? options->interrupted : NULL;
    engine->store_path = options ? options->store_path : NULL;
    engine->watchdog_seconds = options ? options->watchdog_seconds : 0;
    engine->discrete = options && options->discrete;
    engine->apart = options ? options->apart : 0;
    engine->keep_pages = options && options->keep_pages;
    engine->measure_hops = options && options->measure_hops;
    engine->kernels = options ? options->kernels : NULL;
    const char *const *artifact_paths = options ? options->artifact_paths : NULL;

    /* The passes gather embeddings into staging: they come after loading. */
    if (engine_check_plan(engine, err) && take_gemm_types(engine, options, err) && engine_find_devices(engine, err) && engine_check_memory(engine, err) &&
        engine_open_artifacts(engine, artifact_paths, err) && allocate(engine, err) && map_table(engine, err) &&
        start_devices(engine, err) && engine_hops_prepare(engine, err) &&
        engine_run_all(engine, load_device, err) && engine_hops_init(engine, err) &&
        engine_passes_init(engine, err)) {
        engine->is_loaded = true;
        engine->kernels = NULL;
        return engine;
    }
    engine_close(engine);
    return NULL;
}

void engine_close(struct engine *engine) {
    if (!engine)
        return;
    for (uint32_t i = 0; i < engine->device_count; i++)
        device_worker_free(engine->devices[i].worker);
    for (uint32_t i = 0; i < engine->device_count; i++) {
        struct engine_device *device = &engine->devices[i];
        if (device->queue)
            clFinish(device->queue);
        ops_free(device->ops);
        device_memory_release(&device->memory, device->queue);
        if (device->queue)
            clReleaseCommandQueue(device->queue);
        free(device->parts);
        free(device->layouts);
        free(device->streamed);
    }
    for (uint32_t i = 0; i < engine->context_count; i++)
        clReleaseContext(engine->contexts[i].handle);
    engine_passes_release(engine);
    engine_hops_release(engine);
    engine_release_artifacts(engine);
    file_map_release(&engine->table);
    rope_release(&engine->rope);
    kv_cache_release(&engine->kv);
    free(engine->lengths_before);
    free(engine->copies);
    free(engine->tap_row);
    free(engine->segments);
    free(engine->devices);
    pthread_cond_destroy(&engine->changed);
    pthread_mutex_destroy(&engine->lock);
    free(engine);
}

static bool check_sequence(const struct engine *engine, uint32_t sequence, struct error *err) {
    return sequence < engine->sequence_count ||
           error_set(err, ERROR_FAILED, "there is no sequence %u: the engine was opened for %u", sequence,
                     engine->sequence_count);
}

bool engine_sequence_truncate(struct engine *engine, uint32_t sequence, uint32_t length, struct error *err) {
    if (!check_sequence(engine, sequence, err))
        return false;
    kv_cache_truncate(&engine->kv, sequence, length);
    return true;
}

uint32_t engine_sequence_length(const struct engine *engine, uint32_t sequence) {
    return sequence < engine->sequence_count ? engine->kv.lengths[sequence] : 0;
}

bool engine_sequence_fork(struct engine *engine, uint32_t source, uint32_t target, uint32_t length,
                          struct error *err) {
    return check_sequence(engine, source, err) && check_sequence(engine, target, err) &&
           kv_cache_fork(&engine->kv, source, target, length, err);
}

uint32_t engine_context(const struct engine *engine) {
    return engine->context;
}

const struct model *engine_model(const struct engine *engine) {
    return engine->model;
}

void engine_set_tap(struct engine *engine, engine_tap *tap, void *context) {
    engine->tap = tap;
    engine->tap_context = context;
}

const struct engine_unpacked *engine_unpacked(const struct engine *engine) {
    return &engine->unpacked;
}

struct engine_compiled engine_compiled(const struct engine *engine) {
    struct engine_compiled all = { 0 };
    for (uint32_t i = 0; i < engine->device_count; i++) {
        const struct ops_builds *builds = ops_builds(engine->devices[i].ops);
        all.count += builds->compiled;
        all.kept += builds->kept;
        if (!all.reason[0])
            snprintf(all.reason, sizeof all.reason, "%s", builds->reason);
    }
    return all;
}

uint32_t engine_report(const struct engine *engine, struct engine_device_report *reports, uint32_t capacity) {
    uint32_t count = 0;
    if (engine->has_host_embed && count < capacity) {
        struct engine_device_report *report = &reports[count++];
        /* The rows of a tied table are the head's: planned and counted there. */
        uint64_t loaded = engine->model->tied_head && !engine->host_bytes_planned ? 0 : engine->table.size;
        *report = (struct engine_device_report){
            .bytes_planned = engine->host_bytes_planned, .bytes_loaded = loaded,
            .load_seconds = engine->host_load_seconds, .prefill_seconds = engine->host_prefill_seconds,
            .decode_seconds = engine->host_decode_seconds,
        };
        snprintf(report->device, sizeof report->device, "host");
    }
    for (uint32_t i = 0; i < engine->device_count && count < capacity; i++) {
        const struct engine_device *device = &engine->devices[i];
        struct engine_device_report *report = &reports[count++];
        *report = (struct engine_device_report){
            .bytes_loaded = device->memory.weights.stored_bytes, .bytes_allocated = device->memory.bytes_allocated,
            .load_seconds = device->load_seconds, .prefill_seconds = device->prefill_seconds,
            .decode_seconds = device->decode_seconds,
        };
        memcpy(report->device, device->planned->device.short_name, sizeof report->device);
        memcpy(report->hops, device->hops, sizeof report->hops);
        if (device->memory.window) {
            struct window_report window = weight_window_report(device->memory.window);
            report->bytes_streamed = window.bytes;
            report->stream_wait_seconds = window.wait_seconds;
            report->pieces_streamed = window.piece_count;
            report->pieces_late = window.late_count;
        }
        for (uint32_t j = 0; j < engine->plan->shard_count; j++) {
            const struct shard *shard = &engine->plan->shards[j];
            if (shard->device >= 0 && &engine->plan->devices[shard->device] == device->planned)
                report->bytes_planned += shard->weight_bytes;
        }
    }
    return count;
}
