#include "tests/support.h"

#include "runtime/generation_settings.h"

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

static struct run_options typed(void) {
    return (struct run_options){ .sampling = sampler_defaults() };
}

static void without_config_or_options_it_is_greedy_until_eos(void **state) {
    (void)state;
    struct model model = model_with(NULL);
    struct run_options options = typed();
    struct generation_settings settings;
    struct error err = { 0 };
    ASSERT_OK(generation_settings_make(&settings, &model, NULL, &options, &err), err);
    assert_true(settings.sampling.greedy);
    assert_true(settings.new_tokens == UINT32_MAX);
    assert_int_equal(settings.eos_count, 2);
    assert_int_equal(settings.eos_ids[1], 9);
}

static void the_config_says_whether_and_how_to_sample(void **state) {
    (void)state;
    struct model model = model_with("{\"do_sample\": true, \"temperature\": 0.25, \"top_p\": 0.5}");
    struct run_options options = typed();
    struct generation_settings settings;
    struct error err = { 0 };
    ASSERT_OK(generation_settings_make(&settings, &model, NULL, &options, &err), err);
    assert_false(settings.sampling.greedy);
    assert_true(settings.sampling.temperature == 0.25f && settings.sampling.top_p == 0.5f);
    assert_int_equal(settings.sampling.top_k, 50);   /* as transformers fills in */
}

static void what_was_typed_wins(void **state) {
    (void)state;
    struct model model = model_with("{\"do_sample\": true, \"temperature\": 0.25, \"top_k\": 3}");
    struct run_options options = typed();
    struct generation_settings settings;
    struct error err = { 0 };
    options.given = GIVEN_TEMPERATURE | GIVEN_SEED;
    options.sampling.temperature = 2;
    options.sampling.seed = 11;
    ASSERT_OK(generation_settings_make(&settings, &model, NULL, &options, &err), err);
    assert_true(settings.sampling.temperature == 2 && settings.sampling.seed == 11);
    assert_int_equal(settings.sampling.top_k, 3);
    options.given = GIVEN_GREEDY;
    ASSERT_OK(generation_settings_make(&settings, &model, NULL, &options, &err), err);
    assert_true(settings.sampling.greedy);
}

static void a_sampling_option_alone_switches_sampling_on(void **state) {
    (void)state;
    struct model model = model_with(NULL);
    struct run_options options = typed();
    struct generation_settings settings;
    struct error err = { 0 };
    options.given = GIVEN_TOP_P;
    options.sampling.top_p = 0.9f;
    ASSERT_OK(generation_settings_make(&settings, &model, NULL, &options, &err), err);
    assert_false(settings.sampling.greedy);
    options.given |= GIVEN_TEMPERATURE;
    options.sampling.temperature = 0;
    ASSERT_OK(generation_settings_make(&settings, &model, NULL, &options, &err), err);
    assert_true(settings.sampling.greedy);
}

static void end_tokens_can_be_replaced_or_ignored(void **state) {
    (void)state;
    struct model model = model_with(NULL);
    struct run_options options = typed();
    struct generation_settings settings;
    struct error err = { 0 };
    options.eos = "5, 5,6";
    ASSERT_OK(generation_settings_make(&settings, &model, NULL, &options, &err), err);
    assert_int_equal(settings.eos_count, 2);
    assert_int_equal(settings.eos_ids[0], 5);
    options.eos = NULL;
    options.ignore_eos = true;
    ASSERT_OK(generation_settings_make(&settings, &model, NULL, &options, &err), err);
    assert_int_equal(settings.eos_count, 0);
}

static void a_config_that_makes_no_sense_is_named(void **state) {
    (void)state;
    static const char *const configs[] = { "{\"temperature\": \"hot\"}", "{\"top_p\": 7, \"do_sample\": true}", "[", };
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        struct model model = model_with(configs[i]);
        struct run_options options = typed();
        struct generation_settings settings;
        struct error err = { 0 };
        if (generation_settings_make(&settings, &model, NULL, &options, &err))
            fail_msg("'%s' was accepted", configs[i]);
        assert_non_null(strstr(err.text, "generation_config.json"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_config_or_options_it_is_greedy_until_eos),
        cmocka_unit_test(the_config_says_whether_and_how_to_sample),
        cmocka_unit_test(what_was_typed_wins),
        cmocka_unit_test(a_sampling_option_alone_switches_sampling_on),
        cmocka_unit_test(end_tokens_can_be_replaced_or_ignored),
        cmocka_unit_test(a_config_that_makes_no_sense_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
