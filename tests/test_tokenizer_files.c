#include "tests/support.h"

#include "runtime/tokenizer.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A fresh folder under the test folder. */
static const char *new_folder(void) {
    static char folder[PATH_MAX];
    static unsigned number;
    snprintf(folder, sizeof folder, "%s/model%u", test_folder(), number++);
    assert_int_equal(mkdir(folder, 0700), 0);
    return folder;
}

static void write_file(const char *folder, const char *name, const char *content) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%.3000s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(content, 1, strlen(content), file), strlen(content));
    fclose(file);
}

static struct tokenizer *open_folder(const char *folder, struct error *err) {
    struct model_source source = { .kind = SOURCE_DIRECTORY, .path = (char *)folder };
    return tokenizer_open(&source, err);
}

/* A tokenizer of five pieces whose other parts are given as JSON members. */
#define MODEL "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\" \":3,\"\xe2\x96\x81\":4}," \
    "\"merges\":[\"a b\"]}"

static struct tokenizer *open_json(const char *json, struct error *err) {
    const char *folder = new_folder();
    write_file(folder, "tokenizer.json", json);
    return open_folder(folder, err);
}

static void assert_refused(const char *json, const char *part) {
    struct error err = { 0 };
    assert_null(open_json(json, &err));
    if (!strstr(err.text, part) || !strstr(err.text, "tokenizer.json"))
        fail_msg("no '%s' in '%s'", part, err.text);
}

static void what_is_not_supported_is_named(void **state) {
    (void)state;
    assert_refused("{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", "'Unigram'");
    assert_refused("{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}", "merge 0");
    assert_refused("{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"end_of_word_suffix\":\"</w>\"}}",
                   "'end_of_word_suffix'");
    assert_refused("{\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]}}", "token id");
    assert_refused("{\"model\":{\"vocab\":{\"a\":4294967295},\"merges\":[]}}", "token id");
    assert_refused("{\"normalizer\":{\"type\":\"Precompiled\"}," MODEL "}", "'Precompiled'");
    assert_refused("{\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"}," MODEL "}", "'BertPreTokenizer'");
    assert_refused("{\"decoder\":{\"type\":\"WordPiece\"}," MODEL "}", "'WordPiece'");
    assert_refused("{\"post_processor\":{\"type\":\"BertProcessing\"}," MODEL "}", "'BertProcessing'");
    assert_refused("{\"model\":{\"vocab\":{\"a\":0},", "not valid JSON");
}

static void a_damaged_sentencepiece_model_is_named(void **state) {
    (void)state;
    struct error err = { 0 };
    const char *folder = new_folder();
    write_file(folder, "tokenizer.model", "x");
    assert_null(open_folder(folder, &err));
    assert_non_null(strstr(err.text, "tokenizer.model' is no SentencePiece model"));
}

static void assert_pieces(const char *json, const char *text, const char *expected) {
    struct error err = { 0 };
    struct tokenizer *tokenizer = open_json(json, &err);
    ASSERT_OK(tokenizer != NULL, err);
    int32_t *ids;
    uint32_t count;
    ASSERT_OK(tokenizer_encode(tokenizer, text, strlen(text), TOKENIZE_ADD_SPECIAL, &ids, &count, &err), err);
    struct text joined;
    text_init(&joined);
    for (uint32_t i = 0; i < count; i++)
        text_append_format(&joined, "%s%s", i ? "," : "", tokenizer_piece(tokenizer, ids[i]));
    assert_string_equal(joined.bytes, expected);
    text_release(&joined);
    free(ids);
    tokenizer_close(tokenizer);
}

#define SPLIT(pattern, behavior) "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":" pattern \
    ",\"behavior\":\"" behavior "\"}," MODEL "}"

static void pieces_are_cut_as_the_file_says(void **state) {
    (void)state;
    assert_pieces("{" MODEL "}", "abab", "ab,ab");
    assert_pieces(SPLIT("{\"String\":\"b\"}", "Isolated"), "ab b", "a,b, ,b");
    assert_pieces(SPLIT("{\"String\":\"b\"}", "Removed"), "ab b", "a, ");
    assert_pieces(SPLIT("{\"String\":\"b\"}", "MergedWithPrevious"), "ab b", "ab, ,b");
    assert_pieces(SPLIT("{\"Regex\":\"a\"}", "MergedWithNext"), "ab a", "ab, ,a");
    assert_pieces(SPLIT("{\"Regex\":\"(?=b)\"}", "Isolated"), "abab", "a,b,a,b");
    assert_pieces("{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\",\"prepend_scheme\":"
                  "\"first\",\"split\":true}," MODEL "}", "a ab", "\xe2\x96\x81,a,\xe2\x96\x81,ab");
    assert_pieces("{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"B\"}},"
                  "{\"Sequence\":{\"id\":\"A\"}},{\"SpecialToken\":{\"id\":\"B\"}}],\"special_tokens\":{\"B\":{\"ids\":"
                  "[1,1]}}}," MODEL "}", "a", "b,b,a,b,b");
}

