#include "tests/support.h"

#include "common/model.h"
#include "tests/support_checkpoint.h"
#include "tests/support_golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct model *open_path(const char *path, const struct model_options *options, struct error *err) {
    struct model_source source;
    *err = (struct error){ 0 };
    if (!model_source_resolve(&source, path, err))
        return NULL;
    struct model *model = model_open(&source, options, err);
    model_source_release(&source);
    return model;
}

static struct model *open_or_fail(const char *path) {
    struct error err;
    struct model *model = open_path(path, NULL, &err);
    ASSERT_OK(model, err);
    return model;
}

static const struct weight_ref *nth_ref(const struct model *model, uint32_t i) {
    if (i < 3)
        return i == 0 ? &model->embed : i == 1 ? &model->out_norm : &model->head;
    return &model->blocks[(i - 3) / BLOCK_ROLE_COUNT].weights[(i - 3) % BLOCK_ROLE_COUNT];
}

/* Each ref lies within its tensor, each tensor within its file, and the refs are
 * all of the model's bytes. */
static void check_whole(const struct model *model) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < 3 + model->block_count * BLOCK_ROLE_COUNT; i++) {
        const struct weight_ref *ref = nth_ref(model, i);
        if (ref->tensor == MODEL_NO_TENSOR) {
            assert_int_equal(model_ref_bytes(model, ref), 0);
            continue;
        }
        assert_true(ref->tensor < model->tensor_count);
        const struct model_tensor *tensor = &model->tensors[ref->tensor];
        assert_true(ref->row_begin + ref->row_count <= tensor->rows);
        assert_int_equal(ref->column_count, tensor->columns);
        assert_true(tensor->file < model->file_count);
        assert_true(tensor->offset + tensor->size_bytes <= model->files[tensor->file].size_bytes);
        if (i != 2 || !model->tied_head)
            bytes += model_ref_bytes(model, ref);
    }
    assert_int_equal(bytes, model_weight_bytes(model));
    const uint64_t query = (uint64_t)model->head_count * model->head_dim;
    const uint64_t key = (uint64_t)model->kv_head_count * model->head_dim;
    const struct weight_ref *w = model->blocks[model->block_count - 1].weights;
    assert_int_equal(model->embed.row_count, model->vocab_size);
    assert_int_equal(w[ROLE_Q].row_count, query);
    assert_int_equal(w[ROLE_K].row_count, key);
    assert_int_equal(w[ROLE_V].row_count, key);
    assert_int_equal(w[ROLE_O].column_count, query);
    assert_int_equal(w[ROLE_GATE].row_count, model->intermediate_size);
    assert_int_equal(w[ROLE_UP].row_count, model->intermediate_size);
    assert_int_equal(w[ROLE_DOWN].column_count, model->intermediate_size);
}

struct expected {
    const char *path;
    uint32_t hidden, intermediate, blocks, heads, kv_heads, head_dim, vocab, context, window, eos;
    enum rope_scaling scaling;
    uint32_t rotary;
    bool tied;
    uint64_t weight_bytes;
};

