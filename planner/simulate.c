#include "planner/simulate.h"

#include "common/json.h"
#include "planner/size_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_LIMIT ((size_t)1 << 20)
#define MOST_BYTES (1ull << 46)

/* Bytes as a number, or as --max-memory spells them. */
static bool read_size(const json_t *object, const char *key, const char *file, uint64_t *bytes, struct error *err) {
    const json_t *value = json_object_get(object, key);
    struct size_value size = { .bytes = *bytes };
    if (json_is_string(value)) {
        if (!size_parse(json_string_value(value), &size, err))
            return error_prefix(err, "'%s': '%s'", file, key);
        if (size.is_percent)
            return error_set(err, ERROR_USAGE, "'%s': '%s' is a percentage, and there is nothing to take it of", file,
                             key);
    } else if (!json_get_u64(object, key, file, &size.bytes, err)) {
        return false;
    }
    *bytes = size.bytes;
    return *bytes <= MOST_BYTES ||
           error_set(err, ERROR_USAGE, "'%s': '%s' is more than 64 TiB", file, key);
}

static bool read_rate(const json_t *object, const char *key, const char *file, double *rate, struct error *err) {
    const json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value))
        return true;
    double number = json_is_number(value) ? json_number_value(value) : 0;
    if (!(number > 0) || !isfinite(number))
        return error_set(err, ERROR_USAGE, "'%s': '%s' is no number above 0", file, key);
    *rate = number;
    return true;
}

/* One number for all weight formats, or an object with some of them. */
static bool read_rates(const json_t *object, const char *key, const char *file, double rates[TENSOR_TYPE_COUNT],
                       struct error *err) {
    const json_t *value = json_object_get(object, key);
    double all = 0;
    if (!json_is_object(value)) {
        if (!read_rate(object, key, file, &all, err))
            return false;
        for (unsigned t = 0; t < TENSOR_TYPE_COUNT && all > 0; t++)
            rates[t] = all;
        return true;
    }
    for (void *at = json_object_iter((json_t *)value); at; at = json_object_iter_next((json_t *)value, at)) {
        enum tensor_type type;
        const char *format = json_object_iter_key(at);
        if (!tensor_type_from_name(format, &type))
            return error_set(err, ERROR_USAGE, "'%s': '%s' knows no weight format '%.20s'", file, key, format);
        if (!read_rate(value, format, file, &rates[type], err))
            return false;
    }
    return true;
}

static bool check_keys(const json_t *object, const char *const *known, const char *file, struct error *err) {
    for (void *at = json_object_iter((json_t *)object); at; at = json_object_iter_next((json_t *)object, at)) {
        bool found = false;
        for (size_t i = 0; known[i]; i++)
            found = found || strcmp(json_object_iter_key(at), known[i]) == 0;
        if (!found)
            return error_set(err, ERROR_USAGE, "'%s': there is no key '%.40s'; see docs/simulate.md", file,
                             json_object_iter_key(at));
    }
    return true;
}

static bool read_device(const json_t *entry, const char *file, struct machine *machine, struct error *err) {
    static const char *const known[] = {
        "type", "name", "memory", "max_buffer", "shares_host_memory", "decode_bytes_per_s", "prefill_ops_per_s",
        "kv_bytes_per_s", "attention_ops_per_s", "launch_s", "transfer_s", "transfer_bytes_per_s", NULL
    };
    const char *type = "", *name = "simulated";
    struct device device = { .alignment = 256, .compute_units = 1, .usable = true };
    struct device_rates *rates = &machine->rates[machine->devices.count];
    unsigned number = 0;
    if (!json_is_object(entry) || !check_keys(entry, known, file, err) ||
        !json_get_str(entry, "type", file, &type, err) || !json_get_str(entry, "name", file, &name, err))
        return json_is_object(entry) ? false : error_set(err, ERROR_USAGE, "'%s': a device is no object", file);
    if (!device_type_from_name(type, &device.type))
        return error_set(err, ERROR_USAGE, "'%s': 'type' of a device is gpu, igpu, cpu or accel, not '%.20s'", file, type);
    if (!read_size(entry, "memory", file, &device.memory_bytes, err))
        return false;
    if (!device.memory_bytes)
        return error_set(err, ERROR_USAGE, "'%s': a device has no 'memory'", file);
    device.max_buffer_bytes = device.memory_bytes;
    device.is_cpu_pool = device.type == DEVICE_CPU || device.type == DEVICE_IGPU;
    if (!read_size(entry, "max_buffer", file, &device.max_buffer_bytes, err) ||
        !json_get_bool(entry, "shares_host_memory", file, &device.is_cpu_pool, err))
        return false;
    device.unified_memory = device.is_cpu_pool;
    device_rates_assume(rates, &device);
    if (!read_rates(entry, "decode_bytes_per_s", file, rates->decode_bytes_per_s, err) ||
        !read_rates(entry, "prefill_ops_per_s", file, rates->prefill_ops_per_s, err) ||
        !read_rate(entry, "kv_bytes_per_s", file, &rates->kv_bytes_per_s, err) ||
        !read_rate(entry, "attention_ops_per_s", file, &rates->attention_ops_per_s, err) ||
        !read_rate(entry, "launch_s", file, &rates->launch_s, err) ||
        !read_rate(entry, "transfer_s", file, &rates->transfer_s, err) ||
        !read_rate(entry, "transfer_bytes_per_s", file, &rates->transfer_bytes_per_s, err))
        return false;
    rates->measured = json_object_get(entry, "decode_bytes_per_s") != NULL;
    for (uint32_t i = 0; i < machine->devices.count; i++)
        number += machine->devices.devices[i].type == device.type;
    snprintf(device.short_name, sizeof device.short_name, "%s%u", device_type_name(device.type), number);
    snprintf(device.name, sizeof device.name, "%s", name);
    snprintf(device.platform, sizeof device.platform, "simulated");
    machine->memory_bytes[machine->devices.count] = device.memory_bytes;
    return device_list_append(&machine->devices, &device) ||
           error_set(err, ERROR_FAILED, "cannot simulate devices: out of memory");
}

bool machine_simulate(const char *path, struct machine *machine, struct host_memory *host, struct error *err) {
    static const char *const known[] = { "devices", "host_memory", NULL };
    *machine = (struct machine){ .simulated_from = path };
    json_t *root = json_read_file(path, FILE_LIMIT, err);
    const json_t *devices = json_object_get(root, "devices");
    const size_t count = json_array_size(devices);
    uint64_t memory = 0;
    bool ok = root != NULL;
    if (ok && !json_is_object(root))
        ok = error_set(err, ERROR_USAGE, "'%s' is no JSON object; see docs/simulate.md", path);
    ok = ok && check_keys(root, known, path, err) && read_size(root, "host_memory", path, &memory, err);
    if (ok && (count < 1 || count > PLAN_MAX_DEVICES))
        ok = error_set(err, ERROR_USAGE, "'%s' describes %zu 'devices'; 1 to %d can be", path, count, PLAN_MAX_DEVICES);
    if (ok) {
        machine->rates = calloc(count, sizeof *machine->rates);
        machine->memory_bytes = calloc(count, sizeof *machine->memory_bytes);
        ok = (machine->rates && machine->memory_bytes) ||
             error_set(err, ERROR_FAILED, "cannot simulate devices: out of memory");
    }
    for (size_t i = 0; ok && i < count; i++)
        ok = read_device(json_array_get(devices, i), path, machine, err);
    if (ok && memory)
        *host = (struct host_memory){ memory, memory };
    json_decref(root);
    if (!ok)
        machine_release(machine);
    return ok;
}
