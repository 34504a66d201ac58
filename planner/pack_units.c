#include "planner/pack_units.h"

#include "common/artifact.h"
#include "common/progress_bar.h"
#include "common/temporary_file.h"
#include "common/weight_choice.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* ---- gc ---- */

/* The files themselves: a folder has many names ("/cache", "/cache/", a link to it). */
struct kept_file { dev_t device; ino_t inode; };
struct kept { struct kept_file *files; size_t count, capacity; };

static bool keep_path(void *context, const char *path) {
    struct kept *kept = context;
    struct stat status;
    if (stat(path, &status) != 0)
        return true;   /* deleted by hand: nothing to keep */
    if (kept->count == kept->capacity) {
        size_t capacity = kept->capacity ? 2 * kept->capacity : 256;
        struct kept_file *grown = realloc(kept->files, capacity * sizeof *grown);
        if (!grown)
            return false;
        kept->files = grown;
        kept->capacity = capacity;
    }
    kept->files[kept->count++] = (struct kept_file){ status.st_dev, status.st_ino };
    return true;
}

static int by_identity(const void *left, const void *right) {
    const struct kept_file *a = left, *b = right;
    return a->device != b->device ? (a->device < b->device ? -1 : 1) : (a->inode > b->inode) - (a->inode < b->inode);
}

static bool is_hash(const char *name) {
    return strlen(name) == 64 && strspn(name, "0123456789abcdef") == 64;
}

struct swept { uint64_t bytes; uint32_t files; };

/* Remove what is not kept from the folder of one model, then the folder if it is empty. */
static void sweep_folder(const char *folder, const struct kept *kept, struct swept *swept) {
    DIR *stream = opendir(folder);
    if (!stream)
        return;
    for (struct dirent *entry; (entry = readdir(stream));) {
        struct stat status;
        if (fstatat(dirfd(stream), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(status.st_mode))
            continue;
        const struct kept_file file = { status.st_dev, status.st_ino };
        if (kept->count && bsearch(&file, kept->files, kept->count, sizeof *kept->files, by_identity))
            continue;
        /* Another phiplan may be packing. */
        if (temporary_file_remove_unwritten(dirfd(stream), entry->d_name, REMOVE_UNLOCKABLE)) {
            swept->bytes += (uint64_t)status.st_size;
            swept->files++;
        }
    }
    closedir(stream);
    rmdir(folder);
}

static void sweep(const char *root, const struct kept *kept, struct swept *swept) {
    DIR *stream = opendir(root);
    if (!stream)
        return;
    for (struct dirent *entry; (entry = readdir(stream));) {
        char folder[4096];
        if (is_hash(entry->d_name) &&
            snprintf(folder, sizeof folder, "%s/%s", root, entry->d_name) < (int)sizeof folder)
            sweep_folder(folder, kept, swept);
    }
    closedir(stream);
}

bool plan_command_collect(const struct command *command, struct error *err) {
    struct collected collected;
    struct kept kept = { 0 };
    struct swept swept = { 0 };
    char *root = artifact_root(err);
    struct plan_store *store = root ? command_open_store(command, STORE_EXISTING, err) : NULL;
    bool ok = store && plan_store_collect(store, &collected, keep_path, &kept, err);
    if (ok) {
        if (kept.count)
            qsort(kept.files, kept.count, sizeof *kept.files, by_identity);
        sweep(root, &kept, &swept);
        command_say("removed %u superseded plan%s and %u file%s of packed weights (%.1f MB)", collected.plans,
                    collected.plans == 1 ? "" : "s", swept.files, swept.files == 1 ? "" : "s",
                    1e-6 * (double)swept.bytes);
    }
    free(kept.files);
    plan_store_close(store);
    free(root);
    return ok;
}
