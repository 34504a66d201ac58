/* compress: what goes in comes out, and nothing else. */
#include "common/compress.h"
#include "tests/support.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SIZE 100000u

static uint8_t *repetitive(void) {
    uint8_t *bytes = malloc(SIZE);
    assert_non_null(bytes);
    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (uint8_t)(i % 97 * (i % 5));
    return bytes;
}

static void what_was_deflated_comes_back(void **state) {
    (void)state;
    uint8_t *bytes = repetitive(), *back = malloc(SIZE);
    size_t bound = compress_bound(SIZE);
    uint8_t *small = malloc(bound);
    struct error err = { 0 };
    size_t used = compress_bytes(bytes, SIZE, 1, small, bound);
    assert_true(used > 0 && used < SIZE / 10);
    assert_true(decompress_bytes(small, used, back, SIZE, "a test", &err));
    assert_memory_equal(bytes, back, SIZE);
    assert_int_equal(compress_bytes(bytes, SIZE, 1, small, used - 1), 0);
    used = compress_bytes(bytes, SIZE, COMPRESS_NUMBERS, small, bound);
    assert_true(used > 0 && used < SIZE);
    memset(back, 0, SIZE);
    assert_true(decompress_bytes(small, used, back, SIZE, "a test", &err));
    assert_memory_equal(bytes, back, SIZE);
    assert_int_equal(compress_bytes(bytes, SIZE, COMPRESS_NUMBERS, small, used - 1), 0);
    used = compress_bytes(bytes, 0, 1, small, bound);
    assert_true(used > 0);
    assert_true(decompress_bytes(small, used, back, 0, "a test", &err));
    free(bytes);
    free(back);
    free(small);
}

static void a_stream_that_is_not_exactly_that_is_refused(void **state) {
    (void)state;
    uint8_t *bytes = repetitive(), *back = malloc(SIZE + 1);
    uint8_t *small = malloc(compress_bound(SIZE) + 1);
    size_t used = compress_bytes(bytes, SIZE, 1, small, compress_bound(SIZE));
    struct error err = { 0 };
    small[used] = 0;
    back[SIZE] = 0xa5;
    assert_false(decompress_bytes(small, used, back, SIZE - 1, "a test", &err));
    assert_non_null(strstr(err.text, "a test is damaged"));
    assert_false(decompress_bytes(small, used, back, SIZE + 1, "a test", NULL));
    assert_false(decompress_bytes(small, used - 1, back, SIZE, "a test", NULL));
    assert_false(decompress_bytes(small, used + 1, back, SIZE, "a test", NULL));
    assert_false(decompress_bytes(small, 0, back, SIZE, "a test", NULL));
    for (size_t i = 0; i < used; i += 7) {
        small[i] ^= 0x10;
        assert_false(decompress_bytes(small, used, back, SIZE, "a test", NULL));
        small[i] ^= 0x10;
    }
    assert_true(decompress_bytes(small, used, back, SIZE, "a test", NULL));
    assert_int_equal(back[SIZE], 0xa5);
    free(bytes);
    free(back);
    free(small);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_deflated_comes_back),
        cmocka_unit_test(a_stream_that_is_not_exactly_that_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
