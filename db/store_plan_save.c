/* store_plan_save: a plan into its rows, in one transaction. */
#include "db/plan_store.h"
#include "db/store_devices.h"

#include <stdio.h>
#include <string.h>

#define SUPERSEDED_KEPT 10

/* Close, and run the statement if it was opened well. */
static bool run_and_close(struct statement *statement, bool opened, struct error *err) {
    bool ok = opened && statement_run(statement, err);
    statement_close(statement);
    return ok;
}

/* The current plan of the key gives way; only the last few such plans stay. */
static bool supersede(struct plan_store *store, int64_t model_row, const struct plan *plan,
                      const char *what, const char *now, struct error *err) {
    struct statement update, trim;
    bool ok = statement_open(&update, store, what,
                             "UPDATE plan SET superseded_at = ? WHERE model = ? AND hardware_key = ? "
                             "AND name = ? AND superseded_at IS NULL", err);
    if (ok) {
        put_text(&update, now);
        put_i64(&update, model_row);
        put_text(&update, plan->hardware_key);
        put_text(&update, plan->name);
    }
    if (!run_and_close(&update, ok, err))
        return false;
    ok = statement_open(&trim, store, what,
                        "DELETE FROM plan WHERE model = ?1 AND hardware_key = ?2 AND name = ?3 "
                        "AND superseded_at IS NOT NULL AND id NOT IN (SELECT id FROM plan WHERE model = ?1 "
                        "AND hardware_key = ?2 AND name = ?3 AND superseded_at IS NOT NULL "
                        "ORDER BY id DESC LIMIT ?4)", err);
    if (ok) {
        put_i64(&trim, model_row);
        put_text(&trim, plan->hardware_key);
        put_text(&trim, plan->name);
        put_i64(&trim, SUPERSEDED_KEPT);
    }
    return run_and_close(&trim, ok, err);
}

static bool insert_plan(struct plan_store *store, int64_t model_row, const struct plan *plan,
                        const char *what, const char *now, int64_t *id, struct error *err) {
    struct statement save;
    const struct plan_request *request = &plan->request;
    bool failed = true;
    if (statement_open(&save, store, what,
                       "INSERT INTO plan (model, hardware_key, name, created, text_hash, model_name, "
                       "architecture, model_path, model_weight_bytes, unit_count, numeric, context, "
                       "prompt_tokens, new_tokens, micro_batch, kv_type, weights, policy, rope, devices, "
                       "exclude, max_memory, max_buffer, pins, forbids, slices, stream, dtype, "
                       "predicted_prefill_tokens_per_s, predicted_decode_tokens_per_s, "
                       "predicted_decode_tokens_per_s_end, predicted_first_token_s, predicted_total_s, "
                       "binding) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
                       "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id", err)) {
        put_i64(&save, model_row);
        put_text(&save, plan->hardware_key);
        put_text(&save, plan->name);
        put_text(&save, now);
        put_text(&save, plan->text_hash);
        put_text(&save, plan->model_name);
        put_text(&save, plan->architecture);
        put_text(&save, plan->model_path);
        put_u64(&save, plan->model_weight_bytes);
        put_u64(&save, plan->unit_count);
        put_text(&save, plan->numeric == NUMERIC_INT8 ? "int8" : "float");
        put_u64(&save, request->context);
        put_u64(&save, request->prompt_tokens);
        put_u64(&save, request->new_tokens);
        put_u64(&save, request->micro_batch);
        put_text(&save, kv_type_name(request->kv_type));
        const char *const texts[] = { request->weights, request->policy, request->rope, request->devices,
                                      request->exclude, request->max_memory, request->max_buffer,
                                      request->pins, request->forbids, request->slices };
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
            put_text(&save, texts[i]);
        put_u64(&save, request->stream);
        put_text(&save, request->dtype);
        put_double(&save, plan->predicted_prefill_tokens_per_s);
        put_double(&save, plan->predicted_decode_tokens_per_s);
        put_double(&save, plan->predicted_decode_tokens_per_s_end);
        put_double(&save, plan->predicted_first_token_s);
        put_double(&save, plan->predicted_total_s);
        put_text(&save, plan->binding);
        if (statement_row(&save, &failed, err))
            *id = take_i64(&save);
    }
    statement_close(&save);
    return !failed;
}

