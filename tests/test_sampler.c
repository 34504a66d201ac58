#include "tests/support.h"
#include "tests/support_golden.h"

#include "runtime/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct sampler *make(struct sampler_settings settings, uint32_t vocab) {
    struct error err = { 0 };
    struct sampler *sampler = sampler_new(&settings, vocab, &err);
    ASSERT_OK(sampler != NULL, err);
    return sampler;
}

static struct sampler_settings sampling(void) {
    struct sampler_settings settings = sampler_defaults();
    settings.greedy = false;
    return settings;
}

static void probabilities_equal_those_of_transformers(void **state) {
    (void)state;
    struct golden golden;
    if (!golden_load(&golden, "goldens/sampling/sampling.json"))
        SKIP_BECAUSE("no goldens/sampling/sampling.json");
    size_t index, checked = 0;
    float largest_error = 0;
    json_t *entry;
    json_array_foreach(golden_get(golden.root, "cases"), index, entry) {
        const char *name = json_string_value(golden_get(entry, "name"));
        const json_t *config = golden_get(entry, "config");
        struct sampler_settings settings = sampling();
        settings.temperature = (float)json_number_value(golden_get(config, "temperature"));
        settings.top_k = (uint32_t)json_integer_value(golden_get(config, "top_k"));
        settings.top_p = (float)json_number_value(golden_get(config, "top_p"));
        settings.min_p = (float)json_number_value(json_object_get(config, "min_p"));   /* null: 0 */
        settings.typical_p = (float)json_number_value(golden_get(config, "typical_p"));
        settings.no_repeat_ngram = (uint32_t)json_integer_value(golden_get(config, "no_repeat_ngram_size"));
        settings.repetition_penalty = (float)json_number_value(golden_get(config, "repetition_penalty"));
        size_t vocab, expected_count, history_count;
        const float *logits = golden_floats(&golden, golden_get(entry, "logits"), &vocab);
        const int32_t *expected_ids = golden_ints(&golden, golden_get(entry, "ids"), &expected_count);
        const float *expected = golden_floats(&golden, golden_get(entry, "probs"), NULL);
        int32_t *history = golden_ids(golden_get(entry, "history"), &history_count);
        int32_t *ids = calloc(vocab, sizeof *ids);
        float *probabilities = calloc(vocab, sizeof *probabilities);
        struct sampler *sampler = make(settings, (uint32_t)vocab);
        for (size_t i = 0; i < history_count; i++)
            sampler_accept(sampler, history[i]);

        uint32_t count = sampler_survivors(sampler, logits, ids, probabilities);
        if (count != expected_count)
            fail_msg("%s: %u survivors instead of %zu", name, count, expected_count);
        for (size_t i = 0; i < expected_count; i++) {
            if (ids[i] != expected_ids[i])
                fail_msg("%s: survivor %zu is %d instead of %d", name, i, (int)ids[i], (int)expected_ids[i]);
            float error = fabsf(probabilities[i] - expected[i]);
            if (!(error <= 1e-5f))
                fail_msg("%s: probability of %d is %g instead of %g", name, (int)ids[i],
                         (double)probabilities[i], (double)expected[i]);
            largest_error = fmaxf(largest_error, error);
        }
        int32_t chosen = sampler_choose(sampler, logits);
        bool survived = false;
        for (uint32_t i = 0; i < count; i++)
            survived |= ids[i] == chosen && probabilities[i] > 0;
        assert_true(survived);
        checked++;
        sampler_free(sampler);
        free(probabilities);
        free(ids);
        free(history);
    }
    print_message("# %zu cases, largest error of a probability %.2g\n", checked, (double)largest_error);
    assert_int_equal(checked, json_array_size(golden_get(golden.root, "cases")));
    golden_release(&golden);
}

/* Worked by hand (softmax to six digits): z / .7 after the penalty, five best, .9 of the mass, .05. */
static void the_chain_runs_in_its_order(void **state) {
    (void)state;
    const float logits[] = { 2, 1, .5f, 0, -.5f, -1, -2, -3 };
    struct sampler_settings settings = sampling();
    settings.temperature = .7f;
    settings.top_k = 5;
    settings.top_p = .9f;
    settings.min_p = .05f;
    settings.repetition_penalty = 1.3f;
    struct sampler *sampler = make(settings, 8);
    sampler_accept(sampler, 1);
    sampler_accept(sampler, 4);
    sampler_accept(sampler, 1);
    sampler_accept(sampler, -1);     /* ids that cannot be are ignored */
    sampler_accept(sampler, 8);
    int32_t ids[8];
    float probabilities[8];
    assert_int_equal(sampler_survivors(sampler, logits, ids, probabilities), 3);
    assert_true(ids[0] == 0 && ids[1] == 1 && ids[2] == 2);
    assert_float_equal(probabilities[0], .775394f, 1e-5f);
    assert_float_equal(probabilities[1], .133637f, 1e-5f);
    assert_float_equal(probabilities[2], .090969f, 1e-5f);
    assert_true(logits[1] == 1);
    sampler_free(sampler);
}

