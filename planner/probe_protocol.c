#include "planner/probe_protocol.h"

#include "common/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const event_names[] = { "device", "begin", "step", "value", "end", "done" };
enum { EVENT_COUNT = sizeof event_names / sizeof *event_names };

/* ---- the request ---- */

static json_t *type_list(const bool types[TENSOR_TYPE_COUNT]) {
    json_t *list = json_array();
    for (int i = 0; i < TENSOR_TYPE_COUNT; i++)
        if (types[i])
            json_array_append_new(list, json_string(tensor_type_info((enum tensor_type)i)->name));
    return list;
}

static json_t *programs_object(const struct probe_programs *programs) {
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:I}", "store", programs->store, "device", programs->identity,
                     "rows", type_list(programs->weight_types), "packed", type_list(programs->packed_types),
                     "tables", type_list(programs->embed_types), "gemm", type_list(programs->gemm_types),
                     "most_rows", (json_int_t)(programs->most_rows & INT64_MAX));
}

char *probe_request_text(const struct probe_request *request) {
    json_t *shapes = json_array();
    for (uint32_t i = 0; i < request->shape_count; i++)
        json_array_append_new(shapes, json_pack("{s:s, s:I, s:I}", "type",
            tensor_type_info(request->shapes[i].type)->name, "rows", (json_int_t)request->shapes[i].rows,
            "columns", (json_int_t)request->shapes[i].columns));
    json_t *root = json_pack("{s:b, s:I, s:b, s:s, s:I, s:I, s:I, s:I, s:f, s:o}",
        "quick", request->quick, "token_bytes", (json_int_t)(request->token_bytes & INT64_MAX),
        "int8", request->numeric == NUMERIC_INT8, "kv_type", kv_type_name(request->kv_type),
        "heads", (json_int_t)request->head_count, "kv_heads", (json_int_t)request->kv_head_count,
        "head_dim", (json_int_t)request->head_dim, "prefill_tokens", (json_int_t)request->prefill_tokens,
        "least_cpu_stream", request->least_cpu_stream, "shapes", shapes);
    if (root && request->programs.store[0])
        json_object_set_new(root, "programs", programs_object(&request->programs));
    if (root && request->together.start_s > 0)
        json_object_set_new(root, "together", json_pack("{s:f, s:I, s:s}", "start", request->together.start_s, "turn",
                            (json_int_t)request->together.turn, "device", request->together.identity));
    if (root && request->hop.identities[0][0])
        json_object_set_new(root, "hop", json_pack("{s:s, s:s}", "from", request->hop.identities[0], "to",
                            request->hop.identities[1]));
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return text;
}

static bool read_shape(const json_t *entry, struct probe_shape *shape, struct error *err) {
    const char *type = "";
    if (!json_get_str(entry, "type", "request", &type, err) ||
        !json_get_u32(entry, "rows", "request", &shape->rows, err) ||
        !json_get_u32(entry, "columns", "request", &shape->columns, err))
        return false;
    if (!tensor_type_from_name(type, &shape->type) || !shape->rows || !shape->columns ||
        shape->columns % tensor_type_info(shape->type)->block_values)
        return error_set(err, ERROR_FAILED, "the probe cannot measure a matrix of %u x %u '%s'", shape->rows,
                         shape->columns, type);
    return true;
}

static bool read_types(const json_t *programs, const char *key, bool types[TENSOR_TYPE_COUNT], struct error *err) {
    const json_t *list = json_object_get(programs, key);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        enum tensor_type type;
        if (!name || !tensor_type_from_name(name, &type))
            return error_set(err, ERROR_FAILED, "the probe cannot build kernels for weights of an unknown type");
        types[type] = true;
    }
    return true;
}

/* Text that fits, or none at all. */
static bool read_whole(const json_t *root, const char *key, char *target, size_t size, struct error *err) {
    const char *value = "";
    return json_get_str(root, key, "request", &value, err) &&
           ((size_t)snprintf(target, size, "%s", value) < size ||
            error_set(err, ERROR_FAILED, "the probe's request has too long a '%s'", key));
}

static bool read_programs(const json_t *root, struct probe_programs *programs, struct error *err) {
    return !root || (read_whole(root, "store", programs->store, sizeof programs->store, err) &&
                     read_whole(root, "device", programs->identity, sizeof programs->identity, err) &&
                     read_types(root, "rows", programs->weight_types, err) &&
                     read_types(root, "packed", programs->packed_types, err) &&
                     read_types(root, "tables", programs->embed_types, err) &&
                     read_types(root, "gemm", programs->gemm_types, err) &&
                     json_get_u64(root, "most_rows", "request", &programs->most_rows, err));
}

