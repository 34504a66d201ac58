#include "tests/support.h"

#include "planner/size_text.h"

#include <string.h>

static void amounts_mean_what_accelerate_takes_them_for(void **state) {
    (void)state;
    /* The decimal ones with a small b are bits: anchors/accelerate.md 2.2. */
    static const struct { const char *text; uint64_t bytes; bool bits; } cases[] = {
        { "8GiB", 8589934592u, false },     { "8gib", 8589934592u, false },
        { "8 GiB", 8589934592u, false },    { "8.5GiB", 9126805504u, false },
        { "60MiB", 62914560u, false },      { "1.5 KiB", 1536u, false },
        { "3GB", 3000000000u, false },      { "3gB", 3000000000u, false },
        { "3gb", 375000000u, true },        { "500Mb", 62500000u, true },
        { "500MB", 500000000u, false },     { "10KB", 10000u, false },
        { "1TiB", 1099511627776u, false },  { "2TB", 2000000000000u, false },
        { "1048576", 1048576u, false },     { "0", 0u, false },
        { " 7 MiB ", 7340032u, false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = { 0 };
        struct size_value value;
        ASSERT_OK(size_parse(cases[i].text, &value, &err), err);
        if (value.bytes != cases[i].bytes || value.was_bits != cases[i].bits || value.is_percent)
            fail_msg("'%s' gave %llu", cases[i].text, (unsigned long long)value.bytes);
    }
}

static void a_percentage_is_left_to_the_caller(void **state) {
    (void)state;
    struct error err = { 0 };
    struct size_value value;
    ASSERT_OK(size_parse("12.5%", &value, &err), err);
    assert_true(value.is_percent && value.percent == 12.5 && value.bytes == 0);
    assert_false(size_parse("101%", &value, &err));
}

static void what_is_no_amount_is_refused_by_name(void **state) {
    (void)state;
    static const char *const cases[] = {
        "", " ", "GiB", "8G", "8GiBs", "-1GiB", "+1GiB", "0x8GiB", "1e3MB", "inf GiB", "nan", "1.5",
        "1..5GiB", ".5GiB", "8,5GiB", "18446744073709551616", "99999999999GiB", "8GiB 9GiB", "%",
        "111111111111111111111111111111111111111111GiB",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = { 0 };
        struct size_value value;
        if (size_parse(cases[i], &value, &err))
            fail_msg("'%s' was taken for %llu bytes", cases[i], (unsigned long long)value.bytes);
        assert_int_equal(err.kind, ERROR_USAGE);
        assert_non_null(strstr(err.text, cases[i]));
    }
}

static void sizes_are_printed_with_three_digits(void **state) {
    (void)state;
    static const struct { uint64_t bytes; const char *text; } cases[] = {
        { 0, "0 B" },                 { 512, "512 B" },             { 1023, "1023 B" },
        { 1024, "1 KiB" },            { 1536, "1.5 KiB" },          { 63963136, "61 MiB" },
        { 7642159104u, "7.12 GiB" },  { 1073741823u, "1 GiB" },     { 1610612736u, "1.5 GiB" },
        { 107374182400u, "100 GiB" }, { 10726932275u, "9.99 GiB" }, { 10731227250u, "9.99 GiB" },
        { 10733000000u, "10 GiB" },   { UINT64_MAX, "16 EiB" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[24];
        size_print(cases[i].bytes, text);
        assert_string_equal(text, cases[i].text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(amounts_mean_what_accelerate_takes_them_for),
        cmocka_unit_test(a_percentage_is_left_to_the_caller),
        cmocka_unit_test(what_is_no_amount_is_refused_by_name),
        cmocka_unit_test(sizes_are_printed_with_three_digits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
