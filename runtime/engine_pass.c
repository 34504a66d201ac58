/* engine_pass: micro-batches on their way through the devices. */
#include "runtime/engine_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Each pass has one of the devices' stagings, of which there are two a device; first those that a
 * device with memory of its own copies to and from fastest. */
static void share_out_staging(struct engine *engine) {
    uint32_t slot = 0;
    for (int unified = 0; unified < 2; unified++)
        for (uint32_t i = 0; i < STAGE_COUNT * engine->device_count; i++) {
            struct engine_device *device = &engine->devices[i % engine->device_count];
            if (device->present.unified_memory == unified && slot < engine->pass_count)
                engine->passes[slot++].stage = device->memory.stage[i / engine->device_count];
        }
    for (slot = 0; slot < engine->pass_count; slot++)
        if (engine->stages[slot])
            engine->passes[slot].stage = engine->stages[slot];
}

bool engine_passes_init(struct engine *engine, struct error *err) {
    size_t n = engine->micro_batch, pairs = engine->rope.pair_count;
    for (uint32_t slot = 0; slot < engine->pass_count; slot++) {
        struct pass *pass = &engine->passes[slot];
        *pass = (struct pass){ .engine = engine, .slot = slot };
        pass->tokens = calloc(n, sizeof *pass->tokens);
        pass->positions = calloc(n, sizeof *pass->positions);
        pass->sequences = calloc(n, sizeof *pass->sequences);
        pass->rope = calloc(n, (2 * pairs + 1) * sizeof *pass->rope);
        pass->wanted = calloc(n, sizeof *pass->wanted);
        if (!pass->tokens || !pass->positions || !pass->sequences || !pass->rope || !pass->wanted)
            return error_set(err, ERROR_FAILED, "cannot hold micro-batches of %u tokens: out of memory",
                             engine->micro_batch);
        pass->input = (struct forward_input){ .tokens = pass->tokens, .positions = pass->positions,
                                              .sequences = pass->sequences, .rope = pass->rope };
    }
    share_out_staging(engine);
    return true;
}

void engine_passes_release(struct engine *engine) {
    for (uint32_t slot = 0; slot < engine->pass_count; slot++) {
        struct pass *pass = &engine->passes[slot];
        free(pass->tokens);
        free(pass->positions);
        free(pass->sequences);
        free(pass->rope);
        free(pass->wanted);
    }
}

/* ---- on a device's thread ---- */

static void post_segment(struct engine *engine, struct pass *pass);

static bool tap_unit(struct engine_device *device, const struct pass *pass, uint32_t unit, struct error *err) {
    struct engine *engine = device->engine;
    size_t bytes = engine->model->hidden_size * sizeof(float);
    cl_int code = clEnqueueReadBuffer(device->queue, device->forward.residual, CL_TRUE,
                                      (pass->input.token_count - 1) * bytes, bytes, engine->tap_row, 0, NULL, NULL);
    if (code != CL_SUCCESS)
        return opencl_failed(err, code, "cannot read the residual of '%s'", device->forward.device);
    engine->tap(engine->tap_context, unit, engine->tap_row);
    return true;
}

/* The device's small buffers, and its residual, belong to the last pass that wrote them. */
static bool write_inputs(struct engine_device *device, struct pass *pass, bool in_slices, struct error *err) {
    const struct kv_cache *kv = &device->engine->kv;
    if (device->input_of != pass->number) {
        if (!forward_write_input(&device->forward, &pass->input, err))
            return false;
        device->input_of = pass->number;
        device->forward.key_count = 0;
        for (uint32_t i = 0; i < pass->input.token_count; i++)
            if ((uint32_t)pass->positions[i] >= device->forward.key_count)
                device->forward.key_count = (uint32_t)pass->positions[i] + 1;
    }
    if (device->pages_version != kv->version) {
        if (!forward_write_pages(&device->forward, kv->table, kv->sequence_count * kv->page_columns, err))
            return false;
        device->pages_version = kv->version;
    }
    device->residual_of = pass->number;
    return engine_hop_arrive(device, pass, in_slices, err);
}

