/* store_models: models, their files and tensors, and the digests of files. */
#include "db/plan_store.h"
#include "db/statement.h"

#include <string.h>
#include <sys/stat.h>

static int64_t nanoseconds(const struct timespec *time) {
    return (int64_t)((uint64_t)time->tv_sec * 1000000000u + (uint64_t)time->tv_nsec);
}

/* The columns device .. ctime_ns of model_path; 64-bit numbers keep their bits. */
static void put_stat(struct statement *statement, const struct stat *status) {
    put_i64(statement, (int64_t)status->st_dev);
    put_i64(statement, (int64_t)status->st_ino);
    put_i64(statement, (int64_t)status->st_size);
    put_i64(statement, nanoseconds(&status->st_mtim));
    put_i64(statement, nanoseconds(&status->st_ctim));
}

static bool find_digest(void *context, const char *path, char hex[65]) {
    struct plan_store *store = context;
    struct stat status;
    struct statement find;
    bool failed = true, found = false;
    if (stat(path, &status) != 0)
        return false;
    if (statement_open(&find, store, "look a digest up",
                       "SELECT sha256 FROM model_path WHERE path = ? AND device = ? AND inode = ? "
                       "AND size_bytes = ? AND mtime_ns = ? AND ctime_ns = ? AND sha256 IS NOT NULL", NULL)) {
        put_text(&find, path);
        put_stat(&find, &status);
        if (statement_row(&find, &failed, NULL)) {
            take_text(&find, hex, 65);
            found = strlen(hex) == 64 && strspn(hex, "0123456789abcdef") == 64;
        }
    }
    statement_close(&find);
    return found;
}

/* A digest that cannot be kept is computed again next time: no failure. */
static void store_digest(void *context, const char *path, const struct stat *status, const char *hex) {
    struct plan_store *store = context;
    struct statement save;
    if (store->read_only)
        return;
    if (statement_open(&save, store, "keep a digest",
                       "INSERT INTO model_path (path, device, inode, size_bytes, mtime_ns, ctime_ns, sha256) "
                       "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET "
                       "device = excluded.device, inode = excluded.inode, size_bytes = excluded.size_bytes, "
                       "mtime_ns = excluded.mtime_ns, ctime_ns = excluded.ctime_ns, "
                       "sha256 = excluded.sha256", NULL)) {
        put_text(&save, path);
        put_stat(&save, status);
        put_text(&save, hex);
        statement_run(&save, NULL);
    }
    statement_close(&save);
}

struct hash_cache plan_store_hash_cache(struct plan_store *store) {
    return (struct hash_cache){ .context = store, .find = find_digest, .store = store_digest };
}

static bool save_row(struct plan_store *store, const struct model *model, const struct model_hashes *hashes,
                     int64_t *row, const char *what, struct error *err) {
    struct statement save;
    char now[32];
    store_now(now);
    bool failed = true;
    if (statement_open(&save, store, what,
                       "INSERT INTO model (weights_hash, text_hash, name, architecture, path, weight_bytes, "
                       "hidden_size, intermediate_size, block_count, head_count, kv_head_count, head_dim, "
                       "vocab_size, max_context, sliding_window, tied_head, created, updated) "
                       "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?17) "
                       "ON CONFLICT (weights_hash) DO UPDATE SET text_hash = ?2, name = ?3, architecture = ?4, "
                       "path = ?5, weight_bytes = ?6, hidden_size = ?7, intermediate_size = ?8, "
                       "block_count = ?9, head_count = ?10, kv_head_count = ?11, head_dim = ?12, "
                       "vocab_size = ?13, max_context = ?14, sliding_window = ?15, tied_head = ?16, "
                       "updated = ?17 RETURNING id", err)) {
        put_text(&save, hashes->weights);
        put_text(&save, hashes->text);
        put_text(&save, model->name ? model->name : "");
        put_text(&save, model->architecture ? model->architecture : "");
        put_text(&save, model->source.path ? model->source.path : "");
        put_u64(&save, model_weight_bytes(model));
        const uint32_t numbers[] = { model->hidden_size, model->intermediate_size, model->block_count,
                                     model->head_count, model->kv_head_count, model->head_dim,
                                     model->vocab_size, model->max_context, model->sliding_window,
                                     model->tied_head };
        for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
            put_u64(&save, numbers[i]);
        put_text(&save, now);
        if (statement_row(&save, &failed, err))
            *row = take_i64(&save);
    }
    statement_close(&save);
    return !failed;
}

