/* The forward pass against transformers in float32: every tiny model, one device. */
#include "tests/support.h"
#include "tests/support_checkpoint.h"
#include "tests/support_engine.h"
#include "tests/support_golden.h"

#include "common/file_map.h"
#include "common/model_arch.h"
#include "runtime/session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct bench {
    struct golden golden;
    struct rig rig;
    struct session *session;
    uint32_t vocab;
    float *logits;         /* [256][vocab] */
};

#define MOST_TOKENS 256

/* False where model or goldens are not there. */
static bool begin(struct bench *bench, const char *model, const char *config, const char *goldens,
                  const struct rig_options *options) {
    struct error err = { 0 };
    *bench = (struct bench){ 0 };
    const char *path = model[0] == '/' ? model : test_data(model);
    if (!support_devices() || !path || !golden_load(&bench->golden, goldens))
        return false;
    if (config)
        path = support_relinked(path, "config.json", config);
    ASSERT_OK(rig_open(&bench->rig, path, options, &err), err);
    bench->session = session_new(bench->rig.engine, 0, ROPE_AUTO, &err);
    ASSERT_OK(bench->session, err);
    bench->vocab = bench->rig.model->vocab_size;
    bench->logits = malloc((size_t)MOST_TOKENS * bench->vocab * sizeof *bench->logits);
    assert_non_null(bench->logits);
    return true;
}

static void end(struct bench *bench) {
    free(bench->logits);
    session_free(bench->session);
    rig_close(&bench->rig);
    golden_release(&bench->golden);
}

static void close_to(const char *what, const char *prompt, const float *ours, const float *theirs, size_t count,
                     double tolerance) {
    for (size_t i = 0; i < count; i++)
        if (!(fabs((double)ours[i] - theirs[i]) <= tolerance))
            fail_msg("%s of prompt %s, value %zu: %.6f for %.6f", what, prompt, i, ours[i], theirs[i]);
}

static uint32_t arg_max(const float *logits, uint32_t vocab) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < vocab; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

/* One pass over a prompt of the goldens, from an empty session. */
static void run_prompt(struct bench *bench, const json_t *ids, size_t *count) {
    struct error err = { 0 };
    int32_t *tokens = golden_ids(ids, count);
    assert_true(*count <= MOST_TOKENS);
    ASSERT_OK(session_truncate(bench->session, 0, &err), err);
    ASSERT_OK(session_append_all(bench->session, tokens, (uint32_t)*count, bench->logits, &err), err);
    free(tokens);
}

/* The id at rank `k` of position `t`. */
static uint32_t top_id(const json_t *top8_ids, size_t t, size_t k) {
    return (uint32_t)json_integer_value(json_array_get(json_array_get(top8_ids, t), k));
}

/* The last position's whole row, and the best eight of every position. */
static void check_prompts(struct bench *bench, double tolerance) {
    size_t i;
    json_t *prompt;
    json_array_foreach(golden_get(bench->golden.root, "prompts"), i, prompt) {
        const char *name = json_string_value(golden_get(prompt, "name"));
        size_t count, width;
        run_prompt(bench, golden_get(prompt, "ids"), &count);
        const float *last = golden_floats(&bench->golden, golden_get(prompt, "last_logits"), &width);
        assert_int_equal(width, bench->vocab);
        close_to("logits", name, bench->logits + (count - 1) * bench->vocab, last, width, tolerance);
        const json_t *ids = golden_get(prompt, "top8_ids"), *values = golden_get(prompt, "top8_logits");
        assert_int_equal(json_array_size(ids), count);
        for (size_t t = 0; t < count; t++) {
            const float *row = bench->logits + t * bench->vocab;
            for (size_t k = 0; k < 8; k++) {
                float expected = (float)json_number_value(json_array_get(json_array_get(values, t), k));
                close_to("top logits", name, row + top_id(ids, t, k), &expected, 1, tolerance);
                /* None but the best can be above the best. */
                assert_true(k > 0 || row[arg_max(row, bench->vocab)] <= expected + tolerance);
            }
        }
    }
}

