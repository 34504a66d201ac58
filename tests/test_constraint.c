/* What a grammar allows of real vocabularies, and whole texts that models write under it. */
#include "tests/support.h"
#include "tests/support_generate.h"

#include "runtime/constraint.h"
#include "runtime/grammar_automaton.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODEL "models/phi3-tiny"
#define NO_MODEL "no PoCL device, or no " MODEL

/* Every text ends after some 40 characters at most. */
static const char small[] =
    "root ::= \"[\" item (\", \" item){0,2} \"]\"\n"
    "item ::= \"\\\"\" [^\"\\\\\\x00-\\x1f]{0,6} \"\\\"\" | \"-\"? [0-9]{1,4} | \"é\" [à-üα-ω🦙]{1,2} \"!\" | \" \" (\"yes\" | \"no\")\n";

/* Longer than any token in one way, shorter than some in another. */
static const char counted[] = "root ::= \"\\\"\" [^\"\\\\\\x00-\\x1f]{20,40} \"\\\"\" | [a-z ]{5,30} [a-zé]{2}";

static bool accepts(const char *grammar, const struct text *text) {
    struct error err = { 0 };
    struct grammar *parsed = grammar_parse(grammar, strlen(grammar), "the test", &err);
    ASSERT_OK(parsed, err);
    struct automaton *automaton = automaton_new(parsed, (size_t)64 << 20, &err);
    ASSERT_OK(automaton, err);
    automaton_allow(automaton, 1u << 24);
    uint32_t state = automaton_read(automaton, automaton->start, text->bytes, text->length);
    assert_int_not_equal(state, AUTOMATON_FAILED);
    bool is_whole = automaton_can_end(automaton, state);
    automaton_free(automaton);
    grammar_free(parsed);
    return is_whole;
}

static uint32_t next_random(uint64_t *random) {
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*random >> 33);
}

/* One random text of the grammar, token by token; each bit of each mask against the token's
 * bytes on their own. */
static void walk(const struct tokenizer *tokenizer, struct constraint *constraint, const char *grammar,
                 uint32_t vocab, uint64_t seed, bool starts_bare) {
    struct error err = { 0 };
    int32_t prompt = 5, ids[256], end = 2;
    uint32_t count = 0, state = constraint_start(constraint);
    uint64_t random = seed;
    struct token_stream *stream = token_stream_new(tokenizer, &prompt, starts_bare ? 0 : 1);
    struct text text;
    text_init(&text);
    assert_non_null(stream);
    bool drops_space = token_stream_at_start(stream);
    while (!constraint_is_complete(constraint, state)) {
        const uint32_t *allowed = constraint_allowed(constraint, state, drops_space && !count, &end, 1, &err);
        ASSERT_OK(allowed, err);
        uint32_t left = 0, bits = 0;
        for (uint32_t id = 0; id < vocab; id++) {
            bool is_allowed = allowed[id / 32] >> id % 32 & 1;
            uint32_t next = state;
            struct text bytes;
            text_init(&bytes);
            assert_true(tokenizer_token_bytes(tokenizer, (int32_t)id, &bytes));
            bool leads_on = constraint_accept(constraint, &next, (int32_t)id, NULL);
            if (drops_space && !count && bytes.length && bytes.bytes[0] == ' ')
                leads_on = false;
            if (is_allowed != (id == 2 ? constraint_can_end(constraint, state) : leads_on))
                fail_msg("token %u ('%s') is %s", id, bytes.bytes, is_allowed ? "allowed" : "forbidden");
            bits += is_allowed;
            text_release(&bytes);
        }
        assert_true(bits > 0);
        left = 1 + next_random(&random) % bits;
        int32_t id = -1;
        while (left) {
            id++;
            left -= allowed[id / 32] >> id % 32 & 1;
        }
        if (id == end)
            break;
        assert_true(count < 256);
        ids[count++] = id;
        ASSERT_OK(constraint_accept(constraint, &state, id, &err), err);
        ASSERT_OK(token_stream_feed(stream, id, &text, &err), err);
    }
    ASSERT_OK(token_stream_end(stream, &text, &err), err);
    if (!accepts(grammar, &text))
        fail_msg("the text '%s' of %u tokens does not parse", text.bytes, count);
    assert_true(constraint_accepts(constraint, ids, count, &end, 1));
    if (grammar == small)
        assert_false(constraint_accepts(constraint, ids, 1, &end, 1));
    text_release(&text);
    token_stream_free(stream);
}

