#include "tests/support.h"

#include "common/file_map.h"
#include "common/model.h"
#include "tests/support_checkpoint.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct model *open_path(const char *path, struct error *err) {
    struct model_source source;
    if (!model_source_resolve(&source, path, err))
        return NULL;
    struct model *model = model_open(&source, NULL, err);
    model_source_release(&source);
    return model;
}

static uint8_t *read_all(const struct model *model, const struct weight_ref *ref) {
    struct error err = { 0 };
    uint64_t read = 0, bytes = model_ref_bytes(model, ref);
    uint8_t *rows = malloc(bytes);
    assert_non_null(rows);
    ASSERT_OK(weight_read_rows(model, ref, 0, ref->row_count, rows, &read, &err), err);
    assert_int_equal(read, bytes);
    return rows;
}

/* The BF16 GGUFs hold exactly the weights of the directories; llama's q and k in
 * another order of rows, norms as float32. */
static void gguf_rows_equal_those_of_the_directory(void **state) {
    (void)state;
    static const char *const names[][2] = {
        { "models/llama-tiny", "models/gguf/llama-tiny-BF16.gguf" },
        { "models/qwen2-tiny", "models/gguf/qwen2-tiny-BF16.gguf" },
        { "models/qwen3-tiny", "models/gguf/qwen3-tiny-BF16.gguf" },
        { "models/quantizable-tiny", "models/gguf/quantizable-tiny-F16.gguf" },
    };
    static const enum block_role roles[] = { ROLE_Q, ROLE_K, ROLE_V, ROLE_O, ROLE_GATE, ROLE_UP, ROLE_DOWN };
    size_t compared = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *directory = test_data(names[i][0]), *file = test_data(names[i][1]);
        struct error err = { 0 };
        if (!directory || !file)
            continue;
        struct model *a = open_path(directory, &err), *b = open_path(file, &err);
        ASSERT_OK(a && b, err);
        for (uint32_t block = 0; block < a->block_count; block++)
            for (size_t r = 0; r < sizeof roles / sizeof *roles; r++) {
                const struct weight_ref *x = &a->blocks[block].weights[roles[r]];
                const struct weight_ref *y = &b->blocks[block].weights[roles[r]];
                uint8_t *p = read_all(a, x), *q = read_all(b, y);
                assert_int_equal(model_ref_bytes(a, x), model_ref_bytes(b, y));
                assert_memory_equal(p, q, model_ref_bytes(a, x));
                free(p);
                free(q);
            }
        uint8_t *p = read_all(a, &a->embed), *q = read_all(b, &b->embed);
        assert_memory_equal(p, q, model_ref_bytes(a, &a->embed));
        free(p);
        free(q);
        model_close(a);
        model_close(b);
        compared++;
    }
    if (!compared)
        SKIP_BECAUSE("no pair of a directory and its GGUF");
}

/* hidden 8, two heads of 4, one KV head; q's row r holds r in every value. */
static struct model *numbered_model(const char *path, struct error *err) {
    struct support_gguf file;
    support_gguf_begin(&file);
    support_gguf_string(&file, "general.architecture", "llama");
    support_gguf_u32(&file, "llama.block_count", 1);
    support_gguf_u32(&file, "llama.embedding_length", 8);
    support_gguf_u32(&file, "llama.feed_forward_length", 16);
    support_gguf_u32(&file, "llama.attention.head_count", 2);
    support_gguf_u32(&file, "llama.attention.head_count_kv", 1);
    support_gguf_u32(&file, "llama.context_length", 64);
    support_gguf_tensor(&file, "blk.0.attn_q.weight", 8, 8);
    support_gguf_tensor(&file, "blk.0.attn_k.weight", 4, 8);
    support_gguf_tensor(&file, "blk.0.attn_v.weight", 4, 8);
    support_gguf_tensor(&file, "blk.0.attn_output.weight", 8, 8);
    support_gguf_tensor(&file, "blk.0.attn_norm.weight", 0, 8);
    support_gguf_tensor(&file, "blk.0.ffn_norm.weight", 0, 8);
    support_gguf_tensor(&file, "blk.0.ffn_gate.weight", 16, 8);
    support_gguf_tensor(&file, "blk.0.ffn_up.weight", 16, 8);
    support_gguf_tensor(&file, "blk.0.ffn_down.weight", 8, 16);
    support_gguf_tensor(&file, "token_embd.weight", 3, 8);
    support_gguf_tensor(&file, "output_norm.weight", 0, 8);
    support_gguf_write(&file, path);
    struct model *model = open_path(path, err);
    ASSERT_OK(model, *err);
    size_t size;
    char *bytes = file_read_all(path, 1 << 20, &size, err);
    ASSERT_OK(bytes, *err);
    float *q = (float *)(void *)(bytes + model->tensors[model->blocks[0].weights[ROLE_Q].tensor].offset);
    for (int i = 0; i < 64; i++)
        q[i] = (float)(i / 8);
    support_write(path, bytes, size);
    free(bytes);
    return model;
}

static void interleaved_rows_come_in_our_order(void **state) {
    (void)state;
    struct error err = { 0 };
    struct model *model = numbered_model(support_path(test_folder(), "numbered.gguf"), &err);
    const struct weight_ref *q = &model->blocks[0].weights[ROLE_Q];
    /* Ours: the even rows of a head, then its odd ones. */
    static const float order[] = { 0, 2, 1, 3, 4, 6, 5, 7 };
    float rows[8][8];
    for (uint64_t begin = 0; begin < 8; begin++)
        for (uint64_t count = 0; begin + count <= 8; count++) {
            uint64_t read = 5;
            ASSERT_OK(weight_read_rows(model, q, begin, count, rows, &read, &err), err);
            assert_int_equal(read, 5 + count * 32);
            for (uint64_t i = 0; i < count; i++)
                assert_true(rows[i][0] == order[begin + i] && rows[i][7] == order[begin + i]);
        }
    model_close(model);
}

static void rows_that_do_not_exist_are_refused(void **state) {
    (void)state;
    struct error err = { 0 };
    const char *path = support_path(test_folder(), "range.gguf");
    struct model *model = numbered_model(path, &err);
    const struct weight_ref *w = model->blocks[0].weights;
    float rows[64];
    uint64_t read = 0;
    assert_false(weight_read_rows(model, &w[ROLE_V], 0, 5, rows, &read, &err));
    assert_false(weight_read_rows(model, &w[ROLE_V], 5, 0, rows, &read, &err));
    assert_false(weight_read_rows(model, &w[ROLE_V], 1, UINT64_MAX, rows, &read, &err));
    assert_false(weight_read_rows(model, &w[ROLE_Q_BIAS], 0, 1, rows, &read, &err));
    assert_int_equal(read, 0);
    /* The file got shorter after it was opened. */
    assert_int_equal(truncate(path, (off_t)model->tensors[w[ROLE_Q].tensor].offset + 40), 0);
    assert_false(weight_read_rows(model, &w[ROLE_Q], 0, 8, rows, &read, &err));
    assert_non_null(strstr(err.text, "truncated"));
    assert_int_equal(read, 0);
    model_close(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_rows_equal_those_of_the_directory),
        cmocka_unit_test(interleaved_rows_come_in_our_order),
        cmocka_unit_test(rows_that_do_not_exist_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
