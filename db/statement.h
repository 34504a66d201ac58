/* statement: one prepared SQL statement, its parameters and columns taken in order.
 *
 * Parameters are put one after the other, then the statement is stepped; columns
 * are taken one after the other, in the order of the SELECT. What cannot be put
 * (an integer above 2^63 - 1) or taken (another kind, out of range, text too long
 * for its buffer) is remembered by name: check once a row with statement_sound(). */
#ifndef DB_STATEMENT_H
#define DB_STATEMENT_H

#include "common/error.h"
#include "common/own_key.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stddef.h>
#include <stdint.h>

struct plan_store {
    sqlite3 *db;
    char *path;
    bool read_only;
    pthread_mutex_t lock;   /* for store_programs.c, as is the key */
    struct own_key key;
    bool has_key;
    unsigned ticks;         /* of STORE_TICK steps, since a statement was begun */
};

/* A statement of ours takes thousands of SQLite's steps. One that takes tens of millions
 * reads a table that somebody has replaced by an endless view; it is given up. */
enum { STORE_TICK = 1 << 20, STORE_TICK_LIMIT = 64 };

/* err: what SQLite says of the last call, as a sentence about the store. Always false. */
bool store_failed(struct plan_store *store, struct error *err, const char *what);

/* Statements without parameters or results. */
bool store_execute(struct plan_store *store, const char *sql, const char *what, struct error *err);

/* One writer at a time: waits for another process up to the busy timeout. */
bool store_begin_write(struct plan_store *store, const char *what, struct error *err);
/* Commit where `ok`, else roll back and leave *err as it is. Returns whether it was kept. */
bool store_end(struct plan_store *store, bool ok, const char *what, struct error *err);

/* "2025-01-31T12:00:00Z". */
void store_now(char text[32]);

struct statement {
    struct plan_store *store;
    sqlite3_stmt *handle;
    const char *what;       /* borrowed; "save plan 'default'": begins the sentence of a failure */
    int next;               /* parameter or column */
    char bad[64];           /* the first parameter or column that was unsound; "" for none */
};

bool statement_open(struct statement *statement, struct plan_store *store, const char *what,
                    const char *sql, struct error *err);
void statement_close(struct statement *statement);   /* zeroed or closed already is fine */

void put_text(struct statement *statement, const char *text);   /* copied; NULL becomes null */
void put_i64(struct statement *statement, int64_t value);
void put_u64(struct statement *statement, uint64_t value);
void put_double(struct statement *statement, double value);     /* not finite becomes null */
void put_null(struct statement *statement);
void put_blob(struct statement *statement, const void *bytes, size_t size);   /* borrowed until the next run */

/* True where a row is there; false at the end or on failure, told apart by err->kind
 * of a fresh error or by `failed`. */
bool statement_row(struct statement *statement, bool *failed, struct error *err);

/* Step to the end and make ready for the next set of parameters. */
bool statement_run(struct statement *statement, struct error *err);

void take_text(struct statement *statement, char *text, size_t size);
int64_t take_i64(struct statement *statement);
uint64_t take_u64(struct statement *statement);
uint32_t take_u32(struct statement *statement);
bool take_bool(struct statement *statement);
double take_double(struct statement *statement);                 /* null becomes 0 */
/* Valid until the next step; NULL where it is no blob. */
const void *take_blob(struct statement *statement, size_t *size);

/* False, naming the column, where something taken since the last step was unsound. */
bool statement_sound(struct statement *statement, struct error *err);

/* For store_schema.c and its test: bring a store from its version to `version`. */
struct store_migration {
    int from;               /* takes a store of this version to from + 1 */
    const char *sql;        /* tables only, "" where they stay: views and triggers are made anew */
};
enum store_change { STORE_MAY_CHANGE, STORE_MUST_FIT };
bool store_schema_prepare(struct plan_store *store, enum store_change change,
                          const struct store_migration *steps, int version, struct error *err);
extern const struct store_migration store_migrations[];   /* ended by sql == NULL */
#define STORE_VERSION 2
#define STORE_APPLICATION_ID 0x70686970   /* "phip" */

#endif