/* Forty tokens, each the arg max of the one before, cached; LongRoPE crossings included. */
static void check_greedy(struct bench *bench) {
    struct error err = { 0 };
    size_t i;
    json_t *prompt;
    json_array_foreach(golden_get(bench->golden.root, "prompts"), i, prompt) {
        const char *name = json_string_value(golden_get(prompt, "name"));
        const json_t *greedy = golden_get(prompt, "greedy");
        const json_t *lengths = json_object_get(greedy, "forward_lengths");
        size_t count, step_count;
        int32_t *tokens = golden_ids(golden_get(prompt, "ids"), &count);
        int32_t *expected = golden_ids(golden_get(greedy, "ids"), &step_count);
        ASSERT_OK(session_truncate(bench->session, 0, &err), err);
        const int32_t *next = tokens;
        for (size_t step = 0; step < step_count; step++) {
            ASSERT_OK(session_append(bench->session, next, step ? 1 : (uint32_t)count, bench->logits, &err), err);
            int32_t id = (int32_t)arg_max(bench->logits, bench->vocab);
            if (id != expected[step])
                fail_msg("greedy token %zu of prompt %s: %d for %d", step, name, (int)id, (int)expected[step]);
            /* transformers runs Phi-3 again at original_context + 1 without LongRoPE too. */
            if (lengths && bench->rig.model->rope.scaling == ROPE_LONGROPE)
                assert_int_equal(session_last_pass(bench->session),
                                 json_integer_value(json_array_get(lengths, step)));
            next = expected + step;
        }
        close_to("logits of the last step", name, bench->logits,
                 golden_floats(&bench->golden, golden_get(greedy, "step_logits_last"), NULL), bench->vocab, 1e-3);
        free(tokens);
        free(expected);
    }
}

static double log_probability(const float *logits, uint32_t vocab, int32_t id) {
    double sum = 0, most = logits[arg_max(logits, vocab)];
    for (uint32_t i = 0; i < vocab; i++)
        sum += exp(logits[i] - most);
    return logits[id] - most - log(sum);
}

/* Of the goldens' text. */
static double sum_log_probabilities(struct bench *bench) {
    const json_t *text = golden_get(bench->golden.root, "perplexity");
    size_t count, checked;
    run_prompt(bench, golden_get(text, "ids"), &count);
    int32_t *ids = golden_ids(golden_get(text, "ids"), &checked);
    double sum = 0;
    for (size_t i = 0; i + 1 < count; i++)
        sum += log_probability(bench->logits + i * bench->vocab, bench->vocab, ids[i + 1]);
    free(ids);
    return sum;
}

static void check_perplexity(struct bench *bench, double tolerance) {
    const json_t *text = golden_get(bench->golden.root, "perplexity");
    double sum = sum_log_probabilities(bench);
    double expected = json_number_value(golden_get(text, "sum_logprob"));
    if (!(fabs(sum - expected) <= tolerance))
        fail_msg("sum of log-probabilities: %.5f for %.5f", sum, expected);
}

/* ---- float ---- */

static void check_float(const char *model, const char *config, const char *goldens,
                        const struct model_options *model_options) {
    struct bench bench;
    struct rig_options options = { .exact = true, .logit_rows = 16, .model = model_options };
    if (!begin(&bench, model, config, goldens, &options))
        SKIP_BECAUSE("no PoCL device, or no %s", model);
    check_prompts(&bench, 1e-3);
    check_greedy(&bench);
    check_perplexity(&bench, 1e-2);
    end(&bench);
}

#define FLOAT_TEST(name, model, config, goldens) \
    static void name(void **state) { (void)state; check_float("models/" model, config, "goldens/logits/" goldens, NULL); }
