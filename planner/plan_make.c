#include "planner/plan_make.h"

#include "common/unit_weights.h"
#include "common/weight_choice.h"
#include "planner/accelerate_map.h"
#include "planner/fixed_placement.h"
#include "planner/forecast.h"
#include "planner/slicing.h"
#include "planner/stream_placement.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- predictions ---- */

static struct forecast_request forecast_question(const struct sizing *sizing, const struct placement *placement) {
    struct forecast_request question = {
        .model = sizing->source->model, .workload = &sizing->workload, .context = sizing->request->context,
        .device_count = sizing->choice.count, .placement = placement, .streamed = sizing->streamed,
        .stream_bytes_per_s = sizing_stream_rate(sizing),
    };
    for (uint32_t d = 0; d < sizing->choice.count; d++) {
        question.rates[d] = sizing_rates(sizing, (int32_t)d);
        question.shares_memory[d] = sizing->input.devices[d].in_pool;
    }
    return question;
}

static double per_second(double count, double seconds) {
    return seconds > 0 ? count / seconds : 0;
}

/* `is_other_way`: unlike the plan it has whole units only. */
static void describe_alternative(const struct sizing *sizing, const struct placement *placement, bool is_other_way,
                                 struct plan_alternative *alternative) {
    struct forecast_request question = forecast_question(sizing, placement);
    struct forecast forecast = forecast_make(&question);
    size_t used = 0;
    int32_t last = PLACEMENT_HOST;
    *alternative = (struct plan_alternative){ 0 };
    for (uint32_t u = 0; u < sizing->input.unit_count; u++) {
        int32_t device = placement->device[u];
        bool is_new = device >= 0 && device != last;
        for (uint32_t before = 0; before < u; before++)
            is_new = is_new && placement->device[before] != device;
        last = device;
        if (is_new && used < sizeof alternative->devices)
            used += (size_t)snprintf(alternative->devices + used, sizeof alternative->devices - used, "%s%s",
                                     used ? " + " : "", sizing->input.devices[device].name);
    }
    if (is_other_way && used < sizeof alternative->devices)
        snprintf(alternative->devices + used, sizeof alternative->devices - used, " in whole units");
    alternative->prefill_tokens_per_s = per_second(sizing->workload.prompt_tokens, forecast.all.prefill_s);
    alternative->decode_tokens_per_s = per_second(1, forecast.token_first_s);
    alternative->first_token_s = forecast.all.prefill_s;
    alternative->total_s = forecast.total_s;
}

/* ---- the plan ---- */

/* Positions of the chosen devices in the plan: those with units in the order of
 * their first unit, then the others. */
static void order_devices(const struct sizing *sizing, const struct placement *placement,
                          int32_t place[PLACEMENT_MAX_DEVICES]) {
    uint32_t next = 0;
    for (uint32_t d = 0; d < PLACEMENT_MAX_DEVICES; d++)
        place[d] = -1;
    for (uint32_t u = 0; u < sizing->input.unit_count; u++) {
        const struct placement_slice *slices;
        uint32_t count = placement_slices_of(placement, u, &slices);
        for (uint32_t i = 0; i < (count ? count : 1); i++) {
            int32_t device = count ? slices[i].device : placement->device[u];
            if (device >= 0 && place[device] < 0)
                place[device] = (int32_t)next++;
        }
    }
    for (uint32_t d = 0; d < sizing->choice.count; d++)
        if (place[d] < 0)
            place[d] = (int32_t)next++;
}

/* The bytes of a device as phirun will allocate them: stored weights that stay there, KV,
 * scratch and staging as they are; what rounding, widening (norms become float32) and
 * norms that several slices of a unit have add is slack. */
