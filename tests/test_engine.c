/* The engine on two devices of unequal kind (PoCL's pthread and basic): what is promised
 * whatever the placement, and what is refused. */
#include "tests/support.h"
#include "tests/support_engine.h"

#include "common/clock.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOKENS 75u

#define PHI3 "models/phi3-tiny"

/* The path of a model for a test on one device, and on both: skipped where something is missing. */
static const char *for_a_device(const char *model) {
    const char *path = support_devices() ? test_data(model) : NULL;
    if (!path)
        SKIP_BECAUSE("no PoCL device, or no %s", model);
    return path;
}

static const char *phi3(void) {
    return for_a_device(PHI3);
}

static const char *for_two_devices(const char *model) {
    const char *path = for_a_device(model);
    if (support_devices()->count < 2)
        SKIP_BECAUSE("PoCL shows one device only");
    return path;
}

/* Logits of every position of sequence `sequence`, in passes of `chunk`. The caller frees them. */
static float *run(struct engine *engine, int32_t sequence, uint32_t chunk, bool long_rope) {
    return support_logits(engine, &(struct support_passes){ .tokens = TOKENS, .chunk = chunk, .sequence = sequence,
                                                            .long_rope = long_rope });
}

static float *run_with(const char *path, const struct rig_options *options, uint32_t chunk, bool long_rope) {
    struct error err = { 0 };
    struct rig rig;
    ASSERT_OK(rig_open(&rig, path, options, &err), err);
    float *logits = run(rig.engine, 0, chunk, long_rope);
    rig_close(&rig);
    return logits;
}

static void assert_same_logits(float *logits, const float *expected, uint32_t vocab, const char *what) {
    if (memcmp(logits, expected, (size_t)TOKENS * vocab * sizeof *logits) != 0)
        fail_msg("other bits with %s", what);
    free(logits);
}

static uint32_t vocab_of(const char *path) {
    struct error err = { 0 };
    struct rig rig;
    struct rig_options options = { 0 };
    ASSERT_OK(rig_prepare(&rig, path, &options, &err), err);
    uint32_t vocab = rig.model->vocab_size;
    rig_close(&rig);
    return vocab;
}

static void a_split_anywhere_gives_the_same_bits(void **state) {
    (void)state;
    const char *path = for_two_devices(PHI3);
    uint32_t vocab = vocab_of(path);
    struct rig_options one = { .kv_type = KV_F16, .micro_batch = 32, .logit_rows = 32 };
    float *expected = run_with(path, &one, TOKENS, false);
    for (uint32_t split = 1; split < 8; split++) {
        struct rig_options two = one;
        char what[32];
        two.split = split;
        snprintf(what, sizeof what, "a split at unit %u", split);
        assert_same_logits(run_with(path, &two, TOKENS, false), expected, vocab, what);
    }
    struct rig_options mixed = one;
    mixed.alternates = true;
    assert_same_logits(run_with(path, &mixed, TOKENS, false), expected, vocab, "attn and ffn apart");
    mixed.embed_on_device = true;
    assert_same_logits(run_with(path, &mixed, 1, false), expected, vocab, "attn and ffn apart, token by token");
    free(expected);
}

/* attn on one device, ffn on the other, the head with the attn: each block crosses twice. Nothing is
 * copied where the devices are of one context, or use the host's memory, unless they are treated as
 * discrete; but the last segment of a pass, attn's device's in a context of its own, gets a copy. */
