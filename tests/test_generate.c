/* generate() against transformers, and every option that the sampler does not see. */
#include "tests/support.h"
#include "tests/support_generate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODEL "models/phi3-tiny"
#define NO_MODEL "no PoCL device, or no " MODEL

static const int32_t prompt[] = { 29, 441, 12, 300, 77, 5, 9, 640 };
#define PROMPT prompt, sizeof prompt / sizeof *prompt

static const struct generated *first(const struct writer *writer) {
    return &writer->result.sequences[0];
}

static int32_t *copy_ids(const struct writer *writer, uint32_t *count) {
    *count = first(writer)->count;
    int32_t *ids = malloc((*count + 1) * sizeof *ids);
    assert_non_null(ids);
    memcpy(ids, first(writer)->ids, *count * sizeof *ids);
    return ids;
}

static void assert_same(const struct generated *one, const int32_t *ids, uint32_t count) {
    assert_int_equal(one->count, count);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(one->ids[i], ids[i]);
}

/* greedy_penalty and greedy_eos of every prompt. */
static void check_model(const char *name) {
    static const char *const kinds[] = { "greedy_penalty", "greedy_eos" };
    struct error err = { 0 };
    struct writer writer;
    struct golden golden;
    writer_open_golden(&writer, &golden, name, 1);
    size_t i;
    json_t *entry;
    json_array_foreach(golden_get(golden.root, "prompts"), i, entry) {
        size_t count, expected_count;
        int32_t *ids = golden_ids(golden_get(entry, "ids"), &count);
        for (size_t kind = 0; kind < 2; kind++) {
            json_t *one = golden_get(entry, kinds[kind]), *settings = json_copy(one);
            json_object_set(settings, "eos_token_id", golden_get(one, "eos"));
            int32_t *expected = golden_ids(golden_get(one, "ids"), &expected_count);
            ASSERT_OK(writer_run(&writer, settings, ids, count, &err), err);
            json_decref(settings);
            if (first(&writer)->count != expected_count
                || memcmp(first(&writer)->ids, expected, expected_count * sizeof *expected))
                fail_msg("%s of prompt %zu differs", kinds[kind], i);
            assert_int_equal(first(&writer)->finish, kind ? FINISH_EOS : FINISH_LENGTH);
            free(expected);
        }
        free(ids);
    }
    writer_close(&writer);
    golden_release(&golden);
}

static void phi3_equals_transformers(void **state) { (void)state; check_model("phi3-tiny"); }
static void longrope_equals_transformers(void **state) { (void)state; check_model("phi3-tiny-longrope"); }
static void llama_equals_transformers(void **state) { (void)state; check_model("llama-tiny"); }

static void lengths_are_kept(void **state) {
    (void)state;
    struct writer writer;
    if (!writer_open(&writer, MODEL, 1))
        SKIP_BECAUSE(NO_MODEL);
    struct error err = { 0 };
    char settings[128];
    writer_write(&writer, "{\"max_new_tokens\": 12}", PROMPT);
    assert_int_equal(first(&writer)->count, 12);
    assert_int_equal(first(&writer)->finish, FINISH_LENGTH);
    int32_t third = first(&writer)->ids[2];

    writer_write(&writer, "{\"max_new_tokens\": 100, \"max_length\": 13}", PROMPT);
    assert_int_equal(first(&writer)->count, 100);   /* max_new_tokens wins */
    writer_write(&writer, "{\"max_length\": 13}", PROMPT);
    assert_int_equal(first(&writer)->count, 5);
    writer_write(&writer, "{\"max_new_tokens\": 0}", PROMPT);
    assert_int_equal(first(&writer)->count, 0);

    snprintf(settings, sizeof settings, "{\"eos_token_id\": %d}", third);
    writer_write(&writer, settings, PROMPT);
    uint32_t end = first(&writer)->count;
    assert_true(end <= 3);
    assert_int_equal(first(&writer)->finish, FINISH_EOS);
    snprintf(settings, sizeof settings, "{\"eos_token_id\": %d, \"min_new_tokens\": 10}", third);
    writer_write(&writer, settings, PROMPT);
    assert_true(first(&writer)->count >= 10);
    snprintf(settings, sizeof settings, "{\"eos_token_id\": %d, \"min_length\": 17}", third);
    writer_write(&writer, settings, PROMPT);
    assert_true(first(&writer)->count >= 9);

    json_t *object = json_pack("{s:i}", "max_length", 8);
    assert_false(writer_run(&writer, object, PROMPT, &err));
    assert_int_equal(err.kind, ERROR_USAGE);
    json_decref(object);
    writer_close(&writer);
}

