/* engine_artifacts: the packed weights that a plan names. */
#include "runtime/engine_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void note_unpacked(struct engine *engine, const char *reason) {
    if (engine->unpacked.count++ == 0)
        snprintf(engine->unpacked.reason, sizeof engine->unpacked.reason, "%s", reason);
}

bool engine_open_artifacts(struct engine *engine, const char *const *paths, struct error *err) {
    const struct plan *plan = engine->plan;
    engine->opened = calloc(plan->unit_count, sizeof *engine->opened);
    engine->artifacts = calloc(plan->unit_count, sizeof *engine->artifacts);
    if (!engine->opened || !engine->artifacts)
        return error_set(err, ERROR_FAILED, "cannot list the packed weights: out of memory");
    for (uint32_t i = 0; paths && i < plan->shard_count; i++) {
        const struct shard *shard = &plan->shards[i];
        if (shard->artifact == 0)
            continue;
        struct artifact_key key = { .part_begin = shard->part_begin, .part_end = shard->part_end,
                                    .layout = engine->layouts[shard->unit] };
        artifact_set_format(&key, engine->model, unit_at(engine->model, shard->unit));
        memcpy(key.weights_hash, plan->weights_hash, sizeof key.weights_hash);
        unit_name(unit_at(engine->model, shard->unit), key.unit);
        struct error reason = { 0 };
        if (!paths[i])
            note_unpacked(engine, "the store does not know the file");
        else if (artifact_open(&engine->opened[shard->unit], paths[i], &key, &reason))
            engine->artifacts[shard->unit] = &engine->opened[shard->unit];
        else
            note_unpacked(engine, reason.text);
    }
    return true;
}

void engine_release_artifacts(struct engine *engine) {
    for (uint32_t i = 0; engine->opened && i < engine->plan->unit_count; i++)
        artifact_release(&engine->opened[i]);
    free(engine->opened);
    free(engine->artifacts);
    free(engine->layouts);
}
