/* plan: making, checking and completing a placement. */
#include "common/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A plan of more units than any model has is damage, not data. */
#define MAX_UNITS (2u * MODEL_MAX_BLOCKS + 2u)
#define MAX_SHARDS (MAX_UNITS * 64u)

bool plan_id_read(const char *text, int64_t *id) {
    size_t length = strlen(text);
    if (!length || length > 18 || strspn(text, "0123456789") != length)
        return false;
    *id = strtoll(text, NULL, 10);
    return true;
}

struct plan *plan_new(void) {
    return calloc(1, sizeof(struct plan));
}

void plan_free(struct plan *plan) {
    if (!plan)
        return;
    free(plan->shards);
    free(plan);
}

bool plan_add_shard(struct plan *plan, const struct shard *shard, struct error *err) {
    if (plan->shard_count >= MAX_SHARDS)
        return error_set(err, ERROR_FAILED, "a plan has more than %u shards; it is damaged", MAX_SHARDS);
    /* Room doubles at every power of two: the count alone says how much there is. */
    if ((plan->shard_count & (plan->shard_count - 1)) == 0) {
        size_t capacity = plan->shard_count ? 2 * (size_t)plan->shard_count : 1;
        struct shard *grown = realloc(plan->shards, capacity * sizeof *grown);
        if (!grown)
            return error_set(err, ERROR_FAILED, "cannot add a shard to a plan: out of memory");
        plan->shards = grown;
    }
    uint32_t place = plan->shard_count;
    while (place > 0 && (plan->shards[place - 1].unit > shard->unit ||
                         (plan->shards[place - 1].unit == shard->unit &&
                          plan->shards[place - 1].part_begin > shard->part_begin)))
        place--;
    memmove(plan->shards + place + 1, plan->shards + place,
            (plan->shard_count - place) * sizeof *plan->shards);
    plan->shards[place] = *shard;
    plan->shard_count++;
    return true;
}

/* Unit numbers say what a unit is once the number of units is known (common/unit.h). */
void plan_unit_name(uint32_t unit_count, uint32_t unit, char name[24]) {
    if (unit == 0)
        snprintf(name, 24, "embed");
    else if (unit + 1 == unit_count)
        snprintf(name, 24, "head");
    else
        snprintf(name, 24, "%s.%u", unit % 2 ? "attn" : "ffn", (unit - 1) / 2);
}

bool plan_shard_is_slice(const struct plan *plan, uint32_t index) {
    const struct shard *shard = &plan->shards[index];
    return shard->part_begin > 0 || (index + 1 < plan->shard_count && shard[1].unit == shard->unit);
}

void plan_shard_name(const struct plan *plan, uint32_t index, char name[48]) {
    const struct shard *shard = &plan->shards[index];
    char unit[24];
    plan_unit_name(plan->unit_count, shard->unit, unit);
    if (plan_shard_is_slice(plan, index))
        snprintf(name, 48, "%s[%u:%u]", unit, shard->part_begin, shard->part_end);
    else
        snprintf(name, 48, "%s", unit);
}

bool plan_device_holds(const struct plan *plan, int32_t device) {
    for (uint32_t i = 0; i < plan->shard_count; i++)
        if (plan->shards[i].device == device)
            return true;
    return false;
}

bool plan_streams(const struct plan *plan, int32_t device) {
    for (uint32_t i = 0; i < plan->shard_count; i++)
        if (plan->shards[i].residency == STREAMED && (device == PLAN_ANY_DEVICE || plan->shards[i].device == device))
            return true;
    return false;
}

