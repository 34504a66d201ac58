/* Weights converted at plan time: the bytes of the reference, the sizes, the results. */
#include "common/artifact.h"
#include "common/unit_weights.h"
#include "common/weight_choice.h"
#include "planner/weights_option.h"
#include "tests/support.h"
#include "tests/support_engine.h"
#include "tests/support_golden.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const original = "models/quantizable-tiny";

static struct model *open_model(const char *name) {
    struct error err = { 0 };
    struct model_source source;
    const char *path = test_data(name);
    if (!path)
        return NULL;
    ASSERT_OK(model_source_resolve(&source, path, &err), err);
    struct model *model = model_open(&source, NULL, &err);
    ASSERT_OK(model != NULL, err);
    model_source_release(&source);
    return model;
}

static void convert_all(struct model *model, enum tensor_type type) {
    for (uint32_t u = 0; u < unit_count(model); u++)
        model_convert_unit(model, unit_at(model, u), type);
}

static void converted_rows_are_those_of_the_reference_quantiser(void **state) {
    (void)state;
    static const struct { enum tensor_type type; const char *made; } cases[] = {
        { TENSOR_Q8_0, "models/gguf/quantizable-tiny-Q8_0.gguf" },
        { TENSOR_Q4_0, "models/gguf/quantizable-tiny-Q4_0.gguf" },
    };
    for (size_t i = 0; i < 2; i++) {
        struct error err = { 0 };
        struct model *model = open_model(original), *made = open_model(cases[i].made);
        if (!model || !made)
            SKIP_BECAUSE("no models/quantizable-tiny, or not its GGUF");
        convert_all(model, cases[i].type);
        uint32_t compared = 0;
        for (uint32_t block = 0; block < model->block_count; block++)
            for (unsigned role = 0; role < BLOCK_ROLE_COUNT; role++) {
                const struct weight_ref *ours = &model->blocks[block].weights[role];
                const struct weight_ref *theirs = &made->blocks[block].weights[role];
                if (!ours->is_converted)
                    continue;
                uint64_t bytes = model_ref_bytes(made, theirs), read = 0;
                assert_int_equal(model_ref_bytes(model, ours), bytes);
                uint8_t *a = malloc(bytes), *b = malloc(bytes);
                assert_true(a && b);
                /* Two portions, neither of which is a whole head. */
                uint64_t first = ours->row_count / 3 | 1;
                ASSERT_OK(weight_read_rows(model, ours, 0, first, a, &read, &err) &&
                          weight_read_rows(model, ours, first, ours->row_count - first,
                                           a + first * (bytes / ours->row_count), &read, &err), err);
                assert_int_equal(read, ours->row_count * ours->column_count * 2);
                ASSERT_OK(weight_read_rows(made, theirs, 0, theirs->row_count, b, NULL, &err), err);
                assert_memory_equal(a, b, bytes);
                compared++;
                free(a);
                free(b);
            }
        assert_int_equal(compared, 7 * model->block_count);
        model_close(model);
        model_close(made);
    }
}

static void formats_are_written_and_read_back(void **state) {
    (void)state;
    struct model *model = open_model(original);
    if (!model)
        SKIP_BECAUSE("no models/quantizable-tiny");
    struct unit unit = unit_at(model, 1);
    for (int converts = 0; converts < 2; converts++)
        for (int layout = 0; layout < LAYOUT_COUNT; layout++) {
            char format[16];
            bool is_converted;
            enum tensor_type type;
            enum weight_layout read;
            static const char *const expected[2][2] = { { "keep", "r16" }, { "q8_0", "q8_0/r16" } };
            if (converts)
                assert_true(model_convert_unit(model, unit, TENSOR_Q8_0));
            shard_format_write(model, unit, (enum weight_layout)layout, format);
            assert_string_equal(format, expected[converts][layout]);
            assert_true(shard_format_read(format, &is_converted, &type, &read));
            assert_int_equal(is_converted, converts);
            assert_int_equal(read, layout);
            assert_true(!converts || type == TENSOR_Q8_0);
        }
    static const char *const wrong[] = {
        "", "/", "q8_0/", "/r16", "Q8_0", "q8_0/keep", "q8_0/r17", "r16/q8_0", "q4_k/r16", "f32", "q8_0/r16/", "q9",
        "q8_0q8_0q8_0q8_0q8_0",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        bool is_converted;
        enum tensor_type type;
        enum weight_layout layout;
        if (shard_format_read(wrong[i], &is_converted, &type, &layout))
            fail_msg("'%s' is taken for a format", wrong[i]);
    }
    model_close(model);
}