static void walk_model(const char *model) {
    struct error err = { 0 };
    const char *path = test_data(model);
    struct model_source source;
    struct constraint_store store = { 0 };
    if (!path)
        SKIP_BECAUSE("no %s", model);
    ASSERT_OK(model_source_resolve(&source, path, &err), err);
    struct tokenizer *tokenizer = tokenizer_open(&source, &err);
    ASSERT_OK(tokenizer, err);
    uint32_t vocab = tokenizer_size(tokenizer);
    for (int which = 0; which < 2; which++) {
        const char *grammar = which ? counted : small;
        struct constraint *constraint = constraint_open(&store, grammar, tokenizer, vocab, &err);
        ASSERT_OK(constraint, err);
        for (uint64_t seed = 0; seed < (vocab < 5000 ? 20 : 3); seed++)
            walk(tokenizer, constraint, grammar, vocab, seed, seed % 2);
        assert_ptr_equal(constraint_open(&store, grammar, tokenizer, vocab, &err), constraint);
    }
    constraint_store_release(&store);
    tokenizer_close(tokenizer);
    model_source_release(&source);
}

static void masks_of_byte_fallback_pieces_are_exact(void **state) { (void)state; walk_model("models/phi3-tiny"); }
static void masks_of_byte_level_pieces_are_exact(void **state) { (void)state; walk_model("models/llama-tiny"); }
static void masks_of_a_real_vocabulary_are_exact(void **state) { (void)state; walk_model("models/smollm2-vocab"); }

/* ---- generating ---- */

static const int32_t prompt[] = { 29, 441, 12, 300, 77, 5, 9, 640 };
#define PROMPT prompt, sizeof prompt / sizeof *prompt

static void run(struct writer *writer, const char *grammar, const char *settings) {
    struct error err = { 0 };
    json_t *object = json_read_text(settings, strlen(settings), "the test", &err);
    ASSERT_OK(object, err);
    json_object_set_new(object, "grammar", json_string(grammar));
    ASSERT_OK(writer_run(writer, object, PROMPT, &err), err);
    json_decref(object);
}

static void check_all(const struct writer *writer, const char *grammar) {
    for (uint32_t i = 0; i < writer->result.sequence_count; i++) {
        const struct generated *one = &writer->result.sequences[i];
        if (accepts(grammar, &one->text) == one->is_cut)
            fail_msg("'%s' (%u tokens, %s) is %s", one->text.bytes, one->count, finish_reason_name(one->finish),
                     one->is_cut ? "whole, but called cut" : "not whole");
        if (one->is_cut)
            assert_int_equal(one->finish, FINISH_LENGTH);
    }
}

static void every_text_parses(void **state) {
    (void)state;
    static const char *const settings[] = {
        "{\"max_new_tokens\": 80, \"eos_token_id\": 2}",
        "{\"max_new_tokens\": 80, \"eos_token_id\": 2, \"repetition_penalty\": 1.3, \"speculate\": \"ngram\"}",
        "{\"max_new_tokens\": 80, \"eos_token_id\": 2, \"temperature\": 1.5, \"seed\": %d}",
        "{\"max_new_tokens\": 80, \"eos_token_id\": 2, \"temperature\": 1.5, \"top_p\": 0.9, \"speculate\": \"ngram\", \"seed\": %d}",
        "{\"max_new_tokens\": 80, \"temperature\": 1.5, \"top_k\": 0, \"num_return_sequences\": 3, \"seed\": %d}",
        "{\"max_new_tokens\": 60, \"eos_token_id\": 2, \"num_beams\": 3, \"num_return_sequences\": 3}",
        "{\"max_new_tokens\": 60, \"eos_token_id\": 2, \"num_beams\": 3, \"temperature\": 1.5, \"seed\": %d}",
    };
    struct writer writer;
    if (!writer_open(&writer, MODEL, 4))
        SKIP_BECAUSE(NO_MODEL);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        for (int seed = 1; seed <= 4; seed++) {
            char text[256];
            snprintf(text, sizeof text, settings[i], seed);
            run(&writer, small, text);
            check_all(&writer, small);
            for (uint32_t j = 0; j < writer.result.sequence_count; j++)
                assert_int_equal(writer.result.sequences[j].finish, FINISH_EOS);
            if (!strstr(text, "seed"))
                break;
        }
    writer_close(&writer);
}