static void greedy_takes_the_lowest_id_of_the_best(void **state) {
    (void)state;
    const float logits[] = { -INFINITY, 3, 5, 5, 4.9f };
    struct sampler_settings settings = sampler_defaults();
    struct sampler *sampler = make(settings, 5);
    assert_int_equal(sampler_choose(sampler, logits), 2);
    sampler_free(sampler);
    settings.greedy = false;
    settings.temperature = 0;
    sampler = make(settings, 5);
    assert_int_equal(sampler_choose(sampler, logits), 2);
    sampler_free(sampler);
    settings.temperature = 1e-40f;   /* the scores overflow */
    sampler = make(settings, 5);
    assert_int_equal(sampler_choose(sampler, logits), 2);
    sampler_free(sampler);
    settings = sampler_defaults();
    settings.repetition_penalty = 1.5f;
    sampler = make(settings, 5);
    sampler_accept(sampler, 2);
    assert_int_equal(sampler_choose(sampler, logits), 3);
    sampler_accept(sampler, 3);
    assert_int_equal(sampler_choose(sampler, logits), 4);
    sampler_free(sampler);
}

/* How many of eight tokens are left, after a history of 1, 4, 1. */
static uint32_t left(struct sampler_settings settings, int32_t ids[8]) {
    const float logits[] = { 2, 1, .5f, 0, -.5f, -1, -2, -3 };
    struct sampler *sampler = make(settings, 8);
    sampler_accept(sampler, 1);
    sampler_accept(sampler, 4);
    sampler_accept(sampler, 1);
    float probabilities[8];
    uint32_t count = sampler_survivors(sampler, logits, ids, probabilities);
    sampler_free(sampler);
    return count;
}

/* Survivors as transformers gives them for these eight scores. */
static void each_cut_leaves_what_it_leaves_in_transformers(void **state) {
    (void)state;
    int32_t ids[8];
    static const struct { float typical_p, epsilon, eta; uint32_t count; int32_t first; } cases[] = {
        { 1, 0, 0, 8, 0 }, { .2f, 0, 0, 2, 1 }, { .5f, 0, 0, 3, 0 }, { .9f, 0, 0, 4, 0 },
        { 1, .05f, 0, 4, 0 }, { 1, 0, .2f, 3, 0 }, { 1, .99f, 0, 1, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sampler_settings settings = sampling();
        settings.typical_p = cases[i].typical_p;
        settings.epsilon_cutoff = cases[i].epsilon;
        settings.eta_cutoff = cases[i].eta;
        uint32_t count = left(settings, ids);
        if (count != cases[i].count || ids[0] != cases[i].first)
            fail_msg("case %zu: %u are left, the first is %d", i, count, (int)ids[0]);
    }
}

static void a_least_number_of_tokens_stays(void **state) {
    (void)state;
    int32_t ids[8];
    for (int cut = 0; cut < 6; cut++) {
        struct sampler_settings settings = sampling();
        settings.keep_least = 3;
        settings.top_k = cut == 0 ? 1 : 0;
        settings.top_p = cut == 1 ? 0 : 1;
        settings.min_p = cut == 2 ? 1 : 0;
        settings.typical_p = cut == 3 ? .01f : 1;
        settings.epsilon_cutoff = cut == 4 ? .99f : 0;
        settings.eta_cutoff = cut == 5 ? .99f : 0;
        assert_int_equal(left(settings, ids), 3);
    }
}

static void repeats_bans_and_biases_act_on_greedy_too(void **state) {
    (void)state;
    const float logits[] = { 0, 5, 4, 3, 2 };
    int32_t after_one[] = { 1, 2 }, alone[] = { 3 }, end[] = { 1 };
    struct token_rule ban = { after_one, 2, -INFINITY }, bias = { alone, 1, 1.5f };
    struct sampler_settings settings = sampler_defaults();
    struct sampler *sampler = make(settings, 5);
    assert_int_equal(sampler_choose(sampler, logits), 1);
    sampler_free(sampler);

    settings.no_repeat_ngram = 2;
    sampler = make(settings, 5);
    sampler_prompt(sampler, (const int32_t[]){ 4, 1, 4 }, 3);   /* 4 1 was there */
    assert_int_equal(sampler_choose(sampler, logits), 2);
    sampler_free(sampler);

    settings = sampler_defaults();
    settings.bans = &ban;
    settings.ban_count = 1;
    settings.bias_count = 1;
    settings.biases = &bias;
    sampler = make(settings, 5);
    assert_int_equal(sampler_choose(sampler, (const float[]){ 0, 0, 4, 3, 0 }), 3);   /* 3 + 1.5 */
    assert_int_equal(sampler_choose(sampler, (const float[]){ 0, 0, 5, 3, 0 }), 2);
    sampler_accept(sampler, 1);
    assert_int_equal(sampler_choose(sampler, (const float[]){ 0, 0, 5, 3, 0 }), 3);   /* 1 2 is banned */
    sampler_free(sampler);

    settings = sampler_defaults();
    settings.eos_ids = end;
    settings.eos_count = 1;
    settings.min_new_tokens = 2;
    sampler = make(settings, 5);
    sampler_prompt(sampler, (const int32_t[]){ 4, 4, 4, 4 }, 4);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sampler_choose(sampler, logits), i < 2 ? 2 : 1);
        sampler_accept(sampler, 2);
    }
    sampler_free(sampler);
}

