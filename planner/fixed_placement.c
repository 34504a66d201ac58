#include "planner/fixed_placement.h"

#include "planner/accelerate_map.h"
#include "planner/size_text.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool placement_is_fixed(const struct sizing *sizing) {
    return sizing->source->map || accelerate_is_policy(sizing->request->policy);
}

/* ---- which device a place means ---- */

/* Position among the chosen devices, or -1. */
static int32_t position_of(const struct sizing *sizing, uint32_t index) {
    for (uint32_t i = 0; i < sizing->choice.count; i++)
        if (sizing->choice.chosen[i].index == index)
            return (int32_t)i;
    return -1;
}

static int32_t first_cpu(const struct sizing *sizing) {
    for (uint32_t i = 0; i < sizing->choice.count; i++)
        if (sizing_device(sizing, i)->type == DEVICE_CPU)
            return (int32_t)i;
    return -1;
}

/* The number that Accelerate's maps have for a device: -1 for a CPU. */
static int32_t number_of(const struct device_list *list, uint32_t index) {
    int32_t number = 0;
    for (uint32_t i = 0; i < index; i++)
        number += list->devices[i].short_name[0] && list->devices[i].type != DEVICE_CPU;
    return list->devices[index].type == DEVICE_CPU ? DEVICE_MAP_CPU : number;
}

static const char *left_out_reason(const struct sizing *sizing, uint32_t index) {
    for (uint32_t i = 0; i < sizing->choice.left_out_count; i++)
        if (sizing->choice.left_out[i].index == index)
            return sizing->choice.left_out[i].reason;
    return "it takes no part";
}

/* The chosen device that a place of the map means. */
static bool find_place(const struct sizing *sizing, struct device_map_place place, uint32_t unit, int32_t *position,
                       struct error *err) {
    char word[24];
    uint32_t index;
    device_map_place_text(place, word);
    if (place.device == DEVICE_MAP_NAMED && strcmp(word, "host") == 0) {
        *position = PLACEMENT_HOST;
        return unit == 0 || error_set(err, ERROR_USAGE, "only embed can be on 'host'");
    }
    if (place.device == DEVICE_MAP_CPU) {
        /* Rows from the mapped file, by the same processor, without a second copy. */
        *position = unit == 0 ? PLACEMENT_HOST : first_cpu(sizing);
        return unit == 0 || *position >= 0 ||
               error_set(err, ERROR_USAGE, "the map puts blocks on the cpu, and no OpenCL device that takes part is a CPU; "
                         "install a driver such as pocl-opencl-icd, or see phiplan devices");
    }
    if (!device_choice_find(sizing->source->devices, word, &index, err))
        return false;
    *position = position_of(sizing, index);
    return *position >= 0 || error_set(err, ERROR_USAGE, "the map puts units on '%s' (%s), which is left out: %s", word,
                                       sizing->source->devices->devices[index].short_name,
                                       left_out_reason(sizing, index));
}

/* ---- what Accelerate may fill ---- */

struct limits { const struct sizing *sizing; struct accelerate_memory *memory; struct text *notes; };

/* One word of --max-memory: a number, cpu, disk or a name, and an amount or a share of
 * the device's budget. */
static bool add_limit(void *context, const char *word, struct error *err) {
    struct limits *limits = context;
    const struct sizing *sizing = limits->sizing;
    struct size_value size;
    char name[64];
    size_t length = strcspn(word, "=");
    if (!word[length] || length >= sizeof name)
        return error_set(err, ERROR_USAGE, "--max-memory: '%.60s' names no device; write for example 0=8GiB,cpu=24GiB",
                         word);
    snprintf(name, sizeof name, "%.*s", (int)length, word);
    while (name[0] && isspace((unsigned char)name[strlen(name) - 1]))
        name[strlen(name) - 1] = '\0';
    if (!size_parse_limit("--max-memory", word, &size, limits->notes, err))
        return false;
    if (strcmp(name, "disk") == 0)
        return accelerate_memory_add(limits->memory, DEVICE_MAP_DISK, size.bytes, err);
    uint32_t index;
    if (!device_choice_find(sizing->source->devices, name, &index, err)) {
        error_prefix(err, "--max-memory");
        return error_set(err, ERROR_USAGE, "%s; for a map of devices that are not here: --dry-run --format accelerate",
                         err->text);
    }
    int32_t position = position_of(sizing, index);
    if (position < 0)
        return error_set(err, ERROR_USAGE, "--max-memory: '%s' is left out: %s", name, left_out_reason(sizing, index));
    if (size.is_percent)
        size.bytes = (uint64_t)((double)sizing->choice.chosen[position].budget_bytes * size.percent / 100);
    return accelerate_memory_add(limits->memory, number_of(sizing->source->devices, index), size.bytes, err);
}

