/* plan_picture: a plan as a drawing of the machine (SVG) or as a graph (Graphviz). Pure. */
#ifndef PLANNER_PLAN_PICTURE_H
#define PLANNER_PLAN_PICTURE_H

#include "common/plan.h"
#include "common/text.h"

/* The crossings from one device to another, PLAN_HOST included, of one token. */
struct plan_hop {
    int32_t from, to;
    uint32_t count;
    double seconds;          /* all of them; 0: not known */
};
#define PLAN_MAX_HOPS ((PLAN_MAX_DEVICES + 1) * PLAN_MAX_DEVICES)

/* Collect the hops of a plan; `cost` (NULL: unknown) tells the seconds of one. Returns their number. */
uint32_t plan_hops(const struct plan *plan, double (*cost)(void *context, int32_t from, int32_t to),
                   void *context, struct plan_hop hops[PLAN_MAX_HOPS]);

/* Devices as boxes to scale of the memory they may use, what they hold inside, hops as arrows. */
void plan_picture_svg(const struct plan *plan, const struct plan_hop *hops, uint32_t hop_count, struct text *text);
void plan_picture_dot(const struct plan *plan, const struct plan_hop *hops, uint32_t hop_count, struct text *text);

#endif
