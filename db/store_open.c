/* store_open: where the store lies, opening and closing it. */
#include "common/user_folder.h"
#include "db/plan_store.h"
#include "db/statement.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUSY_TIMEOUT_MS 5000

/* The caller owns it; NULL where memory ran out. */
static char *take_path(struct text *path, struct error *err) {
    char *result = text_take(path);
    if (!result)
        error_set(err, ERROR_FAILED, "cannot name the plan database: out of memory");
    text_release(path);
    return result;
}

char *plan_store_home_path(struct error *err) {
    struct text path;
    text_init(&path);
    if (user_folder_append(&path, USER_DATA, "plans.db"))
        return take_path(&path, err);
    error_set(err, ERROR_FAILED, "neither 'PHI_STORE', 'XDG_DATA_HOME' nor 'HOME' is set; say with --db "
              "FILE where the plan database is");
    return NULL;
}

char *plan_store_default_path(struct error *err) {
    const char *file = getenv("PHI_STORE");
    struct text path;
    if (!file || !*file)
        return plan_store_home_path(err);
    text_init(&path);
    text_append(&path, file);
    return take_path(&path, err);
}

static bool make_folders(const char *path, struct error *err) {
    struct error reason = { 0 };
    return user_folder_make(path, "the plan database", &reason) ||
           error_set(err, ERROR_FAILED, "%s; give another file with --db", reason.text);
}

/* SQLite in WAL mode needs to write beside the file even to read it. */
static bool can_be_written(const char *path) {
    char *folder = strdup(path);
    if (!folder)
        return false;
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[slash == folder] = '\0';
    bool can = access(path, W_OK) == 0 && access(slash ? folder : ".", W_OK) == 0;
    free(folder);
    return can;
}

/* file: URI with the characters that mean something there escaped. */
static char *immutable_uri(const char *path) {
    struct text uri;
    text_init(&uri);
    text_append(&uri, "file:");
    for (const char *c = path; *c; c++)
        if (strchr("?#%", *c))
            text_append_format(&uri, "%%%02x", (unsigned char)*c);
        else
            text_append_char(&uri, *c);
    text_append(&uri, "?immutable=1");
    return text_take(&uri);
}

static int count_ticks(void *store) {
    return ++((struct plan_store *)store)->ticks > STORE_TICK_LIMIT;
}

/* Everything that a connection needs, whatever the file; reads the first page. */
static bool configure(struct plan_store *store, struct error *err) {
    sqlite3_busy_timeout(store->db, BUSY_TIMEOUT_MS);
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_limit(store->db, SQLITE_LIMIT_LENGTH, 1 << 28);
    sqlite3_progress_handler(store->db, STORE_TICK, count_ticks, store);
    return store_execute(store, "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; "
                         "PRAGMA foreign_keys = ON; PRAGMA synchronous = NORMAL; "
                         "SELECT count(*) FROM sqlite_master", "open the store", err);
}

static bool connect_to(struct plan_store *store, const char *name, int flags, struct error *err) {
    sqlite3_close(store->db);
    store->db = NULL;
    if (sqlite3_open_v2(name, &store->db, flags, NULL) == SQLITE_OK)
        return configure(store, err);
    if (!store->db)
        return error_set(err, ERROR_FAILED, "cannot open plan database '%s': out of memory", store->path);
    return store_failed(store, err, "open the store");
}

static bool connect_read_only(struct plan_store *store, enum store_mode mode, struct error *err) {
    store->read_only = true;
    /* A log that is still there holds plans that an immutable view would miss; with its
     * index beside it SQLite can read both. */
    char *log = NULL;
    struct stat status;
    if (asprintf(&log, "%s-wal", store->path) < 0)
        return error_set(err, ERROR_FAILED, "cannot open plan database '%s': out of memory", store->path);
    bool has_log = stat(log, &status) == 0 && status.st_size > 0;
    free(log);
    if (has_log) {
        bool must_see = mode == STORE_TO_READ;
        if (connect_to(store, store->path, SQLITE_OPEN_READONLY, must_see ? err : NULL))
            return true;
        if (must_see)
            return false;
    }
    char *uri = immutable_uri(store->path);
    if (!uri)
        return error_set(err, ERROR_FAILED, "cannot open plan database '%s': out of memory", store->path);
    bool ok = connect_to(store, uri, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, err);
    free(uri);
    return ok;
}

struct plan_store *plan_store_open(const char *path, enum store_mode mode, struct error *err) {
    struct stat status;
    if (mode != STORE_CREATE && stat(path, &status) != 0 && (errno == ENOENT || errno == ENOTDIR)) {
        error_set(err, ERROR_NO_PLAN, "there is no plan database '%s'; run phiplan first", path);
        return NULL;
    }
    if (mode == STORE_CREATE && !make_folders(path, err))
        return NULL;
    struct plan_store *store = calloc(1, sizeof *store);
    if (!store || !(store->path = strdup(path))) {
        free(store);
        error_set(err, ERROR_FAILED, "cannot open plan database '%s': out of memory", path);
        return NULL;
    }
    pthread_mutex_init(&store->lock, NULL);
    bool is_there = access(path, F_OK) == 0, ok;
    if (mode == STORE_TO_READ || (is_there && !can_be_written(path)))
        ok = connect_read_only(store, mode, err);
    else
        ok = connect_to(store, path, SQLITE_OPEN_READWRITE | (mode == STORE_CREATE ? SQLITE_OPEN_CREATE : 0), err);
    enum store_change change = mode == STORE_CREATE && !store->read_only ? STORE_MAY_CHANGE : STORE_MUST_FIT;
    if (!ok || !store_schema_prepare(store, change, store_migrations, STORE_VERSION, err)) {
        plan_store_close(store);
        return NULL;
    }
    return store;
}

void plan_store_close(struct plan_store *store) {
    if (!store)
        return;
    sqlite3_close(store->db);
    pthread_mutex_destroy(&store->lock);
    free(store->path);
    free(store);
}

bool plan_store_is_read_only(const struct plan_store *store) {
    return store->read_only;
}

const char *plan_store_path(const struct plan_store *store) {
    return store->path;
}