static bool collect_memory(const struct sizing *sizing, struct accelerate_memory *memory, struct text *notes,
                           struct error *err) {
    struct limits limits = { sizing, memory, notes };
    *memory = (struct accelerate_memory){ 0 };
    if (sizing->request->max_memory[0])
        return each_word(sizing->request->max_memory, add_limit, &limits, err);
    for (uint32_t i = sizing->choice.count; i-- > 0;) {
        /* Of several CPUs the first stays: they share the host's RAM. */
        int32_t number = number_of(sizing->source->devices, sizing->choice.chosen[i].index);
        if (!accelerate_memory_add(memory, number, sizing->choice.chosen[i].budget_bytes, err))
            return false;
    }
    return true;
}

/* ---- does it fit? ---- */

static bool short_of(const struct sizing *sizing, uint64_t needed, uint64_t there, const char *subject,
                     struct error *err) {
    char need[24], have[24], lack[24];
    const bool is_import = sizing->source->map != NULL;
    size_print(needed, need);
    size_print(there, have);
    size_print(needed - there, lack);
    return error_set(err, ERROR_FAILED, "%s %s puts %s on %s with KV and scratch%s, which has %s: %s short; %s",
                     is_import ? "the" : "policy", is_import ? "map" : sizing->request->policy, need, subject,
                     is_import ? "" : " (Accelerate counts weights alone)", have, lack,
                     is_import ? "move blocks elsewhere or lower --ctx"
                               : "lower --max-memory for it or --ctx, or use --policy fastest");
}

static bool check_memory(const struct sizing *sizing, const struct placement *placement, struct error *err) {
    const struct placement_input *input = &sizing->input;
    uint64_t pooled = 0;
    bool ok = true;
    struct part_range *parts = calloc(input->unit_count, sizeof *parts);
    if (!parts)
        return error_set(err, ERROR_FAILED, "cannot place the model: out of memory");
    for (uint32_t d = 0; ok && d < input->device_count; d++) {
        const struct placement_device *device = &input->devices[d];
        char subject[40];
        sizing_parts(sizing, placement, d, parts);
        uint64_t needed = sizing_bytes(sizing, parts, d);
        snprintf(subject, sizeof subject, "'%s'", device->name);
        if (needed > device->budget_bytes)
            ok = short_of(sizing, needed, device->budget_bytes, subject, err);
        pooled += device->in_pool ? needed : 0;
    }
    free(parts);
    return ok && (pooled <= input->pool_bytes || short_of(sizing, pooled, input->pool_bytes, "the host's RAM", err));
}

/* ---- placing ---- */

static bool place_units(const struct sizing *sizing, const struct device_map *map, struct placement *placement,
                        struct text *notes, struct error *err) {
    const struct placement_input *input = &sizing->input;
    const struct module_sizes as_stored = { 0, 4 };
    struct module_tree *tree = module_tree_new(sizing->source->model, &as_stored, err);
    struct device_map_place *places = calloc(input->unit_count, sizeof *places);
    bool ok = tree != NULL;
    if (ok && !places)
        ok = error_set(err, ERROR_FAILED, "cannot place the model: out of memory");
    ok = ok && device_map_resolve(map, tree, places, notes, err);
    for (uint32_t unit = 0; ok && unit < input->unit_count; unit++) {
        int32_t *position = &placement->device[unit];
        char name[24];
        unit_name(unit_at(sizing->source->model, unit), name);
        ok = find_place(sizing, places[unit], unit, position, err);
        if (ok && *position >= 0 && !input->devices[*position].units[unit].allowed)
            ok = error_set(err, ERROR_FAILED, "the map puts '%s' on '%s', where it is forbidden or a buffer of it exceeds "
                           "the largest; change --forbid or --max-buffer", name, input->devices[*position].name);
    }
    module_tree_free(tree);
    free(places);
    return ok;
}

static int by_unit_and_part(const void *a, const void *b) {
    const struct placement_slice *one = a, *other = b;
    if (one->unit != other->unit)
        return one->unit < other->unit ? -1 : 1;
    return one->parts.begin < other->parts.begin ? -1 : one->parts.begin > other->parts.begin;
}

