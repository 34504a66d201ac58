#include "tests/support.h"

#include "common/clock.h"
#include "common/temporary_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
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
    char *first, *second, *third;
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
    assert_true(folder >= 0);
    assert_false(temporary_file_remove_unwritten(folder, strrchr(first, '/') + 1, REMOVE_UNLOCKABLE));
    assert_false(temporary_file_remove_unwritten(folder, "nothing", REMOVE_UNLOCKABLE));
    assert_int_equal(access(first, F_OK), 0);
    assert_true(temporary_file_remove_unwritten(folder, "weight.aB3dE7", KEEP_UNLOCKABLE));
    assert_int_not_equal(access(other, F_OK), 0);
    close(folder);
    close(file);
    close(beside);
    beside = temporary_file_create(path, &third, &err);
    ASSERT_OK(beside >= 0, err);
    assert_int_not_equal(access(first, F_OK), 0);
    temporary_file_drop(-1, first);
    temporary_file_drop(-1, second);
    temporary_file_drop(beside, third);
}

/* Remove all that nobody writes, again and again, until the other end of the pipe closes. */
static _Noreturn void remove_forever(int until) {
    int folder = open(test_folder(), O_RDONLY | O_DIRECTORY);
    struct pollfd end = { .fd = until };
    while (poll(&end, 1, 0) == 0) {
        DIR *stream = fdopendir(openat(folder, ".", O_RDONLY | O_DIRECTORY));
        for (struct dirent *entry; stream && (entry = readdir(stream));)
            temporary_file_remove_unwritten(folder, entry->d_name, REMOVE_UNLOCKABLE);
        closedir(stream);
    }
    _exit(0);
}

static void a_file_that_was_just_made_is_not_removed_by_another_process(void **state) {
    (void)state;
    char path[512];
    struct error err = { 0 };
    int ends[2], status, lost = 0;
    assert_int_equal(pipe(ends), 0);
    snprintf(path, sizeof path, "%s/new", test_folder());
    pid_t child = fork();
    if (child == 0) {
        close(ends[1]);
        remove_forever(ends[0]);
    }
    assert_true(child > 0);
    double until = seconds_now() + 0.5;
    while (seconds_now() < until) {
        char *name;
        struct stat made;
        int file = temporary_file_create(path, &name, &err);
        ASSERT_OK(file >= 0, err);
        sched_yield();
        lost += fstat(file, &made) != 0 || made.st_nlink == 0;
        temporary_file_drop(file, name);
    }
    close(ends[1]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(lost, 0);
}

/* A new file for `path` that holds `text`; its name is the caller's. */
static int write_one(const char *path, const char *text, char **name) {
    struct error err = { 0 };
    int file = temporary_file_create(path, name, &err);
    ASSERT_OK(file >= 0, err);
    assert_int_equal(write(file, text, strlen(text)), strlen(text));
    return file;
}

static void assert_holds(const char *path, const char *text) {
    char found[32] = "";
    int file = open(path, O_RDONLY);
    assert_true(file >= 0);
    assert_true(read(file, found, sizeof found - 1) >= 0);
    close(file);
    assert_string_equal(found, text);
}

static void a_finished_file_takes_its_place(void **state) {
    (void)state;
    char path[512], copy[600], *name;
    snprintf(path, sizeof path, "%s/place", test_folder());
    int file = write_one(path, "first", &name);
    assert_true(temporary_file_finish(file, name, path, TAKE_FREE));
    assert_int_equal(fcntl(file, F_GETFD), -1);
    assert_holds(path, "first");
    file = write_one(path, "second", &name);
    snprintf(copy, sizeof copy, "%s", name);
    assert_false(temporary_file_finish(file, name, path, TAKE_FREE));
    assert_int_equal(errno, EEXIST);
    assert_holds(path, "first");
    assert_int_not_equal(access(copy, F_OK), 0);
    file = write_one(path, "third", &name);
    assert_true(temporary_file_finish(file, name, path, TAKE_ANY));
    assert_holds(path, "third");
    file = write_one(path, "fourth", &name);
    snprintf(copy, sizeof copy, "%s", name);
    temporary_file_drop(file, name);
    assert_int_equal(fcntl(file, F_GETFD), -1);
    assert_int_not_equal(access(copy, F_OK), 0);
    temporary_file_drop(-1, NULL);
}

/* After it no file can be made: a process of its own. */
static void what_is_not_finished_is_removed_at_the_end_of_the_process(void **state) {
    (void)state;
    char path[512], own[600];
    int status;
    snprintf(path, sizeof path, "%s/end", test_folder());
    snprintf(own, sizeof own, "%s/own-name", test_folder());
    pid_t child = fork();
    if (child == 0) {
        char *name;
        int file = write_one(path, "whole", &name);
        temporary_file_finish(file, name, path, TAKE_ANY);
        file = write_one(path, "half", &name);
        temporary_file_drop(file, name);
        write_one(path, "half", &name);
        put(own);
        temporary_file_note(own);
        temporary_file_note(path);
        temporary_file_forget(path);
        temporary_file_abandon();
        _exit(0);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_holds(path, "whole");
    assert_int_not_equal(access(own, F_OK), 0);
    DIR *stream = opendir(test_folder());
    assert_non_null(stream);
    for (struct dirent *entry; (entry = readdir(stream));)
        assert_int_not_equal(strncmp(entry->d_name, "end.", 4), 0);
    closedir(stream);
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
        cmocka_unit_test(a_file_that_was_just_made_is_not_removed_by_another_process),
        cmocka_unit_test(a_finished_file_takes_its_place),
        cmocka_unit_test(what_is_not_finished_is_removed_at_the_end_of_the_process),
        cmocka_unit_test(a_folder_that_is_not_there_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
