#include "tests/support.h"

#include "common/temporary_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void put(const char *path) {
    int file = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(file >= 0);
    close(file);
}

static void what_killed_processes_left_is_removed_and_nothing_else(void **state) {
    (void)state;
    char path[512], left[600], other[600], longer[600];
    struct error err = { 0 };
    snprintf(path, sizeof path, "%s/weights", test_folder());
    snprintf(left, sizeof left, "%s.aB3dE7", path);
    snprintf(other, sizeof other, "%s/weight.aB3dE7", test_folder());
    snprintf(longer, sizeof longer, "%s.aB3dE7x", path);
    put(path);
    put(left);
    put(other);
    put(longer);
    char *first, *second;
    int file = temporary_file_create(path, &first, &err);
    ASSERT_OK(file >= 0, err);
    assert_int_not_equal(access(left, F_OK), 0);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(access(other, F_OK), 0);
    assert_int_equal(access(longer, F_OK), 0);
    /* One that is being written stays; when its writer is gone, it goes. */
    int beside = temporary_file_create(path, &second, &err);
    ASSERT_OK(beside >= 0, err);
    assert_int_equal(access(first, F_OK), 0);
    int folder = open(test_folder(), O_RDONLY | O_DIRECTORY);
    assert_true(folder >= 0 && temporary_file_is_written(folder, strrchr(first, '/') + 1));
    assert_false(temporary_file_is_written(folder, "weights") || temporary_file_is_written(folder, "nothing"));
    close(file);
    assert_false(temporary_file_is_written(folder, strrchr(first, '/') + 1));
    close(folder);
    close(beside);
    free(second);
    beside = temporary_file_create(path, &second, &err);
    ASSERT_OK(beside >= 0, err);
    assert_int_not_equal(access(first, F_OK), 0);
    close(beside);
    free(first);
    free(second);
}

static void a_folder_that_is_not_there_is_named(void **state) {
    (void)state;
    char path[512], *name;
    struct error err = { 0 };
    snprintf(path, sizeof path, "%s/nowhere/weights", test_folder());
    assert_int_equal(temporary_file_create(path, &name, &err), -1);
    assert_null(name);
    assert_non_null(strstr(err.text, path));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_killed_processes_left_is_removed_and_nothing_else),
        cmocka_unit_test(a_folder_that_is_not_there_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
