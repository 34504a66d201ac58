/* Maps from files, and from stored plans: the other half of device_map.h. */
#include "planner/device_map.h"

#include "common/json.h"
#include "common/weight_choice.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LARGEST_DEVICE 999
#define MOST_KEYS 200000u        /* 1,024 blocks have fewer than 20,000 modules and parameters */

static bool all_of(const char *text, size_t length, const char *set) {
    return length && strspn(text, set) >= length;
}

/* torch writes a device as "cuda", "cuda:0", "xpu:1"; max_memory's JSON has "0". */
static bool is_torch_backend(const char *word, size_t length) {
    static const char *const backends[] = { "cuda", "xpu", "hip", "npu", "mlu", "musa", "sdaa", "hpu", "mps", "maia" };
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
        if (strlen(backends[i]) == length && strncmp(word, backends[i], length) == 0)
            return true;
    return false;
}

static bool read_number(const char *digits, int32_t *device) {
    if (!all_of(digits, strlen(digits), "0123456789") || strlen(digits) > 3)
        return false;
    *device = (int32_t)strtol(digits, NULL, 10);
    return true;
}

/* False where the word can be no device at all. */
static bool read_word(const char *word, struct device_map_place *place) {
    size_t length = strcspn(word, ":");
    const char *number = word[length] ? word + length + 1 : "0";
    *place = (struct device_map_place){ 0 };
    if (length == 3 && strncmp(word, "cpu", 3) == 0) {
        place->device = DEVICE_MAP_CPU;
        return strcmp(number, "0") == 0;
    }
    if (strcmp(word, "disk") == 0) {
        place->device = DEVICE_MAP_DISK;
        return true;
    }
    if (read_number(word, &place->device))
        return true;
    if (is_torch_backend(word, length))
        return read_number(number, &place->device);
    if (word[length] || strcmp(word, "meta") == 0 || length >= sizeof place->name ||
        !all_of(word, length, "abcdefghijklmnopqrstuvwxyz0123456789"))
        return false;
    place->device = DEVICE_MAP_NAMED;
    memcpy(place->name, word, length + 1);
    return true;
}

static bool read_place(const json_t *value, const char *key, const char *file, struct device_map_place *place,
                       struct error *err) {
    if (json_is_integer(value)) {
        json_int_t number = json_integer_value(value);
        *place = (struct device_map_place){ .device = (int32_t)number };
        if (number >= 0 && number <= LARGEST_DEVICE)
            return true;
    } else if (json_is_string(value)) {
        if (strlen(json_string_value(value)) == json_string_length(value) &&
            read_word(json_string_value(value), place))
            return true;
    }
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_ENSURE_ASCII);
    error_set(err, ERROR_USAGE, "'%s': key '%.80s' has the device %.40s; known are numbers from 0 on, \"cpu\", \"disk\", "
              "\"cuda:0\" and names such as \"gpu0\"", file, key, text ? text : "?");
    free(text);
    return false;
}

/* ---- a plan as phiplan writes it ---- */

/* Digits to a number of parts, up to the character `end`. */
static bool read_part(const char **at, char end, uint32_t *part) {
    size_t digits = strspn(*at, "0123456789");
    if (!digits || digits > 9 || (*at)[digits] != end)
        return false;
    *part = (uint32_t)strtoul(*at, NULL, 10);
    *at += digits + 1;
    return true;
}

/* "attn.3[0:2]": parts 0 and 1. The unit itself is where its first part is. */
static bool read_slice(const char *name, struct device_map_place place, const char *file, struct device_map *map,
                       struct error *err) {
    struct device_map_slice slice = { .place = place };
    const char *at = strchr(name, '[');
    size_t length = (size_t)(at++ - name);
    if (length >= sizeof slice.unit || !read_part(&at, ':', &slice.begin) || !read_part(&at, ']', &slice.end) || *at ||
        slice.begin >= slice.end)
        return error_set(err, ERROR_USAGE, "'%s' has the unit '%.40s'; a slice is written 'attn.3[0:2]'", file, name);
    memcpy(slice.unit, name, length);
    struct device_map_slice *grown = realloc(map->slices, (map->slice_count + 1) * sizeof *grown);
    if (!grown)
        return error_set(err, ERROR_FAILED, "cannot read '%s': out of memory", file);
    map->slices = grown;
    map->slices[map->slice_count++] = slice;
    return slice.begin > 0 || device_map_add(map, slice.unit, place, err);
}

