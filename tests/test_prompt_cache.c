/* prompt_cache: logits after a restored prompt are those of a run from nothing, bit for bit,
 * whatever plan wrote the file; what is not valid is not used. */
#include "runtime/prompt_cache.h"
#include "tests/support.h"
#include "tests/support_engine.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LONGROPE "models/phi3-tiny-longrope"   /* original context 48 */
#define MOST 100u

static struct rig rigs[3];        /* all on one device; in slices; alternating, KV of 8 bits */
static uint32_t vocab;
static char path[512];

/* How many attn units have a slice that is not the first. */
static uint32_t sliced_attention(const struct rig *rig) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < rig->plan->shard_count; i++)
        count += unit_at(rig->model, rig->plan->shards[i].unit).kind == UNIT_ATTN && rig->plan->shards[i].part_begin;
    return count;
}

static int open_rigs(void **state) {
    (void)state;
    struct error err = { 0 };
    struct rig_options options = { .exact = true, .context = MOST, .micro_batch = 16 };
    const char *model = test_data(LONGROPE);
    if (!support_devices() || !model)
        return 0;
    snprintf(path, sizeof path, "%s/cache", test_folder());
    ASSERT_OK(rig_open(&rigs[0], model, &options, &err), err);
    options.micro_batch = 7;
    for (uint32_t seed = 1; seed < 20 && (!rigs[1].plan || !sliced_attention(&rigs[1])); seed++) {
        rig_close(&rigs[1]);
        ASSERT_OK(rig_prepare(&rigs[1], model, &options, &err), err);
        support_slice_plan(&rigs[1], seed);
    }
    assert_true(sliced_attention(&rigs[1]) > 0);
    ASSERT_OK(rig_start(&rigs[1], &options, &err), err);
    options = (struct rig_options){ .context = MOST, .alternates = true, .kv_type = KV_Q8_0 };
    ASSERT_OK(rig_open(&rigs[2], model, &options, &err), err);
    vocab = rigs[0].model->vocab_size;
    return 0;
}

static int close_rigs(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++)
        rig_close(&rigs[i]);
    return 0;
}

#define NEED_RIGS() do { if (!rigs[2].engine) SKIP_BECAUSE("no PoCL device, or no " LONGROPE); } while (0)

static struct prompt_cache begin(struct rig *rig) {
    struct loaded_model loaded = { .model = rig->model, .plan = rig->plan, .engine = rig->engine };
    struct prompt_cache cache;
    memset(rig->plan->weights_hash, '5', 64);
    prompt_cache_init(&cache, path, &loaded);
    return cache;
}

static void make_tokens(int32_t tokens[MOST], uint32_t differs_from) {
    for (uint32_t i = 0; i < MOST; i++)
        tokens[i] = (int32_t)((i * 37 + 11 + (i >= differs_from ? 5 : 0)) % 900);
}

/* Run tokens in a session of the rig, through the cache where `cached`; how many came from it.
 * The result (may be NULL) are the logits after the last. */
static uint32_t run(struct rig *rig, const int32_t *tokens, uint32_t count, bool cached, float *logits) {
    struct error err = { 0 };
    struct session *session = session_new(rig->engine, 0, ROPE_AUTO, &err);
    ASSERT_OK(session, err);
    struct prompt_cache cache = { 0 };
    if (cached) {
        cache = begin(rig);
        prompt_cache_restore(&cache, session, tokens, count);
    }
    ASSERT_OK(session_replay(session, tokens, count, logits, &err), err);
    uint32_t reused = count - session_last_pass(session);
    assert_int_equal(reused, cache.restored);
    if (cached)
        prompt_cache_save(&cache, session, tokens, count);
    session_free(session);
    return reused;
}

static void assert_same_logits(struct rig *rig, const int32_t *tokens, uint32_t count, uint32_t expected) {
    float *plain = malloc(vocab * sizeof *plain), *cached = malloc(vocab * sizeof *cached);
    run(rig, tokens, count, false, plain);
    assert_int_equal(run(rig, tokens, count, true, cached), expected);
    assert_memory_equal(plain, cached, vocab * sizeof *plain);
    free(plain);
    free(cached);
}

static void a_prompt_is_restored_by_any_plan(void **state) {
    (void)state;
    NEED_RIGS();
    int32_t tokens[MOST];
    make_tokens(tokens, MOST);
    unlink(path);
    assert_same_logits(&rigs[0], tokens, 41, 0);
    assert_same_logits(&rigs[0], tokens, 41, 40);
    assert_same_logits(&rigs[1], tokens, 41, 40);
    assert_same_logits(&rigs[1], tokens, 30, 29);
    /* A longer one uses all of it, and the file then has that. */
    assert_same_logits(&rigs[1], tokens, 47, 41);
    assert_same_logits(&rigs[0], tokens, 47, 46);
}

