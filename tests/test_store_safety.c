/* What must not happen to a store: half plans, overwritten files, crashes. */
#include "tests/support.h"
#include "tests/support_plan.h"

#include "common/embedded.h"
#include "common/file_map.h"
#include "db/statement.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* In a child: save `count` plans (0: for ever), alternating sizes. Exit 0 when all were kept. */
static pid_t start_saver(const char *path, const char *name, int count, rlim_t file_limit) {
    fflush(NULL);
    pid_t child = fork();
    if (child != 0)
        return child;
    if (file_limit) {
        signal(SIGXFSZ, SIG_IGN);   /* writing past the limit then fails as on a full disk */
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){ file_limit, file_limit });
    }
    struct error err = { 0 };
    struct plan_store *store = plan_store_open(path, STORE_CREATE, &err);
    bool ok = store != NULL;
    for (int i = 0; ok && (count == 0 || i < count); i++) {
        struct plan *plan = test_plan(i % 2 ? 40 : 5, name);
        ok = plan_store_save_plan(store, 1, plan, &err);
        plan_free(plan);
    }
    if (!ok) {
        fprintf(stderr, "# child: %s\n", err.text);
        _exit(strstr(err.text, "plan database") ? 3 : 4);
    }
    plan_store_close(store);
    _exit(0);
}