static bool run_units(struct engine_device *device, struct pass *pass, const struct segment *segment,
                      struct error *err) {
    struct engine *engine = device->engine;
    uint32_t head = engine->plan->unit_count - 1;
    if (!write_inputs(device, pass, false, err))
        return false;
    for (uint32_t unit = segment->unit_begin; unit < segment->unit_end && unit != head; unit++)
        if (!forward_unit(&device->forward, unit, pass->input.token_count, err) ||
            (engine->tap && pass->is_last && !tap_unit(device, pass, unit, err)))
            return false;

    if (pass->segment + 1 < pass->segment_end)
        return engine_hop_depart(device, pass, err);
    if (pass->wanted_count)
        return forward_head(&device->forward, head, pass->wanted, pass->wanted_count, pass->logits, err);
    cl_int code = clFinish(device->queue);   /* the pass's inputs are in use until then */
    return code == CL_SUCCESS || opencl_failed(err, code, "cannot finish units on '%s'", device->forward.device);
}

/* Whether it is worth starting: not after a signal or another pass's failure. */
static bool may_run(struct engine *engine, struct error *err) {
    if (engine_is_interrupted(engine))
        return error_set(err, ERROR_INTERRUPTED, "interrupted");
    pthread_mutex_lock(&engine->lock);
    bool has_failed = engine->has_failed;
    if (has_failed)
        *err = engine->failure;
    pthread_mutex_unlock(&engine->lock);
    return !has_failed;
}

/* On the device's thread, and under no lock: the first failure is the engine's. */
static void note_failure(struct engine *engine, const struct error *error) {
    pthread_mutex_lock(&engine->lock);
    if (!engine->has_failed)
        engine->failure = *error;
    engine->has_failed = true;
    pthread_mutex_unlock(&engine->lock);
}

static void count_time(struct engine_device *device, const struct pass *pass, double started) {
    *(pass->is_prefill ? &device->prefill_seconds : &device->decode_seconds) += seconds_now() - started;
}

/* To the next segment, or home. */
static void pass_on(struct engine *engine, struct pass *pass) {
    if (pass->ok && ++pass->segment < pass->segment_end)
        post_segment(engine, pass);
    else
        engine_arrived(engine, &pass->is_busy);
}

static void run_segment(struct worker_message *message) {
    struct pass *pass = (struct pass *)((char *)message - offsetof(struct pass, message));
    struct engine *engine = pass->engine;
    const struct segment *segment = &engine->segments[pass->segment];
    struct engine_device *device = &engine->devices[segment->device];
    double started = seconds_now();
    pass->ok = may_run(engine, &pass->error);
    if (pass->ok && !run_units(device, pass, segment, &pass->error)) {
        pass->ok = false;
        clFinish(device->queue);   /* nothing may read the pass's memory any more */
        note_failure(engine, &pass->error);
    }
    count_time(device, pass, started);
    pass_on(engine, pass);
}

/* ---- slices ---- */

static bool run_slice(struct engine_device *device, struct pass *pass, struct error *err) {
    struct engine *engine = device->engine;
    const struct segment *segment = &engine->segments[pass->segment];
    const struct device_memory *lead = &engine->devices[segment->device].memory;
    const uint32_t unit = segment->unit_begin, n = pass->input.token_count;
    if (unit == engine->plan->unit_count - 1)
        return write_inputs(device, pass, true, err) &&
               forward_head(&device->forward, unit, pass->wanted, pass->wanted_count, pass->logits, err);
    if (!pass->is_output)
        return write_inputs(device, pass, true, err) &&
               forward_slice_inner(&device->forward, unit, n, lead->gather[pass->slot], err);
    /* Another pass may have run on the device since the first phase, and on another residual. */
    device->forward.residual = device->memory.shared[BUFFER_RESIDUAL];
    if (device->residual_of != pass->number &&
        !forward_write_residual_slice(&device->forward, unit, pass->residual, n, err))
        return false;
    device->residual_of = pass->number;
    return forward_slice_output(&device->forward, unit, n, lead->gather[pass->slot], pass->stage, err);
}

