#include "planner/placement.h"

#include "planner/size_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool placement_input_init(struct placement_input *input, uint32_t unit_count, uint32_t device_count,
                          struct error *err) {
    *input = (struct placement_input){ .unit_count = unit_count, .device_count = device_count };
    if (!unit_count || !device_count || device_count > PLACEMENT_MAX_DEVICES) {
        input->device_count = 0;
        return error_set(err, ERROR_FAILED, "cannot place %u units on %u devices; at most %d devices "
                         "can take part, choose them with --devices", unit_count, device_count,
                         PLACEMENT_MAX_DEVICES);
    }
    input->kinds = calloc(unit_count, sizeof *input->kinds);
    input->pinned = calloc(unit_count, sizeof *input->pinned);
    bool complete = input->kinds && input->pinned;
    for (uint32_t d = 0; d < device_count; d++) {
        input->devices[d].units = calloc(unit_count, sizeof *input->devices[d].units);
        complete = complete && input->devices[d].units;
    }
    if (!complete) {
        placement_input_release(input);
        return error_set(err, ERROR_FAILED, "cannot place the model: out of memory");
    }
    for (uint32_t u = 0; u < unit_count; u++) {
        input->pinned[u] = PLACEMENT_FREE;
        for (uint32_t d = 0; d < device_count; d++)
            input->devices[d].units[u].allowed = true;
    }
    return true;
}

void placement_input_release(struct placement_input *input) {
    for (uint32_t d = 0; d < input->device_count; d++)
        free(input->devices[d].units);
    free(input->kinds);
    free(input->pinned);
    *input = (struct placement_input){ 0 };
}

void placement_result_release(struct placement_result *result) {
    free(result->best.device);
    free(result->best.slices);
    for (uint32_t i = 0; i < PLACEMENT_ALTERNATIVES; i++) {
        free(result->alternatives[i].device);
        free(result->alternatives[i].slices);
    }
    *result = (struct placement_result){ 0 };
}

double placement_hop(const struct placement_input *input, int32_t from, int32_t to) {
    if (from == to)
        return 0;
    return input->hop_seconds[from < 0 ? PLACEMENT_MAX_DEVICES : from][to < 0 ? PLACEMENT_MAX_DEVICES : to];
}

uint64_t placement_pinned_bytes(const struct placement_input *input, uint32_t device,
                                uint32_t *kind_mask) {
    uint64_t bytes = 0;
    *kind_mask = 0;
    for (uint32_t u = 0; u < input->unit_count; u++) {
        if (input->pinned[u] == (int32_t)device) {
            bytes += input->devices[device].units[u].bytes;
            *kind_mask |= 1u << input->kinds[u];
        }
    }
    return bytes;
}

uint32_t placement_slices_of(const struct placement *placement, uint32_t unit,
                             const struct placement_slice **first) {
    uint32_t i = 0, count = 0;
    while (i < placement->slice_count && placement->slices[i].unit < unit)
        i++;
    *first = placement->slices ? placement->slices + i : NULL;
    while (i + count < placement->slice_count && placement->slices[i + count].unit == unit)
        count++;
    return count;
}

struct part_range placement_parts(const struct placement *placement, uint32_t unit, int32_t device,
                                  uint32_t part_count) {
    const struct placement_slice *slices;
    uint32_t count = placement_slices_of(placement, unit, &slices);
    for (uint32_t i = 0; i < count; i++)
        if (slices[i].device == device)
            return slices[i].parts;
    return (struct part_range){ 0, !count && placement->device[unit] == device ? part_count : 0 };
}