static bool save_paths(struct plan_store *store, const struct model *model, int64_t row, const char *what,
                       struct error *err) {
    struct statement save;
    bool ok = statement_open(&save, store, what,
        "INSERT INTO model_path (path, device, inode, size_bytes, mtime_ns, ctime_ns, model) "
        "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET model = excluded.model, "
        /* A digest of what the file was before is worth nothing. */
        "sha256 = CASE WHEN device = excluded.device AND inode = excluded.inode "
        "AND size_bytes = excluded.size_bytes AND mtime_ns = excluded.mtime_ns "
        "AND ctime_ns = excluded.ctime_ns THEN sha256 END, "
        "device = excluded.device, inode = excluded.inode, size_bytes = excluded.size_bytes, "
        "mtime_ns = excluded.mtime_ns, ctime_ns = excluded.ctime_ns", err);
    for (uint32_t i = 0; ok && i < model->file_count; i++) {
        struct stat status;
        if (stat(model->files[i].path, &status) != 0)
            continue;
        put_text(&save, model->files[i].path);
        put_stat(&save, &status);
        put_i64(&save, row);
        ok = statement_run(&save, err);
    }
    statement_close(&save);
    return ok;
}

static bool save_tensors(struct plan_store *store, const struct model *model, int64_t row, const char *what,
                         struct error *err) {
    struct statement save;
    bool ok = statement_open(&save, store, what, "DELETE FROM tensor WHERE model = ?", err);
    if (ok) {
        put_i64(&save, row);
        ok = statement_run(&save, err);
    }
    statement_close(&save);
    ok = ok && statement_open(&save, store, what,
                              "INSERT INTO tensor (model, name, type, row_count, column_count, file, "
                              "offset_bytes, size_bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", err);
    for (uint32_t i = 0; ok && i < model->tensor_count; i++) {
        const struct model_tensor *tensor = &model->tensors[i];
        const struct tensor_type_info *info = tensor_type_info(tensor->type);
        put_i64(&save, row);
        put_text(&save, tensor->name);
        put_text(&save, info ? info->name : "?");
        put_u64(&save, tensor->rows);
        put_u64(&save, tensor->columns);
        put_text(&save, tensor->file < model->file_count ? model->files[tensor->file].name : "");
        put_u64(&save, tensor->offset);
        put_u64(&save, tensor->size_bytes);
        ok = statement_run(&save, err);
    }
    statement_close(&save);
    return ok;
}

bool plan_store_save_model(struct plan_store *store, const struct model *model,
                           const struct model_hashes *hashes, int64_t *model_row, struct error *err) {
    static const char what[] = "record the model";
    if (strlen(hashes->weights) != 64)
        return error_set(err, ERROR_FAILED, "cannot %s: its weights have not been hashed", what);
    if (!store_begin_write(store, what, err))
        return false;
    bool ok = save_row(store, model, hashes, model_row, what, err) &&
              save_paths(store, model, *model_row, what, err) &&
              save_tensors(store, model, *model_row, what, err);
    return store_end(store, ok, what, err);
}

bool plan_store_stored_bytes(struct plan_store *store, const char *weights_hash, uint64_t bytes[TENSOR_TYPE_COUNT],
                             struct error *err) {
    struct statement read;
    bool failed = true;
    memset(bytes, 0, TENSOR_TYPE_COUNT * sizeof *bytes);
    if (statement_open(&read, store, "read the weights of a model",
                       "SELECT t.type, sum(t.size_bytes) FROM tensor t JOIN model m ON m.id = t.model "
                       "WHERE m.weights_hash = ? GROUP BY t.type", err)) {
        put_text(&read, weights_hash);
        while (statement_row(&read, &failed, err)) {
            char name[16];
            enum tensor_type type;
            take_text(&read, name, sizeof name);
            const uint64_t size = take_u64(&read);
            failed = !statement_sound(&read, err);
            if (failed)
                break;
            if (tensor_type_from_name(name, &type))
                bytes[type] = size;
        }
    }
    statement_close(&read);
    return !failed;
}
