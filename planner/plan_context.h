/* plan_context: a stored plan with all that is needed to think about it again: its model's
 * heads, its machine with the store's figures. No device is touched. */
#ifndef PLANNER_PLAN_CONTEXT_H
#define PLANNER_PLAN_CONTEXT_H

#include "planner/forecast.h"
#include "planner/machine.h"
#include "planner/plan_commands.h"
#include "planner/plan_make.h"

struct plan_context {
    struct plan_store *store;
    struct plan *plan;
    struct model *model;             /* opened where the plan found it */
    struct machine machine;          /* the plan's devices, in the order of a survey */
    struct host_memory host;         /* as it is now */
    double stream_bytes_per_s;       /* measured where the plan streams; else 0 */
};

/* `argument`: an id, a MODEL, or NULL for the newest plan. Released even where it failed. */
bool plan_context_open(struct plan_context *context, const struct command *command, const char *argument,
                       struct error *err);
void plan_context_release(struct plan_context *context);

/* The rates of each of the plan's devices, in the plan's order. */
void plan_machine_rates(const struct plan *plan, const struct machine *machine,
                        struct device_rates rates[PLAN_MAX_DEVICES]);
void plan_context_rates(const struct plan_context *context, struct device_rates rates[PLAN_MAX_DEVICES]);

/* What a plan with another request would be; `required` (a short name, or NULL) must hold
 * something. */
bool plan_context_make(const struct plan_context *context, const struct plan_request *request,
                       const char *required, struct made_plan *made, struct error *err);

/* Predict the plan as it is with today's figures, in memory; `fit` (NULL: the rates' own):
 * the constants of each of its devices. */
bool plan_context_predict(struct plan_context *context, const struct calibration fit[PLAN_MAX_DEVICES],
                          struct error *err);

/* The devices of a plan that hold units: "gpu0 + cpu0". */
void plan_device_names(const struct plan *plan, char *text, size_t size);

#endif
