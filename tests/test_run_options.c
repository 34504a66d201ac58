#include "tests/support.h"

#include "runtime/option_values.h"
#include "runtime/run_options.h"
#include "runtime/typed_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The options parsed last: each parse() releases the ones before. */
static struct run_options last;

static double number(const struct run_options *options, const char *key) {
    return json_number_value(json_object_get(options->typed, key));
}

static bool parse(struct run_options *options, struct error *err, const char *line) {
    static char copy[512];
    static char *argv[32];
    int argc = 0;
    snprintf(copy, sizeof copy, "phirun %s", line);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    argv[argc] = NULL;
    *err = (struct error){ 0 };
    run_options_release(&last);
    bool ok = run_options_parse(options, argc, argv, err);
    last = *options;
    return ok;
}

static void options_may_stand_before_and_after_the_model(void **state) {
    (void)state;
    struct run_options options;
    struct error err;
    ASSERT_OK(parse(&options, &err, "-n 5 model.gguf --prompt hello --temperature 0.5 --top-k 7 --seed 12"), err);
    assert_int_equal(options.command, COMMAND_GENERATE);
    assert_string_equal(options.model, "model.gguf");
    assert_string_equal(options.text, "hello");
    assert_true(number(&options, "max_new_tokens") == 5 && number(&options, "top_k") == 7);
    assert_true(number(&options, "seed") == 12 && number(&options, "temperature") == 0.5);
    assert_int_equal(json_object_size(options.typed), 4);
}

