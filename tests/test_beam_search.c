/* Beam search against transformers: the same sequences, the same scores. */
#include "tests/support.h"
#include "tests/support_generate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void check_sequences(const struct writer *writer, const json_t *expected, const json_t *scores, const char *name,
                            size_t number, int32_t padding) {
    size_t i;
    json_t *ids;
    assert_int_equal(writer->result.sequence_count, json_array_size(expected));
    json_array_foreach(expected, i, ids) {
        size_t count;
        int32_t *tokens = golden_ids(ids, &count);
        const struct generated *ours = &writer->result.sequences[i];
        while (padding >= 0 && count > 1 && tokens[count - 1] == padding && tokens[count - 2] == padding)
            count--;
        for (size_t j = 0; j < count || j < ours->count; j++)
            if (j >= ours->count || j >= count || ours->ids[j] != tokens[j])
                fail_msg("prompt %s, search %zu: token %zu of sequence %zu (%u of %zu tokens)", name, number, j, i,
                         ours->count, count);
        double score = json_number_value(json_array_get(scores, i));
        if (!ours->has_score || !(fabs((double)ours->score - score) <= 1e-4))
            fail_msg("prompt %s, search %zu: score %zu is %.6f for %.6f", name, number, i, (double)ours->score, score);
        free(tokens);
    }
}

static json_t *settings_of(const json_t *search, const char *eos) {
    json_t *settings = json_object();
    static const char *const keys[] = { "num_beams", "num_return_sequences", "max_new_tokens", "early_stopping",
                                        "length_penalty" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        json_object_set(settings, keys[i], json_object_get(search, keys[i]));
    json_object_set(settings, "eos_token_id", json_object_get(search, eos));
    return settings;
}

/* The searches of the first `prompt_count` prompts. */
static void check_model(const char *name, size_t prompt_count) {
    struct error err = { 0 };
    struct writer writer;
    struct golden golden;
    writer_open_golden(&writer, &golden, name, 5);
    size_t i, j, searches = 0;
    json_t *prompt, *search;
    json_array_foreach(golden_get(golden.root, "prompts"), i, prompt) {
        size_t count;
        int32_t *ids = golden_ids(golden_get(prompt, "ids"), &count);
        json_array_foreach(json_object_get(prompt, "beams"), j, search) {
            if (i >= prompt_count || !json_is_true(golden_get(search, "stable")))
                continue;
            json_t *settings = settings_of(search, "eos");
            ASSERT_OK(writer_run(&writer, settings, ids, count, &err), err);
            json_decref(settings);
            check_sequences(&writer, golden_get(search, "sequences"), golden_get(search, "scores"),
                            json_string_value(golden_get(prompt, "name")), j, -1);
            searches++;
        }
        free(ids);
    }
    print_message("# %s: %zu searches\n", name, searches);
    assert_true(searches > 0);
    writer_close(&writer);
    golden_release(&golden);
}

/* All prompts of longrope, which lie around a crossing. The others differ in
 * their forward pass, which other tests look at. */
static void phi3(void **state) { (void)state; check_model("phi3-tiny", 3); }
static void longrope(void **state) { (void)state; check_model("phi3-tiny-longrope", 99); }
static void window(void **state) { (void)state; check_model("phi3-tiny-swa", 3); }
static void phi4mini(void **state) { (void)state; check_model("phi4mini-tiny", 3); }
static void llama(void **state) { (void)state; check_model("llama-tiny", 3); }
static void mistral(void **state) { (void)state; check_model("mistral-tiny", 3); }
static void qwen2(void **state) { (void)state; check_model("qwen2-tiny", 3); }
static void qwen3(void **state) { (void)state; check_model("qwen3-tiny", 3); }
static void quantizable(void **state) { (void)state; check_model("quantizable-tiny", 3); }

static void a_real_model_answers_as_in_transformers(void **state) {
    (void)state;
    struct error err = { 0 };
    struct writer writer;
    struct golden golden;
    if (!golden_load(&golden, "goldens/real/phi3-smollm2.json"))
        SKIP_BECAUSE("no goldens/real/phi3-smollm2.json");
    if (!writer_open(&writer, "build/models/phi3-smollm2", 5))
        SKIP_BECAUSE("no PoCL device, or no build/models/phi3-smollm2 (make check)");
    json_t *cases = golden_get(golden.root, "cases");
    for (size_t i = 0; i < 2; i++) {
        const json_t *one = json_array_get(cases, i), *search = golden_get(one, "beam4");
        size_t count;
        int32_t *ids = golden_ids(golden_get(one, "ids"), &count);
        json_t *settings = settings_of(search, "eos");
        json_object_set_new(settings, "eos_token_id", json_integer(2));
        json_object_set_new(settings, "num_return_sequences", json_integer(4));
        ASSERT_OK(writer_run(&writer, settings, ids, count, &err), err);
        json_decref(settings);
        check_sequences(&writer, golden_get(search, "sequences"), golden_get(search, "scores"),
                        json_string_value(golden_get(one, "name")), 0, 2);
        assert_string_equal(writer.result.sequences[0].text.bytes,
                            json_string_value(golden_get(search, "text0")));
        free(ids);
    }
    writer_close(&writer);
    golden_release(&golden);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(phi3), cmocka_unit_test(longrope), cmocka_unit_test(window), cmocka_unit_test(phi4mini),
        cmocka_unit_test(llama), cmocka_unit_test(mistral), cmocka_unit_test(qwen2), cmocka_unit_test(qwen3),
        cmocka_unit_test(quantizable), cmocka_unit_test(a_real_model_answers_as_in_transformers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
