#include "tests/support_kernels.h"

#include "tests/reference_ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Two sequences whose tokens arrive by `batch`, in turns or one sequence after the other,
 * with pages handed out in no order. All lengths in tokens. */
struct scene {
    uint32_t heads, kv_heads, dim, rotary;
    uint32_t length, batch, window;
    enum kv_type kv_type;
    bool has_bias, has_norm, in_a_row;
};

enum { SEQUENCES = 2, MOST_PAGES = 8, PAGES = SEQUENCES * MOST_PAGES };

struct cache {
    void *k, *v;
    size_t bytes;      /* of each */
};

static const int32_t page_table[SEQUENCES][MOST_PAGES] = {
    { 5, 0, 14, 3, 9, 7, 12, 1 }, { 2, 15, 4, 6, 8, 10, 11, 13 }
};

static size_t slots_of(const struct scene *scene) {
    return scene->heads + 2 * scene->kv_heads;
}

static struct rope_kv_args rope_args(const struct scene *scene, uint32_t tokens) {
    return (struct rope_kv_args) {
        .token_count = (int)tokens, .head_count = (int)scene->heads, .kv_head_count = (int)scene->kv_heads,
        .head_dim = (int)scene->dim, .rotary_dim = (int)scene->rotary, .page_columns = MOST_PAGES,
        .has_bias = scene->has_bias, .has_qk_norm = scene->has_norm, .norm_epsilon = 1e-6f,
    };
}

static struct attention_args attention_args(const struct scene *scene, uint32_t tokens) {
    return (struct attention_args) {
        .token_count = (int)tokens, .head_count = (int)scene->heads, .kv_head_count = (int)scene->kv_heads,
        .head_dim = (int)scene->dim, .qkv_stride = (int)(slots_of(scene) * scene->dim),
        .page_columns = MOST_PAGES, .window = (int)scene->window,
        .scale = 1.0f / sqrtf((float)scene->dim),
    };
}

/* Garbage that no result may depend on: NaN in every value not yet written. */
static struct cache cache_new(const struct scene *scene) {
    struct cache cache;
    const struct model model = { .head_dim = scene->dim };
    cache.bytes = (size_t)(PAGES * scene->kv_heads * KV_PAGE_TOKENS * kv_vector_bytes(&model, scene->kv_type));
    cache.k = test_alloc(cache.bytes);
    cache.v = test_alloc(cache.bytes);
    memset(cache.k, 0xff, cache.bytes);
    memset(cache.v, 0xff, cache.bytes);
    return cache;
}

static void cache_free(struct cache *cache) {
    free(cache->k);
    free(cache->v);
}

/* The inputs of the whole scene: token i is position i / 2 of sequence i % 2, or in a row. */
struct inputs {
    float *qkv, *bias, *norm, *rope;
    int32_t *positions, *sequences;
    uint32_t tokens;
};

static struct inputs inputs_new(const struct scene *scene) {
    uint32_t tokens = scene->length * SEQUENCES, pairs = scene->rotary / 2;
    struct inputs in = {
        .qkv = random_floats(scene->dim, tokens * slots_of(scene) * scene->dim),
        .bias = random_floats(2, slots_of(scene) * scene->dim),
        .norm = random_floats(3, 2 * scene->dim),
        .rope = test_alloc((size_t)tokens * (scene->rotary ? scene->rotary : 1) * sizeof (float)),
        .positions = test_alloc(tokens * sizeof (int32_t)),
        .sequences = test_alloc(tokens * sizeof (int32_t)),
        .tokens = tokens,
    };
    for (uint32_t t = 0; t < tokens; t++) {
        in.positions[t] = (int32_t)(scene->in_a_row ? t % scene->length : t / SEQUENCES);
        in.sequences[t] = (int32_t)(scene->in_a_row ? t / scene->length : t % SEQUENCES);
        for (uint32_t i = 0; i < pairs; i++) {
            float angle = (float)in.positions[t] * powf(10000.0f, -(float)i / (float)pairs);
            in.rope[2 * (t * pairs + i)] = cosf(angle);
            in.rope[2 * (t * pairs + i) + 1] = sinf(angle);
        }
    }
    return in;
}

static void inputs_free(struct inputs *in) {
    free(in->qkv);
    free(in->bias);
    free(in->norm);
    free(in->rope);
    free(in->positions);
    free(in->sequences);
}