static void added_tokens_take_the_white_space_they_claim(void **state) {
    (void)state;
    static const char json[] = "{\"added_tokens\":[{\"id\":9,\"content\":\"<r>\",\"rstrip\":true},{\"id\":10,"
        "\"content\":\"<l>\",\"lstrip\":true},{\"id\":11,\"content\":\"<r>b\"},{\"id\":12,\"content\":\"aa\","
        "\"single_word\":true}]," MODEL "}";
    assert_pieces(json, "a <r> \n\xe3\x80\x80 b", "a, ,<r>,b");
    assert_pieces(json, "a \xc2\xa0<l> b", "a,<l>, ,b");
    assert_pieces(json, "<r><r>b<r>", "<r>,<r>b,<r>");
    assert_pieces(json, "aa baa aab aa", "aa, ,b,a,a, ,a,ab, ,aa");
}

static void names_and_templates_come_from_the_files_beside(void **state) {
    (void)state;
    struct error err = { 0 };
    const char *folder = new_folder();
    write_file(folder, "tokenizer.json", "{\"added_tokens\":[{\"id\":5,\"content\":\"<s>\",\"special\":true},{\"id\":6,"
               "\"content\":\"</s>\",\"special\":true},{\"id\":7,\"content\":\"<|im_end|>\",\"special\":true}]," MODEL "}");
    write_file(folder, "tokenizer_config.json", "{\"bos_token\":{\"content\":\"<s>\",\"__type\":\"AddedToken\"},"
               "\"pad_token\":{\"content\":\"<pad>\"},\"unk_token\":null,"
               "\"model_max_length\":1000000000000000019884624838656,\"chat_template\":[{\"name\":\"rag\",\"template\":"
               "\"R\"},{\"name\":\"default\",\"template\":\"D\"}]}");
    write_file(folder, "special_tokens_map.json", "{\"bos_token\":\"</s>\",\"eos_token\":\"</s>\",\"pad_token\":\"x\"}");
    write_file(folder, "config.json", "{\"vocab_size\":12}");
    struct tokenizer *tokenizer = open_folder(folder, &err);
    ASSERT_OK(tokenizer != NULL, err);
    int32_t ids[4];
    assert_int_equal(tokenizer_bos_id(tokenizer), 5);
    assert_string_equal(tokenizer_bos_text(tokenizer), "<s>");
    assert_string_equal(tokenizer_eos_text(tokenizer), "</s>");
    const json_t *named = tokenizer_named_texts(tokenizer);
    assert_string_equal(json_string_value(json_object_get(named, "pad_token")), "<pad>");
    assert_int_equal(json_object_size(named), 1);
    assert_int_equal(tokenizer_eos_ids(tokenizer, ids, 4), 2);
    assert_int_equal(ids[0], 6);
    assert_int_equal(ids[1], 7);
    assert_string_equal(tokenizer_chat_template(tokenizer), "D");
    assert_int_equal(tokenizer_size(tokenizer), 8);
    assert_int_equal(tokenizer_id(tokenizer, "ab"), 2);
    assert_int_equal(tokenizer_id(tokenizer, "abc"), -1);
    assert_true(tokenizer_is_special(tokenizer, 5) && !tokenizer_is_special(tokenizer, 2));

    /* The padding rows of the model's vocabulary decode to nothing, what is beyond is an error. */
    struct text text;
    text_init(&text);
    ASSERT_OK(tokenizer_decode(tokenizer, (int32_t[]){ 2, 8, 11 }, 3, true, &text, &err), err);
    assert_string_equal(text.bytes, "ab");
    assert_false(tokenizer_decode(tokenizer, (int32_t[]){ 12 }, 1, true, &text, &err));
    assert_false(tokenizer_decode(tokenizer, (int32_t[]){ -1 }, 1, true, &text, &err));
    text_release(&text);
    tokenizer_close(tokenizer);

    write_file(folder, "chat_template.jinja", "J");
    tokenizer = open_folder(folder, &err);
    ASSERT_OK(tokenizer != NULL, err);
    assert_string_equal(tokenizer_chat_template(tokenizer), "J");
    tokenizer_close(tokenizer);
}