static void generate_s_options_become_its_keywords(void **state) {
    (void)state;
    struct run_options options;
    struct error err;
    ASSERT_OK(parse(&options, &err, "m --stop A --stop-strings B --early-stopping never --num-beams 3 "
                    "--bad-words-ids 1,2 --bad-words-ids 3 --logit-bias 4,5=2 --logit-bias 6-1 --logit-bias 7=false "
                    "--do-sample --min-new-tokens 2 --no-repeat-ngram-size 3 --max-time 1.5"), err);
    char *text = json_dumps(options.typed, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(text, "{\"bad_words_ids\":[[1,2],[3]],\"do_sample\":true,\"early_stopping\":\"never\","
                        "\"max_time\":1.5,\"min_new_tokens\":2,\"no_repeat_ngram_size\":3,\"num_beams\":3,"
                        "\"sequence_bias\":[[[4,5],2.0],[[6],-1.0],[[7],null]],\"stop_strings\":[\"A\",\"B\"]}");
    free(text);
    ASSERT_OK(parse(&options, &err, "m --early-stopping true"), err);
    assert_true(json_is_true(json_object_get(options.typed, "early_stopping")));
}

static void escapes_in_stop_strings_are_read(void **state) {
    (void)state;
    struct run_options options;
    struct error err;
    ASSERT_OK(parse(&options, &err, "m --stop \\n\\n --stop-strings a\\tb\\rc --stop \\\\n\\d\\ --bad-words \\n"), err);
    char *text = json_dumps(options.typed, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(text, "{\"bad_words\":[\"\\\\n\"],\"stop_strings\":[\"\\n\\n\",\"a\\tb\\rc\",\"\\\\n\\\\d\\\\\"]}");
    free(text);
    json_t *typed = json_object();   /* as /set of chat has it */
    ASSERT_OK(typed_options_set(typed, "stop", "\\n", &err), err);
    assert_string_equal(json_string_value(json_array_get(json_object_get(typed, "stop_strings"), 0)), "\n");
    json_decref(typed);
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

/* A value may look like an option; the name before it has to be whole all the same. */
static void options_have_no_short_forms(void **state) {
    (void)state;
    struct run_options options;
    struct error err;
    ASSERT_OK(parse(&options, &err, "-p --pro m --stop=--js --plan --name -vn 5"), err);
    assert_string_equal(options.text, "--pro");
    assert_string_equal(options.plan_name, "--name");
    assert_true(options.verbose && number(&options, "max_new_tokens") == 5);
    ASSERT_OK(parse(&options, &err, "--system --system m -p x"), err);
    assert_string_equal(options.system, "--system");
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
        { "m -p", "option '-p' needs a value; see phirun --help" },
        { "m --nonsense", "'--nonsense'" },
        { "m -v --nonsense=3", "there is no option '--nonsense'; see phirun --help" },
        { "chat m --json", "there is no option '--json' (did you mean '--json-schema'?); see phirun chat --help" },
        { "chat m --json-s x", "there is no option '--json-s' (did you mean" },
        { "m --pro hello", "there is no option '--pro' (did you mean '--prompt' or '--prompt-cache'?); see phirun --help" },
        { "m --prompt-c hello", "(did you mean '--prompt-cache'?)" },
        { "m --prompt-c=hello", "there is no option '--prompt-c' (did you" },
        { "m --raw=1", "option '--raw' takes no value; see phirun --help" },
        { "m -vZ", "there is no option '-Z'" },
        { "m --json-schema", "option '--json-schema' needs a value" },
        { "m -vn", "option '-n' needs a value" },
        { "m -n many", "'many'" },
        { "m -n -3", "'-3'" },
        { "m --temperature hot", "'hot'" },
        { "m --temperature nan", "'nan'" },
        { "m --greedy --top-k 3", "exclude" },
        { "m --top-p 7", "top-p '7'" },
        { "m --early-stopping maybe", "'maybe'" },
        { "m --speculate tr", "'tr'" },
        { "m --logit-bias 5", "IDS=BIAS" },
        { "m --logit-bias =5", "token ids" },
        { "m --logit-bias 5=x", "'x'" },
        { "m --bad-words-ids x", "'x'" },
        { "logits m --ids 1 --out f --num-beams 2", "'--num-beams'" },
        { "m -p a -f b", "one of" },
        { "org/m word", "'word'; give the prompt with -p" },
        { ". word", "'word'; give the prompt with -p" },
        { "chta m", "'chta' is neither a command nor a model" },
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

static void whole_numbers_have_a_limit_and_no_sign(void **state) {
    (void)state;
    static const char *const wrong[] = { "", "x", "1x", "-1", " -1", " -18446744073709551615", "18446744073709551616" };
    struct error err = { 0 };
    json_t *typed = json_object();
    uint32_t count;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (option_count("-n", wrong[i], &count, &err) || typed_options_set(typed, "seed", wrong[i], &err))
            fail_msg("'%s' was accepted", wrong[i]);
    ASSERT_OK(option_count("-n", "2147483647", &count, &err), err);
    assert_int_equal(count, INT32_MAX);
    assert_false(option_count("-n", "2147483648", &count, &err));
    assert_string_equal(err.text, "-n takes a whole number, not '2147483648'");
    ASSERT_OK(typed_options_set(typed, "n", "5", &err), err);   /* the letter will do */
    assert_int_equal(json_integer_value(json_object_get(typed, "max_new_tokens")), 5);
    assert_false(typed_options_set(typed, "", "5", &err));
    ASSERT_OK(typed_options_set(typed, "seed", "18446744073709551615", &err), err);
    assert_true((uint64_t)json_integer_value(json_object_get(typed, "seed")) == UINT64_MAX);
    json_decref(typed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_may_stand_before_and_after_the_model),
        cmocka_unit_test(generate_s_options_become_its_keywords),
        cmocka_unit_test(escapes_in_stop_strings_are_read),
        cmocka_unit_test(bench_spells_sizes_with_single_letters),
        cmocka_unit_test(a_text_follows_the_model_of_tokenize),
        cmocka_unit_test(options_have_no_short_forms),
        cmocka_unit_test(help_wins_over_mistakes),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(ids_are_read_with_any_white_space),
        cmocka_unit_test(whole_numbers_have_a_limit_and_no_sign),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    run_options_release(&last);
    return failed;
}
