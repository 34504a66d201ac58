/* plan_check: does a plan still describe this machine?
 *
 * Compares the preconditions that were stored with the devices and the
 * environment as they are. The first difference is ERROR_STALE, one sentence with the
 * field, the old and the new value; the caller adds the command that repairs it. */
#ifndef RUNTIME_PLAN_CHECK_H
#define RUNTIME_PLAN_CHECK_H

#include "common/opencl.h"
#include "common/plan.h"

/* The device that holds at least one shard of the plan. */
bool plan_uses_device(const struct plan *plan, uint32_t device);

/* All of the plan's used devices are among `present`, by identity. */
bool plan_devices_present(const struct plan *plan, const struct opencl_devices *present);

/* Devices, drivers, memory, and the environment variables that choose devices. */
bool plan_check(const struct plan *plan, const struct opencl_devices *present, struct error *err);

#endif
