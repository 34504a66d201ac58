#include "tests/support.h"
#include "tests/support_engine.h"

#include "runtime/session.h"

#include <stdlib.h>
#include <string.h>

#define LONGROPE "models/phi3-tiny-longrope"   /* original context 48 */

static struct rig rig;
static volatile sig_atomic_t interrupted;
static uint32_t vocab;

static int open_rig(void **state) {
    (void)state;
    struct error err = { 0 };
    struct rig_options options = { .exact = true, .context = 100, .micro_batch = 16, .sequence_count = 2,
                                   .interrupted = &interrupted };
    const char *path = test_data(LONGROPE);
    if (!support_devices() || !path)
        return 0;
    ASSERT_OK(rig_open(&rig, path, &options, &err), err);
    vocab = rig.model->vocab_size;
    return 0;
}

static int close_rig(void **state) {
    (void)state;
    rig_close(&rig);
    return 0;
}

#define NEED_RIG() do { if (!rig.engine) SKIP_BECAUSE("no PoCL device, or no " LONGROPE); } while (0)

static int32_t token_at(uint32_t position) {
    return (int32_t)((position * 37 + 11) % 900);
}

/* token_at() from the session's end on. */
static void append(struct session *session, uint32_t count, float *logits) {
    struct error err = { 0 };
    int32_t tokens[100];
    uint32_t length;
    session_tokens(session, &length);
    for (uint32_t i = 0; i < count; i++)
        tokens[i] = token_at(length + i);
    ASSERT_OK(session_append(session, tokens, count, logits, &err), err);
}

static struct session *new_session(uint32_t sequence, enum rope_policy policy) {
    struct error err = { 0 };
    struct session *session = session_new(rig.engine, sequence, policy, &err);
    ASSERT_OK(session, err);
    return session;
}

static float *new_row(void) {
    float *row = malloc(vocab * sizeof *row);
    assert_non_null(row);
    return row;
}

/* Logits after `length` tokens in one pass of a session of its own. */
static void fresh(uint32_t sequence, enum rope_policy policy, uint32_t length, float *logits) {
    struct session *session = new_session(sequence, policy);
    append(session, length, logits);
    session_free(session);
}

static void assert_same(const float *a, const float *b) {
    assert_memory_equal(a, b, vocab * sizeof *a);
}

static void policies_have_names(void **state) {
    (void)state;
    enum rope_policy policy;
    assert_true(rope_policy_from_name("auto", &policy) && policy == ROPE_AUTO);
    assert_true(rope_policy_from_name("short", &policy) && policy == ROPE_SHORT);
    assert_true(rope_policy_from_name("long", &policy) && policy == ROPE_LONG);
    assert_false(rope_policy_from_name("longer", &policy));
}

static void a_crossing_runs_the_whole_sequence_again(void **state) {
    (void)state;
    NEED_RIG();
    float *ours = new_row(), *expected = new_row();
    struct session *session = new_session(0, ROPE_AUTO);
    append(session, 46, NULL);
    append(session, 1, NULL);
    assert_int_equal(session_last_pass(session), 1);
    append(session, 1, ours);
    assert_int_equal(session_last_pass(session), 1);   /* 48 tokens still fit the short factors */
    fresh(1, ROPE_SHORT, 48, expected);
    assert_same(ours, expected);

    append(session, 1, ours);
    assert_int_equal(session_last_pass(session), 49);
    fresh(1, ROPE_LONG, 49, expected);
    assert_same(ours, expected);
    append(session, 2, ours);
    assert_int_equal(session_last_pass(session), 2);
    fresh(1, ROPE_AUTO, 51, expected);
    assert_same(ours, expected);
    session_free(session);
    free(ours);
    free(expected);
}