static void the_main_type_is_that_of_most_bytes(void **state) {
    (void)state;
    static const struct { const char *format; uint64_t bytes; } converted[] = {
        { "keep", 900 }, { "q4_0/r16", 40 }, { "q4_0", 40 }, { "keep", 50 }, { "q8_0", 30 }, { "no format", 900 },
    };
    uint64_t stored[TENSOR_TYPE_COUNT] = { 0 };
    struct plan *plan = plan_new();
    assert_non_null(plan);
    assert_null(main_weight_type(NULL, stored));
    stored[TENSOR_Q6_K] = 10;
    assert_string_equal(main_weight_type(NULL, stored), "q6_k");
    stored[TENSOR_F16] = 11;
    assert_string_equal(main_weight_type(plan, stored), "f16");
    for (uint32_t unit = 0; unit < sizeof converted / sizeof *converted; unit++) {
        struct shard shard = { .unit = unit, .part_end = 1, .weight_bytes = converted[unit].bytes };
        snprintf(shard.format, sizeof shard.format, "%s", converted[unit].format);
        assert_true(plan_add_shard(plan, &shard, NULL));
    }
    assert_string_equal(main_weight_type(plan, stored), "q4_0");
    plan->shards[3].weight_bytes = 80;
    assert_string_equal(main_weight_type(plan, stored), "f16");
    plan_free(plan);
}

static void only_what_becomes_smaller_is_converted(void **state) {
    (void)state;
    assert_true(weight_choice_helps(TENSOR_F32, TENSOR_F16, 33));
    assert_true(weight_choice_helps(TENSOR_BF16, TENSOR_F16, 33));
    assert_false(weight_choice_helps(TENSOR_F16, TENSOR_Q8_0, 33));
    assert_true(weight_choice_helps(TENSOR_F16, TENSOR_Q8_0, 64));
    assert_true(weight_choice_helps(TENSOR_Q8_0, TENSOR_Q4_0, 64));
    assert_false(weight_choice_helps(TENSOR_Q4_1, TENSOR_Q8_0, 64));
    assert_false(weight_choice_helps(TENSOR_Q4_K, TENSOR_Q4_0, 256));
    assert_false(weight_choice_helps(TENSOR_Q8_0, TENSOR_Q8_0, 64));
    assert_false(weight_choice_helps(TENSOR_F32, TENSOR_Q4_1, 64));
    struct model *model = open_model("models/gguf/quantizable-tiny-Q4_1.gguf");
    if (!model)
        SKIP_BECAUSE("no models/gguf/quantizable-tiny-Q4_1.gguf");
    uint64_t bytes = model_weight_bytes(model);
    convert_all(model, TENSOR_Q8_0);
    assert_int_equal(model_chosen_bytes(model), bytes);
    model_close(model);
}

static void a_tied_head_becomes_a_matrix_of_its_own(void **state) {
    (void)state;
    struct model *model = open_model("models/qwen3-tiny");
    if (!model)
        SKIP_BECAUSE("no models/qwen3-tiny");
    assert_true(model->tied_head);
    uint64_t before = model_weight_bytes(model), table = model_ref_bytes(model, &model->embed);
    assert_true(model_convert_unit(model, unit_at(model, unit_count(model) - 1), TENSOR_Q8_0));
    assert_int_equal(model_ref_bytes(model, &model->embed), table);
    assert_int_equal(model_ref_bytes(model, &model->head) * 2 * 32, table * 34);
    assert_int_equal(model_chosen_bytes(model), before + model_ref_bytes(model, &model->head));
    assert_int_equal(model_weight_bytes(model), before);
    assert_int_equal(sizing_stored_bytes(model, 0, true), table);   /* no longer the head's */
    model_keep_all(model);
    assert_int_equal(model_chosen_bytes(model), before);
    assert_int_equal(sizing_stored_bytes(model, 0, true), 0);
    model_close(model);
}

static void formats_that_the_model_cannot_have_are_refused(void **state) {
    (void)state;
    struct error err = { 0 };
    struct rig rig;
    struct rig_options options = { .converts = true, .converted_type = TENSOR_Q8_0 };
    if (!support_devices() || !test_data(original))
        SKIP_BECAUSE("no PoCL device, or no models/quantizable-tiny");
    ASSERT_OK(rig_prepare(&rig, test_data(original), &options, &err), err);
    model_keep_all(rig.model);
    assert_false(rig_start(&rig, &options, &err));     /* the plan is of converted weights */
    assert_int_equal(err.kind, ERROR_STALE);
    ASSERT_OK(model_take_formats(rig.model, rig.plan, &err), err);
    struct shard *shard = &rig.plan->shards[2];
    static const char *const wrong[] = { "f16", "q4_k/r16", "nothing" };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        snprintf(shard->format, sizeof shard->format, "%s", wrong[i]);
        err = (struct error){ 0 };
        assert_false(model_take_formats(rig.model, rig.plan, &err));
        assert_int_equal(err.kind, ERROR_STALE);
        assert_non_null(strstr(err.text, wrong[i]));
        assert_null(strstr(err.text, "phiplan"));   /* its callers know which one */
    }
    rig_close(&rig);
}

