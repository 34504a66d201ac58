/* probe_hop: what it takes to hand the residual vector from one device of a platform to
 * another, as phirun does it (runtime/engine_hop.c): in a buffer that both use, by a thread
 * for each device. In a child process of its own, as in planner/probe.h. */
#ifndef PLANNER_PROBE_HOP_H
#define PLANNER_PROBE_HOP_H

#include "common/opencl.h"
#include "planner/probe.h"

/* Whether phirun gives the two devices one context. */
bool probe_hop_shares(const struct device *a, const struct device *b);

/* `pair`: devices of a survey that share. *seconds of one hop, of both directions the mean; 0: it
 * could not be measured. False where interrupted or no process could be started. */
bool probe_hop(const struct probe_request *request, const struct device *const pair[2], double *seconds,
               struct error *err);

/* In the child. */
bool probe_hop_measure(const struct opencl_device *const pair[2], double *seconds, struct error *err);

#endif