static bool account(const struct sizing *sizing, const struct placement *placement, uint32_t chosen,
                    struct plan_device *entry, struct error *err) {
    const struct model *model = sizing->source->model;
    const uint32_t units = sizing->input.unit_count;
    struct buffer_list list = { 0 };
    struct part_range *parts = calloc(units, sizeof *parts);
    if (!parts)
        return error_set(err, ERROR_FAILED, "cannot make the plan: out of memory");
    sizing_parts(sizing, placement, chosen, parts);
    for (uint32_t u = 0; u < units; u++)
        if (parts[u].begin < parts[u].end && !(sizing->streamed && sizing->streamed[u]))
            entry->weight_bytes += unit_part_stored_bytes(model, unit_at(model, u), parts[u]);
    bool ok = sizing_list(sizing, parts, chosen, &list, err);
    if (ok) {
        uint64_t allocated = list.total_bytes[BUFFER_WEIGHTS];
        entry->kv_bytes = list.total_bytes[BUFFER_KV];
        entry->scratch_bytes = list.total_bytes[BUFFER_SCRATCH];
        entry->staging_bytes = list.total_bytes[BUFFER_STAGING];
        entry->slack_bytes = allocated > entry->weight_bytes ? allocated - entry->weight_bytes : 0;
    }
    buffer_list_release(&list);
    free(parts);
    return ok;
}

/* Some parts of a unit on a chosen device, or embed on the host. */
static bool add_shard(const struct sizing *sizing, const struct placement_slice *slice, const int32_t *place,
                      struct plan *plan, struct error *err) {
    const struct model *model = sizing->source->model;
    const struct unit unit = unit_at(model, slice->unit);
    const bool on_host = slice->device == PLACEMENT_HOST;
    struct shard shard = { .unit = slice->unit, .device = on_host ? PLAN_HOST : place[slice->device],
                           .part_begin = slice->parts.begin, .part_end = slice->parts.end,
                           .residency = sizing->streamed && sizing->streamed[slice->unit] ? STREAMED : RESIDENT,
                           .weight_bytes = on_host ? sizing_stored_bytes(model, slice->unit, true)
                                                   : unit_part_stored_bytes(model, unit, slice->parts) };
    enum weight_layout layout = on_host ? LAYOUT_ROWS : sizing_layout(sizing, (uint32_t)slice->device, slice->unit);
    shard_format_write(model, unit, layout, shard.format);
    bool ok = true;
    if (!on_host) {
        struct buffer_options options = sizing_buffer_options(sizing, (uint32_t)slice->device, slice->unit);
        struct buffer_list list = { 0 };
        ok = unit_part_buffers(model, unit, slice->parts, &options, &list, err);
        shard.kv_bytes = list.total_bytes[BUFFER_KV];
        buffer_list_release(&list);
    }
    return ok && plan_add_shard(plan, &shard, err);
}

static bool add_shards(const struct sizing *sizing, const struct placement *placement, const int32_t *place,
                       struct plan *plan, struct error *err) {
    const struct model *model = sizing->source->model;
    for (uint32_t u = 0; u < sizing->input.unit_count; u++) {
        const struct placement_slice *slices, whole = { u, placement->device[u], unit_all_parts(model, unit_at(model, u)) };
        uint32_t count = placement_slices_of(placement, u, &slices);
        if (!count) {
            slices = &whole;
            count = 1;
        }
        for (uint32_t i = 0; i < count; i++)
            if (!add_shard(sizing, &slices[i], place, plan, err))
                return false;
    }
    return true;
}

static bool add_devices(const struct sizing *sizing, const struct placement_result *result,
                        const int32_t *place, struct plan *plan, struct error *err) {
    const bool is_fill = strcmp(sizing->request->policy, "fill") == 0;
    plan->device_count = sizing->choice.count;
    for (uint32_t d = 0; d < sizing->choice.count; d++) {
        struct plan_device *entry = &plan->devices[place[d]];
        entry->device = *sizing_device(sizing, d);
        entry->budget_bytes = sizing->choice.chosen[d].budget_bytes;
        entry->max_buffer_bytes = sizing->choice.chosen[d].max_buffer_bytes;
        if (!account(sizing, &result->best, d, entry, err))
            return false;
        bool empty = !placement_bytes(&sizing->input, &result->best, d);
        if (empty)
            placement_empty_reason(&sizing->input, result, d, entry->empty_reason, sizeof entry->empty_reason);
        if (empty && placement_is_fixed(sizing))
            snprintf(entry->empty_reason, sizeof entry->empty_reason, "the map puts nothing there");
        if (empty && is_fill && sizing->input.devices[d].budget_bytes == 0)
            snprintf(entry->empty_reason, sizeof entry->empty_reason, "its memory limit is 0");
    }
    for (uint32_t i = 0; i < sizing->choice.left_out_count && plan->device_count < PLAN_MAX_DEVICES; i++) {
        const struct left_out_device *left_out = &sizing->choice.left_out[i];
        struct plan_device *entry = &plan->devices[plan->device_count++];
        entry->device = sizing->source->devices->devices[left_out->index];
        snprintf(entry->empty_reason, sizeof entry->empty_reason, "%s", left_out->reason);
    }
    return true;
}

