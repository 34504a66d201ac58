/* fixed_placement: units where a device map puts them, instead of where a search
 * finds them best. The map is one that was brought along, or the one that a policy of
 * Accelerate makes for the devices at hand. Pure. */
#ifndef PLANNER_FIXED_PLACEMENT_H
#define PLANNER_FIXED_PLACEMENT_H

#include "common/plan_request.h"
#include "planner/sizing.h"

/* Does the source's map or the request's policy fix the placement? */
bool placement_is_fixed(const struct sizing *sizing);

/* Numbers are the devices that are no CPU, "cpu" the first CPU device (embed there is
 * gathered by the host). Accelerate's policies take --max-memory as Accelerate does, for weights
 * alone, and without it the devices' budgets; what is placed must fit with KV and scratch,
 * or the sentence says what is short. The fastest placement, where another, is the one
 * alternative. Remarks are appended to `notes`. */
bool placement_fixed(const struct sizing *sizing, struct placement_result *result, struct text *notes,
                     struct error *err);

#endif