static const struct expected models[] = {
    { "models/phi3-tiny", 128, 384, 3, 4, 4, 32, 1000, 512, 0, 3, ROPE_PLAIN, 32, false, 3583488 },
    { "models/phi3-tiny-longrope", 256, 512, 2, 8, 2, 32, 1000, 384, 0, 3, ROPE_LONGROPE, 32, false, 3254784 },
    { "models/phi3-tiny-swa", 192, 256, 2, 2, 2, 96, 1000, 512, 16, 3, ROPE_PLAIN, 96, false, 1949568 },
    { "models/phi4mini-tiny", 192, 416, 3, 6, 2, 32, 984, 512, 4096, 2, ROPE_LONGROPE, 24, true, 2408064 },
    { "models/llama-tiny", 128, 320, 4, 8, 2, 16, 976, 1024, 0, 2, ROPE_LLAMA3, 16, true, 1562880 },
    { "models/mistral-tiny", 128, 352, 3, 4, 2, 48, 976, 1024, 24, 1, ROPE_PLAIN, 48, false, 1754880 },
    { "models/qwen2-tiny", 128, 336, 3, 4, 2, 32, 968, 1024, 0, 2, ROPE_PLAIN, 32, false, 1568000 },
    { "models/qwen3-tiny", 128, 304, 3, 4, 2, 48, 968, 1024, 0, 2, ROPE_PLAIN, 48, true, 1392960 },
    { "models/quantizable-tiny", 256, 512, 2, 4, 2, 64, 1000, 512, 0, 3, ROPE_PLAIN, 64, false, 3385856 },
    { "models/gguf/phi3-tiny-longrope-Q8_0.gguf", 256, 512, 2, 8, 2, 32, 1000, 384, 0, 1, ROPE_LONGROPE, 32,
      false, 1732864 },
    { "models/gguf/phi3-tiny-swa-Q4_0.gguf", 192, 256, 2, 2, 2, 96, 1000, 512, 16, 1, ROPE_PLAIN, 96, false,
      551616 },
    { "models/gguf/phi4mini-tiny-Q8_0.gguf", 192, 416, 3, 6, 2, 32, 984, 512, 4096, 1, ROPE_LONGROPE, 24, true,
      1283232 },
    { "models/gguf/llama-tiny-BF16.gguf", 128, 320, 4, 8, 2, 16, 976, 1024, 0, 1, ROPE_LLAMA3, 16, true, 1565184 },
    { "models/gguf/qwen2-tiny-BF16.gguf", 128, 336, 3, 4, 2, 32, 968, 1024, 0, 1, ROPE_PLAIN, 32, false, 1571328 },
    { "models/gguf/qwen3-tiny-BF16.gguf", 128, 304, 3, 4, 2, 48, 968, 1024, 0, 1, ROPE_PLAIN, 48, true, 1395328 },
    { "models/gguf/quantizable-tiny-F16.gguf", 256, 512, 2, 4, 2, 64, 1000, 512, 0, 1, ROPE_PLAIN, 64, false,
      3388416 },
    { "models/gguf/quantizable-tiny-Q4_K_M.gguf", 256, 512, 2, 4, 2, 64, 1000, 512, 0, 1, ROPE_PLAIN, 64, false,
      1090256 },
};

static void every_model_opens_with_its_sizes_and_adds_up(void **state) {
    (void)state;
    size_t opened = 0;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        const struct expected *e = &models[i];
        const char *path = test_data(e->path);
        if (!path)
            continue;
        struct model *m = open_or_fail(path);
        print_message("# %s\n", e->path);
        check_whole(m);
        assert_int_equal(m->hidden_size, e->hidden);
        assert_int_equal(m->intermediate_size, e->intermediate);
        assert_int_equal(m->block_count, e->blocks);
        assert_int_equal(m->head_count, e->heads);
        assert_int_equal(m->kv_head_count, e->kv_heads);
        assert_int_equal(m->head_dim, e->head_dim);
        assert_int_equal(m->vocab_size, e->vocab);
        assert_int_equal(m->max_context, e->context);
        assert_int_equal(m->sliding_window, e->window);
        assert_int_equal(m->eos_count, e->eos);
        assert_int_equal(m->rope.scaling, e->scaling);
        assert_int_equal(m->rope.rotary_dim, e->rotary);
        assert_int_equal(m->tied_head, e->tied);
        assert_int_equal(m->head.tensor == m->embed.tensor, e->tied);
        assert_int_equal(model_weight_bytes(m), e->weight_bytes);
        assert_true(m->has_weights);
        model_close(m);
        opened++;
    }
    if (!opened)
        SKIP_BECAUSE("no models");
}

