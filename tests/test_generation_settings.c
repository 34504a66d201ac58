#include "tests/support.h"

#include "runtime/generation_settings.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A model whose directory holds the given generation_config.json (NULL: none). */
static struct model model_with(const char *config) {
    static char folder[4096];
    struct model model = { .source = { .kind = SOURCE_DIRECTORY, .path = folder },
                           .eos_ids = { 7, 9 }, .eos_count = 2 };
    char path[4200];
    snprintf(folder, sizeof folder, "%s", test_folder());
    snprintf(path, sizeof path, "%s/generation_config.json", folder);
    remove(path);
    if (config) {
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        fputs(config, file);
        fclose(file);
    }
    return model;
}

/* Settings from a config and what was typed (JSON, NULL: nothing); made last. */
static struct generation_settings settings;

static bool make(const char *config, const char *typed, struct error *err) {
    struct model model = model_with(config);
    struct run_options options = { .typed = typed ? json_loads(typed, 0, NULL) : NULL };
    generation_settings_release(&settings);
    *err = (struct error){ 0 };
    bool ok = generation_settings_make(&settings, &model, NULL, &options, err);
    json_decref(options.typed);
    return ok;
}

static void without_config_or_options_it_is_greedy_until_eos(void **state) {
    (void)state;
    struct error err;
    ASSERT_OK(make(NULL, NULL, &err), err);
    assert_true(settings.sampling.greedy);
    assert_true(settings.new_tokens == UINT32_MAX);
    assert_int_equal(settings.num_beams, 1);
    assert_int_equal(settings.num_return_sequences, 1);
    assert_int_equal(settings.eos_count, 2);
    assert_int_equal(settings.eos_ids[1], 9);
}

static void the_config_says_whether_and_how_to_sample(void **state) {
    (void)state;
    struct error err;
    ASSERT_OK(make("{\"do_sample\": true, \"temperature\": 0.25, \"top_p\": 0.5}", NULL, &err), err);
    assert_false(settings.sampling.greedy);
    assert_true(settings.sampling.temperature == 0.25f && settings.sampling.top_p == 0.5f);
    assert_int_equal(settings.sampling.top_k, 50);   /* as transformers fills in */
    ASSERT_OK(make("{\"temperature\": 0.25}", NULL, &err), err);
    assert_true(settings.sampling.greedy);
}

static void what_was_typed_wins(void **state) {
    (void)state;
    struct error err;
    const char *config = "{\"do_sample\": true, \"temperature\": 0.25, \"top_k\": 3, \"max_length\": 50, \"num_beams\": 4}";
    ASSERT_OK(make(config, "{\"temperature\": 2, \"seed\": 11}", &err), err);
    assert_true(settings.sampling.temperature == 2 && settings.sampling.seed == 11);
    assert_int_equal(settings.sampling.top_k, 3);
    assert_int_equal(settings.num_beams, 4);
    assert_int_equal(settings.max_length, 50);
    ASSERT_OK(make(config, "{\"greedy\": true, \"max_new_tokens\": 7, \"num_beams\": 1}", &err), err);
    assert_true(settings.sampling.greedy);
    assert_int_equal(settings.max_length, 0);
    assert_int_equal(settings.new_tokens, 7);
    assert_int_equal(settings.num_beams, 1);
}

static void a_sampling_option_alone_switches_sampling_on(void **state) {
    (void)state;
    struct error err;
    static const char *const keys[] = { "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "temperature" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char typed[64];
        snprintf(typed, sizeof typed, "{\"%s\": 0.5}", keys[i]);
        ASSERT_OK(make(NULL, typed, &err), err);
        assert_false(settings.sampling.greedy);
    }
    ASSERT_OK(make(NULL, "{\"top_p\": 0.9, \"temperature\": 0}", &err), err);
    assert_true(settings.sampling.greedy);
    ASSERT_OK(make(NULL, "{\"do_sample\": true}", &err), err);
    assert_false(settings.sampling.greedy);
}

static void end_tokens_can_be_replaced_or_ignored(void **state) {
    (void)state;
    struct model model = model_with(NULL);
    struct run_options options = { .eos = "5, 5,6" };
    struct error err = { 0 };
    ASSERT_OK(generation_settings_make(&settings, &model, NULL, &options, &err), err);
    assert_int_equal(settings.eos_count, 2);
    assert_int_equal(settings.eos_ids[0], 5);
    options.eos = NULL;
    options.ignore_eos = true;
    ASSERT_OK(generation_settings_make(&settings, &model, NULL, &options, &err), err);
    assert_int_equal(settings.eos_count, 0);
    ASSERT_OK(make("{\"eos_token_id\": 3}", "{\"eos_token_id\": [4, 8, 4]}", &err), err);
    assert_int_equal(settings.eos_count, 2);
    assert_int_equal(settings.eos_ids[1], 8);
}

