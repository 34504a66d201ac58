#include "runtime/plan_check.h"

#include <inttypes.h>
#include <string.h>

bool plan_uses_device(const struct plan *plan, uint32_t device) {
    for (uint32_t i = 0; i < plan->shard_count; i++)
        if (plan->shards[i].device == (int32_t)device)
            return true;
    return false;
}

bool plan_devices_present(const struct plan *plan, const struct opencl_devices *present) {
    for (uint32_t i = 0; i < plan->device_count; i++)
        if (plan_uses_device(plan, i) && !opencl_find(present, &plan->devices[i].device))
            return false;
    return true;
}

bool plan_check(const struct plan *plan, const struct opencl_devices *present,
                struct error *err) {
    for (uint32_t i = 0; i < plan->device_count; i++) {
        const struct plan_device *planned = &plan->devices[i];
        const char *name = planned->device.short_name;
        if (!plan_uses_device(plan, i))
            continue;
        const struct opencl_device *found = opencl_find(present, &planned->device);
        if (!found) {
            /* The variable that hid the device is the better explanation. */
            if (!plan_check_environment(plan, err))
                return false;
            return error_set(err, ERROR_STALE, "device %s was '%s' on '%s' and is not there now",
                             name, planned->device.name, planned->device.platform);
        }
        if (strcmp(found->info.driver, planned->device.driver))
            return error_set(err, ERROR_STALE, "driver of device %s was '%s' and is '%s'", name,
                             planned->device.driver, found->info.driver);
        uint64_t need = planned->weight_bytes + planned->kv_bytes + planned->scratch_bytes
                        + planned->staging_bytes;
        if (found->info.memory_bytes < need)
            return error_set(err, ERROR_STALE,
                             "memory of device %s was %" PRIu64 " MiB and is %" PRIu64
                             " MiB; the plan needs %" PRIu64 " MiB there", name,
                             planned->device.memory_bytes >> 20, found->info.memory_bytes >> 20,
                             need >> 20);
    }
    return plan_check_environment(plan, err);
}