uint64_t placement_bytes(const struct placement_input *input, const struct placement *placement,
                         uint32_t device) {
    uint64_t bytes = 0;
    uint32_t kind_mask = 0;
    for (uint32_t u = 0; u < input->unit_count; u++) {
        const struct placement_slice *slices;
        /* The search asks often, and has none. */
        uint32_t count = placement->slice_count ? placement_slices_of(placement, u, &slices) : 0;
        for (uint32_t i = 0; i < count; i++) {
            /* The last one ends where the unit does. */
            double share = (double)(slices[i].parts.end - slices[i].parts.begin) / slices[count - 1].parts.end;
            if (slices[i].device != (int32_t)device)
                continue;
            bytes += (uint64_t)(share * (double)input->devices[device].units[u].bytes);
            kind_mask |= 1u << input->kinds[u];
        }
        if (!count && placement->device[u] == (int32_t)device) {
            bytes += input->devices[device].units[u].bytes;
            kind_mask |= 1u << input->kinds[u];
        }
    }
    return bytes + input->devices[device].scratch_bytes[kind_mask];
}

double placement_seconds(const struct placement_input *input, const int32_t *device) {
    double seconds = 0;
    int32_t at = PLACEMENT_HOST;
    for (uint32_t u = 0; u < input->unit_count; u++) {
        seconds += placement_hop(input, at, device[u]);
        at = device[u];
        if (at >= 0)
            seconds += input->devices[at].units[u].seconds;
    }
    return seconds + placement_hop(input, at, PLACEMENT_HOST);
}

/* ---- fill ---- */

/* Running totals of one device while units are added. */
struct load { uint64_t bytes; uint32_t kind_mask; };

static bool load_fits(const struct placement_input *input, const struct load *loads, uint32_t device,
                      uint32_t unit) {
    const struct placement_device *d = &input->devices[device];
    uint64_t bytes = loads[device].bytes + d->units[unit].bytes +
                     d->scratch_bytes[loads[device].kind_mask | 1u << input->kinds[unit]];
    if (!d->units[unit].allowed || bytes > d->budget_bytes)
        return false;
    if (!d->in_pool)
        return true;
    for (uint32_t i = 0; i < input->device_count; i++)
        if (i != device && input->devices[i].in_pool)
            bytes += loads[i].bytes + input->devices[i].scratch_bytes[loads[i].kind_mask];
    return bytes <= input->pool_bytes;
}

bool placement_fill(const struct placement_input *input, struct placement_result *result,
                    struct error *err) {
    *result = (struct placement_result){ 0 };
    struct load loads[PLACEMENT_MAX_DEVICES] = { 0 };
    for (uint32_t d = 0; d < input->device_count; d++) {
        result->best_with[d] = INFINITY;
        loads[d].bytes = placement_pinned_bytes(input, d, &loads[d].kind_mask);
        struct load alone = loads[d];
        if (alone.bytes + input->devices[d].scratch_bytes[alone.kind_mask] > input->devices[d].budget_bytes)
            return placement_explain_infeasible(input, result, err);
    }
    int32_t *device = calloc(input->unit_count, sizeof *device);
    if (!device)
        return error_set(err, ERROR_FAILED, "cannot place the model: out of memory");

    uint32_t current = 0;
    for (uint32_t u = 0; u < input->unit_count; u++) {
        device[u] = input->pinned[u];
        if (device[u] != PLACEMENT_FREE)
            continue;
        while (current < input->device_count && !load_fits(input, loads, current, u))
            current++;
        if (current == input->device_count) {
            free(device);
            return placement_explain_infeasible(input, result, err);
        }
        device[u] = (int32_t)current;
        loads[current].bytes += input->devices[current].units[u].bytes;
        loads[current].kind_mask |= 1u << input->kinds[u];
    }
    result->best = (struct placement){ .device = device, .seconds = placement_seconds(input, device) };
    for (uint32_t u = 0; u < input->unit_count; u++)
        if (device[u] >= 0)
            result->best_with[device[u]] = result->best.seconds;
    return true;
}

bool placement_balanced(const struct placement_input *input, struct placement_result *result,
                        struct error *err) {
    enum { STEPS = 30 };
    struct placement_input scaled = *input;   /* shares all tables; only budgets differ */
    struct placement_result tried;
    double low = 0, high = 1;
    if (!placement_fill(input, result, err))
        return false;
    for (int i = 0; i < STEPS; i++) {
        double share = (low + high) / 2;
        for (uint32_t d = 0; d < input->device_count; d++)
            scaled.devices[d].budget_bytes = (uint64_t)(share * (double)input->devices[d].budget_bytes);
        if (placement_fill(&scaled, &tried, NULL)) {
            placement_result_release(result);
            *result = tried;
            high = share;
        } else {
            low = share;
        }
    }
    return true;
}

