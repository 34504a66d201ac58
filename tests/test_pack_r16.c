#include "tests/support.h"

#include "common/pack_r16.h"
#include "tests/support_kernels.h"

#include <stdlib.h>
#include <string.h>

static const enum tensor_type types[] = { TENSOR_Q8_0, TENSOR_Q4_0, TENSOR_Q4_1, TENSOR_Q4_K, TENSOR_Q6_K };
enum { TYPES = sizeof types / sizeof *types };

struct packed {
    struct r16_shape shape;
    size_t row_bytes, file_bytes;
    uint8_t *rows, *packed;
};

static struct packed make_packed(enum tensor_type type, uint32_t rows, uint32_t columns) {
    struct packed made = { 0 };
    assert_true(r16_shape_init(&made.shape, type, rows, columns));
    made.rows = random_weights(type, rows + columns, rows, columns, &made.file_bytes);
    made.row_bytes = made.file_bytes / rows;
    made.packed = test_alloc(made.shape.bytes);
    return made;
}

static void release(struct packed *made) {
    free(made->rows);
    free(made->packed);
}

/* The value that the layout's description says lies at (row, column). */
static float value_at(const struct packed *made, uint64_t row, uint64_t column) {
    uint64_t cell = row / 16 * made->shape.block_count + column / 32, lane = row % 16, c = column % 32;
    bool is_large = made->shape.type == TENSOR_Q4_K || made->shape.type == TENSOR_Q6_K;
    uint64_t scale = is_large ? row / 16 * (made->shape.block_count / 8) + column / 256 : cell;
    const uint8_t *factors = made->packed + made->shape.factors_at + cell * 32 + lane;
    uint16_t d, m = 0;
    memcpy(&d, made->packed + made->shape.scales_at + scale * 32 + lane * 2, 2);
    if (made->shape.type == TENSOR_Q6_K) {
        const uint8_t *quants = made->packed + cell * 384;
        int low = quants[c / 8 * 64 + lane * 4 + c % 4] >> (c % 8 < 4 ? 0 : 4) & 15;
        int high = quants[256 + c / 16 * 64 + lane * 4 + c % 4] >> (c % 16 / 4 * 2) & 3;
        float step = half_to_float(d) * (float)(int8_t)factors[c / 16 * 16];
        return step * (float)((low | high << 4) - 32);
    }
    if (made->shape.type == TENSOR_Q8_0)
        return half_to_float(d) * (float)(int8_t)made->packed[cell * 512 + c / 4 * 64 + lane * 4 + c % 4];
    int byte = made->packed[cell * 256 + c / 8 * 64 + lane * 4 + c % 4];
    int nibble = c % 8 < 4 ? byte & 15 : byte >> 4;
    if (made->shape.type == TENSOR_Q4_0)
        return half_to_float(d) * (float)(nibble - 8);
    memcpy(&m, made->packed + made->shape.mins_at + scale * 32 + lane * 2, 2);
    if (made->shape.type == TENSOR_Q4_K) {
        float step = half_to_float(d) * (float)factors[0], floor = half_to_float(m) * (float)factors[16];
        float value = step * (float)nibble;
        return value - floor;
    }
    float product = half_to_float(d) * (float)nibble;
    return product + half_to_float(m);
}

#define COLUMNS 768u

static void packed_values_are_where_the_layout_says(void **state) {
    (void)state;
    for (size_t t = 0; t < TYPES; t++) {
        struct packed made = make_packed(types[t], 37, COLUMNS);
        float *want = test_alloc(37 * COLUMNS * sizeof *want);
        dequantise(types[t], made.rows, want, 37 * COLUMNS);
        assert_true(r16_pack(&made.shape, 0, 37, made.rows, made.packed));
        for (uint64_t row = 0; row < 37; row++)
            for (uint64_t column = 0; column < COLUMNS; column++) {
                float got = value_at(&made, row, column);
                assert_memory_equal(&got, &want[row * COLUMNS + column], sizeof got);
            }
        free(want);
        release(&made);
    }
}

static void portions_give_the_bytes_of_the_whole(void **state) {
    (void)state;
    static const uint64_t portions[] = { 1, 14, 2, 16, 4 };
    for (size_t t = 0; t < TYPES; t++) {
        struct packed made = make_packed(types[t], 37, 512);
        uint8_t *parts = test_alloc(made.shape.bytes);
        assert_true(r16_pack(&made.shape, 0, 37, made.rows, made.packed));
        uint64_t row = 0;
        for (size_t i = 0; i < 5; row += portions[i++])
            assert_true(r16_pack(&made.shape, row, portions[i], made.rows + row * made.row_bytes, parts));
        assert_int_equal(row, 37);
        assert_memory_equal(parts, made.packed, made.shape.bytes);
        free(parts);
        release(&made);
    }
}

