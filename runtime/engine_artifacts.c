/* engine_artifacts: the packed weights that a plan names. */
#include "runtime/engine_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void note_unpacked(struct engine *engine, const char *reason) {
    if (engine->unpacked.count++ == 0)
        snprintf(engine->unpacked.reason, sizeof engine->unpacked.reason, "%s", reason);
}

/* The file of exactly these parts, or of the whole unit, as where a plan was sliced by hand. */
static bool open_for_parts(struct engine *engine, struct engine_device *device, const struct shard *shard,
                           const char *path, struct error *reason) {
    const struct unit unit = unit_at(engine->model, shard->unit);
    const struct part_range parts = device->parts[shard->unit];
    struct artifact_key key = { .part_begin = parts.begin, .part_end = parts.end,
                                .layout = device->layouts[shard->unit] };
    artifact_set_format(&key, engine->model, unit);
    memcpy(key.weights_hash, engine->plan->weights_hash, sizeof key.weights_hash);
    unit_name(unit, key.unit);
    struct artifact *artifact = &device->opened[shard->unit];
    if (artifact_open(artifact, path, &key, reason))
        return true;
    key.part_begin = 0;
    key.part_end = unit_part_count(engine->model, unit);
    return artifact_open(artifact, path, &key, NULL);
}

static bool make_tables(struct engine *engine, struct error *err) {
    for (uint32_t i = 0; i < engine->device_count; i++) {
        struct engine_device *device = &engine->devices[i];
        device->opened = calloc(engine->plan->unit_count, sizeof *device->opened);
        device->artifacts = calloc(engine->plan->unit_count, sizeof *device->artifacts);
        if (!device->opened || !device->artifacts)
            return error_set(err, ERROR_FAILED, "cannot list the packed weights: out of memory");
    }
    return true;
}

bool engine_open_artifacts(struct engine *engine, const char *const *paths, struct error *err) {
    const struct plan *plan = engine->plan;
    if (!make_tables(engine, err))
        return false;
    for (uint32_t i = 0; paths && i < plan->shard_count; i++) {
        const struct shard *shard = &plan->shards[i];
        if (shard->artifact == 0 || shard->device == PLAN_HOST)
            continue;
        struct engine_device *device = engine->devices;
        while (device->planned != &plan->devices[shard->device])
            device++;
        if (device->artifacts[shard->unit])
            continue;   /* that of the slice before it has this one's rows too */
        struct error reason = { 0 };
        if (!paths[i])
            note_unpacked(engine, "the store does not know the file");
        else if (open_for_parts(engine, device, shard, paths[i], &reason))
            device->artifacts[shard->unit] = &device->opened[shard->unit];
        else
            note_unpacked(engine, reason.text);
    }
    return true;
}

void engine_release_artifacts(struct engine *engine) {
    for (uint32_t i = 0; i < engine->device_count; i++) {
        struct engine_device *device = &engine->devices[i];
        for (uint32_t unit = 0; device->opened && unit < engine->plan->unit_count; unit++)
            artifact_release(&device->opened[unit]);
        free(device->opened);
        free(device->artifacts);
    }
}
