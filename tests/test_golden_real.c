/* SmolLM2 in Phi-3's layout, where `make demo` or tools/smollm2_to_phi3.py has made it:
 * real text, against transformers in float32. */
#include "tests/support.h"
#include "tests/support_engine.h"
#include "tests/support_golden.h"

#include "runtime/session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GOLDENS "goldens/real/phi3-smollm2.json"
#define GGUF "SmolLM2-135M-Instruct.Q4_1.gguf"
#define NO_MODEL "no PoCL device, no phi3-smollm2 and its GGUF in build/models (make demo), or no " GOLDENS

/* build/models/NAME, else NULL. */
static const char *built_model(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "build/models/%s", name);
    return access(path, R_OK) == 0 ? path : NULL;
}

static uint32_t arg_max(const float *logits, uint32_t vocab) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < vocab; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

struct bench {
    struct golden golden;
    struct rig rig;
    struct session *session;
    float *logits;         /* [vocab] */
};

static bool begin(struct bench *bench, const char *model, const struct rig_options *options) {
    struct error err = { 0 };
    *bench = (struct bench){ 0 };
    if (!built_model(model) || !support_devices() || !golden_load(&bench->golden, GOLDENS))
        return false;
    ASSERT_OK(rig_open(&bench->rig, built_model(model), options, &err), err);
    bench->session = session_new(bench->rig.engine, 0, ROPE_AUTO, &err);
    ASSERT_OK(bench->session, err);
    bench->logits = malloc(bench->rig.model->vocab_size * sizeof *bench->logits);
    assert_non_null(bench->logits);
    return true;
}

static void end(struct bench *bench) {
    free(bench->logits);
    session_free(bench->session);
    rig_close(&bench->rig);
    golden_release(&bench->golden);
}

/* The first `case_count` cases: the best twenty after the prompt, then the greedy answer. */
static void check_cases(struct bench *bench, size_t case_count, double tolerance) {
    struct error err = { 0 };
    uint32_t vocab = bench->rig.model->vocab_size;
    json_t *cases = golden_get(bench->golden.root, "cases");
    for (size_t i = 0; i < case_count && i < json_array_size(cases); i++) {
        const json_t *one = json_array_get(cases, i);
        const char *name = json_string_value(golden_get(one, "name"));
        size_t count, steps;
        int32_t *tokens = golden_ids(golden_get(one, "ids"), &count);
        int32_t *expected = golden_ids(golden_get(golden_get(one, "greedy48"), "ids"), &steps);
        ASSERT_OK(session_truncate(bench->session, 0, &err), err);
        const int32_t *next = tokens;
        for (size_t step = 0; step < steps; step++) {
            ASSERT_OK(session_append(bench->session, next, step ? 1 : (uint32_t)count, bench->logits, &err), err);
            for (size_t k = 0; step == 0 && k < 20; k++) {
                uint32_t id = (uint32_t)json_integer_value(json_array_get(golden_get(one, "top20_ids"), k));
                double value = json_number_value(json_array_get(golden_get(one, "top20_logits"), k));
                if (!(fabs(bench->logits[id] - value) <= tolerance))
                    fail_msg("logit %u of case %s: %.5f for %.5f", id, name, bench->logits[id], value);
            }
            int32_t id = (int32_t)arg_max(bench->logits, vocab);
            if (id != expected[step])
                fail_msg("token %zu of case %s: %d for %d", step, name, (int)id, (int)expected[step]);
            next = expected + step;
        }
        free(tokens);
        free(expected);
    }
}

static void float_answers_equal_transformers(void **state) {
    (void)state;
    struct bench bench;
    struct rig_options options = { .exact = true, .context = 384 };
    if (!begin(&bench, "phi3-smollm2", &options))
        SKIP_BECAUSE(NO_MODEL);
    check_cases(&bench, SIZE_MAX, 1e-3);
    end(&bench);
}

static double log_probability(const float *logits, uint32_t vocab, int32_t id) {
    double sum = 0, most = logits[arg_max(logits, vocab)];
    for (uint32_t i = 0; i < vocab; i++)
        sum += exp(logits[i] - most);
    return logits[id] - most - log(sum);
}

/* Sum over a text in one pass; the share of the cases' prompt positions whose arg max agrees. */
static double text_log_probability(struct bench *bench) {
    struct error err = { 0 };
    uint32_t vocab = bench->rig.model->vocab_size;
    size_t count;
    int32_t *ids = golden_ids(golden_get(golden_get(bench->golden.root, "perplexity"), "ids"), &count);
    float *rows = malloc(count * vocab * sizeof *rows);
    assert_non_null(rows);
    ASSERT_OK(session_truncate(bench->session, 0, &err), err);
    ASSERT_OK(session_append_all(bench->session, ids, (uint32_t)count, rows, &err), err);
    double sum = 0;
    for (size_t i = 0; i + 1 < count; i++)
        sum += log_probability(rows + i * vocab, vocab, ids[i + 1]);
    free(rows);
    free(ids);
    return sum;
}

