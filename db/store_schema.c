/* store_schema: the version of a store, and how it gets to ours.
 *
 *   no tables, version 0       made from schema.sql and views.sql
 *   our id, older version      steps, one version each, then views.sql anew; one transaction; where only
 *                              views differ, who may not change it reads it as it is
 *   our id, our version        nothing to do
 *   newer, or another id       refused; nothing is written
 */
#include "common/embedded.h"
#include "common/text.h"
#include "db/statement.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Version 1 is the first. */
const struct store_migration store_migrations[] = {
    { 1, "" },   /* plan_overview tells what is streamed */
    { 0, NULL },
};

static bool read_number(struct plan_store *store, const char *sql, int64_t *value, struct error *err) {
    struct statement statement;
    bool failed = true;
    if (statement_open(&statement, store, "open the store", sql, err) &&
        statement_row(&statement, &failed, err))
        *value = take_i64(&statement);
    statement_close(&statement);
    return !failed;
}

struct store_state {
    int64_t application, version, objects;
};

static bool read_state(struct plan_store *store, struct store_state *state, struct error *err) {
    *state = (struct store_state){ 0 };
    return read_number(store, "PRAGMA application_id", &state->application, err) &&
           read_number(store, "PRAGMA user_version", &state->version, err) &&
           read_number(store, "SELECT count(*) FROM sqlite_master", &state->objects, err);
}

static bool is_empty(const struct store_state *state) {
    return state->version == 0 && state->application == 0 && state->objects == 0;
}

static bool check_state(const struct plan_store *store, const struct store_state *state, int version,
                        struct error *err) {
    if (is_empty(state))
        return true;
    if (state->application != STORE_APPLICATION_ID)
        return error_set(err, ERROR_FAILED, "'%s' is a database of another program; give another file "
                         "with --db", store->path);
    if (state->version > version)
        return error_set(err, ERROR_FAILED, "plan database '%s' was made by a newer phiplan (its version is "
                         "%lld, this program knows %d); update the programs or give another file with --db",
                         store->path, (long long)state->version, version);
    if (state->version < 1)
        return error_set(err, ERROR_FAILED, "plan database '%s' is damaged (its version is %lld); move it "
                         "away or restore a copy, then run phiplan", store->path, (long long)state->version);
    return true;
}

static bool execute_embedded(struct plan_store *store, const char *name, struct error *err) {
    struct text sql;
    text_init(&sql);
    for (const struct embedded_file *file = embedded_schema; file->name; file++)
        if (strcmp(file->name, name) == 0)
            for (size_t i = 0; i < file->line_count; i++)
                text_append(&sql, file->lines[i]);
    bool ok = !sql.failed || error_set(err, ERROR_FAILED, "cannot open the store: out of memory");
    ok = ok && (sql.length || error_set(err, ERROR_FAILED, "'%s' is missing in this program", name));
    ok = ok && store_execute(store, sql.bytes, "make the tables", err);
    text_release(&sql);
    return ok;
}

static bool drop_views(struct plan_store *store, struct error *err) {
    struct statement list;
    struct text sql;
    text_init(&sql);
    bool failed = true;
    /* Names are quoted by SQLite itself. */
    if (statement_open(&list, store, "update the tables",
                       "SELECT printf('DROP %s IF EXISTS \"%w\";', type, name) FROM sqlite_master "
                       "WHERE type IN ('view', 'trigger')", err)) {
        char line[512];
        while (statement_row(&list, &failed, err)) {
            take_text(&list, line, sizeof line);
            text_append(&sql, line);
        }
    }
    bool ok = !failed && (!sql.failed || error_set(err, ERROR_FAILED, "out of memory"));
    statement_close(&list);
    ok = ok && store_execute(store, sql.bytes, "update the tables", err);
    text_release(&sql);
    return ok;
}

static const struct store_migration *find_step(const struct store_migration *steps, int from) {
    while (steps->sql && steps->from != from)
        steps++;
    return steps->sql ? steps : NULL;
}

/* Whether the tables of that version are those of `version`: the programs read no views. */
static bool has_our_tables(int from, const struct store_migration *steps, int version) {
    for (; from < version; from++) {
        const struct store_migration *step = find_step(steps, from);
        if (!step || *step->sql)
            return false;
    }
    return true;
}

static bool migrate(struct plan_store *store, const struct store_state *state,
                    const struct store_migration *steps, int version, struct error *err) {
    if (is_empty(state)) {
        if (!execute_embedded(store, "db/schema.sql", err))
            return false;
    } else {
        if (!drop_views(store, err))
            return false;
        for (int from = (int)state->version; from < version; from++) {
            const struct store_migration *step = find_step(steps, from);
            if (!step)
                return error_set(err, ERROR_FAILED, "plan database '%s' has version %d, from which there is "
                                 "no way to version %d; move it away, then run phiplan", store->path, from,
                                 version);
            if (!store_execute(store, step->sql, "update the tables", err))
                return false;
        }
    }
    char stamp[96];
    snprintf(stamp, sizeof stamp, "PRAGMA application_id = %d; PRAGMA user_version = %d",
             STORE_APPLICATION_ID, version);
    return execute_embedded(store, "db/views.sql", err) && store_execute(store, stamp, "make the tables", err);
}

bool store_schema_prepare(struct plan_store *store, enum store_change change,
                          const struct store_migration *steps, int version, struct error *err) {
    struct store_state state;
    if (!read_state(store, &state, err) || !check_state(store, &state, version, err))
        return false;
    if (!is_empty(&state) && state.version == version)
        return true;
    if (change == STORE_MUST_FIT) {
        if (is_empty(&state))
            return error_set(err, ERROR_NO_PLAN, "plan database '%s' is empty; run phiplan", store->path);
        if (has_our_tables((int)state.version, steps, version))
            return true;
        return error_set(err, ERROR_STALE, "plan database '%s' has version %lld and this program needs %d; "
                         "run phiplan to bring it up to date", store->path, (long long)state.version, version);
    }
    /* WAL before the first table; it cannot change inside a transaction. Two programs
     * that make the same store meet here, and SQLite does not wait for this lock. */
    for (int attempt = 0; is_empty(&state) && attempt < 250; attempt++) {
        int code = sqlite3_exec(store->db, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
        if (code == SQLITE_OK)
            break;
        if (code != SQLITE_BUSY)
            return store_failed(store, err, "make the store");
        sqlite3_sleep(20);
    }
    /* Foreign keys cannot be switched inside a transaction; a step may rebuild a table. */
    bool ok = store_execute(store, "PRAGMA foreign_keys = OFF", "update the tables", err) &&
              store_begin_write(store, "make the tables", err);
    if (ok) {
        /* Another process may have been first. */
        ok = read_state(store, &state, err) && check_state(store, &state, version, err);
        if (ok && (is_empty(&state) || state.version < version))
            ok = migrate(store, &state, steps, version, err);
        ok = store_end(store, ok, "make the tables", err);
    }
    return store_execute(store, "PRAGMA foreign_keys = ON", "open the store", ok ? err : NULL) && ok;
}
