/* kv_file: pages come back as they went in, and nothing else ever does. */
#include "runtime/kv_file_format.h"
#include "tests/support.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOKENS 75u   /* three pages, the last one partly used */

static struct kv_file_key key_of(enum kv_type type) {
    struct kv_file_key key = { .kv_type = type, .block_count = 2, .kv_head_count = 3,
                               .vector_bytes = type == KV_F32 ? 32 : type == KV_F16 ? 16 : 34 };
    memset(key.weights_hash, 'a', 64);
    memset(key.arithmetic, 'b', 64);
    return key;
}

static const char *path_of(const char *name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", test_folder(), name);
    return path;
}

/* Finite; `noisy`: with nothing in it that deflates. */
static void fill(uint8_t *bytes, uint64_t size, const struct kv_file_key *key, uint32_t page, bool noisy) {
    uint32_t state = page + 1;
    for (uint64_t i = 0; i < size; i++) {
        state = state * 1664525u + 1013904223u;
        bytes[i] = (uint8_t)(state >> 24);
        unsigned width = kv_file_planes(key->kv_type);
        if (width > 1 && i % width == width - 1)
            bytes[i] = noisy ? bytes[i] & 0xbb : 0x3c;
        else if (width == 1)
            bytes[i] = i % 34 == 33 ? 0x21 : noisy ? bytes[i] : bytes[i] & 1;
    }
}

static void write_file(const char *path, const struct kv_file_key *key, bool long_rope, bool noisy) {
    struct error err = { 0 };
    int32_t tokens[TOKENS];
    for (uint32_t i = 0; i < TOKENS; i++)
        tokens[i] = (int32_t)(i * 7);
    uint64_t size = kv_file_page_bytes(key);
    uint8_t *bytes = malloc(size);
    struct kv_file_writer *writer = kv_file_create(path, key, tokens, TOKENS, long_rope, &err);
    ASSERT_OK(writer, err);
    for (uint32_t page = 0; page < 3; page++) {
        fill(bytes, size, key, page, noisy);
        ASSERT_OK(kv_file_write_page(writer, bytes, &err), err);
    }
    ASSERT_OK(kv_file_finish(writer, &err), err);
    free(bytes);
}

/* Whether the file can be opened and all of its pages are what write_file() put there. False:
 * it was refused somewhere; a wrong page is a failure of the test. */
static bool comes_back(const char *path, const struct kv_file_key *key, bool noisy) {
    struct kv_file file;
    struct error err = { 0 };
    if (kv_file_open(&file, path, key, &err) != KV_FILE_OPEN)
        return false;
    uint64_t size = kv_file_page_bytes(key);
    uint8_t *bytes = malloc(size), *expected = malloc(size);
    bool ok = file.token_count == TOKENS && file.page_count == 3;
    assert_true(ok);
    for (uint32_t i = 0; i < TOKENS; i++)
        assert_int_equal(file.tokens[i], i * 7);
    for (uint32_t page = 0; ok && page < 3; page++) {
        ok = kv_file_read_page(&file, page, bytes, &err);
        fill(expected, size, key, page, noisy);
        if (ok)
            assert_memory_equal(bytes, expected, size);
    }
    free(bytes);
    free(expected);
    kv_file_close(&file);
    return ok;
}

static void pages_of_every_kv_type_come_back(void **state) {
    (void)state;
    for (int type = KV_F32; type <= KV_Q8_0; type++)
        for (int noisy = 0; noisy < 2; noisy++) {
            struct kv_file_key key = key_of((enum kv_type)type);
            const char *path = path_of("pages");
            write_file(path, &key, false, noisy);
            assert_true(comes_back(path, &key, noisy));
            struct stat status;
            assert_int_equal(stat(path, &status), 0);
            uint64_t plain = kv_file_index_bytes(TOKENS) + 3 * kv_file_page_bytes(&key);
            assert_true(noisy ? (uint64_t)status.st_size <= plain : (uint64_t)status.st_size < plain * 9 / 10);
            assert_int_equal(status.st_mode & 0777, 0600);
        }
}

static void a_file_of_something_else_is_refused(void **state) {
    (void)state;
    struct kv_file_key key = key_of(KV_F16), others[5];
    const char *path = path_of("key");
    write_file(path, &key, true, true);
    for (int i = 0; i < 5; i++)
        others[i] = key;
    others[0].weights_hash[63] = 'c';
    others[1].arithmetic[0] = 'c';
    others[2].kv_type = KV_F32;
    others[3].block_count = 3;
    others[4].vector_bytes = 8;
    struct kv_file file;
    for (int i = 0; i < 5; i++) {
        struct error err = { 0 };
        assert_int_equal(kv_file_open(&file, path, &others[i], &err), KV_FILE_UNUSABLE);
        assert_non_null(strstr(err.text, path));
    }
    assert_int_equal(kv_file_open(&file, path, &key, NULL), KV_FILE_OPEN);
    assert_true(file.long_rope);
    kv_file_close(&file);
}

