#include "planner/survey_cache.h"

#include "common/json.h"
#include "common/model.h"
#include "common/opencl.h"
#include "common/plan.h"
#include "common/temporary_file.h"
#include "common/user_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CACHE_LIMIT (1u << 20)
#define CACHE_VERSION 1

/* What the drivers' list of devices depends on, as text. */
static bool describe_machine(struct text *text) {
    char **icds;
    uint32_t count;
    struct plan *plan = plan_new();
    if (!plan)
        return false;
    plan_record_environment(plan);
    text_append_format(text, "version %d\n", CACHE_VERSION);
    for (uint32_t i = 0; i < plan->environment_count; i++)
        text_append_format(text, "%s=%s\n", plan->environment[i].name, plan->environment[i].value);
    plan_free(plan);
    if (!opencl_list_icds(&icds, &count, NULL))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        struct stat status;
        if (stat(icds[i], &status) == 0)
            text_append_format(text, "%s %lld %lld.%09ld\n", icds[i], (long long)status.st_size,
                               (long long)status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
    }
    opencl_free_icds(icds, count);
    return !text->failed;
}

/* The caller owns the path; NULL where there is no home. */
static char *cache_path(void) {
    struct text machine, path;
    char name[64], key[65];
    text_init(&machine);
    text_init(&path);
    bool known = describe_machine(&machine);
    sha256_hex(machine.bytes, machine.length, key);
    text_release(&machine);
    snprintf(name, sizeof name, "devices-%.16s.json", key);
    return known && user_folder_append(&path, USER_CACHE, name) ? text_take(&path) : NULL;
}

static bool read_text_field(const json_t *entry, const char *key, char *field, size_t size) {
    const char *value = json_string_value(json_object_get(entry, key));
    return value && snprintf(field, size, "%s", value) < (int)size;
}

static bool read_device(const json_t *entry, struct device *device) {
    char type[16];
    struct error err;
    *device = (struct device){ 0 };
    const struct { const char *key; char *field; size_t size; } texts[] = {
        { "platform", device->platform, sizeof device->platform }, { "name", device->name, sizeof device->name },
        { "uuid", device->uuid, sizeof device->uuid },             { "pci", device->pci, sizeof device->pci },
        { "icd", device->icd, sizeof device->icd },                { "driver", device->driver, sizeof device->driver },
        { "version", device->version, sizeof device->version },    { "reason", device->reason, sizeof device->reason },
        { "short_name", device->short_name, sizeof device->short_name },
        { "alias_of", device->alias_of, sizeof device->alias_of }, { "type", type, sizeof type },
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (!read_text_field(entry, texts[i].key, texts[i].field, texts[i].size))
            return false;
    return device_type_from_name(type, &device->type) &&
           json_get_u32(entry, "vendor_id", "", &device->vendor_id, &err) &&
           json_get_u32(entry, "ordinal", "", &device->ordinal, &err) &&
           json_get_u32(entry, "compute_units", "", &device->compute_units, &err) &&
           json_get_u64(entry, "memory_bytes", "", &device->memory_bytes, &err) &&
           json_get_u64(entry, "max_buffer_bytes", "", &device->max_buffer_bytes, &err) &&
           json_get_u64(entry, "alignment", "", &device->alignment, &err) &&
           json_get_bool(entry, "unified_memory", "", &device->unified_memory, &err) &&
           json_get_bool(entry, "is_cpu_pool", "", &device->is_cpu_pool, &err) &&
           json_get_bool(entry, "usable", "", &device->usable, &err) &&
           device->alignment && !(device->alignment & (device->alignment - 1));
}

bool survey_cache_load(struct device_list *devices) {
    char *path = cache_path();
    *devices = (struct device_list){ 0 };
    json_t *root = path && access(path, R_OK) == 0 ? json_read_file(path, CACHE_LIMIT, NULL) : NULL;
    bool ok = json_is_array(root) && json_array_size(root) <= 256;
    for (size_t i = 0; ok && i < json_array_size(root); i++) {
        struct device device;
        ok = read_device(json_array_get(root, i), &device) && device_list_append(devices, &device);
    }
    if (!ok)
        device_list_release(devices);
    json_decref(root);
    free(path);
    return ok;
}

void survey_cache_save(const struct device_list *devices) {
    char *path = cache_path();
    json_t *root = json_array();
    for (uint32_t i = 0; i < devices->count; i++) {
        const struct device *d = &devices->devices[i];
        /* Strings of drivers that are no UTF-8 make the entry NULL; then nothing is kept. */
        json_t *entry = json_pack(
            "{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:b, s:b}",
            "platform", d->platform, "name", d->name, "uuid", d->uuid, "pci", d->pci, "icd", d->icd, "driver",
            d->driver, "version", d->version, "reason", d->reason, "short_name", d->short_name, "alias_of",
            d->alias_of, "type", device_type_name(d->type), "vendor_id", (json_int_t)d->vendor_id, "ordinal",
            (json_int_t)d->ordinal, "compute_units", (json_int_t)d->compute_units, "memory_bytes",
            (json_int_t)d->memory_bytes, "max_buffer_bytes", (json_int_t)d->max_buffer_bytes, "alignment",
            (json_int_t)d->alignment, "unified_memory", d->unified_memory, "is_cpu_pool", d->is_cpu_pool, "usable",
            d->usable);
        if (!entry || json_array_append_new(root, entry) != 0)
            goto cleanup;
    }
    char *temporary;
    int file = path && user_folder_make(path, "what is known of devices", NULL)
        ? temporary_file_create(path, &temporary, NULL) : -1;
    if (file >= 0) {
        if (json_dumpfd(root, file, JSON_INDENT(1)) == 0)
            temporary_file_finish(file, temporary, path, TAKE_ANY);
        else
            temporary_file_drop(file, temporary);
    }

cleanup:
    json_decref(root);
    free(path);
}
