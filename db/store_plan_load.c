/* store_plan_load: a plan back from its rows. Placement is what the shard rows say
 * now, whoever wrote them; what cannot be followed is refused with the reason. */
#include "db/plan_store.h"
#include "db/store_devices.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool read_head(struct plan_store *store, int64_t id, struct plan *plan, const char *what,
                      struct error *err) {
    struct statement read;
    struct plan_request *request = &plan->request;
    bool failed = true;
    if (statement_open(&read, store, what,
                       "SELECT p.id, p.name, m.weights_hash, p.text_hash, p.hardware_key, p.model_name, "
                       "p.architecture, p.model_path, p.model_weight_bytes, p.unit_count, p.numeric, "
                       "p.context, p.prompt_tokens, p.new_tokens, p.micro_batch, p.kv_type, p.weights, "
                       "p.policy, p.rope, p.devices, p.exclude, p.max_memory, p.max_buffer, p.pins, "
                       "p.forbids, p.slices, p.stream, p.dtype, p.predicted_prefill_tokens_per_s, "
                       "p.predicted_decode_tokens_per_s, p.predicted_decode_tokens_per_s_end, "
                       "p.predicted_first_token_s, p.predicted_total_s, p.binding, p.created "
                       "FROM plan p JOIN model m ON m.id = p.model WHERE p.id = ?", err)) {
        put_i64(&read, id);
        if (statement_row(&read, &failed, err)) {
            char numeric[8], kv[8];
            plan->id = take_i64(&read);
            take_text(&read, plan->name, sizeof plan->name);
            take_text(&read, plan->weights_hash, sizeof plan->weights_hash);
            take_text(&read, plan->text_hash, sizeof plan->text_hash);
            take_text(&read, plan->hardware_key, sizeof plan->hardware_key);
            take_text(&read, plan->model_name, sizeof plan->model_name);
            take_text(&read, plan->architecture, sizeof plan->architecture);
            take_text(&read, plan->model_path, sizeof plan->model_path);
            plan->model_weight_bytes = take_u64(&read);
            plan->unit_count = take_u32(&read);
            take_text(&read, numeric, sizeof numeric);
            plan->numeric = strcmp(numeric, "int8") == 0 ? NUMERIC_INT8 : NUMERIC_FLOAT;
            request->context = take_u32(&read);
            request->prompt_tokens = take_u32(&read);
            request->new_tokens = take_u32(&read);
            request->micro_batch = take_u32(&read);
            take_text(&read, kv, sizeof kv);
            bool known = kv_type_from_name(kv, &request->kv_type);
            take_text(&read, request->weights, sizeof request->weights);
            take_text(&read, request->policy, sizeof request->policy);
            take_text(&read, request->rope, sizeof request->rope);
            take_text(&read, request->devices, sizeof request->devices);
            take_text(&read, request->exclude, sizeof request->exclude);
            take_text(&read, request->max_memory, sizeof request->max_memory);
            take_text(&read, request->max_buffer, sizeof request->max_buffer);
            take_text(&read, request->pins, sizeof request->pins);
            take_text(&read, request->forbids, sizeof request->forbids);
            take_text(&read, request->slices, sizeof request->slices);
            request->stream = take_bool(&read);
            take_text(&read, request->dtype, sizeof request->dtype);
            plan->predicted_prefill_tokens_per_s = take_double(&read);
            plan->predicted_decode_tokens_per_s = take_double(&read);
            plan->predicted_decode_tokens_per_s_end = take_double(&read);
            plan->predicted_first_token_s = take_double(&read);
            plan->predicted_total_s = take_double(&read);
            take_text(&read, plan->binding, sizeof plan->binding);
            take_text(&read, plan->created, sizeof plan->created);
            failed = !statement_sound(&read, err) ||
                     (!known && !error_set(err, ERROR_FAILED, "cannot %s: '%s' is no KV type", what, kv));
        } else if (!failed) {
            failed = !error_set(err, ERROR_NO_PLAN, "there is no plan %lld in '%s'; phiplan list shows all",
                                (long long)id, store->path);
        }
    }
    statement_close(&read);
    return !failed;
}

static bool read_environment(struct plan_store *store, struct plan *plan, const char *what, struct error *err) {
    struct statement read;
    bool failed = true;
    if (statement_open(&read, store, what,
                       "SELECT name, value FROM plan_environment WHERE plan = ? ORDER BY name", err)) {
        put_i64(&read, plan->id);
        while (statement_row(&read, &failed, err)) {
            if (plan->environment_count == sizeof plan->environment / sizeof *plan->environment) {
                failed = !error_set(err, ERROR_FAILED, "cannot %s: it has too many environment variables", what);
                break;
            }
            struct plan_environment *entry = &plan->environment[plan->environment_count++];
            take_text(&read, entry->name, sizeof entry->name);
            take_text(&read, entry->value, sizeof entry->value);
        }
    }
    statement_close(&read);
    return !failed;
}