static void lists_of_tokens_and_strings_are_kept(void **state) {
    (void)state;
    struct error err;
    ASSERT_OK(make("{\"bad_words_ids\": [[1, 2], [7]], \"suppress_tokens\": [5]}",
                   "{\"sequence_bias\": [[[3, 4], 1.5]], \"logit_bias\": {\"6\": -2}, \"stop\": \"x\"}", &err), err);
    assert_int_equal(settings.bans.count, 2);   /* [7] is an end token */
    assert_int_equal(settings.bans.rules[0].count, 2);
    assert_int_equal(settings.bans.rules[1].ids[0], 5);
    assert_int_equal(settings.biases.count, 2);
    assert_true(settings.biases.rules[0].bias == 1.5f && settings.biases.rules[1].bias == -2);
    assert_int_equal(settings.biases.rules[1].ids[0], 6);
    assert_int_equal(settings.stop_count, 1);
    ASSERT_OK(make(NULL, "{\"stop_strings\": [\"a\", \"b\"]}", &err), err);
    assert_string_equal(settings.stop_strings[1], "b");
}

/* As llama.cpp's users do it, to go on after an end token; bad words leave end tokens alone. */
static void a_typed_bias_can_ban_an_end_token(void **state) {
    (void)state;
    struct error err = { 0 };
    struct run_options options;
    char *argv[] = { (char *)(uintptr_t)"phirun", (char *)(uintptr_t)"m", (char *)(uintptr_t)"--logit-bias",
                     (char *)(uintptr_t)"7-inf", NULL };
    struct model model = model_with(NULL);
    ASSERT_OK(run_options_parse(&options, 4, argv, &err), err);
    generation_settings_release(&settings);
    ASSERT_OK(generation_settings_make(&settings, &model, NULL, &options, &err), err);
    run_options_release(&options);
    assert_int_equal(settings.eos_ids[0], 7);
    assert_int_equal(settings.biases.count, 1);
    assert_int_equal(settings.biases.rules[0].ids[0], 7);
    assert_true(settings.biases.rules[0].bias == -INFINITY);
}

static void the_effective_settings_are_told(void **state) {
    (void)state;
    struct error err;
    char text[512];
    ASSERT_OK(make(NULL, "{\"temperature\": 0.5, \"seed\": 3, \"typical_p\": 0.25, \"min_new_tokens\": 4}", &err), err);
    generation_settings_text(&settings, text, sizeof text);
    assert_string_equal(text, "temperature 0.5, top-k 50, top-p 1, min-p 0, typical-p 0.25, seed 3, min-new-tokens 4, eos 7 9");
    ASSERT_OK(make(NULL, "{\"num_beams\": 3, \"early_stopping\": \"never\", \"max_time\": 2}", &err), err);
    generation_settings_text(&settings, text, sizeof text);
    assert_string_equal(text, "num-beams 3, early-stopping never, length-penalty 1, max-time 2, eos 7 9");
    generation_settings_text(&settings, text, 9);
    assert_string_equal(text, "num-beam");
}

static void a_config_that_makes_no_sense_is_named(void **state) {
    (void)state;
    static const char *const configs[] = {
        "{\"temperature\": \"hot\"}", "{\"top_p\": 7, \"do_sample\": true}", "[", "{\"num_beams\": 0}",
        "{\"num_beams\": 100000}", "{\"early_stopping\": 3}", "{\"bad_words_ids\": [[]]}",
        "{\"bad_words_ids\": [[-1]]}", "{\"bad_words_ids\": 3}", "{\"sequence_bias\": [[1]]}",
        "{\"logit_bias\": {\"x\": 1}}", "{\"logit_bias\": []}", "{\"stop_strings\": [\"\"]}",
        "{\"stop_strings\": [3]}", "{\"max_time\": -1}", "{\"speculate\": \"x\"}", "{\"bad_words\": [\"x\"]}",
    };
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        struct error err;
        if (make(configs[i], NULL, &err))
            fail_msg("'%s' was accepted", configs[i]);
        assert_non_null(strstr(err.text, "generation_config.json"));
    }
}

static void what_does_not_go_together_is_named(void **state) {
    (void)state;
    struct error err;
    assert_false(make(NULL, "{\"num_return_sequences\": 2}", &err));
    assert_int_equal(err.kind, ERROR_USAGE);
    assert_false(make(NULL, "{\"num_return_sequences\": 3, \"num_beams\": 2}", &err));
    assert_int_equal(err.kind, ERROR_USAGE);
    ASSERT_OK(make(NULL, "{\"num_return_sequences\": 2, \"do_sample\": true}", &err), err);
    assert_int_equal(generation_settings_sequences(&settings), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_config_or_options_it_is_greedy_until_eos),
        cmocka_unit_test(the_config_says_whether_and_how_to_sample),
        cmocka_unit_test(what_was_typed_wins),
        cmocka_unit_test(a_sampling_option_alone_switches_sampling_on),
        cmocka_unit_test(end_tokens_can_be_replaced_or_ignored),
        cmocka_unit_test(lists_of_tokens_and_strings_are_kept),
        cmocka_unit_test(a_typed_bias_can_ban_an_end_token),
        cmocka_unit_test(the_effective_settings_are_told),
        cmocka_unit_test(a_config_that_makes_no_sense_is_named),
        cmocka_unit_test(what_does_not_go_together_is_named),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    generation_settings_release(&settings);
    return failed;
}