static void time_runs_out(void **state) {
    (void)state;
    struct writer writer;
    if (!writer_open(&writer, MODEL, 3))
        SKIP_BECAUSE(NO_MODEL);
    writer_write(&writer, "{\"max_time\": 1e-6, \"max_new_tokens\": 300}", PROMPT);
    assert_int_equal(first(&writer)->finish, FINISH_TIME);
    assert_int_equal(first(&writer)->count, 1);
    writer_write(&writer, "{\"max_time\": 1e-6, \"max_new_tokens\": 100, \"num_beams\": 2}", PROMPT);
    assert_int_equal(first(&writer)->finish, FINISH_TIME);
    assert_int_equal(first(&writer)->count, 1);
    writer_write(&writer, "{\"max_time\": 1000, \"max_new_tokens\": 4}", PROMPT);
    assert_int_equal(first(&writer)->finish, FINISH_LENGTH);
    writer_close(&writer);
}

static void words_are_banned_and_favoured(void **state) {
    (void)state;
    struct writer writer;
    if (!writer_open(&writer, MODEL, 1))
        SKIP_BECAUSE(NO_MODEL);
    char settings[128];
    writer_write(&writer, "{}", PROMPT);
    int32_t one = first(&writer)->ids[0], two = first(&writer)->ids[1];
    snprintf(settings, sizeof settings, "{\"bad_words_ids\": [[%d, %d]]}", one, two);
    writer_write(&writer, settings, PROMPT);
    assert_int_equal(first(&writer)->ids[0], one);
    assert_int_not_equal(first(&writer)->ids[1], two);
    snprintf(settings, sizeof settings, "{\"suppress_tokens\": [%d]}", one);
    writer_write(&writer, settings, PROMPT);
    assert_int_not_equal(first(&writer)->ids[0], one);
    writer_write(&writer, "{\"logit_bias\": {\"17\": 100}}", PROMPT);
    assert_int_equal(first(&writer)->ids[0], 17);
    assert_int_equal(first(&writer)->ids[19], 17);

    /* a word's own spelling, and the one after a space */
    writer_write(&writer, "{\"logit_bias\": {\"17\": 100}, \"max_new_tokens\": 2}", PROMPT);
    json_t *object = json_pack("{s:{s:i, s:i}, s:[s]}", "logit_bias", "441", 200, "17", 100, "bad_words",
                               tokenizer_piece(writer.tokenizer, 441));
    assert_non_null(object);
    struct error err = { 0 };
    ASSERT_OK(writer_run(&writer, object, PROMPT, &err), err);
    json_decref(object);
    assert_true(writer.settings.bans.count >= 1);
    writer_close(&writer);
}