static bool insert_environment(struct plan_store *store, int64_t id, const struct plan *plan,
                               const char *what, struct error *err) {
    struct statement save;
    bool ok = statement_open(&save, store, what,
                             "INSERT INTO plan_environment (plan, name, value) VALUES (?, ?, ?)", err);
    for (uint32_t i = 0; ok && i < plan->environment_count; i++) {
        put_i64(&save, id);
        put_text(&save, plan->environment[i].name);
        put_text(&save, plan->environment[i].value);
        ok = statement_run(&save, err);
    }
    statement_close(&save);
    return ok;
}

/* `held` NULL: the host, which has neither budget nor buffers of its own. */
static bool insert_device(struct plan_store *store, struct statement *save, int64_t id, int position,
                          const struct plan_device *held, const char *what, struct error *err) {
    static const struct plan_device host = { .device = { .short_name = "host", .unified_memory = true,
                                                         .is_cpu_pool = true } };
    const struct plan_device *row = held ? held : &host;
    const struct device *device = &row->device;
    int64_t device_row = 0;
    if (held && !store_device_row(store, device, what, &device_row, err))
        return false;
    put_i64(save, id);
    put_text(save, device->short_name);
    put_i64(save, position);
    if (held)
        put_i64(save, device_row);
    else
        put_null(save);
    put_text(save, device->icd);
    put_text(save, device->driver);
    put_text(save, device->version);
    put_u64(save, device->memory_bytes);
    put_u64(save, device->max_buffer_bytes);
    put_u64(save, device->alignment);
    put_u64(save, device->compute_units);
    put_u64(save, device->unified_memory);
    put_u64(save, device->is_cpu_pool);
    put_u64(save, row->budget_bytes);
    put_u64(save, row->max_buffer_bytes);
    put_u64(save, row->weight_bytes);
    put_u64(save, row->kv_bytes);
    put_u64(save, row->scratch_bytes);
    put_u64(save, row->staging_bytes);
    put_u64(save, row->slack_bytes);
    put_double(save, row->decode_seconds);
    put_double(save, row->prefill_seconds);
    put_text(save, row->empty_reason);
    return statement_run(save, err);
}

static bool insert_devices(struct plan_store *store, int64_t id, const struct plan *plan, const char *what,
                           struct error *err) {
    struct statement save;
    bool ok = statement_open(&save, store, what,
                             "INSERT INTO plan_device (plan, device, position, device_row, icd, driver, "
                             "version, memory_bytes, reported_max_buffer_bytes, alignment, compute_units, "
                             "unified_memory, is_cpu_pool, budget_bytes, max_buffer_bytes, weight_bytes, "
                             "kv_bytes, scratch_bytes, staging_bytes, slack_bytes, decode_seconds, "
                             "prefill_seconds, empty_reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
                             "?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", err) &&
              insert_device(store, &save, id, -1, NULL, what, err);
    for (uint32_t i = 0; ok && i < plan->device_count; i++)
        ok = insert_device(store, &save, id, (int)i, &plan->devices[i], what, err);
    statement_close(&save);
    return ok;
}

static bool insert_shards(struct plan_store *store, int64_t id, const struct plan *plan, const char *what,
                          struct error *err) {
    struct statement save;
    bool ok = statement_open(&save, store, what,
                             "INSERT INTO shard (plan, unit, unit_name, part_begin, part_end, device, format, "
                             "residency, artifact, weight_bytes, kv_bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, "
                             /* Gone where phiplan gc came in between. */
                             "(SELECT id FROM artifact WHERE id = ?), ?, ?)", err);
    for (uint32_t i = 0; ok && i < plan->shard_count; i++) {
        const struct shard *shard = &plan->shards[i];
        char name[24];
        plan_unit_name(plan->unit_count, shard->unit, name);
        put_i64(&save, id);
        put_u64(&save, shard->unit);
        put_text(&save, name);
        put_u64(&save, shard->part_begin);
        put_u64(&save, shard->part_end);
        put_text(&save, shard->device == PLAN_HOST ? "host"
                        : plan->devices[shard->device].device.short_name);
        put_text(&save, shard->format);
        put_text(&save, shard->residency == STREAMED ? "streamed" : "resident");
        put_i64(&save, shard->artifact);   /* 0 is no row */
        put_u64(&save, shard->weight_bytes);
        put_u64(&save, shard->kv_bytes);
        ok = statement_run(&save, err);
    }
    statement_close(&save);
    return ok;
}