static double arg_max_share(struct bench *bench) {
    struct error err = { 0 };
    uint32_t vocab = bench->rig.model->vocab_size;
    size_t i, agreed = 0, positions = 0;
    json_t *one;
    json_array_foreach(golden_get(bench->golden.root, "cases"), i, one) {
        size_t count, checked;
        int32_t *ids = golden_ids(golden_get(one, "ids"), &count);
        int32_t *best = golden_ids(golden_get(one, "argmax_every_position"), &checked);
        float *rows = malloc(count * vocab * sizeof *rows);
        assert_non_null(rows);
        assert_int_equal(count, checked);
        ASSERT_OK(session_truncate(bench->session, 0, &err), err);
        ASSERT_OK(session_append_all(bench->session, ids, (uint32_t)count, rows, &err), err);
        for (size_t t = 0; t < count; t++, positions++)
            agreed += (int32_t)arg_max(rows + t * vocab, vocab) == best[t];
        free(rows);
        free(ids);
        free(best);
    }
    return (double)agreed / (double)positions;
}

static double golden_log_probability(const struct bench *bench) {
    return json_number_value(golden_get(golden_get(bench->golden.root, "perplexity"), "sum_logprob"));
}

static void float_log_probabilities_equal_transformers(void **state) {
    (void)state;
    struct bench bench;
    struct rig_options options = { .exact = true, .context = 384, .logit_rows = 64 };
    if (!begin(&bench, "phi3-smollm2", &options))
        SKIP_BECAUSE(NO_MODEL);
    double difference = text_log_probability(&bench) - golden_log_probability(&bench);
    if (!(fabs(difference) <= 2e-2))
        fail_msg("the sum of log-probabilities differs by %.4f", difference);
    end(&bench);
}

/* The checkpoint's weights are the GGUF's, dequantised and rounded to float16. */
static void the_gguf_it_came_from_answers_alike(void **state) {
    (void)state;
    struct bench bench;
    struct rig_options options = { .exact = true, .context = 384, .logit_rows = 64 };
    if (!begin(&bench, GGUF, &options))
        SKIP_BECAUSE(NO_MODEL);
    check_cases(&bench, 1, 0.1);
    double difference = text_log_probability(&bench) - golden_log_probability(&bench);
    if (!(fabs(difference) <= 0.5))
        fail_msg("the sum of log-probabilities differs by %.4f", difference);
    end(&bench);
}

static void int8_activations_stay_within_their_tolerance(void **state) {
    (void)state;
    struct bench bench;
    struct rig_options options = { .kv_type = KV_F16, .context = 384, .logit_rows = 64 };
    if (!begin(&bench, GGUF, &options))
        SKIP_BECAUSE(NO_MODEL);
    assert_int_equal(bench.rig.plan->numeric, NUMERIC_INT8);
    double difference = text_log_probability(&bench) - golden_log_probability(&bench);
    double share = arg_max_share(&bench);
    print_message("# int8: sum of log-probabilities differs by %.3f, arg max equal at %.1f %%\n", difference,
                  100 * share);
    assert_true(fabs(difference) <= 3 && share >= 0.93);
    end(&bench);
}

/* Perplexity of the paragraph within 1 % of that with half keys. */
static void keys_in_8_bits_keep_the_perplexity(void **state) {
    (void)state;
    double sums[2];
    static const enum kv_type types[] = { KV_F16, KV_Q8_0 };
    size_t count;
    for (int i = 0; i < 2; i++) {
        struct bench bench;
        struct rig_options options = { .kv_type = types[i], .context = 384, .logit_rows = 64 };
        if (!begin(&bench, GGUF, &options))
            SKIP_BECAUSE(NO_MODEL);
        free(golden_ids(golden_get(golden_get(bench.golden.root, "perplexity"), "ids"), &count));
        sums[i] = text_log_probability(&bench);
        end(&bench);
    }
    double ratio = exp((sums[0] - sums[1]) / (double)(count - 1));
    print_message("# q8_0 KV: perplexity times %.5f over %zu tokens\n", ratio, count - 1);
    assert_true(sums[0] != sums[1] && ratio < 1.01 && ratio > 0.99);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(float_answers_equal_transformers),
        cmocka_unit_test(float_log_probabilities_equal_transformers),
        cmocka_unit_test(the_gguf_it_came_from_answers_alike),
        cmocka_unit_test(int8_activations_stay_within_their_tolerance),
        cmocka_unit_test(keys_in_8_bits_keep_the_perplexity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
