/* engine_check: does the plan still describe this machine and this model? */
#include "runtime/engine_parts.h"

#include "common/host_memory.h"
#include "common/weight_choice.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* More than any plan has: a damaged one must not become a huge allocation. */
#define MOST_CONTEXT (1u << 26)
#define MOST_MICRO_BATCH (1u << 16)

/* The command that makes the plan anew, as it was asked for, with this context (0: as it is). A request of
 * numbers that no plan has asks for nothing. Returns `command`. */
static const char *plan_command(const struct engine *engine, uint64_t context, char command[TYPED_COMMAND_SIZE]) {
    const struct plan_request *request = &engine->plan->request;
    const char *model = engine->model->source.argument ? engine->model->source.argument : engine->plan->model_path;
    const bool is_damaged = !request->context || request->context > MOST_CONTEXT
                            || request->micro_batch > MOST_MICRO_BATCH;
    return typed_phiplan(command, model, is_damaged ? NULL : request, context, engine->plan->name, engine->store_path);
}

const char *engine_context_advice(const struct engine *engine, uint64_t least, uint64_t wanted,
                                  const char *otherwise, char advice[ENGINE_ADVICE_SIZE]) {
    const uint32_t most = engine->model->max_context;
    char command[TYPED_COMMAND_SIZE];
    if (least > most)
        snprintf(advice, ENGINE_ADVICE_SIZE, "the model was made for %u tokens, which no plan exceeds: %s", most,
                 otherwise);
    else
        snprintf(advice, ENGINE_ADVICE_SIZE, "plan again: %s",
                 plan_command(engine, wanted < most ? wanted : most, command));
    return advice;
}

bool engine_stale(const struct engine *engine, struct error *err, const char *format, ...) {
    char sentence[512], command[TYPED_COMMAND_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    return error_set(err, ERROR_STALE, "%s; plan it again: %s", sentence, plan_command(engine, 0, command));
}

/* What this version runs: in a layout that it knows. */
static bool check_shard(const struct engine *engine, const struct shard *shard, bool is_last_of_unit,
                        enum weight_layout *layout, struct error *err) {
    struct unit unit = unit_at(engine->model, shard->unit);
    uint32_t part_count = unit_part_count(engine->model, unit);
    char name[24];
    unit_name(unit, name);
    if (is_last_of_unit ? shard->part_end != part_count : shard->part_end > part_count)
        return engine_stale(engine, err, "the plan places parts %u to %u of '%s', which has %u", shard->part_begin,
                            shard->part_end, name, part_count);
    enum tensor_type type, has;
    bool is_converted;
    if (!shard_format_read(shard->format, &is_converted, &type, layout))
        return engine_stale(engine, err, "the plan wants '%s' in the format '%s', which phirun does not know", name,
                            shard->format);
    if (is_converted != model_unit_conversion(engine->model, unit, &has) || (is_converted && has != type))
        return engine_stale(engine, err, "the plan wants '%s' in the format '%s', which model '%s' does not have",
                            name, shard->format, engine->model->name);
    return true;
}

/* The devices that have parts of a unit, in the order of the parts. */
static uint32_t devices_of(const struct engine *engine, uint32_t unit, uint32_t devices[PLAN_MAX_DEVICES]) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < engine->device_count; i++) {
        const struct part_range *parts = &engine->devices[i].parts[unit];
        if (parts->begin >= parts->end)
            continue;
        uint32_t place = count++;
        for (; place && engine->devices[devices[place - 1]].parts[unit].begin > parts->begin; place--)
            devices[place] = devices[place - 1];
        devices[place] = i;
    }
    return count;
}

/* Consecutive whole units on one device are one segment, a unit in slices is one; embed
 * on the host is in none. */
static bool make_segments(struct engine *engine, struct error *err) {
    const struct plan *plan = engine->plan;
    engine->segments = calloc(plan->unit_count, sizeof *engine->segments);
    if (!engine->segments)
        return error_set(err, ERROR_FAILED, "cannot list the segments of the plan: out of memory");
    for (uint32_t unit = engine->has_host_embed; unit < plan->unit_count; unit++) {
        struct segment next = { .unit_begin = unit, .unit_end = unit + 1 };
        uint32_t count = devices_of(engine, unit, next.slice_devices);
        struct segment *last = engine->segments + engine->segment_count;
        next.device = next.slice_devices[0];
        next.slice_count = count > 1 ? count : 0;
        engine->has_slices |= count > 1;
        if (count == 1 && engine->segment_count && !last[-1].slice_count && last[-1].device == next.device)
            last[-1].unit_end = unit + 1;
        else
            engine->segments[engine->segment_count++] = next;
    }
    return true;
}