static bool check_devices(const struct plan *plan, struct error *err) {
    if (plan->device_count > PLAN_MAX_DEVICES)
        return error_set(err, ERROR_FAILED, "plan '%s' has %u devices, more than %d", plan->name,
                         plan->device_count, PLAN_MAX_DEVICES);
    for (uint32_t i = 0; i < plan->device_count; i++) {
        const char *name = plan->devices[i].device.short_name;
        if (!name[0] || strcmp(name, "host") == 0)
            return error_set(err, ERROR_FAILED, "device %u of plan '%s' has no name of its own", i,
                             plan->name);
        for (uint32_t j = 0; j < i; j++)
            if (strcmp(name, plan->devices[j].device.short_name) == 0)
                return error_set(err, ERROR_FAILED, "plan '%s' names device '%s' twice", plan->name, name);
    }
    return true;
}

static bool check_shard(const struct plan *plan, const struct shard *shard, struct error *err) {
    char name[24];
    plan_unit_name(plan->unit_count, shard->unit, name);
    if (shard->device == PLAN_HOST) {
        if (shard->unit != 0)
            return error_set(err, ERROR_FAILED,
                             "unit '%s' of plan '%s' is on 'host'; only embed can be there: "
                             "move it to a device", name, plan->name);
    } else if (shard->device < 0 || (uint32_t)shard->device >= plan->device_count) {
        return error_set(err, ERROR_FAILED, "unit '%s' of plan '%s' is on device %d of %u", name,
                         plan->name, (int)shard->device, plan->device_count);
    }
    if (shard->part_begin >= shard->part_end)
        return error_set(err, ERROR_FAILED, "unit '%s' of plan '%s' has an empty shard (parts %u to %u)",
                         name, plan->name, shard->part_begin, shard->part_end);
    if (shard->residency != RESIDENT && shard->residency != STREAMED)
        return error_set(err, ERROR_FAILED, "unit '%s' of plan '%s' has an unknown residency", name,
                         plan->name);
    if (!memchr(shard->format, '\0', sizeof shard->format) || !shard->format[0])
        return error_set(err, ERROR_FAILED, "unit '%s' of plan '%s' has no weight format", name, plan->name);
    bool is_attention = shard->unit % 2 == 1 && shard->unit + 1 < plan->unit_count;
    if (shard->kv_bytes && !is_attention)
        return error_set(err, ERROR_FAILED, "unit '%s' of plan '%s' has KV, which only attn units hold",
                         name, plan->name);
    return true;
}

bool plan_validate(const struct plan *plan, struct error *err) {
    if (plan->unit_count < 2 || plan->unit_count % 2 || plan->unit_count > MAX_UNITS)
        return error_set(err, ERROR_FAILED, "plan '%s' has %u units, which no model has", plan->name,
                         plan->unit_count);
    if (!check_devices(plan, err))
        return false;

    char name[24];
    uint32_t next_unit = 0, next_part = 0;   /* what the next shard must begin with */
    for (uint32_t i = 0; i < plan->shard_count; i++) {
        const struct shard *shard = &plan->shards[i];
        if (shard->unit >= plan->unit_count)
            return error_set(err, ERROR_FAILED, "plan '%s' places unit %u of %u", plan->name, shard->unit,
                             plan->unit_count);
        if (!check_shard(plan, shard, err))
            return false;
        bool is_new = shard->unit == next_unit && shard->part_begin == 0;
        bool goes_on = next_unit > 0 && shard->unit == next_unit - 1 && shard->part_begin == next_part;
        if (!is_new && !goes_on) {
            bool is_behind = shard->unit < next_unit;
            bool overlaps = is_behind && shard->part_begin < next_part;
            plan_unit_name(plan->unit_count, shard->unit > next_unit ? next_unit : shard->unit, name);
            return error_set(err, ERROR_FAILED, overlaps
                                 ? "unit '%s' of plan '%s' is placed twice"
                                 : "unit '%s' of plan '%s' is not placed, or not all of it", name, plan->name);
        }
        if (is_new)
            next_unit++;
        next_part = shard->part_end;
    }
    if (next_unit < plan->unit_count) {
        plan_unit_name(plan->unit_count, next_unit, name);
        return error_set(err, ERROR_FAILED, "unit '%s' of plan '%s' is not placed, or not all of it", name,
                         plan->name);
    }
    return true;
}
