/* The list of stores that use the packed weights of a user. */
#include "tests/support.h"
#include "tests/support_plan.h"

#include "common/file_map.h"
#include "planner/store_list.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* A fresh folder for packed weights, not made yet, and the file of its list. */
static const char *fresh_root(const char **file) {
    static char root[PATH_MAX], stores[PATH_MAX];
    static int number;
    snprintf(root, sizeof root, "%s/%d/artifacts", test_folder(), ++number);
    snprintf(stores, sizeof stores, "%s/stores", root);
    *file = stores;
    return root;
}

static void write_bytes(const char *path, const void *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

/* A file called so in the test's folder, as lists have it; the caller frees it. */
static char *some_store(const char *name) {
    const char *path = test_path(name);
    write_bytes(path, "x", 1);
    char *resolved = realpath(path, NULL);
    assert_non_null(resolved);
    return resolved;
}

static void assert_list(const char *file, const char *first, const char *second) {
    char expected[2 * PATH_MAX];
    struct error err = { 0 };
    size_t size;
    snprintf(expected, sizeof expected, "%s\n%s%s", first, second ? second : "", second ? "\n" : "");
    char *bytes = file_read_all(file, 1 << 20, &size, &err);
    ASSERT_OK(bytes, err);
    assert_string_equal(bytes, expected);
    free(bytes);
}

static void a_store_is_noted_once_and_until_it_is_gone(void **state) {
    (void)state;
    struct error err = { 0 };
    const char *file, *root = fresh_root(&file);
    char *first = some_store("first.db"), *second = some_store("second.db"), *third = some_store("third.db");
    const char *link = test_path("link.db");
    assert_int_equal(symlink(first, link), 0);
    ASSERT_OK(store_list_note(root, first, &err), err);
    ASSERT_OK(store_list_note(root, second, &err), err);
    ASSERT_OK(store_list_note(root, link, &err), err);
    assert_list(file, first, second);
    assert_int_equal(unlink(first), 0);
    ASSERT_OK(store_list_note(root, third, &err), err);
    assert_list(file, second, third);
    assert_false(store_list_note(root, first, &err));
    assert_non_null(strstr(err.text, first));
    assert_list(file, second, third);
    free(first);
    free(second);
    free(third);
}

static void processes_that_note_at_once_are_all_noted(void **state) {
    (void)state;
    enum { CHILDREN = 12 };
    struct error err = { 0 };
    const char *file, *root = fresh_root(&file);
    pid_t children[CHILDREN];
    char *stores[CHILDREN];
    for (int i = 0; i < CHILDREN; i++) {
        char name[32];
        snprintf(name, sizeof name, "child-%d.db", i);
        stores[i] = some_store(name);
    }
    fflush(NULL);
    for (int i = 0; i < CHILDREN; i++)
        if ((children[i] = fork()) == 0)
            _exit(store_list_note(root, stores[i], &err) ? 0 : 1);
    for (int i = 0; i < CHILDREN; i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        free(stores[i]);
    }
    struct store_list list;
    ASSERT_OK(store_list_open(&list, root, &err), err);
    assert_int_equal(list.count, CHILDREN);
    assert_false(list.is_changed);
    store_list_release(&list);
}

static void lines_that_are_no_absolute_paths_do_not_count(void **state) {
    (void)state;
    struct error err = { 0 };
    const char *file, *root = fresh_root(&file);
    char *first = some_store("sound.db"), *last = some_store("last.db");
    char bytes[4 * PATH_MAX], longest[PATH_MAX + 1];
    memset(longest, '/', PATH_MAX);   /* the root, were it not too long */
    longest[PATH_MAX] = '\0';
    ASSERT_OK(store_list_note(root, first, &err), err);
    /* No line break at the end, a NUL inside of a line. */
    int size = snprintf(bytes, sizeof bytes, "\n.\nstores\n%s\n%s\n%s\n/%chidden\n%s", longest, first, first, '\0', last);
    assert_in_range(size, 0, sizeof bytes - 1);
    write_bytes(file, bytes, (size_t)size);
    struct store_list list;
    ASSERT_OK(store_list_open(&list, root, &err), err);
    assert_int_equal(list.count, 2);
    assert_string_equal(list.paths[0], first);
    assert_string_equal(list.paths[1], last);
    ASSERT_OK(store_list_save(&list, &err), err);
    store_list_release(&list);
    assert_list(file, first, last);
    free(first);
    free(last);
}

static void a_path_with_a_line_break_is_refused(void **state) {
    (void)state;
    struct error err = { 0 };
    const char *file, *root = fresh_root(&file);
    char *first = some_store("before.db"), *broken = some_store("a\nb.db");
    ASSERT_OK(store_list_note(root, first, &err), err);
    assert_false(store_list_note(root, broken, &err));
    assert_non_null(strstr(err.text, "line break"));
    assert_list(file, first, NULL);
    free(first);
    free(broken);
}

static void a_list_without_end_is_an_error_and_stays(void **state) {
    (void)state;
    struct error err = { 0 };
    struct store_list list;
    const char *file, *root = fresh_root(&file);
    char *first = some_store("one.db"), *lines = malloc(2 * STORE_LIST_MOST + 3);
    assert_non_null(lines);
    for (size_t i = 0; i < STORE_LIST_MOST + 1; i++)
        memcpy(lines + 2 * i, "/\n", 3);
    ASSERT_OK(store_list_note(root, first, &err), err);
    write_bytes(file, lines, 2 * (STORE_LIST_MOST + 1));
    assert_false(store_list_note(root, first, &err));
    assert_non_null(strstr(err.text, file));
    write_bytes(file, lines, 2 * STORE_LIST_MOST);
    ASSERT_OK(store_list_open(&list, root, &err), err);
    assert_int_equal(list.count, 1);
    store_list_release(&list);
    assert_int_equal(truncate(file, (off_t)1 << 30), 0);   /* sparse */
    assert_false(store_list_open(&list, root, &err));
    assert_non_null(strstr(err.text, file));
    store_list_release(&list);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(mkfifo(file, 0600), 0);
    assert_false(store_list_open(&list, root, &err));
    store_list_release(&list);
    free(first);
    free(lines);
}

static void without_a_folder_the_list_is_empty_and_nothing_is_made(void **state) {
    (void)state;
    struct error err = { 0 };
    struct store_list list;
    const char *file, *root = fresh_root(&file);
    ASSERT_OK(store_list_open(&list, root, &err), err);
    assert_int_equal(list.count, 0);
    list.is_changed = true;
    ASSERT_OK(store_list_save(&list, &err), err);
    store_list_release(&list);
    assert_int_not_equal(access(root, F_OK), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_store_is_noted_once_and_until_it_is_gone),
        cmocka_unit_test(processes_that_note_at_once_are_all_noted),
        cmocka_unit_test(lines_that_are_no_absolute_paths_do_not_count),
        cmocka_unit_test(a_path_with_a_line_break_is_refused),
        cmocka_unit_test(a_list_without_end_is_an_error_and_stays),
        cmocka_unit_test(without_a_folder_the_list_is_empty_and_nothing_is_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