static void hops_of_tokens_are_counted_and_timed(void **state) {
    (void)state;
    const char *path = for_two_devices(PHI3);
    static const struct { bool discrete, apart; enum hop_way way; } cases[] = {
        { false, false, HOP_SHARED }, { true, false, HOP_STAGED }, { true, true, HOP_STAGED }, { false, true, HOP_MAPPED },
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct rig_options options = { .kv_type = KV_F16, .logit_rows = 1, .alternates = true, .measure_hops = true,
                                       .discrete = cases[c].discrete, .apart = cases[c].apart };
        struct error err = { 0 };
        struct rig rig;
        ASSERT_OK(rig_open(&rig, path, &options, &err), err);
        const double started = seconds_now();
        free(run(rig.engine, 0, 1, false));
        const double elapsed = seconds_now() - started;   /* hops of one pass do not overlap */
        struct engine_device_report reports[3];
        assert_int_equal(engine_report(rig.engine, reports, 3), 3);
        assert_string_equal(reports[0].device, "host");
        for (int i = 1; i < 3; i++) {
            const uint64_t last = cases[c].way == HOP_MAPPED && i == 1 ? TOKENS : 0;
            for (int way = 0; way < HOP_WAYS; way++) {
                const struct hop_times *hops = &reports[i].hops[way];
                const uint64_t all = (uint64_t)TOKENS * rig.model->block_count;
                assert_int_equal(hops->count, way == (int)cases[c].way ? all - last : way == HOP_STAGED ? last : 0);
                assert_true(hops->count ? hops->seconds > 0 : hops->seconds == 0);
                assert_true(hops->seconds < elapsed);
            }
        }
        rig_close(&rig);
    }
}

static void quantised_models_split_to_the_same_bits_too(void **state) {
    (void)state;
    static const char *const names[] = { "models/gguf/quantizable-tiny-Q4_1.gguf", "models/phi3-tiny-longrope" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *path = for_two_devices(names[i]);
        struct rig_options one = { .kv_type = KV_F16, .logit_rows = TOKENS };
        struct rig_options two = { .kv_type = KV_F16, .micro_batch = 20, .split = 3, .embed_on_device = true };
        float *expected = run_with(path, &one, TOKENS, true);
        assert_same_logits(run_with(path, &two, 50, true), expected, vocab_of(path), names[i]);
        free(expected);
    }
}

static void micro_batches_of_any_size_give_the_same_bits(void **state) {
    (void)state;
    static const uint32_t sizes[] = { 1, 3, 32, 64 };
    const char *path = phi3();
    uint32_t vocab = vocab_of(path);
    struct rig_options whole = { .exact = true, .micro_batch = 256, .logit_rows = 256 };
    float *expected = run_with(path, &whole, TOKENS, false);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct rig_options options = { .exact = true, .micro_batch = sizes[i], .logit_rows = 2, .embed_on_device = i % 2 };
        char what[48];
        snprintf(what, sizeof what, "micro-batches of %u", sizes[i]);
        assert_same_logits(run_with(path, &options, TOKENS, false), expected, vocab, what);
    }
    assert_same_logits(run_with(path, &whole, 1, false), expected, vocab, "one token a pass");
    free(expected);
}

/* 8-bit KV, split, by micro-batches, token by token; also with a sliding window. */
static void kv_in_8_bits_gives_the_same_bits_however_it_is_run(void **state) {
    (void)state;
    static const char *const names[] = { "models/phi3-tiny", "models/phi3-tiny-swa" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *path = for_two_devices(names[i]);
        struct rig_options one = { .kv_type = KV_Q8_0, .logit_rows = TOKENS };
        struct rig_options two = { .kv_type = KV_Q8_0, .micro_batch = 7, .split = 3, .logit_rows = 2 };
        float *expected = run_with(path, &one, TOKENS, false);
        assert_same_logits(run_with(path, &two, TOKENS, false), expected, vocab_of(path), "micro-batches of 7, split");
        assert_same_logits(run_with(path, &one, 1, false), expected, vocab_of(path), "one token a pass");
        free(expected);
    }
}

static void a_matrix_in_several_buffers_gives_the_same_bits(void **state) {
    (void)state;
    struct error err = { 0 };
    const char *path = phi3();
    struct rig rig;
    struct rig_options options = { .exact = true, .micro_batch = 16, .embed_on_device = true };
    float *expected = run_with(path, &options, TOKENS, false);
    ASSERT_OK(rig_prepare(&rig, path, &options, &err), err);
    rig.plan->devices[0].max_buffer_bytes = 200000;
    ASSERT_OK(rig_start(&rig, &options, &err), err);
    assert_same_logits(run(rig.engine, 0, TOKENS, false), expected, rig.model->vocab_size, "buffers of 200 kB");
    rig_close(&rig);
    free(expected);
}

