#include "tests/support.h"

#include "common/model.h"
#include "common/own_key.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *set_home(const char *name) {
    char folder[4096];
    snprintf(folder, sizeof folder, "%s/%s", test_folder(), name);
    setenv("XDG_DATA_HOME", folder, 1);
    static char key[4200];
    snprintf(key, sizeof key, "%s/phi/key", folder);
    return key;
}

static void a_key_is_made_once_and_for_its_user_alone(void **state) {
    (void)state;
    struct error err = { 0 };
    struct own_key key, again = { { 0 } }, other;
    struct stat status;
    const char *path = set_home("first");
    ASSERT_OK(own_key_read(&key, &err), err);
    ASSERT_OK(own_key_read(&again, &err), err);
    assert_memory_equal(&key, &again, sizeof key);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    assert_int_equal(status.st_nlink, 1);          /* the draft is gone */
    set_home("second");
    ASSERT_OK(own_key_read(&other, &err), err);
    assert_memory_not_equal(&key, &other, sizeof key);
}

static void processes_that_start_at_once_agree(void **state) {
    (void)state;
    int ends[2];
    struct own_key keys[8];
    set_home("many");
    assert_int_equal(pipe(ends), 0);
    for (size_t i = 0; i < 8; i++)
        if (fork() == 0) {
            struct own_key key;
            bool ok = own_key_read(&key, NULL) && write(ends[1], &key, sizeof key) == (ssize_t)sizeof key;
            _exit(!ok);
        }
    for (size_t i = 0; i < 8; i++) {
        int status;
        wait(&status);
        assert_int_equal(status, 0);
        assert_int_equal(read(ends[0], &keys[i], sizeof keys[i]), sizeof keys[i]);
        assert_memory_equal(&keys[i], &keys[0], sizeof keys[i]);
    }
    close(ends[0]);
    close(ends[1]);
}

static void check_refused(const char *path) {
    struct error err = { 0 };
    struct own_key key;
    assert_false(own_key_read(&key, &err));
    assert_non_null(strstr(err.text, path));
}

static void a_key_that_others_could_know_is_refused(void **state) {
    (void)state;
    struct error err = { 0 };
    struct own_key key;
    const char *path = set_home("open");
    ASSERT_OK(own_key_read(&key, &err), err);
    assert_int_equal(chmod(path, 0640), 0);
    check_refused(path);
    assert_int_equal(chmod(path, 0600), 0);
    ASSERT_OK(own_key_read(&key, &err), err);
    assert_int_equal(truncate(path, 31), 0);
    check_refused(path);
    assert_int_equal(truncate(path, 33), 0);
    check_refused(path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/etc/hostname", path), 0);
    check_refused(path);
    setenv("XDG_DATA_HOME", "/dev/null", 1);
    check_refused("/dev/null/phi/key");
}

/* RFC 4231, test case 2. */
static void signatures_are_hmac_sha256(void **state) {
    (void)state;
    char hex[65], other[65];
    const struct hash_part parts[] = { { "what do ya want ", 16 }, { "for nothing?", 12 } };
    hmac_sha256_hex("Jefe", 4, parts, 2, hex);
    assert_string_equal(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    struct own_key key = { { 1 } };
    own_key_sign(&key, "a", "b", 1, hex);
    own_key_sign(&key, "ab", "", 0, other);
    assert_string_not_equal(hex, other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_made_once_and_for_its_user_alone),
        cmocka_unit_test(processes_that_start_at_once_agree),
        cmocka_unit_test(a_key_that_others_could_know_is_refused),
        cmocka_unit_test(signatures_are_hmac_sha256),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
