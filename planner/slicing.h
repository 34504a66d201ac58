/* slicing: units cut into slices, where whole ones do not fit or take longer. Pure.
 *
 * Tried, each followed by moving single units while that helps and fits:
 *   - the placement of whole units
 *   - all units over two, three, ... devices that gain by it, the fastest first, in shares
 *     that keep them busy for the same time, as far as memory goes
 *   - where whole units do not fit, devices filled part by part
 * Devices gain by sharing a unit where each has a memory of its own, or where they were
 * measured together on the host's; but never two CPU devices, which are the same cores:
 * slices over those, and over what was not measured, only make room. */
#ifndef PLANNER_SLICING_H
#define PLANNER_SLICING_H

#include "planner/sizing.h"

/* What slices must save of the time to be taken: of a unit, or of all, by cutting for two
 * devices, of the workload by one more device, which the others then wait for, and in all. */
#define SLICING_WORTH_OF_UNIT 0.05
#define SLICING_WORTH_OF_DEVICE 0.1
#define SLICING_WORTH_IN_ALL 0.01

/* `result` is that of a search over whole units: with a placement, or infeasible. A clearly
 * better one in slices becomes the best, and what was the best the first alternative.
 * False where there is still no placement (then result is as before) or memory runs out. */
bool slicing_improve(const struct sizing *sizing, struct placement_result *result);

#endif
