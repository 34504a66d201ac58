/* build_programs: the kernels of a plan, built, launched once and kept in the store before
 * phirun needs them. */
#ifndef PLANNER_BUILD_PROGRAMS_H
#define PLANNER_BUILD_PROGRAMS_H

#include "db/plan_store.h"
#include "planner/plan_commands.h"

/* In a child process for each device that holds something, since drivers crash and hang. What
 * cannot be built is said and left to phirun. False where it was interrupted. */
bool build_programs(const struct command *command, const struct model *model, struct plan_store *store,
                    const struct plan *plan, struct error *err);

#endif
