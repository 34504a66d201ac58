#include "tests/support.h"

#include "common/text.h"

#include <stdlib.h>

static void appended_pieces_become_one_string(void **state) {
    (void)state;
    struct text text;
    text_init(&text);
    text_append(&text, "block ");
    text_append_format(&text, "%d of %s", 3, "phi3");
    text_append_char(&text, '!');
    assert_string_equal(text.bytes, "block 3 of phi3!");
    assert_int_equal(text.length, 16);
    char *taken = text_take(&text);
    assert_string_equal(taken, "block 3 of phi3!");
    assert_int_equal(text.length, 0);
    free(taken);
    text_release(&text);
}

static void codepoints_of_every_length_are_encoded(void **state) {
    (void)state;
    struct text text;
    text_init(&text);
    text_append_utf8(&text, 'a');
    text_append_utf8(&text, 0xe9);
    text_append_utf8(&text, 0x20ac);
    text_append_utf8(&text, 0x1f999);
    text_append_utf8(&text, 0xd800);
    assert_string_equal(text.bytes, "a\xc3\xa9\xe2\x82\xac\xf0\x9f\xa6\x99\xef\xbf\xbd");
    text_release(&text);
}

static void a_string_past_the_ceiling_fails_once_and_stays(void **state) {
    (void)state;
    struct text text;
    text_init(&text);
    text_append(&text, "kept");
    text_append_bytes(&text, "", TEXT_LIMIT);
    assert_true(text.failed);
    assert_string_equal(text.bytes, "kept");
    assert_null(text_take(&text));
}

static void a_sentence_can_quote_the_one_it_replaces(void **state) {
    (void)state;
    struct error err = { 0 };
    assert_false(error_set(&err, ERROR_FAILED, "cannot read '%s'", "x"));
    error_set(&err, ERROR_USAGE, "%s; try another", err.text);
    assert_string_equal(err.text, "cannot read 'x'; try another");
    error_prefix(&err, "model '%s'", "m");
    assert_string_equal(err.text, "model 'm': cannot read 'x'; try another");
    assert_int_equal(error_exit_code(err.kind), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appended_pieces_become_one_string),
        cmocka_unit_test(codepoints_of_every_length_are_encoded),
        cmocka_unit_test(a_string_past_the_ceiling_fails_once_and_stays),
        cmocka_unit_test(a_sentence_can_quote_the_one_it_replaces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
