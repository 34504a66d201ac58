/* CLBlast's way from a measurement to a pass. What compiles its kernels, which takes PoCL some
 * 20 s, runs with CLBLAST=1 only: make check-clblast. */
#include "kernels/ops.h"
#include "planner/cost.h"
#include "planner/probe_measure.h"
#include "tests/support.h"
#include "tests/support_engine.h"
#include "tests/support_plan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOT_ASKED "it compiles for some 20 s; make check-clblast runs it"

static bool is_loaded(void) {
    char line[512];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "r");
    assert_non_null(maps);
    while (fgets(line, sizeof line, maps))
        found = found || strstr(line, "libclblast");
    fclose(maps);
    return found;
}

static void the_library_is_loaded_when_asked_for(void **state) {
    (void)state;
    struct error err = { 0 };
    assert_false(is_loaded());
    if (!ops_gemm_is_there(&err)) {
        assert_non_null(strstr(err.text, "libclblast"));
        SKIP_BECAUSE("no libclblast.so.1");
    }
    assert_true(is_loaded());
}

static void it_is_chosen_where_it_is_measured_to_be_faster(void **state) {
    (void)state;
    struct device device = { .type = DEVICE_GPU };
    struct device_rates rates;
    struct probe_value values[] = {
        { "prefill", "f16", 0, 1e12, "op/s" },         { "decode", "f16", 0, 1e11, "B/s" },
        { "prefill", "f16/clblast", 0, 3e12, "op/s" }, { "prefill", "bf16/clblast", 0, 1.05e12, "op/s" },
    };
    device_rates_assume(&rates, &device);
    assert_false(device_rates_prefer_gemm(&rates, TENSOR_F16));
    device_rates_apply(&rates, values, 2, 0);
    assert_false(device_rates_prefer_gemm(&rates, TENSOR_F16));
    device_rates_apply(&rates, values, 4, 0);
    assert_true(device_rates_prefer_gemm(&rates, TENSOR_F16));
    assert_false(device_rates_prefer_gemm(&rates, TENSOR_BF16));   /* 5 % are not worth it */
    assert_false(device_rates_prefer_gemm(&rates, TENSOR_F32));    /* not measured */
}

static void the_choice_is_kept_for_device_and_driver(void **state) {
    (void)state;
    struct error err = { 0 };
    int64_t row;
    struct plan_store *store = test_store(test_path("tuning.db"), &row);
    struct plan *plan = test_plan(2, "default");
    struct device device = plan->devices[0].device;
    struct tuning_choice choice = { "matmul", "f16", "clblast", true, 0.25 }, found = { "matmul", "f16", "x", false, 0 };
    ASSERT_OK(plan_store_save_device(store, &device, &err), err);
    ASSERT_OK(plan_store_tuning(store, &device, &found, &err), err);
    assert_string_equal(found.variant, "");
    ASSERT_OK(plan_store_save_tuning(store, &device, &choice, &err), err);
    choice.seconds = 0.5;
    ASSERT_OK(plan_store_save_tuning(store, &device, &choice, &err), err);   /* replaces */
    ASSERT_OK(plan_store_tuning(store, &device, &found, &err), err);
    assert_string_equal(found.variant, "clblast");
    assert_true(found.unordered && found.seconds == 0.5);
    bool types[TENSOR_TYPE_COUNT];
    ASSERT_OK(plan_store_gemm_types(store, &device, types, &err), err);
    for (int t = 0; t < TENSOR_TYPE_COUNT; t++)
        assert_int_equal(types[t], t == TENSOR_F16);
    snprintf(found.format, sizeof found.format, "f32");
    ASSERT_OK(plan_store_tuning(store, &device, &found, &err), err);
    assert_string_equal(found.variant, "");
    struct device newer = device;
    snprintf(newer.driver, sizeof newer.driver, "another");
    snprintf(found.format, sizeof found.format, "f16");
    ASSERT_OK(plan_store_tuning(store, &newer, &found, &err), err);
    assert_string_equal(found.variant, "");
    choice.variant[0] = '\0';
    ASSERT_OK(plan_store_save_tuning(store, &device, &choice, &err), err);   /* forgets */
    ASSERT_OK(plan_store_tuning(store, &device, &found, &err), err);
    assert_string_equal(found.variant, "");
    plan_free(plan);
    plan_store_close(store);
}

/* ---- with CLBLAST=1 ---- */

static double gemm_rate, own_rate;

static void note_step(const struct probe_bench *bench, const char *what) {
    (void)bench;
    (void)what;
}

