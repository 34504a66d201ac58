/* replan: what --replan does with a plan that no longer fits. */
#ifndef RUNTIME_REPLAN_H
#define RUNTIME_REPLAN_H

#include "runtime/run_options.h"

/* After ERROR_STALE or ERROR_NO_PLAN: wait for `phiplan MODEL` with all that the newest plan of that
 * name for the model was asked for (without one: the defaults), then start this program
 * afresh with `argv` less --replan, as drivers are loaded once a process. Returns only
 * where that failed, with false. phiplan's output goes to standard error. */
bool replan_and_restart(const struct run_options *options, char **argv, struct error *err);

#endif
