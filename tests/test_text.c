#include "tests/support.h"

#include "common/plan_request.h"
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
    assert_string_equal(typed_phiplan(command, model, NULL, context, name, db), expected);
}

static void a_proposed_command_is_what_a_shell_takes(void **state) {
    (void)state;
    check_command("phiplan a/b-1.gguf", "a/b-1.gguf", 0, "default", NULL);
    check_command("phiplan org/name@main --name fast --db /x/plans.db --ctx 512", "org/name@main", 512, "fast",
                  "/x/plans.db");
    check_command("phiplan 'my models/b' --name '$fast'", "my models/b", 0, "$fast", "");
    check_command("phiplan 'it'\\''s' --db ''\\'''", "it's", 0, NULL, "'");
    char command[TYPED_COMMAND_SIZE];
    assert_string_equal(typed_bench(command, "it's", "fast", NULL), "phirun bench 'it'\\''s' --plan fast");
    char longest[2 * TYPED_COMMAND_SIZE];
    memset(longest, 'm', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(strlen(typed_phiplan(command, longest, NULL, 1, NULL, NULL)), TYPED_COMMAND_SIZE - 1);
}

/* As a plan keeps a request: with all that phiplan filled in. */
static struct plan_request stored(struct plan_request request) {
    plan_request_fill(&request, 8192);
    return request;
}

static void a_plan_is_proposed_again_as_it_was_asked_for(void **state) {
    (void)state;
    const struct { struct plan_request asked; uint64_t context; const char *options; } cases[] = {
        { { .kv_type = KV_F16 }, 0, "" },
        { { .kv_type = KV_F16 }, 4096, " --ctx 4096" },
        { { .kv_type = KV_F16, .weights = "q8_0" }, 0, " --weights q8_0" },
        { { .kv_type = KV_F16, .weights = "q8_0", .context = 512 }, 0, " --ctx 512 --weights q8_0" },
        { { .kv_type = KV_F16, .weights = "q8_0", .context = 512 }, 600, " --ctx 600 --weights q8_0" },
        { { .kv_type = KV_Q8_0, .micro_batch = 64 }, 0, " --micro-batch 64 --kv q8_0" },
        { { .kv_type = KV_F16, .new_tokens = 1000 }, 0, " --prompt 512 --new 1000" },
        { { .kv_type = KV_F16, .new_tokens = 1000 }, 1024, " --ctx 1024" },   /* which has no room for them */
        { { .kv_type = KV_F16, .context = 64, .prompt_tokens = 43, .new_tokens = 4 }, 0,
          " --ctx 64 --prompt 43 --new 4" },
        { { .kv_type = KV_F16, .policy = "fill", .rope = "long", .devices = "gpu0,cpu0", .exclude = "gpu1",
            .max_memory = "gpu0=7GiB", .max_buffer = "1GiB", .pins = "ffn.*=cpu0", .forbids = "head=gpu0",
            .slices = "off", .stream = true, .dtype = "bf16" }, 0,
          " --policy fill --rope long --devices gpu0,cpu0 --exclude gpu1 --max-memory gpu0=7GiB --max-buffer 1GiB"
          " --pin 'ffn.*=cpu0' --forbid head=gpu0 --slices off --stream --dtype bf16" },
    };
    char command[TYPED_COMMAND_SIZE], expected[TYPED_COMMAND_SIZE];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct plan_request request = stored(cases[i].asked);
        snprintf(expected, sizeof expected, "phiplan m --name fast%s", cases[i].options);
        assert_string_equal(typed_phiplan(command, "m", &request, cases[i].context, "fast", NULL), expected);
    }
    const struct plan_request map = stored((struct plan_request){ .kv_type = KV_F16, .policy = POLICY_IMPORT,
                                                                  .weights = "q4_0" });
    assert_string_equal(typed_phiplan(command, "it's", &map, 0, "fast", "/x y"),
                        "phiplan import FILE 'it'\\''s' --name fast --db '/x y' --weights q4_0");

    /* Rather none of an option than a piece of it. */
    struct plan_request request = stored((struct plan_request){ .kv_type = KV_F16, .weights = "q8_0" });
    memset(request.max_memory, 'x', sizeof request.max_memory - 1);
    memset(request.pins, '*', sizeof request.pins - 1);
    typed_phiplan(command, "m", &request, 0, NULL, NULL);
    snprintf(expected, sizeof expected, "phiplan m --weights q8_0 --max-memory %.511s ...", request.max_memory);
    assert_string_equal(command, expected);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appended_pieces_become_one_string),
        cmocka_unit_test(codepoints_of_every_length_are_encoded),
        cmocka_unit_test(a_string_past_the_ceiling_fails_once_and_stays),
        cmocka_unit_test(a_sentence_can_quote_the_one_it_replaces),
        cmocka_unit_test(what_a_terminal_may_obey_is_defused),
        cmocka_unit_test(a_proposed_command_is_what_a_shell_takes),
        cmocka_unit_test(a_plan_is_proposed_again_as_it_was_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
