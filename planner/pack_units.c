#include "planner/pack_units.h"

#include "common/artifact.h"
#include "common/progress_bar.h"
#include "common/weight_choice.h"
#include "planner/store_list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pack_progress {
    const struct command *command;
    struct progress_bar bar;
    uint64_t done, total;          /* bytes of the units packed before, of all */
};

static bool show_packed(void *context, uint64_t bytes) {
    struct pack_progress *progress = context;
    progress_bar_show(&progress->bar, progress->done + bytes, progress->total);
    return !*progress->command->interrupted;
}

/* In a layout or a type that the model's own files do not have. */
static bool is_packed(const struct shard *shard, enum weight_layout *layout) {
    bool is_converted;
    enum tensor_type type;
    return shard_format_read(shard->format, &is_converted, &type, layout) &&
           (is_converted || *layout != LAYOUT_ROWS);
}

/* The file at `path` as a row; false: it is missing or damaged. */
static bool examine(const char *path, const struct artifact_key *key, bool verify, struct artifact_record *record) {
    struct artifact artifact;
    if (!artifact_open(&artifact, path, key, NULL))
        return false;
    bool ok = !verify || artifact_verify(&artifact, path, NULL);
    if (ok) {
        *record = (struct artifact_record){ .part_begin = key->part_begin, .part_end = key->part_end,
                                            .version = ARTIFACT_VERSION, .size_bytes = artifact.map.size };
        memcpy(record->source_hash, key->weights_hash, sizeof record->source_hash);
        memcpy(record->unit, key->unit, sizeof record->unit);
        memcpy(record->format, key->format, sizeof record->format);
        memcpy(record->checksum, artifact.checksum, sizeof record->checksum);
        snprintf(record->layout, sizeof record->layout, "%s", weight_layout_name(key->layout));
        ok = snprintf(record->path, sizeof record->path, "%s", path) < (int)sizeof record->path;
    }
    artifact_release(&artifact);
    return ok;
}

static bool pack_shard(struct pack_progress *progress, const struct model *model, struct plan_store *store,
                       struct shard *shard, struct artifact_key *key, struct error *err) {
    const bool verify = progress->command->options->verify;
    struct artifact_record record;
    unit_name(unit_at(model, shard->unit), key->unit);
    artifact_set_format(key, model, unit_at(model, shard->unit));
    key->part_begin = shard->part_begin;
    key->part_end = shard->part_end;
    char *path = artifact_path(key, err);
    if (!path)
        return false;
    bool is_new = !examine(path, key, verify, &record);
    bool ok = !is_new || (artifact_write(path, key, model, show_packed, progress, err) &&
                          (examine(path, key, false, &record) ||
                           error_set(err, ERROR_FAILED, "packed weights '%s' cannot be read back", path)));
    ok = ok && plan_store_save_artifact(store, &record, is_new || verify, err);
    if (ok)
        shard->artifact = record.id;
    free(path);
    return ok;
}

/* Before the first file is looked for: a gc that runs now comes to its end, a later one knows this store. */
static void note_store(const struct plan_store *store) {
    struct error reason = { 0 };
    char *root = artifact_root(&reason);
    if (!root || !store_list_note(root, plan_store_path(store), &reason))
        command_say("%s; phiplan gc with another --db may remove these packed weights", reason.text);
    free(root);
}

bool pack_units(const struct command *command, const struct model *model, struct plan_store *store,
                struct plan *plan, struct error *err) {
    struct pack_progress progress = { .command = command, .bar = progress_bar_of("phiplan", "packing the weights") };
    struct artifact_key key = { 0 };
    struct error reason = { 0 };
    bool ok = true;
    memcpy(key.weights_hash, plan->weights_hash, sizeof key.weights_hash);
    for (uint32_t i = 0; i < plan->shard_count; i++)
        if (is_packed(&plan->shards[i], &key.layout))
            progress.total += plan->shards[i].weight_bytes;
    if (progress.total)
        note_store(store);
    for (uint32_t i = 0; ok && i < plan->shard_count; i++) {
        struct shard *shard = &plan->shards[i];
        if (!is_packed(shard, &key.layout))
            continue;
        ok = pack_shard(&progress, model, store, shard, &key, &reason);
        progress.done += shard->weight_bytes;
    }
    progress_bar_clear(&progress.bar);
    if (*command->interrupted)
        return error_set(err, ERROR_INTERRUPTED, "interrupted while packing weights; no plan was changed");
    if (!ok)
        command_say("%s; phirun will pack the rest in memory at every start, which takes time", reason.text);
    return true;
}
