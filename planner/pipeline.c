#include "planner/pipeline.h"

#include <math.h>

/* So many passes show the pace; the others go on like the last of them. */
#define PASSES_SHOWN 24u

void pipeline_add(struct pipeline *pipeline, int32_t device, double seconds) {
    if (device < 0)
        return;
    if (pipeline->step_count && pipeline->steps[pipeline->step_count - 1].device == (uint32_t)device) {
        pipeline->steps[pipeline->step_count - 1].seconds += seconds;
    } else if (pipeline->step_count == PIPELINE_STEPS) {
        pipeline->is_too_long = true;
    } else {
        pipeline->steps[pipeline->step_count].device = (uint32_t)device;
        pipeline->steps[pipeline->step_count++].seconds = seconds;
    }
}

/* So many passes travel at a time. */
static uint32_t most_passes(const struct pipeline *pipeline) {
    bool is_seen[PLAN_MAX_DEVICES] = { false };
    uint32_t devices = 0;
    for (uint32_t i = 0; i < pipeline->step_count; i++) {
        uint32_t device = pipeline->steps[i].device;
        devices += device < PLAN_MAX_DEVICES && !is_seen[device];
        if (device < PLAN_MAX_DEVICES)
            is_seen[device] = true;
    }
    return devices < 2 ? 2 : devices;
}

#define MOST_PASSES PLAN_MAX_DEVICES

struct travelling { bool is_there, is_running; uint32_t step; double size, left; uint64_t arrived; };

/* Whether a device runs one of the passes. */
static bool is_taken(const struct travelling *passes, const struct pipeline *pipeline, uint32_t device) {
    for (uint32_t i = 0; i < MOST_PASSES; i++)
        if (passes[i].is_there && passes[i].is_running && pipeline->steps[passes[i].step].device == device)
            return true;
    return false;
}

/* Every free device takes the pass that came first. */
static void take_work(struct travelling *passes, const struct pipeline *pipeline) {
    for (;;) {
        struct travelling *first = NULL;
        for (uint32_t i = 0; i < MOST_PASSES; i++)
            if (passes[i].is_there && !passes[i].is_running && (!first || passes[i].arrived < first->arrived) &&
                !is_taken(passes, pipeline, pipeline->steps[passes[i].step].device))
                first = &passes[i];
        if (!first)
            return;
        first->is_running = true;
        first->left = first->size * pipeline->steps[first->step].seconds;
    }
}

/* Seconds of `count` passes, of which the last has size `last`; a step of size 1 takes its seconds. */
static double travel(const struct pipeline *pipeline, uint32_t count, double last, const bool *shares_memory,
                     const double *together) {
    struct travelling passes[MOST_PASSES] = { 0 };
    const uint32_t most = most_passes(pipeline);
    uint32_t begun = 0, done = 0;
    uint64_t arrivals = 0;
    double elapsed = 0;
    while (done < count) {
        for (uint32_t i = 0; i < most && begun < count; i++) {
            if (passes[i].is_there)
                continue;
            begun++;
            passes[i] = (struct travelling){ .is_there = true, .size = begun == count ? last : 1, .arrived = arrivals++ };
        }
        take_work(passes, pipeline);
        double speed[MOST_PASSES] = { 0 }, step = INFINITY;
        uint32_t sharing = 0;
        for (uint32_t i = 0; i < MOST_PASSES; i++)
            sharing += passes[i].is_running && shares_memory[pipeline->steps[passes[i].step].device];
        for (uint32_t i = 0; i < MOST_PASSES; i++) {
            if (!passes[i].is_running)
                continue;
            uint32_t device = pipeline->steps[passes[i].step].device;
            /* Pairs were measured: more than two share what two were left with. */
            speed[i] = sharing < 2 || !shares_memory[device] ? 1
                     : together[device] > 0 ? fmin(1, 2 * together[device] / sharing) : 1.0 / sharing;
            step = fmin(step, passes[i].left / speed[i]);
        }
        elapsed += step;
        for (uint32_t i = 0; i < MOST_PASSES; i++) {
            if (!passes[i].is_running)
                continue;
            bool is_finished = passes[i].left <= step * speed[i] * (1 + 1e-12);
            passes[i].left -= step * speed[i];
            if (!is_finished)
                continue;
            passes[i].is_running = false;
            passes[i].arrived = arrivals++;
            passes[i].is_there = ++passes[i].step < pipeline->step_count;
            done += !passes[i].is_there;
        }
    }
    return elapsed;
}

double pipeline_overlap(const struct pipeline *pipeline, double passes, const bool shares_memory[PLAN_MAX_DEVICES],
                        const double together[PLAN_MAX_DEVICES]) {
    double sum = 0;
    for (uint32_t i = 0; i < pipeline->step_count; i++)
        sum += pipeline->steps[i].seconds;
    if (pipeline->is_too_long || pipeline->step_count < 2 || !(passes > 1) || !(sum > 0) || !isfinite(sum))
        return 1;
    double count = ceil(passes), last = passes - (count - 1), seconds;
    if (count <= PASSES_SHOWN) {
        seconds = travel(pipeline, (uint32_t)count, last, shares_memory, together);
    } else {
        double half = travel(pipeline, PASSES_SHOWN / 2, 1, shares_memory, together);
        double shown = travel(pipeline, PASSES_SHOWN, 1, shares_memory, together);
        seconds = shown + (passes - PASSES_SHOWN) * (shown - half) / (PASSES_SHOWN / 2);
    }
    return seconds / (passes * sum);
}
