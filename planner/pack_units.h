/* pack_units: the packed weights that a plan names, made where they are missing. */
#ifndef PLANNER_PACK_UNITS_H
#define PLANNER_PACK_UNITS_H

#include "db/plan_store.h"
#include "planner/plan_commands.h"

/* Make, record and enter as shard.artifact the file of every shard in a packed layout;
 * those that are there are used again (with --verify their contents are checked). A
 * file that cannot be made is said and left out: phirun then packs at every start.
 * False where it was interrupted or the store fails. */
bool pack_units(const struct command *command, const struct model *model, struct plan_store *store,
                struct plan *plan, struct error *err);

#endif