FLOAT_TEST(phi3_equals_transformers, "phi3-tiny", NULL, "phi3-tiny.json")
FLOAT_TEST(longrope_equals_transformers, "phi3-tiny-longrope", NULL, "phi3-tiny-longrope.json")
FLOAT_TEST(longrope_spelled_su_equals_transformers, "phi3-tiny-longrope", "config_su.json", "phi3-tiny-longrope.json")
FLOAT_TEST(longrope_of_v5_equals_transformers, "phi3-tiny-longrope", "config_v5.json", "phi3-tiny-longrope.json")
FLOAT_TEST(a_sliding_window_equals_transformers, "phi3-tiny-swa", NULL, "phi3-tiny-swa.json")
FLOAT_TEST(llama_equals_transformers, "llama-tiny", NULL, "llama-tiny.json")
FLOAT_TEST(quantizable_equals_transformers, "quantizable-tiny", NULL, "quantizable-tiny.json")
FLOAT_TEST(its_f16_gguf_equals_transformers, "gguf/quantizable-tiny-F16.gguf", NULL, "quantizable-tiny.json")
FLOAT_TEST(the_gguf_of_llama_equals_transformers, "gguf/llama-tiny-BF16.gguf", NULL, "llama-tiny.json")
FLOAT_TEST(phi4mini_equals_transformers, "phi4mini-tiny", NULL, "phi4mini-tiny.json")
FLOAT_TEST(mistral_equals_transformers, "mistral-tiny", NULL, "mistral-tiny.json")
FLOAT_TEST(qwen2_equals_transformers, "qwen2-tiny", NULL, "qwen2-tiny.json")
FLOAT_TEST(the_gguf_of_qwen2_equals_transformers, "gguf/qwen2-tiny-BF16.gguf", NULL, "qwen2-tiny.json")
FLOAT_TEST(qwen3_equals_transformers, "qwen3-tiny", NULL, "qwen3-tiny.json")
FLOAT_TEST(the_gguf_of_qwen3_equals_transformers, "gguf/qwen3-tiny-BF16.gguf", NULL, "qwen3-tiny.json")

/* ---- an architecture of our own: a table entry, and nothing else ---- */

#define BLOCK "trunk.blocks.%u."
static const struct tensor_names made_up_names = {
    "model.token_tables.weight", "model.norm.weight", "lm_head.weight", {
        [ROLE_ATTN_NORM] = BLOCK "before_attention.weight",
        [ROLE_Q] = BLOCK "attention.q_proj.weight",
        [ROLE_K] = BLOCK "attention.k_proj.weight",
        [ROLE_V] = BLOCK "attention.v_proj.weight",
        [ROLE_O] = BLOCK "attention.o_proj.weight",
        [ROLE_FFN_NORM] = BLOCK "before_feed_forward.weight",
        [ROLE_GATE] = BLOCK "network.gate_proj.weight",
        [ROLE_UP] = BLOCK "network.up_proj.weight",
        [ROLE_DOWN] = BLOCK "network.down_proj.weight",
    }
};
static const struct model_arch made_up[] = {
    { "made-up", 0, &made_up_names, NULL, 1e-5f, 2048, 0, 0 },
    { .name = NULL }
};

static void replace_all(struct text *text, const char *from, const char *to) {
    char *whole = text_take(text), *at = whole;
    for (char *hit; (hit = strstr(at, from)); at = hit + strlen(from)) {
        text_append_bytes(text, at, (size_t)(hit - at));
        text_append(text, to);
    }
    text_append(text, at);
    free(whole);
}

