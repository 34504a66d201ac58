/* Keys far back: the spans of a query, summed by one or by several, give the same bits. */
#include "tests/support_kernels.h"

#include "kernels/attention_span.h"
#include "tests/reference_ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 3, SEQUENCES = 2, ROOM_BYTE = 0x5a };

/* Three queries: two tokens that follow each other at the end of `depth` keys, and one of a
 * second sequence, which has the same pages and is a third as long. window 0: none. */
struct scene {
    uint32_t heads, kv_heads, dim, depth, window;
};

struct inputs {
    struct scene scene;
    enum kv_type kv_type;
    struct attention_args args;
    uint32_t pages;
    size_t kv_bytes, out_values, room_values;
    char *k, *v;
    float *qkv, *want;
    int32_t positions[TOKENS], sequences[TOKENS], *page_table;
};

/* Vectors of all positions, in pages handed out in no order; the rest is NaN. */
static char *random_keys(const struct inputs *in, uint64_t seed) {
    const struct scene *scene = &in->scene;
    const struct model model = { .head_dim = scene->dim };
    const size_t vector = kv_vector_bytes(&model, in->kv_type), blocks = (scene->dim + 31) / 32;
    struct random random = { seed };
    char *keys = test_alloc(in->kv_bytes);
    memset(keys, 0xff, in->kv_bytes);
    for (uint32_t p = 0; p < scene->depth; p++)
        for (uint32_t head = 0; head < scene->kv_heads; head++) {
            size_t page = (size_t)in->page_table[p / KV_PAGE_TOKENS];
            char *at = keys + ((page * scene->kv_heads + head) * KV_PAGE_TOKENS + p % KV_PAGE_TOKENS) * vector;
            for (size_t d = 0; d < (in->kv_type == KV_Q8_0 ? blocks * 32 : scene->dim); d++) {
                float value = random_float(&random);
                uint16_t half = float_to_half(value);
                if (in->kv_type == KV_Q8_0)
                    at[d] = (char)(int8_t)(value * 127.0f);
                else if (in->kv_type == KV_F16)
                    memcpy(at + 2 * d, &half, sizeof half);
                else
                    memcpy(at + 4 * d, &value, sizeof value);
            }
            for (size_t block = 0; in->kv_type == KV_Q8_0 && block < blocks; block++) {
                uint16_t half = float_to_half((2.0f + random_float(&random)) / 256.0f);
                memcpy(at + blocks * 32 + 2 * block, &half, sizeof half);
            }
        }
    return keys;
}