static void a_stream_goes_on_where_the_prompt_ended(void **state) {
    (void)state;
    const char *folder = test_data("models/phi3-tiny");
    if (!folder)
        SKIP_BECAUSE("no models/phi3-tiny");
    struct error err = { 0 };
    struct tokenizer *tokenizer = open_folder(folder, &err);
    ASSERT_OK(tokenizer != NULL, err);
    int32_t word = tokenizer_id(tokenizer, "\xe2\x96\x81the"), half[2] = { tokenizer_id(tokenizer, "<0xC3>"),
                                                                           tokenizer_id(tokenizer, "<0xA9>") };
    assert_true(word > 0 && half[0] > 0 && half[1] > 0);
    struct text text;
    text_init(&text);
    struct token_stream *stream = token_stream_new(tokenizer, &word, 1);
    ASSERT_OK(token_stream_feed(stream, word, &text, &err), err);
    assert_string_equal(text.bytes, " the");
    ASSERT_OK(token_stream_feed(stream, half[0], &text, &err), err);
    ASSERT_OK(token_stream_feed(stream, half[1], &text, &err), err);
    assert_string_equal(text.bytes, " the");
    ASSERT_OK(token_stream_feed(stream, word, &text, &err), err);
    assert_string_equal(text.bytes, " the\xc3\xa9 the");
    ASSERT_OK(token_stream_feed(stream, half[0], &text, &err), err);
    ASSERT_OK(token_stream_end(stream, &text, &err), err);
    assert_string_equal(text.bytes, " the\xc3\xa9 the\xef\xbf\xbd");
    token_stream_free(stream);
    text_clear(&text);
    stream = token_stream_new(tokenizer, NULL, 0);
    ASSERT_OK(token_stream_feed(stream, word, &text, &err), err);
    assert_string_equal(text.bytes, "the");
    token_stream_free(stream);

    /* A line end in bytes belongs to the prompt that it ends. */
    text_clear(&text);
    int32_t line_end = tokenizer_id(tokenizer, "<0x0A>");
    assert_true(line_end > 0);
    stream = token_stream_new(tokenizer, (int32_t[]){ word, line_end }, 2);
    ASSERT_OK(token_stream_feed(stream, word, &text, &err), err);
    assert_string_equal(text.bytes, " the");
    token_stream_free(stream);
    text_release(&text);
    tokenizer_close(tokenizer);
}

/* A megabyte without a place to cut takes a second or two, not hours. */
static void long_texts_without_spaces_are_encoded(void **state) {
    (void)state;
    static const char *const models[] = { "models/phi3-tiny", "models/llama-tiny" };
    enum { SIZE = 1 << 20 };
    char *text = malloc(SIZE);
    assert_non_null(text);
    for (size_t m = 0; m < 2; m++) {
        struct error err = { 0 };
        const char *folder = test_data(models[m]);
        if (!folder)
            SKIP_BECAUSE("no %s", models[m]);
        struct tokenizer *tokenizer = open_folder(folder, &err);
        ASSERT_OK(tokenizer != NULL, err);
        for (const char *fill = "e \n"; *fill; fill++) {
            memset(text, *fill, SIZE);
            int32_t *ids;
            uint32_t count;
            clock_t start = clock();
            ASSERT_OK(tokenizer_encode(tokenizer, text, SIZE, TOKENIZE_DEFAULT, &ids, &count, &err), err);
            assert_true(clock() - start < 20 * CLOCKS_PER_SEC);
            struct text decoded;
            text_init(&decoded);
            ASSERT_OK(tokenizer_decode(tokenizer, ids, count, false, &decoded, &err), err);
            assert_int_equal(decoded.length, SIZE);
            assert_memory_equal(decoded.bytes, text, SIZE);
            text_release(&decoded);
            free(ids);
        }
        tokenizer_close(tokenizer);
    }
    free(text);
}

static void expressions_that_run_away_are_stopped(void **state) {
    (void)state;
    struct error err = { 0 };
    struct tokenizer *tokenizer = open_json(SPLIT("{\"Regex\":\"(a|aa)+[^a]\"}", "Isolated"), &err);
    ASSERT_OK(tokenizer != NULL, err);
    char text[65];
    memset(text, 'a', sizeof text);
    int32_t *ids;
    uint32_t count;
    assert_false(tokenizer_encode(tokenizer, text, sizeof text, TOKENIZE_DEFAULT, &ids, &count, &err));
    assert_non_null(strstr(err.text, "match limit"));
    tokenizer_close(tokenizer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_supported_is_named),
        cmocka_unit_test(a_damaged_sentencepiece_model_is_named),
        cmocka_unit_test(pieces_are_cut_as_the_file_says),
        cmocka_unit_test(added_tokens_take_the_white_space_they_claim),
        cmocka_unit_test(names_and_templates_come_from_the_files_beside),
        cmocka_unit_test(a_stream_goes_on_where_the_prompt_ended),
        cmocka_unit_test(long_texts_without_spaces_are_encoded),
        cmocka_unit_test(expressions_that_run_away_are_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