static bool read_together(const json_t *root, struct probe_together *together, struct error *err) {
    const json_t *start = json_object_get(root, "start");
    together->start_s = json_is_number(start) ? json_number_value(start) : 0;
    return !root || (json_get_u32(root, "turn", "request", &together->turn, err) &&
                     read_whole(root, "device", together->identity, sizeof together->identity, err));
}

static bool read_hop(const json_t *root, struct probe_pair *hop, struct error *err) {
    return !root || (read_whole(root, "from", hop->identities[0], sizeof hop->identities[0], err) &&
                     read_whole(root, "to", hop->identities[1], sizeof hop->identities[1], err));
}

bool probe_request_read(const char *text, struct probe_request *request, struct error *err) {
    *request = (struct probe_request){ 0 };
    const char *kv_type = "";
    bool is_int8 = false;
    json_t *root = json_read_text(text, strlen(text), "request", err);
    if (!root)
        return false;
    const json_t *shapes = json_object_get(root, "shapes");
    const json_t *least = json_object_get(root, "least_cpu_stream");
    request->least_cpu_stream = json_is_number(least) ? json_number_value(least) : 0;
    bool fine = json_get_bool(root, "quick", "request", &request->quick, err) &&
                json_get_u64(root, "token_bytes", "request", &request->token_bytes, err) &&
                json_get_bool(root, "int8", "request", &is_int8, err) &&
                json_get_str(root, "kv_type", "request", &kv_type, err) &&
                json_get_u32(root, "heads", "request", &request->head_count, err) &&
                json_get_u32(root, "kv_heads", "request", &request->kv_head_count, err) &&
                json_get_u32(root, "head_dim", "request", &request->head_dim, err) &&
                json_get_u32(root, "prefill_tokens", "request", &request->prefill_tokens, err) &&
                read_programs(json_object_get(root, "programs"), &request->programs, err) &&
                read_together(json_object_get(root, "together"), &request->together, err) &&
                read_hop(json_object_get(root, "hop"), &request->hop, err);
    if (fine && (!kv_type_from_name(kv_type, &request->kv_type) ||
                 json_array_size(shapes) > PROBE_MOST_SHAPES))
        fine = error_set(err, ERROR_FAILED, "the probe's request is damaged");
    request->numeric = is_int8 ? NUMERIC_INT8 : NUMERIC_FLOAT;
    for (size_t i = 0; fine && i < json_array_size(shapes); i++)
        fine = read_shape(json_array_get(shapes, i), &request->shapes[request->shape_count++], err);
    json_decref(root);
    return fine;
}

/* ---- the child's lines ---- */

static json_t *device_object(const struct device *device) {
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:b, s:b}",
        "event", "device", "platform", device->platform, "vendor", (json_int_t)device->vendor_id,
        "name", device->name, "type", device_type_name(device->type), "uuid", device->uuid, "pci", device->pci,
        "ordinal", (json_int_t)device->ordinal, "driver", device->driver, "version", device->version,
        "reason", device->reason,
        "memory", (json_int_t)(device->memory_bytes & INT64_MAX),
        "max_buffer", (json_int_t)(device->max_buffer_bytes & INT64_MAX),
        "alignment", (json_int_t)device->alignment, "compute_units", (json_int_t)device->compute_units,
        "unified", device->unified_memory, "usable", device->usable);
}

char *probe_message_text(const struct probe_message *message) {
    const char *name = event_names[message->event];
    const struct probe_value *value = &message->value;
    char what[sizeof message->what], reason[sizeof message->reason];
    json_t *root = NULL;
    /* Sentences that were cut may end in the middle of a character, which JSON does not take. */
    snprintf(what, sizeof what, "%s", message->what);
    snprintf(reason, sizeof reason, "%s", message->reason);
    text_defuse(what, false);
    text_defuse(reason, false);
    switch (message->event) {
    case PROBE_DEVICE: root = device_object(&message->device); break;
    case PROBE_BEGIN: root = json_pack("{s:s, s:I}", "event", name, "index", (json_int_t)message->index); break;
    case PROBE_STEP: root = json_pack("{s:s, s:s}", "event", name, "what", what); break;
    case PROBE_VALUE:
        root = json_pack("{s:s, s:s, s:s, s:I, s:f, s:s}", "event", name, "what", value->what,
                         "format", value->format, "bytes", (json_int_t)(value->working_set_bytes & INT64_MAX),
                         "value", value->value, "unit", value->unit);
        break;
    case PROBE_END:
        root = json_pack("{s:s, s:b, s:s}", "event", name, "usable", message->usable, "reason", reason);
        break;
    case PROBE_DONE: root = json_pack("{s:s}", "event", name); break;
    }
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return text;
}

