#include "planner/stream_placement.h"

#include "planner/size_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The search on one device. */
struct trial {
    const struct sizing *sizing;
    placement_policy *policy;
    uint32_t device;                   /* that streams, as chosen */
    struct placement_unit *streamed;   /* [unit] what a unit takes and costs there when it is streamed */
    uint64_t *piece_bytes;             /* [unit] what it wants of a window */
    uint32_t *order;                   /* [order_count] units, those to stream first first */
    uint32_t order_count;
    struct placement_input input;      /* the sizing's, with tables of its own for what differs */
    uint64_t scratch_bytes[PLACEMENT_KIND_MASKS];   /* of the device, without windows */
};

static void trial_release(struct trial *trial) {
    free(trial->streamed);
    free(trial->piece_bytes);
    free(trial->order);
    free(trial->input.pinned);
    free(trial->input.devices[trial->device].units);
    *trial = (struct trial){ 0 };
}

/* False where the unit cannot be streamed there. */
static bool size_streamed(struct trial *trial, uint32_t unit) {
    const struct sizing *sizing = trial->sizing;
    const struct model *model = sizing->source->model;
    const uint32_t units = sizing->input.unit_count;
    struct buffer_options options = sizing_buffer_options(sizing, trial->device, unit);
    struct buffer_list list = { 0 };
    options.streamed = true;
    bool ok = unit_buffers(model, unit_at(model, unit), &options, &list, NULL);
    for (size_t i = 0; i < list.count; i++)
        if (list.specs[i].kind == BUFFER_STREAMED && list.specs[i].used_bytes > trial->piece_bytes[unit])
            trial->piece_bytes[unit] = list.specs[i].used_bytes;
    struct unit_cost cost = cost_streamed(model, unit_at(model, unit),
                                          &sizing->costs[(size_t)trial->device * units + unit],
                                          sizing_stream_rate(sizing), &sizing->workload);
    trial->streamed[unit] = (struct placement_unit){
        .allowed = true, .bytes = list.total_bytes[BUFFER_WEIGHTS] + list.total_bytes[BUFFER_KV],
        .seconds = cost_total(model, &cost, &sizing->workload),
    };
    buffer_list_release(&list);
    return ok;
}

/* `head_first`: where in the order the head is; it may be larger than all that is left beside
 * it, so that either can be better. */
static bool trial_init(struct trial *trial, const struct sizing *sizing, placement_policy *policy, uint32_t device,
                       bool head_first, struct error *err) {
    const struct placement_input *input = &sizing->input;
    const uint32_t units = input->unit_count;
    *trial = (struct trial){ .sizing = sizing, .policy = policy, .device = device, .input = *input };
    struct placement_device *own = &trial->input.devices[device];
    trial->streamed = calloc(units, sizeof *trial->streamed);
    trial->piece_bytes = calloc(units, sizeof *trial->piece_bytes);
    trial->order = calloc(units, sizeof *trial->order);
    trial->input.pinned = calloc(units, sizeof *trial->input.pinned);
    own->units = calloc(units, sizeof *own->units);
    if (!trial->streamed || !trial->piece_bytes || !trial->order || !trial->input.pinned || !own->units)
        return error_set(err, ERROR_FAILED, "cannot place streamed weights: out of memory");
    memcpy(trial->scratch_bytes, own->scratch_bytes, sizeof trial->scratch_bytes);
    for (uint32_t i = 1; i < units; i++) {
        uint32_t unit = head_first ? units - i : i + 1 < units ? units - 1 - i : units - 1;
        int32_t pin = input->pinned[unit];
        bool may = (pin == PLACEMENT_FREE && input->devices[device].units[unit].allowed) || pin == (int32_t)device;
        if (may && size_streamed(trial, unit))
            trial->order[trial->order_count++] = unit;
    }
    return true;
}

/* With the first `count` units of the order streamed. */
static bool try_count(struct trial *trial, uint32_t count, struct placement_result *result, struct error *err) {
    const struct placement_input *input = &trial->sizing->input;
    struct placement_device *own = &trial->input.devices[trial->device];
    const uint64_t alignment = sizing_device(trial->sizing, trial->device)->alignment;
    uint64_t window = 0;
    memcpy(trial->input.pinned, input->pinned, input->unit_count * sizeof *input->pinned);
    memcpy(own->units, input->devices[trial->device].units, input->unit_count * sizeof *own->units);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t unit = trial->order[i];
        trial->input.pinned[unit] = (int32_t)trial->device;
        own->units[unit] = trial->streamed[unit];
        if (trial->piece_bytes[unit] > window)
            window = trial->piece_bytes[unit];
    }
    window = (window + alignment - 1) & ~(alignment - 1);
    for (uint32_t mask = 1; mask < PLACEMENT_KIND_MASKS; mask++)
        own->scratch_bytes[mask] = trial->scratch_bytes[mask] + 2 * window;
    return trial->policy(&trial->input, result, err);
}

