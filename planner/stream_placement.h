/* stream_placement: a placement for a model that the memories do not hold. Some of its units
 * are streamed: read for every pass through two windows. Pure. */
#ifndef PLANNER_STREAM_PLACEMENT_H
#define PLANNER_STREAM_PLACEMENT_H

#include "planner/sizing.h"

/* One of placement.h. */
typedef bool placement_policy(const struct placement_input *input, struct placement_result *result,
                              struct error *err);

/* Stream the fewest units that make the policy find a place for all, on the device where that
 * is fastest: from the last block on, the head before or after them. The sizing then describes the
 * placement found: sizing->streamed, and the input with what such units take and cost. */
bool placement_streamed(struct sizing *sizing, placement_policy *policy, struct placement_result *result,
                        struct error *err);

/* What streaming costs one token, as a sentence; "" where nothing is streamed. */
void stream_sentence(const struct sizing *sizing, const struct placement *placement, char *text, size_t size);

#endif