static void going_back_below_the_crossing_takes_the_short_factors_again(void **state) {
    (void)state;
    NEED_RIG();
    float *ours = new_row(), *expected = new_row();
    struct error err = { 0 };
    struct session *session = new_session(0, ROPE_AUTO);
    append(session, 60, NULL);
    ASSERT_OK(session_truncate(session, 40, &err), err);
    append(session, 3, ours);
    assert_int_equal(session_last_pass(session), 43);
    fresh(1, ROPE_AUTO, 43, expected);
    assert_same(ours, expected);
    /* Back to long, and to short without a crossing in between. */
    append(session, 10, NULL);
    assert_int_equal(session_last_pass(session), 53);
    ASSERT_OK(session_truncate(session, 50, &err), err);
    append(session, 1, ours);
    assert_int_equal(session_last_pass(session), 1);
    fresh(1, ROPE_AUTO, 51, expected);
    assert_same(ours, expected);
    session_free(session);
    free(ours);
    free(expected);
}

static void a_fixed_policy_never_crosses(void **state) {
    (void)state;
    NEED_RIG();
    float *expected = new_row(), *ours = new_row();
    struct session *session = new_session(0, ROPE_SHORT);
    append(session, 48, NULL);
    append(session, 5, ours);
    assert_int_equal(session_last_pass(session), 5);
    session_free(session);
    fresh(0, ROPE_LONG, 53, expected);
    assert_true(memcmp(ours, expected, vocab * sizeof *ours) != 0);
    session = new_session(0, ROPE_LONG);
    append(session, 10, NULL);
    append(session, 43, ours);
    assert_int_equal(session_last_pass(session), 43);
    assert_same(ours, expected);
    session_free(session);
    free(ours);
    free(expected);
}

static void every_row_of_a_chunk_is_the_row_of_its_token(void **state) {
    (void)state;
    NEED_RIG();
    struct error err = { 0 };
    float *rows = malloc(20 * vocab * sizeof *rows), *expected = new_row();
    int32_t tokens[20];
    assert_non_null(rows);
    for (uint32_t i = 0; i < 20; i++)
        tokens[i] = token_at(5 + i);
    struct session *session = new_session(0, ROPE_AUTO);
    append(session, 5, NULL);
    ASSERT_OK(session_append_all(session, tokens, 20, rows, &err), err);
    for (uint32_t i = 0; i < 20; i += 6) {
        fresh(1, ROPE_AUTO, 5 + i + 1, expected);
        assert_same(rows + i * vocab, expected);
    }
    session_free(session);
    free(rows);
    free(expected);
}

static void a_fork_goes_its_own_way(void **state) {
    (void)state;
    NEED_RIG();
    struct error err = { 0 };
    float *ours = new_row(), *expected = new_row();
    struct session *session = new_session(0, ROPE_AUTO);
    append(session, 37, NULL);
    struct session *fork = session_fork(session, 1, &err);
    ASSERT_OK(fork, err);
    uint32_t length;
    assert_int_equal(session_tokens(fork, &length)[36], token_at(36));
    assert_int_equal(length, 37);
    int32_t other = 7;
    ASSERT_OK(session_append(fork, &other, 1, NULL, &err), err);   /* writes to a page they share */
    append(session, 3, ours);
    assert_int_equal(session_last_pass(session), 3);
    ASSERT_OK(session_truncate(fork, 37, &err), err);
    append(fork, 3, expected);
    assert_same(ours, expected);
    session_free(fork);
    fresh(1, ROPE_AUTO, 40, expected);
    assert_same(ours, expected);
    session_free(session);
    free(ours);
    free(expected);
}

