/* store_devices: devices by identity, and what was measured of them. */
#include "db/plan_store.h"
#include "db/store_devices.h"

#include <stdlib.h>
#include <string.h>

bool store_device_row(struct plan_store *store, const struct device *device, const char *what,
                      int64_t *row, struct error *err) {
    struct statement save;
    char now[32], identity[DEVICE_IDENTITY_SIZE];
    store_now(now);
    device_identity(device, identity, sizeof identity);
    bool failed = true;
    if (statement_open(&save, store, what,
                       "INSERT INTO device (identity, short_name, platform, vendor_id, name, type, uuid, pci, "
                       "ordinal, icd, driver, version, memory_bytes, max_buffer_bytes, alignment, "
                       "compute_units, unified_memory, is_cpu_pool, usable, reason, alias_of, first_seen, "
                       "last_seen) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, "
                       "?16, ?17, ?18, ?19, ?20, ?21, ?22, ?22) "
                       "ON CONFLICT (identity) DO UPDATE SET short_name = ?2, icd = ?10, driver = ?11, "
                       "version = ?12, memory_bytes = ?13, max_buffer_bytes = ?14, alignment = ?15, "
                       "compute_units = ?16, unified_memory = ?17, is_cpu_pool = ?18, usable = ?19, "
                       "reason = ?20, alias_of = ?21, last_seen = ?22 RETURNING id", err)) {
        put_text(&save, identity);
        put_text(&save, device->short_name);
        put_text(&save, device->platform);
        put_u64(&save, device->vendor_id);
        put_text(&save, device->name);
        put_text(&save, device_type_name(device->type));
        put_text(&save, device->uuid);
        put_text(&save, device->pci);
        put_u64(&save, device->ordinal);
        put_text(&save, device->icd);
        put_text(&save, device->driver);
        put_text(&save, device->version);
        put_u64(&save, device->memory_bytes);
        put_u64(&save, device->max_buffer_bytes);
        put_u64(&save, device->alignment);
        put_u64(&save, device->compute_units);
        put_u64(&save, device->unified_memory);
        put_u64(&save, device->is_cpu_pool);
        put_u64(&save, device->usable);
        put_text(&save, device->reason);
        put_text(&save, device->alias_of);
        put_text(&save, now);
        if (statement_row(&save, &failed, err))
            *row = take_i64(&save);
    }
    statement_close(&save);
    return !failed;
}

bool plan_store_save_device(struct plan_store *store, const struct device *device, struct error *err) {
    static const char what[] = "record a device";
    int64_t row;
    if (!store_begin_write(store, what, err))
        return false;
    return store_end(store, store_device_row(store, device, what, &row, err), what, err);
}

void take_identity(struct statement *statement, struct device *device) {
    char type[16];
    take_text(statement, device->platform, sizeof device->platform);
    device->vendor_id = take_u32(statement);
    take_text(statement, device->name, sizeof device->name);
    take_text(statement, type, sizeof type);
    if (!device_type_from_name(type, &device->type))
        device->type = DEVICE_ACCELERATOR;
    take_text(statement, device->uuid, sizeof device->uuid);
    take_text(statement, device->pci, sizeof device->pci);
    device->ordinal = take_u32(statement);
    device->usable = take_bool(statement);
    take_text(statement, device->reason, sizeof device->reason);
    take_text(statement, device->alias_of, sizeof device->alias_of);
}

void take_properties(struct statement *statement, struct device *device) {
    take_text(statement, device->icd, sizeof device->icd);
    take_text(statement, device->driver, sizeof device->driver);
    take_text(statement, device->version, sizeof device->version);
    device->memory_bytes = take_u64(statement);
    device->max_buffer_bytes = take_u64(statement);
    device->alignment = take_u64(statement);
    device->compute_units = take_u32(statement);
    device->unified_memory = take_bool(statement);
    device->is_cpu_pool = take_bool(statement);
}

