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
    struct rig_options options = { .exact = true, .context = 256 };
    if (!begin(&bench, "phi3-smollm2", &options))
        SKIP_BECAUSE("no PoCL device, no build/models/phi3-smollm2 (make demo), or no " GOLDENS);
    check_cases(&bench, 3, 1e-3);
    end(&bench);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(float_answers_equal_transformers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