static void a_stop_string_ends_the_text_before_it(void **state) {
    (void)state;
    struct writer writer;
    if (!writer_open(&writer, MODEL, 3))
        SKIP_BECAUSE(NO_MODEL);
    if (!writer.tokenizer)
        SKIP_BECAUSE(MODEL " has no tokenizer");
    writer_write(&writer, "{}", PROMPT);
    char *text = strdup(first(&writer)->text.bytes), *stop = NULL;
    uint32_t whole = first(&writer)->count;
    /* Three ASCII bytes from the middle of the text, which stand there first. */
    for (char *at = text + strlen(text) / 3; at[0] && at[1] && at[2] && !stop; at++)
        if (at[0] > ' ' && at[1] > ' ' && at[2] > ' ')
            stop = at;
    assert_non_null(stop);
    char three[4] = { stop[0], stop[1], stop[2] };
    char *found = strstr(text, three);
    json_t *settings = json_pack("{s:[s]}", "stop_strings", three);
    struct error err = { 0 };
    ASSERT_OK(writer_run(&writer, settings, PROMPT, &err), err);
    assert_int_equal(first(&writer)->finish, FINISH_STOP);
    assert_true(first(&writer)->count < whole);
    assert_int_equal(first(&writer)->text.length, (size_t)(found - text));
    assert_memory_equal(first(&writer)->text.bytes, text, (size_t)(found - text));

    json_object_set_new(settings, "keep_stop", json_true());
    ASSERT_OK(writer_run(&writer, settings, PROMPT, &err), err);
    assert_true(first(&writer)->text.length >= (size_t)(found - text) + 3);
    assert_memory_equal(first(&writer)->text.bytes, text, (size_t)(found - text) + 3);

    /* Every beam that ends, ends at the string or at the length. */
    json_object_set_new(settings, "num_beams", json_integer(2));
    json_object_set_new(settings, "num_return_sequences", json_integer(2));
    ASSERT_OK(writer_run(&writer, settings, PROMPT, &err), err);
    for (uint32_t i = 0; i < writer.result.sequence_count; i++) {
        const struct generated *beam = &writer.result.sequences[i];
        assert_int_equal(beam->finish, strstr(beam->text.bytes, three) ? FINISH_STOP : FINISH_LENGTH);
    }
    json_decref(settings);
    free(text);
    writer_close(&writer);
}

static void several_samples_are_those_of_their_seeds(void **state) {
    (void)state;
    struct writer writer;
    uint32_t counts[3];
    int32_t *alone[3];
    if (!writer_open(&writer, MODEL, 3))
        SKIP_BECAUSE(NO_MODEL);
    for (int i = 0; i < 3; i++) {
        char settings[96];
        snprintf(settings, sizeof settings, "{\"temperature\": 1.5, \"top_k\": 0, \"seed\": %d, \"eos_token_id\": 70}", 5 + i);
        writer_write(&writer, settings, PROMPT);
        alone[i] = copy_ids(&writer, &counts[i]);
    }
    assert_true(memcmp(alone[0], alone[1], 5 * sizeof *alone[0]) != 0);
    writer_write(&writer, "{\"temperature\": 1.5, \"top_k\": 0, \"seed\": 5, \"eos_token_id\": 70, \"num_return_sequences\": 3}", PROMPT);
    assert_int_equal(writer.result.sequence_count, 3);
    for (int i = 0; i < 3; i++) {
        assert_same(&writer.result.sequences[i], alone[i], counts[i]);
        free(alone[i]);
    }
    writer_close(&writer);
}

/* Without a limit to what is kept, sampling from beams draws different ones with other seeds. */
static void beams_can_be_sampled(void **state) {
    (void)state;
    struct writer writer;
    if (!writer_open(&writer, MODEL, 4))
        SKIP_BECAUSE(NO_MODEL);
    uint32_t count, same;
    writer_write(&writer, "{\"num_beams\": 3, \"temperature\": 2.0, \"top_k\": 0, \"seed\": 1}", PROMPT);
    int32_t *ids = copy_ids(&writer, &count);
    writer_write(&writer, "{\"num_beams\": 3, \"temperature\": 2.0, \"top_k\": 0, \"seed\": 1}", PROMPT);
    assert_same(first(&writer), ids, count);
    writer_write(&writer, "{\"num_beams\": 3, \"temperature\": 2.0, \"top_k\": 0, \"seed\": 2}", PROMPT);
    for (same = 0; same < count && ids[same] == first(&writer)->ids[same]; same++)
        ;
    assert_true(same < count);
    free(ids);
    writer_close(&writer);
}

