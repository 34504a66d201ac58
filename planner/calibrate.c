#include "planner/calibrate.h"

#include "planner/pipeline.h"
#include "planner/robust_fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LEAST_TOKENS 8u

/* What one phase of a run asks of the devices, and what it took. */
struct sample {
    double tokens;
    double seconds;                               /* of the phase */
    double overlap;                               /* of that, as part of what the devices take one after the other */
    double hop_seconds[PLAN_MAX_DEVICES];         /* predicted, at the device of arrival */
    struct fit_point points[PLAN_MAX_DEVICES];    /* y: its share of `seconds`, hops taken off; 0: none */
};

struct samples { struct sample *list[RUN_PHASES]; uint32_t count[RUN_PHASES]; };

static bool is_comparable(const struct run_record *run) {
    return (strcmp(run->kind, "generate") == 0 || strcmp(run->kind, "bench") == 0) &&
           strcmp(run->finish_reason, "interrupted") != 0;
}

/* Passes of one token each that the run timed. */
static uint32_t decode_passes(const struct run_record *run) {
    bool is_bench = strcmp(run->kind, "bench") == 0;
    return is_bench ? run->new_tokens : run->new_tokens ? run->new_tokens - 1 : 0;
}

/* A run that goes past LongRoPE's original context prefills twice. */
static bool crosses_switch(const struct model *model, const struct run_record *run) {
    return workload_crosses_switch(model, run->prompt_tokens, run->new_tokens, "auto");
}

static double busy_seconds(const struct run_record *run, enum run_phase phase, const char *device) {
    double seconds = 0;
    for (uint32_t i = 0; i < run->device_count; i++)
        if (strcmp(run->devices[i].phase, phase == RUN_PREFILL ? "prefill" : "decode") == 0 &&
            (!device || strcmp(run->devices[i].device, device) == 0))
            seconds += run->devices[i].seconds;
    return seconds;
}

/* The device that has a whole unit; what slices exchange lies on the host. */
static int32_t device_of(const struct plan *plan, uint32_t unit) {
    for (uint32_t i = 0; i < plan->shard_count; i++)
        if (plan->shards[i].unit == unit)
            return plan_shard_is_slice(plan, i) ? PLAN_HOST : plan->shards[i].device;
    return PLAN_HOST;
}

static void expect_hops(const struct calibrate_input *input, const struct workload *workload, enum run_phase phase,
                        struct sample *sample) {
    int32_t at = PLAN_HOST;
    for (uint32_t u = 0; u <= input->plan->unit_count; u++) {
        int32_t to = u < input->plan->unit_count ? device_of(input->plan, u) : PLAN_HOST;
        const struct device_rates *source = at < 0 ? NULL : &input->rates[at];
        const struct device_rates *target = to < 0 ? NULL : &input->rates[to];
        if (to != at)
            sample->hop_seconds[to >= 0 ? to : at] += phase == RUN_PREFILL
                ? cost_hop_prompt(input->model, source, target, workload)
                : workload->new_tokens * cost_hop_token(input->model, source, target);
        at = to;
    }
}

/* The seconds that the rates alone give, by the factors that the constants apply to. */
static void expect_units(const struct calibrate_input *input, const struct workload *workload,
                         enum run_phase phase, struct sample *sample) {
    const double passes = ceil((double)workload->prompt_tokens / workload->micro_batch);
    for (uint32_t i = 0; i < input->plan->shard_count; i++) {
        const struct shard *shard = &input->plan->shards[i];
        const struct part_range parts = { shard->part_begin, shard->part_end };
        if (shard->device < 0)
            continue;
        const struct unit unit = unit_at(input->model, shard->unit);
        struct device_rates rates = input->rates[shard->device];
        double exchange = (phase == RUN_PREFILL ? cost_exchange_prompt : cost_exchange_tokens)(
            input->model, unit, parts, &rates, workload);
        rates.fit = (struct calibration){ 1, 1, 1, 0 };
        struct unit_cost cost = cost_parts_in(input->model, unit, parts,
                                              cost_best_layout(input->model, unit, &rates, workload), &rates, workload);
        struct fit_point *point = &sample->points[shard->device];
        sample->hop_seconds[shard->device] += exchange;
        point->x1 += (phase == RUN_PREFILL ? cost.prefill_s : workload->new_tokens * cost.token_s) - exchange;
        point->x2 += phase == RUN_PREFILL ? passes : cost_workload_keys(input->model, workload) * cost.key_s;
    }
}