/* ---- explanations ---- */

bool placement_explain_infeasible(const struct placement_input *input,
                                  struct placement_result *result, struct error *err) {
    result->infeasible = true;
    char need[24], have[24], unit_text[24];
    /* A unit that no device can hold at all says more than the sums. */
    uint64_t total = 0, scratch = UINT64_MAX;
    for (uint32_t u = 0; u < input->unit_count; u++) {
        int32_t pin = input->pinned[u];
        if (pin == PLACEMENT_HOST)
            continue;
        uint64_t least = UINT64_MAX, bytes = UINT64_MAX, most_room = 0;
        bool fits = false, allowed = false;
        const char *largest = "";
        for (uint32_t d = 0; d < input->device_count; d++) {
            const struct placement_device *device = &input->devices[d];
            if ((pin >= 0 && pin != (int32_t)d) || !device->units[u].allowed)
                continue;
            allowed = true;
            uint64_t room = device->budget_bytes;
            if (device->in_pool && input->pool_bytes < room)
                room = input->pool_bytes;
            uint64_t with_scratch = device->units[u].bytes + device->scratch_bytes[1u << input->kinds[u]];
            if (with_scratch < least)
                least = with_scratch;
            if (device->units[u].bytes < bytes)
                bytes = device->units[u].bytes;
            if (!*largest || room > most_room) {
                most_room = room;
                largest = device->name;
            }
            if (device->scratch_bytes[PLACEMENT_KIND_MASKS - 1] < scratch)
                scratch = device->scratch_bytes[PLACEMENT_KIND_MASKS - 1];
            fits = fits || with_scratch <= room;
        }
        struct unit unit = { input->kinds[u], u ? (u - 1) / 2 : 0 };
        unit_name(unit, unit_text);
        if (!allowed)
            return error_set(err, ERROR_FAILED, "no device may hold '%s': it is forbidden everywhere or a "
                             "buffer of it exceeds the largest that is allowed; relax --forbid, --devices "
                             "or --max-buffer", unit_text);
        if (!fits) {
            size_print(least, need);
            size_print(most_room, have);
            return error_set(err, ERROR_FAILED, "cannot place '%s': it needs %s with its KV and scratch, and "
                             "the largest device that may hold it, '%s', has %s", unit_text, need, largest, have);
        }
        total += bytes;
    }
    uint64_t room = 0;
    bool pool_counted = false;
    char devices[256] = "";
    size_t used = 0;
    for (uint32_t d = 0; d < input->device_count; d++) {
        const struct placement_device *device = &input->devices[d];
        uint64_t budget = device->budget_bytes;
        if (device->in_pool && input->pool_bytes < budget)
            budget = input->pool_bytes;
        size_print(budget, have);
        if (used < sizeof devices)
            used += (size_t)snprintf(devices + used, sizeof devices - used, "%s'%s' %s", d ? ", " : "",
                                     device->name, have);
        if (!device->in_pool) {
            room += budget;
        } else if (!pool_counted) {
            uint64_t pool = 0;
            for (uint32_t i = d; i < input->device_count; i++)
                if (input->devices[i].in_pool)
                    pool += input->devices[i].budget_bytes;
            room += pool < input->pool_bytes ? pool : input->pool_bytes;
            pool_counted = true;
        }
    }
    total += scratch == UINT64_MAX ? 0 : scratch;
    size_print(total, need);
    size_print(room, have);
    if (total > room)
        return error_set(err, ERROR_FAILED, "the model does not fit: it needs %s (weights, KV and scratch) "
                         "and there are %s (%s)", need, have, devices);
    return error_set(err, ERROR_FAILED, "the model does not fit: it needs %s (weights, KV and scratch), and "
                     "though there are %s (%s), no split into whole half-blocks with scratch on every "
                     "device works", need, have, devices);
}