/* One batch through both kernels: tokens first .. first + count - 1. */
static void run_batch(const struct kernel_device *device, struct ops *ops, const struct scene *scene,
                      const struct inputs *in, uint32_t first, uint32_t count, cl_mem k, cl_mem v,
                      float *qkv, float *out) {
    size_t row = slots_of(scene) * scene->dim, rope_row = scene->rotary ? scene->rotary : 1;
    size_t out_bytes = (size_t)count * scene->heads * scene->dim * sizeof *out;
    cl_mem qkv_buffer = kernel_buffer(device, count * row * sizeof *qkv, in->qkv + first * row);
    cl_mem bias = scene->has_bias ? kernel_buffer(device, row * sizeof *in->bias, in->bias) : NULL;
    cl_mem norm = scene->has_norm ? kernel_buffer(device, 2 * scene->dim * sizeof *in->norm, in->norm) : NULL;
    cl_mem rope = kernel_buffer(device, count * rope_row * sizeof *in->rope,
                                in->rope + (size_t)first * scene->rotary);
    cl_mem positions = kernel_buffer(device, count * sizeof (int32_t), in->positions + first);
    cl_mem sequences = kernel_buffer(device, count * sizeof (int32_t), in->sequences + first);
    cl_mem pages = kernel_buffer(device, sizeof page_table, page_table);
    cl_mem out_buffer = kernel_buffer(device, out_bytes, NULL);
    const struct rope_kv_args rope_kv = rope_args(scene, count);
    const struct attention_args attention = attention_args(scene, count);
    struct error err = { 0 };
    ASSERT_OK(op_rope_kv(ops, qkv_buffer, bias, norm, rope, positions, sequences, pages, k, v, &rope_kv, &err),
              err);
    ASSERT_OK(op_attention(ops, qkv_buffer, k, v, positions, sequences, pages, out_buffer, 0, &attention, &err),
              err);
    kernel_read(device, qkv_buffer, qkv, count * row * sizeof *qkv);
    kernel_read(device, out_buffer, out, out_bytes);
    const cl_mem buffers[] = { qkv_buffer, bias, norm, rope, positions, sequences, pages, out_buffer };
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        if (buffers[i])
            kernel_release(buffers[i]);
}

/* The same in double, by the textbook, over what lies in the cache. */
static void assert_textbook(const struct kernel_device *device, const struct scene *scene,
                            const struct inputs *in, const struct cache *cache, const float *qkv,
                            const float *out, uint32_t token) {
    int position = in->positions[token];
    int start = scene->window && position >= (int)scene->window ? position - (int)scene->window + 1 : 0;
    const int32_t *pages = page_table[in->sequences[token]];
    for (uint32_t head = 0; head < scene->heads; head++) {
        uint32_t kv_head = head / (scene->heads / scene->kv_heads);
        double scores[MOST_PAGES * KV_PAGE_TOKENS], sum = 0.0, total[256] = { 0 };
        for (int p = start; p <= position; p++) {
            size_t row = ((size_t)pages[p / 32] * scene->kv_heads + kv_head) * 32 + (size_t)p % 32;
            float key[256], value[256];
            reference_kv_read(cache->k, row, (int)scene->dim, scene->kv_type, key);
            reference_kv_read(cache->v, row, (int)scene->dim, scene->kv_type, value);
            scores[p] = 0.0;
            for (uint32_t d = 0; d < scene->dim; d++)
                scores[p] += (double)key[d] * qkv[token * slots_of(scene) * scene->dim + head * scene->dim + d];
            scores[p] = exp(scores[p] / sqrt((double)scene->dim));
            sum += scores[p];
            for (uint32_t d = 0; d < scene->dim; d++)
                total[d] += scores[p] * value[d];
        }
        for (uint32_t d = 0; d < scene->dim; d++) {
            double got = out[(token * scene->heads + head) * scene->dim + d], want = total[d] / sum;
            if (!(fabs(got - want) < 2e-5))
                fail_msg("%s: position %d, head %u, value %u is %.9g, not %.9g", device->name, position,
                         head, d, got, want);
        }
    }
}