static struct inputs inputs_new(const struct scene *scene, enum kv_type kv_type) {
    const struct model model = { .head_dim = scene->dim };
    struct inputs in = { .scene = *scene, .kv_type = kv_type };
    in.pages = (scene->depth + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
    in.kv_bytes = (size_t)in.pages * scene->kv_heads * KV_PAGE_TOKENS * kv_vector_bytes(&model, kv_type);
    in.page_table = test_alloc(SEQUENCES * in.pages * sizeof *in.page_table);
    for (uint32_t i = 0; i < SEQUENCES * in.pages; i++)
        in.page_table[i] = (int32_t)(in.pages - 1 - i % in.pages);
    in.k = random_keys(&in, 1);
    in.v = random_keys(&in, 2);
    const uint32_t row = (scene->heads + 2 * scene->kv_heads) * scene->dim;
    in.qkv = random_floats(3, TOKENS * row);
    for (uint32_t i = 0; i < TOKENS * row; i++)
        in.qkv[i] *= 4.0f;   /* so that some keys matter more than others */
    in.positions[0] = (int32_t)scene->depth - 2;
    in.positions[1] = (int32_t)scene->depth - 1;
    in.positions[2] = (int32_t)scene->depth / 3;
    in.sequences[2] = 1;
    in.args = (struct attention_args) {
        .token_count = TOKENS, .head_count = (int)scene->heads, .kv_head_count = (int)scene->kv_heads,
        .head_dim = (int)scene->dim, .qkv_stride = (int)row, .page_columns = (int)in.pages,
        .window = (int)scene->window, .scale = 1.0f / sqrtf((float)scene->dim), .key_count = (int)scene->depth,
    };
    in.out_values = (size_t)TOKENS * scene->heads * scene->dim;
    in.room_values = (size_t)TOKENS * scene->heads * MOST_SPANS * (scene->dim + 2);
    in.want = test_alloc(in.out_values * sizeof *in.want);
    reference_attention(in.qkv, in.k, in.v, in.positions, in.sequences, in.page_table, in.want, kv_type, &in.args);
    return in;
}

static void inputs_free(struct inputs *in) {
    free(in->k);
    free(in->v);
    free(in->qkv);
    free(in->want);
    free(in->page_table);
}

/* Compares with the reference; whether anything was left in the room behind the result, of
 * which op_attention() is told where `has_room`. */
static bool uses_room(const struct kernel_device *device, struct ops *ops, const struct inputs *in, uint32_t tokens,
                      bool has_room) {
    const size_t values = in->out_values / TOKENS * tokens, all = values + in->room_values;
    float *out = test_alloc(all * sizeof *out);
    memset(out, ROOM_BYTE, all * sizeof *out);
    cl_mem qkv = kernel_buffer(device, TOKENS * (size_t)in->args.qkv_stride * sizeof (float), in->qkv);
    cl_mem k = kernel_buffer(device, in->kv_bytes, in->k), v = kernel_buffer(device, in->kv_bytes, in->v);
    cl_mem positions = kernel_buffer(device, sizeof in->positions, in->positions);
    cl_mem sequences = kernel_buffer(device, sizeof in->sequences, in->sequences);
    cl_mem page_table = kernel_buffer(device, SEQUENCES * in->pages * sizeof (int32_t), in->page_table);
    cl_mem target = kernel_buffer(device, all * sizeof *out, out);
    struct attention_args args = in->args;
    args.token_count = (int)tokens;
    struct error err = { 0 };
    ASSERT_OK(op_attention(ops, qkv, k, v, positions, sequences, page_table, target, has_room ? all : values, &args,
                           &err), err);
    kernel_read(device, target, out, all * sizeof *out);
    char what[128];
    snprintf(what, sizeof what, "%u of %u/%u heads of %u, %u keys, window %u, kv %s", tokens, in->scene.heads,
             in->scene.kv_heads, in->scene.dim, in->scene.depth, in->scene.window, kv_type_name(in->kv_type));
    assert_floats(device, what, out, in->want, values);
    const unsigned char *room = (const unsigned char *)(out + values);
    bool is_used = false;
    for (size_t i = 0; i < in->room_values * sizeof *out && !is_used; i++)
        is_used = room[i] != ROOM_BYTE;
    const cl_mem buffers[] = { qkv, k, v, positions, sequences, page_table, target };
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        kernel_release(buffers[i]);
    free(out);
    return is_used;
}

#define COUNT(array) (sizeof (array) / sizeof *(array))

static const struct scene scenes[] = {
    { 1, 1, 10, 300, 0 }, { 2, 1, 16, 290, 270 },   /* the only ones on the simulator, which is slow */
    { 2, 1, 32, 3, 0 }, { 2, 2, 10, 256, 0 }, { 3, 1, 48, 257, 0 }, { 2, 1, 32, 520, 0 },
    { 5, 1, 96, 1025, 0 }, { 17, 1, 16, 1300, 0 }, { 9, 3, 64, 1400, 0 }, { 2, 2, 250, 700, 0 },
    { 1, 1, 32, 600, 290 }, { 4, 2, 32, 1500, 700 }, { 4, 2, 32, 1000, 32 },
    { 1, 1, 32, 7937, 0 },      /* spans are longer from here on */
    { 1, 1, 16, 9500, 8000 },
};

/* Whether there may be more than one span, so that there is something to share. */
static bool has_spans(const struct scene *scene) {
    return scene->depth > SPAN_PAGES * KV_PAGE_TOKENS && scene->window != 1;
}

static void check_splits(enum kv_type kv_type) {
    static const uint32_t splits[] = { 1, 3, MOST_SPANS };
    struct inputs inputs[COUNT(scenes)];
    for (size_t s = 0; s < COUNT(scenes); s++)
        inputs[s] = inputs_new(&scenes[s], kv_type);
    for (EACH_KERNEL_DEVICE(device))
        for (size_t i = 0; i < 2 * COUNT(splits); i++) {
            const struct ops_options options = { .kv_type = kv_type, .plain_attention = i % 2,
                                                 .attention_splits = splits[i / 2] };
            struct error err = { 0 };
            struct ops *ops = ops_new(device->context, device->id, device->queue, &options, &err);
            ASSERT_OK(ops, err);
            for (size_t s = 0; s < (device->is_simulator ? 2 : COUNT(scenes)); s++) {
                bool is_split = splits[i / 2] > 1 && has_spans(&scenes[s]);
                assert_int_equal(uses_room(device, ops, &inputs[s], TOKENS, true), is_split);
                assert_false(uses_room(device, ops, &inputs[s], TOKENS, false));
            }
            ops_free(ops);
        }
    for (size_t s = 0; s < COUNT(scenes); s++)
        inputs_free(&inputs[s]);
}

static void floats_shared_between_splits_give_the_same_bits(void **state) {
    (void)state;
    check_splits(KV_F32);
}

static void halves_shared_between_splits_give_the_same_bits(void **state) {
    (void)state;
    check_splits(KV_F16);
}

static void eight_bits_shared_between_splits_give_the_same_bits(void **state) {
    (void)state;
    check_splits(KV_Q8_0);
}

/* One query head cannot keep a device busy, but few keys are not worth another launch. */
static void keys_are_shared_where_heads_are_few(void **state) {
    (void)state;
    const struct scene deep = { 1, 1, 16, 1000, 0 }, flat = { 1, 1, 16, 200, 0 };
    for (EACH_KERNEL_DEVICE(device)) {
        struct ops *ops = kernel_ops(device, TENSOR_TYPE_COUNT, NUMERIC_FLOAT, KV_F16);
        struct inputs in = inputs_new(&deep, KV_F16);
        assert_true(uses_room(device, ops, &in, 1, true));
        inputs_free(&in);
        in = inputs_new(&flat, KV_F16);
        assert_false(uses_room(device, ops, &in, 1, true));
        inputs_free(&in);
        ops_free(ops);
    }
}

/* No query has more spans than there are places for. */
static void no_query_has_more_spans_than_places(void **state) {
    (void)state;
    static const int windows[] = { 0, 1, 255, 256, 257, 7936, 7937, 8000, 16000, 100000 };
    for (size_t i = 0; i < COUNT(windows); i++)
        for (int position = 0; position < 200000; position += position < 20000 ? 1 : 61) {
            int start = first_seen(position, windows[i]), length = span_pages(position - start + 1) * PAGE_TOKENS;
            int spans = position / length - start / length + 1;
            if (spans > MOST_SPANS)
                fail_msg("position %d, window %d: %d spans", position, windows[i], spans);
        }
    assert_true(span_pages(INT32_MAX) > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(floats_shared_between_splits_give_the_same_bits),
        cmocka_unit_test(halves_shared_between_splits_give_the_same_bits),
        cmocka_unit_test(eight_bits_shared_between_splits_give_the_same_bits),
        cmocka_unit_test(keys_are_shared_where_heads_are_few),
        cmocka_unit_test(no_query_has_more_spans_than_places),
    };
    return cmocka_run_group_tests(tests, NULL, kernel_close);
}
