#include "tests/support.h"

#include "common/file_map.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* A file of `size` bytes where byte i is i * 7. */
static const char *make_file(size_t size) {
    static char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/bytes", test_folder());
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    for (size_t i = 0; i < size; i++)
        fputc((int)(i * 7 & 255), file);
    assert_int_equal(fclose(file), 0);
    return path;
}

static void any_range_is_mapped_wherever_it_starts(void **state) {
    (void)state;
    struct error err = { 0 };
    const char *path = make_file(10000);
    const uint64_t ranges[][2] = { { 0, 10000 }, { 1, 1 }, { 4095, 2 }, { 4096, 4096 }, { 5000, 5000 }, { 9999, 1 } };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        struct file_map map;
        ASSERT_OK(file_map_range(&map, path, ranges[i][0], ranges[i][1], &err), err);
        assert_int_equal(map.size, ranges[i][1]);
        for (uint64_t j = 0; j < map.size; j++)
            assert_int_equal(map.bytes[j], (ranges[i][0] + j) * 7 & 255);
        file_map_release(&map);
        assert_null(map.bytes);
    }
}

static void an_empty_range_is_no_error(void **state) {
    (void)state;
    struct error err = { 0 };
    struct file_map map;
    const char *path = make_file(100);
    ASSERT_OK(file_map_range(&map, path, 100, 0, &err), err);
    assert_null(map.bytes);
    file_map_release(&map);
}

static void a_range_past_the_end_is_refused_as_truncated(void **state) {
    (void)state;
    struct file_map map;
    const char *path = make_file(100);
    const uint64_t ranges[][2] = { { 0, 101 }, { 100, 1 }, { 101, 0 }, { UINT64_MAX, 2 }, { 2, UINT64_MAX } };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        struct error err = { 0 };
        assert_false(file_map_range(&map, path, ranges[i][0], ranges[i][1], &err));
        assert_non_null(strstr(err.text, "truncated"));
        assert_non_null(strstr(err.text, path));
        assert_null(map.base);
    }
}

static void reads_are_whole_or_an_error(void **state) {
    (void)state;
    struct error err = { 0 };
    struct stat status;
    uint8_t bytes[60];
    const char *path = make_file(100);
    int descriptor = file_open(path, &status, &err);
    assert_true(descriptor >= 0);
    assert_int_equal(status.st_size, 100);
    ASSERT_OK(file_read_at(descriptor, path, 40, bytes, 60, &err), err);
    assert_int_equal(bytes[0], 40 * 7 & 255);
    assert_false(file_read_at(descriptor, path, 41, bytes, 60, &err));
    assert_non_null(strstr(err.text, "truncated"));
    assert_false(file_read_at(descriptor, path, UINT64_MAX - 3, bytes, 60, &err));
    close(descriptor);
}

static void what_is_no_regular_file_is_refused_without_waiting(void **state) {
    (void)state;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/pipe", test_folder());
    assert_int_equal(mkfifo(path, 0600), 0);
    const char *paths[] = { path, test_folder(), "/dev/zero" };
    for (size_t i = 0; i < 3; i++) {
        struct error err = { 0 };
        assert_int_equal(file_open(paths[i], NULL, &err), -1);
        assert_non_null(strstr(err.text, "not a regular file"));
    }
    struct error err = { 0 };
    assert_int_equal(file_open("/nowhere", NULL, &err), -1);
    assert_string_equal(err.text, "cannot open '/nowhere': No such file or directory");
}

static void a_text_file_ends_with_a_nul_that_is_not_counted(void **state) {
    (void)state;
    struct error err = { 0 };
    size_t size;
    char *text = file_read_all(make_file(37), 37, &size, &err);
    ASSERT_OK(text, err);
    assert_int_equal(size, 37);
    assert_int_equal(text[37], 0);
    free(text);
    text = file_read_all(make_file(0), 37, &size, &err);
    ASSERT_OK(text, err);
    assert_int_equal(size, 0);
    free(text);
    assert_null(file_read_all(make_file(38), 37, &size, &err));
    assert_non_null(strstr(err.text, "38 bytes"));
}

/* A pipe takes a part at a time. */
static void a_write_is_whole_or_errno_says_why(void **state) {
    (void)state;
    enum { SIZE = 300000 };
    static unsigned char sent[SIZE], got[SIZE];
    int ends[2], status;
    for (size_t i = 0; i < SIZE; i++)
        sent[i] = (unsigned char)(i * 7);
    assert_int_equal(pipe(ends), 0);
    pid_t writer = fork();
    assert_true(writer >= 0);
    if (!writer)
        _exit(file_write_all(ends[1], sent, SIZE) ? 0 : 1);
    close(ends[1]);
    size_t count = 0;
    for (ssize_t more; (more = read(ends[0], got + count, SIZE - count)) > 0;)
        count += (size_t)more;
    close(ends[0]);
    assert_int_equal(waitpid(writer, &status, 0), writer);
    assert_int_equal(status, 0);
    assert_int_equal(count, SIZE);
    assert_memory_equal(got, sent, SIZE);
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(full >= 0);
    assert_false(file_write_all(full, sent, 5));
    assert_int_equal(errno, ENOSPC);
    assert_true(file_write_all(full, sent, 0));
    close(full);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_range_is_mapped_wherever_it_starts),
        cmocka_unit_test(an_empty_range_is_no_error),
        cmocka_unit_test(a_range_past_the_end_is_refused_as_truncated),
        cmocka_unit_test(reads_are_whole_or_an_error),
        cmocka_unit_test(what_is_no_regular_file_is_refused_without_waiting),
        cmocka_unit_test(a_text_file_ends_with_a_nul_that_is_not_counted),
        cmocka_unit_test(a_write_is_whole_or_errno_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
