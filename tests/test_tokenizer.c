#include "tests/support.h"
#include "tests/support_golden.h"

#include "common/file_map.h"
#include "runtime/tokenizer.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

/* The model's folder or file; NULL where it is not on this machine. Folders whose
 * tokenizer.json is packed are unpacked into the test folder. */
static const char *unpacked(const char *name) {
    static char folder[PATH_MAX];
    char from[PATH_MAX], to[PATH_MAX];
    snprintf(from, sizeof from, "models/%s/tokenizer.json.gz", name);
    const char *packed = test_data(from);
    if (!packed) {
        snprintf(from, sizeof from, "models/%s", name);
        return test_data(from);
    }
    snprintf(folder, sizeof folder, "%s/%s", test_folder(), name);
    mkdir(folder, 0700);
    snprintf(to, sizeof to, "%.3000s/tokenizer.json", folder);
    gzFile in = gzopen(packed, "rb");
    FILE *out = fopen(to, "wb");
    assert_true(in && out);
    char block[1 << 16];
    for (int count; (count = gzread(in, block, sizeof block)) > 0;)
        assert_int_equal(fwrite(block, 1, (size_t)count, out), count);
    gzclose(in);
    fclose(out);
    return folder;
}

static struct tokenizer *open_path(const char *path, struct error *err) {
    struct model_source source = { 0 };
    if (!model_source_resolve(&source, path, err))
        return NULL;
    struct tokenizer *tokenizer = tokenizer_open(&source, err);
    model_source_release(&source);
    return tokenizer;
}

static const char *case_name(const json_t *item) {
    const char *name = json_string_value(json_object_get(item, "name"));
    return name ? name : "?";
}

static void assert_same_ids(const char *what, const json_t *expected, const int32_t *ids, uint32_t count) {
    size_t expected_count;
    int32_t *wanted = golden_ids(expected, &expected_count);
    for (size_t i = 0; i < expected_count && i < count; i++)
        if (wanted[i] != ids[i])
            fail_msg("%s: id %zu is %d, expected %d", what, i, ids[i], wanted[i]);
    if (expected_count != count)
        fail_msg("%s: %u ids, expected %zu", what, count, expected_count);
    free(wanted);
}

static void assert_encodes(const struct tokenizer *tokenizer, const char *what, const char *text, size_t size,
                           unsigned flags, const json_t *expected) {
    struct error err = { 0 };
    int32_t *ids;
    uint32_t count;
    ASSERT_OK(tokenizer_encode(tokenizer, text, size, flags, &ids, &count, &err), err);
    assert_same_ids(what, expected, ids, count);
    free(ids);
}

static void assert_text(const char *what, const struct text *text, const json_t *expected) {
    if (text->length != json_string_length(expected)
        || memcmp(text->bytes, json_string_value(expected), text->length) != 0)
        fail_msg("%s: '%s', expected '%s'", what, text->bytes, json_string_value(expected));
}

static void assert_decodes(const struct tokenizer *tokenizer, const char *what, const json_t *ids, bool skip_special,
                           const json_t *expected) {
    struct error err = { 0 };
    size_t count;
    int32_t *list = golden_ids(ids, &count);
    struct text text;
    text_init(&text);
    ASSERT_OK(tokenizer_decode(tokenizer, list, (uint32_t)count, skip_special, &text, &err), err);
    assert_text(what, &text, expected);
    text_release(&text);
    free(list);
}

static const json_t *either(const json_t *item, const char *key, const json_t *otherwise) {
    const json_t *value = json_object_get(item, key);
    return value ? value : otherwise;
}

