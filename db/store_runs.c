/* store_runs: what a run measured. */
#include "db/plan_store.h"
#include "db/statement.h"

#include <stdlib.h>

#define RUNS_KEPT 1000   /* of a plan */

static bool insert_run(struct plan_store *store, const struct run_record *run, int64_t *row,
                       const char *what, struct error *err) {
    struct statement save;
    char now[32];
    store_now(now);
    bool failed = true;
    if (statement_open(&save, store, what,
                       "INSERT INTO run (plan, ended, kind, prompt_tokens, new_tokens, load_s, first_token_s, "
                       "prefill_s, decode_s, finish_reason, settings) "
                       "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id", err)) {
        put_i64(&save, run->plan);
        put_text(&save, now);
        put_text(&save, run->kind);
        put_u64(&save, run->prompt_tokens);
        put_u64(&save, run->new_tokens);
        put_double(&save, run->load_s);
        put_double(&save, run->first_token_s);
        put_double(&save, run->prefill_s);
        put_double(&save, run->decode_s);
        put_text(&save, run->finish_reason);
        put_text(&save, run->settings);
        if (statement_row(&save, &failed, err))
            *row = take_i64(&save);
    }
    statement_close(&save);
    return !failed;
}

static bool insert_devices(struct plan_store *store, const struct run_record *run, int64_t row,
                           const char *what, struct error *err) {
    struct statement save;
    bool ok = statement_open(&save, store, what,
                             "INSERT INTO run_device (run, device, phase, seconds, bytes) "
                             "VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                             "seconds = seconds + excluded.seconds, bytes = bytes + excluded.bytes", err);
    for (uint32_t i = 0; ok && i < run->device_count; i++) {
        put_i64(&save, row);
        put_text(&save, run->devices[i].device);
        put_text(&save, run->devices[i].phase);
        put_double(&save, run->devices[i].seconds);
        put_u64(&save, run->devices[i].bytes);
        ok = statement_run(&save, err);
    }
    statement_close(&save);
    return ok;
}

static bool trim(struct plan_store *store, int64_t plan, const char *what, struct error *err) {
    struct statement remove;
    bool ok = statement_open(&remove, store, what,
                             "DELETE FROM run WHERE plan = ?1 AND id <= "
                             "(SELECT id FROM run WHERE plan = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)", err);
    if (ok) {
        put_i64(&remove, plan);
        put_i64(&remove, RUNS_KEPT);
        ok = statement_run(&remove, err);
    }
    statement_close(&remove);
    return ok;
}

bool plan_store_add_run(struct plan_store *store, const struct run_record *run, struct error *err) {
    static const char what[] = "record the run";
    if (store->read_only)
        return true;
    if (run->device_count > sizeof run->devices / sizeof *run->devices)
        return error_set(err, ERROR_FAILED, "cannot %s: too many devices", what);
    if (!store_begin_write(store, what, err))
        return false;
    int64_t row = 0;
    bool ok = insert_run(store, run, &row, what, err) && insert_devices(store, run, row, what, err) &&
              trim(store, run->plan, what, err);
    return store_end(store, ok, what, err);
}

static bool load_devices(struct plan_store *store, struct run_record *run, int64_t row, const char *what,
                         struct error *err) {
    struct statement read;
    bool failed = true;
    if (statement_open(&read, store, what, "SELECT device, phase, seconds, bytes FROM run_device WHERE run = ? "
                       "ORDER BY device, phase", err)) {
        put_i64(&read, row);
        while (statement_row(&read, &failed, err)) {
            if (run->device_count == sizeof run->devices / sizeof *run->devices)
                break;
            struct run_device_record *device = &run->devices[run->device_count++];
            take_text(&read, device->device, sizeof device->device);
            take_text(&read, device->phase, sizeof device->phase);
            device->seconds = take_double(&read);
            device->bytes = take_u64(&read);
            if (!statement_sound(&read, err)) {
                failed = true;
                break;
            }
        }
    }
    statement_close(&read);
    return !failed;
}

bool plan_store_runs(struct plan_store *store, int64_t plan, uint32_t limit, struct run_record **runs,
                     uint32_t *count, struct error *err) {
    static const char what[] = "read the runs of a plan";
    struct statement read;
    bool failed = true;
    *count = 0;
    *runs = calloc((size_t)limit + 1, sizeof **runs);
    if (!*runs)
        return error_set(err, ERROR_FAILED, "cannot %s: out of memory", what);
    if (statement_open(&read, store, what,
                       "SELECT id, plan, kind, prompt_tokens, new_tokens, load_s, first_token_s, prefill_s, decode_s, "
                       "finish_reason, settings FROM run WHERE plan = ? ORDER BY id DESC LIMIT ?", err)) {
        put_i64(&read, plan);
        put_u64(&read, limit);
        while (statement_row(&read, &failed, err) && *count < limit) {
            struct run_record *run = &(*runs)[(*count)++];
            int64_t row = take_i64(&read);
            run->plan = take_i64(&read);
            take_text(&read, run->kind, sizeof run->kind);
            run->prompt_tokens = take_u32(&read);
            run->new_tokens = take_u32(&read);
            run->load_s = take_double(&read);
            run->first_token_s = take_double(&read);
            run->prefill_s = take_double(&read);
            run->decode_s = take_double(&read);
            take_text(&read, run->finish_reason, sizeof run->finish_reason);
            take_text(&read, run->settings, sizeof run->settings);
            if (!statement_sound(&read, err) || !load_devices(store, run, row, what, err)) {
                failed = true;
                break;
            }
        }
    }
    statement_close(&read);
    if (failed) {
        free(*runs);
        *runs = NULL;
        *count = 0;
    }
    return !failed;
}