static void a_text_that_runs_out_of_tokens_says_so(void **state) {
    (void)state;
    struct writer writer;
    if (!writer_open(&writer, MODEL, 3))
        SKIP_BECAUSE(NO_MODEL);
    run(&writer, "root ::= [a-z]{200} \".\"", "{\"max_new_tokens\": 5, \"eos_token_id\": 2}");
    assert_true(writer.result.sequences[0].is_cut);
    assert_int_equal(writer.result.sequences[0].count, 5);
    run(&writer, "root ::= [a-z]{200} \".\"", "{\"max_new_tokens\": 5, \"eos_token_id\": 2, \"num_beams\": 2}");
    assert_true(writer.result.sequences[0].is_cut);
    run(&writer, "root ::= [a-z]+", "{\"max_new_tokens\": 5}");
    assert_false(writer.result.sequences[0].is_cut);
    writer_close(&writer);
}

/* The end token comes where the grammar can end, and never before. */
static void the_end_token_waits_for_the_grammar(void **state) {
    (void)state;
    struct writer writer;
    if (!writer_open(&writer, MODEL, 1))
        SKIP_BECAUSE(NO_MODEL);
    const char *biased = "{\"max_new_tokens\": 30, \"eos_token_id\": 2, \"logit_bias\": {\"2\": 1000}}";
    run(&writer, "root ::= [a-z]{7} [a-z]*", biased);
    const struct generated *one = &writer.result.sequences[0];
    assert_int_equal(one->ids[one->count - 1], 2);
    assert_true(one->text.length >= 7 && !one->is_cut);
    run(&writer, "root ::= \"fixed text\"", biased);
    assert_string_equal(writer.result.sequences[0].text.bytes, "fixed text");
    assert_int_equal(writer.result.sequences[0].finish, FINISH_EOS);
    writer_close(&writer);
}

/* A grammar that allows every text changes none. */
static void a_grammar_of_everything_changes_nothing(void **state) {
    (void)state;
    struct writer writer;
    if (!writer_open(&writer, MODEL, 1))
        SKIP_BECAUSE(NO_MODEL);
    /* without control tokens, and without bytes that may be no text */
    char settings[8192];
    int used = snprintf(settings, sizeof settings, "{\"max_new_tokens\": 30, \"temperature\": 0.8, \"seed\": 3, "
                        "\"suppress_tokens\": [0");
    for (int32_t id = 1; id < 1000; id++)
        if (tokenizer_is_special(writer.tokenizer, id) || !tokenizer_piece(writer.tokenizer, id)
            || strncmp(tokenizer_piece(writer.tokenizer, id), "<0x", 3) == 0)
            used += snprintf(settings + used, sizeof settings - (size_t)used, ", %d", (int)id);
    snprintf(settings + used, sizeof settings - (size_t)used, "]}");
    run(&writer, "root ::= .*", settings);
    char *text = strdup(writer.result.sequences[0].text.bytes);
    writer_write(&writer, settings, PROMPT);
    assert_string_equal(writer.result.sequences[0].text.bytes, text);
    free(text);
    writer_close(&writer);
}

static void what_cannot_go_on_is_an_error(void **state) {
    (void)state;
    struct writer writer;
    struct error err = { 0 };
    if (!writer_open(&writer, MODEL, 1))
        SKIP_BECAUSE(NO_MODEL);
    json_t *settings = json_pack("{s:s, s:[i]}", "grammar", "root ::= \"x\" root \"y\" | \"z\"", "eos_token_id", 2);
    ASSERT_OK(writer_run(&writer, settings, PROMPT, &err), err);
    json_object_set_new(settings, "grammar", json_string("root ::= \"x\" root"));
    assert_false(writer_run(&writer, settings, PROMPT, &err));
    assert_int_equal(err.kind, ERROR_USAGE);
    assert_non_null(strstr(err.text, "can never end"));
    /* every allowed token is banned */
    json_object_set_new(settings, "grammar", json_string("root ::= \"a\" \"b\""));
    json_object_set_new(settings, "suppress_tokens", json_array());
    for (int i = 0; i < 1000; i++)
        json_array_append_new(json_object_get(settings, "suppress_tokens"), json_integer(i));
    assert_false(writer_run(&writer, settings, PROMPT, &err));
    assert_non_null(strstr(err.text, "banned"));
    json_decref(settings);
    writer_close(&writer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks_of_byte_fallback_pieces_are_exact),
        cmocka_unit_test(masks_of_byte_level_pieces_are_exact),
        cmocka_unit_test(masks_of_a_real_vocabulary_are_exact),
        cmocka_unit_test(every_text_parses),
        cmocka_unit_test(a_text_that_runs_out_of_tokens_says_so),
        cmocka_unit_test(the_end_token_waits_for_the_grammar),
        cmocka_unit_test(a_grammar_of_everything_changes_nothing),
        cmocka_unit_test(what_cannot_go_on_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