/* All devices have arrived; on the thread of the last one. */
static void finish_phase(struct engine *engine, struct pass *pass) {
    const struct segment *segment = &engine->segments[pass->segment];
    const uint32_t unit = segment->unit_begin, head = engine->plan->unit_count - 1;
    for (uint32_t i = 0; pass->ok && i < segment->slice_count; i++)
        if (!pass->slices[i].ok) {
            pass->ok = false;
            pass->error = pass->slices[i].error;
        }
    if (pass->ok && unit != head && !pass->is_output) {
        pass->is_output = true;
        post_segment(engine, pass);
        return;
    }
    pass->is_output = false;
    if (pass->ok && unit != head) {
        pass->residual = pass->stage;
        if (engine->tap && pass->is_last)
            engine->tap(engine->tap_context, unit,
                        pass->stage + (size_t)(pass->input.token_count - 1) * engine->model->hidden_size);
    }
    pass_on(engine, pass);
}

static void run_slice_message(struct worker_message *message) {
    struct slice_message *slice = (struct slice_message *)((char *)message - offsetof(struct slice_message, message));
    struct pass *pass = slice->pass;
    struct engine *engine = pass->engine;
    struct engine_device *device = &engine->devices[slice->device];
    double started = seconds_now();
    slice->ok = may_run(engine, &slice->error);
    if (slice->ok && !run_slice(device, pass, &slice->error)) {
        slice->ok = false;
        clFinish(device->queue);
        note_failure(engine, &slice->error);
    }
    count_time(device, pass, started);
    pthread_mutex_lock(&engine->lock);
    bool is_last = --pass->slices_left == 0;
    pthread_mutex_unlock(&engine->lock);
    if (is_last)
        finish_phase(engine, pass);
}

/* The pass to the devices of its segment, or of the phase of it. */
static void post_segment(struct engine *engine, struct pass *pass) {
    const struct segment *segment = &engine->segments[pass->segment];
    if (!segment->slice_count) {
        pass->message.run = run_segment;
        device_worker_post(engine->devices[segment->device].worker, &pass->message);
        return;
    }
    const uint32_t count = segment->slice_count;
    pass->slices_left = count;   /* nobody else has the pass yet */
    for (uint32_t i = 0; i < count; i++) {
        struct slice_message *slice = &pass->slices[i];
        *slice = (struct slice_message){ .message.run = run_slice_message, .pass = pass,
                                         .device = segment->slice_devices[i], .ok = true };
    }
    for (uint32_t i = 0; i < count; i++)
        device_worker_post(engine->devices[segment->slice_devices[i]].worker, &pass->slices[i].message);
}

static bool copy_pages(struct engine_device *device, struct error *err) {
    struct engine *engine = device->engine;
    uint64_t head_bytes = KV_PAGE_TOKENS * kv_vector_bytes(engine->model, engine->kv_type);
    for (uint32_t i = 0; i < engine->copy_count; i++)
        if (!forward_copy_page(&device->forward, engine->copies[i].from, engine->copies[i].to, head_bytes, err))
            return false;
    cl_int code = clFinish(device->queue);
    return code == CL_SUCCESS || opencl_failed(err, code, "cannot copy KV pages on '%s'", device->forward.device);
}

/* ---- on the caller's thread ---- */

/* Wait until the pass has arrived; false: it failed. */
static bool await_pass(struct engine *engine, struct pass *pass, struct error *err) {
    pthread_mutex_lock(&engine->lock);
    while (pass->is_busy)
        engine_wait(engine);
    pthread_mutex_unlock(&engine->lock);
    if (!pass->ok && err && err->kind == ERROR_NONE)
        *err = pass->error;
    return pass->ok;
}

/* Rows of the mapped table into the pass's staging. */
static void gather_embeddings(struct engine *engine, struct pass *pass) {
    double started = seconds_now();
    const struct weight_ref *embed = &engine->model->embed;
    enum tensor_type type = engine->model->tensors[embed->tensor].type;
    const struct tensor_type_info *info = tensor_type_info(type);
    size_t row_bytes = (size_t)(embed->column_count / info->block_values * info->block_bytes);
    for (uint32_t i = 0; i < pass->input.token_count; i++)
        dequantise(type, engine->table.bytes + (size_t)pass->tokens[i] * row_bytes,
                   pass->stage + (size_t)i * engine->model->hidden_size, engine->model->hidden_size);
    pass->residual = pass->stage;
    *(pass->is_prefill ? &engine->host_prefill_seconds : &engine->host_decode_seconds) += seconds_now() - started;
}

