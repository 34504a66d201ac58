#include "db/statement.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

bool store_failed(struct plan_store *store, struct error *err, const char *what) {
    int code = sqlite3_errcode(store->db);
    const char *path = store->path;
    switch (code & 0xff) {
    case SQLITE_NOTADB:
        return error_set(err, ERROR_FAILED, "cannot %s: '%s' is not a plan database; move it away or "
                         "give another file with --db", what, path);
    case SQLITE_CORRUPT:
        return error_set(err, ERROR_FAILED, "cannot %s: plan database '%s' is damaged (%s); move it away "
                         "or restore a copy, then run phiplan", what, path, sqlite3_errmsg(store->db));
    case SQLITE_BUSY: case SQLITE_LOCKED:
        return error_set(err, ERROR_FAILED, "cannot %s: another process keeps plan database '%s' busy; "
                         "try again", what, path);
    case SQLITE_READONLY:
        return error_set(err, ERROR_FAILED, "cannot %s: plan database '%s' cannot be written; give another "
                         "file with --db", what, path);
    case SQLITE_INTERRUPT:
        return error_set(err, ERROR_FAILED, "cannot %s: plan database '%s' does not come to an end; move it away "
                         "or restore a copy, then run phiplan", what, path);
    case SQLITE_FULL:
        return error_set(err, ERROR_FAILED, "cannot %s: no room left for plan database '%s'", what, path);
    case SQLITE_IOERR: case SQLITE_CANTOPEN: {
        int reason = sqlite3_system_errno(store->db);
        return error_set(err, ERROR_FAILED, "cannot %s: plan database '%s': %s%s%s", what, path,
                         sqlite3_errmsg(store->db), reason ? ": " : "", reason ? strerror(reason) : "");
    }
    default:
        return error_set(err, ERROR_FAILED, "cannot %s: plan database '%s': %s", what, path,
                         sqlite3_errmsg(store->db));
    }
}

bool store_execute(struct plan_store *store, const char *sql, const char *what, struct error *err) {
    store->ticks = 0;
    return sqlite3_exec(store->db, sql, NULL, NULL, NULL) == SQLITE_OK || store_failed(store, err, what);
}

bool store_begin_write(struct plan_store *store, const char *what, struct error *err) {
    if (store->read_only)
        return error_set(err, ERROR_FAILED, "cannot %s: plan database '%s' cannot be written; give another "
                         "file with --db", what, store->path);
    return store_execute(store, "BEGIN IMMEDIATE", what, err);
}

bool store_end(struct plan_store *store, bool ok, const char *what, struct error *err) {
    if (ok && store_execute(store, "COMMIT", what, err))
        return true;
    /* Some failures (a full disk) have rolled back already. */
    if (!sqlite3_get_autocommit(store->db))
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    return false;
}