static void nothing_is_chosen_where_nothing_is_left(void **state) {
    (void)state;
    float logits[4] = { 1, NAN, 2, 3 };
    for (int greedy = 0; greedy < 2; greedy++) {
        struct sampler_settings settings = sampler_defaults();
        settings.greedy = greedy;
        struct sampler *sampler = make(settings, 4);
        logits[1] = NAN;
        logits[3] = 3;
        assert_int_equal(sampler_choose(sampler, logits), -1);
        logits[1] = 0;
        assert_true(sampler_choose(sampler, logits) >= 0);
        logits[3] = INFINITY;
        assert_int_equal(sampler_choose(sampler, logits), greedy ? 3 : -1);
        const float none[4] = { -INFINITY, -INFINITY, -INFINITY, -INFINITY };
        assert_int_equal(sampler_choose(sampler, none), -1);
        sampler_free(sampler);
    }
}

static void a_seed_fixes_the_tokens_and_shares_come_out_right(void **state) {
    (void)state;
    const float logits[] = { 0, 1, 2, -INFINITY, 3, -200 };
    enum { DRAWS = 200000 };
    struct sampler_settings settings = sampling();
    settings.seed = 42;
    struct sampler *one = make(settings, 6), *two = make(settings, 6);
    settings.seed = 43;
    struct sampler *other = make(settings, 6);
    int counts[6] = { 0 }, same = 0;
    for (int i = 0; i < DRAWS; i++) {
        int32_t id = sampler_choose(one, logits);
        assert_in_range(id, 0, 5);
        counts[id]++;
        assert_int_equal(id, sampler_choose(two, logits));
        same += id == sampler_choose(other, logits);
    }
    double sum = 0;
    for (int i = 0; i < 6; i++)
        sum += exp(logits[i]);
    for (int i = 0; i < 6; i++) {
        double share = exp(logits[i]) / sum, deviation = sqrt(share * (1 - share) / DRAWS);
        if (fabs(counts[i] / (double)DRAWS - share) > 4.5 * deviation)
            fail_msg("token %d came %d times in %d, expected share %g", i, counts[i], (int)DRAWS, share);
    }
    assert_int_equal(counts[3], 0);
    assert_true(same < DRAWS * 0.6);   /* independent draws agree in 49.7 % */
    sampler_free(one);
    sampler_free(two);
    sampler_free(other);
}

static void settings_that_make_no_sense_are_named(void **state) {
    (void)state;
    struct sampler_settings good = sampling(), bad;
    struct error err = { 0 };
    ASSERT_OK(sampler_check(&good, &err), err);
    bad = good, bad.temperature = -1;
    assert_false(sampler_check(&bad, &err));
    assert_int_equal(err.kind, ERROR_USAGE);
    assert_non_null(strstr(err.text, "temperature '-1'"));
    bad = good, bad.temperature = NAN;
    assert_false(sampler_check(&bad, &err));
    bad = good, bad.top_p = 1.5f;
    assert_false(sampler_check(&bad, &err));
    assert_non_null(strstr(err.text, "top-p '1.5'"));
    bad = good, bad.min_p = -.5f;
    assert_false(sampler_check(&bad, &err));
    bad = good, bad.repetition_penalty = 0;
    assert_null(sampler_new(&bad, 10, &err));
    assert_non_null(strstr(err.text, "repetition penalty '0'"));
    assert_null(sampler_new(&good, 0, &err));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(probabilities_equal_those_of_transformers),
        cmocka_unit_test(the_chain_runs_in_its_order),
        cmocka_unit_test(greedy_takes_the_lowest_id_of_the_best),
        cmocka_unit_test(each_cut_leaves_what_it_leaves_in_transformers),
        cmocka_unit_test(a_least_number_of_tokens_stays),
        cmocka_unit_test(repeats_bans_and_biases_act_on_greedy_too),
        cmocka_unit_test(nothing_is_chosen_where_nothing_is_left),
        cmocka_unit_test(a_seed_fixes_the_tokens_and_shares_come_out_right),
        cmocka_unit_test(settings_that_make_no_sense_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
