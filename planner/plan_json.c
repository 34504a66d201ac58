/* The JSON side of plan_report.h. */
#include "planner/plan_report.h"

#include "common/json.h"
#include "common/plan_request.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Driver strings and paths may hold bytes that are no UTF-8: they become '?'. */
static json_t *string_value(const char *bytes) {
    json_t *value = json_string(bytes);
    if (value)
        return value;
    char *copy = strdup(bytes);
    for (char *c = copy; c && *c; c++)
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    value = copy ? json_string(copy) : NULL;
    free(copy);
    return value;
}

/* Takes the value; one that could not be made for lack of memory is left out. */
static void set(json_t *object, const char *key, json_t *value) {
    json_object_set_new(object, key, value);
}

static void set_bytes(json_t *object, const char *key, uint64_t bytes) {
    set(object, key, json_integer((json_int_t)(bytes > INT64_MAX ? INT64_MAX : bytes)));
}

static void set_real(json_t *object, const char *key, double value) {
    set(object, key, isfinite(value) ? json_real(value) : json_null());
}

static void set_speeds(json_t *object, double prefill, double decode, double first_token_s, double total_s) {
    set_real(object, "prefill_tokens_per_s", prefill);
    set_real(object, "decode_tokens_per_s", decode);
    set_real(object, "first_token_s", first_token_s);
    set_real(object, "total_s", total_s);
}

static void set_text(json_t *object, const char *key, const char *value) {
    set(object, key, string_value(value));
}

/* "" is written as null: a hash that was not computed. */
static void set_hash(json_t *object, const char *key, const char *value) {
    set(object, key, value[0] ? string_value(value) : json_null());
}

/* Ends the work: text of `root`, which is released. */
static bool print(json_t *root, struct text *text, struct error *err) {
    char *bytes = root ? json_dumps(root, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(7)) : NULL;
    if (bytes) {
        text_append(text, bytes);
        text_append_char(text, '\n');
    }
    free(bytes);
    json_decref(root);
    return (bytes && !text->failed) || error_set(err, ERROR_FAILED, "cannot write JSON: out of memory");
}

/* `streamed`: the names of the streamed ones too; it is left NULL where there are none. */
static json_t *unit_names(const struct plan *plan, int32_t device, uint64_t *weight_bytes, json_t **streamed) {
    json_t *units = json_array();
    *weight_bytes = 0;
    *streamed = plan_streams(plan, device) ? json_array() : NULL;
    for (uint32_t i = 0; i < plan->shard_count; i++) {
        char name[48];
        if (plan->shards[i].device != device)
            continue;
        *weight_bytes += plan->shards[i].weight_bytes;
        plan_shard_name(plan, i, name);
        json_array_append_new(units, json_string(name));
        if (plan->shards[i].residency == STREAMED)
            json_array_append_new(*streamed, json_string(name));
    }
    return units;
}

static json_t *device_entry(const struct plan *plan, int32_t index) {
    json_t *entry = json_object();
    uint64_t weight_bytes;
    json_t *streamed, *units = unit_names(plan, index, &weight_bytes, &streamed);
    static const struct plan_device host;
    const struct plan_device *device = index == PLAN_HOST ? &host : &plan->devices[index];
    set_text(entry, "device", index == PLAN_HOST ? "host" : device->device.short_name);
    set(entry, "units", units);
    if (streamed)
        set(entry, "streamed_units", streamed);
    set_bytes(entry, "weight_bytes", weight_bytes);
    set_bytes(entry, "kv_bytes", device->kv_bytes);
    set_bytes(entry, "scratch_bytes", device->scratch_bytes);
    set_bytes(entry, "staging_bytes", device->staging_bytes);
    set_bytes(entry, "slack_bytes", device->slack_bytes);
    set_bytes(entry, "budget_bytes", device->budget_bytes);
    set_real(entry, "decode_s", device->decode_seconds);
    set_real(entry, "prefill_s", device->prefill_seconds);
    if (device->empty_reason[0])
        set_text(entry, "empty_reason", device->empty_reason);
    return entry;
}

/* What was asked for, under the options' names with '_' for '-'. */
static json_t *request_entry(const struct plan_request *request) {
    json_t *entry = json_object();
    struct request_field fields[PLAN_REQUEST_FIELDS];
    plan_request_fields(request, fields);
    for (uint32_t i = 0; i < PLAN_REQUEST_FIELDS; i++) {
        char key[24];
        snprintf(key, sizeof key, "%s", fields[i].option);
        for (char *c = key; *c; c++)
            if (*c == '-')
                *c = '_';
        if (fields[i].value[0])
            set(entry, key, fields[i].is_number ? json_integer(strtoll(fields[i].value, NULL, 10))
                          : fields[i].is_flag ? json_true() : string_value(fields[i].value));
    }
    return entry;
}