static struct plan *write_plan(const struct sizing *sizing, const struct placement_result *result,
                               struct error *err) {
    const struct model *model = sizing->source->model;
    struct forecast_request question = forecast_question(sizing, &result->best);
    struct forecast forecast = forecast_make(&question);
    int32_t place[PLACEMENT_MAX_DEVICES];
    struct plan *plan = plan_new();
    if (!plan) {
        error_set(err, ERROR_FAILED, "cannot make the plan: out of memory");
        return NULL;
    }
    snprintf(plan->model_name, sizeof plan->model_name, "%s", model->name);
    snprintf(plan->architecture, sizeof plan->architecture, "%s", model->architecture);
    snprintf(plan->model_path, sizeof plan->model_path, "%s", model->source.path ? model->source.path : "");
    plan->model_weight_bytes = model_chosen_bytes(model);
    plan->unit_count = sizing->input.unit_count;
    plan->numeric = sizing->numeric;
    plan->request = *sizing->request;
    plan_record_environment(plan);
    order_devices(sizing, &result->best, place);
    if (!add_devices(sizing, result, place, plan, err) ||
        !add_shards(sizing, &result->best, place, plan, err) || !plan_validate(plan, err))
        goto failed;
    forecast_write(&forecast, &question, place, plan);
    if (!placement_is_fixed(sizing))
        placement_binding(&sizing->input, &result->best, plan->binding, sizeof plan->binding);
    if (sizing->streamed)
        stream_sentence(sizing, &result->best, plan->binding, sizeof plan->binding);
    return plan;

failed:
    plan_free(plan);
    return NULL;
}

/* ---- what would fit ---- */

static bool place(struct sizing *sizing, struct placement_result *result, struct text *notes, struct error *err) {
    const char *name = sizing->request->policy;
    const bool is_fill = strcmp(name, "fill") == 0, is_balanced = strcmp(name, "balanced") == 0;
    struct error refused = { 0 };
    if (placement_is_fixed(sizing))
        return placement_fixed(sizing, result, notes, err);
    placement_policy *policy = is_fill ? placement_fill : is_balanced ? placement_balanced : placement_fastest;
    bool ok = policy(&sizing->input, result, &refused);
    /* A device that must hold something is a question about whole units; `fill` cuts units
     * only where it must. */
    bool may_slice = strcmp(sizing->request->slices, "auto") == 0 && !is_balanced && !sizing->input.required;
    if (may_slice && (ok ? !is_fill : result->infeasible))
        ok = slicing_improve(sizing, result) || ok;
    if (ok)
        return true;
    if (result->infeasible && sizing->request->stream)
        return placement_streamed(sizing, policy, result, err);
    if (err)
        *err = refused;
    return false;
}

/* The search adds up what devices take; where passes of a prompt travel through several at once, another
 * of the placements that it found may be done sooner. */
static void rank_by_forecast(const struct sizing *sizing, struct placement_result *result) {
    struct placement *const ranked[1 + PLACEMENT_ALTERNATIVES] = { &result->best, &result->alternatives[0],
                                                                   &result->alternatives[1] };
    _Static_assert(PLACEMENT_ALTERNATIVES == 2, "all of them are ranked");
    if (strcmp(sizing->request->policy, "fastest") != 0 || placement_is_fixed(sizing) || sizing->streamed)
        return;
    for (uint32_t i = 0; i <= result->alternative_count; i++) {
        struct forecast_request question = forecast_question(sizing, ranked[i]);
        ranked[i]->seconds = forecast_make(&question).total_s;
        for (uint32_t j = i; j && ranked[j]->seconds < ranked[j - 1]->seconds; j--) {
            struct placement swap = *ranked[j];
            *ranked[j] = *ranked[j - 1];
            *ranked[j - 1] = swap;
        }
    }
    for (uint32_t u = 0; u < sizing->input.unit_count; u++) {
        int32_t device = result->best.device[u];
        if (device >= 0 && result->best.seconds < result->best_with[device])
            result->best_with[device] = result->best.seconds;
    }
}