static void sequences_in_one_batch_do_not_see_each_other(void **state) {
    (void)state;
    struct error err = { 0 };
    const char *path = phi3();
    struct rig rig;
    struct rig_options options = { .exact = true, .sequence_count = 3, .micro_batch = 64 };
    ASSERT_OK(rig_open(&rig, path, &options, &err), err);
    uint32_t vocab = rig.model->vocab_size;
    float *expected = run(rig.engine, 2, TOKENS, false);
    int32_t tokens[2 * TOKENS], positions[2 * TOKENS], sequences[2 * TOKENS];
    bool wanted[2 * TOKENS];
    for (uint32_t i = 0; i < 2 * TOKENS; i++) {
        sequences[i] = (int32_t)(i % 2);
        positions[i] = (int32_t)(i / 2);
        tokens[i] = (int32_t)((i / 2 * (i % 2 ? 193 : 71) + 7) % (vocab - 1));
        wanted[i] = i % 2 == 1;
    }
    float *logits = malloc((size_t)TOKENS * vocab * sizeof *logits);
    assert_non_null(logits);
    struct engine_batch batch = { .token_count = 2 * TOKENS, .tokens = tokens, .sequences = sequences,
                                  .positions = positions, .wants_logits = wanted };
    ASSERT_OK(engine_forward(rig.engine, &batch, logits, &err), err);
    assert_same_logits(logits, expected, vocab, "another sequence between the tokens");

    /* A fork sees what it shares, and its own from then on. */
    ASSERT_OK(engine_sequence_truncate(rig.engine, 0, 0, &err), err);
    ASSERT_OK(engine_sequence_fork(rig.engine, 1, 0, 40, &err), err);
    int32_t other = 3, place = 40, zero = 0;
    float *row = malloc(2 * vocab * sizeof *row);
    assert_non_null(row);
    struct engine_batch step = { .token_count = 1, .tokens = &other, .sequences = &zero, .positions = &place };
    ASSERT_OK(engine_forward(rig.engine, &step, row, &err), err);
    ASSERT_OK(engine_sequence_truncate(rig.engine, 0, 40, &err), err);
    step.tokens = tokens + 81;   /* the 40th token of sequence 1 */
    ASSERT_OK(engine_forward(rig.engine, &step, row, &err), err);
    assert_memory_equal(row, expected + 40 * vocab, vocab * sizeof *row);
    int32_t one = 1, end = TOKENS;
    step = (struct engine_batch){ .token_count = 1, .tokens = &other, .sequences = &one, .positions = &end };
    ASSERT_OK(engine_forward(rig.engine, &step, row, &err), err);
    int32_t two = 2;
    step.sequences = &two;
    ASSERT_OK(engine_forward(rig.engine, &step, row + vocab, &err), err);
    assert_memory_equal(row, row + vocab, vocab * sizeof *row);
    free(row);
    free(expected);
    rig_close(&rig);
}

static void a_batch_that_makes_no_sense_changes_nothing(void **state) {
    (void)state;
    struct error err = { 0 };
    const char *path = phi3();
    struct rig rig;
    struct rig_options options = { .exact = true, .context = 64 };
    ASSERT_OK(rig_open(&rig, path, &options, &err), err);
    uint32_t vocab = rig.model->vocab_size;
    float *row = malloc(vocab * sizeof *row);
    assert_non_null(row);
    int32_t tokens[65] = { 1, 2, (int32_t)vocab }, positions[65], sequences[65] = { 0, 0, 0 };
    for (int32_t i = 0; i < 65; i++)
        positions[i] = i;
    struct engine_batch batch = { .token_count = 3, .tokens = tokens, .positions = positions, .sequences = sequences };
    assert_false(engine_forward(rig.engine, &batch, row, &err));
    assert_int_equal(err.kind, ERROR_USAGE);
    tokens[2] = -1;
    assert_false(engine_forward(rig.engine, &batch, row, &err));
    tokens[2] = 3;
    sequences[2] = 1;
    assert_false(engine_forward(rig.engine, &batch, row, &err));
    sequences[2] = -1;
    assert_false(engine_forward(rig.engine, &batch, row, &err));
    sequences[2] = 0;
    positions[0] = 1;
    assert_false(engine_forward(rig.engine, &batch, row, &err));
    positions[0] = 0;
    batch.token_count = 65;
    assert_false(engine_forward(rig.engine, &batch, row, &err));
    assert_int_equal(err.kind, ERROR_USAGE);
    batch.token_count = 64;
    ASSERT_OK(engine_forward(rig.engine, &batch, row, &err), err);
    free(row);
    rig_close(&rig);
}