static void a_changed_prompt_uses_what_is_common(void **state) {
    (void)state;
    NEED_RIGS();
    int32_t tokens[MOST], other[MOST], third[MOST];
    make_tokens(tokens, MOST);
    make_tokens(other, 33);
    make_tokens(third, 0);
    unlink(path);
    run(&rigs[0], tokens, 45, true, NULL);
    assert_same_logits(&rigs[1], other, 45, 33);
    assert_same_logits(&rigs[0], third, 45, 0);
    assert_same_logits(&rigs[0], third, 45, 44);
}

static void a_file_that_has_it_is_not_written_again(void **state) {
    (void)state;
    NEED_RIGS();
    int32_t tokens[MOST];
    struct stat before, after;
    make_tokens(tokens, MOST);
    unlink(path);
    run(&rigs[0], tokens, 45, true, NULL);
    assert_int_equal(stat(path, &before), 0);
    run(&rigs[0], tokens, 40, true, NULL);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    run(&rigs[0], tokens, 46, true, NULL);
    assert_int_equal(stat(path, &after), 0);
    assert_int_not_equal(before.st_ino, after.st_ino);
}

/* Up to 48 tokens the short factors, for all of a longer sequence the long ones. */
static void keys_of_the_other_rope_factors_are_not_used(void **state) {
    (void)state;
    NEED_RIGS();
    int32_t tokens[MOST];
    make_tokens(tokens, MOST);
    unlink(path);
    assert_same_logits(&rigs[0], tokens, 48, 0);
    assert_same_logits(&rigs[0], tokens, 49, 0);
    assert_same_logits(&rigs[0], tokens, 60, 49);
    assert_same_logits(&rigs[1], tokens, 60, 59);
    assert_same_logits(&rigs[1], tokens, 48, 0);
    assert_same_logits(&rigs[1], tokens, 48, 47);
}

static void another_kv_format_or_arithmetic_does_not_mix(void **state) {
    (void)state;
    NEED_RIGS();
    int32_t tokens[MOST];
    make_tokens(tokens, MOST);
    unlink(path);
    run(&rigs[0], tokens, 40, true, NULL);
    assert_same_logits(&rigs[2], tokens, 40, 0);
    assert_same_logits(&rigs[2], tokens, 40, 39);
    assert_same_logits(&rigs[0], tokens, 40, 0);
}

static void a_timeline_is_restored_as_a_whole(void **state) {
    (void)state;
    NEED_RIGS();
    int32_t tokens[MOST];
    make_tokens(tokens, MOST);
    unlink(path);
    run(&rigs[0], tokens, 44, true, NULL);
    struct error err = { 0 };
    struct session *session = session_new(rigs[1].engine, 0, ROPE_AUTO, &err);
    ASSERT_OK(session, err);
    struct prompt_cache cache = begin(&rigs[1]);
    prompt_cache_restore(&cache, session, NULL, 0);
    uint32_t length;
    const int32_t *restored = session_tokens(session, &length);
    assert_int_equal(length, 44);
    assert_memory_equal(restored, tokens, 44 * sizeof *tokens);
    session_free(session);
}

static void a_damaged_page_costs_time_and_no_more(void **state) {
    (void)state;
    NEED_RIGS();
    int32_t tokens[MOST];
    make_tokens(tokens, MOST);
    unlink(path);
    run(&rigs[0], tokens, 45, true, NULL);
    struct stat status;
    int descriptor = open(path, O_RDWR);
    assert_int_equal(fstat(descriptor, &status), 0);
    assert_int_equal(pwrite(descriptor, "damaged", 7, status.st_size - 100), 7);
    close(descriptor);
    assert_same_logits(&rigs[0], tokens, 45, 0);   /* the second page */
    assert_same_logits(&rigs[0], tokens, 45, 44);  /* replaced */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_is_restored_by_any_plan),
        cmocka_unit_test(a_changed_prompt_uses_what_is_common),
        cmocka_unit_test(a_file_that_has_it_is_not_written_again),
        cmocka_unit_test(keys_of_the_other_rope_factors_are_not_used),
        cmocka_unit_test(another_kv_format_or_arithmetic_does_not_mix),
        cmocka_unit_test(a_timeline_is_restored_as_a_whole),
        cmocka_unit_test(a_damaged_page_costs_time_and_no_more),
    };
    return cmocka_run_group_tests(tests, open_rigs, close_rigs);
}