/* The engine's device for one of the plan's, made where it is the first time. */
static struct engine_device *device_for(struct engine *engine, uint32_t planned, struct error *err) {
    for (uint32_t i = 0; i < engine->device_count; i++)
        if (engine->devices[i].planned == &engine->plan->devices[planned])
            return &engine->devices[i];
    struct engine_device *device = &engine->devices[engine->device_count++];
    device->engine = engine;
    device->planned = &engine->plan->devices[planned];
    device->parts = calloc(engine->plan->unit_count, sizeof *device->parts);
    device->layouts = calloc(engine->plan->unit_count, sizeof *device->layouts);
    device->streamed = calloc(engine->plan->unit_count, sizeof *device->streamed);
    if (device->parts && device->layouts && device->streamed)
        return device;
    error_set(err, ERROR_FAILED, "cannot list the plan's units: out of memory");
    return NULL;
}

/* Slices of a unit that follow each other on one device are one. */
static bool add_shard(struct engine *engine, const struct shard *shard, enum weight_layout layout, struct error *err) {
    struct engine_device *device = device_for(engine, (uint32_t)shard->device, err);
    if (!device)
        return false;
    struct part_range *parts = &device->parts[shard->unit];
    bool is_first = parts->begin >= parts->end;
    char name[24];
    unit_name(unit_at(engine->model, shard->unit), name);
    if (!is_first && parts->end != shard->part_begin)
        return engine_stale(engine, err, "the plan gives '%s' parts of '%s' that do not follow each other (%u to %u, "
                            "and from %u on)", device->planned->device.short_name, name, parts->begin, parts->end,
                            shard->part_begin);
    if (!is_first && device->layouts[shard->unit] != layout)
        return engine_stale(engine, err, "the plan gives '%s' parts of '%s' in two layouts",
                            device->planned->device.short_name, name);
    *parts = (struct part_range){ is_first ? shard->part_begin : parts->begin, shard->part_end };
    device->streamed[shard->unit] |= shard->residency == STREAMED;
    device->layouts[shard->unit] = layout;
    return true;
}

bool engine_check_plan(struct engine *engine, struct error *err) {
    const struct plan *plan = engine->plan;
    const struct model *model = engine->model;
    if (!plan_validate(plan, err))
        return false;
    if (!model->has_weights)
        return error_set(err, ERROR_FAILED, "model '%s' has no weight files; only phiplan --dry-run can use it",
                         model->name);
    if (plan->unit_count != unit_count(model))
        return engine_stale(engine, err, "the plan has %u units and the model '%s' has %u", plan->unit_count,
                            model->name, unit_count(model));
    engine->context = plan->request.context;
    engine->micro_batch = plan->request.micro_batch ? plan->request.micro_batch : 256;
    if (engine->context == 0 || engine->context > MOST_CONTEXT || engine->micro_batch > MOST_MICRO_BATCH)
        return engine_stale(engine, err, "the plan is damaged: it has a context of %u and micro-batches of %u",
                            engine->context, engine->micro_batch);

    engine->devices = calloc(plan->device_count + 1, sizeof *engine->devices);
    if (!engine->devices)
        return error_set(err, ERROR_FAILED, "cannot list the plan's devices: out of memory");
    for (uint32_t i = 0; i < plan->shard_count; i++) {
        const struct shard *shard = &plan->shards[i];
        enum weight_layout layout;
        bool is_last = i + 1 == plan->shard_count || plan->shards[i + 1].unit != shard->unit;
        if (!check_shard(engine, shard, is_last, &layout, err))
            return false;
        if (shard->device == PLAN_HOST) {
            engine->has_host_embed = true;
            engine->host_bytes_planned = shard->weight_bytes;
        } else if (!add_shard(engine, shard, layout, err)) {
            return false;
        }
    }
    return make_segments(engine, err);
}

static bool check_device(struct engine *engine, struct engine_device *device, const struct opencl_devices *found,
                         struct error *err) {
    const struct plan_device *planned = device->planned;
    const struct device *before = &planned->device;
    const struct opencl_device *present = opencl_find(found, before);
    if (!present) {
        const char *variable = opencl_selecting_variable(), *value = variable ? getenv(variable) : NULL;
        return engine_stale(engine, err, "device '%s' of the plan (%s, %s) is not there: %u other%s found"
                            "%s%s%s%.200s%s", before->short_name, before->name, before->platform, found->count,
                            found->count == 1 ? "" : "s", value ? " with " : "", value ? variable : "",
                            value ? "='" : "", value ? value : "", value ? "'" : "");
    }
    device->present = present->info;
    device->platform = present->platform;
    device->id = present->id;
    if (strcmp(before->driver, present->info.driver) != 0)
        return engine_stale(engine, err, "the driver of '%s' was '%s' and is '%s' now", before->short_name,
                            before->driver, present->info.driver);
    /* What a CPU's driver reports binds nothing: engine_check_memory() asks the host. */
    if (before->type != DEVICE_CPU && present->info.memory_bytes < planned->budget_bytes)
        return engine_stale(engine, err, "the memory of '%s' was %.1f MB, of which the plan may use %.1f, and is "
                            "%.1f MB now", before->short_name, 1e-6 * (double)before->memory_bytes,
                            1e-6 * (double)planned->budget_bytes, 1e-6 * (double)present->info.memory_bytes);
    if (before->type != DEVICE_CPU && present->info.max_buffer_bytes < planned->max_buffer_bytes)
        return engine_stale(engine, err, "the largest buffer of '%s' was %.1f MB and is %.1f MB now",
                            before->short_name, 1e-6 * (double)planned->max_buffer_bytes,
                            1e-6 * (double)present->info.max_buffer_bytes);
    device->options = (struct buffer_options){
        .context = engine->context, .micro_batch = engine->micro_batch,
        .sequence_count = engine->sequence_count, .logit_rows = engine->logit_rows,
        .kv_type = engine->kv_type, .numeric = engine->numeric, .has_gemm = device->has_gemm,
        .alignment = present->info.alignment,
        .max_buffer_bytes = planned->max_buffer_bytes && planned->max_buffer_bytes < present->info.max_buffer_bytes
                                ? planned->max_buffer_bytes : present->info.max_buffer_bytes,
        .window_bytes = window_limit(planned->budget_bytes),
    };
    return true;
}