static void every_gguf_format_opens(void **state) {
    (void)state;
    static const struct { const char *name; enum tensor_type type; } files[] = {
        { "Q8_0", TENSOR_Q8_0 }, { "Q4_0", TENSOR_Q4_0 }, { "Q4_1", TENSOR_Q4_1 }, { "Q5_0", TENSOR_Q5_0 },
        { "Q5_1", TENSOR_Q5_1 }, { "Q4_K", TENSOR_Q4_K }, { "Q6_K", TENSOR_Q6_K },
    };
    size_t opened = 0;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char name[96];
        snprintf(name, sizeof name, "models/gguf/quantizable-tiny-%s.gguf", files[i].name);
        const char *path = test_data(name);
        if (!path)
            continue;
        struct model *m = open_or_fail(path);
        check_whole(m);
        assert_int_equal(m->tensors[m->blocks[1].weights[ROLE_V].tensor].type, files[i].type);
        assert_int_equal(m->tensors[m->head.tensor].type, files[i].type);
        model_close(m);
        opened++;
    }
    if (!opened)
        SKIP_BECAUSE("no models/gguf");
}

static void fused_matrices_are_refs_into_one_tensor(void **state) {
    (void)state;
    const char *path = test_data("models/phi3-tiny-longrope");
    if (!path)
        SKIP_BECAUSE("no models/phi3-tiny-longrope");
    struct model *m = open_or_fail(path);
    const struct weight_ref *w = m->blocks[1].weights;
    assert_string_equal(m->tensors[w[ROLE_Q].tensor].name, "model.layers.1.self_attn.qkv_proj.weight");
    assert_int_equal(w[ROLE_K].tensor, w[ROLE_Q].tensor);
    assert_int_equal(w[ROLE_V].tensor, w[ROLE_Q].tensor);
    assert_int_equal(w[ROLE_Q].row_begin, 0);
    assert_int_equal(w[ROLE_K].row_begin, 256);
    assert_int_equal(w[ROLE_V].row_begin, 320);
    assert_int_equal(w[ROLE_UP].tensor, w[ROLE_GATE].tensor);
    assert_int_equal(w[ROLE_GATE].row_begin, 0);
    assert_int_equal(w[ROLE_UP].row_begin, 512);
    assert_int_equal(w[ROLE_Q_BIAS].tensor, MODEL_NO_TENSOR);
    assert_false(w[ROLE_Q].interleaved_rope);
    assert_int_equal(m->file_count, 3);
    assert_string_equal(m->files[0].name, "model-00001-of-00003.safetensors");
    assert_int_equal(m->eos_ids[0], 960);
    assert_int_equal(m->eos_ids[2], 967);
    assert_int_equal(m->bos_id, 1);
    assert_int_equal(m->pad_id, 960);
    assert_string_equal(m->name, "phi3-tiny-longrope");
    model_close(m);
}

static void biases_and_head_norms_have_roles(void **state) {
    (void)state;
    static const struct { const char *path; bool bias, norm; } cases[] = {
        { "models/qwen2-tiny", true, false }, { "models/gguf/qwen2-tiny-BF16.gguf", true, false },
        { "models/qwen3-tiny", false, true }, { "models/gguf/qwen3-tiny-BF16.gguf", false, true },
    };
    size_t opened = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = test_data(cases[i].path);
        if (!path)
            continue;
        opened++;
        struct model *m = open_or_fail(path);
        const struct weight_ref *w = m->blocks[0].weights;
        assert_int_equal(w[ROLE_Q_BIAS].tensor != MODEL_NO_TENSOR, cases[i].bias);
        assert_int_equal(w[ROLE_V_BIAS].tensor != MODEL_NO_TENSOR, cases[i].bias);
        assert_int_equal(w[ROLE_Q_NORM].tensor != MODEL_NO_TENSOR, cases[i].norm);
        if (cases[i].bias)
            assert_int_equal(w[ROLE_K_BIAS].column_count, 64);
        if (cases[i].norm)
            assert_int_equal(w[ROLE_K_NORM].column_count, 48);
        assert_false(w[ROLE_Q].interleaved_rope);
        model_close(m);
    }
    if (!opened)
        SKIP_BECAUSE("no models/qwen2-tiny or qwen3-tiny");
}

/* ---- rope ---- */

