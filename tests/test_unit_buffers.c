#include "tests/support.h"

#include "common/unit_buffers.h"
#include "tests/support_checkpoint.h"
#include "tests/support_model.h"

#include <stdlib.h>
#include <string.h>

static const struct buffer_options plain = {
    .context = 4096, .micro_batch = 256, .sequence_count = 1, .logit_rows = 1, .kv_type = KV_F16,
    .numeric = NUMERIC_FLOAT, .alignment = 128, .max_buffer_bytes = 1u << 30,
};

static const struct buffer_spec *find(const struct buffer_list *list, enum buffer_role role, size_t nth) {
    for (size_t i = 0; i < list->count; i++)
        if (list->specs[i].role == role && nth-- == 0)
            return &list->specs[i];
    return NULL;
}

static void phi3_mini_in_half_precision_has_the_published_sizes(void **state) {
    (void)state;
    struct error err = { 0 };
    struct model *model = support_model(&support_phi3_mini);
    struct buffer_list layer = { 0 }, head = { 0 }, table = { 0 };
    ASSERT_OK(unit_buffers(model, (struct unit){ UNIT_ATTN, 5 }, &plain, &layer, &err), err);
    ASSERT_OK(unit_buffers(model, (struct unit){ UNIT_FFN, 5 }, &plain, &layer, &err), err);
    /* 216.0 MiB of matrices and two float32 norms */
    assert_int_equal(layer.total_bytes[BUFFER_WEIGHTS], 216 * 1048576 + 2 * 12288);
    /* 384 KiB a token over 32 layers */
    assert_int_equal(layer.total_bytes[BUFFER_KV] * 32, 393216ull * 4096);
    assert_int_equal(find(&layer, BUFFER_QKV, 0)->used_bytes, 56623104);
    assert_int_equal(find(&layer, BUFFER_QKV, 0)->row_count, 9216);
    assert_int_equal(find(&layer, BUFFER_O, 0)->used_bytes, 18874368);
    assert_int_equal(find(&layer, BUFFER_GATE_UP, 0)->used_bytes, 100663296);
    assert_int_equal(find(&layer, BUFFER_DOWN, 0)->used_bytes, 50331648);
    assert_int_equal(find(&layer, BUFFER_K, 0)->bytes, 25165824);
    assert_int_equal(find(&layer, BUFFER_K, 0)->unit, 11);
    assert_null(find(&layer, BUFFER_QKV_BIAS, 0));
    assert_null(find(&layer, BUFFER_QK_NORM, 0));
    ASSERT_OK(unit_buffers(model, (struct unit){ UNIT_HEAD, 0 }, &plain, &head, &err), err);
    assert_int_equal(head.total_bytes[BUFFER_WEIGHTS], 197001216 + 12288);   /* 187.9 MiB and the norm */
    ASSERT_OK(unit_buffers(model, (struct unit){ UNIT_EMBED, 0 }, &plain, &table, &err), err);
    assert_int_equal(table.count, 1);
    assert_int_equal(table.total_bytes[BUFFER_WEIGHTS], 197001216);
    buffer_list_release(&layer);
    buffer_list_release(&head);
    buffer_list_release(&table);
    model_close(model);
}

static void a_config_alone_gives_the_same_sizes(void **state) {
    (void)state;
    struct error err = { 0 };
    struct model_source source;
    const struct model_options dry = { .headers_optional = true };
    const char *directory = support_directory("config");
    support_phi3_mini_config(directory, "");
    ASSERT_OK(model_source_resolve(&source, directory, &err), err);
    struct model *model = model_open(&source, &dry, &err);
    ASSERT_OK(model, err);
    uint64_t weights = 0, kv = 0;
    for (uint32_t i = 0; i < unit_count(model); i++) {
        struct buffer_list list = { 0 };
        ASSERT_OK(unit_buffers(model, unit_at(model, i), &plain, &list, &err), err);
        weights += list.total_bytes[BUFFER_WEIGHTS];
        kv += list.total_bytes[BUFFER_KV];
        buffer_list_release(&list);
    }
    /* 65 norms grow from two to four bytes a value. */
    assert_int_equal(weights, model_weight_bytes(model) + 65 * 3072 * 2);
    assert_int_equal(kv, 393216ull * 4096);
    model_close(model);
    model_source_release(&source);
}