static void the_report_counts_what_was_planned_and_loaded(void **state) {
    (void)state;
    struct error err = { 0 };
    const char *path = phi3();
    struct rig rig;
    struct rig_options options = { .exact = true, .split = support_devices()->count < 2 ? 0 : 4 };
    ASSERT_OK(rig_open(&rig, path, &options, &err), err);
    struct engine_device_report reports[PLAN_MAX_DEVICES + 1];
    uint32_t count = engine_report(rig.engine, reports, PLAN_MAX_DEVICES + 1);
    assert_int_equal(count, options.split ? 3 : 2);
    assert_string_equal(reports[0].device, "host");
    uint64_t loaded = 0;
    for (uint32_t i = 0; i < count; i++) {
        assert_true(reports[i].bytes_loaded > 0);
        assert_int_equal(reports[i].bytes_loaded, reports[i].bytes_planned);
        loaded += reports[i].bytes_loaded;
        assert_int_equal(i > 0, reports[i].bytes_allocated > reports[i].bytes_loaded);
    }
    assert_int_equal(loaded, model_weight_bytes(rig.model));
    assert_int_equal(engine_context(rig.engine), 384);
    assert_ptr_equal(engine_model(rig.engine), rig.model);
    rig_close(&rig);
}

static char refusal[1024];         /* the last one's sentence */

/* Open after `change` was made to the plan, and expect this sentence. */
static void refuse(void (*change)(struct plan *plan), bool exact, enum error_kind kind, const char *what,
                   const char *also) {
    struct error err = { 0 };
    struct rig rig;
    struct rig_options options = { .exact = exact };
    ASSERT_OK(rig_prepare(&rig, phi3(), &options, &err), err);
    change(rig.plan);
    err = (struct error){ 0 };
    assert_false(rig_start(&rig, &options, &err));
    if (err.kind != kind || !strstr(err.text, what) || !strstr(err.text, also))
        fail_msg("kind %d: %s", (int)err.kind, err.text);
    snprintf(refusal, sizeof refusal, "%s", err.text);
    rig_close(&rig);
}

static void other_driver(struct plan *plan) { strcpy(plan->devices[0].device.driver, "0.1 beta"); }
static void other_device(struct plan *plan) {
    strcpy(plan->devices[0].device.name, "Abacus");
    strcpy(plan->name, "fast");
}
static void small_budget(struct plan *plan) {
    plan->devices[0].budget_bytes = 6 << 20;
    plan->request.context = 4096;
}
static void small_budget_of_another(struct plan *plan) {
    small_budget(plan);
    strcpy(plan->name, "fast");
}
static void tiny_budget(struct plan *plan) { plan->devices[0].budget_bytes = 4096; }
static void huge_memory(struct plan *plan) { plan->devices[0].budget_bytes = UINT64_MAX / 2; }
static void larger_buffers(struct plan *plan) { plan->devices[0].max_buffer_bytes = UINT64_MAX / 2; }
static void set_environment(struct plan *plan) {
    for (uint32_t i = 0; i < plan->environment_count; i++)
        if (strcmp(plan->environment[i].name, "DRI_PRIME") == 0)
            strcpy(plan->environment[i].value, "pci-9");
}
static void other_parts(struct plan *plan) { plan->shards[2].part_end++; }
static void packed(struct plan *plan) { strcpy(plan->shards[2].format, "q4_0/r16"); }
static void no_context(struct plan *plan) { plan->request.context = 0; }
static void huge_passes(struct plan *plan) { plan->request.micro_batch = 70000; }
static void more_units(struct plan *plan) {
    plan->unit_count += 2;
    struct shard *head = &plan->shards[plan->shard_count - 1];
    head->part_end = 1;
    for (uint32_t unit = plan->unit_count - 2; unit < plan->unit_count; unit++)
        plan_add_shard(plan, &(struct shard){ .unit = unit, .part_end = 1, .format = "keep" }, NULL);
}