static bool read_plan_device(const json_t *entry, const char *file, struct device_map *map, struct error *err) {
    const char *name = json_string_value(json_object_get(entry, "device"));
    struct device_map_place place;
    const json_t *units = json_object_get(entry, "units"), *unit;
    size_t index;
    if (!name || !json_is_array(units))
        return error_set(err, ERROR_USAGE, "'%s': an entry of 'devices' lacks a 'device' or 'units'", file);
    if (!read_word(name, &place))
        return error_set(err, ERROR_USAGE, "'%s': '%.40s' is no name of a device", file, name);
    json_array_foreach(units, index, unit) {
        if (!json_is_string(unit))
            return error_set(err, ERROR_USAGE, "'%s': '%s' has a unit that is no string", file, name);
        if (map->count >= MOST_KEYS || map->slice_count >= MOST_KEYS)
            return error_set(err, ERROR_USAGE, "'%s' has more than %u units", file, MOST_KEYS);
        const char *unit_name = json_string_value(unit);
        if (!(strchr(unit_name, '[') ? read_slice(unit_name, place, file, map, err)
                                     : device_map_add(map, unit_name, place, err)))
            return false;
    }
    return true;
}

struct named_key { const char *key; size_t index; };

static int by_key(const void *a, const void *b) {
    return strcmp(((const struct named_key *)a)->key, ((const struct named_key *)b)->key);
}

/* A unit that two devices share is in slices; nothing else can be there twice. */
static bool refuse_twice(const struct device_map *map, const char *file, struct error *err) {
    struct named_key *keys = calloc(map->count + 1, sizeof *keys);
    bool ok = keys || error_set(err, ERROR_FAILED, "cannot read '%s': out of memory", file);
    for (size_t i = 0; ok && i < map->count; i++)
        keys[i] = (struct named_key){ map->entries[i].key, i };
    if (ok)
        qsort(keys, map->count, sizeof *keys, by_key);
    for (size_t i = 1; ok && i < map->count; i++)
        if (strcmp(keys[i - 1].key, keys[i].key) == 0)
            ok = error_set(err, ERROR_USAGE, "'%s' has '%.60s' twice", file, keys[i].key);
    free(keys);
    return ok;
}

bool device_map_read(const char *bytes, size_t size, const char *file, struct device_map *map,
                     struct error *err) {
    struct error why = { 0 };
    *map = (struct device_map){ 0 };
    json_t *root = json_read_text(bytes, size, file, &why);
    if (!root)
        return error_set(err, ERROR_USAGE, "%s", why.text);
    const json_t *devices = json_object_get(root, "devices");
    bool ok = false;
    if (!json_is_object(root) || !json_object_size(root)) {
        error_set(err, ERROR_USAGE, "'%s' is no device map: it is not an object with at least one key", file);
    } else if (json_is_array(devices)) {
        const json_t *entry;
        size_t index;
        ok = true;
        json_array_foreach(devices, index, entry)
            ok = ok && read_plan_device(entry, file, map, err);
        ok = ok && refuse_twice(map, file, err);
    } else if (json_object_size(root) > MOST_KEYS) {
        error_set(err, ERROR_USAGE, "'%s' has more than %u keys", file, MOST_KEYS);
    } else {
        const char *key;
        json_t *value;
        struct device_map_place place;
        ok = true;
        json_object_foreach(root, key, value)
            ok = ok && read_place(value, key, file, &place, err) && device_map_add(map, key, place, err);
    }
    json_decref(root);
    if (!ok)
        device_map_release(map);
    return ok;
}

/* What another machine may not have is for its people to say. */
static void note_untaken(const json_t *entry, const char *file, const struct plan_request *request, struct text *notes) {
    const struct { const char *key, *option; bool given; } untaken[] = {
        { "devices", "--devices", request->devices[0] },          { "exclude", "--exclude", request->exclude[0] },
        { "max_memory", "--max-memory", request->max_memory[0] }, { "max_buffer", "--max-buffer", request->max_buffer[0] },
        { "stream", "--stream", request->stream },
    };
    uint32_t count = 0;
    for (size_t i = 0; i < sizeof untaken / sizeof *untaken; i++) {
        const json_t *value = json_object_get(entry, untaken[i].key);
        if (untaken[i].given || !value || json_is_false(value))
            continue;
        if (!count++)
            text_append_format(notes, "'%s' was made with ", file);
        text_append_format(notes, "%s%s", count > 1 ? ", " : "", untaken[i].option);
    }
    if (count)
        text_append(notes, ", which import does not take\n");
}