static void quantised_layers_have_the_published_sizes(void **state) {
    (void)state;
    struct error err = { 0 };
    struct support_shape shape = support_phi3_mini;
    shape.q_type = shape.k_type = shape.v_type = shape.type = TENSOR_Q4_0;
    struct model *model = support_model(&shape);
    struct buffer_list layer = { 0 };
    assert_int_equal(model_numeric_class(model, false), NUMERIC_INT8);
    assert_int_equal(model_numeric_class(model, true), NUMERIC_FLOAT);
    ASSERT_OK(unit_buffers(model, (struct unit){ UNIT_ATTN, 0 }, &plain, &layer, &err), err);
    ASSERT_OK(unit_buffers(model, (struct unit){ UNIT_FFN, 0 }, &plain, &layer, &err), err);
    assert_int_equal(layer.total_bytes[BUFFER_WEIGHTS], 113246208ull / 32 * 18 + 2 * 12288);   /* 60.8 MiB */
    buffer_list_release(&layer);
    model_close(model);
}

static void one_quantised_matrix_makes_the_int8_class(void **state) {
    (void)state;
    struct support_shape shape = support_phi3_mini;
    struct model *model = support_model(&shape);
    assert_int_equal(model_numeric_class(model, false), NUMERIC_FLOAT);
    model->tensors[model->embed.tensor].type = TENSOR_Q8_0;   /* gathered, never multiplied */
    assert_int_equal(model_numeric_class(model, false), NUMERIC_FLOAT);
    model->tensors[model->blocks[31].weights[ROLE_DOWN].tensor].type = TENSOR_Q8_0;
    assert_int_equal(model_numeric_class(model, false), NUMERIC_INT8);
    model_close(model);
}

static void scratch_follows_the_micro_batch(void **state) {
    (void)state;
    struct error err = { 0 };
    struct model *model = support_model(&support_phi3_mini);
    bool held[66];
    memset(held, 1, sizeof held);
    struct buffer_list list = { 0 };
    ASSERT_OK(device_buffers(model, held, &plain, &list, &err), err);
    assert_int_equal(find(&list, BUFFER_RESIDUAL, 0)->bytes, 256 * 3072 * 4);
    assert_int_equal(find(&list, BUFFER_ACT, 0)->bytes, 256 * 8192 * 4);
    assert_int_equal(find(&list, BUFFER_WIDE, 0)->bytes, 256 * 16384 * 4);
    assert_int_equal(find(&list, BUFFER_LOGITS, 0)->bytes, (32064 * 4 + 127) / 128 * 128);
    assert_int_equal(find(&list, BUFFER_TOKENS, 0)->bytes, 1024);
    assert_int_equal(find(&list, BUFFER_ROPE, 0)->bytes, 256 * 48 * 2 * 4);
    assert_int_equal(find(&list, BUFFER_PAGES, 0)->used_bytes, 128 * 4);
    assert_int_equal(find(&list, BUFFER_TURNS, 0)->bytes, 128);
    assert_non_null(find(&list, BUFFER_STAGE, 1));
    assert_int_equal(list.total_bytes[BUFFER_STAGING], 2 * 256 * 3072 * 4);
    assert_null(find(&list, BUFFER_ACT_Q8, 0));
    assert_int_equal(list.total_bytes[BUFFER_WEIGHTS], 0);

    struct buffer_options int8 = plain;
    int8.numeric = NUMERIC_INT8;
    struct buffer_list q8 = { 0 };
    ASSERT_OK(device_buffers(model, held, &int8, &q8, &err), err);
    assert_int_equal(find(&q8, BUFFER_ACT_Q8, 0)->bytes, 256 * 8192);
    assert_int_equal(find(&q8, BUFFER_ACT_SCALE, 0)->bytes, 256 * 256 * 4);
    assert_int_equal(find(&q8, BUFFER_ACT_SUM, 0)->bytes, 256 * 256 * 4);
    assert_int_equal(q8.total_bytes[BUFFER_SCRATCH] - list.total_bytes[BUFFER_SCRATCH], 256 * (8192 + 2048));
    buffer_list_release(&list);
    buffer_list_release(&q8);
    model_close(model);
}