static int exit_of(pid_t child) {
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Every plan has all its units, can be loaded, and the file is sound. */
static uint32_t check_whole(const char *path) {
    struct error err = { 0 };
    struct plan_store *store = plan_store_open(path, STORE_EXISTING, &err);
    ASSERT_OK(store != NULL, err);
    struct plan **plans;
    uint32_t count;
    ASSERT_OK(plan_store_list_plans(store, true, &plans, &count, &err), err);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(plans[i]->shard_count, plans[i]->unit_count);
    plan_store_free_plans(plans, count);
    plan_store_close(store);
    assert_string_equal(test_sql(path, "pragma integrity_check"), "ok");
    assert_string_equal(test_sql(path, "select count(*) from pragma_foreign_key_check"), "0");
    assert_string_equal(test_sql(path, "select count(*) from shard where plan not in (select id from plan)"), "0");
    return count;
}

static void two_processes_can_save_at_once(void **state) {
    (void)state;
    const char *path = test_path("two.db");
    int64_t model;
    plan_store_close(test_store(path, &model));
    assert_int_equal(model, 1);
    pid_t a = start_saver(path, "default", 40, 0), b = start_saver(path, "default", 40, 0);
    assert_int_equal(exit_of(a), 0);
    assert_int_equal(exit_of(b), 0);
    assert_int_equal(check_whole(path), 11);
    assert_string_equal(test_sql(path, "select max(id) from plan"), "80");
    assert_string_equal(test_sql(path, "select count(*) from plan where superseded_at is null"), "1");
}

static void several_processes_can_make_the_same_store(void **state) {
    (void)state;
    for (int round = 0; round < 5; round++) {
        char name[32];
        snprintf(name, sizeof name, "made-%d/plans.db", round);
        const char *path = test_path(name);
        pid_t children[4];
        fflush(NULL);
        for (int i = 0; i < 4; i++)
            if ((children[i] = fork()) == 0) {
                struct error err = { 0 };
                struct plan_store *store = plan_store_open(path, STORE_CREATE, &err);
                if (!store)
                    fprintf(stderr, "# child: %s\n", err.text);
                plan_store_close(store);
                _exit(store ? 0 : 1);
            }
        for (int i = 0; i < 4; i++)
            assert_int_equal(exit_of(children[i]), 0);
        assert_int_equal(check_whole(path), 0);
    }
}

static void a_killed_process_leaves_no_half_plan(void **state) {
    (void)state;
    const char *path = test_path("killed.db");
    int64_t model;
    plan_store_close(test_store(path, &model));
    uint32_t seed = 12345;
    int newest = 0;
    for (int round = 0; round < 12; round++) {
        pid_t child = start_saver(path, "default", 0, 0);
        seed = seed * 1664525u + 1013904223u;
        /* Among the saves, not before them, however slow the machine. */
        for (int wait = 0; atoi(test_sql(path, "select ifnull(max(id), 0) from plan")) <= newest && wait < 4000; wait++)
            usleep(5000);
        usleep(seed % 40000);
        kill(child, SIGKILL);
        assert_int_equal(exit_of(child), 128 + SIGKILL);
        check_whole(path);
        int before = newest;
        newest = atoi(test_sql(path, "select ifnull(max(id), 0) from plan"));
        assert_true(newest > before);
    }
}

static void a_full_disk_leaves_what_was_there(void **state) {
    (void)state;
    const char *path = test_path("full.db");
    int64_t model;
    plan_store_close(test_store(path, &model));
    assert_int_equal(exit_of(start_saver(path, "default", 3, 0)), 0);
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    pid_t child = start_saver(path, "default", 0, (rlim_t)status.st_size + 100000);
    assert_int_equal(exit_of(child), 3);   /* the sentence names the database */
    assert_true(check_whole(path) >= 3);
    assert_int_equal(exit_of(start_saver(path, "default", 1, 0)), 0);
    assert_true(check_whole(path) >= 4);
}

/* Opened in both modes: refused with `expected`, not a byte changed, nothing beside it. */
static void refused_and_untouched(const char *path, const char *expected, enum error_kind kind) {
    size_t before_size, after_size;
    struct error err = { 0 };
    char *before = file_read_all(path, 1 << 24, &before_size, &err);
    ASSERT_OK(before != NULL, err);
    for (int mode = STORE_CREATE; mode <= STORE_EXISTING; mode++) {
        err = (struct error){ 0 };
        struct plan_store *store = plan_store_open(path, (enum store_mode)mode, &err);
        assert_null(store);
        assert_int_equal(err.kind, kind);
        if (!strstr(err.text, expected) || !strstr(err.text, path))
            fail_msg("'%s' does not say '%s' or does not name the file", err.text, expected);
    }
    char *after = file_read_all(path, 1 << 24, &after_size, &err);
    ASSERT_OK(after != NULL, err);
    assert_int_equal(before_size, after_size);
    assert_memory_equal(before, after, before_size);
    free(before);
    free(after);
}

static void write_file(const char *path, const void *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

static void a_file_that_is_not_ours_is_refused_and_untouched(void **state) {
    (void)state;
    const char *path = test_path("text.db");
    char words[5000];
    for (size_t i = 0; i < sizeof words; i++)
        words[i] = "these are not the plans "[i % 24];
    write_file(path, words, sizeof words);
    refused_and_untouched(path, "is not a plan database", ERROR_FAILED);
    write_file(path, words, 40);
    refused_and_untouched(path, "is not a plan database", ERROR_FAILED);
    write_file(path, "SQLite format 3", 16);
    refused_and_untouched(path, path, ERROR_FAILED);

    path = test_path("other.db");
    test_sql(path, "create table bookmark (url text)");
    refused_and_untouched(path, "database of another program", ERROR_FAILED);
}

static void a_newer_store_is_refused_and_untouched(void **state) {
    (void)state;
    const char *path = test_path("newer.db");
    int64_t model;
    plan_store_close(test_store(path, &model));
    test_sql(path, "pragma user_version = 3; pragma journal_mode = delete");
    refused_and_untouched(path, "made by a newer phiplan (its version is 3, this program knows 2)", ERROR_FAILED);
    test_sql(path, "pragma user_version = -3");
    refused_and_untouched(path, "is damaged", ERROR_FAILED);
}

static void a_missing_or_empty_store_holds_no_plan(void **state) {
    (void)state;
    struct error err = { 0 };
    const char *path = test_path("missing/plans.db");
    assert_null(plan_store_open(path, STORE_EXISTING, &err));
    assert_int_equal(err.kind, ERROR_NO_PLAN);
    assert_int_not_equal(access(path, F_OK), 0);

    path = test_path("empty.db");
    write_file(path, "", 0);
    assert_null(plan_store_open(path, STORE_EXISTING, &err));
    assert_int_equal(err.kind, ERROR_NO_PLAN);
    int64_t model;
    struct plan_store *store = test_store(path, &model);
    assert_null(plan_store_newest_plan(store, &err));
    assert_int_equal(err.kind, ERROR_NO_PLAN);
    plan_store_close(store);

    assert_null(plan_store_open(test_folder(), STORE_CREATE, &err));
    assert_int_equal(err.kind, ERROR_FAILED);
    char below[5000];
    snprintf(below, sizeof below, "%s/plans.db", path);   /* a file where a folder should be */
    assert_null(plan_store_open(below, STORE_CREATE, &err));
    assert_non_null(strstr(err.text, "cannot make folder"));
}

/* Any damage: a clear sentence, from the store or, where whole rows are gone, from
 * plan_validate(), or plans that are sound; never a crash. */
static void damage_is_survived_and_named(void **state) {
    (void)state;
    struct error err = { 0 };
    const char *source = test_path("sound.db"), *path = test_path("damaged.db");
    int64_t model;
    plan_store_close(test_store(source, &model));
    assert_int_equal(exit_of(start_saver(source, "default", 3, 0)), 0);
    test_sql(source, "pragma journal_mode = delete");
    size_t size;
    char *sound = file_read_all(source, 1 << 24, &size, &err);
    ASSERT_OK(sound != NULL, err);
    char *damaged = malloc(size);
    assert_non_null(damaged);
    uint32_t seed = 99;
    int refused = 0, named = 0;
    for (int round = 0; round < 150; round++) {
        memcpy(damaged, sound, size);
        size_t length = size;
        seed = seed * 1664525u + 1013904223u;
        if (round % 3 == 0)
            length = seed % size;                                   /* truncated */
        else if (round % 3 == 1)                                    /* a page of noise, the first spared */
            for (size_t at = 4096 * (1 + (seed >> 8) % (size / 4096 - 1)), i = 0; i < 4096; i++) {
                seed = seed * 1664525u + 1013904223u;
                damaged[at + i] = (char)(seed >> 24);
            }
        else                                                        /* 20 bytes anywhere */
            for (int i = 0; i < 20; i++) {
                seed = seed * 1664525u + 1013904223u;
                damaged[seed % size] = (char)(seed >> 24);
            }
        unlink(path);
        write_file(path, damaged, length);
        struct plan **plans;
        uint32_t count;
        err = (struct error){ 0 };
        struct plan_store *store = plan_store_open(path, STORE_EXISTING, &err);
        if (store && plan_store_list_plans(store, true, &plans, &count, &err)) {
            for (uint32_t i = 0; i < count; i++)
                assert_true(plan_validate(plans[i], &err) || strstr(err.text, plans[i]->name));
            plan_store_free_plans(plans, count);
        } else {
            refused++;
            assert_int_not_equal(err.kind, ERROR_NONE);
            /* A row that names no device of its plan has a sentence about the plan. */
            if (!strstr(err.text, path) && !strstr(err.text, "run phiplan again"))
                fail_msg("neither the file nor a way on in: %s", err.text);
            named += strstr(err.text, "is damaged") || strstr(err.text, "not a plan database");
        }
        plan_store_close(store);
    }
    assert_true(refused > 60);
    assert_true(named > refused / 2);
    free(damaged);
    free(sound);
}

/* A store from somebody else may hold a view where a table should be. */
static void a_view_without_end_is_given_up(void **state) {
    (void)state;
    struct error err = { 0 };
    const char *path = test_path("endless.db");
    int64_t model;
    plan_store_close(test_store(path, &model));
    assert_int_equal(exit_of(start_saver(path, "default", 1, 0)), 0);
    test_sql(path, "pragma legacy_alter_table = on; alter table plan rename to plan_1; create view plan as with recursive "
             "n(i) as (select 1 union all select i + 1 from n) select plan_1.* from plan_1, n where i < 0");
    struct plan_store *store = plan_store_open(path, STORE_EXISTING, &err);
    ASSERT_OK(store != NULL, err);
    assert_null(plan_store_newest_plan(store, &err));
    assert_non_null(strstr(err.text, "does not come to an end"));
    assert_non_null(strstr(err.text, path));
    plan_store_close(store);
}

/* As somebody who may not write: root is bound by no permission bits. */
static int read_as_stranger(const char *path) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
            _exit(9);
        if (access(path, R_OK) != 0 || access(path, W_OK) == 0)
            _exit(9);
        struct error err = { 0 };
        struct plan_store *store = plan_store_open(path, STORE_EXISTING, &err);
        struct plan *plan = store ? plan_store_newest_plan(store, &err) : NULL;
        struct run_record run = { .plan = 1 };
        bool ok = plan && plan_store_is_read_only(store) && plan->shard_count == 6 &&
                  plan_store_add_run(store, &run, &err);
        if (!ok)
            fprintf(stderr, "# child: %s\n", err.text);
        ok = ok && !plan_store_save_plan(store, 1, plan, &err) && strstr(err.text, "cannot be written");
        plan_free(plan);
        plan_store_close(store);
        _exit(ok ? 0 : 1);
    }
    return exit_of(child);
}