static bool read_request(const json_t *entry, const char *file, bool takes_kv, struct plan_request *request,
                         struct text *notes, struct error *err) {
    const char *kv = "", *rope = "", *weights = "";
    struct plan_request read = { 0 };
    const struct { const char *key; uint32_t *read, *wanted; } counts[] = {
        { "ctx", &read.context, &request->context }, { "prompt", &read.prompt_tokens, &request->prompt_tokens },
        { "new", &read.new_tokens, &request->new_tokens },
        { "micro_batch", &read.micro_batch, &request->micro_batch },
    };
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        if (!json_get_u32(entry, counts[i].key, file, counts[i].read, err))
            return false;
        if (!*counts[i].wanted)
            *counts[i].wanted = *counts[i].read;
    }
    if (!json_get_str(entry, "kv", file, &kv, err) || !json_get_str(entry, "rope", file, &rope, err) ||
        !json_get_str(entry, "weights", file, &weights, err))
        return false;
    if (takes_kv && *kv && !kv_type_from_name(kv, &request->kv_type))
        return error_set(err, ERROR_USAGE, "'%s' asks for KV of the type '%.20s'; known are f32, f16 and q8_0", file, kv);
    if (!request->rope[0])
        snprintf(request->rope, sizeof request->rope, "%s", rope);
    enum tensor_type type;
    bool is_word = !*weights || strcmp(weights, "keep") == 0 || strcmp(weights, "auto") == 0;
    if (!request->weights[0] && !is_word && !(tensor_type_from_name(weights, &type) && weight_choice_can_make(type)))
        return error_set(err, ERROR_USAGE, "'%s' asks for weights '%.20s'; known are keep, f16, q8_0, q4_0 and auto",
                         file, weights);
    if (!request->weights[0])
        snprintf(request->weights, sizeof request->weights, "%s", weights);
    note_untaken(entry, file, request, notes);
    return true;
}

bool device_map_read_request(const char *bytes, size_t size, const char *file, bool takes_kv,
                             struct plan_request *request, struct text *notes, struct error *err) {
    json_t *root = json_read_text(bytes, size, file, err);
    const json_t *entry = json_object_get(root, "request");
    bool ok = root && (!json_is_array(json_object_get(root, "devices")) || !json_is_object(entry) ||
                       read_request(entry, file, takes_kv, request, notes, err));
    json_decref(root);
    return ok;
}

/* ---- from a plan ---- */

/* Numbers count in the order of the machine's list, of which a plan keeps all devices. */
static struct device_map_place number_device(const struct plan *plan, int32_t index) {
    struct device_map_place place = { .device = DEVICE_MAP_CPU };
    if (index == PLAN_HOST || plan->devices[index].device.type == DEVICE_CPU)
        return place;
    place.device = 0;
    for (uint32_t i = 0; i < plan->device_count; i++)
        place.device += plan->devices[i].device.type != DEVICE_CPU &&
                        device_precedes(&plan->devices[i].device, &plan->devices[index].device);
    return place;
}

/* The shard of a whole unit. */
static bool shard_of(const struct plan *plan, uint32_t unit, const struct shard **shard, struct error *err) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < plan->shard_count; i++) {
        if (plan->shards[i].unit == unit) {
            *shard = &plan->shards[i];
            count++;
        }
    }
    char name[24];
    plan_unit_name(plan->unit_count, unit, name);
    return count == 1 || error_set(err, ERROR_FAILED, "'%s' is sliced over %u shards, for which Accelerate's maps have no "
                                   "words; use --format json", name, count);
}

static bool add_half(struct device_map *map, const char *layer, const char *const *modules,
                     struct device_map_place place, struct error *err) {
    char key[96];
    for (; *modules; modules++) {
        snprintf(key, sizeof key, "%s.%s", layer, *modules);
        if (!device_map_add(map, key, place, err))
            return false;
    }
    return true;
}

bool device_map_from_plan(const struct plan *plan, struct device_map *map, struct error *err) {
    static const char *const attn[] = { "input_layernorm", "self_attn", NULL };
    static const char *const ffn[] = { "post_attention_layernorm", "mlp", NULL };
    static const char *const tail[] = { "model.norm", "model.rotary_emb", "lm_head" };
    struct device_map_place place, second;
    const struct shard *shard = NULL;
    *map = (struct device_map){ 0 };
    if (plan->unit_count < 2 || !shard_of(plan, 0, &shard, err))
        return false;
    bool ok = device_map_add(map, "model.embed_tokens", number_device(plan, shard->device), err);
    for (uint32_t block = 0; ok && block < (plan->unit_count - 2) / 2; block++) {
        char layer[32];
        snprintf(layer, sizeof layer, "model.layers.%u", block);
        ok = shard_of(plan, 1 + 2 * block, &shard, err);
        if (ok)
            place = number_device(plan, shard->device);
        ok = ok && shard_of(plan, 2 + 2 * block, &shard, err);
        if (!ok)
            break;
        second = number_device(plan, shard->device);
        if (place.device == second.device)
            ok = device_map_add(map, layer, place, err);
        else
            ok = add_half(map, layer, attn, place, err) && add_half(map, layer, ffn, second, err);
    }
    ok = ok && shard_of(plan, plan->unit_count - 1, &shard, err);
    for (size_t i = 0; ok && i < sizeof tail / sizeof *tail; i++)
        ok = device_map_add(map, tail[i], number_device(plan, shard->device), err);
    if (!ok)
        device_map_release(map);
    return ok;
}