static void a_plan_that_no_longer_fits_the_machine_is_stale(void **state) {
    (void)state;
    refuse(other_driver, false, ERROR_STALE, "was '0.1 beta' and is '", "phiplan ");
    refuse(other_device, false, ERROR_STALE, "Abacus", "--name fast");
    refuse(set_environment, false, ERROR_STALE, "'DRI_PRIME' was 'pci-9'", "phiplan ");
    refuse(small_budget, false, ERROR_STALE, "may use 6.3 MB", "--ctx ");
    refuse(small_budget_of_another, false, ERROR_STALE, "--ctx ", "--name fast");
    refuse(tiny_budget, true, ERROR_STALE, "--exact", "no context fits");
}

/* PoCL reports other sizes from one day to the next; its memory is the host's. */
static void what_the_driver_of_a_cpu_reports_binds_nothing(void **state) {
    (void)state;
    static void (*const changes[])(struct plan *plan) = { huge_memory, larger_buffers };
    for (size_t i = 0; i < 2; i++) {
        struct error err = { 0 };
        struct rig rig;
        struct rig_options options = { .exact = false };
        ASSERT_OK(rig_prepare(&rig, phi3(), &options, &err), err);
        changes[i](rig.plan);
        ASSERT_OK(rig_start(&rig, &options, &err), err);
        rig_close(&rig);
    }
}

static void a_plan_that_cannot_be_run_is_refused(void **state) {
    (void)state;
    refuse(other_parts, false, ERROR_STALE, "ffn.0", "which has");
    refuse(packed, false, ERROR_STALE, "q4_0/r16", "ffn.0");
    refuse(no_context, false, ERROR_STALE, "damaged", "phiplan ");
    refuse(huge_passes, false, ERROR_STALE, "micro-batches of 70000", "phiplan ");
    assert_null(strstr(refusal, "--micro-batch"));   /* the next plan must not be so, too */
    refuse(more_units, false, ERROR_STALE, "units", "phiplan ");
}

static void the_context_that_is_proposed_fits(void **state) {
    (void)state;
    struct error err = { 0 };
    struct rig rig;
    struct rig_options options = { .exact = true, .context = 4096 };
    ASSERT_OK(rig_prepare(&rig, phi3(), &options, &err), err);
    rig.plan->devices[0].budget_bytes = 6 << 20;
    assert_false(rig_start(&rig, &options, &err));
    const char *proposed = strstr(err.text, "--ctx ");
    assert_non_null(proposed);
    rig.plan->request.context = (uint32_t)atoi(proposed + 6);
    assert_true(rig.plan->request.context >= 32 && rig.plan->request.context < 4096);
    ASSERT_OK(rig_start(&rig, &options, &err), err);
    struct engine_device_report reports[2];
    assert_int_equal(engine_report(rig.engine, reports, 2), 2);
    assert_true(reports[1].bytes_allocated <= 6 << 20);
    engine_close(rig.engine);
    rig.plan->request.context += 32;
    assert_false(rig_start(&rig, &options, &err));
    rig_close(&rig);
}

/* A copy of phi3-tiny's weights in a folder that has links to its other files. */
static const char *with_own_weights(char *weights, size_t size) {
    const char *path = support_relinked(phi3(), "model.safetensors", "model.safetensors");
    char command[4096];
    snprintf(weights, size, "%s/model.safetensors", path);
    snprintf(command, sizeof command, "cp --remove-destination '%s/model.safetensors' '%s' && chmod u+w '%s'", phi3(),
             weights, weights);
    assert_int_equal(system(command), 0);
    return path;
}

