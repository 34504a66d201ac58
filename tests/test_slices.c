/* Units cut into slices over devices that run them at the same time: the same bits as
 * whole, exactly the slice's bytes on each device, and what cannot be run is refused. */
#include "tests/support.h"
#include "tests/support_engine.h"

#include "common/artifact.h"
#include "common/unit_weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKENS 40u
#define CONTEXT 96u

static const char *model_at(const char *name) {
    const struct opencl_devices *devices = support_devices();
    return devices && devices->count >= 2 ? test_data(name) : NULL;
}
#define NO_MODEL "fewer than two PoCL devices, or no %s"

/* Logits of every position, in passes of `chunk`. The caller frees them. */
static float *run(struct engine *engine, uint32_t chunk) {
    return support_logits(engine, &(struct support_passes){ .tokens = TOKENS, .chunk = chunk });
}

static float *run_whole(const char *path, const struct rig_options *options, uint32_t *vocab) {
    struct error err = { 0 };
    struct rig rig;
    ASSERT_OK(rig_open(&rig, path, options, &err), err);
    *vocab = rig.model->vocab_size;
    float *logits = run(rig.engine, TOKENS);
    rig_close(&rig);
    return logits;
}

/* What each device was planned and given; together the model. */
static void check_bytes(const struct rig *rig) {
    struct engine_device_report reports[PLAN_MAX_DEVICES + 1];
    uint32_t count = engine_report(rig->engine, reports, PLAN_MAX_DEVICES + 1);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        /* The table of a tied model counts with its head, which may be elsewhere. */
        if (strcmp(reports[i].device, "host") != 0)
            assert_int_equal(reports[i].bytes_loaded, reports[i].bytes_planned);
        sum += reports[i].bytes_loaded;
    }
    assert_true(sum >= model_weight_bytes(rig->model));
    if (!rig->model->tied_head)
        assert_int_equal(sum, model_weight_bytes(rig->model));
}

static const struct sliced_case {
    const char *model;
    bool packed, exact;
    enum kv_type kv_type;
} cases[] = {
    { "models/phi3-tiny", false, true, KV_F32 },
    { "models/llama-tiny", false, false, KV_F16 },
    { "models/phi3-tiny-swa", false, false, KV_Q8_0 },
    { "models/gguf/quantizable-tiny-Q4_1.gguf", true, false, KV_F16 },
    { "models/qwen2-tiny", false, false, KV_F16 },
    { "models/qwen3-tiny", false, false, KV_F16 },
};

static void any_slices_give_the_same_bits(void **state) {
    (void)state;
    static const uint32_t micro_batches[] = { 256, 7, 1 };
    uint32_t tried = 0, sliced = 0, streamed = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct sliced_case *one = &cases[i];
        const char *path = model_at(one->model);
        if (!path) {
            print_message("# left out: " NO_MODEL "\n", one->model);
            continue;
        }
        struct rig_options options = { .exact = one->exact, .kv_type = one->kv_type, .packed = one->packed,
                                       .context = CONTEXT, .logit_rows = TOKENS };
        uint32_t vocab;
        float *expected = run_whole(path, &options, &vocab);
        for (uint32_t seed = 1; seed <= 3; seed++) {
            if (seed == i % 3 + 1)
                continue;   /* building an engine's kernels takes its time */
            struct error err = { 0 };
            struct rig rig;
            options.micro_batch = micro_batches[seed - 1];
            options.discrete = seed == 2;
            options.embed_on_device = seed == 3;
            options.logit_rows = seed == 1 ? TOKENS : 2;
            ASSERT_OK(rig_prepare(&rig, path, &options, &err), err);
            sliced += support_slice_plan(&rig, seed * 977 + (uint32_t)i);
            /* Some of them streamed: a slice is read through the windows of its device. */
            for (uint32_t s = 1; seed == 2 && s < rig.plan->shard_count; s++)
                if (s % 3 == 0) {
                    rig.plan->shards[s].residency = STREAMED;
                    streamed++;
                }
            ASSERT_OK(rig_start(&rig, &options, &err), err);
            check_bytes(&rig);
            float *logits = run(rig.engine, seed == 3 ? 1 : TOKENS);
            if (memcmp(logits, expected, (size_t)TOKENS * vocab * sizeof *logits) != 0)
                fail_msg("other bits of '%s' in slices of seed %u", one->model, seed);
            free(logits);
            rig_close(&rig);
        }
        free(expected);
        tried++;
    }
    if (!tried)
        SKIP_BECAUSE("no model, or fewer than two PoCL devices");
    assert_true(sliced >= 4 * tried && streamed > 0);
}