static void a_store_in_a_read_only_place_can_be_read(void **state) {
    (void)state;
    struct error err = { 0 };
    const char *path = test_path("read only? 100%#/plans.db");   /* what a URI would trip over */
    char folder[5000];
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    int64_t model;
    struct plan_store *store = test_store(path, &model);
    struct plan *plan = test_plan(2, "default");
    ASSERT_OK(plan_store_save_plan(store, model, plan, &err), err);
    assert_false(plan_store_is_read_only(store));
    plan_store_close(store);
    assert_int_equal(chmod(test_folder(), 0711), 0);
    assert_int_equal(chmod(path, 0444), 0);
    assert_int_equal(chmod(folder, 0555), 0);
    int status = read_as_stranger(path);
    if (status != 9) {
        assert_int_equal(status, 0);
        /* While a writer's log holds the newest plan: it is seen too. */
        assert_int_equal(chmod(folder, 0755), 0);
        assert_int_equal(chmod(path, 0644), 0);
        store = plan_store_open(path, STORE_CREATE, &err);
        ASSERT_OK(store != NULL, err);
        ASSERT_OK(plan_store_save_plan(store, model, plan, &err), err);
        if (geteuid() == 0)
            assert_int_equal(read_as_stranger(path), 0);
        plan_store_close(store);
    }
    plan_free(plan);
    assert_int_equal(chmod(folder, 0755), 0);
    if (status == 9)
        SKIP_BECAUSE("cannot become a user who may read but not write '%s'", path);
}

