#include "tests/support.h"

#include "common/text.h"
#include "common/typed_command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static void what_a_terminal_may_obey_is_defused(void **state) {
    (void)state;
    static const struct { const char *string, *line, *lines; } cases[] = {
        { "a \xc3\xa9 \xe2\x82\xac \xf4\x8f\xbf\xbf \xc2\xa0", "a \xc3\xa9 \xe2\x82\xac \xf4\x8f\xbf\xbf \xc2\xa0", NULL },
        { "\x1b[31m\x7f\ta\nb", "?[31m? a b", "?[31m? a\nb" },
        { "\xc2\x85\xc2\x9b", "????", NULL },
        { "\xed\xa0\x80", "???", NULL },                  /* a surrogate */
        { "\xed\x9f\xbf", "\xed\x9f\xbf", NULL },
        { "\xc0\xaf|\xe0\x82\x9b|\xf0\x80\x82\x9b", "??|???|????", NULL },   /* overlong */
        { "\xf4\x90\x80\x80", "????", NULL },             /* above U+10FFFF */
        { "\xe2\x82", "??", NULL },                        /* cut */
        { "\xe2\x82\xc3\xa9", "??\xc3\xa9", NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char line[64], lines[64];
        snprintf(line, sizeof line, "%s", cases[i].string);
        snprintf(lines, sizeof lines, "%s", cases[i].string);
        text_defuse(line, false);
        text_defuse(lines, true);
        assert_string_equal(line, cases[i].line);
        assert_string_equal(lines, cases[i].lines ? cases[i].lines : cases[i].line);
    }
}

static void check_command(const char *expected, const char *model, uint64_t context, const char *name,
                          const char *db) {
    char command[TYPED_COMMAND_SIZE];
    assert_string_equal(typed_phiplan(command, model, context, name, db), expected);
}

static void a_proposed_command_is_what_a_shell_takes(void **state) {
    (void)state;
    check_command("phiplan a/b-1.gguf", "a/b-1.gguf", 0, "default", NULL);
    check_command("phiplan org/name@main --ctx 512 --name fast --db /x/plans.db", "org/name@main", 512, "fast",
                  "/x/plans.db");
    check_command("phiplan 'my models/b' --name '$fast'", "my models/b", 0, "$fast", "");
    check_command("phiplan 'it'\\''s' --db ''\\'''", "it's", 0, NULL, "'");
    char import[TYPED_COMMAND_SIZE];
    assert_string_equal(typed_import(import, "it's", "fast", "/x y"),
                        "phiplan import FILE 'it'\\''s' --name fast --db '/x y'");
    assert_string_equal(typed_import(import, "m", "default", NULL), "phiplan import FILE m");
    assert_string_equal(typed_bench(import, "it's", "fast", NULL), "phirun bench 'it'\\''s' --name fast");
    char longest[2 * TYPED_COMMAND_SIZE], command[TYPED_COMMAND_SIZE];
    memset(longest, 'm', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(strlen(typed_phiplan(command, longest, 1, NULL, NULL)), TYPED_COMMAND_SIZE - 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appended_pieces_become_one_string),
        cmocka_unit_test(codepoints_of_every_length_are_encoded),
        cmocka_unit_test(a_string_past_the_ceiling_fails_once_and_stays),
        cmocka_unit_test(a_sentence_can_quote_the_one_it_replaces),
        cmocka_unit_test(what_a_terminal_may_obey_is_defused),
        cmocka_unit_test(a_proposed_command_is_what_a_shell_takes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
