/* simulate: a machine from a JSON file instead of drivers, to plan for devices that are
 * not here. The format is documented in docs/simulate.md. */
#ifndef PLANNER_SIMULATE_H
#define PLANNER_SIMULATE_H

#include "common/host_memory.h"
#include "planner/machine.h"

/* `host` keeps what it has where the file says nothing of it. */
bool machine_simulate(const char *path, struct machine *machine, struct host_memory *host, struct error *err);

#endif