static void check_cases(const struct tokenizer *tokenizer, const json_t *root) {
    const json_t *item;
    size_t i;
    json_array_foreach(golden_get(root, "cases"), i, item) {
        const json_t *text = golden_get(item, "text"), *ids = golden_get(item, "ids");
        const char *bytes = json_string_value(text), *name = case_name(item);
        size_t size = json_string_length(text);
        assert_encodes(tokenizer, name, bytes, size, TOKENIZE_DEFAULT, ids);
        assert_encodes(tokenizer, name, bytes, size, TOKENIZE_SPLIT_SPECIAL, either(item, "ids_no_special", ids));
        assert_encodes(tokenizer, name, bytes, size, TOKENIZE_ADD_SPECIAL, either(item, "ids_add_special", ids));
        const json_t *decoded = either(item, "decoded", text);
        assert_decodes(tokenizer, name, ids, false, decoded);
        assert_decodes(tokenizer, name, ids, true, either(item, "decoded_skip_special", decoded));
    }
    assert_true(i > 100);
}

static void check_invalid_utf8(const struct tokenizer *tokenizer, const json_t *root) {
    const json_t *item;
    size_t i;
    json_array_foreach(golden_get(root, "invalid_utf8"), i, item) {
        const char *hex = json_string_value(golden_get(item, "bytes_hex"));
        char bytes[256];
        size_t size = 0;
        for (; hex[2 * size]; size++) {
            unsigned byte;
            assert_true(size < sizeof bytes && sscanf(hex + 2 * size, "%2x", &byte) == 1);
            bytes[size] = (char)byte;
        }
        assert_encodes(tokenizer, case_name(item), bytes, size, TOKENIZE_DEFAULT, golden_get(item, "ids"));
    }
    assert_true(i > 0);
}

static void check_decoding(const struct tokenizer *tokenizer, const json_t *root) {
    const json_t *item;
    size_t i;
    json_array_foreach(golden_get(root, "decode"), i, item) {
        const json_t *ids = golden_get(item, "ids"), *text = golden_get(item, "text");
        assert_decodes(tokenizer, "decode", ids, false, text);
        assert_decodes(tokenizer, "decode", ids, true, either(item, "text_skip_special", text));
    }
    assert_true(i > 0);
}

/* Fed one id at a time: whole characters only, what came never changes, and at
 * the end it is what decoding at once gives. It comes as early as in the
 * reference's own stream, but for runs of byte pieces: those wait for their end,
 * because one invalid byte makes the whole run U+FFFD. */
static void check_streaming(const struct tokenizer *tokenizer, const json_t *root) {
    const json_t *item;
    size_t i;
    struct error err = { 0 };
    json_array_foreach(golden_get(root, "stream"), i, item) {
        size_t count;
        int32_t *ids = golden_ids(golden_get(item, "ids"), &count);
        const json_t *expected = golden_get(item, "final_skip_special");
        size_t reference = 0;
        struct text text;
        text_init(&text);
        struct token_stream *stream = token_stream_new(tokenizer, NULL, 0);
        assert_non_null(stream);
        for (size_t k = 0; k < count; k++) {
            size_t before = text.length;
            ASSERT_OK(token_stream_feed(stream, ids[k], &text, &err), err);
            assert_true(text.length <= json_string_length(expected));
            assert_memory_equal(text.bytes, json_string_value(expected), text.length);
            if (text.length > before)
                assert_true(((unsigned char)text.bytes[before] & 0xc0) != 0x80);
            const json_t *chunk = json_array_get(json_object_get(item, "decode_stream"), k);
            reference += json_string_length(chunk);
            if (strncmp(tokenizer_piece(tokenizer, ids[k]), "<0x", 3) != 0)
                assert_true(text.length >= reference);
        }
        ASSERT_OK(token_stream_end(stream, &text, &err), err);
        assert_text("stream", &text, expected);
        token_stream_free(stream);
        text_release(&text);
        free(ids);
    }
    assert_true(i > 0);
}

static struct tokenizer *open_golden(const char *golden_name, const char *path, struct golden *golden) {
    struct error err = { 0 };
    if (!path || !golden_load(golden, golden_name))
        return NULL;
    struct tokenizer *tokenizer = open_path(path, &err);
    ASSERT_OK(tokenizer != NULL, err);
    return tokenizer;
}

