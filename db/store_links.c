/* store_links: what was measured of two devices together. */
#include "db/plan_store.h"
#include "db/store_devices.h"

static void put_measured(struct statement *statement, double value) {
    if (value != 0)
        put_double(statement, value);
    else
        put_null(statement);
}

bool plan_store_save_link(struct plan_store *store, const struct device *source, const struct device *target,
                          const struct link_rates *rates, struct error *err) {
    static const char what[] = "record what was measured of two devices";
    struct statement save = { 0 };
    char now[32];
    int64_t from, to;
    store_now(now);
    if (!store_begin_write(store, what, err))
        return false;
    bool ok = store_device_row(store, source, what, &from, err) && store_device_row(store, target, what, &to, err) &&
              statement_open(&save, store, what, "INSERT OR REPLACE INTO link (source, target, "
                             "source_concurrent_bytes_per_s, target_concurrent_bytes_per_s, hop_seconds, source_driver, "
                             "target_driver, measured) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", err);
    if (ok) {
        put_i64(&save, from);
        put_i64(&save, to);
        put_measured(&save, rates->source_together);
        put_measured(&save, rates->target_together);
        put_measured(&save, rates->hop_s);
        put_text(&save, source->driver);
        put_text(&save, target->driver);
        put_text(&save, now);
        ok = statement_run(&save, err);
    }
    statement_close(&save);
    return store_end(store, ok, what, err);
}

bool plan_store_link(struct plan_store *store, const struct device *source, const struct device *target,
                     struct link_rates *rates, struct error *err) {
    static const char what[] = "read what was measured of two devices";
    struct statement read;
    char from[DEVICE_IDENTITY_SIZE], to[DEVICE_IDENTITY_SIZE];
    device_identity(source, from, sizeof from);
    device_identity(target, to, sizeof to);
    *rates = (struct link_rates){ 0 };
    bool failed = true;
    if (statement_open(&read, store, what,
                       "SELECT l.source_concurrent_bytes_per_s, l.target_concurrent_bytes_per_s, l.hop_seconds FROM link l "
                       "JOIN device s ON s.id = l.source JOIN device t ON t.id = l.target "
                       "WHERE s.identity = ? AND t.identity = ? AND l.source_driver = ? AND l.target_driver = ?", err)) {
        put_text(&read, from);
        put_text(&read, to);
        put_text(&read, source->driver);
        put_text(&read, target->driver);
        if (statement_row(&read, &failed, err)) {
            rates->source_together = take_double(&read);
            rates->target_together = take_double(&read);
            rates->hop_s = take_double(&read);
            failed = !statement_sound(&read, err);
        }
    }
    statement_close(&read);
    return !failed;
}
