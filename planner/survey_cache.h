/* survey_cache: the last survey of this machine's devices, so that a dry run needs
 * no driver. One small JSON file in $XDG_CACHE_HOME/phi (~/.cache/phi) for each
 * state of the machine: the .icd files with their sizes and times, and the
 * environment variables that choose devices. Deletable at any time. */
#ifndef PLANNER_SURVEY_CACHE_H
#define PLANNER_SURVEY_CACHE_H

#include "common/device.h"

/* False without a sentence where this state of the machine was never surveyed, or the
 * file cannot be used. The caller releases the list. */
bool survey_cache_load(struct device_list *devices);

/* Failing to write is no error: the next dry run just knows less. */
void survey_cache_save(const struct device_list *devices);

#endif
