#include "planner/sizing.h"

#include "common/plan_request.h"
#include "common/unit_weights.h"
#include "planner/accelerate_map.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sums of this many bytes over all units stay far from overflow. */
#define UNIT_BYTES_LIMIT (1ull << 48)

bool request_complete(struct plan_request *request, const struct model *model, struct error *err) {
    if (request->context > model->max_context)
        return error_set(err, ERROR_USAGE, "--ctx %u exceeds the %u tokens that '%s' was made for",
                         request->context, model->max_context, model->name);
    plan_request_fill(request, model->max_context);
    uint32_t prompt = request->prompt_tokens, new_tokens = request->new_tokens;
    if ((uint64_t)prompt + new_tokens > request->context)
        return error_set(err, ERROR_USAGE, "a prompt of %u and %u new tokens do not fit a context of %u; "
                         "raise --ctx or lower --prompt and --new", prompt, new_tokens, request->context);
    return true;
}

const struct device *sizing_device(const struct sizing *sizing, uint32_t chosen) {
    return &sizing->source->devices->devices[sizing->choice.chosen[chosen].index];
}

const struct device_rates *sizing_rates(const struct sizing *sizing, int32_t position) {
    return position < 0 ? NULL : &sizing->source->rates[sizing->choice.chosen[position].index];
}

enum weight_layout sizing_layout(const struct sizing *sizing, uint32_t chosen, uint32_t unit) {
    return sizing->layouts[(size_t)chosen * sizing->input.unit_count + unit];
}

/* Any type that the model could have: scratch that is not needed is not touched. */
static bool sizing_uses_gemm(const struct sizing *sizing, uint32_t chosen) {
    bool any = false;
    for (int t = 0; t < TENSOR_TYPE_COUNT; t++)
        any = any || device_rates_prefer_gemm(sizing_rates(sizing, (int32_t)chosen), (enum tensor_type)t);
    return any;
}

struct buffer_options sizing_buffer_options(const struct sizing *sizing, uint32_t chosen, uint32_t unit) {
    return (struct buffer_options){
        .context = sizing->request->context, .micro_batch = sizing->request->micro_batch,
        .sequence_count = 1, .logit_rows = 1, .kv_type = sizing->request->kv_type,
        .numeric = sizing->numeric, .layout = sizing_layout(sizing, chosen, unit),
        .has_gemm = sizing_uses_gemm(sizing, chosen),
        .alignment = sizing_device(sizing, chosen)->alignment,
        .max_buffer_bytes = sizing->choice.chosen[chosen].max_buffer_bytes,
        .streamed = sizing->streamed && sizing->streamed[unit],
        .window_bytes = window_limit(sizing->choice.chosen[chosen].budget_bytes) };
}

double sizing_stream_rate(const struct sizing *sizing) {
    return sizing->source->stream_bytes_per_s > 0 ? sizing->source->stream_bytes_per_s : COST_STREAM_BYTES_PER_S;
}

uint64_t sizing_stored_bytes(const struct model *model, uint32_t unit, bool on_host) {
    struct unit place = unit_at(model, unit);
    return on_host && unit == 0 && model->tied_head && !model->head.is_converted
               ? 0 : unit_part_stored_bytes(model, place, unit_all_parts(model, place));
}

void sizing_parts(const struct sizing *sizing, const struct placement *placement, uint32_t chosen,
                  struct part_range *parts) {
    const struct model *model = sizing->source->model;
    for (uint32_t u = 0; u < sizing->input.unit_count; u++)
        parts[u] = placement_parts(placement, u, (int32_t)chosen, unit_part_count(model, unit_at(model, u)));
}

bool sizing_list(const struct sizing *sizing, const struct part_range *parts, uint32_t chosen,
                 struct buffer_list *list, struct error *err) {
    const struct model *model = sizing->source->model;
    struct buffer_options options = sizing_buffer_options(sizing, chosen, 0);
    for (uint32_t u = 0; u < sizing->input.unit_count; u++) {
        options.layout = sizing_layout(sizing, chosen, u);
        options.streamed = sizing->streamed && sizing->streamed[u];
        if (parts[u].begin < parts[u].end &&
            !unit_part_buffers(model, unit_at(model, u), parts[u], &options, list, err))
            return false;
    }
    return device_part_buffers(model, parts, &options, list, err) && window_buffers(model, &options, list, err);
}

uint64_t sizing_bytes(const struct sizing *sizing, const struct part_range *parts, uint32_t chosen) {
    struct buffer_list list = { 0 };
    uint64_t bytes = UINT64_MAX;
    if (sizing_list(sizing, parts, chosen, &list, NULL)) {
        bytes = 0;
        for (int kind = 0; kind < BUFFER_KINDS; kind++)
            bytes += kind != BUFFER_STREAMED ? list.total_bytes[kind] : 0;
    }
    buffer_list_release(&list);
    return bytes;
}

