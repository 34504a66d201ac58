/* Streamed units: read for every pass through two windows, and nothing else changes. */
#include "tests/support.h"
#include "tests/support_engine.h"

#include "common/file_map.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOKENS 40u

/* Logits of every position, in passes of `chunk`; the caller frees them. */
static float *run(struct engine *engine, uint32_t chunk) {
    return support_logits(engine, &(struct support_passes){ .tokens = TOKENS, .chunk = chunk });
}

/* Units whose number has a bit in `streamed` are streamed. */
static void open_streamed(struct rig *rig, const char *path, const struct rig_options *options, uint64_t streamed,
                          uint64_t budget) {
    struct error err = { 0 };
    ASSERT_OK(rig_prepare(rig, path, options, &err), err);
    for (uint32_t i = 0; i < rig->plan->shard_count; i++)
        if (streamed >> rig->plan->shards[i].unit & 1)
            rig->plan->shards[i].residency = STREAMED;
    for (uint32_t i = 0; i < rig->plan->device_count; i++)
        rig->plan->devices[i].budget_bytes = budget;
    ASSERT_OK(rig_start(rig, options, &err), err);
}

#define ALL UINT64_MAX

static void what_is_streamed_gives_the_same_bits(void **state) {
    (void)state;
    static const struct { const char *model; bool packed, discrete; uint32_t split; uint64_t streamed; } cases[] = {
        { "models/phi3-tiny", false, false, 0, ALL },
        { "models/phi3-tiny", false, true, 4, 0x55 },
        { "models/gguf/quantizable-tiny-Q4_1.gguf", true, false, 0, ALL },
        { "models/gguf/quantizable-tiny-Q4_1.gguf", true, true, 3, 0xcc },
        { "models/gguf/quantizable-tiny-Q4_1.gguf", false, false, 0, 1u << 1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = support_devices() ? test_data(cases[i].model) : NULL;
        if (!path)
            SKIP_BECAUSE("no PoCL device, or no %s", cases[i].model);
        struct rig_options options = { .kv_type = KV_F16, .logit_rows = TOKENS, .packed = cases[i].packed };
        struct rig rig;
        open_streamed(&rig, path, &options, 0, 0);
        float *expected = run(rig.engine, TOKENS);
        size_t bytes = (size_t)TOKENS * rig.model->vocab_size * sizeof *expected;
        rig_close(&rig);

        options.discrete = cases[i].discrete;
        options.split = support_devices()->count > 1 ? cases[i].split : 0;
        options.embed_on_device = true;
        options.micro_batch = 16;
        open_streamed(&rig, path, &options, cases[i].streamed, 0);
        for (uint32_t chunk = TOKENS; chunk; chunk = chunk > 1 ? 1 : 0) {
            float *logits = run(rig.engine, chunk);
            if (memcmp(logits, expected, bytes) != 0)
                fail_msg("other bits in case %zu, %u tokens a pass", i, chunk);
            free(logits);
            struct error err = { 0 };
            ASSERT_OK(engine_sequence_truncate(rig.engine, 0, 0, &err), err);
        }
        struct engine_device_report reports[4];
        uint32_t count = engine_report(rig.engine, reports, 4);
        for (uint32_t d = 0; d < count; d++) {
            assert_int_equal(reports[d].bytes_loaded, reports[d].bytes_planned);
            assert_true(reports[d].bytes_streamed > 0);
        }
        rig_close(&rig);
        free(expected);
    }
}

/* With a small budget a matrix comes in many pieces, and the device has no more than the windows. */
static void memory_is_that_of_the_windows(void **state) {
    (void)state;
    const char *path = support_devices() ? test_data("models/phi3-tiny") : NULL;
    if (!path)
        SKIP_BECAUSE("no PoCL device, or no models/phi3-tiny");
    struct rig_options options = { .kv_type = KV_F16, .logit_rows = TOKENS, .context = 64, .micro_batch = 16 };
    struct rig rig;
    struct engine_device_report whole[2], parts[2];
    open_streamed(&rig, path, &options, 0, 0);
    float *expected = run(rig.engine, TOKENS);
    size_t bytes = (size_t)TOKENS * rig.model->vocab_size * sizeof *expected;
    assert_int_equal(engine_report(rig.engine, whole, 2), 2);
    rig_close(&rig);
    open_streamed(&rig, path, &options, ALL, 1 << 20);
    float *logits = run(rig.engine, TOKENS);
    assert_memory_equal(logits, expected, bytes);
    assert_int_equal(engine_report(rig.engine, parts, 2), 2);
    /* Vectors stay; of the matrices there are two windows of an eighth of the budget. */
    uint64_t weights = whole[1].bytes_loaded, window = (1 << 20) / 8;
    print_message("# %llu bytes of weights; %llu allocated, %llu when streamed\n", (unsigned long long)weights,
                  (unsigned long long)whole[1].bytes_allocated, (unsigned long long)parts[1].bytes_allocated);
    assert_true(weights > 6 * window);
    assert_true(parts[1].bytes_allocated + weights < whole[1].bytes_allocated + 2 * window + 65536);
    assert_true(parts[1].pieces_streamed > weights / window);
    rig_close(&rig);
    free(logits);
    free(expected);
}

/* While a pass computes with a piece, and after it, the next ones are read. */
static void pieces_are_read_ahead(void **state) {
    (void)state;
    const char *path = support_devices() ? test_data("models/phi3-tiny") : NULL;
    if (!path)
        SKIP_BECAUSE("no PoCL device, or no models/phi3-tiny");
    struct rig_options options = { .kv_type = KV_F16, .logit_rows = TOKENS };
    struct rig rig;
    struct engine_device_report before[2], after[2];
    open_streamed(&rig, path, &options, 2, 0);   /* two matrices: both are there before a pass begins */
    free(run(rig.engine, TOKENS));
    for (int i = 0; i < 5; i++) {
        struct error err = { 0 };
        float *logits = malloc(rig.model->vocab_size * sizeof *logits);
        int32_t token = 7, position = (int32_t)TOKENS + i;
        struct engine_batch batch = { .token_count = 1, .tokens = &token, .positions = &position };
        uint32_t count = 0;
        do {   /* until the reader rests */
            usleep(20000);
            count = engine_report(rig.engine, before, 2);
            usleep(20000);
            engine_report(rig.engine, after, 2);
        } while (before[1].bytes_streamed != after[1].bytes_streamed);
        assert_int_equal(count, 2);
        ASSERT_OK(engine_forward(rig.engine, &batch, logits, &err), err);
        engine_report(rig.engine, after, 2);
        assert_int_equal(after[1].pieces_streamed, before[1].pieces_streamed + 2);
        assert_int_equal(after[1].pieces_late, before[1].pieces_late);
        free(logits);
    }
    rig_close(&rig);
}

/* A file that ends early while it is streamed is a sentence, and closing goes on. */
static void a_file_that_shrinks_is_an_error(void **state) {
    (void)state;
    const char *path = support_devices() ? test_data("models/phi3-tiny") : NULL;
    if (!path)
        SKIP_BECAUSE("no PoCL device, or no models/phi3-tiny");
    char folder[512], from[512], to[512];
    size_t size;
    static const char *const names[] = { "config.json", "model.safetensors" };
    struct error err = { 0 };
    snprintf(folder, sizeof folder, "%s/shrinking", test_folder());
    assert_int_equal(mkdir(folder, 0700), 0);
    for (int i = 0; i < 2; i++) {
        snprintf(from, sizeof from, "%s/%s", path, names[i]);
        snprintf(to, sizeof to, "%s/%s", folder, names[i]);
        char *bytes = file_read_all(from, 64 << 20, &size, &err);
        ASSERT_OK(bytes, err);
        int file = open(to, O_CREAT | O_WRONLY, 0600);
        assert_int_equal(write(file, bytes, size), size);
        close(file);
        free(bytes);
    }
    struct rig_options options = { .kv_type = KV_F16, .logit_rows = 1, .embed_on_device = true };
    struct rig rig;
    open_streamed(&rig, folder, &options, ALL, 0);
    assert_int_equal(truncate(to, 4096), 0);
    float *logits = malloc(rig.model->vocab_size * sizeof *logits);
    int32_t token = 7, position = 0;
    struct engine_batch batch = { .token_count = 1, .tokens = &token, .positions = &position };
    assert_false(engine_forward(rig.engine, &batch, logits, &err) && engine_forward(rig.engine, &batch, logits, &err));
    assert_int_equal(err.kind, ERROR_FAILED);
    assert_non_null(strstr(err.text, "model.safetensors"));
    free(logits);
    rig_close(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_streamed_gives_the_same_bits),
        cmocka_unit_test(memory_is_that_of_the_windows),
        cmocka_unit_test(pieces_are_read_ahead),
        cmocka_unit_test(a_file_that_shrinks_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