static void a_store_that_is_only_read_keeps_every_byte(void **state) {
    (void)state;
    struct error err = { 0 };
    const char *path = test_path("borrowed.db");
    char log[5000], index[5000];
    snprintf(log, sizeof log, "%s-wal", path);
    snprintf(index, sizeof index, "%s-shm", path);
    int64_t model;
    plan_store_close(test_store(path, &model));
    assert_int_equal(exit_of(start_saver(path, "default", 1, 0)), 0);
    struct plan_store *store = plan_store_open(path, STORE_TO_READ, &err);
    ASSERT_OK(store != NULL, err);
    assert_int_not_equal(access(log, F_OK), 0);
    assert_int_not_equal(access(index, F_OK), 0);
    plan_store_close(store);

    /* The newest plan is in the log of a process that did not close the store. */
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        store = plan_store_open(path, STORE_CREATE, &err);
        _exit(store && plan_store_save_plan(store, model, test_plan(2, "second"), &err) ? 0 : 1);
    }
    assert_int_equal(exit_of(child), 0);
    size_t size, size_after, log_size, log_size_after;
    char *bytes = file_read_all(path, 1 << 24, &size, &err), *logged = file_read_all(log, 1 << 24, &log_size, &err);
    ASSERT_OK(bytes && logged && log_size, err);
    store = plan_store_open(path, STORE_TO_READ, &err);
    ASSERT_OK(store != NULL, err);
    assert_true(plan_store_is_read_only(store));
    struct plan *plan = plan_store_newest_plan(store, &err);
    ASSERT_OK(plan != NULL, err);
    assert_string_equal(plan->name, "second");
    plan_free(plan);
    plan_store_close(store);
    char *after = file_read_all(path, 1 << 24, &size_after, &err);
    char *logged_after = file_read_all(log, 1 << 24, &log_size_after, &err);
    ASSERT_OK(after && logged_after, err);
    assert_true(size == size_after && memcmp(bytes, after, size) == 0);
    assert_true(log_size == log_size_after && memcmp(logged, logged_after, log_size) == 0);

    /* Where the log cannot be read, an older state is not taken for the newest. */
    assert_int_equal(unlink(log), 0);
    assert_int_equal(mkdir(log, 0700), 0);
    assert_null(plan_store_open(path, STORE_TO_READ, &err));
    assert_non_null(strstr(err.text, path));
    free(bytes);
    free(logged);
    free(after);
    free(logged_after);
}

