/* placement_wide: maps of units to devices in which a device may come back after
 * another one ran. Pure. A part of placement_fastest().
 *
 * Where a map must keep within memory the question is a knapsack. A price on each
 * device's bytes turns it into a shortest path, whose length less the price of what
 * memory there is bounds every map from below (Lagrangian relaxation). The search
 * goes unit by unit over labels (bytes taken on each device, device that runs now),
 * ranked by that bound, and keeps so many of them that small questions are answered
 * exactly and large ones in bounded time. */
#ifndef PLANNER_PLACEMENT_WIDE_H
#define PLANNER_PLACEMENT_WIDE_H

#include "planner/placement.h"

#define WIDE_DEVICES 8u

struct wide_answer {
    int32_t *device;               /* [unit_count]; NULL: nothing better than `below` was found */
    double seconds;
    double least_seconds;          /* no map at all takes less */
    bool is_exact;                 /* no label was given up */
};

/* A map over `devices` (indices into input->devices, at most WIDE_DEVICES) that takes less than
 * `below` seconds (INFINITY: any that fits) and uses input->required. False: out of memory. */
bool placement_wide(const struct placement_input *input, const uint32_t *devices, uint32_t device_count,
                    double below, struct wide_answer *answer, struct error *err);

#endif