static void check_all(const char *name, const char *model) {
    char golden_name[128];
    snprintf(golden_name, sizeof golden_name, "goldens/tokenizer/%s.json", name);
    struct golden golden;
    struct tokenizer *tokenizer = open_golden(golden_name, unpacked(model), &golden);
    if (!tokenizer)
        SKIP_BECAUSE("no models/%s or no %s", model, golden_name);
    check_cases(tokenizer, golden.root);
    check_invalid_utf8(tokenizer, golden.root);
    check_decoding(tokenizer, golden.root);
    check_streaming(tokenizer, golden.root);
    tokenizer_close(tokenizer);
    golden_release(&golden);
}

static void phi3_equals_the_reference(void **state) {
    (void)state;
    check_all("phi3", "phi3-vocab");
}

static void smollm2_equals_the_reference(void **state) {
    (void)state;
    check_all("smollm2", "smollm2-vocab");
}

static void llama3_equals_the_reference(void **state) {
    (void)state;
    check_all("llama3", "llama3-vocab");
}

static void qwen2_equals_the_reference(void **state) {
    (void)state;
    check_all("qwen2", "qwen2-vocab");
}

static void the_tiny_phi3_equals_the_reference(void **state) {
    (void)state;
    check_all("phi3-tiny", "phi3-tiny");
}

static void the_tiny_llama_equals_the_reference(void **state) {
    (void)state;
    check_all("llama-tiny", "llama-tiny");
}

static void the_tiny_qwen2_equals_the_reference(void **state) {
    (void)state;
    check_all("qwen2-tiny", "qwen2-tiny");
}

static void the_tiny_phi4mini_equals_the_reference(void **state) {
    (void)state;
    check_all("phi4mini-tiny", "phi4mini-tiny");
}

/* A folder with the model's tokenizer.model, and the tokenizer_config.json where asked. */
static const char *sentencepiece_folder(const char *model, const char *folder_name, bool has_config) {
    static char folder[PATH_MAX];
    static const char *const files[] = { "tokenizer.model", "config.json", "added_tokens.json",
                                         "tokenizer_config.json" };
    snprintf(folder, sizeof folder, "%s/%s", test_folder(), folder_name);
    mkdir(folder, 0700);
    for (size_t i = 0; i < (has_config ? 4 : 3); i++) {
        char name[PATH_MAX], to[PATH_MAX], absolute[PATH_MAX];
        snprintf(name, sizeof name, "models/%s/%s", model, files[i]);
        snprintf(to, sizeof to, "%.3000s/%s", folder, files[i]);
        const char *path = test_data(name);
        if (!path)
            return NULL;
        assert_non_null(realpath(path, absolute));
        assert_true(symlink(absolute, to) == 0);
    }
    return folder;
}

static void a_sentencepiece_model_alone_equals_tokenizer_json(void **state) {
    (void)state;
    static const char *const pairs[][2] = { { "phi3", "phi3-vocab" }, { "phi3-tiny", "phi3-tiny" } };
    for (size_t i = 0; i < 2; i++) {
        char golden_name[128];
        struct golden golden;
        snprintf(golden_name, sizeof golden_name, "goldens/tokenizer/%s.json", pairs[i][0]);
        struct tokenizer *tokenizer = open_golden(golden_name, sentencepiece_folder(pairs[i][1], pairs[i][0], true),
                                                  &golden);
        if (!tokenizer)
            SKIP_BECAUSE("no models/%s/tokenizer.model or no %s", pairs[i][1], golden_name);
        check_cases(tokenizer, golden.root);
        check_invalid_utf8(tokenizer, golden.root);
        check_decoding(tokenizer, golden.root);
        check_streaming(tokenizer, golden.root);
        tokenizer_close(tokenizer);
        golden_release(&golden);
    }
}

