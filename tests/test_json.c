#include "tests/support.h"

#include "common/json.h"
#include "tests/support_fuzz.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static json_t *parse(const char *text) {
    struct error err = { 0 };
    json_t *value = json_read_text(text, strlen(text), "config.json", &err);
    ASSERT_OK(value, err);
    return value;
}

static void absent_and_null_leave_the_value_as_it_was(void **state) {
    (void)state;
    struct error err = { 0 };
    json_t *object = parse("{\"none\": null}");
    const char *keys[] = { "none", "absent" };
    for (int i = 0; i < 2; i++) {
        uint64_t wide = 7;
        uint32_t narrow = 8;
        float number = 0.5f;
        bool truth = true;
        const char *string = "kept";
        assert_true(json_get_u64(object, keys[i], "config.json", &wide, &err));
        assert_true(json_get_u32(object, keys[i], "config.json", &narrow, &err));
        assert_true(json_get_f32(object, keys[i], "config.json", &number, &err));
        assert_true(json_get_bool(object, keys[i], "config.json", &truth, &err));
        assert_true(json_get_str(object, keys[i], "config.json", &string, &err));
        assert_int_equal(wide, 7);
        assert_int_equal(narrow, 8);
        assert_true(number == 0.5f && truth);
        assert_string_equal(string, "kept");
    }
    json_decref(object);
}

static void values_of_their_kind_are_read(void **state) {
    (void)state;
    struct error err = { 0 };
    json_t *object = parse("{\"u\": 4294967295, \"wide\": 9223372036854775807, \"f\": 1e-05, \"i\": 10000,"
                           " \"b\": false, \"s\": \"phi3\"}");
    uint64_t wide = 0;
    uint32_t narrow = 0;
    float number = 0;
    bool truth = true;
    const char *string = NULL;
    assert_true(json_get_u32(object, "u", "c", &narrow, &err));
    assert_true(narrow == UINT32_MAX);
    assert_true(json_get_u64(object, "wide", "c", &wide, &err));
    assert_true(wide == INT64_MAX);
    assert_true(json_get_f32(object, "f", "c", &number, &err) && number == 1e-05f);
    assert_true(json_get_f32(object, "i", "c", &number, &err) && number == 10000.0f);
    assert_true(json_get_bool(object, "b", "c", &truth, &err) && !truth);
    assert_true(json_get_str(object, "s", "c", &string, &err));
    assert_string_equal(string, "phi3");
    json_decref(object);
}

static void another_kind_or_range_is_an_error_that_names_the_key(void **state) {
    (void)state;
    json_t *object = parse("{\"k\": -1, \"l\": 4294967296, \"m\": 1.5, \"n\": true, \"o\": 1e39, \"p\": \"1\","
                           " \"q\": \"a\\u0000b\", \"r\": []}");
    const char *bad_u32[] = { "k", "l", "m", "n", "p", "r" };
    for (size_t i = 0; i < sizeof bad_u32 / sizeof *bad_u32; i++) {
        struct error err = { 0 };
        uint32_t value = 5;
        assert_false(json_get_u32(object, bad_u32[i], "config.json", &value, &err));
        assert_int_equal(value, 5);
        assert_int_equal(err.kind, ERROR_FAILED);
        char quoted[8] = { '\'', bad_u32[i][0], '\'' };
        assert_non_null(strstr(err.text, quoted));
        assert_non_null(strstr(err.text, "'config.json'"));
    }
    struct error err = { 0 };
    uint64_t wide = 0;
    float number = 0;
    bool truth = false;
    const char *string = NULL;
    assert_false(json_get_u64(object, "k", "c", &wide, &err));
    assert_false(json_get_u64(object, "m", "c", &wide, &err));
    assert_false(json_get_f32(object, "o", "c", &number, &err));
    assert_false(json_get_f32(object, "n", "c", &number, &err));
    assert_false(json_get_f32(object, "p", "c", &number, &err));
    assert_false(json_get_bool(object, "l", "c", &truth, &err));
    assert_false(json_get_str(object, "k", "c", &string, &err));
    assert_false(json_get_str(object, "q", "c", &string, &err));
    json_decref(object);
}

static void nul_inside_a_string_is_kept(void **state) {
    (void)state;
    json_t *object = parse("{\"q\": \"a\\u0000b\"}");
    assert_int_equal(json_string_length(json_object_get(object, "q")), 3);
    json_decref(object);
}

static void a_syntax_error_names_file_and_line(void **state) {
    (void)state;
    struct error err = { 0 };
    const char *text = "{\n  \"a\": 1,\n  \"b\" 2\n}";
    assert_null(json_read_text(text, strlen(text), "config.json", &err));
    assert_non_null(strstr(err.text, "'config.json'"));
    assert_non_null(strstr(err.text, "line 3"));
    assert_int_equal(err.kind, ERROR_FAILED);
    assert_null(json_read_line("{\"a\" 2}", 7, "prompts.jsonl", 4, &err));
    assert_non_null(strstr(err.text, "line 4 of 'prompts.jsonl' is not valid JSON: column 6: "));
}