/* Fill a free pass with the tokens [begin, begin + count) of the batch and send it off. */
static void start_pass(struct engine *engine, struct pass *pass, const struct engine_batch *batch, uint32_t begin,
                       uint32_t count, float *logits) {
    pass->input.token_count = count;
    memcpy(pass->tokens, batch->tokens + begin, count * sizeof *pass->tokens);
    memcpy(pass->positions, batch->positions + begin, count * sizeof *pass->positions);
    for (uint32_t i = 0; i < count; i++)
        pass->sequences[i] = batch->sequences ? batch->sequences[begin + i] : 0;
    rope_fill(&engine->rope, batch->long_rope, pass->positions, count, pass->rope);

    pass->wanted_count = 0;
    for (uint32_t i = 0; i < count; i++)
        if (batch->wants_logits ? batch->wants_logits[begin + i] : begin + i + 1 == batch->token_count)
            pass->wanted[pass->wanted_count++] = i;
    pass->logits = logits;
    pass->is_prefill = batch->is_prefill;
    pass->is_last = begin + count == batch->token_count && !engine->has_more;
    pass->number = ++engine->pass_number;
    pass->ok = true;
    pass->error = (struct error){ 0 };
    pass->residual = NULL;
    pass->shared = NULL;
    pass->is_output = false;
    pass->segment = 0;
    pass->segment_end = engine->segment_count;
    /* A head on its own has nothing to do where no logits are wanted. */
    const struct segment *last = &engine->segments[engine->segment_count - 1];
    if (!pass->wanted_count && last->unit_end - last->unit_begin == 1 && engine->segment_count > 1)
        pass->segment_end--;
    if (engine->has_host_embed)
        gather_embeddings(engine, pass);

    pthread_mutex_lock(&engine->lock);
    pass->is_busy = true;
    engine->busy_count++;
    pthread_mutex_unlock(&engine->lock);
    post_segment(engine, pass);
}

static bool run_passes(struct engine *engine, const struct engine_batch *batch, float *logits, struct error *err) {
    bool ok = true;
    uint32_t slot = 0, needed = (batch->token_count - 1) / engine->micro_batch + 1;
    engine->travelling = needed < engine->pass_count ? needed : engine->pass_count;
    for (uint32_t i = 0; i < engine->travelling; i++)
        engine->passes[i].ok = true;
    for (uint32_t begin = 0, count; ok && begin < batch->token_count; begin += count) {
        count = batch->token_count - begin < engine->micro_batch ? batch->token_count - begin : engine->micro_batch;
        struct pass *pass = &engine->passes[slot];
        ok = await_pass(engine, pass, err) && may_run(engine, err) && engine_hop_begin(engine, pass, err);
        if (!ok)
            break;
        start_pass(engine, pass, batch, begin, count, logits);
        if (pass->wanted_count)
            logits += (size_t)pass->wanted_count * engine->model->vocab_size;
        slot = (slot + 1) % engine->travelling;
    }
    /* In the order they were sent: the first failure is the one to report. */
    for (uint32_t i = 0; i < engine->travelling; i++)
        ok = await_pass(engine, &engine->passes[(slot + i) % engine->travelling], err) && ok;
    return ok;
}

/* Ids, positions and pages of a batch; how many rows of logits it wants. */
static bool enter_batch(struct engine *engine, const struct engine_batch *batch, uint64_t *wanted,
                        struct error *err) {
    const struct model *model = engine->model;
    *wanted = 0;
    engine->copy_count = 0;
    for (uint32_t i = 0; i < batch->token_count; i++) {
        uint32_t sequence = batch->sequences ? (uint32_t)batch->sequences[i] : 0;
        if (batch->tokens[i] < 0 || (uint32_t)batch->tokens[i] >= model->vocab_size)
            return error_set(err, ERROR_USAGE, "token %d is not one of the model's %u", (int)batch->tokens[i],
                             model->vocab_size);
        if (sequence >= engine->sequence_count)
            return error_set(err, ERROR_FAILED, "there is no sequence %d: the engine was opened for %u",
                             (int)sequence, engine->sequence_count);
        if (batch->positions[i] < 0 || (uint32_t)batch->positions[i] != engine->kv.lengths[sequence])
            return error_set(err, ERROR_FAILED, "position %d of sequence %u cannot be run: it has %u tokens",
                             (int)batch->positions[i], sequence, engine->kv.lengths[sequence]);
        bool must_copy;
        struct kv_copy copy;
        if (!kv_cache_extend(&engine->kv, sequence, &must_copy, &copy, err))
            return false;
        if (must_copy)
            engine->copies[engine->copy_count++] = copy;   /* at most one a sequence */
        *wanted += batch->wants_logits ? batch->wants_logits[i] : i + 1 == batch->token_count;
    }
    return true;
}