/* Without a tokenizer_config.json the class's own defaults count: BOS in front. */
static void a_sentencepiece_model_without_a_config_adds_bos(void **state) {
    (void)state;
    struct error err = { 0 };
    const char *folder = sentencepiece_folder("phi3-tiny", "bare", false);
    if (!folder)
        SKIP_BECAUSE("no models/phi3-tiny/tokenizer.model");
    struct tokenizer *tokenizer = open_path(folder, &err);
    ASSERT_OK(tokenizer, err);
    assert_string_equal(tokenizer_bos_text(tokenizer), "<s>");
    assert_string_equal(tokenizer_eos_text(tokenizer), "</s>");
    int32_t *ids;
    uint32_t count;
    ASSERT_OK(tokenizer_encode(tokenizer, "a", 1, TOKENIZE_ADD_SPECIAL, &ids, &count, &err), err);
    assert_true(count >= 2 && ids[0] == tokenizer_bos_id(tokenizer));
    free(ids);
    assert_true(tokenizer_id(tokenizer, "<|end|>") > 0);
    assert_true(tokenizer_is_special(tokenizer, tokenizer_id(tokenizer, "<|end|>")));
    tokenizer_close(tokenizer);
}

static void write_file(const char *path, const void *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    assert_true(file && fwrite(bytes, 1, size, file) == size);
    assert_int_equal(fclose(file), 0);
}

static void other_sentencepiece_models_are_refused_by_name(void **state) {
    (void)state;
    /* A piece "a"; a trainer spec of the kind given; a normalizer that removes no spaces. */
    static const struct { const char *bytes; size_t size; const char *sentence; } files[] = {
        { "\x0a\x03\x0a\x01" "a\x12\x02\x18\x01\x1a\x02\x20\x00", 13, "no BPE model" },
        { "\x0a\x03\x0a\x01" "a\x12\x02\x18\x02", 9, "rules of its own" },
        { "\x0a\x03\x0a\x01" "a\x12\x02\x18\x02\x1a\x05\x20\x00\x12\x01" "m", 16, "rules of its own" },
        { "\x0a\x04\x0a\x01" "a\x12", 6, "damaged" },
        { "\x0b\x01", 2, "damaged" },
        { "", 0, "damaged" },
    };
    char folder[PATH_MAX], path[PATH_MAX];
    snprintf(folder, sizeof folder, "%s/other", test_folder());
    mkdir(folder, 0700);
    snprintf(path, sizeof path, "%.3000s/tokenizer.model", folder);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct error err = { 0 };
        write_file(path, files[i].bytes, files[i].size);
        assert_null(open_path(folder, &err));
        if (!strstr(err.text, files[i].sentence))
            fail_msg("file %zu: '%s'", i, err.text);
    }
    /* The same without what is refused opens. */
    struct error err = { 0 };
    write_file(path, "\x0a\x03\x0a\x01" "a\x12\x02\x18\x02\x1a\x02\x20\x00", 13);
    struct tokenizer *tokenizer = open_path(folder, &err);
    ASSERT_OK(tokenizer, err);
    tokenizer_close(tokenizer);
}

/* "legacy": a space in front of each stretch of text between tokens; else of the first. */
static void the_configuration_says_where_a_space_is_put(void **state) {
    (void)state;
    static const char model[] = "\x0a\x09\x0a\x05<unk>\x18\x02\x0a\x07\x0a\x03<s>\x18\x03"
        "\x0a\x05\x0a\x03\xe2\x96\x81\x0a\x03\x0a\x01" "a\x0a\x06\x0a\x04\xe2\x96\x81" "a"
        "\x12\x02\x18\x02\x1a\x02\x20\x00";
    static const struct { const char *config; int32_t ids[4]; uint32_t count; } cases[] = {
        { "{\"legacy\": true, \"add_bos_token\": false}", { 4, 1, 4 }, 3 },
        { "{\"legacy\": false, \"add_bos_token\": false}", { 4, 1, 3 }, 3 },
        { "{\"legacy\": false}", { 1, 4, 1, 3 }, 4 },
    };
    char folder[PATH_MAX], path[PATH_MAX];
    snprintf(folder, sizeof folder, "%s/space", test_folder());
    mkdir(folder, 0700);
    snprintf(path, sizeof path, "%.3000s/tokenizer.model", folder);
    write_file(path, model, sizeof model - 1);
    snprintf(path, sizeof path, "%.3000s/tokenizer_config.json", folder);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = { 0 };
        int32_t *ids;
        uint32_t count;
        write_file(path, cases[i].config, strlen(cases[i].config));
        struct tokenizer *tokenizer = open_path(folder, &err);
        ASSERT_OK(tokenizer, err);
        ASSERT_OK(tokenizer_encode(tokenizer, "a<s>a", 5, TOKENIZE_ADD_SPECIAL, &ids, &count, &err), err);
        assert_int_equal(count, cases[i].count);
        assert_memory_equal(ids, cases[i].ids, count * sizeof *ids);
        free(ids);
        tokenizer_close(tokenizer);
    }
}

