#include "tests/support.h"

#include "common/tensor_type.h"
#include "tests/support_golden.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void load_blocks(struct golden *golden) {
    if (!golden_load(golden, "goldens/quant/blocks.json"))
        SKIP_BECAUSE("goldens/quant/blocks.json is not here");
}

static const json_t *blocks_of(const struct golden *golden, enum tensor_type type) {
    char name[16] = { 0 };
    for (size_t i = 0; i + 1 < sizeof name && tensor_type_info(type)->name[i]; i++) {
        char c = tensor_type_info(type)->name[i];
        name[i] = c >= 'a' && c <= 'z' ? (char)(c - 32) : c;
    }
    return golden_get(golden_get(golden->root, "types"), name);
}

static void check_bits(enum tensor_type type, const void *found, const void *expected, size_t size) {
    const uint8_t *a = found, *b = expected;
    for (size_t i = 0; i < size; i++)
        if (a[i] != b[i])
            fail_msg("%s: byte %zu is %02x, not %02x", tensor_type_info(type)->name, i, a[i], b[i]);
}

static void every_block_format_decodes_bit_for_bit(void **state) {
    (void)state;
    struct golden golden;
    load_blocks(&golden);
    for (int i = TENSOR_F16; i < TENSOR_TYPE_COUNT; i++) {
        enum tensor_type type = (enum tensor_type)i;
        const json_t *blocks = blocks_of(&golden, type);
        size_t raw_count, count;
        const uint8_t *raw = golden_bytes(&golden, golden_get(blocks, "raw"), &raw_count);
        const float *expected = golden_floats(&golden, golden_get(blocks, "floats"), &count);
        uint64_t bytes;
        assert_true(tensor_bytes(type, 1, count, &bytes));
        assert_int_equal(bytes, raw_count);
        /* One byte off: the source needs no alignment. */
        uint8_t *moved = malloc(raw_count + 1);
        float *values = malloc(count * sizeof *values);
        assert_true(moved && values);
        memcpy(moved + 1, raw, raw_count);
        dequantise(type, moved + 1, values, count);
        check_bits(type, values, expected, count * sizeof *values);
        free(values);
        free(moved);
    }
    golden_release(&golden);
}

static void every_format_that_can_be_made_equals_the_reference(void **state) {
    (void)state;
    struct golden golden;
    load_blocks(&golden);
    int compared = 0;
    for (int i = TENSOR_Q8_0; i <= TENSOR_Q5_1; i++) {
        enum tensor_type type = (enum tensor_type)i;
        const json_t *blocks = golden_get(blocks_of(&golden, type), "quantize");
        size_t raw_count, count;
        const float *values = golden_floats(&golden, golden_get(blocks, "floats"), &count);
        const uint8_t *expected = golden_bytes(&golden, golden_get(blocks, "raw"), &raw_count);
        const float *back = golden_floats(&golden, golden_get(blocks, "dequantized"), NULL);
        uint8_t *raw = malloc(raw_count);
        float *decoded = malloc(count * sizeof *decoded);
        assert_true(raw && decoded);
        assert_true(quantise(type, values, raw, count));
        check_bits(type, raw, expected, raw_count);
        dequantise(type, raw, decoded, count);
        check_bits(type, decoded, back, count * sizeof *decoded);
        free(decoded);
        free(raw);
        compared++;
    }
    assert_int_equal(compared, 5);
    golden_release(&golden);
}

static void rounding_to_half_and_bfloat16_equals_the_reference(void **state) {
    (void)state;
    struct golden golden;
    load_blocks(&golden);
    const json_t *round = golden_get(golden.root, "round");
    size_t count, size;
    const float *values = golden_floats(&golden, golden_get(round, "floats"), &count);
    const char *keys[] = { "f16_raw", "bf16_raw" };
    const enum tensor_type types[] = { TENSOR_F16, TENSOR_BF16 };
    for (int i = 0; i < 2; i++) {
        const uint8_t *expected = golden_bytes(&golden, golden_get(round, keys[i]), &size);
        uint16_t *raw = malloc(size);
        assert_non_null(raw);
        assert_int_equal(size, count * 2);
        assert_true(quantise(types[i], values, raw, count));
        check_bits(types[i], raw, expected, size);
        free(raw);
    }
    golden_release(&golden);
}