/* ---- results ---- */

#define MOST_TOKENS 128u

/* The logits of one prompt of the goldens. */
static float *run(const struct rig_options *options, const int32_t *ids, uint32_t count, uint32_t *vocab,
                  const char *weights_hash) {
    struct error err = { 0 };
    struct rig rig;
    ASSERT_OK(rig_prepare(&rig, test_data(original), options, &err), err);
    for (uint32_t i = 0; weights_hash && i < rig.plan->shard_count; i++) {
        snprintf(rig.plan->weights_hash, sizeof rig.plan->weights_hash, "%s", weights_hash);
        rig.plan->shards[i].artifact = options->artifact_paths[i] ? i + 1 : 0;
    }
    ASSERT_OK(rig_start(&rig, options, &err), err);
    *vocab = rig.model->vocab_size;
    float *logits = malloc((size_t)MOST_TOKENS * *vocab * sizeof *logits);
    int32_t positions[MOST_TOKENS];
    bool wanted[MOST_TOKENS];
    assert_non_null(logits);
    assert_true(count <= MOST_TOKENS);
    for (uint32_t i = 0; i < count; i++) {
        positions[i] = (int32_t)i;
        wanted[i] = true;
    }
    struct engine_batch batch = { .token_count = count, .tokens = ids, .positions = positions,
                                  .wants_logits = wanted };
    ASSERT_OK(engine_forward(rig.engine, &batch, logits, &err), err);
    assert_int_equal(engine_unpacked(rig.engine)->count, 0);
    rig_close(&rig);
    return logits;
}

/* A packed file of every unit but the table, as the rig's model is converted. */
static void write_artifacts(const char **paths, enum tensor_type type, char hash[65]) {
    struct error err = { 0 };
    struct model *model = open_model(original);
    convert_all(model, type);
    memset(hash, 'c', 64);
    hash[64] = '\0';
    for (uint32_t u = 1; u < unit_count(model); u++) {
        struct artifact_key key = { .layout = LAYOUT_R16, .part_end = unit_part_count(model, unit_at(model, u)) };
        char path[4096];
        memcpy(key.weights_hash, hash, sizeof key.weights_hash);
        unit_name(unit_at(model, u), key.unit);
        artifact_set_format(&key, model, unit_at(model, u));
        assert_string_equal(key.format, tensor_type_info(type)->name);
        snprintf(path, sizeof path, "%s/%s-%s", test_folder(), key.format, key.unit);
        ASSERT_OK(artifact_write(path, &key, model, NULL, NULL, &err), err);
        paths[u] = strdup(path);
        /* Unconverted, the model cannot make that file. */
        model_keep_unit(model, unit_at(model, u));
        assert_false(artifact_write(path, &key, model, NULL, NULL, &err));
    }
    model_close(model);
}

static void logits_stay_near_those_of_the_floats(void **state) {
    (void)state;
    static const struct { enum tensor_type type; bool exact; double most, rms; } cases[] = {
        { TENSOR_F16, false, 1e-3, 3e-4 },     /* the files' own type: nothing is lost */
        { TENSOR_Q8_0, true, 0.5, 0.1 }, { TENSOR_Q8_0, false, 2, 0.25 },
        { TENSOR_Q4_0, false, 12, 2 },
    };
    struct golden golden;
    if (!support_devices() || !test_data(original) || !golden_load(&golden, "goldens/logits/quantizable-tiny.json"))
        SKIP_BECAUSE("no PoCL device, no models/quantizable-tiny, or no goldens of it");
    size_t i;
    json_t *prompt;
    json_array_foreach(golden_get(golden.root, "prompts"), i, prompt) {
        size_t count;
        if (strcmp(json_string_value(golden_get(prompt, "name")), "rand100") != 0)
            continue;
        int32_t *ids = golden_ids(golden_get(prompt, "ids"), &count);
        const float *last = golden_floats(&golden, golden_get(prompt, "last_logits"), NULL);
        for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
            struct rig_options options = { .converts = true, .converted_type = cases[c].type, .exact = cases[c].exact,
                                           .kv_type = KV_F32, .logit_rows = 128, .context = 128 };
            uint32_t vocab;
            float *logits = run(&options, ids, (uint32_t)count, &vocab, NULL);
            double most = 0, sum = 0;
            for (uint32_t v = 0; v < vocab; v++) {
                double error = fabs((double)logits[(count - 1) * vocab + v] - last[v]);
                most = error > most ? error : most;
                sum += error * error;
            }
            double rms = sqrt(sum / vocab);
            if (!(most <= cases[c].most && rms <= cases[c].rms))
                fail_msg("%s%s: off by %.4f at most, %.4f rms", tensor_type_info(cases[c].type)->name,
                         cases[c].exact ? " exact" : "", most, rms);
            assert_true(cases[c].type == TENSOR_F16 || rms > 1e-4);
            free(logits);
        }
        free(ids);
    }
    golden_release(&golden);
}