/* llama-tiny with other names for its type and its tensors. */
static const char *rename_llama(const char *model) {
    static const char *const names[][2] = {
        { "model.layers.", "trunk.blocks." }, { "self_attn.", "attention." }, { "mlp.", "network." },
        { "input_layernorm", "before_attention" }, { "post_attention_layernorm", "before_feed_forward" },
        { "embed_tokens", "token_tables" },
    };
    const char *folder = support_directory("made-up");
    struct error err = { 0 };
    struct text head;
    size_t size;
    uint64_t head_size;
    text_init(&head);
    char *config = file_read_all(support_path(model, "config.json"), 1 << 20, &size, &err);
    ASSERT_OK(config, err);
    text_append(&head, config);
    replace_all(&head, "\"llama\"", "\"made-up\"");
    support_write_text(support_path(folder, "config.json"), head.bytes);
    text_clear(&head);
    char *bytes = file_read_all(support_path(model, "model.safetensors"), 64 << 20, &size, &err);
    ASSERT_OK(bytes, err);
    memcpy(&head_size, bytes, sizeof head_size);
    assert_true(head_size < size - 8);
    text_append_bytes(&head, bytes + 8, (size_t)head_size);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        replace_all(&head, names[i][0], names[i][1]);
    FILE *file = fopen(support_path(folder, "model.safetensors"), "wb");
    uint64_t length = head.length;
    size_t data = size - 8 - (size_t)head_size;
    assert_true(file && fwrite(&length, 8, 1, file) == 1 && fwrite(head.bytes, 1, head.length, file) == head.length
                && fwrite(bytes + 8 + head_size, 1, data, file) == data && fclose(file) == 0);
    text_release(&head);
    free(bytes);
    free(config);
    return folder;
}

static void a_made_up_architecture_needs_a_table_entry_only(void **state) {
    (void)state;
    const char *model = test_data("models/llama-tiny");
    if (!model)
        SKIP_BECAUSE("no models/llama-tiny");
    const char *folder = rename_llama(model);
    struct model_options options = { .architectures = made_up };
    struct rig rig;
    struct error err = { 0 };
    if (!support_devices())
        SKIP_BECAUSE("no PoCL device");
    assert_false(rig_prepare(&rig, folder, &(struct rig_options){ .exact = true }, &err));
    assert_non_null(strstr(err.text, "supported are phi3, llama"));
    check_float(folder, NULL, "goldens/logits/llama-tiny.json", &options);
}

struct tapped {
    struct bench *bench;
    float *rows;           /* [units][hidden] */
};

static void keep_row(void *context, uint32_t unit, const float *residual) {
    struct tapped *tapped = context;
    size_t hidden = tapped->bench->rig.model->hidden_size;
    memcpy(tapped->rows + unit * hidden, residual, hidden * sizeof *residual);
}

static void the_residual_after_each_block_equals_transformers(void **state) {
    (void)state;
    struct bench bench;
    struct rig_options options = { .exact = true, .embed_on_device = true, .micro_batch = 32 };
    if (!begin(&bench, "models/phi3-tiny", NULL, "goldens/logits/phi3-tiny.json", &options))
        SKIP_BECAUSE("no PoCL device, or no phi3-tiny");
    size_t hidden = bench.rig.model->hidden_size, i;
    struct tapped tapped = { &bench, malloc(bench.rig.plan->unit_count * hidden * sizeof(float)) };
    assert_non_null(tapped.rows);
    engine_set_tap(bench.rig.engine, keep_row, &tapped);
    json_t *prompt;
    json_array_foreach(golden_get(bench.golden.root, "prompts"), i, prompt) {
        const char *name = json_string_value(golden_get(prompt, "name"));
        size_t count;
        run_prompt(&bench, golden_get(prompt, "ids"), &count);
        close_to("embedding", name, tapped.rows, golden_floats(&bench.golden, golden_get(prompt, "embedding"), NULL),
                 hidden, 0);
        const float *layers = golden_floats(&bench.golden, golden_get(prompt, "layers"), NULL);
        for (uint32_t block = 0; block < bench.rig.model->block_count; block++)
            close_to("residual", name, tapped.rows + (2 + 2 * block) * hidden, layers + block * hidden, hidden, 1e-3);
    }
    engine_set_tap(bench.rig.engine, NULL, NULL);
    free(tapped.rows);
    end(&bench);
}