static void every_half_survives_the_way_through_float(void **state) {
    (void)state;
    for (uint32_t half = 0; half < 0x10000; half++) {
        float value = half_to_float((uint16_t)half);
        uint16_t back = float_to_half(value);
        if ((half & 0x7fff) > 0x7c00)
            assert_true(isnan(value) && (back & 0x7fff) > 0x7c00);
        else
            assert_int_equal(back, half);
    }
}

static void a_tie_between_two_halves_goes_to_the_even_one(void **state) {
    (void)state;
    for (uint32_t half = 0; half < 0x7bff; half++) {
        float low = half_to_float((uint16_t)half), high = half_to_float((uint16_t)(half + 1));
        float middle = (low + high) / 2;
        assert_int_equal(float_to_half(middle), half + (half & 1));
        assert_int_equal(float_to_half(nextafterf(middle, 0.0f)), half);
        assert_int_equal(float_to_half(nextafterf(middle, 1e6f)), half + 1);
        assert_int_equal(float_to_half(-middle), 0x8000 | (half + (half & 1)));
    }
    assert_int_equal(float_to_half(65519.9f), 0x7bff);
    assert_int_equal(float_to_half(65520.0f), 0x7c00);
    assert_int_equal(float_to_half(-INFINITY), 0xfc00);
}

static void sizes_that_cannot_be_are_refused(void **state) {
    (void)state;
    uint64_t bytes;
    assert_true(tensor_bytes(TENSOR_Q4_1, 3072, 576, &bytes));
    assert_int_equal(bytes, 3072ull * 18 * 20);
    assert_false(tensor_bytes(TENSOR_Q4_1, 1, 33, &bytes));
    assert_false(tensor_bytes(TENSOR_Q6_K, 1, 128, &bytes));
    assert_false(tensor_bytes(TENSOR_F32, UINT64_MAX / 2, 4, &bytes));
    assert_false(tensor_bytes(TENSOR_F32, 1, UINT64_MAX / 2, &bytes));
    assert_true(tensor_bytes(TENSOR_F32, 0, 7, &bytes));
    assert_int_equal(bytes, 0);
}

static void names_are_found_in_either_case(void **state) {
    (void)state;
    enum tensor_type type;
    for (int i = 0; i < TENSOR_TYPE_COUNT; i++) {
        assert_true(tensor_type_from_name(tensor_type_info((enum tensor_type)i)->name, &type));
        assert_int_equal(type, i);
    }
    assert_true(tensor_type_from_name("Q4_K", &type));
    assert_int_equal(type, TENSOR_Q4_K);
    assert_false(tensor_type_from_name("q2_k", &type));
    assert_false(tensor_type_from_name("", &type));
}

static void values_that_are_no_numbers_do_no_harm(void **state) {
    (void)state;
    float values[256];
    uint8_t raw[256 * 4];
    const float bad[] = { NAN, INFINITY, -INFINITY, 3e38f, 1e-45f };
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        for (int j = 0; j < 256; j++)
            values[j] = j % 3 ? bad[k] : (float)j;
        for (int i = 0; i < TENSOR_TYPE_COUNT; i++) {
            enum tensor_type type = (enum tensor_type)i;
            assert_int_equal(quantise(type, values, raw, 256), type < TENSOR_Q4_K);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_block_format_decodes_bit_for_bit),
        cmocka_unit_test(every_format_that_can_be_made_equals_the_reference),
        cmocka_unit_test(rounding_to_half_and_bfloat16_equals_the_reference),
        cmocka_unit_test(every_half_survives_the_way_through_float),
        cmocka_unit_test(a_tie_between_two_halves_goes_to_the_even_one),
        cmocka_unit_test(sizes_that_cannot_be_are_refused),
        cmocka_unit_test(names_are_found_in_either_case),
        cmocka_unit_test(values_that_are_no_numbers_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
