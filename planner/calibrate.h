/* calibrate: predictions against what runs measured, and the constants that would have
 * predicted them. Pure. */
#ifndef PLANNER_CALIBRATE_H
#define PLANNER_CALIBRATE_H

#include "common/plan.h"
#include "planner/cost.h"

enum run_phase { RUN_PREFILL, RUN_DECODE, RUN_PHASES };

struct calibrate_input {
    const struct model *model;
    const struct plan *plan;
    const struct device_rates *rates;    /* [plan->device_count], with the constants in use */
    const struct run_record *runs;
    uint32_t run_count;
};

/* One phase of one device, or of all together: medians over the runs. */
struct comparison {
    uint32_t run_count;                  /* that say something of it; 0: nothing below is set */
    double predicted, measured;          /* tokens/s */
    double error;                        /* measured / predicted - 1 */
    double error_after;                  /* the same with the fitted constants */
};

struct calibrated {
    struct comparison all[RUN_PHASES];
    struct comparison devices[PLAN_MAX_DEVICES][RUN_PHASES];
    bool is_fitted[PLAN_MAX_DEVICES];
    struct calibration fit[PLAN_MAX_DEVICES];
};

/* Interrupted runs, runs with --exact and a few tokens say nothing. Seconds in which no
 * device is busy (sampling, hand-overs between threads) count for the devices in proportion. */
bool calibrate(const struct calibrate_input *input, struct calibrated *result, struct error *err);

#endif