static void scratch_holds_only_what_the_units_need(void **state) {
    (void)state;
    struct error err = { 0 };
    struct model *model = support_model(&support_phi3_mini);
    bool held[66] = { false };
    struct buffer_list none = { 0 }, attn = { 0 }, head = { 0 };
    ASSERT_OK(device_buffers(model, held, &plain, &none, &err), err);
    assert_int_equal(none.count, 0);
    held[1] = true;
    ASSERT_OK(device_buffers(model, held, &plain, &attn, &err), err);
    assert_int_equal(find(&attn, BUFFER_ACT, 0)->column_count, 3072);
    assert_int_equal(find(&attn, BUFFER_WIDE, 0)->column_count, 9216);
    assert_null(find(&attn, BUFFER_LOGITS, 0));
    assert_null(find(&attn, BUFFER_TOKENS, 0));
    held[1] = false;
    held[65] = true;
    ASSERT_OK(device_buffers(model, held, &plain, &head, &err), err);
    assert_null(find(&head, BUFFER_WIDE, 0));
    assert_null(find(&head, BUFFER_PAGES, 0));
    assert_non_null(find(&head, BUFFER_LOGITS, 0));
    buffer_list_release(&attn);
    buffer_list_release(&head);
    model_close(model);
}

static void a_matrix_larger_than_a_buffer_is_cut_by_rows(void **state) {
    (void)state;
    struct error err = { 0 };
    struct model *model = support_model(&support_phi3_mini);
    struct buffer_options options = plain;
    options.max_buffer_bytes = 30 * 1048576 + 77;
    options.context = 64;
    struct buffer_list list = { 0 };
    ASSERT_OK(unit_buffers(model, (struct unit){ UNIT_FFN, 0 }, &options, &list, &err), err);
    uint64_t next = 0, bytes = 0;
    for (size_t i = 0; find(&list, BUFFER_GATE_UP, i); i++) {
        const struct buffer_spec *spec = find(&list, BUFFER_GATE_UP, i);
        assert_int_equal(spec->row_begin, next);
        assert_int_equal(spec->row_begin % 16, 0);
        assert_true(spec->bytes <= options.max_buffer_bytes);
        assert_int_equal(spec->bytes % options.alignment, 0);
        next += spec->row_count;
        bytes += spec->used_bytes;
    }
    assert_int_equal(next, 16384);
    assert_int_equal(bytes, 100663296);
    /* 30 MiB hold 5120 rows of 6144 bytes: four buffers */
    assert_non_null(find(&list, BUFFER_GATE_UP, 3));
    assert_null(find(&list, BUFFER_GATE_UP, 4));
    buffer_list_release(&list);
    model_close(model);
}

static void neighbours_of_different_type_get_buffers_of_their_own(void **state) {
    (void)state;
    struct error err = { 0 };
    struct support_shape shape = { .hidden = 256, .intermediate = 512, .blocks = 1, .heads = 4, .kv_heads = 2,
        .head_dim = 64, .vocab = 1000, .q_type = TENSOR_Q4_0, .k_type = TENSOR_Q4_0, .v_type = TENSOR_Q6_K,
        .type = TENSOR_Q4_0, .has_bias = true, .has_qk_norm = true };
    struct model *model = support_model(&shape);
    struct buffer_list list = { 0 };
    ASSERT_OK(unit_buffers(model, (struct unit){ UNIT_ATTN, 0 }, &plain, &list, &err), err);
    const struct buffer_spec *qk = find(&list, BUFFER_QKV, 0), *v = find(&list, BUFFER_QKV, 1);
    assert_int_equal(qk->row_count, 384);
    assert_int_equal(qk->type, TENSOR_Q4_0);
    assert_int_equal(qk->used_bytes, 384 * 256 / 32 * 18);
    assert_int_equal(v->row_begin, 384);
    assert_int_equal(v->row_count, 128);
    assert_int_equal(v->type, TENSOR_Q6_K);
    assert_int_equal(v->used_bytes, 128 * 210);
    assert_int_equal(find(&list, BUFFER_QKV_BIAS, 0)->used_bytes, 512 * 4);
    assert_int_equal(find(&list, BUFFER_QK_NORM, 0)->used_bytes, 2 * 64 * 4);
    assert_int_equal(find(&list, BUFFER_QK_NORM, 0)->row_count, 2);
    buffer_list_release(&list);
    model_close(model);
}

