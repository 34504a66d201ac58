/* plan_make: from a model, devices and a request to a plan. No device, file or
 * store is touched. */
#ifndef PLANNER_PLAN_MAKE_H
#define PLANNER_PLAN_MAKE_H

#include "planner/plan_report.h"
#include "planner/sizing.h"

struct made_plan {
    struct plan *plan;           /* owned; id 0, hashes empty */
    struct plan_alternative alternatives[PLACEMENT_ALTERNATIVES];
    uint32_t alternative_count;
};

/* `request` is completed in place. Where the memory does not suffice the sentence says
 * what is needed, what there is, and which --ctx would fit. Warnings for people are
 * appended to `notes`. */
bool plan_make(const struct sizing_source *source, struct plan_request *request, struct made_plan *made,
               struct text *notes, struct error *err);
void made_plan_release(struct made_plan *made);

#endif