static void packed_files_and_memory_give_the_same_bits(void **state) {
    (void)state;
    if (!support_devices() || !test_data(original))
        SKIP_BECAUSE("no PoCL device, or no models/quantizable-tiny");
    int32_t ids[40];
    for (int32_t i = 0; i < 40; i++)
        ids[i] = (i * 37 + 5) % 900;
    const char *paths[64] = { NULL };
    char hash[65];
    struct rig_options options = { .converts = true, .converted_type = TENSOR_Q8_0, .kv_type = KV_F16,
                                   .logit_rows = 64, .context = 64, .micro_batch = 32 };
    uint32_t vocab;
    float *rows = run(&options, ids, 40, &vocab, NULL);
    write_artifacts(paths, TENSOR_Q8_0, hash);
    for (int discrete = 0; discrete < 2; discrete++) {
        options.packed = true;
        options.discrete = discrete;
        options.artifact_paths = paths;
        float *packed = run(&options, ids, 40, &vocab, hash);
        assert_memory_equal(rows, packed, 40 * vocab * sizeof *rows);
        free(packed);
    }
    for (size_t i = 0; i < 64; i++)
        free((void *)(uintptr_t)paths[i]);
    free(rows);
}

/* ---- the choice ---- */

static struct weights_figures figures_of(uint64_t bytes, double total_s) {
    return (struct weights_figures){ .fits = total_s > 0, .weight_bytes = bytes, .total_s = total_s };
}

static void auto_takes_the_most_exact_that_is_about_as_fast(void **state) {
    (void)state;
    static const struct { double seconds[WEIGHTS_CANDIDATES]; uint32_t best; } cases[] = {
        { { 10, 6, 5, 4 }, 1 },        /* q8_0 pays; what follows only saves its bytes */
        { { 10, 9.5, 9, 8.5 }, 0 },    /* nothing pays */
        { { 0, 6, 5, 4 }, 1 },         /* the files do not fit */
        { { 0, 0, 5, 4.5 }, 2 }, { { 0, 0, 0, 4 }, 3 }, { { 0, 0, 0, 0 }, WEIGHTS_CANDIDATES },
        { { 20, 12, 11, 2 }, 3 },      /* only 4 bits fit the fast device */
        { { 20, 12, 3, 2.5 }, 2 },
    };
    static const uint64_t bytes[WEIGHTS_CANDIDATES] = { 1600, 850, 600, 470 };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct weights_figures figures[WEIGHTS_CANDIDATES];
        for (uint32_t i = 0; i < WEIGHTS_CANDIDATES; i++)
            figures[i] = figures_of(bytes[i], cases[c].seconds[i]);
        assert_int_equal(weights_best(figures), cases[c].best);
    }
    /* Weights that are small already: every candidate is the same. */
    struct weights_figures same[WEIGHTS_CANDIDATES];
    for (uint32_t i = 0; i < WEIGHTS_CANDIDATES; i++)
        same[i] = figures_of(500, 3 - i * 0.5);
    assert_int_equal(weights_best(same), 0);
}

static void four_bits_leave_the_head_at_eight(void **state) {
    (void)state;
    struct model *model = open_model(original);
    if (!model)
        SKIP_BECAUSE("no models/quantizable-tiny");
    enum tensor_type type;
    assert_true(weights_apply(model, "q4_0"));
    assert_true(model_unit_conversion(model, unit_at(model, 2), &type) && type == TENSOR_Q4_0);
    assert_true(model_unit_conversion(model, unit_at(model, unit_count(model) - 1), &type) && type == TENSOR_Q8_0);
    assert_false(weights_apply(model, "q5_0"));
    assert_true(weights_apply(model, "keep"));
    assert_false(model_unit_conversion(model, unit_at(model, 2), &type));
    model_close(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(converted_rows_are_those_of_the_reference_quantiser),
        cmocka_unit_test(formats_are_written_and_read_back),
        cmocka_unit_test(the_main_type_is_that_of_most_bytes),
        cmocka_unit_test(only_what_becomes_smaller_is_converted),
        cmocka_unit_test(a_tied_head_becomes_a_matrix_of_its_own),
        cmocka_unit_test(formats_that_the_model_cannot_have_are_refused),
        cmocka_unit_test(logits_stay_near_those_of_the_floats),
        cmocka_unit_test(packed_files_and_memory_give_the_same_bits),
        cmocka_unit_test(auto_takes_the_most_exact_that_is_about_as_fast),
        cmocka_unit_test(four_bits_leave_the_head_at_eight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
