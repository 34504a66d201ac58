/* store_artifacts: what was packed, where it lies, and what nobody needs any more. */
#include "db/plan_store.h"
#include "db/statement.h"

#include <stdlib.h>
#include <string.h>

bool plan_store_save_artifact(struct plan_store *store, struct artifact_record *record, bool verified,
                              struct error *err) {
    static const char what[] = "record packed weights";
    struct statement save;
    char now[32];
    store_now(now);
    bool failed = true;
    if (!store_begin_write(store, what, err))
        return false;
    if (statement_open(&save, store, what,
                       "INSERT INTO artifact (kind, source_hash, unit, part_begin, part_end, format, layout, version, "
                       "path, offset_bytes, size_bytes, checksum, created, last_verified) "
                       "VALUES ('weights', ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, ?9, ?10, ?11, ?12) "
                       "ON CONFLICT (kind, source_hash, unit, part_begin, part_end, format, layout, version) "
                       "DO UPDATE SET path = ?8, size_bytes = ?9, checksum = ?10, "
                       "last_verified = coalesce(?12, last_verified) RETURNING id", err)) {
        put_text(&save, record->source_hash);
        put_text(&save, record->unit);
        put_u64(&save, record->part_begin);
        put_u64(&save, record->part_end);
        put_text(&save, record->format);
        put_text(&save, record->layout);
        put_u64(&save, record->version);
        put_text(&save, record->path);
        put_u64(&save, record->size_bytes);
        put_text(&save, record->checksum);
        put_text(&save, now);
        put_text(&save, verified ? now : NULL);
        if (statement_row(&save, &failed, err))
            record->id = take_i64(&save);
    }
    statement_close(&save);
    return store_end(store, !failed, what, err);
}

static void free_paths(char **paths, uint32_t count) {
    for (uint32_t i = 0; paths && i < count; i++)
        free(paths[i]);
    free(paths);
}

bool plan_store_artifact_paths(struct plan_store *store, const struct plan *plan, char ***paths,
                               struct error *err) {
    static const char what[] = "find packed weights";
    struct statement find;
    *paths = calloc((size_t)plan->shard_count + 1, sizeof **paths);
    if (!*paths)
        return error_set(err, ERROR_FAILED, "cannot %s: out of memory", what);
    bool ok = statement_open(&find, store, what, "SELECT path FROM artifact WHERE id = ?", err);
    for (uint32_t i = 0; ok && i < plan->shard_count; i++) {
        char path[4096];
        bool failed = true;
        if (!plan->shards[i].artifact)
            continue;
        put_i64(&find, plan->shards[i].artifact);
        if (statement_row(&find, &failed, err)) {
            take_text(&find, path, sizeof path);
            ok = statement_sound(&find, err);
            (*paths)[i] = ok ? strdup(path) : NULL;
            ok = ok && ((*paths)[i] || error_set(err, ERROR_FAILED, "cannot %s: out of memory", what));
            failed = false;
        }
        ok = ok && !failed;
        if (ok)
            ok = statement_run(&find, err);   /* to its end: ready for the next */
    }
    statement_close(&find);
    if (!ok) {
        free_paths(*paths, plan->shard_count);
        *paths = NULL;
    }
    return ok;
}

bool plan_store_keep_artifacts(struct plan_store *store, artifact_keep *keep, void *context, struct error *err) {
    static const char what[] = "list packed weights in use";
    struct statement list;
    bool failed = true;
    if (statement_open(&list, store, what, "SELECT path FROM artifact WHERE id IN (SELECT artifact FROM shard)", err)) {
        char path[4096];
        while (statement_row(&list, &failed, err)) {
            take_text(&list, path, sizeof path);
            failed = !statement_sound(&list, err) ||
                     (!keep(context, path) && !error_set(err, ERROR_FAILED, "cannot %s: out of memory", what));
            if (failed)
                break;
        }
    }
    statement_close(&list);
    return !failed;
}

bool plan_store_collect(struct plan_store *store, struct collected *collected, artifact_keep *keep, void *context,
                        struct error *err) {
    static const char what[] = "remove what no plan needs";
    *collected = (struct collected){ 0 };
    if (!store_begin_write(store, what, err))
        return false;
    bool ok = store_execute(store, "DELETE FROM plan WHERE superseded_at IS NOT NULL", what, err);
    collected->plans = ok ? (uint32_t)sqlite3_changes(store->db) : 0;
    ok = ok && store_execute(store, "DELETE FROM artifact WHERE id NOT IN (SELECT artifact FROM shard "
                             "WHERE artifact IS NOT NULL)", what, err);
    collected->artifacts = ok ? (uint32_t)sqlite3_changes(store->db) : 0;
    ok = ok && plan_store_keep_artifacts(store, keep, context, err);
    return store_end(store, ok, what, err);
}
