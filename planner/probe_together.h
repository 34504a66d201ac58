/* probe_together: how much of its speed a device keeps while another one that shares its
 * memory works. One child process for each, as in planner/probe.h, at the same time. */
#ifndef PLANNER_PROBE_TOGETHER_H
#define PLANNER_PROBE_TOGETHER_H

#include "planner/probe.h"

struct together_rates {
    bool is_known;               /* false: one of them could not be measured, or was never in time */
    double alone[2];             /* weights of the request's first shape, B/s */
    double together[2];
};

/* `pair`: devices of a survey. `request` says what is measured: its first shape and others of
 * that type. False where interrupted or no process could be started. */
bool probe_together(const struct probe_request *request, const struct device *const pair[2],
                    struct together_rates *rates, struct error *err);

#endif