static void write_bytes(const char *path, const void *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void what_is_no_such_file_is_never_ours_to_replace(void **state) {
    (void)state;
    struct kv_file_key key = key_of(KV_F16);
    struct kv_file file;
    assert_int_equal(kv_file_open(&file, path_of("nowhere"), &key, NULL), KV_FILE_NONE);
    write_bytes(path_of("empty"), "", 0);
    assert_int_equal(kv_file_open(&file, path_of("empty"), &key, NULL), KV_FILE_NONE);
    write_bytes(path_of("notes"), "my notes, many of them", 22);
    assert_int_equal(kv_file_open(&file, path_of("notes"), &key, NULL), KV_FILE_FOREIGN);
    write_bytes(path_of("start"), "phi-", 4);
    assert_int_equal(kv_file_open(&file, path_of("start"), &key, NULL), KV_FILE_UNUSABLE);
    assert_int_equal(kv_file_open(&file, test_folder(), &key, NULL), KV_FILE_FOREIGN);
    int32_t token = 1;
    assert_null(kv_file_create("/dev/null", &key, &token, 1, false, NULL));
    assert_int_equal(access("/dev/null.phi-part", F_OK), -1);
}

/* Every bit of the index, some of the pages, and every length. */
static void damage_anywhere_is_noticed(void **state) {
    (void)state;
    struct kv_file_key key = key_of(KV_F16);
    const char *path = path_of("damaged");
    write_file(path, &key, false, false);
    int descriptor = open(path, O_RDONLY);
    struct stat status;
    assert_int_equal(fstat(descriptor, &status), 0);
    size_t size = (size_t)status.st_size, index = kv_file_index_bytes(TOKENS);
    uint8_t *bytes = malloc(size);
    assert_int_equal(read(descriptor, bytes, size), size);
    close(descriptor);
    for (size_t i = 0; i < size; i += i < index ? 1 : 53) {
        bytes[i] ^= (uint8_t)(1u << i % 8);
        write_bytes(path, bytes, size);
        assert_false(comes_back(path, &key, false));
        bytes[i] ^= (uint8_t)(1u << i % 8);
    }
    for (size_t cut = 1; cut < size; cut += cut < index ? 29 : 311) {
        write_bytes(path, bytes, cut);
        assert_false(comes_back(path, &key, false));
    }
    uint8_t *longer = calloc(1, size + 8);
    memcpy(longer, bytes, size);
    write_bytes(path, longer, size + 8);
    assert_false(comes_back(path, &key, false));
    write_bytes(path, bytes, size);
    assert_true(comes_back(path, &key, false));
    free(longer);
    free(bytes);
}

static void values_that_are_not_numbers_are_refused(void **state) {
    (void)state;
    static const struct { enum kv_type type; size_t at; uint8_t bytes[2]; } cases[] = {
        { KV_F32, 34, { 0x80, 0x7f } }, { KV_F16, 16, { 0x01, 0x7e } }, { KV_Q8_0, 34 + 32, { 0x00, 0xfc } },
    };
    for (size_t i = 0; i < 3; i++) {
        struct kv_file_key key = key_of(cases[i].type);
        const char *path = path_of("infinite");
        struct error err = { 0 };
        int32_t token = 5;
        uint8_t *bytes = calloc(1, kv_file_page_bytes(&key));
        memcpy(bytes + cases[i].at, cases[i].bytes, 2);
        struct kv_file_writer *writer = kv_file_create(path, &key, &token, 1, false, &err);
        ASSERT_OK(writer && kv_file_write_page(writer, bytes, &err) && kv_file_finish(writer, &err), err);
        struct kv_file file;
        assert_int_equal(kv_file_open(&file, path, &key, NULL), KV_FILE_OPEN);
        assert_false(kv_file_read_page(&file, 0, bytes, &err));
        assert_non_null(strstr(err.text, "not numbers"));
        kv_file_close(&file);
        free(bytes);
    }
}

static void a_file_appears_whole_or_not_at_all(void **state) {
    (void)state;
    struct kv_file_key key = key_of(KV_F32);
    char path[512], part[600];
    snprintf(path, sizeof path, "%s", path_of("whole"));
    snprintf(part, sizeof part, "%s.phi-part", path);
    struct error err = { 0 };
    int32_t tokens[40] = { 0 };
    write_file(path, &key, false, true);
    struct kv_file_writer *writer = kv_file_create(path, &key, tokens, 40, false, &err);
    ASSERT_OK(writer, err);
    /* Another one at the same time is refused, and what is being written is not cleared away. */
    assert_null(kv_file_create(path, &key, tokens, 40, false, &err));
    assert_non_null(strstr(err.text, "another run"));
    kv_file_clear(path);
    assert_int_equal(access(part, F_OK), 0);
    assert_false(kv_file_finish(writer, &err));   /* its pages are missing */
    assert_int_equal(access(part, F_OK), -1);
    assert_true(comes_back(path, &key, true));
    /* What a killed program left is cleared away. */
    write_bytes(part, "half", 4);
    kv_file_clear(path);
    assert_int_equal(access(part, F_OK), -1);
    write_bytes(part, "half", 4);
    write_file(path, &key, false, false);
    assert_true(comes_back(path, &key, false));
    assert_int_equal(access(part, F_OK), -1);
    /* Not through a link to something else. */
    write_bytes(path_of("treasure"), "gold", 4);
    assert_int_equal(symlink(path_of("treasure"), part), 0);
    assert_null(kv_file_create(path, &key, tokens, 40, false, &err));
    kv_file_clear(path);
    struct stat status;
    assert_int_equal(stat(path_of("treasure"), &status), 0);
    assert_int_equal(status.st_size, 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_of_every_kv_type_come_back),
        cmocka_unit_test(a_file_of_something_else_is_refused),
        cmocka_unit_test(what_is_no_such_file_is_never_ours_to_replace),
        cmocka_unit_test(damage_anywhere_is_noticed),
        cmocka_unit_test(values_that_are_not_numbers_are_refused),
        cmocka_unit_test(a_file_appears_whole_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