static void note_value(const struct probe_bench *bench, const struct probe_value *value) {
    (void)bench;
    if (strcmp(value->what, "prefill") == 0)
        *(strstr(value->format, "/clblast") ? &gemm_rate : &own_rate) = value->value;
}

static void the_probe_measures_it_on_what_is_no_cpu(void **state) {
    (void)state;
    struct error err = { 0 };
    if (!getenv("CLBLAST") || !support_devices() || !ops_gemm_is_there(&err))
        SKIP_BECAUSE(NOT_ASKED);
    for (int is_gpu = 0; is_gpu < 2; is_gpu++) {
        const struct opencl_device *pocl = &support_devices()->devices[0];
        struct device info = pocl->info;
        info.type = is_gpu ? DEVICE_GPU : DEVICE_CPU;
        struct probe_request request = { .shape_count = 1, .shapes = { { TENSOR_F16, 64, 64 } }, .token_bytes = 1 << 16,
                                         .numeric = NUMERIC_FLOAT, .prefill_tokens = 32 };
        struct probe_bench bench = { .info = &info, .id = pocl->id, .request = &request, .step = note_step,
                                     .value = note_value };
        struct ops_options options = { .numeric = NUMERIC_FLOAT };
        gemm_rate = own_rate = 0;
        bench.context = opencl_context(&bench.id, 1, &err);
        ASSERT_OK(bench.context, err);
        bench.queue = opencl_queue(bench.context, bench.id, &err);
        ASSERT_OK(bench.queue, err);
        struct ops *ops = ops_new(bench.context, bench.id, bench.queue, &options, &err);
        ASSERT_OK(ops, err);
        ASSERT_OK(probe_measure_matrices(&bench, ops, &err), err);
        assert_true(own_rate > 0);
        assert_int_equal(gemm_rate > 0, is_gpu);
        ops_free(ops);
        clReleaseCommandQueue(bench.queue);
        clReleaseContext(bench.context);
    }
}

#define TOKENS 48u

static float *run(bool gemm, bool exact, uint32_t *vocab) {
    static bool types[PLAN_MAX_DEVICES][TENSOR_TYPE_COUNT];
    struct error err = { 0 };
    struct rig rig;
    struct rig_options options = { .context = 64, .micro_batch = 32, .kv_type = KV_F32, .logit_rows = 16, .exact = exact };
    for (int d = 0; d < PLAN_MAX_DEVICES; d++)
        types[d][TENSOR_F16] = true;
    options.gemm_types = gemm ? (const bool (*)[TENSOR_TYPE_COUNT])types : NULL;
    ASSERT_OK(rig_open(&rig, test_data("models/quantizable-tiny"), &options, &err), err);
    *vocab = rig.model->vocab_size;
    float *logits = malloc((size_t)TOKENS * *vocab * sizeof *logits);
    int32_t tokens[TOKENS], positions[TOKENS];
    bool wanted[TOKENS];
    assert_non_null(logits);
    for (uint32_t i = 0; i < TOKENS; i++) {
        tokens[i] = (int32_t)((i * 193 + 7) % 900);
        positions[i] = (int32_t)i;
        wanted[i] = true;
    }
    struct engine_batch batch = { .token_count = TOKENS, .tokens = tokens, .positions = positions, .wants_logits = wanted };
    ASSERT_OK(engine_forward(rig.engine, &batch, logits, &err), err);
    rig_close(&rig);
    return logits;
}

static void passes_are_within_rounding_of_our_own(void **state) {
    (void)state;
    struct error err = { 0 };
    if (!getenv("CLBLAST") || !support_devices() || !test_data("models/quantizable-tiny") || !ops_gemm_is_there(&err))
        SKIP_BECAUSE(NOT_ASKED);
    uint32_t vocab;
    float *own = run(false, false, &vocab), *theirs = run(true, false, &vocab), *exact = run(true, true, &vocab);
    bool same = true;
    for (uint32_t i = 0; i < TOKENS * vocab; i++) {
        same = same && own[i] == theirs[i];
        if (!(fabsf(own[i] - theirs[i]) <= 1e-3f))
            fail_msg("logit %u: %.6f for %.6f", i, theirs[i], own[i]);
    }
    assert_false(same);   /* or it was not used */
    assert_memory_equal(own, exact, (size_t)TOKENS * vocab * sizeof *own);   /* --exact does without */
    free(own);
    free(theirs);
    free(exact);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_library_is_loaded_when_asked_for),
        cmocka_unit_test(it_is_chosen_where_it_is_measured_to_be_faster),
        cmocka_unit_test(the_choice_is_kept_for_device_and_driver),
        cmocka_unit_test(the_probe_measures_it_on_what_is_no_cpu),
        cmocka_unit_test(passes_are_within_rounding_of_our_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
