#include "tests/support.h"

#include "common/file_map.h"
#include "common/safetensors.h"
#include "common/text.h"
#include "tests/support_fuzz.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A file with this header and `data_size` bytes of data. */
static bool open_header(struct safetensors *head, const char *header, size_t data_size, struct error *err) {
    struct text file;
    uint64_t size = strlen(header);
    text_init(&file);
    text_append_bytes(&file, &size, sizeof size);
    text_append(&file, header);
    for (size_t i = 0; i < data_size; i++)
        text_append_char(&file, (char)i);
    assert_false(file.failed);
    bool opened = safetensors_open(head, fuzz_file(file.bytes, file.length), err);
    text_release(&file);
    return opened;
}

static void tensors_are_listed_with_absolute_offsets(void **state) {
    (void)state;
    struct error err = { 0 };
    struct safetensors head;
    const char *header = "{\"__metadata__\":{\"format\":\"pt\"},"
                         "\"w\":{\"dtype\":\"BF16\",\"shape\":[3,4],\"data_offsets\":[8,32]},"
                         "\"scale\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
                         "\"h\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[4,8]},"
                         "\"none\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[32,32]}}";
    uint64_t data = 8 + strlen(header);
    ASSERT_OK(open_header(&head, header, 32, &err), err);
    assert_int_equal(head.file_size, data + 32);
    assert_int_equal(head.tensor_count, 4);
    assert_string_equal(head.tensors[0].name, "w");
    assert_int_equal(head.tensors[0].type, TENSOR_BF16);
    assert_int_equal(head.tensors[0].rank, 2);
    assert_int_equal(head.tensors[0].shape[0], 3);
    assert_int_equal(head.tensors[0].shape[1], 4);
    assert_int_equal(head.tensors[0].shape[2], 1);
    assert_int_equal(head.tensors[0].offset, data + 8);
    assert_int_equal(head.tensors[0].size_bytes, 24);
    assert_int_equal(head.tensors[1].rank, 0);
    assert_int_equal(head.tensors[1].size_bytes, 4);
    assert_int_equal(head.tensors[2].type, TENSOR_F16);
    assert_int_equal(head.tensors[3].size_bytes, 0);
    safetensors_release(&head);
    assert_int_equal(head.tensor_count, 0);
}

static void tensors_that_are_no_weights_are_left_out_but_checked(void **state) {
    (void)state;
    struct error err = { 0 };
    struct safetensors head;
    ASSERT_OK(open_header(&head, "{\"ids\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[0,16]},"
                          "\"new\":{\"dtype\":\"Z9\",\"shape\":[2],\"data_offsets\":[0,1]},"
                          "\"deep\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,2],\"data_offsets\":[0,8]},"
                          "\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[16,24]}}", 24, &err), err);
    assert_int_equal(head.tensor_count, 1);
    assert_string_equal(head.tensors[0].name, "w");
    safetensors_release(&head);
    assert_false(open_header(&head, "{\"ids\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[0,16]}}", 15, &err));
    assert_false(open_header(&head, "{\"ids\":{\"dtype\":\"I64\",\"shape\":[3],\"data_offsets\":[0,16]}}", 16, &err));
}

static void entries_that_do_not_fit_are_refused_by_name(void **state) {
    (void)state;
    static const char *const entries[] = {
        "[]", "{}", "null", "7",
        "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}",
        "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,16]}",
        "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}",
        "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[57,65]}",
        "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}",
        "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}",
        "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,9]}",
        "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0.0,8.0]}",
        "{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}",
        "{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}",
        "{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}",
        "{\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]}",
        "{\"dtype\":7,\"shape\":[2],\"data_offsets\":[0,8]}",
        "{\"shape\":[2],\"data_offsets\":[0,8]}",
    };
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
        char header[256];
        struct error err = { 0 };
        struct safetensors head;
        snprintf(header, sizeof header, "{\"bad.weight\":%s}", entries[i]);
        if (open_header(&head, header, 64, &err))
            fail_msg("%s was accepted", entries[i]);
        assert_non_null(strstr(err.text, "'bad.weight'"));
        assert_int_equal(err.kind, ERROR_FAILED);
        assert_null(head.tensors);
    }
}

static void a_header_that_claims_too_much_is_refused_at_once(void **state) {
    (void)state;
    const uint64_t sizes[] = { 3, 100000001, UINT64_MAX, UINT64_MAX - 7, 1ull << 63 };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char bytes[10] = { [8] = '{', [9] = '}' };
        struct error err = { 0 };
        struct safetensors head;
        memcpy(bytes, &sizes[i], 8);
        assert_false(safetensors_open(&head, fuzz_file(bytes, sizeof bytes), &err));
        assert_int_equal(err.kind, ERROR_FAILED);
    }
    struct error err = { 0 };
    struct safetensors head;
    assert_false(safetensors_open(&head, fuzz_file("short", 5), &err));
    assert_non_null(strstr(err.text, "truncated"));
    assert_false(safetensors_open(&head, fuzz_file("\3\0\0\0\0\0\0\0[1]", 11), &err));
    assert_non_null(strstr(err.text, "no safetensors file"));
}

static void a_header_longer_than_the_ceiling_is_not_read(void **state) {
    (void)state;
    struct error err = { 0 };
    struct safetensors head;
    const uint64_t size = 100000001;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/long.safetensors", test_folder());
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(&size, sizeof size, 1, file), 1);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(truncate(path, (off_t)size + 100), 0);
    assert_false(safetensors_open(&head, path, &err));
    assert_non_null(strstr(err.text, "claims a header of 100000001 bytes"));
}

static void a_file_cut_anywhere_is_refused(void **state) {
    (void)state;
    struct error err = { 0 };
    const char *path = test_data("models/phi3-tiny/model.safetensors");
    if (!path)
        SKIP_BECAUSE("models/phi3-tiny is not here");
    size_t size;
    char *bytes = file_read_all(path, (size_t)64 << 20, &size, &err);
    ASSERT_OK(bytes, err);
    struct safetensors head;
    ASSERT_OK(safetensors_open(&head, path, &err), err);
    assert_int_equal(head.tensor_count, 21);
    assert_int_equal(head.file_size, size);
    uint64_t total = 0;
    for (uint32_t i = 0; i < head.tensor_count; i++)
        total += head.tensors[i].size_bytes;
    uint64_t header_size;
    memcpy(&header_size, bytes, 8);
    assert_int_equal(total, size - 8 - header_size);
    safetensors_release(&head);
    const size_t cuts[] = { 0, 7, 8, 9, 1000, (size_t)header_size + 7, (size_t)header_size + 8, size / 2, size - 1 };
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        assert_false(safetensors_open(&head, fuzz_file(bytes, cuts[i]), &err));
        assert_int_equal(err.kind, ERROR_FAILED);
    }
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_listed_with_absolute_offsets),
        cmocka_unit_test(tensors_that_are_no_weights_are_left_out_but_checked),
        cmocka_unit_test(entries_that_do_not_fit_are_refused_by_name),
        cmocka_unit_test(a_header_that_claims_too_much_is_refused_at_once),
        cmocka_unit_test(a_header_longer_than_the_ceiling_is_not_read),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
