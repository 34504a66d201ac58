/* host_memory: how much RAM a plan may count on. */
#ifndef PLANNER_HOST_MEMORY_H
#define PLANNER_HOST_MEMORY_H

#include "planner/device_choice.h"

/* Total: of the machine, or of the control group that limits this process. Available: what
 * the kernel calls available, at most 80 % of the total. */
bool host_memory_read(struct host_memory *host, struct error *err);

/* The same from texts: /proc/meminfo, and the limit and memory.stat of the control
 * group ("" where there is none). */
bool host_memory_parse(const char *meminfo, const char *group_limit, const char *group_stat,
                       struct host_memory *host, struct error *err);

#endif