static void check_scene(const struct kernel_device *device, struct ops *ops, const struct scene *scene) {
    struct inputs in = inputs_new(scene);
    struct cache want = cache_new(scene), got = cache_new(scene);
    size_t row = slots_of(scene) * scene->dim, out_row = scene->heads * scene->dim;
    float *want_qkv = test_alloc(in.tokens * row * sizeof (float));
    float *want_out = test_alloc(in.tokens * out_row * sizeof (float));
    float *qkv = test_alloc(in.tokens * row * sizeof (float)), *out = test_alloc(in.tokens * out_row * sizeof (float));
    const struct rope_kv_args rope_kv = rope_args(scene, in.tokens);
    const struct attention_args attention = attention_args(scene, in.tokens);
    memcpy(want_qkv, in.qkv, in.tokens * row * sizeof (float));
    reference_rope_kv(want_qkv, in.bias, in.norm, in.rope, in.positions, in.sequences, page_table[0],
                      want.k, want.v, scene->kv_type, &rope_kv);
    reference_attention(want_qkv, want.k, want.v, in.positions, in.sequences, page_table[0], want_out,
                        scene->kv_type, &attention);

    cl_mem k = kernel_buffer(device, got.bytes, got.k), v = kernel_buffer(device, got.bytes, got.v);
    for (uint32_t first = 0; first < in.tokens; first += scene->batch) {
        uint32_t count = in.tokens - first < scene->batch ? in.tokens - first : scene->batch;
        run_batch(device, ops, scene, &in, first, count, k, v, qkv + first * row, out + first * out_row);
    }
    kernel_read(device, k, got.k, got.bytes);
    kernel_read(device, v, got.v, got.bytes);
    char what[128];
    snprintf(what, sizeof what, "%u/%u heads of %u, %u tokens by %u, window %u, kv %s", scene->heads,
             scene->kv_heads, scene->dim, scene->length, scene->batch, scene->window,
             kv_type_name(scene->kv_type));
    assert_floats(device, what, qkv, want_qkv, in.tokens * row);
    if (!device->is_simulator) {
        assert_bytes(device, what, got.k, want.k, got.bytes);
        assert_bytes(device, what, got.v, want.v, got.bytes);
    }
    if (!device->is_simulator || scene->kv_type == KV_F32)
        assert_floats(device, what, out, want_out, in.tokens * out_row);
    for (uint32_t t = 0; t < in.tokens; t++)
        assert_textbook(device, scene, &in, &got, qkv, out, t);
    kernel_release(k);
    kernel_release(v);
    cache_free(&want);
    cache_free(&got);
    inputs_free(&in);
    free(want_qkv);
    free(want_out);
    free(qkv);
    free(out);
}

static void check_scenes_on(const struct kernel_device *device, const struct scene *scenes, size_t count,
                            enum kv_type kv_type, bool plain) {
    const struct ops_options options = { .kv_type = kv_type, .plain_attention = plain };
    struct error err = { 0 };
    struct ops *ops = ops_new(device->context, device->id, device->queue, &options, &err);
    ASSERT_OK(ops, err);
    for (size_t i = 0; i < count; i++) {
        struct scene scene = scenes[i];
        scene.kv_type = kv_type;
        if (device->is_simulator && scene.length > 34)
            scene.length = 34;
        if (device->is_simulator && plain && i % 2 == 0)
            continue;   /* slow there */
        if (!device->is_simulator || scene.heads * scene.dim <= 128)
            check_scene(device, ops, &scene);
    }
    ops_free(ops);
}

/* With both kernels where the device has its own. */
static void check_scenes(const struct scene *scenes, size_t count, enum kv_type kv_type) {
    for (EACH_KERNEL_DEVICE(device))
        for (int plain = 0; plain < 2; plain++)
            check_scenes_on(device, scenes, count, kv_type, plain);
}

#define COUNT(array) (sizeof (array) / sizeof *(array))

static const struct scene sizes[] = {
    { 1, 1, 32, 32, 5, 64, 0, 0, false, false, false },
    { 2, 1, 16, 16, 70, 140, 0, 0, false, false, false },
    { 4, 2, 48, 48, 33, 66, 0, 0, false, false, false },
    { 6, 2, 64, 48, 34, 68, 0, 0, false, false, false },
    { 2, 2, 96, 96, 65, 130, 0, 0, false, false, false },
    { 4, 1, 128, 128, 40, 80, 0, 0, false, false, false },
    { 1, 1, 256, 256, 33, 66, 0, 0, false, false, false },
    { 3, 3, 10, 10, 40, 80, 0, 0, false, false, false },      /* a tail of 10 dimensions */
    { 2, 1, 80, 0, 40, 80, 0, 0, false, false, false },       /* nothing is rotated */
    { 2, 1, 250, 24, 35, 70, 0, 0, true, true, false },
};