bool engine_find_devices(struct engine *engine, struct error *err) {
    if (!plan_check_environment(engine->plan, err)) {
        char sentence[sizeof err->text] = "";
        if (err)
            snprintf(sentence, sizeof sentence, "%s", err->text);
        return engine_stale(engine, err, "%s", sentence);
    }
    struct opencl_devices found = { 0 };
    if (!opencl_enumerate(&found, NULL, err))
        return false;
    bool ok = true;
    for (uint32_t i = 0; ok && i < engine->device_count; i++)
        ok = check_device(engine, &engine->devices[i], &found, err);
    opencl_devices_release(&found);
    return ok;
}

/* Bytes of all buffers of a device for a context; UINT64_MAX where they cannot be made. */
static uint64_t bytes_for(const struct engine *engine, const struct engine_device *device, uint32_t context,
                          struct error *err) {
    struct buffer_options options = device->options;
    options.context = context;
    struct buffer_list list = { 0 };
    uint64_t bytes = UINT64_MAX;
    if (shard_list_buffers(engine->model, device->parts, device->layouts, device->streamed, &options, &list, err)) {
        bytes = 0;
        for (int kind = 0; kind < BUFFER_KINDS; kind++)
            bytes += kind != BUFFER_STREAMED ? list.total_bytes[kind] : 0;
    }
    buffer_list_release(&list);
    return bytes;
}

/* The longest context, in whole pages, that fits all budgets; 0 for none. */
static uint32_t fitting_context(const struct engine *engine) {
    uint32_t fits = 0, too_long = engine->context / KV_PAGE_TOKENS + 1;   /* in pages */
    while (too_long - fits > 1) {
        uint32_t pages = fits + (too_long - fits) / 2;
        bool ok = true;
        for (uint32_t i = 0; ok && i < engine->device_count; i++) {
            uint64_t budget = engine->devices[i].planned->budget_bytes;
            uint64_t bytes = bytes_for(engine, &engine->devices[i], pages * KV_PAGE_TOKENS, NULL);
            ok = bytes != UINT64_MAX && (budget == 0 || bytes <= budget);
        }
        *(ok ? &fits : &too_long) = pages;
    }
    return fits * KV_PAGE_TOKENS;
}

/* All that the plan takes of the host's RAM must be there. */
static bool check_host(const struct engine *engine, struct error *err) {
    struct host_memory host;
    uint64_t need = 0;
    for (uint32_t i = 0; i < engine->device_count; i++) {
        uint64_t bytes = engine->devices[i].planned->device.is_cpu_pool
                             ? bytes_for(engine, &engine->devices[i], engine->context, NULL) : 0;
        need += bytes != UINT64_MAX ? bytes : 0;
    }
    if (!host_memory_read(&host, err))
        return false;
    return need <= host.available_bytes ||
           engine_stale(engine, err, "the plan needs %.1f MB of the host's memory and %.1f MB are available now",
                        1e-6 * (double)need, 1e-6 * (double)host.available_bytes);
}

bool engine_check_memory(struct engine *engine, struct error *err) {
    for (uint32_t i = 0; i < engine->device_count; i++) {
        const struct engine_device *device = &engine->devices[i];
        uint64_t budget = device->planned->budget_bytes;
        struct error reason = { 0 };
        uint64_t bytes = bytes_for(engine, device, engine->context, &reason);
        if (bytes != UINT64_MAX && (budget == 0 || bytes <= budget))
            continue;
        char what[256];
        if (bytes == UINT64_MAX)
            snprintf(what, sizeof what, "%.200s", reason.text);
        else
            snprintf(what, sizeof what, "'%s' may use %.1f MB and needs %.1f MB",
                     device->planned->device.short_name, 1e-6 * (double)budget, 1e-6 * (double)bytes);
        const char *why = engine->exact ? " with --exact, whose KV is float32" : "";
        uint32_t context = fitting_context(engine);
        if (context == 0)
            return engine_stale(engine, err, "%s%s, and no context fits", what, why);
        char command[TYPED_COMMAND_SIZE];
        return error_set(err, ERROR_STALE, "%s%s, for a context of %u; plan it again: %s", what, why, engine->context,
                         plan_command(engine, context, command));
    }
    return check_host(engine, err);
}
