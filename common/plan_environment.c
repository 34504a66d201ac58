/* plan_environment: the variables that decide which devices a driver shows. */
#include "common/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CAPACITY = sizeof ((struct plan *)NULL)->environment / sizeof (struct plan_environment) };

/* Recorded even where unset, so that setting one later is noticed. */
static const char *const always[] = {
    "CUDA_VISIBLE_DEVICES", "DRI_PRIME", "HIP_VISIBLE_DEVICES", "HSA_OVERRIDE_GFX_VERSION",
    "POCL_DEVICES", "POCL_MEMORY_LIMIT", "ROCR_VISIBLE_DEVICES", "RUSTICL_ENABLE",
};

/* PoCL settings that choose no device; the programs set the cache's themselves. */
static const char *const harmless[] = {
    "POCL_CACHE_DIR", "POCL_KERNEL_CACHE", "POCL_DEBUG", "POCL_TRACING", "POCL_LEAVE_", "POCL_VERBOSE",
    "POCL_SIGFPE_HANDLER", "POCL_SIGUSR2_HANDLER", "POCL_BUILDING",
};

static bool chooses_devices(const char *name, size_t length) {
    static const char suffix[] = "_VISIBLE_DEVICES";
    if (length >= sizeof suffix - 1 &&
        memcmp(name + length - (sizeof suffix - 1), suffix, sizeof suffix - 1) == 0)
        return true;
    if (length < 5 || memcmp(name, "POCL_", 5) != 0)
        return false;
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++) {
        size_t prefix = strlen(harmless[i]);
        if (length >= prefix && memcmp(name, harmless[i], prefix) == 0)
            return false;
    }
    return true;
}

static int compare_names(const void *left, const void *right) {
    const struct plan_environment *a = left, *b = right;
    return strcmp(a->name, b->name);
}

static void record(struct plan *plan, const char *name, size_t length, const char *value) {
    if (plan->environment_count >= CAPACITY || length >= sizeof plan->environment->name)
        return;
    for (uint32_t i = 0; i < plan->environment_count; i++)
        if (strlen(plan->environment[i].name) == length &&
            memcmp(plan->environment[i].name, name, length) == 0)
            return;
    struct plan_environment *entry = &plan->environment[plan->environment_count++];
    memcpy(entry->name, name, length);
    entry->name[length] = '\0';
    snprintf(entry->value, sizeof entry->value, "%s", value);
}

void plan_record_environment(struct plan *plan) {
    plan->environment_count = 0;
    for (size_t i = 0; i < sizeof always / sizeof *always; i++) {
        const char *value = getenv(always[i]);
        record(plan, always[i], strlen(always[i]), value ? value : "");
    }
    for (char **variable = environ; variable && *variable; variable++) {
        const char *equals = strchr(*variable, '=');
        if (equals && equals[1] && chooses_devices(*variable, (size_t)(equals - *variable)))
            record(plan, *variable, (size_t)(equals - *variable), equals + 1);
    }
    qsort(plan->environment, plan->environment_count, sizeof *plan->environment, compare_names);
}

static bool stale(const char *name, const char *before, const char *now, struct error *err) {
    return error_set(err, ERROR_STALE, "environment variable '%s' was '%s' when the plan was made and is "
                     "'%s' now", name, before, now);
}

bool plan_check_environment(const struct plan *plan, struct error *err) {
    for (uint32_t i = 0; i < plan->environment_count; i++) {
        const struct plan_environment *before = &plan->environment[i];
        const char *now = getenv(before->name);
        if (!now)
            now = "";
        if (strncmp(before->value, now, sizeof before->value - 1) != 0)
            return stale(before->name, before->value, now, err);
    }
    /* One that chooses devices and was not there to be recorded. */
    for (char **variable = environ; variable && *variable; variable++) {
        const char *equals = strchr(*variable, '=');
        if (!equals || !equals[1] || !chooses_devices(*variable, (size_t)(equals - *variable)))
            continue;
        char name[sizeof plan->environment->name];
        size_t length = (size_t)(equals - *variable);
        bool known = length >= sizeof name || plan->environment_count >= CAPACITY;
        for (uint32_t i = 0; i < plan->environment_count && !known; i++)
            known = strlen(plan->environment[i].name) == length &&
                    memcmp(plan->environment[i].name, *variable, length) == 0;
        if (!known) {
            memcpy(name, *variable, length);
            name[length] = '\0';
            return stale(name, "", equals + 1, err);
        }
    }
    return true;
}