/* Pages that a fork shares are copied in every slice of every unit. */
static void sequences_fork_in_slices(void **state) {
    (void)state;
    const char *path = model_at("models/phi3-tiny");
    if (!path)
        SKIP_BECAUSE(NO_MODEL, "models/phi3-tiny");
    struct error err = { 0 };
    struct rig rig;
    struct rig_options options = { .context = CONTEXT, .sequence_count = 2, .logit_rows = TOKENS };
    ASSERT_OK(rig_prepare(&rig, path, &options, &err), err);
    assert_true(support_slice_plan(&rig, 5) > 0);
    ASSERT_OK(rig_start(&rig, &options, &err), err);
    uint32_t vocab = rig.model->vocab_size;
    float *expected = run(rig.engine, TOKENS), *row = malloc(vocab * sizeof *row);
    assert_non_null(row);
    ASSERT_OK(engine_sequence_fork(rig.engine, 0, 1, TOKENS - 1, &err), err);
    /* Sequence 0 writes something else behind its end, then sequence 1 its last token anew. */
    int32_t token = 3, position = TOKENS, sequence = 0;
    struct engine_batch batch = { .token_count = 1, .tokens = &token, .positions = &position, .sequences = &sequence };
    ASSERT_OK(engine_forward(rig.engine, &batch, row, &err), err);
    token = support_token(TOKENS - 1, vocab);
    position = TOKENS - 1;
    sequence = 1;
    ASSERT_OK(engine_forward(rig.engine, &batch, row, &err), err);
    assert_memory_equal(row, expected + (size_t)(TOKENS - 1) * vocab, vocab * sizeof *row);
    free(row);
    free(expected);
    rig_close(&rig);
}

/* As where a stored plan was sliced by SQL: its files are those of whole units. */
static void files_of_whole_units_and_of_slices_serve_alike(void **state) {
    (void)state;
    static const char *const name = "models/gguf/quantizable-tiny-Q4_1.gguf";
    const char *path = model_at(name);
    if (!path)
        SKIP_BECAUSE(NO_MODEL, name);
    struct error err = { 0 };
    struct rig_options options = { .packed = true, .context = CONTEXT, .logit_rows = TOKENS };
    uint32_t vocab;
    float *expected = run_whole(path, &options, &vocab);
    for (int of_slices = 0; of_slices < 2; of_slices++) {
        struct rig rig;
        char names[64][512];
        const char *paths[64] = { NULL };
        ASSERT_OK(rig_prepare(&rig, path, &options, &err), err);
        struct plan *plan = rig.plan;
        assert_true(support_slice_plan(&rig, 11) > 0);
        assert_true(plan->shard_count < 64);
        memset(plan->weights_hash, 'a', 64);
        for (uint32_t i = 1; i < plan->shard_count; i++) {
            struct shard *shard = &plan->shards[i];
            const struct unit unit = unit_at(rig.model, shard->unit);
            struct artifact_key key = { .part_begin = of_slices ? shard->part_begin : 0, .format = "keep",
                                        .part_end = of_slices ? shard->part_end : unit_part_count(rig.model, unit),
                                        .layout = LAYOUT_R16 };
            memcpy(key.weights_hash, plan->weights_hash, sizeof key.weights_hash);
            unit_name(unit, key.unit);
            snprintf(names[i], sizeof names[i], "%s/%s_%u-%u", test_folder(), key.unit, key.part_begin, key.part_end);
            ASSERT_OK(artifact_write(names[i], &key, rig.model, NULL, NULL, &err), err);
            paths[i] = names[i];
            shard->artifact = i;
        }
        options.artifact_paths = paths;
        ASSERT_OK(rig_start(&rig, &options, &err), err);
        assert_int_equal(engine_unpacked(rig.engine)->count, 0);
        check_bytes(&rig);
        float *logits = run(rig.engine, TOKENS);
        assert_memory_equal(logits, expected, (size_t)TOKENS * vocab * sizeof *logits);
        free(logits);
        rig_close(&rig);
    }
    free(expected);
}

static struct shard part_of(const struct rig *rig, uint32_t unit, uint32_t begin, uint32_t end, int32_t device) {
    return (struct shard){ .unit = unit, .device = device, .part_begin = begin, .part_end = end, .format = "keep",
                           .weight_bytes = unit_part_stored_bytes(rig->model, unit_at(rig->model, unit),
                                                                  (struct part_range){ begin, end }) };
}

/* The plan with attn.1 (4 parts) in slices of one part on the devices named. */
static void slice_attention(struct rig *rig, const int32_t devices[4]) {
    struct error err = { 0 };
    struct plan *plan = rig->plan;
    assert_int_equal(unit_part_count(rig->model, unit_at(rig->model, 3)), 4);
    memmove(plan->shards + 3, plan->shards + 4, (plan->shard_count - 4) * sizeof *plan->shards);
    plan->shard_count--;
    for (uint32_t i = 0; i < 4; i++) {
        struct shard shard = part_of(rig, 3, i, i + 1, devices[i]);
        ASSERT_OK(plan_add_shard(plan, &shard, &err), err);
    }
}

