/* A prompt of 32,768 tokens: nothing but the KV grows with it, and with a sliding window
 * not even that. */
#include "tests/support.h"
#include "tests/support_checkpoint.h"
#include "tests/support_engine.h"

#include "common/file_map.h"
#include "runtime/session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define MODEL "models/phi3-tiny-swa"   /* a window of 16: a pass over the keys is short */
#define CONTEXT 32768u
#ifdef __SANITIZE_ADDRESS__
/* Freed memory is given back, not kept for a while to catch its use. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "quarantine_size_mb=1:thread_local_quarantine_size_kb=64";
}
#endif
#define SLACK_BYTES (4u << 20)

/* The model with another max_position_embeddings. */
static const char *with_long_context(const char *model, const char *name) {
    const char *folder = support_directory(name);
    struct error err = { 0 };
    size_t size;
    char *config = file_read_all(support_path(model, "config.json"), 1 << 20, &size, &err);
    ASSERT_OK(config, err);
    char *at = strstr(config, "\"max_position_embeddings\": 512");
    assert_non_null(at);
    struct text text;
    text_init(&text);
    text_append_bytes(&text, config, (size_t)(at - config));
    text_append(&text, "\"max_position_embeddings\": 32768");
    text_append(&text, at + strlen("\"max_position_embeddings\": 512"));
    support_write_text(support_path(folder, "config.json"), text.bytes);
    text_release(&text);
    free(config);
    support_link(support_path(model, "model.safetensors"), support_path(folder, "model.safetensors"));
    return folder;
}

static uint64_t peak_bytes(void) {
    struct rusage usage;
    assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
    return (uint64_t)usage.ru_maxrss * 1024;
}

/* Bytes by which the process grows; *kv: what KV of all tokens takes. */
static uint64_t grown_by_prompt(bool keep_pages, uint64_t *kv) {
    const char *model = support_devices() ? test_data(MODEL) : NULL;
    if (!model)
        SKIP_BECAUSE("no PoCL device, or no " MODEL);
    const char *path = with_long_context(model, keep_pages ? "kept" : "long");
    struct rig_options options = { .kv_type = KV_Q8_0, .context = CONTEXT, .micro_batch = 64,
                                   .keep_pages = keep_pages };
    struct rig rig;
    struct error err = { 0 };
    ASSERT_OK(rig_open(&rig, path, &options, &err), err);
    struct session *session = session_new(rig.engine, 0, ROPE_AUTO, &err);
    ASSERT_OK(session, err);
    int32_t *tokens = malloc(CONTEXT * sizeof *tokens);
    float *logits = malloc(rig.model->vocab_size * sizeof *logits);
    assert_true(tokens && logits);
    for (uint32_t i = 0; i < CONTEXT; i++)
        tokens[i] = (int32_t)((i * 37 + 11) % 900);

    /* The kernels are compiled and every scratch buffer is touched by the first pass. */
    ASSERT_OK(session_append(session, tokens, 128, logits, &err), err);
    uint64_t before = peak_bytes();
    ASSERT_OK(session_append(session, tokens + 128, CONTEXT - 128, logits, &err), err);
    uint64_t grown = peak_bytes() - before;
    *kv = 2 * (uint64_t)rig.model->block_count * CONTEXT * rig.model->kv_head_count *
                  kv_vector_bytes(rig.model, KV_Q8_0);
    print_message("# grown by %llu bytes, of which %llu are KV\n", (unsigned long long)grown,
                  (unsigned long long)*kv);
    for (uint32_t i = 0; i < rig.model->vocab_size; i++)
        assert_true(isfinite(logits[i]));
    session_free(session);
    rig_close(&rig);
    free(tokens);
    free(logits);
    return grown;
}

/* The order matters: a process does not shrink below its peak. */
static void a_prompt_of_32768_tokens_needs_no_more_than_its_window(void **state) {
    (void)state;
    uint64_t kv, grown = grown_by_prompt(false, &kv);
    assert_true(grown < SLACK_BYTES && grown < kv);
}

static void without_a_window_it_needs_no_more_than_its_kv(void **state) {
    (void)state;
    uint64_t kv, grown = grown_by_prompt(true, &kv);
    assert_true(grown <= kv + SLACK_BYTES);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_of_32768_tokens_needs_no_more_than_its_window),
        cmocka_unit_test(without_a_window_it_needs_no_more_than_its_kv),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