/* Missing: "". Too long for its place: cut. */
static bool read_text(const json_t *root, const char *key, char *target, size_t size, struct error *err) {
    const char *value = "";
    if (!json_get_str(root, key, "answer", &value, err))
        return false;
    snprintf(target, size, "%s", value);
    return true;
}

static bool read_device(const json_t *root, struct device *device, struct error *err) {
    char type[16];
    if (!read_text(root, "platform", device->platform, sizeof device->platform, err) ||
        !json_get_u32(root, "vendor", "answer", &device->vendor_id, err) ||
        !read_text(root, "name", device->name, sizeof device->name, err) ||
        !read_text(root, "type", type, sizeof type, err) ||
        !read_text(root, "uuid", device->uuid, sizeof device->uuid, err) ||
        !read_text(root, "pci", device->pci, sizeof device->pci, err) ||
        !json_get_u32(root, "ordinal", "answer", &device->ordinal, err) ||
        !read_text(root, "driver", device->driver, sizeof device->driver, err) ||
        !read_text(root, "version", device->version, sizeof device->version, err) ||
        !read_text(root, "reason", device->reason, sizeof device->reason, err) ||
        !json_get_u64(root, "memory", "answer", &device->memory_bytes, err) ||
        !json_get_u64(root, "max_buffer", "answer", &device->max_buffer_bytes, err) ||
        !json_get_u64(root, "alignment", "answer", &device->alignment, err) ||
        !json_get_u32(root, "compute_units", "answer", &device->compute_units, err) ||
        !json_get_bool(root, "unified", "answer", &device->unified_memory, err) ||
        !json_get_bool(root, "usable", "answer", &device->usable, err))
        return false;
    if (!device_type_from_name(type, &device->type) || device->alignment < 64 ||
        (device->alignment & (device->alignment - 1)) || !device->name[0])
        return error_set(err, ERROR_FAILED, "the probe's child describes a device that cannot be");
    device->is_cpu_pool = device->type == DEVICE_CPU || device->type == DEVICE_IGPU;
    return true;
}

static bool read_value(const json_t *root, struct probe_value *value, struct error *err) {
    const json_t *number = json_object_get(root, "value");
    if (!read_text(root, "what", value->what, sizeof value->what, err) ||
        !read_text(root, "format", value->format, sizeof value->format, err) ||
        !json_get_u64(root, "bytes", "answer", &value->working_set_bytes, err) ||
        !read_text(root, "unit", value->unit, sizeof value->unit, err))
        return false;
    value->value = json_is_number(number) ? json_number_value(number) : -1;
    if (!isfinite(value->value) || value->value <= 0 || !value->what[0])
        return error_set(err, ERROR_FAILED, "the probe's child measured a value that cannot be");
    return true;
}

bool probe_message_read(const char *line, size_t length, struct probe_message *message,
                        struct error *err) {
    *message = (struct probe_message){ 0 };
    char name[16] = "";
    json_t *root = json_read_text(line, length, "answer", err);
    if (!root)
        return false;
    bool fine = read_text(root, "event", name, sizeof name, err);
    unsigned event = 0;
    while (fine && event < EVENT_COUNT && strcmp(name, event_names[event]))
        event++;
    message->event = (enum probe_event)event;
    switch (fine ? event : EVENT_COUNT) {
    case PROBE_DEVICE: fine = read_device(root, &message->device, err); break;
    case PROBE_BEGIN: fine = json_get_u32(root, "index", "answer", &message->index, err); break;
    case PROBE_STEP: fine = read_text(root, "what", message->what, sizeof message->what, err); break;
    case PROBE_VALUE: fine = read_value(root, &message->value, err); break;
    case PROBE_END:
        fine = json_get_bool(root, "usable", "answer", &message->usable, err) &&
               read_text(root, "reason", message->reason, sizeof message->reason, err);
        break;
    case PROBE_DONE: break;
    default: fine = error_set(err, ERROR_FAILED, "the probe's child says what nobody asked");
    }
    json_decref(root);
    return fine;
}

void probe_format(enum tensor_type type, enum weight_layout layout, char format[16]) {
    snprintf(format, 16, layout == LAYOUT_ROWS ? "%s" : "%s/%s", tensor_type_info(type)->name,
             weight_layout_name(layout));
}