void store_now(char text[32]) {
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

bool statement_open(struct statement *statement, struct plan_store *store, const char *what,
                    const char *sql, struct error *err) {
    *statement = (struct statement){ .store = store, .what = what, .next = 1 };
    store->ticks = 0;
    return sqlite3_prepare_v2(store->db, sql, -1, &statement->handle, NULL) == SQLITE_OK ||
           store_failed(store, err, what);
}

void statement_close(struct statement *statement) {
    sqlite3_finalize(statement->handle);
    *statement = (struct statement){ 0 };
}

static void mark_bad(struct statement *statement, const char *name) {
    if (!statement->bad[0])
        snprintf(statement->bad, sizeof statement->bad, "%s", name ? name : "?");
}

static void check_put(struct statement *statement, int code) {
    if (code != SQLITE_OK) {
        char name[32];
        snprintf(name, sizeof name, "parameter %d", statement->next);
        mark_bad(statement, name);
    }
    statement->next++;
}

void put_text(struct statement *statement, const char *text) {
    check_put(statement, sqlite3_bind_text(statement->handle, statement->next, text, -1, SQLITE_TRANSIENT));
}

void put_i64(struct statement *statement, int64_t value) {
    check_put(statement, sqlite3_bind_int64(statement->handle, statement->next, value));
}

void put_u64(struct statement *statement, uint64_t value) {
    check_put(statement, value > INT64_MAX ? SQLITE_RANGE
              : sqlite3_bind_int64(statement->handle, statement->next, (int64_t)value));
}

void put_double(struct statement *statement, double value) {
    check_put(statement, isfinite(value) ? sqlite3_bind_double(statement->handle, statement->next, value)
                                         : sqlite3_bind_null(statement->handle, statement->next));
}

void put_null(struct statement *statement) {
    check_put(statement, sqlite3_bind_null(statement->handle, statement->next));
}

void put_blob(struct statement *statement, const void *bytes, size_t size) {
    check_put(statement, sqlite3_bind_blob64(statement->handle, statement->next, bytes, size, SQLITE_STATIC));
}

bool statement_sound(struct statement *statement, struct error *err) {
    return !statement->bad[0] ||
           error_set(err, ERROR_FAILED, "cannot %s: plan database '%s': the value of '%s' is out of range",
                     statement->what, statement->store->path, statement->bad);
}

bool statement_row(struct statement *statement, bool *failed, struct error *err) {
    *failed = !statement_sound(statement, err);
    if (*failed)
        return false;
    int code = sqlite3_step(statement->handle);
    statement->next = 0;
    *failed = code != SQLITE_ROW && code != SQLITE_DONE && !store_failed(statement->store, err, statement->what);
    return code == SQLITE_ROW;
}

bool statement_run(struct statement *statement, struct error *err) {
    bool failed;
    statement->store->ticks = 0;
    while (statement_row(statement, &failed, err))
        continue;
    sqlite3_reset(statement->handle);
    sqlite3_clear_bindings(statement->handle);
    statement->next = 1;
    return !failed;
}

/* The next column where it is of `type`; otherwise remembered as bad and -1. */
static int next_column(struct statement *statement, int type) {
    int column = statement->next++;
    if (sqlite3_column_type(statement->handle, column) == type)
        return column;
    mark_bad(statement, sqlite3_column_name(statement->handle, column));
    return -1;
}

void take_text(struct statement *statement, char *text, size_t size) {
    int column = next_column(statement, SQLITE_TEXT);
    text[0] = '\0';
    if (column < 0)
        return;
    const unsigned char *value = sqlite3_column_text(statement->handle, column);
    size_t length = value ? (size_t)sqlite3_column_bytes(statement->handle, column) : size;
    if (length >= size || memchr(value, '\0', length)) {
        mark_bad(statement, sqlite3_column_name(statement->handle, column));
        return;
    }
    memcpy(text, value, length);
    text[length] = '\0';
}

/* An integer within [least, most]; `least`, remembered as bad, where it is not. */
static int64_t take_integer(struct statement *statement, int64_t least, int64_t most) {
    int column = next_column(statement, SQLITE_INTEGER);
    if (column < 0)
        return least;
    int64_t value = sqlite3_column_int64(statement->handle, column);
    if (value >= least && value <= most)
        return value;
    mark_bad(statement, sqlite3_column_name(statement->handle, column));
    return least;
}

int64_t take_i64(struct statement *statement) {
    int64_t value = take_integer(statement, INT64_MIN, INT64_MAX);
    return statement->bad[0] ? 0 : value;
}

uint64_t take_u64(struct statement *statement) {
    return (uint64_t)take_integer(statement, 0, INT64_MAX);
}

uint32_t take_u32(struct statement *statement) {
    return (uint32_t)take_integer(statement, 0, UINT32_MAX);
}

bool take_bool(struct statement *statement) {
    return take_integer(statement, 0, 1);
}

double take_double(struct statement *statement) {
    if (sqlite3_column_type(statement->handle, statement->next) == SQLITE_NULL) {
        statement->next++;
        return 0;
    }
    int column = next_column(statement, SQLITE_FLOAT);
    return column < 0 ? 0 : sqlite3_column_double(statement->handle, column);
}

const void *take_blob(struct statement *statement, size_t *size) {
    int column = next_column(statement, SQLITE_BLOB);
    const void *bytes = column < 0 ? NULL : sqlite3_column_blob(statement->handle, column);
    *size = bytes ? (size_t)sqlite3_column_bytes(statement->handle, column) : 0;
    return bytes;
}