static bool check_finite(const struct engine *engine, const float *logits, uint64_t rows, struct error *err) {
    uint64_t count = rows * engine->model->vocab_size;
    for (uint64_t i = 0; i < count; i++)
        if (!isfinite(logits[i]))
            return error_set(err, ERROR_FAILED, "the logits are not numbers (first at id %llu): the weights of '%s' "
                             "are damaged, or a device computes wrongly; check with --verify",
                             (unsigned long long)(i % engine->model->vocab_size), engine->model->name);
    return true;
}

/* A sequence may be truncated by so many tokens without being run again. */
#define KEPT_TOKENS 64u
/* With a sliding window the batch is entered in portions of so many micro-batches, so that the
 * pages before the window can serve the tokens that follow. */
#define PORTION_PASSES 4u

/* Give every token its page, then run all. */
static bool run_batch(struct engine *engine, const struct engine_batch *batch, float *logits, uint64_t *wanted,
                      struct error *err) {
    bool ok = enter_batch(engine, batch, wanted, err);
    /* Even where the batch cannot be run: the page table names the copies already. */
    struct error not_copied = { 0 };
    if (engine->copy_count && !engine_run_all(engine, copy_pages, &not_copied)) {
        ok = false;
        engine->has_failed = true;
        engine->failure = *err = not_copied;
    }
    return ok && run_passes(engine, batch, logits, err) && check_finite(engine, logits, *wanted, err);
}

bool engine_forward(struct engine *engine, const struct engine_batch *batch, float *logits, struct error *err) {
    struct error reason = { 0 };
    if (engine->has_failed) {
        if (err)
            *err = engine->failure;
        return error_prefix(err, "stopped after an earlier failure");
    }
    memcpy(engine->lengths_before, engine->kv.lengths, engine->sequence_count * sizeof *engine->lengths_before);
    const uint64_t most = engine->kv.window ? (uint64_t)PORTION_PASSES * engine->micro_batch : batch->token_count;
    bool ok = true;
    for (uint32_t begin = 0, count; ok && begin < batch->token_count; begin += count) {
        count = batch->token_count - begin < most ? batch->token_count - begin : (uint32_t)most;
        struct engine_batch portion = *batch;
        bool is_last = begin + count == batch->token_count;
        bool *none = NULL;
        uint64_t wanted = 0;
        portion.token_count = count;
        portion.tokens += begin;
        portion.positions += begin;
        portion.sequences = batch->sequences ? batch->sequences + begin : NULL;
        portion.wants_logits = batch->wants_logits ? batch->wants_logits + begin : NULL;
        if (!batch->wants_logits && !is_last) {
            portion.wants_logits = none = calloc(count, sizeof *none);
            ok = none || error_set(&reason, ERROR_FAILED, "cannot run %u tokens: out of memory", count);
        }
        engine->has_more = !is_last;
        ok = ok && run_batch(engine, &portion, logits, &wanted, &reason);
        logits += logits ? wanted * engine->model->vocab_size : 0;
        free(none);
        for (uint32_t i = 0; ok && i < engine->sequence_count; i++)
            kv_cache_give_back(&engine->kv, i, KEPT_TOKENS);
    }
    if (ok)
        return true;
    for (uint32_t i = 0; i < engine->sequence_count; i++)
        kv_cache_truncate(&engine->kv, i, engine->lengths_before[i]);
    if (err)
        *err = reason;
    return false;
}
