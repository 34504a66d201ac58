/* stream_rate: how fast the model's weights can be read again and again. */
#ifndef PLANNER_STREAM_RATE_H
#define PLANNER_STREAM_RATE_H

#include "common/host_memory.h"
#include "common/model.h"

/* Bytes per second of reading the model's largest file: from the disk, or from the kernel's
 * cache where the host has room for all of it. Takes a fraction of a second; 0 where
 * nothing can be read. */
double stream_rate_measure(const struct model *model, const struct host_memory *host);

#endif