static void each_further_sequence_adds_one_page(void **state) {
    (void)state;
    struct error err = { 0 };
    struct model *model = support_model(&support_phi3_mini);
    struct buffer_options options = plain;
    struct buffer_list list = { 0 };
    const uint64_t page = 32 * 32 * 96 * 2;
    options.context = 33;
    ASSERT_OK(unit_buffers(model, (struct unit){ UNIT_ATTN, 0 }, &options, &list, &err), err);
    options.sequence_count = 5;
    ASSERT_OK(unit_buffers(model, (struct unit){ UNIT_ATTN, 0 }, &options, &list, &err), err);
    assert_int_equal(find(&list, BUFFER_K, 0)->used_bytes, 2 * page);
    assert_int_equal(find(&list, BUFFER_V, 1)->used_bytes, 6 * page);
    assert_int_equal(kv_vector_bytes(model, KV_F32), 384);
    assert_int_equal(kv_vector_bytes(model, KV_Q8_0), 102);
    model->head_dim = 48;   /* the second block of 32 is half used */
    assert_int_equal(kv_vector_bytes(model, KV_Q8_0), 68);
    buffer_list_release(&list);
    model_close(model);
}

static void what_fits_no_buffer_is_refused_by_name(void **state) {
    (void)state;
    struct error err = { 0 };
    struct model *model = support_model(&support_phi3_mini);
    struct buffer_options options = plain;
    struct buffer_list list = { 0 };
    options.max_buffer_bytes = 24 * 1048576 - 1;
    assert_false(unit_buffers(model, (struct unit){ UNIT_ATTN, 3 }, &options, &list, &err));
    assert_non_null(strstr(err.text, "attn.3"));
    assert_non_null(strstr(err.text, "--ctx"));
    options.max_buffer_bytes = 6143;
    assert_false(unit_buffers(model, (struct unit){ UNIT_EMBED, 0 }, &options, &list, &err));
    assert_non_null(strstr(err.text, "one row of 'table' of embed"));
    bool held[66] = { [65] = true };
    options = plain;
    options.logit_rows = INT32_MAX;
    options.micro_batch = 1;
    assert_false(device_buffers(model, held, &options, &list, &err));
    assert_non_null(strstr(err.text, "'logits'"));
    options.alignment = 96;
    assert_false(device_buffers(model, held, &options, &list, &err));
    buffer_list_release(&list);
    model_close(model);
}

static void names_of_kv_types_are_read_back(void **state) {
    (void)state;
    enum kv_type type = KV_F32;
    for (int i = KV_F32; i <= KV_Q8_0; i++) {
        assert_true(kv_type_from_name(kv_type_name((enum kv_type)i), &type));
        assert_int_equal(type, i);
    }
    assert_false(kv_type_from_name("q4_0", &type));
    for (int role = BUFFER_NORM; role <= BUFFER_STAGE; role++)
        assert_non_null(buffer_role_name((enum buffer_role)role));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(phi3_mini_in_half_precision_has_the_published_sizes),
        cmocka_unit_test(a_config_alone_gives_the_same_sizes),
        cmocka_unit_test(quantised_layers_have_the_published_sizes),
        cmocka_unit_test(one_quantised_matrix_makes_the_int8_class),
        cmocka_unit_test(scratch_follows_the_micro_batch),
        cmocka_unit_test(scratch_holds_only_what_the_units_need),
        cmocka_unit_test(a_matrix_larger_than_a_buffer_is_cut_by_rows),
        cmocka_unit_test(neighbours_of_different_type_get_buffers_of_their_own),
        cmocka_unit_test(each_further_sequence_adds_one_page),
        cmocka_unit_test(what_fits_no_buffer_is_refused_by_name),
        cmocka_unit_test(names_of_kv_types_are_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