static void check_frequencies(const struct model *model, const float *factors, const json_t *expected) {
    assert_int_equal(json_array_size(expected), model->rope.rotary_dim / 2);
    for (uint32_t i = 0; i < model->rope.rotary_dim / 2; i++) {
        double wanted = json_number_value(json_array_get(expected, i));
        double found = 1 / (factors[i] * pow(model->rope.theta, 2.0 * i / model->rope.rotary_dim));
        if (fabs(found - wanted) > 1e-6 * wanted)
            fail_msg("%s: frequency %u is %.9g, expected %.9g", model->name, i, found, wanted);
    }
}

static void scaled_frequencies_equal_the_reference(void **state) {
    (void)state;
    static const struct { const char *golden, *path; } cases[] = {
        { "llama-tiny", "models/llama-tiny" }, { "llama-tiny", "models/gguf/llama-tiny-BF16.gguf" },
        { "phi3-tiny-longrope", "models/phi3-tiny-longrope" },
        { "phi3-tiny-longrope", "models/gguf/phi3-tiny-longrope-Q8_0.gguf" },
        { "phi4mini-tiny", "models/phi4mini-tiny" }, { "phi4mini-tiny", "models/gguf/phi4mini-tiny-Q8_0.gguf" },
    };
    size_t opened = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[96];
        struct golden golden;
        const char *path = test_data(cases[i].path);
        snprintf(name, sizeof name, "goldens/logits/%s.json", cases[i].golden);
        if (!path || !golden_load(&golden, name))
            continue;
        opened++;
        const json_t *rope = golden_get(golden.root, "rope");
        struct model *m = open_or_fail(path);
        double factor = json_number_value(golden_get(rope, "attention_scaling"));
        assert_true(fabs(m->rope.attention_factor - factor) < 1e-6);
        if (m->rope.scaling == ROPE_LONGROPE) {
            check_frequencies(m, m->rope.short_factors, golden_get(rope, "inv_freq_short"));
            check_frequencies(m, m->rope.long_factors, golden_get(rope, "inv_freq_long"));
            assert_int_equal(m->rope.original_context,
                             json_integer_value(golden_get(rope, "original_max_position_embeddings")));
        } else {
            check_frequencies(m, m->rope.short_factors, golden_get(rope, "inv_freq"));
            assert_null(m->rope.long_factors);
        }
        model_close(m);
        golden_release(&golden);
    }
    if (!opened)
        SKIP_BECAUSE("no models with scaled rope");
}

static void longrope_has_four_spellings(void **state) {
    (void)state;
    static const char *const files[] = { "config.json", "config_su.json", "config_v5.json", "yarn" };
    const char *original = test_data("models/phi3-tiny-longrope");
    struct error err = { 0 };
    if (!original)
        SKIP_BECAUSE("no models/phi3-tiny-longrope");
    struct model *first = NULL;
    for (int i = 0; i < 4; i++) {
        char name[32];
        snprintf(name, sizeof name, "spelling%d", i);
        const char *directory = support_directory(name);
        size_t size;
        char *config = file_read_all(support_path(original, i < 3 ? files[i] : "config.json"), 1 << 20, &size, &err);
        ASSERT_OK(config, err);
        char *type = strstr(config, "\"longrope\"");
        if (i == 3)
            memcpy(type, "\"yarn\"    ", 10);
        support_write(support_path(directory, "config.json"), config, size);
        free(config);
        struct model_options options = { .headers_optional = true };
        struct model *m = open_path(directory, &options, &err);
        ASSERT_OK(m, err);
        assert_int_equal(m->rope.scaling, ROPE_LONGROPE);
        assert_int_equal(m->rope.original_context, 48);
        if (first) {
            assert_memory_equal(m->rope.short_factors, first->rope.short_factors, 16 * sizeof(float));
            assert_memory_equal(m->rope.long_factors, first->rope.long_factors, 16 * sizeof(float));
            assert_true(m->rope.attention_factor == first->rope.attention_factor);
            assert_int_equal(model_weight_bytes(m), model_weight_bytes(first));
            model_close(m);
        } else {
            first = m;
        }
    }
    model_close(first);
}

/* ---- config.json alone ---- */

static const struct model_options dry = { .headers_optional = true };

