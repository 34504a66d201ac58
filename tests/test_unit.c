#include "tests/support.h"

#include "common/unit.h"
#include "tests/support_model.h"

static void units_come_in_the_order_of_execution(void **state) {
    (void)state;
    struct model *model = support_model(&support_phi3_mini);
    static const char *const first[] = { "embed", "attn.0", "ffn.0", "attn.1", "ffn.1", "attn.2" };
    char name[24];
    assert_int_equal(unit_count(model), 66);
    for (uint32_t i = 0; i < 6; i++) {
        unit_name(unit_at(model, i), name);
        assert_string_equal(name, first[i]);
    }
    unit_name(unit_at(model, 64), name);
    assert_string_equal(name, "ffn.31");
    unit_name(unit_at(model, 65), name);
    assert_string_equal(name, "head");
    model_close(model);
}

static void index_and_name_lead_back_to_the_unit(void **state) {
    (void)state;
    struct model *model = support_model(&support_phi3_mini);
    for (uint32_t i = 0; i < unit_count(model); i++) {
        struct unit unit = unit_at(model, i), found;
        char name[24];
        unit_name(unit, name);
        assert_int_equal(unit_index(model, unit), i);
        assert_true(unit_from_name(model, name, &found));
        assert_int_equal(found.kind, unit.kind);
        assert_int_equal(found.block, unit.block);
    }
    model_close(model);
}

static void names_that_are_no_unit_are_refused(void **state) {
    (void)state;
    struct model *model = support_model(&support_phi3_mini);
    static const char *const wrong[] = { "", "attn", "attn.", "attn.32", "attn.-1", "attn.01", "ffn.1x", "ffn. 1",
                                         "head.0", "Embed", "attn.4294967297", "ffn.99999999999999999999" };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct unit unit = { UNIT_HEAD, 7 };
        assert_false(unit_from_name(model, wrong[i], &unit));
        assert_int_equal(unit.block, 7);
    }
    model_close(model);
}

static void parts_cover_a_unit_whole(void **state) {
    (void)state;
    struct support_shape shape = support_phi3_mini;
    shape.blocks = 1;
    struct model *model = support_model(&shape);
    assert_int_equal(unit_part_count(model, (struct unit){ UNIT_EMBED, 0 }), 1);
    assert_int_equal(unit_part_count(model, (struct unit){ UNIT_ATTN, 0 }), 32);
    assert_int_equal(unit_part_count(model, (struct unit){ UNIT_FFN, 0 }), 32);     /* 8192 / 256 */
    assert_int_equal(unit_part_count(model, (struct unit){ UNIT_HEAD, 0 }), 2004);  /* 32064 / 16 */
    model->intermediate_size = 257;
    model->vocab_size = 1000;
    assert_int_equal(unit_part_count(model, (struct unit){ UNIT_FFN, 0 }), 2);
    assert_int_equal(unit_part_count(model, (struct unit){ UNIT_HEAD, 0 }), 63);
    model_close(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(units_come_in_the_order_of_execution),
        cmocka_unit_test(index_and_name_lead_back_to_the_unit),
        cmocka_unit_test(names_that_are_no_unit_are_refused),
        cmocka_unit_test(parts_cover_a_unit_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