/* A sampled and a greedy text, one by one and with guesses, over a longrope crossing too. */
static void guesses_change_nothing(const char *model) {
    static const char *const settings[] = {
        "{\"max_new_tokens\": 90%s}", "{\"max_new_tokens\": 90, \"temperature\": 0.3, \"top_k\": 3, \"seed\": 4%s}",
        "{\"max_new_tokens\": 60, \"repetition_penalty\": 0.5%s}",
        /* 17 18 19 and again, until 60 tokens are there: what follows can always be guessed */
        "{\"max_new_tokens\": 60, \"sequence_bias\": [[[17], 50], [[17, 18], 99], [[18, 19], 99]]%s}",
    };
    struct writer writer;
    if (!writer_open(&writer, model, 1))
        SKIP_BECAUSE("no PoCL device, or no %s", model);
    uint32_t guessed = 0, accepted = 0;
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        char text[192];
        uint32_t count;
        snprintf(text, sizeof text, settings[i], "");
        writer_write(&writer, text, PROMPT);
        int32_t *ids = copy_ids(&writer, &count);
        snprintf(text, sizeof text, settings[i], ", \"speculate\": \"ngram\"");
        writer_write(&writer, text, PROMPT);
        assert_same(first(&writer), ids, count);
        guessed += writer.result.guessed;
        accepted += writer.result.accepted;
        free(ids);
    }
    print_message("# %s: %u of %u guesses were right\n", model, accepted, guessed);
    assert_true(guessed > 0 && accepted > 0);
    writer_close(&writer);
}

static void guesses_change_no_text(void **state) { (void)state; guesses_change_nothing(MODEL); }
static void guesses_change_no_text_across_a_crossing(void **state) {
    (void)state;
    guesses_change_nothing("models/phi3-tiny-longrope");
}

static void what_does_not_fit_is_refused_with_a_context(void **state) {
    (void)state;
    struct writer writer;
    struct error err = { 0 };
    if (!writer_open(&writer, MODEL, 5))
        SKIP_BECAUSE(NO_MODEL);
    /* Five sequences of four pages fit the 512 tokens that the model was made for, of seven they do not. */
    static const struct { int new_tokens; const char *advice; } cases[] = {
        { 100, "; plan again: phiplan " }, { 100, " --ctx 512" },
        { 200, "; the model was made for 512 tokens, which no plan exceeds: ask for fewer tokens or sequences" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *settings = json_pack("{s:i, s:i}", "num_beams", 4, "max_new_tokens", cases[i].new_tokens);
        assert_false(writer_run(&writer, settings, PROMPT, &err));
        assert_int_equal(err.kind, ERROR_USAGE);
        assert_non_null(strstr(err.text, cases[i].advice));
        json_decref(settings);
    }
    /* Without a number of tokens they end where the context does. */
    writer_write(&writer, "{\"num_return_sequences\": 4, \"do_sample\": true, \"max_new_tokens\": 4294967295}", PROMPT);
    for (int i = 0; i < 4; i++)
        assert_int_equal(writer.result.sequences[i].count, writer.result.sequences[0].count);
    assert_true(first(&writer)->count >= 85 && first(&writer)->count <= 130);
    writer_close(&writer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(phi3_equals_transformers),
        cmocka_unit_test(longrope_equals_transformers),
        cmocka_unit_test(llama_equals_transformers),
        cmocka_unit_test(lengths_are_kept),
        cmocka_unit_test(time_runs_out),
        cmocka_unit_test(words_are_banned_and_favoured),
        cmocka_unit_test(a_stop_string_ends_the_text_before_it),
        cmocka_unit_test(several_samples_are_those_of_their_seeds),
        cmocka_unit_test(beams_can_be_sampled),
        cmocka_unit_test(guesses_change_no_text),
        cmocka_unit_test(guesses_change_no_text_across_a_crossing),
        cmocka_unit_test(what_does_not_fit_is_refused_with_a_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