static void heads_of_every_size_equal_the_reference(void **state) {
    (void)state;
    check_scenes(sizes, COUNT(sizes), KV_F32);
}

static void keys_kept_as_half_equal_the_reference(void **state) {
    (void)state;
    check_scenes(sizes, COUNT(sizes), KV_F16);
}

static void keys_kept_in_8_bits_equal_the_reference(void **state) {
    (void)state;
    check_scenes(sizes, COUNT(sizes), KV_Q8_0);
}

/* Each width equals the reference, so all widths are equal; 2 * 150 tokens cross four
 * page boundaries. */
static void any_width_of_batch_gives_the_same_bits(void **state) {
    (void)state;
    static const uint32_t widths[] = { 1, 2, 7, 8, 9, 33, 64, 300 };
    struct scene scenes[COUNT(widths) * 2];
    for (size_t i = 0; i < COUNT(scenes); i++)
        scenes[i] = (struct scene) { 4, 2, 32, 24, 150, widths[i / 2], 0, 0, true, true, i % 2 };
    check_scenes(scenes, COUNT(scenes), KV_F16);
    check_scenes(scenes, COUNT(scenes), KV_Q8_0);
}

/* More query heads a KV head than a work-item takes, and a number that does not divide. */
static void many_heads_share_their_keys(void **state) {
    (void)state;
    static const struct scene scenes[] = {
        { 17, 1, 32, 32, 40, 80, 0, 0, false, false, true }, { 40, 2, 16, 16, 40, 30, 0, 0, false, false, true },
        { 9, 3, 64, 64, 70, 33, 0, 0, false, false, true }, { 5, 1, 96, 96, 70, 140, 20, 0, false, false, true },
    };
    check_scenes(scenes, COUNT(scenes), KV_F16);
}

static void a_window_ends_where_it_should(void **state) {
    (void)state;
    static const uint32_t windows[] = { 1, 2, 16, 31, 32, 33, 64, 100 };
    struct scene scenes[COUNT(windows) * 3];
    for (size_t i = 0; i < COUNT(scenes); i++)
        scenes[i] = (struct scene) { 2, 1, 32, 32, 101, i % 3 ? 50 : 1, windows[i / 3], 0, false, false, i % 3 == 2 };
    check_scenes(scenes, COUNT(scenes), KV_F32);
}

static void bias_and_norm_are_applied_where_asked(void **state) {
    (void)state;
    static const struct scene scenes[] = {
        { 2, 1, 48, 48, 9, 18, 0, 0, true, false, false },
        { 2, 1, 48, 48, 9, 18, 0, 0, false, true, false },
        { 2, 1, 48, 36, 9, 18, 0, 0, true, true, false },
    };
    check_scenes(scenes, COUNT(scenes), KV_F32);
}

static void an_impossible_shape_is_refused(void **state) {
    (void)state;
    for (EACH_KERNEL_DEVICE(device)) {
        struct ops *ops = kernel_ops(device, TENSOR_TYPE_COUNT, NUMERIC_FLOAT, KV_F32);
        struct error err = { 0 };
        const struct attention_args wide = { .token_count = 1, .head_count = 1, .kv_head_count = 1, .head_dim = 258 };
        const struct attention_args uneven = { .token_count = 1, .head_count = 3, .kv_head_count = 2, .head_dim = 32 };
        assert_false(op_attention(ops, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, &wide, &err));
        assert_false(op_attention(ops, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, &uneven, &err));
        ops_free(ops);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_of_every_size_equal_the_reference),
        cmocka_unit_test(keys_kept_as_half_equal_the_reference),
        cmocka_unit_test(keys_kept_in_8_bits_equal_the_reference),
        cmocka_unit_test(any_width_of_batch_gives_the_same_bits),
        cmocka_unit_test(many_heads_share_their_keys),
        cmocka_unit_test(a_window_ends_where_it_should),
        cmocka_unit_test(bias_and_norm_are_applied_where_asked),
        cmocka_unit_test(an_impossible_shape_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, kernel_close);
}