/* Perplexity of the text within 1 % of that with half keys. */
static void kv_in_8_bits_keeps_the_perplexity(void **state) {
    (void)state;
    static const char *const names[] = { "phi3-tiny", "phi3-tiny-longrope", "phi3-tiny-swa", "llama-tiny" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char model[64], goldens[64];
        double sums[2];
        size_t count = 0;
        snprintf(model, sizeof model, "models/%s", names[i]);
        snprintf(goldens, sizeof goldens, "goldens/logits/%s.json", names[i]);
        for (int q8 = 0; q8 < 2; q8++) {
            struct bench bench;
            struct rig_options options = { .kv_type = q8 ? KV_Q8_0 : KV_F16, .logit_rows = 256 };
            if (!begin(&bench, model, NULL, goldens, &options))
                SKIP_BECAUSE("no PoCL device, or no %s", model);
            sums[q8] = sum_log_probabilities(&bench);
            count = json_array_size(golden_get(golden_get(bench.golden.root, "perplexity"), "ids"));
            end(&bench);
        }
        double ratio = exp((sums[0] - sums[1]) / (double)(count - 1));
        print_message("# %s: q8_0 KV, perplexity times %.5f\n", names[i], ratio);
        assert_true(sums[0] != sums[1] && ratio > 0.99 && ratio < 1.01);
    }
}

static void half_precision_kv_stays_within_its_tolerance(void **state) {
    (void)state;
    static const char *const names[] = { "phi3-tiny", "phi3-tiny-longrope", "phi3-tiny-swa", "llama-tiny" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char model[64], goldens[64];
        snprintf(model, sizeof model, "models/%s", names[i]);
        snprintf(goldens, sizeof goldens, "goldens/logits/%s.json", names[i]);
        struct bench bench;
        struct rig_options options = { .kv_type = KV_F16, .logit_rows = 256 };
        if (!begin(&bench, model, NULL, goldens, &options))
            SKIP_BECAUSE("no PoCL device, or no %s", model);
        check_prompts(&bench, 0.06);
        end(&bench);
    }
}

/* ---- quantised ---- */

static void check_exact_gguf(const char *name) {
    char model[96], goldens[96];
    snprintf(model, sizeof model, "models/gguf/%s.gguf", name);
    snprintf(goldens, sizeof goldens, "goldens/gguf/%s.json", name);
    check_float(model, NULL, goldens, NULL);
}

/* Activations in blocks of int8: teacher-forced, within what the goldens' README measured. */
static void check_int8_gguf(const char *name) {
    char model[96], goldens[96];
    snprintf(model, sizeof model, "models/gguf/%s.gguf", name);
    snprintf(goldens, sizeof goldens, "goldens/gguf/%s.json", name);
    struct bench bench;
    struct rig_options options = { .kv_type = KV_F16, .logit_rows = 64 };
    if (!begin(&bench, model, NULL, goldens, &options))
        SKIP_BECAUSE("no PoCL device, or no %s", model);
    assert_int_equal(bench.rig.plan->numeric, NUMERIC_INT8);
    double squares = 0, most = 0;
    size_t values = 0, positions = 0, agreed = 0, i;
    json_t *prompt;
    json_array_foreach(golden_get(bench.golden.root, "prompts"), i, prompt) {
        size_t count;
        run_prompt(&bench, golden_get(prompt, "ids"), &count);
        const float *last = golden_floats(&bench.golden, golden_get(prompt, "last_logits"), NULL);
        for (uint32_t v = 0; v < bench.vocab; v++, values++) {
            double difference = (double)bench.logits[(count - 1) * bench.vocab + v] - last[v];
            squares += difference * difference;
            most = fmax(most, fabs(difference));
        }
        for (size_t t = 0; t < count; t++, positions++)
            agreed += arg_max(bench.logits + t * bench.vocab, bench.vocab) ==
                      top_id(golden_get(prompt, "top8_ids"), t, 0);
    }
    double rms = sqrt(squares / (double)values), share = (double)agreed / (double)positions;
    print_message("# %s: largest difference %.3f, rms %.3f, arg max equal at %.1f %%\n", name, most, rms, 100 * share);
    assert_true(most <= 2 && rms <= 0.25 && share >= 0.88);
    assert_true(rms > 1e-3);   /* or it was not the int8 class that ran */
    end(&bench);
}

#define GGUF_TESTS(suffix, name) \
    static void exact_##suffix##_equals_dequantised_float(void **state) { (void)state; check_exact_gguf(name); } \
    static void int8_##suffix##_stays_within_its_tolerance(void **state) { (void)state; check_int8_gguf(name); }
