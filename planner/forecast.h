/* forecast: predicted seconds of a placement, by phase and device. Pure. */
#ifndef PLANNER_FORECAST_H
#define PLANNER_FORECAST_H

#include "common/plan.h"
#include "planner/cost.h"
#include "planner/placement.h"

/* What is asked of a placement. Devices are numbered as in `rates`; negative: the host. */
struct forecast_request {
    const struct model *model;
    const struct workload *workload;
    uint32_t context;                     /* tokens: where the last token may stand */
    uint32_t device_count;                /* at most PLAN_MAX_DEVICES */
    const struct device_rates *rates[PLAN_MAX_DEVICES];
    bool shares_memory[PLAN_MAX_DEVICES]; /* host RAM: such devices slow each other down, see device_rates */
    const struct placement *placement;
    const bool *streamed;                 /* [unit_count(model)]; NULL: none is */
    double stream_bytes_per_s;            /* for those */
};

/* Passes of a prompt travel through the devices at the same time (see planner/pipeline.h), so that
 * all of them may be done before the sum of the devices' prefill_s. One token takes token_s + keys * key_s, hops included in token_s. An arrival
 * counts for the device where it arrives. Of a unit in slices each device counts its own
 * share, and all together what the slowest takes; those that share memory as long as
 * forecast_pooled_seconds() says. */
struct forecast_share { double prefill_s, rerun_s, token_s, key_s; };

struct forecast {
    struct forecast_share all;            /* of all devices together */
    struct forecast_share devices[PLAN_MAX_DEVICES];
    double token_first_s, token_end_s;    /* at context 0 and where the context ends */
    double total_s;                       /* the workload */
    double overlap;                       /* all.prefill_s as part of what the devices take one after the other */
};

struct forecast forecast_make(const struct forecast_request *request);

/* Seconds of one token of a share in the middle of the workload. */
double forecast_middle_token(const struct forecast_share *share, const struct model *model,
                             const struct workload *workload);

/* Seconds until all devices on one memory are done that begin at the same time, each of which
 * would take alone[i]. together[i]: see device_rates; 0: as if they took turns. At most
 * PLAN_MAX_DEVICES. */
double forecast_pooled_seconds(const double *alone, const double *together, uint32_t count);

/* Write the predictions of the plan and of its devices. `position[i]` is the plan's device of
 * rates i, negative: none. */
void forecast_write(const struct forecast *forecast, const struct forecast_request *request,
                    const int32_t *position, struct plan *plan);

#endif