static void weights_that_are_not_numbers_are_found(void **state) {
    (void)state;
    struct error err = { 0 };
    char weights[2048];
    const char *path = with_own_weights(weights, sizeof weights);
    struct rig rig;
    struct rig_options options = { .exact = true };
    ASSERT_OK(rig_prepare(&rig, path, &options, &err), err);
    const struct weight_ref *norm = &rig.model->out_norm;
    const uint32_t not_a_number = 0x7fc00000;
    int file = open(weights, O_WRONLY);
    assert_int_equal(pwrite(file, &not_a_number, 4, (off_t)rig.model->tensors[norm->tensor].offset), 4);
    close(file);
    ASSERT_OK(rig_start(&rig, &options, &err), err);
    int32_t token = 5, position = 0;
    float *row = malloc(rig.model->vocab_size * sizeof *row);
    assert_non_null(row);
    struct engine_batch batch = { .token_count = 1, .tokens = &token, .positions = &position };
    assert_false(engine_forward(rig.engine, &batch, row, &err));
    assert_int_equal(err.kind, ERROR_FAILED);
    assert_non_null(strstr(err.text, "not numbers"));
    free(row);
    rig_close(&rig);
}

static void weights_that_were_cut_off_name_their_file(void **state) {
    (void)state;
    struct error err = { 0 };
    char weights[2048];
    const char *path = with_own_weights(weights, sizeof weights);
    struct rig rig;
    struct rig_options options = { .exact = true };
    ASSERT_OK(rig_prepare(&rig, path, &options, &err), err);
    assert_int_equal(truncate(weights, 400000), 0);
    assert_false(rig_start(&rig, &options, &err));
    assert_int_equal(err.kind, ERROR_FAILED);
    assert_non_null(strstr(err.text, "model.safetensors"));
    rig_close(&rig);
}

static void an_interrupt_ends_loading_and_running(void **state) {
    (void)state;
    struct error err = { 0 };
    static volatile sig_atomic_t interrupted;
    struct rig rig;
    struct rig_options options = { .exact = true, .interrupted = &interrupted };
    ASSERT_OK(rig_prepare(&rig, phi3(), &options, &err), err);
    interrupted = 1;
    assert_false(rig_start(&rig, &options, &err));
    assert_int_equal(err.kind, ERROR_INTERRUPTED);
    interrupted = 0;
    ASSERT_OK(rig_start(&rig, &options, &err), err);
    int32_t token = 5, position = 0;
    float *row = malloc(2 * rig.model->vocab_size * sizeof *row);
    assert_non_null(row);
    struct engine_batch batch = { .token_count = 1, .tokens = &token, .positions = &position };
    interrupted = 1;
    assert_false(engine_forward(rig.engine, &batch, row, &err));
    assert_int_equal(err.kind, ERROR_INTERRUPTED);
    interrupted = 0;
    ASSERT_OK(engine_forward(rig.engine, &batch, row, &err), err);
    free(row);
    rig_close(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_split_anywhere_gives_the_same_bits),
        cmocka_unit_test(hops_of_tokens_are_counted_and_timed),
        cmocka_unit_test(quantised_models_split_to_the_same_bits_too),
        cmocka_unit_test(micro_batches_of_any_size_give_the_same_bits),
        cmocka_unit_test(kv_in_8_bits_gives_the_same_bits_however_it_is_run),
        cmocka_unit_test(a_matrix_in_several_buffers_gives_the_same_bits),
        cmocka_unit_test(sequences_in_one_batch_do_not_see_each_other),
        cmocka_unit_test(a_batch_that_makes_no_sense_changes_nothing),
        cmocka_unit_test(the_report_counts_what_was_planned_and_loaded),
        cmocka_unit_test(a_plan_that_no_longer_fits_the_machine_is_stale),
        cmocka_unit_test(what_the_driver_of_a_cpu_reports_binds_nothing),
        cmocka_unit_test(a_plan_that_cannot_be_run_is_refused),
        cmocka_unit_test(the_context_that_is_proposed_fits),
        cmocka_unit_test(weights_that_are_not_numbers_are_found),
        cmocka_unit_test(weights_that_were_cut_off_name_their_file),
        cmocka_unit_test(an_interrupt_ends_loading_and_running),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
