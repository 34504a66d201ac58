#include "planner/forecast.h"

#include "planner/pipeline.h"

#include <math.h>

static void add_share(struct forecast_share *sum, struct forecast_share share) {
    sum->prefill_s += share.prefill_s;
    sum->rerun_s += share.rerun_s;
    sum->token_s += share.token_s;
    sum->key_s += share.key_s;
}

static void add(struct forecast *forecast, int32_t device, struct forecast_share share) {
    add_share(&forecast->all, share);
    if (device >= 0)
        add_share(&forecast->devices[device], share);
}

static const struct device_rates *rates_of(const struct forecast_request *request, int32_t device) {
    return device < 0 ? NULL : request->rates[device];
}

static struct forecast_share hop_share(const struct forecast_request *request, int32_t from, int32_t to) {
    const struct device_rates *source = rates_of(request, from), *target = rates_of(request, to);
    struct forecast_share share = {
        .prefill_s = cost_hop_prompt(request->model, source, target, request->workload),
        .token_s = cost_hop_token(request->model, source, target),
    };
    if (request->workload->crosses_rope_switch) {
        struct workload again = *request->workload;
        again.prompt_tokens = request->model->rope.original_context + 1;
        share.rerun_s = cost_hop_prompt(request->model, source, target, &again);
    }
    return share;
}

double forecast_pooled_seconds(const double *alone, const double *together, uint32_t count) {
    double left[PLAN_MAX_DEVICES], elapsed = 0;
    uint32_t active = 0;
    for (uint32_t i = 0; i < count; i++) {
        left[i] = alone[i] > 0 ? alone[i] : 0;
        active += left[i] > 0;
    }
    while (active) {
        double speed[PLAN_MAX_DEVICES], step = INFINITY;
        for (uint32_t i = 0; i < count; i++) {
            /* Pairs were measured: more than two share what two were left with. */
            speed[i] = active == 1 ? 1 : together[i] > 0 ? fmin(1, 2 * together[i] / active) : 1.0 / active;
            if (left[i] > 0)
                step = fmin(step, left[i] / speed[i]);
        }
        elapsed += step;
        active = 0;
        for (uint32_t i = 0; i < count; i++) {
            left[i] = left[i] > step * speed[i] * (1 + 1e-12) ? left[i] - step * speed[i] : 0;
            active += left[i] > 0;
        }
    }
    return elapsed;
}

/* The shares of devices on one memory that work at the same time, as if of one device. */
static struct forecast_share pooled_share(const struct forecast_share *shares, const double *together, uint32_t count) {
    double prefill[PLAN_MAX_DEVICES], rerun[PLAN_MAX_DEVICES], token[PLAN_MAX_DEVICES], key[PLAN_MAX_DEVICES];
    for (uint32_t i = 0; i < count; i++) {
        prefill[i] = shares[i].prefill_s;
        rerun[i] = shares[i].rerun_s;
        token[i] = shares[i].token_s;
        key[i] = shares[i].key_s;
    }
    return (struct forecast_share){ forecast_pooled_seconds(prefill, together, count),
                                    forecast_pooled_seconds(rerun, together, count),
                                    forecast_pooled_seconds(token, together, count),
                                    forecast_pooled_seconds(key, together, count) };
}

/* A unit in slices: the shares of its devices, and what passes until all are done. */
static void add_slices(struct forecast *forecast, const struct forecast_request *request,
                       const struct placement_slice *slices, uint32_t count) {
    const struct model *model = request->model;
    const struct unit unit = unit_at(model, slices[0].unit);
    struct forecast_share pooled[PLAN_MAX_DEVICES], slowest = { 0 };
    double together[PLAN_MAX_DEVICES];
    uint32_t pooled_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct device_rates *rates = request->rates[slices[i].device];
        struct unit_cost cost = cost_parts_in(model, unit, slices[i].parts,
                                              cost_best_layout(model, unit, rates, request->workload), rates,
                                              request->workload);
        struct forecast_share *own = &forecast->devices[slices[i].device], share = {
            cost.prefill_s, cost.rerun_s, cost.token_s, cost.key_s };
        add_share(own, share);
        if (request->shares_memory[slices[i].device] && pooled_count < PLAN_MAX_DEVICES) {
            together[pooled_count] = rates->together;
            pooled[pooled_count++] = share;
            share = pooled_share(pooled, together, pooled_count);
        }
        slowest.prefill_s = fmax(slowest.prefill_s, share.prefill_s);
        slowest.rerun_s = fmax(slowest.rerun_s, share.rerun_s);
        if (forecast_middle_token(&share, model, request->workload) >
            forecast_middle_token(&slowest, model, request->workload)) {
            slowest.token_s = share.token_s;
            slowest.key_s = share.key_s;
        }
    }
    add_share(&forecast->all, slowest);
}