static bool would_fit(const struct sizing_source *source, const struct plan_request *request,
                      enum kv_type kv_type, uint32_t context, bool stream) {
    struct plan_request smaller = *request;
    struct sizing sizing;
    struct placement_result result = { 0 };
    struct text notes;
    text_init(&notes);
    smaller.context = context;
    smaller.kv_type = kv_type;
    if (smaller.prompt_tokens >= context)
        smaller.prompt_tokens = context - 1;
    smaller.new_tokens = 1;
    bool fits = sizing_make(&sizing, source, &smaller, &notes, NULL);
    if (fits) {
        fits = placement_fill(&sizing.input, &result, NULL);
        placement_result_release(&result);
        fits = fits || placement_fastest(&sizing.input, &result, NULL);
        placement_result_release(&result);
        fits = fits || (stream && placement_streamed(&sizing, placement_fastest, &result, NULL));
        placement_result_release(&result);
        sizing_release(&sizing);
    }
    text_release(&notes);
    return fits;
}

/* Add to the sentence what would help: the largest context in whole KV pages that
 * fits, or float16 KV, or streaming. */
static bool advise(const struct sizing_source *source, const struct plan_request *request, struct error *err) {
    const bool stream = request->stream, is_fixed = source->map || accelerate_is_policy(request->policy);
    uint32_t low = 0, high = request->context / KV_PAGE_TOKENS;   /* pages: low fits, high does not */
    char sentence[sizeof err->text], help[160] = "";
    if (!stream && !is_fixed && would_fit(source, request, request->kv_type, request->context, true))
        snprintf(help, sizeof help, "; --stream would fit: it reads what is too much from the disk, for every token");
    snprintf(sentence, sizeof sentence, "%s", err->text);
    if (request->kv_type == KV_F32 && would_fit(source, request, KV_F16, request->context, stream))
        return error_set(err, ERROR_FAILED, "%s; --kv f16 would fit%s", sentence, help);
    if (high < 2 || !would_fit(source, request, request->kv_type, KV_PAGE_TOKENS, stream))
        return error_set(err, ERROR_FAILED, "%s; no shorter --ctx fits either: free memory, raise --max-memory or "
                         "name more devices%s", sentence, help);
    for (low = 1; high - low > 1;) {
        uint32_t middle = low + (high - low) / 2;
        if (would_fit(source, request, request->kv_type, middle * KV_PAGE_TOKENS, stream))
            low = middle;
        else
            high = middle;
    }
    return error_set(err, ERROR_FAILED, "%s; --ctx %u would fit%s", sentence, low * KV_PAGE_TOKENS, help);
}

bool plan_make(const struct sizing_source *source, struct plan_request *request, struct made_plan *made,
               struct text *notes, struct error *err) {
    struct sizing sizing;
    struct placement_result result = { 0 };
    *made = (struct made_plan){ 0 };
    if (!request_complete(request, source->model, err) || !sizing_make(&sizing, source, request, notes, err))
        return false;
    bool ok = place(&sizing, &result, notes, err);
    if (ok) {
        rank_by_forecast(&sizing, &result);
        made->plan = write_plan(&sizing, &result, err);
        made->alternative_count = made->plan ? result.alternative_count : 0;
        for (uint32_t i = 0; i < made->alternative_count; i++)
            describe_alternative(&sizing, &result.alternatives[i], result.best.slice_count > 0, &made->alternatives[i]);
        ok = made->plan != NULL;
    } else if (result.infeasible) {
        advise(source, request, err);
    }
    placement_result_release(&result);
    sizing_release(&sizing);
    return ok;
}

void made_plan_release(struct made_plan *made) {
    plan_free(made->plan);
    *made = (struct made_plan){ 0 };
}