static struct model *from_config(const char *name, const char *extra, struct error *err) {
    const char *directory = support_directory(name);
    support_phi3_mini_config(directory, extra);
    return open_path(directory, &dry, err);
}

static void a_config_alone_is_enough_for_a_dry_run_only(void **state) {
    (void)state;
    struct error err;
    const char *directory = support_directory("alone");
    support_phi3_mini_config(directory, "");
    assert_null(open_path(directory, NULL, &err));
    assert_non_null(strstr(err.text, "neither model.safetensors nor"));
    struct model *m = open_path(directory, &dry, &err);
    ASSERT_OK(m, err);
    assert_int_equal(model_weight_bytes(m), 7642159104ull);
    assert_false(m->has_weights);
    assert_int_equal(m->file_count, 0);
    assert_int_equal(m->sliding_window, 2047);
    assert_string_equal(m->tensors[m->blocks[31].weights[ROLE_V].tensor].name,
                        "model.layers.31.self_attn.qkv_proj.weight");
    model_close(m);
    struct model_options assumed = { .headers_optional = true, .has_assumed_type = true,
                                     .assumed_type = TENSOR_Q4_0 };
    m = open_path(directory, &assumed, &err);
    ASSERT_OK(m, err);
    assert_int_equal(model_ref_bytes(m, &m->head), 32064 * 3072 / 32 * 18);
    assert_int_equal(m->tensors[m->out_norm.tensor].type, TENSOR_F32);
    model_close(m);
}

static void the_128k_model_has_the_published_attention_factor(void **state) {
    (void)state;
    struct error err;
    char extra[2048] = ", \"max_position_embeddings\": 131072, \"rope_scaling\": {\"type\": \"su\", \"short_factor\": [1.1";
    for (int i = 1; i < 48; i++)
        strcat(extra, ",1.5");
    strcat(extra, "], \"long_factor\": [1.07");
    for (int i = 1; i < 48; i++)
        strcat(extra, ",2.5");
    char given[2304];
    snprintf(given, sizeof given, "%s], \"attention_factor\": 1.25}", extra);
    strcat(extra, "]}");
    struct model *m = from_config("128k", extra, &err);
    ASSERT_OK(m, err);
    assert_true(fabs(m->rope.attention_factor - 1.190238071) < 1e-7);
    assert_int_equal(m->rope.original_context, 4096);
    model_close(m);
    m = from_config("128k-given", given, &err);
    ASSERT_OK(m, err);
    assert_true(m->rope.attention_factor == 1.25f);
    model_close(m);
}

static void sliding_windows_follow_each_family(void **state) {
    (void)state;
    static const struct { const char *extra; uint32_t window; bool fails; } cases[] = {
        { ", \"sliding_window\": null", 0, false },
        { ", \"sliding_window\": 0", 0, false },
        { ", \"sliding_window\": 262144", 262144, false },
        { ", \"model_type\": \"llama\"", 0, false },
        { ", \"model_type\": \"mistral\"", 2047, false },
        { ", \"model_type\": \"qwen2\"", 0, false },
        { ", \"model_type\": \"qwen2\", \"use_sliding_window\": true, \"max_window_layers\": 32", 0, false },
        { ", \"model_type\": \"qwen2\", \"use_sliding_window\": true, \"max_window_layers\": 0", 2047, false },
        { ", \"model_type\": \"qwen2\", \"use_sliding_window\": true, \"max_window_layers\": 8", 0, true },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err;
        char name[32];
        snprintf(name, sizeof name, "window%zu", i);
        struct model *m = from_config(name, cases[i].extra, &err);
        assert_int_equal(m == NULL, cases[i].fails);
        if (m)
            assert_int_equal(m->sliding_window, cases[i].window);
        model_close(m);
    }
}

