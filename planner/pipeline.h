/* pipeline: passes of a prompt on their way through devices that work at the same time, as
 * the runtime's do: each device takes the passes in the order in which they arrive, and as
 * many of them travel at a time as there are devices, two at least. Pure. */
#ifndef PLANNER_PIPELINE_H
#define PLANNER_PIPELINE_H

#include "common/plan.h"

#define PIPELINE_STEPS 192u      /* longer ways are taken as if nothing overlapped */

struct pipeline {
    uint32_t step_count;
    struct { uint32_t device; double seconds; } steps[PIPELINE_STEPS];   /* of the whole prompt */
    bool is_too_long;
};

/* The next that every pass does; negative devices (the host) are no step. */
void pipeline_add(struct pipeline *pipeline, int32_t device, double seconds);

/* What the prompt takes, as part of the sum of all steps: 1 for one pass or one device.
 * `passes`: full ones and the fraction of the last. Devices in `shares_memory` slow each
 * other down to together[device] of their speed, see device_rates. */
double pipeline_overlap(const struct pipeline *pipeline, double passes, const bool shares_memory[PLAN_MAX_DEVICES],
                        const double together[PLAN_MAX_DEVICES]);

#endif