static void slices_on_one_device_join_or_are_refused(void **state) {
    (void)state;
    const char *path = model_at("models/phi3-tiny");
    if (!path)
        SKIP_BECAUSE(NO_MODEL, "models/phi3-tiny");
    struct error err = { 0 };
    struct rig rig;
    struct rig_options options = { .context = CONTEXT, .logit_rows = TOKENS };
    uint32_t vocab;
    float *expected = run_whole(path, &options, &vocab);
    static const int32_t joined[4] = { 0, 1, 1, 1 };
    ASSERT_OK(rig_prepare(&rig, path, &options, &err), err);
    slice_attention(&rig, joined);
    ASSERT_OK(rig_start(&rig, &options, &err), err);
    check_bytes(&rig);
    float *logits = run(rig.engine, TOKENS);
    assert_memory_equal(logits, expected, (size_t)TOKENS * vocab * sizeof *logits);
    free(logits);
    rig_close(&rig);
    free(expected);

    ASSERT_OK(rig_prepare(&rig, path, &options, &err), err);
    slice_attention(&rig, (const int32_t[4]){ 0, 1, 0, 1 });
    assert_false(rig_start(&rig, &options, &err));
    assert_int_equal(err.kind, ERROR_STALE);
    assert_non_null(strstr(err.text, "parts of 'attn.1' that do not follow each other (0 to 1, and from 2 on)"));
    rig_close(&rig);

    err = (struct error){ 0 };
    ASSERT_OK(rig_prepare(&rig, path, &options, &err), err);
    slice_attention(&rig, joined);
    strcpy(rig.plan->shards[5].format, "r16");
    assert_false(rig_start(&rig, &options, &err));
    assert_non_null(strstr(err.text, "'attn.1' in two layouts"));
    rig_close(&rig);
}

/* ---- sizes ---- */

/* Bytes of a list's entries of one kind, without rounding. */
static uint64_t used(const struct buffer_list *list, enum buffer_kind kind) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < list->count; i++)
        bytes += list->specs[i].kind == kind ? list->specs[i].used_bytes : 0;
    return bytes;
}

static void the_slices_of_a_unit_add_up_to_it(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = model_at(cases[i].model);
        struct error err = { 0 };
        struct rig rig;
        struct rig_options options = { .context = CONTEXT };
        if (!path)
            continue;
        ASSERT_OK(rig_prepare(&rig, path, &options, &err), err);
        const struct model *model = rig.model;
        struct buffer_options sizes = { .context = 64, .micro_batch = 4, .sequence_count = 1, .logit_rows = 1,
                                        .alignment = 128, .max_buffer_bytes = UINT64_MAX };
        for (uint32_t u = 1; u < unit_count(model); u++) {
            const struct unit unit = unit_at(model, u);
            const uint32_t parts = unit_part_count(model, unit);
            struct buffer_list whole = { 0 }, sliced = { 0 };
            uint64_t stored = 0, outputs = 0, norms = 0;
            ASSERT_OK(unit_buffers(model, unit, &sizes, &whole, &err), err);
            for (uint32_t part = 0; part < parts; part++) {
                const struct part_range range = { part, part + 1 };
                ASSERT_OK(unit_part_buffers(model, unit, range, &sizes, &sliced, &err), err);
                stored += unit_part_stored_bytes(model, unit, range);
                outputs += unit_slice_of(model, unit, range).output_count;
            }
            for (size_t s = 0; s < whole.count; s++)
                if (whole.specs[s].role == BUFFER_NORM || whole.specs[s].role == BUFFER_QK_NORM)
                    norms += whole.specs[s].used_bytes;
            assert_int_equal(stored, unit_part_stored_bytes(model, unit, unit_all_parts(model, unit)));
            assert_int_equal(outputs, unit.kind == UNIT_HEAD ? model->vocab_size : model->hidden_size);
            assert_int_equal(used(&sliced, BUFFER_WEIGHTS), used(&whole, BUFFER_WEIGHTS) + (parts - 1) * norms);
            assert_int_equal(used(&sliced, BUFFER_KV), used(&whole, BUFFER_KV));
            buffer_list_release(&whole);
            buffer_list_release(&sliced);
        }
        struct buffer_list none = { 0 };
        const struct part_range beyond = { 0, unit_part_count(model, unit_at(model, 1)) + 1 };
        assert_false(unit_part_buffers(model, unit_at(model, 1), beyond, &sizes, &none, &err));
        assert_int_equal(none.count, 0);
        rig_close(&rig);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_slices_give_the_same_bits),
        cmocka_unit_test(sequences_fork_in_slices),
        cmocka_unit_test(files_of_whole_units_and_of_slices_serve_alike),
        cmocka_unit_test(slices_on_one_device_join_or_are_refused),
        cmocka_unit_test(the_slices_of_a_unit_add_up_to_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