GGUF_TESTS(q8_0, "quantizable-tiny-Q8_0")
GGUF_TESTS(q4_0, "quantizable-tiny-Q4_0")
GGUF_TESTS(q4_1, "quantizable-tiny-Q4_1")
GGUF_TESTS(q5_0, "quantizable-tiny-Q5_0")
GGUF_TESTS(q5_1, "quantizable-tiny-Q5_1")
GGUF_TESTS(q4_k, "quantizable-tiny-Q4_K")
GGUF_TESTS(q6_k, "quantizable-tiny-Q6_K")
GGUF_TESTS(q4_k_m, "quantizable-tiny-Q4_K_M")
GGUF_TESTS(phi4mini_q8_0, "phi4mini-tiny-Q8_0")
GGUF_TESTS(longrope_q8_0, "phi3-tiny-longrope-Q8_0")
GGUF_TESTS(window_q4_0, "phi3-tiny-swa-Q4_0")

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(phi3_equals_transformers),
        cmocka_unit_test(longrope_equals_transformers),
        cmocka_unit_test(longrope_spelled_su_equals_transformers),
        cmocka_unit_test(longrope_of_v5_equals_transformers),
        cmocka_unit_test(a_sliding_window_equals_transformers),
        cmocka_unit_test(llama_equals_transformers),
        cmocka_unit_test(quantizable_equals_transformers),
        cmocka_unit_test(its_f16_gguf_equals_transformers),
        cmocka_unit_test(the_gguf_of_llama_equals_transformers),
        cmocka_unit_test(phi4mini_equals_transformers),
        cmocka_unit_test(mistral_equals_transformers),
        cmocka_unit_test(qwen2_equals_transformers),
        cmocka_unit_test(the_gguf_of_qwen2_equals_transformers),
        cmocka_unit_test(qwen3_equals_transformers),
        cmocka_unit_test(the_gguf_of_qwen3_equals_transformers),
        cmocka_unit_test(a_made_up_architecture_needs_a_table_entry_only),
        cmocka_unit_test(the_residual_after_each_block_equals_transformers),
        cmocka_unit_test(half_precision_kv_stays_within_its_tolerance),
        cmocka_unit_test(kv_in_8_bits_keeps_the_perplexity),
        cmocka_unit_test(exact_q8_0_equals_dequantised_float),
        cmocka_unit_test(exact_q4_0_equals_dequantised_float),
        cmocka_unit_test(exact_q4_1_equals_dequantised_float),
        cmocka_unit_test(exact_q5_0_equals_dequantised_float),
        cmocka_unit_test(exact_q5_1_equals_dequantised_float),
        cmocka_unit_test(exact_q4_k_equals_dequantised_float),
        cmocka_unit_test(exact_q6_k_equals_dequantised_float),
        cmocka_unit_test(exact_q4_k_m_equals_dequantised_float),
        cmocka_unit_test(exact_phi4mini_q8_0_equals_dequantised_float),
        cmocka_unit_test(exact_longrope_q8_0_equals_dequantised_float),
        cmocka_unit_test(exact_window_q4_0_equals_dequantised_float),
        cmocka_unit_test(int8_q8_0_stays_within_its_tolerance),
        cmocka_unit_test(int8_q4_0_stays_within_its_tolerance),
        cmocka_unit_test(int8_q4_1_stays_within_its_tolerance),
        cmocka_unit_test(int8_q5_0_stays_within_its_tolerance),
        cmocka_unit_test(int8_q5_1_stays_within_its_tolerance),
        cmocka_unit_test(int8_q4_k_stays_within_its_tolerance),
        cmocka_unit_test(int8_q6_k_stays_within_its_tolerance),
        cmocka_unit_test(int8_q4_k_m_stays_within_its_tolerance),
        cmocka_unit_test(int8_phi4mini_q8_0_stays_within_its_tolerance),
        cmocka_unit_test(int8_longrope_q8_0_stays_within_its_tolerance),
        cmocka_unit_test(int8_window_q4_0_stays_within_its_tolerance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
