#include "tests/support.h"
#include "tests/support_golden.h"

#include "runtime/rope.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static float *floats(const json_t *array, size_t *count) {
    *count = json_array_size(array);
    float *values = malloc((*count + 1) * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < *count; i++)
        values[i] = (float)json_number_value(json_array_get(array, i));
    return values;
}

static void compare(const float *ours, const json_t *golden) {
    for (size_t i = 0; i < json_array_size(golden); i++) {
        float theirs = (float)json_number_value(json_array_get(golden, i));
        if (fabsf(ours[i] - theirs) > 2.5e-7f * fabsf(theirs))
            fail_msg("frequency %zu: %.9g for %.9g", i, ours[i], theirs);
    }
}

static void longrope_frequencies_equal_transformers(void **state) {
    (void)state;
    struct error err = { 0 };
    struct golden golden;
    const char *path = test_data("models/phi3-tiny-longrope/config.json");
    if (!path || !golden_load(&golden, "goldens/logits/phi3-tiny-longrope.json"))
        SKIP_BECAUSE("no phi3-tiny-longrope");
    json_t *config = json_read_file(path, 1 << 20, &err);
    ASSERT_OK(config, err);
    size_t pairs, long_pairs;
    const json_t *scaling = golden_get(config, "rope_scaling"), *expected = golden_get(golden.root, "rope");
    struct rope_parameters parameters = {
        .scaling = ROPE_LONGROPE, .theta = (float)json_number_value(golden_get(config, "rope_theta")),
        .short_factors = floats(golden_get(scaling, "short_factor"), &pairs),
        .long_factors = floats(golden_get(scaling, "long_factor"), &long_pairs),
        .original_context = 48,
        .attention_factor = (float)json_number_value(golden_get(expected, "attention_scaling")),
    };
    parameters.rotary_dim = 2 * (uint32_t)pairs;
    assert_int_equal(pairs, long_pairs);
    struct rope rope;
    ASSERT_OK(rope_init(&rope, &parameters, &err), err);
    compare(rope.frequencies[0], golden_get(expected, "inv_freq_short"));
    compare(rope.frequencies[1], golden_get(expected, "inv_freq_long"));
    assert_int_equal(rope.original_context, 48);

    /* The table: cos and sin of position times frequency, both times the factor. */
    const int32_t positions[2] = { 0, 37 };
    float *table = malloc(4 * pairs * sizeof *table);
    assert_non_null(table);
    rope_fill(&rope, true, positions, 2, table);
    for (size_t i = 0; i < pairs; i++) {
        assert_true(table[2 * i] == parameters.attention_factor && table[2 * i + 1] == 0.0f);
        float angle = 37.0f * rope.frequencies[1][i];
        assert_true(table[2 * (pairs + i)] == cosf(angle) * parameters.attention_factor);
        assert_true(table[2 * (pairs + i) + 1] == sinf(angle) * parameters.attention_factor);
    }
    free(table);
    rope_release(&rope);
    free(parameters.short_factors);
    free(parameters.long_factors);
    json_decref(config);
    golden_release(&golden);
}

/* The model's description carries llama3 scaling as divisors; here they are made from the
 * formula and the config of the model. */
static void llama3_divisors_give_the_scaled_frequencies(void **state) {
    (void)state;
    struct error err = { 0 };
    struct golden golden;
    const char *path = test_data("models/llama-tiny/config.json");
    if (!path || !golden_load(&golden, "goldens/logits/llama-tiny.json"))
        SKIP_BECAUSE("no llama-tiny");
    json_t *config = json_read_file(path, 1 << 20, &err);
    ASSERT_OK(config, err);
    const json_t *scaling = golden_get(config, "rope_scaling");
    const json_t *expected = golden_get(golden_get(golden.root, "rope"), "inv_freq");
    double theta = json_number_value(golden_get(config, "rope_theta"));
    double factor = json_number_value(golden_get(scaling, "factor"));
    double low = json_number_value(golden_get(scaling, "low_freq_factor"));
    double high = json_number_value(golden_get(scaling, "high_freq_factor"));
    double original = json_number_value(golden_get(scaling, "original_max_position_embeddings"));
    size_t pairs = json_array_size(expected);
    float *divisors = malloc(pairs * sizeof *divisors);
    assert_non_null(divisors);
    for (size_t i = 0; i < pairs; i++) {
        double wavelength = 2 * 3.14159265358979323846 * pow(theta, (double)i / (double)pairs);
        double smooth = (original / wavelength - low) / (high - low);
        divisors[i] = wavelength > original / low ? (float)factor
                    : wavelength < original / high ? 1.0f
                                                   : (float)(1 / ((1 - smooth) / factor + smooth));
    }
    struct rope_parameters parameters = {
        .scaling = ROPE_LLAMA3, .theta = (float)theta, .rotary_dim = 2 * (uint32_t)pairs,
        .short_factors = divisors, .attention_factor = 1,
    };
    struct rope rope;
    ASSERT_OK(rope_init(&rope, &parameters, &err), err);
    compare(rope.frequencies[0], expected);
    compare(rope.frequencies[1], expected);
    assert_int_equal(rope.original_context, 0);
    rope_release(&rope);
    free(divisors);
    json_decref(config);
    golden_release(&golden);
}

static void plain_and_linear_frequencies_follow_theta(void **state) {
    (void)state;
    struct error err = { 0 };
    float divisors[2] = { 4, 4 };
    struct rope_parameters parameters = { .scaling = ROPE_PLAIN, .theta = 10000, .rotary_dim = 4,
                                          .attention_factor = 1 };
    struct rope rope;
    ASSERT_OK(rope_init(&rope, &parameters, &err), err);
    assert_true(rope.frequencies[0][0] == 1.0f && rope.frequencies[0][1] == 0.01f);
    rope_release(&rope);
    parameters.scaling = ROPE_LINEAR;
    parameters.short_factors = divisors;
    ASSERT_OK(rope_init(&rope, &parameters, &err), err);
    assert_true(rope.frequencies[0][0] == 0.25f && rope.frequencies[0][1] == 0.01f / 4);
    rope_release(&rope);
}

static void scaling_without_factors_is_refused(void **state) {
    (void)state;
    struct error err = { 0 };
    struct rope_parameters parameters = { .scaling = ROPE_LONGROPE, .theta = 10000, .rotary_dim = 4 };
    struct rope rope;
    assert_false(rope_init(&rope, &parameters, &err));
    assert_int_equal(err.kind, ERROR_FAILED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(longrope_frequencies_equal_transformers),
        cmocka_unit_test(llama3_divisors_give_the_scaled_frequencies),
        cmocka_unit_test(plain_and_linear_frequencies_follow_theta),
        cmocka_unit_test(scaling_without_factors_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
