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

/* The same from the texts of /proc/meminfo and /proc/self/cgroup, and the groups below `root`
 * (/sys/fs/cgroup). */
bool host_memory_parse(const char *meminfo, const char *groups, const char *root, struct host_memory *host,
                       struct error *err);

#endif