static void rope_parameters_of_other_kinds_are_read(void **state) {
    (void)state;
    struct error err;
    struct model *m = from_config("linear", ", \"model_type\": \"llama\", \"rope_scaling\": {\"type\": \"linear\", "
                                  "\"factor\": 2.5}", &err);
    ASSERT_OK(m, err);
    assert_int_equal(m->rope.scaling, ROPE_LINEAR);
    assert_true(m->rope.short_factors[47] == 2.5f);
    model_close(m);
    m = from_config("v5", ", \"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 500000.0, "
                    "\"partial_rotary_factor\": 0.75}", &err);
    ASSERT_OK(m, err);
    assert_int_equal(m->rope.scaling, ROPE_PLAIN);
    assert_int_equal(m->rope.rotary_dim, 72);
    assert_true(m->rope.theta == 500000);
    model_close(m);
}

static void what_a_config_cannot_mean_is_refused_by_name(void **state) {
    (void)state;
    static const struct { const char *extra, *says; } cases[] = {
        { ", \"model_type\": \"gemma2\"", "phi3, llama, mistral, qwen2 and qwen3" },
        { ", \"model_type\": null", "model_type" },
        { ", \"num_hidden_layers\": 0", "number of blocks" },
        { ", \"num_hidden_layers\": 1025", "at most 1024" },
        { ", \"num_hidden_layers\": -1", "num_hidden_layers" },
        { ", \"hidden_size\": 4294967296", "hidden_size" },
        { ", \"hidden_size\": 2147483648", "hidden size" },
        { ", \"hidden_size\": 3073", "do not divide" },
        { ", \"num_attention_heads\": 0", "number of heads" },
        { ", \"num_key_value_heads\": 5", "share evenly" },
        { ", \"num_key_value_heads\": 64", "KV heads" },
        { ", \"head_dim\": 1048576", "width of all heads" },
        { ", \"head_dim\": 97", "rotates 97" },
        { ", \"vocab_size\": 0", "vocabulary" },
        { ", \"vocab_size\": 4000000000", "vocabulary" },
        { ", \"max_position_embeddings\": 0", "context length" },
        { ", \"rms_norm_eps\": -1", "epsilon" },
        { ", \"rope_theta\": 0", "rope base" },
        { ", \"partial_rotary_factor\": 0", "partial_rotary_factor" },
        { ", \"rope_scaling\": \"longrope\"", "rope_scaling" },
        { ", \"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2}", "dynamic" },
        { ", \"rope_scaling\": {\"type\": \"linear\"}", "factor" },
        { ", \"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1], \"long_factor\": [1]}",
          "list of 48 numbers" },
        { ", \"model_type\": \"llama\", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2}", "yarn" },
        { ", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, "
          "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 8192}", "llama3" },
        { ", \"eos_token_id\": \"</s>\"", "eos_token_id" },
        { ", \"eos_token_id\": [1, 2, -3]", "end token" },
        { ", \"bos_token_id\": 1.5", "bos_token_id" },
        { ", \"hidden_act\": \"gelu\"", "silu" },
        { ", \"attention_bias\": true", "biases" },
        { ", \"quantization_config\": {\"quant_method\": \"awq\"}", "quantization_config" },
        { ", \"torch_dtype\": \"float8_e4m3fn\"", "--dtype" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err;
        char name[32];
        snprintf(name, sizeof name, "wrong%zu", i);
        struct model *m = from_config(name, cases[i].extra, &err);
        if (m || !strstr(err.text, cases[i].says))
            fail_msg("%s: %s", cases[i].extra, m ? "was accepted" : err.text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_model_opens_with_its_sizes_and_adds_up),
        cmocka_unit_test(every_gguf_format_opens),
        cmocka_unit_test(fused_matrices_are_refs_into_one_tensor),
        cmocka_unit_test(biases_and_head_norms_have_roles),
        cmocka_unit_test(scaled_frequencies_equal_the_reference),
        cmocka_unit_test(longrope_has_four_spellings),
        cmocka_unit_test(a_config_alone_is_enough_for_a_dry_run_only),
        cmocka_unit_test(the_128k_model_has_the_published_attention_factor),
        cmocka_unit_test(sliding_windows_follow_each_family),
        cmocka_unit_test(rope_parameters_of_other_kinds_are_read),
        cmocka_unit_test(what_a_config_cannot_mean_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
