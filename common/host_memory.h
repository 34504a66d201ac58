/* host_memory: how much RAM a plan may count on.
 *
 * It is the memory of CPU devices: what their drivers report changes from day to day
 * and binds nothing. */
#ifndef COMMON_HOST_MEMORY_H
#define COMMON_HOST_MEMORY_H

#include "common/error.h"

#include <stdint.h>

struct host_memory { uint64_t total_bytes, available_bytes; };

/* Total: of the machine, or of the control groups that limit this process: its own and those
 * above. Available: what the kernel calls available, at most 80 % of the total. */
bool host_memory_read(struct host_memory *host, struct error *err);

/* The same from texts: /proc/meminfo, and the limit and memory.stat of the control
 * group ("" where there is none). */
bool host_memory_parse(const char *meminfo, const char *group_limit, const char *group_stat,
                       struct host_memory *host, struct error *err);

/* Lower both by the limits and the use of the groups that `groups` (/proc/self/cgroup) names
 * below `root` (/sys/fs/cgroup). */
void host_memory_limit(struct host_memory *host, const char *groups, const char *root);

#endif