static bool read_devices(struct plan_store *store, struct plan *plan, const char *what, struct error *err) {
    struct statement read;
    bool failed = true;
    if (statement_open(&read, store, what,
                       "SELECT h.device, " IDENTITY_COLUMNS ", h.icd, h.driver, h.version, "
                       "h.memory_bytes, h.reported_max_buffer_bytes, h.alignment, h.compute_units, "
                       "h.unified_memory, h.is_cpu_pool, h.budget_bytes, h.max_buffer_bytes, h.weight_bytes, "
                       "h.kv_bytes, h.scratch_bytes, h.staging_bytes, h.slack_bytes, h.decode_seconds, "
                       "h.prefill_seconds, h.empty_reason FROM plan_device h "
                       "JOIN device d ON d.id = h.device_row WHERE h.plan = ? ORDER BY h.position", err)) {
        put_i64(&read, plan->id);
        while (statement_row(&read, &failed, err)) {
            if (plan->device_count == PLAN_MAX_DEVICES) {
                failed = !error_set(err, ERROR_FAILED, "cannot %s: it has more than %d devices", what,
                                    PLAN_MAX_DEVICES);
                break;
            }
            struct plan_device *row = &plan->devices[plan->device_count++];
            take_text(&read, row->device.short_name, sizeof row->device.short_name);
            take_identity(&read, &row->device);
            take_properties(&read, &row->device);
            row->budget_bytes = take_u64(&read);
            row->max_buffer_bytes = take_u64(&read);
            row->weight_bytes = take_u64(&read);
            row->kv_bytes = take_u64(&read);
            row->scratch_bytes = take_u64(&read);
            row->staging_bytes = take_u64(&read);
            row->slack_bytes = take_u64(&read);
            row->decode_seconds = take_double(&read);
            row->prefill_seconds = take_double(&read);
            take_text(&read, row->empty_reason, sizeof row->empty_reason);
        }
    }
    statement_close(&read);
    return !failed;
}

/* shard.device as an index; the sentence of a failure lists what could stand there. */
static bool find_device(const struct plan *plan, const char *name, const char *unit, int32_t *device,
                        struct error *err) {
    *device = PLAN_HOST;
    if (strcmp(name, "host") == 0)
        return true;
    char known[PLAN_MAX_DEVICES * 18] = "";
    for (uint32_t i = 0; i < plan->device_count; i++) {
        const char *short_name = plan->devices[i].device.short_name;
        if (strcmp(name, short_name) == 0) {
            *device = (int32_t)i;
            return true;
        }
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", short_name);
    }
    return error_set(err, ERROR_FAILED, "unit '%s' of plan %lld is on '%s', which is none of the plan's "
                     "devices (%s); correct shard.device or run phiplan again", unit, (long long)plan->id,
                     name, known);
}

static bool read_shards(struct plan_store *store, struct plan *plan, const char *what, struct error *err) {
    struct statement read;
    bool failed = true;
    if (statement_open(&read, store, what,
                       "SELECT unit, device, part_begin, part_end, format, residency, coalesce(artifact, 0), "
                       "weight_bytes, kv_bytes FROM shard WHERE plan = ? ORDER BY unit, part_begin", err)) {
        put_i64(&read, plan->id);
        while (statement_row(&read, &failed, err)) {
            struct shard shard = { 0 };
            char device[32], residency[16], unit[24];
            shard.unit = take_u32(&read);
            take_text(&read, device, sizeof device);
            shard.part_begin = take_u32(&read);
            shard.part_end = take_u32(&read);
            take_text(&read, shard.format, sizeof shard.format);
            take_text(&read, residency, sizeof residency);
            shard.residency = strcmp(residency, "streamed") == 0 ? STREAMED : RESIDENT;
            shard.artifact = take_i64(&read);
            shard.weight_bytes = take_u64(&read);
            shard.kv_bytes = take_u64(&read);
            plan_unit_name(plan->unit_count, shard.unit, unit);
            failed = !statement_sound(&read, err) || !find_device(plan, device, unit, &shard.device, err) ||
                     !plan_add_shard(plan, &shard, err);
            if (failed)
                break;
        }
    }
    statement_close(&read);
    return !failed;
}

/* Rows that make no sense may come from a damaged file rather than from a person. */
static void blame_damage(struct plan_store *store, struct error *err) {
    struct statement check;
    char result[256] = "";
    bool failed = true;
    if (statement_open(&check, store, "check the store", "PRAGMA quick_check(1)", NULL) &&
        statement_row(&check, &failed, NULL))
        take_text(&check, result, sizeof result);
    statement_close(&check);
    if (strcmp(result, "ok") != 0)
        error_set(err, ERROR_FAILED, "plan database '%s' is damaged (%s); move it away or restore a copy, "
                  "then run phiplan", store->path, result[0] ? result : "it cannot be read");
}