static bool is_sliced(const struct plan *plan) {
    return plan->shard_count > plan->unit_count;
}

/* How far the passes of a prompt overlap on the devices, by the constants in use. */
static double expect_overlap(const struct calibrate_input *input, const struct workload *workload) {
    struct pipeline pipeline = { .is_too_long = is_sliced(input->plan) };
    bool shares_memory[PLAN_MAX_DEVICES] = { false };
    double together[PLAN_MAX_DEVICES] = { 0 };
    int32_t at = PLAN_HOST;
    for (uint32_t d = 0; d < input->plan->device_count; d++) {
        shares_memory[d] = input->plan->devices[d].device.is_cpu_pool;
        together[d] = input->rates[d].together;
    }
    for (uint32_t u = 0; u <= input->plan->unit_count; u++) {
        int32_t to = u < input->plan->unit_count ? device_of(input->plan, u) : PLAN_HOST;
        const struct device_rates *source = at < 0 ? NULL : &input->rates[at];
        const struct device_rates *target = to < 0 ? NULL : &input->rates[to];
        if (to != at)
            pipeline_add(&pipeline, to >= 0 ? to : at, cost_hop_prompt(input->model, source, target, workload));
        if (to >= 0)
            pipeline_add(&pipeline, to, cost_unit(input->model, unit_at(input->model, u), target, workload).prefill_s);
        at = to;
    }
    return pipeline_overlap(&pipeline, (double)workload->prompt_tokens / workload->micro_batch, shares_memory, together);
}

static void take_sample(const struct calibrate_input *input, const struct run_record *run, enum run_phase phase,
                        struct samples *samples) {
    const struct plan *plan = input->plan;
    const bool is_prefill = phase == RUN_PREFILL;
    struct workload workload = {
        .prompt_tokens = run->prompt_tokens ? run->prompt_tokens : is_prefill ? 0 : 1,
        .new_tokens = decode_passes(run), .micro_batch = plan->request.micro_batch, .kv_type = plan->request.kv_type,
    };
    struct sample *sample = &samples->list[phase][samples->count[phase]];
    *sample = (struct sample){ .tokens = is_prefill ? run->prompt_tokens : workload.new_tokens,
                               .seconds = is_prefill ? run->prefill_s : run->decode_s };
    double busy = busy_seconds(run, phase, NULL);
    if (sample->tokens < LEAST_TOKENS || !(sample->seconds > 0) || !(busy > 0))
        return;
    expect_hops(input, &workload, phase, sample);
    expect_units(input, &workload, phase, sample);
    sample->overlap = is_prefill ? expect_overlap(input, &workload) : 1;
    /* Devices with slices of a unit work at the same time, as far as the run shows. */
    if (is_sliced(plan))
        sample->overlap = sample->seconds < busy ? sample->seconds / busy : 1;
    /* What they would have taken one after the other. */
    double stretch = sample->seconds / (busy * sample->overlap);
    for (uint32_t d = 0; d < plan->device_count; d++) {
        double seconds = stretch * busy_seconds(run, phase, plan->devices[d].device.short_name);
        double hops = sample->hop_seconds[d];
        sample->points[d].y = hops < seconds / 2 ? seconds - hops : seconds / 2;
    }
    samples->count[phase]++;
}

static double expected(const struct fit_point *point, const struct calibration *fit, enum run_phase phase) {
    return phase == RUN_PREFILL ? fit->prefill * point->x1 + fit->start_s * point->x2
                                : fit->decode * point->x1 + fit->keys * point->x2;
}