/* Bytes still free on a device: its own budget and, where shared, the pool's. */
static uint64_t room_left(const struct placement_input *input, const struct placement *placement,
                          uint32_t device) {
    uint64_t used = placement_bytes(input, placement, device), pool_used = 0;
    uint64_t budget = input->devices[device].budget_bytes, room = budget > used ? budget - used : 0;
    if (!input->devices[device].in_pool)
        return room;
    for (uint32_t d = 0; d < input->device_count; d++)
        if (input->devices[d].in_pool)
            pool_used += placement_bytes(input, placement, d);
    uint64_t pool_room = input->pool_bytes > pool_used ? input->pool_bytes - pool_used : 0;
    return room < pool_room ? room : pool_room;
}

/* Mean seconds of a free unit on a device. */
static double pace(const struct placement_input *input, uint32_t device) {
    double seconds = 0;
    uint32_t count = 0;
    for (uint32_t u = 0; u < input->unit_count; u++) {
        if (input->pinned[u] == PLACEMENT_FREE && input->devices[device].units[u].allowed) {
            seconds += input->devices[device].units[u].seconds;
            count++;
        }
    }
    return count ? seconds / count : INFINITY;
}

void placement_binding(const struct placement_input *input, const struct placement *placement,
                       char *text, size_t size) {
    text[0] = '\0';
    /* The fastest device that has units, while free units lie elsewhere. */
    uint32_t fastest = UINT32_MAX;
    for (uint32_t d = 0; d < input->device_count; d++) {
        bool used = false;
        for (uint32_t u = 0; u < input->unit_count; u++)
            used = used || placement->device[u] == (int32_t)d;
        if (used && (fastest == UINT32_MAX || pace(input, d) < pace(input, fastest)))
            fastest = d;
    }
    if (fastest == UINT32_MAX)
        return;
    uint64_t block = 0;
    for (uint32_t u = 0; u + 1 < input->unit_count && !block; u++) {
        bool elsewhere = input->pinned[u] == PLACEMENT_FREE && placement->device[u] != (int32_t)fastest;
        if (elsewhere && input->kinds[u] == UNIT_ATTN) {
            block = input->devices[fastest].units[u].bytes;
            if (input->pinned[u + 1] == PLACEMENT_FREE)
                block += input->devices[fastest].units[u + 1].bytes;
        }
    }
    uint64_t room = room_left(input, placement, fastest);
    if (!block || block <= room)
        return;
    char need[24];
    size_print(block - room, need);
    snprintf(text, size, "one more block on '%s' needs %s more", input->devices[fastest].name, need);
}

void placement_empty_reason(const struct placement_input *input,
                            const struct placement_result *result, uint32_t device, char *text,
                            size_t size) {
    const struct placement_device *d = &input->devices[device];
    if (isfinite(result->best_with[device])) {
        double slower = result->best_with[device] / result->best.seconds - 1;
        snprintf(text, size, "not needed: with it the workload would take %.*f %% longer",
                 slower < 0.1 ? 1 : 0, 100 * slower);
        return;
    }
    uint64_t least = UINT64_MAX, room = d->budget_bytes;
    if (d->in_pool && input->pool_bytes < room)
        room = input->pool_bytes;
    for (uint32_t u = 0; u < input->unit_count; u++) {
        if (input->pinned[u] != PLACEMENT_FREE || !d->units[u].allowed)
            continue;
        uint64_t bytes = d->units[u].bytes + d->scratch_bytes[1u << input->kinds[u]];
        if (bytes < least)
            least = bytes;
    }
    char need[24], have[24];
    size_print(least, need);
    size_print(room, have);
    if (least == UINT64_MAX)
        snprintf(text, size, "nothing is left that it may hold");
    else if (least > room)
        snprintf(text, size, "too small: its smallest unit needs %s with scratch, and it has %s", need, have);
    else
        snprintf(text, size, "the devices before it hold everything");
}