/* ---- pins ---- */

struct ruling { struct sizing *sizing; bool embed_ruled; };

static bool pin_unit(void *context, uint32_t unit, int32_t position, struct error *err) {
    struct ruling *ruling = context;
    if (position < 0 && unit != 0)
        return error_set(err, ERROR_USAGE, "only embed can be on 'host'");
    ruling->sizing->input.pinned[unit] = position < 0 ? PLACEMENT_HOST : position;
    ruling->embed_ruled = ruling->embed_ruled || unit == 0;
    return true;
}

static bool forbid_unit(void *context, uint32_t unit, int32_t position, struct error *err) {
    struct ruling *ruling = context;
    (void)err;
    if (position >= 0)
        ruling->sizing->input.devices[position].units[unit].allowed = false;
    else if (unit == 0)
        ruling->embed_ruled = true;
    return true;
}

static bool apply_rules(struct sizing *sizing, struct error *err) {
    const struct device_list *list = sizing->source->devices;
    struct ruling ruling = { sizing, false };
    uint32_t units = sizing->input.unit_count;
    if (!device_choice_patterns(list, &sizing->choice, "--forbid", sizing->request->forbids, units, forbid_unit,
                                &ruling, err) ||
        !device_choice_patterns(list, &sizing->choice, "--pin", sizing->request->pins, units, pin_unit, &ruling,
                                err))
        return false;
    /* Rows of the embedding are gathered from the mapped file: no device memory, and
     * a hand-over to the first device that is needed anyway. */
    if (!ruling.embed_ruled)
        sizing->input.pinned[0] = PLACEMENT_HOST;
    for (uint32_t u = 0; u < units; u++) {
        int32_t pin = sizing->input.pinned[u];
        char name[24];
        unit_name(unit_at(sizing->source->model, u), name);
        if (pin >= 0 && !sizing->input.devices[pin].units[u].allowed)
            return error_set(err, ERROR_USAGE, "'%s' is pinned to '%s', where it is forbidden or a buffer of it "
                             "exceeds the largest; change --pin, --forbid or --max-buffer", name,
                             sizing->input.devices[pin].name);
    }
    return true;
}

/* ---- bytes and seconds ---- */

/* Where a scratch buffer exceeds the largest of the device, nothing is allowed there. */
static bool size_scratch(struct sizing *sizing, uint32_t chosen, struct error *why, struct error *err) {
    const struct model *model = sizing->source->model;
    struct placement_device *device = &sizing->input.devices[chosen];
    struct buffer_options options = sizing_buffer_options(sizing, chosen, 0);
    bool *held = calloc(sizing->input.unit_count, sizeof *held);
    struct error refused = { 0 };
    bool ok = held != NULL;
    if (!held)
        return error_set(err, ERROR_FAILED, "cannot size the model: out of memory");
    /* Scratch depends on the kinds of unit alone: one unit stands for its kind. */
    for (uint32_t mask = 1; ok && mask < PLACEMENT_KIND_MASKS; mask++) {
        struct buffer_list list = { 0 };
        held[0] = mask >> UNIT_EMBED & 1;
        held[1] = mask >> UNIT_ATTN & 1;
        held[2] = mask >> UNIT_FFN & 1;
        held[sizing->input.unit_count - 1] = mask >> UNIT_HEAD & 1;
        ok = device_buffers(model, held, &options, &list, &refused);
        device->scratch_bytes[mask] = list.total_bytes[BUFFER_SCRATCH] + list.total_bytes[BUFFER_STAGING];
        ok = ok && (device->scratch_bytes[mask] < UNIT_BYTES_LIMIT ||
                    error_set(&refused, ERROR_FAILED, "a micro-batch of %u needs too much scratch; try a "
                              "smaller --micro-batch", options.micro_batch));
        buffer_list_release(&list);
    }
    free(held);
    for (uint32_t u = 0; !ok && u < sizing->input.unit_count; u++)
        device->units[u].allowed = false;
    if (!ok && why->kind == ERROR_NONE) {
        *why = refused;
        error_prefix(why, "device '%s'", device->name);
    }
    return true;
}

/* A unit that no buffer of the device can hold is not allowed there; the first
 * such sentence goes to `why`. */