static bool fit_device(const struct samples *samples, uint32_t device, struct fit_point *points,
                       struct calibration *fit) {
    bool is_fitted = false;
    for (unsigned phase = 0; phase < RUN_PHASES; phase++) {
        double a = 1, b = phase == RUN_PREFILL ? 0 : 1;
        for (uint32_t i = 0; i < samples->count[phase]; i++)
            points[i] = samples->list[phase][i].points[device];
        bool ok = robust_fit(points, samples->count[phase], &a, &b);
        if (!ok) {   /* the keys alone would take longer than it took: one factor on both */
            for (uint32_t i = 0; i < samples->count[phase]; i++) {
                points[i].x1 += phase == RUN_DECODE ? points[i].x2 : 0;
                points[i].x2 = 0;
            }
            ok = robust_fit(points, samples->count[phase], &a, &b);
            b = phase == RUN_PREFILL ? 0 : a;
        }
        if (!ok)
            continue;
        is_fitted = true;
        *(phase == RUN_PREFILL ? &fit->prefill : &fit->decode) = a;
        *(phase == RUN_PREFILL ? &fit->start_s : &fit->keys) = b;
    }
    return is_fitted;
}

/* Medians of one device, or of all where `device` is negative. */
static void compare(const struct calibrate_input *input, const struct samples *samples, enum run_phase phase,
                    int32_t device, const struct calibrated *result, double *space, struct comparison *comparison) {
    const uint32_t count = samples->count[phase], first = device < 0 ? 0 : (uint32_t)device;
    const uint32_t end = device < 0 ? input->plan->device_count : first + 1;
    double *predicted = space, *measured = space + count, *error = space + 2 * (size_t)count;
    double *error_after = space + 3 * (size_t)count;
    uint32_t used = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct sample *sample = &samples->list[phase][i];
        double before = 0, after = 0, took = 0;
        for (uint32_t d = first; d < end; d++) {
            before += sample->hop_seconds[d] + expected(&sample->points[d], &input->rates[d].fit, phase);
            after += sample->hop_seconds[d] + expected(&sample->points[d], &result->fit[d], phase);
            took += sample->hop_seconds[d] + sample->points[d].y;
        }
        if (device < 0) {
            before *= sample->overlap;
            after *= sample->overlap;
            took = sample->seconds;
        }
        if (!(before > 0) || !(after > 0) || !(took > 0) || (device >= 0 && !(sample->points[device].x1 > 0)))
            continue;
        predicted[used] = sample->tokens / before;
        measured[used] = sample->tokens / took;
        error[used] = before / took - 1;
        error_after[used++] = after / took - 1;
    }
    if (used)
        *comparison = (struct comparison){ used, median_of(predicted, used), median_of(measured, used),
                                           median_of(error, used), median_of(error_after, used) };
}

bool calibrate(const struct calibrate_input *input, struct calibrated *result, struct error *err) {
    struct samples samples = { 0 };
    *result = (struct calibrated){ 0 };
    struct fit_point *points = calloc((size_t)input->run_count + 1, sizeof *points);
    double *space = calloc(4 * (size_t)input->run_count + 1, sizeof *space);
    bool ok = points && space;
    for (unsigned phase = 0; phase < RUN_PHASES; phase++) {
        samples.list[phase] = calloc((size_t)input->run_count + 1, sizeof *samples.list[phase]);
        ok = ok && samples.list[phase];
    }
    for (uint32_t i = 0; ok && i < input->run_count; i++) {
        const struct run_record *run = &input->runs[i];
        if (!is_comparable(run))
            continue;
        take_sample(input, run, RUN_PREFILL, &samples);
        if (!crosses_switch(input->model, run))
            take_sample(input, run, RUN_DECODE, &samples);
    }
    for (uint32_t d = 0; ok && d < input->plan->device_count; d++) {
        result->fit[d] = input->rates[d].fit;
        /* Where weights are streamed the disk decides, of which the constants know nothing. */
        result->is_fitted[d] = !plan_streams(input->plan, (int32_t)d) &&
                               fit_device(&samples, d, points, &result->fit[d]);
    }
    for (unsigned phase = 0; ok && phase < RUN_PHASES; phase++) {
        compare(input, &samples, phase, -1, result, space, &result->all[phase]);
        for (uint32_t d = 0; d < input->plan->device_count; d++)
            compare(input, &samples, phase, (int32_t)d, result, space, &result->devices[d][phase]);
    }
    for (unsigned phase = 0; phase < RUN_PHASES; phase++)
        free(samples.list[phase]);
    free(points);
    free(space);
    return ok || error_set(err, ERROR_FAILED, "cannot compare the runs: out of memory");
}