/* Inside a transaction, so that all rows are of one moment. */
static struct plan *load(struct plan_store *store, int64_t id, struct error *err) {
    char what[64];
    struct error reason = { 0 };
    snprintf(what, sizeof what, "read plan %lld", (long long)id);
    struct plan *plan = plan_new();
    if (!plan) {
        error_set(err, ERROR_FAILED, "cannot %s: out of memory", what);
        return NULL;
    }
    if (read_head(store, id, plan, what, &reason) && read_environment(store, plan, what, &reason) &&
        read_devices(store, plan, what, &reason) && read_shards(store, plan, what, &reason))
        return plan;
    if (reason.kind != ERROR_NO_PLAN)
        blame_damage(store, &reason);
    error_set(err, reason.kind, "%s", reason.text);
    plan_free(plan);
    return NULL;
}

void plan_store_free_plans(struct plan **plans, uint32_t count) {
    for (uint32_t i = 0; plans && i < count; i++)
        plan_free(plans[i]);
    free(plans);
}

/* The plans whose ids the statement gives, opened with its parameters put. Closes it. */
static bool load_listed(struct plan_store *store, struct statement *ids, struct plan ***plans,
                        uint32_t *count, struct error *err) {
    bool failed = true;
    *plans = NULL;
    *count = 0;
    while (statement_row(ids, &failed, err)) {
        struct plan **grown = realloc(*plans, ((size_t)*count + 1) * sizeof *grown);
        if (!grown) {
            failed = !error_set(err, ERROR_FAILED, "cannot %s: out of memory", ids->what);
            break;
        }
        *plans = grown;
        struct plan *plan = load(store, take_i64(ids), err);
        if (!plan) {
            failed = true;
            break;
        }
        grown[(*count)++] = plan;
    }
    statement_close(ids);
    if (failed) {
        plan_store_free_plans(*plans, *count);
        *plans = NULL;
        *count = 0;
    }
    return !failed;
}

/* `sql` yields ids; `texts` are its parameters. */
static bool load_all(struct plan_store *store, const char *sql, const char *const *texts, uint32_t text_count,
                     struct plan ***plans, uint32_t *count, struct error *err) {
    static const char what[] = "read the plans";
    struct statement ids;
    *plans = NULL;
    *count = 0;
    if (!store_execute(store, "BEGIN", what, err))
        return false;
    bool ok = statement_open(&ids, store, what, sql, err);
    for (uint32_t i = 0; ok && i < text_count; i++)
        put_text(&ids, texts[i]);
    ok = ok && load_listed(store, &ids, plans, count, err);
    return store_end(store, ok, what, err);
}

bool plan_store_find_plans(struct plan_store *store, const char *weights_hash, const char *name,
                           struct plan ***plans, uint32_t *count, struct error *err) {
    const char *const texts[] = { weights_hash, name };
    return load_all(store, "SELECT p.id FROM plan p JOIN model m ON m.id = p.model WHERE m.weights_hash = ? "
                    "AND p.name = ? AND p.superseded_at IS NULL ORDER BY p.id DESC", texts, 2, plans, count,
                    err);
}

bool plan_store_list_plans(struct plan_store *store, bool all, struct plan ***plans, uint32_t *count,
                           struct error *err) {
    return load_all(store, all ? "SELECT id FROM plan ORDER BY id DESC"
                               : "SELECT id FROM plan WHERE superseded_at IS NULL ORDER BY id DESC",
                    NULL, 0, plans, count, err);
}

struct plan *plan_store_load_plan(struct plan_store *store, int64_t id, struct error *err) {
    static const char what[] = "read a plan";
    if (!store_execute(store, "BEGIN", what, err))
        return NULL;
    struct plan *plan = load(store, id, err);
    bool ok = plan && plan_validate(plan, err);
    if (store_end(store, ok, what, err) && ok)
        return plan;
    plan_free(plan);
    return NULL;
}

struct plan *plan_store_newest_plan(struct plan_store *store, struct error *err) {
    struct plan **plans;
    uint32_t count;
    if (!load_all(store, "SELECT id FROM plan WHERE superseded_at IS NULL ORDER BY id DESC LIMIT 1", NULL, 0,
                  &plans, &count, err))
        return NULL;
    struct plan *plan = count ? plans[0] : NULL;
    free(plans);
    if (!plan)
        error_set(err, ERROR_NO_PLAN, "there is no plan in '%s'; run phiplan", store->path);
    if (plan && plan_validate(plan, err))
        return plan;
    plan_free(plan);
    return NULL;
}

bool plan_store_superseded(struct plan_store *store, int64_t id, bool *is_superseded, int64_t *by,
                           struct error *err) {
    struct statement read;
    bool failed = true;
    *is_superseded = false;
    *by = 0;
    if (statement_open(&read, store, "read a plan",
                       "SELECT p.superseded_at IS NOT NULL, coalesce((SELECT q.id FROM plan q WHERE q.model = p.model "
                       "AND q.hardware_key = p.hardware_key AND q.name = p.name AND q.superseded_at IS NULL), 0) "
                       "FROM plan p WHERE p.id = ?", err)) {
        put_i64(&read, id);
        if (statement_row(&read, &failed, err)) {
            *is_superseded = take_bool(&read);
            *by = take_i64(&read);
            failed = !statement_sound(&read, err);
        }
    }
    statement_close(&read);
    if (*by == id)
        *by = 0;
    return !failed;
}