static void a_replay_runs_only_what_is_new(void **state) {
    (void)state;
    NEED_RIG();
    struct error err = { 0 };
    int32_t tokens[60];
    float *fresh_row = new_row(), *row = new_row();
    struct session *session = new_session(0, ROPE_SHORT);
    append(session, 50, NULL);
    for (uint32_t i = 0; i < 60; i++)
        tokens[i] = i < 40 ? token_at(i) : token_at(i + 200);
    ASSERT_OK(session_replay(session, tokens, 60, row, &err), err);
    assert_int_equal(session_last_pass(session), 20);
    struct session *other = new_session(1, ROPE_SHORT);
    ASSERT_OK(session_append(other, tokens, 60, fresh_row, &err), err);
    assert_same(row, fresh_row);

    /* The same once more: the last token is run, for its logits. */
    ASSERT_OK(session_replay(session, tokens, 60, row, &err), err);
    assert_int_equal(session_last_pass(session), 1);
    assert_same(row, fresh_row);
    ASSERT_OK(session_replay(session, tokens, 10, NULL, &err), err);
    uint32_t length;
    session_tokens(session, &length);
    assert_int_equal(length, 10);
    session_free(other);
    session_free(session);
    free(fresh_row);
    free(row);
}

static void a_full_context_is_a_usage_error_that_names_the_command(void **state) {
    (void)state;
    NEED_RIG();
    struct error err = { 0 };
    float *ours = new_row(), *expected = new_row();
    int32_t tokens[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    struct session *session = new_session(0, ROPE_AUTO);
    append(session, 93, NULL);
    assert_false(session_append(session, tokens, 8, NULL, &err));
    assert_int_equal(err.kind, ERROR_USAGE);
    assert_non_null(strstr(err.text, "--ctx 101"));
    strcpy(rig.plan->name, "small");   /* the command must not replace another plan */
    assert_false(session_append(session, tokens, 8, NULL, &err));
    assert_non_null(strstr(err.text, "--name small --ctx 101"));
    strcpy(rig.plan->name, "default");
    uint32_t length;
    session_tokens(session, &length);
    assert_int_equal(length, 93);
    append(session, 7, ours);     /* the last of the 100 */
    assert_false(session_truncate(session, 101, &err));
    session_free(session);
    fresh(1, ROPE_AUTO, 100, expected);
    assert_same(ours, expected);
    free(ours);
    free(expected);
}

static void what_fails_leaves_the_session_as_it_was(void **state) {
    (void)state;
    NEED_RIG();
    struct error err = { 0 };
    float *ours = new_row(), *expected = new_row();
    struct session *session = new_session(0, ROPE_AUTO);
    append(session, 47, NULL);
    /* On the way over a crossing, which has dropped the KV already. */
    int32_t tokens[3] = { token_at(47), token_at(48), (int32_t)vocab };
    assert_false(session_append(session, tokens, 3, ours, &err));
    assert_int_equal(err.kind, ERROR_USAGE);
    interrupted = 1;
    tokens[2] = 5;
    assert_false(session_append(session, tokens, 3, ours, &err));
    interrupted = 0;
    assert_int_equal(err.kind, ERROR_INTERRUPTED);
    uint32_t length;
    session_tokens(session, &length);
    assert_int_equal(length, 47);
    append(session, 1, ours);
    fresh(1, ROPE_AUTO, 48, expected);
    assert_same(ours, expected);

    /* And without one: the same pass over again. */
    interrupted = 1;
    ASSERT_OK(session_truncate(session, 30, &err), err);
    assert_false(session_append(session, tokens, 1, ours, &err));
    interrupted = 0;
    append(session, 2, ours);
    assert_int_equal(session_last_pass(session), 2);
    fresh(1, ROPE_AUTO, 32, expected);
    assert_same(ours, expected);
    session_free(session);
    free(ours);
    free(expected);
}

/* A window of 16 keys: what lies long before the end is given back, and made again where a
 * session goes back to it. */
static void a_window_that_goes_back_is_run_again(void **state) {
    (void)state;
    const char *path = support_devices() ? test_data("models/phi3-tiny-swa") : NULL;
    if (!path)
        SKIP_BECAUSE("no PoCL device, or no models/phi3-tiny-swa");
    struct error err = { 0 };
    struct rig_options options = { .context = 400, .micro_batch = 16, .sequence_count = 3 };
    struct rig other;
    ASSERT_OK(rig_open(&other, path, &options, &err), err);
    const size_t bytes = other.model->vocab_size * sizeof(float);
    float *logits = malloc(bytes), *expected = malloc(bytes);
    int32_t tokens[200];
    assert_true(logits && expected);
    for (uint32_t i = 0; i < 200; i++)
        tokens[i] = token_at(i);
    struct session *once = session_new(other.engine, 0, ROPE_AUTO, &err);
    struct session *session = session_new(other.engine, 1, ROPE_AUTO, &err);
    assert_true(once && session);
    ASSERT_OK(session_append(once, tokens, 90, expected, &err), err);
    ASSERT_OK(session_append(session, tokens, 200, logits, &err), err);
    /* Within the last tokens nothing is run twice. */
    ASSERT_OK(session_truncate(session, 190, &err) && session_append(session, tokens + 190, 10, logits, &err), err);
    assert_int_equal(session_last_pass(session), 10);
    /* Farther back everything is, with the same result. */
    ASSERT_OK(session_truncate(session, 80, &err) && session_append(session, tokens + 80, 10, logits, &err), err);
    assert_int_equal(session_last_pass(session), 90);
    assert_memory_equal(logits, expected, bytes);
    /* Three sequences of 200 in a context of 400: their pages would not have been enough. */
    struct session *third = session_new(other.engine, 2, ROPE_AUTO, &err);
    assert_non_null(third);
    ASSERT_OK(session_append(once, tokens + 90, 110, expected, &err), err);
    ASSERT_OK(session_append(session, tokens + 90, 110, logits, &err), err);
    assert_memory_equal(logits, expected, bytes);
    ASSERT_OK(session_append(third, tokens, 200, logits, &err), err);
    assert_memory_equal(logits, expected, bytes);
    /* A pass that fails after pages were given back. */
    ASSERT_OK(session_truncate(third, 0, &err) && session_append(third, tokens, 30, NULL, &err), err);
    tokens[170] = -1;
    assert_false(session_append(third, tokens + 30, 170, NULL, NULL));
    tokens[170] = token_at(170);
    ASSERT_OK(session_append(third, tokens + 30, 170, logits, &err), err);
    assert_memory_equal(logits, expected, bytes);
    session_free(once);
    session_free(session);
    session_free(third);
    rig_close(&other);
    free(logits);
    free(expected);
}

static void no_tokens_are_no_pass(void **state) {
    (void)state;
    NEED_RIG();
    struct error err = { 0 };
    float *row = new_row();
    struct session *session = new_session(0, ROPE_AUTO);
    ASSERT_OK(session_append(session, NULL, 0, NULL, &err), err);
    assert_false(session_append(session, NULL, 0, row, &err));
    assert_int_equal(err.kind, ERROR_USAGE);
    assert_null(session_new(rig.engine, 2, ROPE_AUTO, &err));
    session_free(session);
    free(row);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(policies_have_names),
        cmocka_unit_test(a_crossing_runs_the_whole_sequence_again),
        cmocka_unit_test(going_back_below_the_crossing_takes_the_short_factors_again),
        cmocka_unit_test(a_fixed_policy_never_crosses),
        cmocka_unit_test(every_row_of_a_chunk_is_the_row_of_its_token),
        cmocka_unit_test(a_fork_goes_its_own_way),
        cmocka_unit_test(a_replay_runs_only_what_is_new),
        cmocka_unit_test(a_full_context_is_a_usage_error_that_names_the_command),
        cmocka_unit_test(what_fails_leaves_the_session_as_it_was),
        cmocka_unit_test(a_window_that_goes_back_is_run_again),
        cmocka_unit_test(no_tokens_are_no_pass),
    };
    return cmocka_run_group_tests(tests, open_rig, close_rig);
}