/* The slices of a unit cover it, each on a device of its own. */
static bool check_slices(const struct sizing *sizing, const struct placement *placement, struct error *err) {
    for (uint32_t i = 0, count; i < placement->slice_count; i += count) {
        const struct placement_slice *slices;
        const struct unit unit = unit_at(sizing->source->model, placement->slices[i].unit);
        const uint32_t parts = unit_part_count(sizing->source->model, unit);
        uint32_t next = 0;
        char name[24];
        unit_name(unit, name);
        count = placement_slices_of(placement, placement->slices[i].unit, &slices);
        for (uint32_t j = 0; j < count; j++) {
            for (uint32_t k = 0; k < j; k++)
                if (slices[k].device == slices[j].device)
                    return error_set(err, ERROR_USAGE, "the plan has two slices of '%s' on '%s'; make them one", name,
                                     sizing->input.devices[slices[j].device].name);
            if (slices[j].parts.begin != next)
                break;
            next = slices[j].parts.end;
        }
        if (next != parts)
            return error_set(err, ERROR_USAGE, "the slices of '%s' in the plan are not its parts 0 to %u, each once", name,
                             parts);
    }
    return true;
}

/* The slices of an imported plan, whose units are placed already. */
static bool place_slices(const struct sizing *sizing, const struct device_map *map, struct placement *placement,
                         struct error *err) {
    if (!map->slice_count)
        return true;
    placement->slices = calloc(map->slice_count, sizeof *placement->slices);
    if (!placement->slices)
        return error_set(err, ERROR_FAILED, "cannot place the model: out of memory");
    for (size_t i = 0; i < map->slice_count; i++) {
        const struct device_map_slice *from = &map->slices[i];
        struct placement_slice *slice = &placement->slices[placement->slice_count++];
        struct unit unit;
        if (!unit_from_name(sizing->source->model, from->unit, &unit))
            return error_set(err, ERROR_USAGE, "the plan has slices of '%s', which is no unit of the model", from->unit);
        *slice = (struct placement_slice){ .unit = unit_index(sizing->source->model, unit),
                                           .parts = { from->begin, from->end } };
        if (!find_place(sizing, from->place, slice->unit, &slice->device, err))
            return false;
        if (slice->device < 0)
            return error_set(err, ERROR_USAGE, "'%s' cannot be in slices", from->unit);
        if (!sizing->input.devices[slice->device].units[slice->unit].allowed)
            return error_set(err, ERROR_FAILED, "the plan puts a slice of '%s' on '%s', where it is forbidden or a buffer "
                             "of it exceeds the largest; change --forbid or --max-buffer", from->unit,
                             sizing->input.devices[slice->device].name);
    }
    qsort(placement->slices, placement->slice_count, sizeof *placement->slices, by_unit_and_part);
    return check_slices(sizing, placement, err);
}

/* For comparison: what the search would have made. */
static void add_fastest(const struct sizing *sizing, struct placement_result *result) {
    struct placement_result fastest = { 0 };
    const size_t bytes = sizing->input.unit_count * sizeof *result->best.device;
    if (placement_fastest(&sizing->input, &fastest, NULL) &&
        (result->best.slice_count || memcmp(fastest.best.device, result->best.device, bytes) != 0)) {
        result->alternatives[0] = fastest.best;
        result->alternative_count = 1;
        fastest.best = (struct placement){ 0 };
    }
    placement_result_release(&fastest);
}

bool placement_fixed(const struct sizing *sizing, struct placement_result *result, struct text *notes,
                     struct error *err) {
    const struct plan_request *request = sizing->request;
    struct device_map made = { 0 };
    struct accelerate_memory memory;
    *result = (struct placement_result){ 0 };
    if (request->pins[0])
        return error_set(err, ERROR_USAGE, "--pin and %s both say where units go; leave one out",
                         sizing->source->map ? "the map" : request->policy);
    result->best.device = calloc(sizing->input.unit_count, sizeof *result->best.device);
    bool ok = result->best.device || error_set(err, ERROR_FAILED, "cannot place the model: out of memory");
    if (ok && !sizing->source->map)
        ok = collect_memory(sizing, &memory, notes, err) &&
             accelerate_policy_map(sizing->source->model, request->policy, request->dtype, &memory, &made, err);
    ok = ok && place_units(sizing, sizing->source->map ? sizing->source->map : &made, &result->best, notes, err) &&
         place_slices(sizing, sizing->source->map ? sizing->source->map : &made, &result->best, err) &&
         check_memory(sizing, &result->best, err);
    device_map_release(&made);
    if (!ok) {
        placement_result_release(result);
        return false;
    }
    result->best.seconds = placement_seconds(&sizing->input, result->best.device);
    for (uint32_t d = 0; d < sizing->input.device_count; d++)
        result->best_with[d] = INFINITY;
    for (uint32_t unit = 0; unit < sizing->input.unit_count; unit++)
        if (result->best.device[unit] >= 0)
            result->best_with[result->best.device[unit]] = result->best.seconds;
    for (uint32_t i = 0; i < result->best.slice_count; i++)
        result->best_with[result->best.slices[i].device] = result->best.seconds;
    add_fastest(sizing, result);
    return true;
}