bool plan_store_devices(struct plan_store *store, struct device_list *list, struct error *err) {
    static const char what[] = "read the devices";
    struct statement read;
    *list = (struct device_list){ 0 };
    bool failed = true;
    if (statement_open(&read, store, what,
                       "SELECT d.short_name, " IDENTITY_COLUMNS ", icd, driver, version, memory_bytes, "
                       "max_buffer_bytes, alignment, compute_units, unified_memory, is_cpu_pool "
                       "FROM device d ORDER BY CASE type WHEN 'gpu' THEN 0 WHEN 'igpu' THEN 1 "
                       "WHEN 'cpu' THEN 2 ELSE 3 END, identity", err)) {
        while (statement_row(&read, &failed, err)) {
            struct device device = { 0 };
            take_text(&read, device.short_name, sizeof device.short_name);
            take_identity(&read, &device);
            take_properties(&read, &device);
            if (statement_sound(&read, err) && !device_list_append(list, &device)) {
                failed = !error_set(err, ERROR_FAILED, "cannot %s: out of memory", what);
                break;
            }
        }
    }
    statement_close(&read);
    if (failed)
        device_list_release(list);
    return !failed;
}

/* Calibrations are factors on measured rates: those of a rate that is measured anew go. */
static bool drop_fits(struct plan_store *store, int64_t row, const char *driver, const struct probe_value *values,
                      uint32_t count, const char *what, struct error *err) {
    struct statement drop = { 0 };
    bool ok = statement_open(&drop, store, what, "DELETE FROM probe WHERE device = ? AND driver = ? AND format = ? "
                             "AND what LIKE 'fit.%'", err);
    for (uint32_t i = 0; ok && i < count; i++) {
        if (strcmp(values[i].what, "decode") != 0)
            continue;
        put_i64(&drop, row);
        put_text(&drop, driver);
        put_text(&drop, values[i].format);
        ok = statement_run(&drop, err);
    }
    statement_close(&drop);
    return ok;
}

bool plan_store_save_probe(struct plan_store *store, const struct device *device,
                           const struct probe_value *values, uint32_t count, struct error *err) {
    static const char what[] = "record what was measured";
    if (!store_begin_write(store, what, err))
        return false;
    struct statement save = { 0 };
    char now[32];
    int64_t row;
    store_now(now);
    bool ok = store_device_row(store, device, what, &row, err) &&
              drop_fits(store, row, device->driver, values, count, what, err) &&
              statement_open(&save, store, what, "INSERT OR REPLACE INTO probe (device, driver, what, format, "
                             "working_set_bytes, value, unit, measured) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", err);
    for (uint32_t i = 0; ok && i < count; i++) {
        put_i64(&save, row);
        put_text(&save, device->driver);
        put_text(&save, values[i].what);
        put_text(&save, values[i].format);
        put_u64(&save, values[i].working_set_bytes);
        put_double(&save, values[i].value);
        put_text(&save, values[i].unit);
        put_text(&save, now);
        ok = statement_run(&save, err);
    }
    statement_close(&save);
    return store_end(store, ok, what, err);
}

bool plan_store_probes(struct plan_store *store, const struct device *device,
                       struct probe_value **values, uint32_t *count, struct error *err) {
    static const char what[] = "read what was measured";
    struct statement read;
    char identity[DEVICE_IDENTITY_SIZE];
    device_identity(device, identity, sizeof identity);
    *values = NULL;
    *count = 0;
    bool failed = true;
    if (statement_open(&read, store, what,
                       "SELECT p.what, p.format, p.working_set_bytes, p.value, p.unit FROM probe p "
                       "JOIN device d ON d.id = p.device WHERE d.identity = ? AND p.driver = ? "
                       "ORDER BY p.what, p.format, p.working_set_bytes", err)) {
        put_text(&read, identity);
        put_text(&read, device->driver);
        while (statement_row(&read, &failed, err)) {
            struct probe_value value = { 0 };
            take_text(&read, value.what, sizeof value.what);
            take_text(&read, value.format, sizeof value.format);
            value.working_set_bytes = take_u64(&read);
            value.value = take_double(&read);
            take_text(&read, value.unit, sizeof value.unit);
            struct probe_value *grown = realloc(*values, ((size_t)*count + 1) * sizeof *grown);
            if (!grown) {
                failed = !error_set(err, ERROR_FAILED, "cannot %s: out of memory", what);
                break;
            }
            *values = grown;
            grown[(*count)++] = value;
        }
    }
    statement_close(&read);
    if (failed) {
        free(*values);
        *values = NULL;
        *count = 0;
    }
    return !failed;
}