static void size_units(struct sizing *sizing, uint32_t chosen, struct error *why) {
    const struct model *model = sizing->source->model;
    struct placement_device *device = &sizing->input.devices[chosen];
    const struct device_rates *rates = sizing_rates(sizing, (int32_t)chosen);
    for (uint32_t u = 0; u < sizing->input.unit_count; u++) {
        enum weight_layout layout = cost_best_layout(model, unit_at(model, u), rates, &sizing->workload);
        sizing->layouts[(size_t)chosen * sizing->input.unit_count + u] = layout;
        struct buffer_options options = sizing_buffer_options(sizing, chosen, u);
        struct buffer_list list = { 0 };
        struct error refused = { 0 };
        struct placement_unit *unit = &device->units[u];
        unit->allowed = unit_buffers(model, unit_at(model, u), &options, &list, &refused);
        unit->bytes = list.total_bytes[BUFFER_WEIGHTS] + list.total_bytes[BUFFER_KV];
        unit->allowed = unit->allowed && unit->bytes < UNIT_BYTES_LIMIT;
        if (!unit->allowed) {
            unit->bytes = 0;
            if (u && why->kind == ERROR_NONE)
                *why = refused;
        }
        buffer_list_release(&list);
        struct unit_cost cost = cost_unit_in(model, unit_at(model, u), layout, rates, &sizing->workload);
        sizing->costs[(size_t)chosen * sizing->input.unit_count + u] = cost;
        unit->seconds = cost_total(model, &cost, &sizing->workload);
    }
}

bool sizing_make(struct sizing *sizing, const struct sizing_source *source,
                 const struct plan_request *request, struct text *notes, struct error *err) {
    const struct model *model = source->model;
    struct plan_request limits = *request;
    *sizing = (struct sizing){ .source = source, .request = request };
    /* To Accelerate it limits the weights alone: see fixed_placement.h. */
    if (accelerate_is_policy(request->policy))
        limits.max_memory[0] = '\0';
    if (!device_choice_make(source->devices, source->memory_bytes, &limits, source->host, &sizing->choice, notes, err))
        return false;
    sizing->numeric = model_numeric_class(model, false);
    sizing->workload = (struct workload){
        .prompt_tokens = request->prompt_tokens, .new_tokens = request->new_tokens,
        .micro_batch = request->micro_batch, .kv_type = request->kv_type,
        .crosses_rope_switch = workload_crosses_switch(model, request->prompt_tokens, request->new_tokens,
                                                       request->rope) };
    const uint32_t units = unit_count(model), count = sizing->choice.count;
    if (!placement_input_init(&sizing->input, units, count, err))
        return false;
    sizing->input.pool_bytes = sizing->choice.pool_bytes;
    sizing->costs = calloc((size_t)units * count, sizeof *sizing->costs);
    sizing->layouts = calloc((size_t)units * count, sizeof *sizing->layouts);
    if (!sizing->costs || !sizing->layouts) {
        error_set(err, ERROR_FAILED, "cannot size the model: out of memory");
        goto failed;
    }
    for (uint32_t u = 0; u < units; u++)
        sizing->input.kinds[u] = unit_at(model, u).kind;
    struct error why = { 0 };
    for (uint32_t d = 0; d < count; d++) {
        struct placement_device *device = &sizing->input.devices[d];
        snprintf(device->name, sizeof device->name, "%s", sizing_device(sizing, d)->short_name);
        device->budget_bytes = sizing->choice.chosen[d].budget_bytes;
        device->in_pool = sizing_device(sizing, d)->is_cpu_pool;
        if (source->required_device && strcmp(device->name, source->required_device) == 0)
            sizing->input.required |= 1u << d;
        size_units(sizing, d, &why);
        if (!size_scratch(sizing, d, &why, err))
            goto failed;
        for (uint32_t e = 0; e <= count; e++) {
            int32_t other = e == count ? PLACEMENT_HOST : (int32_t)e;
            uint32_t at = e == count ? PLACEMENT_MAX_DEVICES : e;
            const struct device_rates *here = sizing_rates(sizing, (int32_t)d), *there = sizing_rates(sizing, other);
            if (e == d)
                continue;
            sizing->input.hop_seconds[d][at] = cost_hop_total(model, here, there, &sizing->workload);
            sizing->input.hop_seconds[at][d] = cost_hop_total(model, there, here, &sizing->workload);
        }
    }
    /* One unit that fits no device's buffers: its own sentence is the best one. */
    for (uint32_t u = 1; u < units; u++) {
        bool possible = false;
        for (uint32_t d = 0; d < count; d++)
            possible = possible || sizing->input.devices[d].units[u].allowed;
        if (!possible && why.kind != ERROR_NONE) {
            error_set(err, ERROR_FAILED, "%s", why.text);
            goto failed;
        }
    }
    if (!apply_rules(sizing, err))
        goto failed;
    return true;

failed:
    sizing_release(sizing);
    return false;
}

void sizing_release(struct sizing *sizing) {
    placement_input_release(&sizing->input);
    free(sizing->costs);
    free(sizing->layouts);
    free(sizing->streamed);
    sizing->costs = NULL;
    sizing->layouts = NULL;
    sizing->streamed = NULL;
}