/* The fewest that are enough; 0: not even all are. */
static uint32_t fewest(struct trial *trial, struct error *err) {
    struct placement_result result = { 0 };
    uint32_t few = 0, enough = trial->order_count;
    if (!enough || !try_count(trial, enough, &result, err))
        return 0;
    placement_result_release(&result);
    while (enough - few > 1) {
        uint32_t middle = few + (enough - few) / 2;
        bool fits = try_count(trial, middle, &result, NULL);
        *(fits ? &enough : &few) = middle;
        placement_result_release(&result);
    }
    return enough;
}

/* Make the trial's tables the sizing's. */
static void adopt(struct sizing *sizing, struct trial *trial, uint32_t count) {
    struct placement_input old = sizing->input;
    for (uint32_t i = 0; i < count; i++)
        sizing->streamed[trial->order[i]] = true;
    sizing->input = trial->input;
    trial->input.pinned = old.pinned;
    trial->input.devices[trial->device].units = old.devices[trial->device].units;
}

bool placement_streamed(struct sizing *sizing, placement_policy *policy, struct placement_result *result,
                        struct error *err) {
    struct trial best = { 0 };
    struct error first = { 0 };
    uint32_t best_count = 0;
    bool has_tables = true;
    *result = (struct placement_result){ 0 };
    for (uint32_t i = 0; has_tables && i < 2 * sizing->choice.count; i++) {
        struct trial trial;
        struct placement_result found = { 0 };
        struct error refused = { 0 };
        has_tables = trial_init(&trial, sizing, policy, i / 2, i % 2, &first);
        uint32_t count = has_tables ? fewest(&trial, &refused) : 0;
        if (refused.kind != ERROR_NONE && first.kind == ERROR_NONE)
            first = refused;
        bool is_better = count && try_count(&trial, count, &found, NULL) &&
                         (!best_count || found.best.seconds < result->best.seconds);
        if (is_better) {
            placement_result_release(result);
            trial_release(&best);
            *result = found;
            best = trial;
            best_count = count;
        } else {
            placement_result_release(&found);
            trial_release(&trial);
        }
    }
    if (best_count)
        sizing->streamed = calloc(sizing->input.unit_count, sizeof *sizing->streamed);
    bool ok = sizing->streamed != NULL;
    if (ok) {
        adopt(sizing, &best, best_count);
    } else {
        placement_result_release(result);
        result->infeasible = has_tables && !best_count;
        if (err && first.kind != ERROR_NONE)
            *err = first;
        else
            error_set(err, ERROR_FAILED, "cannot place streamed weights: out of memory");
        error_prefix(err, "even with weights streamed");
    }
    trial_release(&best);
    return ok;
}

void stream_sentence(const struct sizing *sizing, const struct placement *placement, char *text, size_t size) {
    const struct model *model = sizing->source->model;
    const uint32_t units = sizing->input.unit_count;
    uint64_t bytes = 0;
    uint32_t count = 0;
    int32_t device = PLACEMENT_HOST;
    double token_s = 0;
    text[0] = '\0';
    for (uint32_t u = 0; sizing->streamed && u < units; u++) {
        int32_t at = placement->device[u];
        struct unit_cost cost = { 0 };
        if (at < 0)
            continue;
        cost = sizing->costs[(size_t)at * units + u];
        if (sizing->streamed[u]) {
            count++;
            device = at;
            bytes += sizing_stored_bytes(model, u, false);
            cost = cost_streamed(model, unit_at(model, u), &cost, sizing_stream_rate(sizing), &sizing->workload);
        }
        token_s += cost.token_s;
    }
    if (!count)
        return;
    char amount[24];
    size_print(bytes, amount);
    snprintf(text, size, "%u of %u units fit nowhere: '%s' reads %s for every token, which takes %.3g s of its %.3g s",
             count, units, sizing->input.devices[device].name, amount, (double)bytes / sizing_stream_rate(sizing),
             token_s);
}