static void integers_beyond_64_bits_do_not_make_a_file_unreadable(void **state) {
    (void)state;
    struct error err = { 0 };
    json_t *object = parse("{\"s\": \"\\\"1000000000000000019884624838656\",\n"
                           " \"model_max_length\": 1000000000000000019884624838656,\n"
                           " \"n\": [-99999999999999999999, 123456789012345678901.5],\n"
                           " \"max_position_embeddings\": 4096}");
    double huge = json_number_value(json_object_get(object, "model_max_length"));
    assert_true(fabs(huge / 1e30 - 1) < 1e-12);
    json_t *list = json_object_get(object, "n");
    assert_true(fabs(json_number_value(json_array_get(list, 0)) / -1e20 - 1) < 1e-12);
    assert_true(fabs(json_number_value(json_array_get(list, 1)) / 123456789012345678901.5 - 1) < 1e-12);
    assert_string_equal(json_string_value(json_object_get(object, "s")), "\"1000000000000000019884624838656");
    uint32_t context = 0;
    assert_true(json_get_u32(object, "max_position_embeddings", "c", &context, &err));
    assert_int_equal(context, 4096);
    uint64_t wide = 0;
    assert_false(json_get_u64(object, "model_max_length", "c", &wide, &err));
    json_decref(object);
}

static void hostile_nesting_and_numbers_of_values_are_refused(void **state) {
    (void)state;
    size_t size = 24u << 20;
    char *text = malloc(size);
    assert_non_null(text);
    struct error err = { 0 };
    memset(text, '[', size);
    assert_null(json_read_text(text, 100000, "deep", &err));
    assert_null(json_read_text(text, size, "deep", &err));
    text[0] = '[';
    for (size_t i = 1; i + 3 < size; i += 3)
        memcpy(text + i, "[],", 3);
    assert_null(json_read_text(text, size, "wide", &err));
    assert_non_null(strstr(err.text, "values"));
    free(text);
}

static void texts_that_end_early_are_refused(void **state) {
    (void)state;
    const char *text = "{\"a\": [1, \"\\u00e9\\\\\", 12345678901234567890123], \"b\": {\"c\": null}}";
    for (size_t size = 0; size < strlen(text); size++) {
        struct error err = { 0 };
        char *exact = malloc(size + 1);
        assert_non_null(exact);
        memcpy(exact, text, size);
        assert_null(json_read_text(exact, size, "short", &err));
        assert_int_equal(err.kind, ERROR_FAILED);
        free(exact);
    }
}

static void files_are_read_up_to_a_ceiling(void **state) {
    (void)state;
    struct error err = { 0 };
    const char *path = fuzz_file("{\"a\": 1}", 8);
    json_t *object = json_read_file(path, 8, &err);
    ASSERT_OK(object, err);
    json_decref(object);
    assert_null(json_read_file(path, 7, &err));
    assert_non_null(strstr(err.text, "8 bytes"));
    assert_null(json_read_file("/nowhere/config.json", 100, &err));
    assert_int_equal(err.kind, ERROR_FAILED);
    assert_non_null(strstr(err.text, "'/nowhere/config.json'"));
    assert_null(json_read_file("/tmp", 100, &err));
    assert_non_null(strstr(err.text, "not a regular file"));
}

static void sentences_carry_no_control_characters(void **state) {
    (void)state;
    struct error err = { 0 };
    const char *text = "{\x1b[31m\xc2\x9b 1}";
    assert_null(json_read_text(text, strlen(text), "a\x1b]0;\xc2\x9bx\xc2\xa9", &err));
    assert_null(strchr(err.text, 0x1b));
    assert_null(strstr(err.text, "\xc2\x9b"));
    assert_non_null(strstr(err.text, "x\xc2\xa9'"));
    /* Nor a second line, nor half a character. */
    error_set(&err, ERROR_FAILED, "a\nb\tc\xff \xe2\x82 \xe2\x82\xac \xed\x95\x9c \x9b");
    assert_string_equal(err.text, "a b c? ?? \xe2\x82\xac \xed\x95\x9c ?");
}

static void strings_are_printed_as_they_are_read(void **state) {
    (void)state;
    static const char *const strings[][2] = {
        { "plain.0", "\"plain.0\"" },
        { "\"\\\n\x1b", "\"\\\"\\\\\\n\\u001B\"" },
        { "\xd5\x83/\xf0\x9f\x98\x80", "\"\\u0543/\\uD83D\\uDE00\"" },
        { "a\xff\xd5", "\"a\\uFFFD\\uFFFD\"" },
        { "", "\"\"" },
    };
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
        struct text text;
        text_init(&text);
        json_print_string(strings[i][0], &text);
        assert_false(text.failed);
        assert_string_equal(text.bytes, strings[i][1]);
        text_release(&text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(absent_and_null_leave_the_value_as_it_was),
        cmocka_unit_test(values_of_their_kind_are_read),
        cmocka_unit_test(another_kind_or_range_is_an_error_that_names_the_key),
        cmocka_unit_test(nul_inside_a_string_is_kept),
        cmocka_unit_test(a_syntax_error_names_file_and_line),
        cmocka_unit_test(integers_beyond_64_bits_do_not_make_a_file_unreadable),
        cmocka_unit_test(hostile_nesting_and_numbers_of_values_are_refused),
        cmocka_unit_test(texts_that_end_early_are_refused),
        cmocka_unit_test(files_are_read_up_to_a_ceiling),
        cmocka_unit_test(strings_are_printed_as_they_are_read),
        cmocka_unit_test(sentences_carry_no_control_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