static void unpacking_gives_the_file_s_bytes(void **state) {
    (void)state;
    for (size_t t = 0; t < TYPES; t++)
        for (uint32_t rows = 1; rows < 50; rows += 6) {
            struct packed made = make_packed(types[t], rows, 512);
            /* One byte off: no pointer needs alignment. */
            uint8_t *moved = test_alloc(made.shape.bytes + 1), *back = test_alloc(made.file_bytes + 1);
            assert_true(r16_pack(&made.shape, 0, rows, made.rows, moved + 1));
            assert_true(r16_unpack(&made.shape, 0, rows, moved + 1, back + 1));
            assert_memory_equal(back + 1, made.rows, made.file_bytes);
            assert_true(r16_unpack(&made.shape, rows - 1, 1, moved + 1, back));
            assert_memory_equal(back, made.rows + (rows - 1) * made.row_bytes, made.row_bytes);
            free(moved);
            free(back);
            release(&made);
        }
}

static void padding_is_zero(void **state) {
    (void)state;
    struct packed made = make_packed(TENSOR_Q4_1, 1, 32);
    memset(made.rows, 0xff, made.file_bytes);
    assert_true(r16_pack(&made.shape, 0, 1, made.rows, made.packed));
    size_t set = 0;
    for (size_t i = 0; i < made.shape.bytes; i++)
        set += made.packed[i] != 0;
    assert_int_equal(set, 20);   /* a block's bytes */
    release(&made);
}

static void planes_start_at_multiples_of_256_bytes(void **state) {
    (void)state;
    struct r16_shape shape;
    assert_true(r16_shape_init(&shape, TENSOR_Q4_1, 17, 96));
    assert_int_equal(shape.group_count, 2);
    assert_int_equal(shape.block_count, 3);
    assert_int_equal(shape.scales_at, 6 * 256);
    assert_int_equal(shape.mins_at, 6 * 256 + 256);
    assert_int_equal(shape.bytes, 6 * 256 + 512);
    assert_true(r16_shape_init(&shape, TENSOR_Q8_0, 16, 32));
    assert_int_equal(shape.scales_at, 512);
    assert_int_equal(shape.mins_at, shape.bytes);
    assert_int_equal(shape.bytes, 768);
}

static void shapes_that_cannot_be_packed_are_refused(void **state) {
    (void)state;
    struct r16_shape shape;
    assert_false(r16_shape_init(&shape, TENSOR_F16, 16, 32));
    assert_false(r16_shape_init(&shape, TENSOR_Q5_K, 16, 256));
    assert_false(r16_shape_init(&shape, TENSOR_Q4_K, 16, 128));
    assert_false(r16_shape_init(&shape, TENSOR_Q6_K, UINT64_MAX / 32, 256));
    assert_false(r16_shape_init(&shape, TENSOR_Q4_0, 16, 33));
    assert_false(r16_shape_init(&shape, TENSOR_Q4_0, 0, 32));
    assert_false(r16_shape_init(&shape, TENSOR_Q4_0, 16, 0));
    assert_false(r16_shape_init(&shape, TENSOR_Q4_0, UINT64_MAX, 32));
    assert_false(r16_shape_init(&shape, TENSOR_Q4_0, UINT64_MAX / 16, 1u << 20));
    assert_false(r16_shape_init(&shape, TENSOR_Q8_0, UINT64_MAX - 15, 32));
}

static void rows_outside_the_matrix_are_refused(void **state) {
    (void)state;
    struct packed made = make_packed(TENSOR_Q4_0, 5, 32);
    uint8_t *untouched = test_alloc(made.shape.bytes);
    assert_false(r16_pack(&made.shape, 0, 6, made.rows, made.packed));
    assert_false(r16_pack(&made.shape, 5, 1, made.rows, made.packed));
    assert_false(r16_pack(&made.shape, 6, 0, made.rows, made.packed));
    assert_false(r16_pack(&made.shape, 1, UINT64_MAX, made.rows, made.packed));
    assert_false(r16_unpack(&made.shape, 4, 2, made.packed, made.rows));
    assert_memory_equal(made.packed, untouched, made.shape.bytes);
    assert_true(r16_pack(&made.shape, 5, 0, made.rows, made.packed));
    free(untouched);
    release(&made);
}

static void layouts_have_names(void **state) {
    (void)state;
    enum weight_layout layout = LAYOUT_COUNT;
    assert_true(weight_layout_from_name("r16", &layout));
    assert_int_equal(layout, LAYOUT_R16);
    assert_true(weight_layout_from_name("keep", &layout));
    assert_int_equal(layout, LAYOUT_ROWS);
    assert_false(weight_layout_from_name("R16", &layout));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_values_are_where_the_layout_says),
        cmocka_unit_test(portions_give_the_bytes_of_the_whole),
        cmocka_unit_test(unpacking_gives_the_file_s_bytes),
        cmocka_unit_test(padding_is_zero),
        cmocka_unit_test(planes_start_at_multiples_of_256_bytes),
        cmocka_unit_test(shapes_that_cannot_be_packed_are_refused),
        cmocka_unit_test(rows_outside_the_matrix_are_refused),
        cmocka_unit_test(layouts_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
