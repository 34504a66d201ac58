#include "tests/support.h"

#include "runtime/run_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool parse(struct run_options *options, struct error *err, const char *line) {
    static char copy[512];
    static char *argv[32];
    int argc = 0;
    snprintf(copy, sizeof copy, "phirun %s", line);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    argv[argc] = NULL;
    *err = (struct error){ 0 };
    return run_options_parse(options, argc, argv, err);
}

static void options_may_stand_before_and_after_the_model(void **state) {
    (void)state;
    struct run_options options;
    struct error err;
    ASSERT_OK(parse(&options, &err, "-n 5 model.gguf --prompt hello --temperature 0.5 --top-k 7 --seed 12"), err);
    assert_int_equal(options.command, COMMAND_GENERATE);
    assert_string_equal(options.model, "model.gguf");
    assert_string_equal(options.text, "hello");
    assert_int_equal(options.new_tokens, 5);
    assert_int_equal(options.sampling.top_k, 7);
    assert_true(options.sampling.seed == 12);
    assert_int_equal(options.given, GIVEN_TEMPERATURE | GIVEN_TOP_K | GIVEN_SEED);
}

static void bench_spells_sizes_with_single_letters(void **state) {
    (void)state;
    struct run_options options;
    struct error err;
    ASSERT_OK(parse(&options, &err, "bench m -p 64 -n 8 -d 16 -r 2 -o json"), err);
    assert_int_equal(options.command, COMMAND_BENCH);
    assert_int_equal(options.bench_prompt, 64);
    assert_int_equal(options.bench_new, 8);
    assert_int_equal(options.bench_depth, 16);
    assert_int_equal(options.bench_repeats, 2);
    assert_string_equal(options.bench_format, "json");
}

static void a_text_follows_the_model_of_tokenize(void **state) {
    (void)state;
    struct run_options options;
    struct error err;
    ASSERT_OK(parse(&options, &err, "tokenize m Hello --json"), err);
    assert_string_equal(options.text, "Hello");
    assert_true(options.json);
}

static void help_wins_over_mistakes(void **state) {
    (void)state;
    struct run_options options;
    struct error err;
    ASSERT_OK(parse(&options, &err, "--nonsense --help"), err);
    assert_true(options.help);
}

static void mistakes_are_named(void **state) {
    (void)state;
    static const struct { const char *line, *part; } cases[] = {
        { "", "no model" },
        { "m -p", "'-p' needs a value" },
        { "m --nonsense", "'--nonsense'" },
        { "m -n many", "'many'" },
        { "m -n -3", "'-3'" },
        { "m --temperature hot", "'hot'" },
        { "m --temperature nan", "'nan'" },
        { "m --greedy --top-k 3", "exclude" },
        { "m -p a -f b", "one of" },
        { "m word", "'word'" },
        { "m --ids 1 --raw", "--ids" },
        { "logits m --ids 1", "--out" },
        { "template m", "--messages" },
        { "bench m -r 0", "'0'" },
        { "bench m -o xml", "'xml'" },
        { "bench m --temperature 1", "'--temperature'" },
        { "m --rope sideways", "'sideways'" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct run_options options;
        struct error err;
        if (parse(&options, &err, cases[i].line))
            fail_msg("'%s' was accepted", cases[i].line);
        if (err.kind != ERROR_USAGE || !strstr(err.text, cases[i].part))
            fail_msg("'%s' gave: %s", cases[i].line, err.text);
    }
}

static void ids_are_read_with_any_white_space(void **state) {
    (void)state;
    int32_t *ids;
    uint32_t count;
    struct error err = { 0 };
    ASSERT_OK(parse_ids("--ids", " 1,2, 30\n4,", &ids, &count, &err), err);
    assert_int_equal(count, 4);
    assert_int_equal(ids[2], 30);
    free(ids);
    assert_false(parse_ids("--ids", "1,x", &ids, &count, &err));
    assert_false(parse_ids("--ids", "99999999999", &ids, &count, &err));
    assert_false(parse_ids("--ids", "-1", &ids, &count, &err));
    assert_int_equal(err.kind, ERROR_USAGE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_may_stand_before_and_after_the_model),
        cmocka_unit_test(bench_spells_sizes_with_single_letters),
        cmocka_unit_test(a_text_follows_the_model_of_tokenize),
        cmocka_unit_test(help_wins_over_mistakes),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(ids_are_read_with_any_white_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