static void an_older_store_is_brought_up_to_date(void **state) {
    (void)state;
    struct error err = { 0 };
    const char *path = test_path("older.db");
    int64_t model;
    struct plan_store *store = test_store(path, &model);
    struct plan *plan = test_plan(2, "default");
    ASSERT_OK(plan_store_save_plan(store, model, plan, &err), err);
    plan_store_close(store);

    /* A made-up future: two steps beyond the present version. */
    static const struct store_migration steps[] = {
        { STORE_VERSION, "ALTER TABLE plan ADD COLUMN note TEXT NOT NULL DEFAULT 'none'" },
        { STORE_VERSION + 1, "UPDATE plan SET note = 'moved ' || id" },
        { 0, NULL },
    };
    static const struct store_migration broken[] = {
        { STORE_VERSION, "ALTER TABLE plan ADD COLUMN note TEXT NOT NULL DEFAULT 'none'" },
        { STORE_VERSION + 1, "UPDATE nothing SET note = 1" },
        { 0, NULL },
    };
    struct plan_store raw = { .path = (char *)path };
    assert_int_equal(sqlite3_open(path, &raw.db), SQLITE_OK);
    assert_false(store_schema_prepare(&raw, STORE_MUST_FIT, steps, STORE_VERSION + 2, &err));
    assert_int_equal(err.kind, ERROR_STALE);
    assert_false(store_schema_prepare(&raw, STORE_MAY_CHANGE, broken, STORE_VERSION + 2, &err));
    assert_false(store_schema_prepare(&raw, STORE_MAY_CHANGE, steps, STORE_VERSION + 3, &err));
    assert_non_null(strstr(err.text, "no way to version"));
    /* All or nothing: still as it was, views included. */
    assert_non_null(strstr(test_sql(path, "select note from plan"), "error"));
    assert_string_equal(test_sql(path, "select id from plan_overview"), "1");
    assert_string_equal(test_sql(path, "pragma user_version"), "2");

    test_sql(path, "create view stray as select 1");
    ASSERT_OK(store_schema_prepare(&raw, STORE_MAY_CHANGE, steps, STORE_VERSION + 2, &err), err);
    sqlite3_close(raw.db);
    assert_string_equal(test_sql(path, "select note from plan"), "moved 1");
    assert_string_equal(test_sql(path, "pragma user_version"), "4");
    assert_string_equal(test_sql(path, "select model from plan_overview"), "org/model");
    assert_string_equal(test_sql(path, "select count(*) from shard"), "6");
    assert_non_null(strstr(test_sql(path, "select * from stray"), "no such table"));
    plan_free(plan);
}

/* Version 1 had other views and the same tables. */
static void a_store_with_older_views_serves_until_it_is_written(void **state) {
    (void)state;
    struct error err = { 0 };
    const char *path = test_path("views.db");
    int64_t model;
    struct plan_store *store = test_store(path, &model);
    struct plan *plan = test_plan(2, "default"), *read;
    ASSERT_OK(plan_store_save_plan(store, model, plan, &err), err);
    plan_store_close(store);
    test_sql(path, "drop view plan_overview; create view plan_overview as select 'of version 1' as devices; "
             "pragma user_version = 1");
    store = plan_store_open(path, STORE_EXISTING, &err);
    ASSERT_OK(store, err);
    read = plan_store_newest_plan(store, &err);
    ASSERT_OK(read, err);
    plan_free(read);
    plan_store_close(store);
    assert_string_equal(test_sql(path, "select devices from plan_overview"), "of version 1");

    store = plan_store_open(path, STORE_CREATE, &err);
    ASSERT_OK(store, err);
    plan_store_close(store);
    assert_string_equal(test_sql(path, "pragma user_version"), "2");
    assert_string_equal(test_sql(path, "select model from plan_overview"), "org/model");
    plan_free(plan);
}

/* A column's line starts with its name and ends with a comment. */
static void every_column_is_explained(void **state) {
    (void)state;
    int columns = 0, inside = 0;
    for (const struct embedded_file *file = embedded_schema; file->name; file++)
        for (size_t i = 0; i < file->line_count; i++) {
            const char *line = file->lines[i];
            if (strncmp(line, "create table", 12) == 0)
                inside = 1;
            else if (line[0] == ')')
                inside = 0;
            static const char *const others[] = { "    --", "    unique", "    check", "    primary", "    foreign" };
            bool is_column = inside && strncmp(line, "    ", 4) == 0 && line[4] != ' ';
            for (size_t j = 0; j < sizeof others / sizeof *others; j++)
                is_column = is_column && strncmp(line, others[j], strlen(others[j])) != 0;
            if (!is_column)
                continue;
            columns++;
            if (!strstr(line, " -- "))
                fail_msg("%s line %zu: a column without a comment: %s", file->name, i + 1, line);
        }
    assert_true(columns > 150);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_processes_can_save_at_once),
        cmocka_unit_test(several_processes_can_make_the_same_store),
        cmocka_unit_test(a_killed_process_leaves_no_half_plan),
        cmocka_unit_test(a_full_disk_leaves_what_was_there),
        cmocka_unit_test(a_file_that_is_not_ours_is_refused_and_untouched),
        cmocka_unit_test(a_newer_store_is_refused_and_untouched),
        cmocka_unit_test(a_missing_or_empty_store_holds_no_plan),
        cmocka_unit_test(damage_is_survived_and_named),
        cmocka_unit_test(a_view_without_end_is_given_up),
        cmocka_unit_test(a_store_in_a_read_only_place_can_be_read),
        cmocka_unit_test(a_store_that_is_only_read_keeps_every_byte),
        cmocka_unit_test(an_older_store_is_brought_up_to_date),
        cmocka_unit_test(a_store_with_older_views_serves_until_it_is_written),
        cmocka_unit_test(every_column_is_explained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