bool plan_store_save_plan(struct plan_store *store, int64_t model_row, struct plan *plan,
                          struct error *err) {
    char what[96], now[32];
    snprintf(what, sizeof what, "save plan '%.63s'", plan->name);
    store_now(now);
    if (!plan->name[0] || strlen(plan->hardware_key) != 64)
        return error_set(err, ERROR_FAILED, "cannot %s: it has no name or no hardware key", what);
    if (!plan_validate(plan, err)) {
        error_prefix(err, "cannot %s", what);
        return false;
    }
    if (!store_begin_write(store, what, err))
        return false;
    int64_t id = 0;
    bool ok = supersede(store, model_row, plan, what, now, err) &&
              insert_plan(store, model_row, plan, what, now, &id, err) &&
              insert_environment(store, id, plan, what, err) &&
              insert_devices(store, id, plan, what, err) && insert_shards(store, id, plan, what, err);
    if (!store_end(store, ok, what, err))
        return false;
    plan->id = id;
    snprintf(plan->created, sizeof plan->created, "%s", now);
    return true;
}

static bool update_plan(struct plan_store *store, const struct plan *plan, const char *what, struct error *err) {
    struct statement update;
    bool opened = statement_open(&update, store, what,
                                 "UPDATE plan SET predicted_prefill_tokens_per_s = ?, predicted_decode_tokens_per_s = ?, "
                                 "predicted_decode_tokens_per_s_end = ?, predicted_first_token_s = ?, "
                                 "predicted_total_s = ? WHERE id = ?", err);
    if (opened) {
        put_double(&update, plan->predicted_prefill_tokens_per_s);
        put_double(&update, plan->predicted_decode_tokens_per_s);
        put_double(&update, plan->predicted_decode_tokens_per_s_end);
        put_double(&update, plan->predicted_first_token_s);
        put_double(&update, plan->predicted_total_s);
        put_i64(&update, plan->id);
    }
    return run_and_close(&update, opened, err);
}

bool plan_store_save_predictions(struct plan_store *store, const struct plan *plan, struct error *err) {
    char what[64];
    snprintf(what, sizeof what, "change the predictions of plan %lld", (long long)plan->id);
    if (!store_begin_write(store, what, err))
        return false;
    bool ok = update_plan(store, plan, what, err);
    struct statement update = { 0 };
    ok = ok && statement_open(&update, store, what, "UPDATE plan_device SET decode_seconds = ?, prefill_seconds = ? "
                              "WHERE plan = ? AND device = ?", err);
    for (uint32_t d = 0; ok && d < plan->device_count; d++) {
        put_double(&update, plan->devices[d].decode_seconds);
        put_double(&update, plan->devices[d].prefill_seconds);
        put_i64(&update, plan->id);
        put_text(&update, plan->devices[d].device.short_name);
        ok = statement_run(&update, err);
    }
    statement_close(&update);
    return store_end(store, ok, what, err);
}

bool plan_store_remove_plan(struct plan_store *store, int64_t id, struct error *err) {
    char what[64];
    snprintf(what, sizeof what, "remove plan %lld", (long long)id);
    struct statement remove;
    if (!store_begin_write(store, what, err))
        return false;
    bool opened = statement_open(&remove, store, what, "DELETE FROM plan WHERE id = ?", err);
    if (opened)
        put_i64(&remove, id);
    bool ok = run_and_close(&remove, opened, err);
    if (ok && sqlite3_changes(store->db) == 0)
        ok = error_set(err, ERROR_NO_PLAN, "there is no plan %lld in '%s'; phiplan list shows all",
                       (long long)id, store->path);
    return store_end(store, ok, what, err);
}