bool plan_report_json(const struct plan *plan, const struct plan_extra *extra, struct text *text,
                      struct error *err) {
    json_t *root = json_object(), *model = json_object(), *devices = json_array();
    json_t *predicted = json_object(), *alternatives = json_array();

    set(root, "plan", plan->id ? json_integer(plan->id) : json_null());
    set_text(root, "name", plan->name);
    set_hash(model, "weights_hash", plan->weights_hash);
    set_hash(model, "text_hash", plan->text_hash);
    set_text(model, "name", plan->model_name);
    set_text(model, "architecture", plan->architecture);
    set_bytes(model, "weight_bytes", plan->model_weight_bytes);
    set_bytes(model, "block_count", (plan->unit_count - 2) / 2);
    set(root, "model", model);
    set_hash(root, "hardware_key", plan->hardware_key);
    set(root, "request", request_entry(&plan->request));
    set_text(root, "numeric", plan->numeric == NUMERIC_INT8 ? "int8" : "float");

    if (plan_device_holds(plan, PLAN_HOST))
        json_array_append_new(devices, device_entry(plan, PLAN_HOST));
    for (uint32_t i = 0; i < plan->device_count; i++)
        json_array_append_new(devices, device_entry(plan, (int32_t)i));
    set(root, "devices", devices);

    set_real(predicted, "prefill_tokens_per_s", plan->predicted_prefill_tokens_per_s);
    set_real(predicted, "decode_tokens_per_s", plan->predicted_decode_tokens_per_s);
    set_real(predicted, "decode_tokens_per_s_end", plan->predicted_decode_tokens_per_s_end);
    set_real(predicted, "first_token_s", plan->predicted_first_token_s);
    set_real(predicted, "total_s", plan->predicted_total_s);
    set(root, "predicted", predicted);

    if (extra->stored_bytes)
        set_bytes(model, "stored_bytes", extra->stored_bytes);
    if (extra->weights_count) {
        json_t *weights = json_array();
        for (uint32_t i = 0; i < extra->weights_count; i++) {
            const struct weights_figures *figures = &extra->weights[i];
            json_t *entry = json_object();
            set_text(entry, "name", figures->name);
            set(entry, "chosen", json_boolean(figures->is_chosen));
            set(entry, "fits", json_boolean(figures->fits));
            set_bytes(entry, "weight_bytes", figures->weight_bytes);
            set_speeds(entry, figures->prefill_tokens_per_s, figures->decode_tokens_per_s, figures->first_token_s,
                       figures->total_s);
            json_array_append_new(weights, entry);
        }
        set(root, "weights", weights);
    }
    for (uint32_t i = 0; i < extra->alternative_count; i++) {
        const struct plan_alternative *other = &extra->alternatives[i];
        json_t *entry = json_object();
        set_text(entry, "devices", other->devices);
        set_speeds(entry, other->prefill_tokens_per_s, other->decode_tokens_per_s, other->first_token_s, other->total_s);
        json_array_append_new(alternatives, entry);
    }
    set(root, "alternatives", alternatives);
    set(root, "binding", plan->binding[0] ? string_value(plan->binding) : json_null());
    set(root, "note", extra->rates_note ? string_value(extra->rates_note) : json_null());
    set(root, "created", plan->created[0] ? string_value(plan->created) : json_null());
    set(root, "superseded", json_boolean(extra->is_superseded));
    set(root, "superseded_by", extra->superseded_by ? json_integer(extra->superseded_by) : json_null());
    return print(root, text, err);
}

bool device_report_json(const struct device_list *list, struct text *text, struct error *err) {
    json_t *root = json_array();
    for (uint32_t i = 0; i < list->count; i++) {
        const struct device *device = &list->devices[i];
        json_t *entry = json_object();
        set_text(entry, "device", device->short_name);
        set_text(entry, "platform", device->platform);
        set_text(entry, "name", device->name);
        set_text(entry, "driver", device->driver);
        set_text(entry, "type", device_type_name(device->type));
        set_bytes(entry, "memory_bytes", device->memory_bytes);
        set_bytes(entry, "max_buffer_bytes", device->max_buffer_bytes);
        set(entry, "usable", json_boolean(device->usable));
        set(entry, "reason", device->reason[0] ? string_value(device->reason) : json_null());
        set(entry, "alias_of", device->alias_of[0] ? string_value(device->alias_of) : json_null());
        json_array_append_new(root, entry);
    }
    return print(root, text, err);
}

bool plan_list_json(struct plan *const *plans, uint32_t count, struct text *text, struct error *err) {
    json_t *root = json_array();
    for (uint32_t i = 0; i < count; i++) {
        const struct plan *plan = plans[i];
        json_t *entry = json_object(), *devices = json_array();
        set_bytes(entry, "plan", (uint64_t)plan->id);
        set_text(entry, "name", plan->name);
        set_text(entry, "model", plan->model_name);
        set_text(entry, "path", plan->model_path);
        set_hash(entry, "weights_hash", plan->weights_hash);
        set_hash(entry, "hardware_key", plan->hardware_key);
        set_bytes(entry, "ctx", plan->request.context);
        set_text(entry, "policy", plan->request.policy);
        for (uint32_t d = 0; d < plan->device_count; d++)
            if (plan->devices[d].weight_bytes || plan->devices[d].kv_bytes)
                json_array_append_new(devices, string_value(plan->devices[d].device.short_name));
        set(entry, "devices", devices);
        set_real(entry, "decode_tokens_per_s", plan->predicted_decode_tokens_per_s);
        set_text(entry, "created", plan->created);
        json_array_append_new(root, entry);
    }
    return print(root, text, err);
}