/* A GGUF knows less than the folder it was made from, and must give the same ids. */
static void check_gguf(const char *name, const char *path) {
    char golden_name[128];
    snprintf(golden_name, sizeof golden_name, "goldens/tokenizer/%s.json", name);
    struct golden golden;
    struct tokenizer *tokenizer = open_golden(golden_name, path, &golden);
    if (!tokenizer)
        SKIP_BECAUSE("no GGUF with the vocabulary of %s, or no %s", name, golden_name);
    check_cases(tokenizer, golden.root);
    check_invalid_utf8(tokenizer, golden.root);
    check_decoding(tokenizer, golden.root);
    check_streaming(tokenizer, golden.root);
    tokenizer_close(tokenizer);
    golden_release(&golden);
}

static void a_phi3_gguf_equals_its_folder(void **state) {
    (void)state;
    check_gguf("phi3", test_data("models/phi3-vocab/ggml-vocab-phi-3.gguf"));
}

static void the_demo_model_equals_its_folder(void **state) {
    (void)state;
    const char *path = "build/models/SmolLM2-135M-Instruct.Q4_1.gguf";
    check_gguf("smollm2", access(path, R_OK) == 0 ? path : NULL);
}

static void tiny_ggufs_equal_their_folders(void **state) {
    (void)state;
    static const struct { const char *golden, *file; } pairs[] = {
        { "phi3-tiny", "models/gguf/quantizable-tiny-Q4_1.gguf" },
        { "phi3-tiny", "models/gguf/phi3-tiny-longrope-Q8_0.gguf" },
        { "llama-tiny", "models/gguf/llama-tiny-BF16.gguf" },
        { "qwen2-tiny", "models/gguf/qwen2-tiny-BF16.gguf" },
        { "phi4mini-tiny", "models/gguf/phi4mini-tiny-Q8_0.gguf" },
    };
    unsigned checked = 0;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char golden[128];
        snprintf(golden, sizeof golden, "goldens/tokenizer/%s.json", pairs[i].golden);
        if (!test_data(golden) || !test_data(pairs[i].file))
            continue;
        check_gguf(pairs[i].golden, test_data(pairs[i].file));
        checked++;
    }
    if (!checked)
        SKIP_BECAUSE("no GGUF files of the tiny models");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(phi3_equals_the_reference),
        cmocka_unit_test(smollm2_equals_the_reference),
        cmocka_unit_test(llama3_equals_the_reference),
        cmocka_unit_test(qwen2_equals_the_reference),
        cmocka_unit_test(the_tiny_phi3_equals_the_reference),
        cmocka_unit_test(the_tiny_llama_equals_the_reference),
        cmocka_unit_test(the_tiny_qwen2_equals_the_reference),
        cmocka_unit_test(the_tiny_phi4mini_equals_the_reference),
        cmocka_unit_test(a_sentencepiece_model_alone_equals_tokenizer_json),
        cmocka_unit_test(a_sentencepiece_model_without_a_config_adds_bos),
        cmocka_unit_test(other_sentencepiece_models_are_refused_by_name),
        cmocka_unit_test(the_configuration_says_where_a_space_is_put),
        cmocka_unit_test(a_phi3_gguf_equals_its_folder),
        cmocka_unit_test(the_demo_model_equals_its_folder),
        cmocka_unit_test(tiny_ggufs_equal_their_folders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