/* As of one after the other, until here. */
static void overlap_passes(struct forecast *forecast, const struct forecast_request *request,
                           const struct pipeline *pipeline) {
    double together[PLAN_MAX_DEVICES] = { 0 };
    for (uint32_t d = 0; d < request->device_count; d++)
        together[d] = request->rates[d] ? request->rates[d]->together : 0;
    double passes = (double)request->workload->prompt_tokens / request->workload->micro_batch;
    forecast->overlap = pipeline_overlap(pipeline, passes, request->shares_memory, together);
    forecast->all.prefill_s *= forecast->overlap;
    if (forecast->all.rerun_s > 0) {
        passes = (request->model->rope.original_context + 1.0) / request->workload->micro_batch;
        forecast->all.rerun_s *= pipeline_overlap(pipeline, passes, request->shares_memory, together);
    }
}

struct forecast forecast_make(const struct forecast_request *request) {
    const struct model *model = request->model;
    const struct workload *workload = request->workload;
    const uint32_t units = unit_count(model);
    struct forecast forecast = { 0 };
    struct pipeline pipeline = { 0 };
    int32_t at = PLAN_HOST;
    for (uint32_t u = 0; u <= units; u++) {
        const struct placement_slice *slices = NULL;
        uint32_t count = u < units ? placement_slices_of(request->placement, u, &slices) : 0;
        int32_t to = u < units && !count && request->placement->device[u] >= 0 ? request->placement->device[u]
                                                                              : PLAN_HOST;
        if (to != at) {
            struct forecast_share hop = hop_share(request, at, to);
            add(&forecast, to >= 0 ? to : at, hop);
            pipeline_add(&pipeline, to >= 0 ? to : at, hop.prefill_s);
        }
        at = to;
        if (count) {
            add_slices(&forecast, request, slices, count);
            pipeline.is_too_long = true;   /* they keep all devices busy at once already */
        }
        if (to < 0)
            continue;
        struct unit_cost cost = cost_unit(model, unit_at(model, u), request->rates[to], workload);
        if (request->streamed && request->streamed[u])
            cost = cost_streamed(model, unit_at(model, u), &cost, request->stream_bytes_per_s, workload);
        add(&forecast, to, (struct forecast_share){ cost.prefill_s, cost.rerun_s, cost.token_s, cost.key_s });
        pipeline_add(&pipeline, to, cost.prefill_s);
    }
    overlap_passes(&forecast, request, &pipeline);
    const struct forecast_share *all = &forecast.all;
    forecast.token_first_s = all->token_s + all->key_s * cost_keys(model, 0);
    forecast.token_end_s = all->token_s + all->key_s * cost_keys(model, request->context - 1.0);
    forecast.total_s = all->prefill_s + all->rerun_s + workload->new_tokens * all->token_s +
                       cost_workload_keys(model, workload) * all->key_s;
    return forecast;
}

double forecast_middle_token(const struct forecast_share *share, const struct model *model,
                             const struct workload *workload) {
    return share->token_s + share->key_s * cost_keys(model, workload->prompt_tokens + workload->new_tokens / 2.0);
}

static double per_second(double count, double seconds) {
    return seconds > 0 ? count / seconds : 0;
}

void forecast_write(const struct forecast *forecast, const struct forecast_request *request,
                    const int32_t *position, struct plan *plan) {
    const struct workload *workload = request->workload;
    plan->predicted_prefill_tokens_per_s = per_second(workload->prompt_tokens, forecast->all.prefill_s);
    plan->predicted_decode_tokens_per_s = per_second(1, forecast->token_first_s);
    plan->predicted_decode_tokens_per_s_end = per_second(1, forecast->token_end_s);
    plan->predicted_first_token_s = forecast->all.prefill_s;
    plan->predicted_total_s = forecast->total_s;
    for (uint32_t d = 0; d < request->device_count; d++) {
        if (position[d] < 0)
            continue;
        struct plan_device *entry = &plan->devices[position[d]];
        entry->decode_seconds = forecast_middle_token(&forecast->devices[d], request->model, workload);
        entry->prefill_seconds = forecast->devices[d].prefill_s;
    }
}
