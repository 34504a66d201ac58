/* prompt_lanes: requests that run together give what each gives alone: through crossings of
 * LongRoPE, shared beginnings, and too few pages for all. */
#include "runtime/prompt_lanes.h"
#include "tests/support.h"
#include "tests/support_engine.h"

#include <stdlib.h>
#include <string.h>

#define LONGROPE "models/phi3-tiny-longrope"   /* original context 48 */
#define REQUESTS 12u

static struct rig rig;

static int open_rig(void **state) {
    (void)state;
    struct error err = { 0 };
    /* 3 pages of the context and 7 more for 8 sequences; a request needs up to 3. */
    struct rig_options options = { .context = 96, .micro_batch = 16, .sequence_count = PROMPT_LANES_MOST,
                                   .logit_rows = PROMPT_LANES_MOST };
    const char *path = test_data(LONGROPE);
    if (support_devices() && path)
        ASSERT_OK(rig_open(&rig, path, &options, &err), err);
    return 0;
}

static int close_rig(void **state) {
    (void)state;
    rig_close(&rig);
    return 0;
}

#define NEED_RIG() do { if (!rig.engine) SKIP_BECAUSE("no PoCL device, or no " LONGROPE); } while (0)

struct one {
    int32_t prompt[96];
    struct generation_settings settings;
    struct generate_request request;
    struct generation alone, together;
    bool is_done;
};

static void make(struct one *one, uint32_t number, uint32_t common, uint32_t count, uint32_t new_tokens) {
    *one = (struct one){ 0 };
    for (uint32_t i = 0; i < count; i++)
        one->prompt[i] = (int32_t)((i * 37 + 11 + (i >= common ? 5 * number : 0)) % 900);
    one->settings = (struct generation_settings){ .sampling = sampler_defaults(), .new_tokens = new_tokens,
                                                  .num_beams = 1, .num_return_sequences = 1 };
    if (number % 3 == 1) {
        one->settings.sampling.greedy = false;
        one->settings.sampling.seed = number;
    }
    one->request = (struct generate_request){ .engine = rig.engine, .settings = &one->settings, .prompt = one->prompt,
                                              .count = count };
}

static void run_alone(struct one *one) {
    struct error err = { 0 };
    struct session *session = session_new(rig.engine, 0, ROPE_AUTO, &err);
    one->request.session = session;
    ASSERT_OK(session && generate(&one->request, &one->alone, &err), err);
    session_free(session);
}

/* All of them, as a batch takes them in; returns how many tokens of prompts were not run. */
static uint32_t run_together(struct one *ones, uint32_t count, uint32_t width, uint32_t *widest) {
    struct error err = { 0 };
    struct prompt_lanes *lanes = prompt_lanes_new(rig.engine, ROPE_AUTO, width, &err);
    ASSERT_OK(lanes, err);
    uint32_t begun = 0, done = 0, reused = 0;
    while (done < count) {
        while (begun < count && prompt_lanes_has_room(lanes, ones[begun].request.count)) {
            struct one *one = &ones[begun++];
            ASSERT_OK(prompt_lanes_add(lanes, &one->request, &one->together, one, &err), err);
        }
        assert_true(prompt_lanes_running(lanes) <= width);
        ASSERT_OK(prompt_lanes_step(lanes, &err), err);
        for (struct one *one; (one = prompt_lanes_done(lanes)); done++) {
            assert_false(one->is_done);
            one->is_done = true;
            reused += one->together.reused;
        }
    }
    assert_int_equal(prompt_lanes_running(lanes), 0);
    *widest = prompt_lanes_widest(lanes);
    prompt_lanes_free(lanes);
    return reused;
}

static void check_same(struct one *ones, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        const struct generated *alone = &ones[i].alone.sequences[0], *together = &ones[i].together.sequences[0];
        assert_true(ones[i].is_done);
        assert_int_equal(alone->count, together->count);
        assert_memory_equal(alone->ids, together->ids, alone->count * sizeof *alone->ids);
        assert_int_equal(alone->finish, together->finish);
        generation_release(&ones[i].alone);
        generation_release(&ones[i].together);
    }
}

/* Prompts of 20 to 42 tokens, answers of 8 to 53: some cross 48 tokens, at different times. */
static void together_they_give_what_each_gives_alone(void **state) {
    (void)state;
    NEED_RIG();
    static struct one ones[REQUESTS];
    uint32_t widest;
    for (uint32_t i = 0; i < REQUESTS; i++) {
        make(&ones[i], i, 0, 20 + 2 * i, 8 + 17 * i % 46);
        run_alone(&ones[i]);
    }
    run_together(ones, REQUESTS, PROMPT_LANES_MOST, &widest);
    assert_true(widest >= 3);
    check_same(ones, REQUESTS);
}

/* Each needs all of the context's three pages: of the ten, three have them at a time. */
static void those_without_pages_wait(void **state) {
    (void)state;
    NEED_RIG();
    static struct one ones[REQUESTS];
    uint32_t widest;
    for (uint32_t i = 0; i < REQUESTS; i++) {
        make(&ones[i], i, 0, 4, 92);
        run_alone(&ones[i]);
    }
    run_together(ones, REQUESTS, PROMPT_LANES_MOST, &widest);
    assert_true(widest >= 3);
    check_same(ones, REQUESTS);
}

static void a_common_beginning_is_run_once(void **state) {
    (void)state;
    NEED_RIG();
    static struct one ones[REQUESTS];
    uint32_t widest, reused;
    for (uint32_t i = 0; i < REQUESTS; i++) {
        make(&ones[i], i, 33, 40, 7);
        run_alone(&ones[i]);
    }
    reused = run_together(ones, REQUESTS, 4, &widest);
    assert_true(widest > 1 && widest <= 4);
    assert_true(reused >= 33 * (REQUESTS - 1));
    check_same(ones, REQUESTS);
}

/* With a window of 16 keys pages before it are given back while others still share them. */
static void with_a_sliding_window_too(void **state) {
    (void)state;
    const struct rig kept = rig;
    const char *path = support_devices() ? test_data("models/phi3-tiny-swa") : NULL;
    if (!path)
        SKIP_BECAUSE("no PoCL device, or no models/phi3-tiny-swa");
    struct error err = { 0 };
    struct rig_options options = { .context = 128, .micro_batch = 16, .sequence_count = PROMPT_LANES_MOST,
                                   .logit_rows = PROMPT_LANES_MOST };
    static struct one ones[REQUESTS];
    uint32_t widest;
    ASSERT_OK(rig_open(&rig, path, &options, &err), err);
    for (uint32_t i = 0; i < REQUESTS; i++) {
        make(&ones[i], i, i % 2 ? 50 : 0, 60 + 2 * i, 8 + 17 * i % 30);
        run_alone(&ones[i]);
    }
    run_together(ones, REQUESTS, PROMPT_LANES_MOST, &widest);
    check_same(ones, REQUESTS);
    rig_close(&rig);
    rig = kept;
    assert_true(widest >= 3);
}

static void one_lane_does_as_well(void **state) {
    (void)state;
    NEED_RIG();
    static struct one ones[3];
    uint32_t widest;
    for (uint32_t i = 0; i < 3; i++) {
        make(&ones[i], i, 9, 30, 10);
        run_alone(&ones[i]);
    }
    assert_int_equal(run_together(ones, 3, 1, &widest), 18);
    assert_int_equal(widest, 1);
    check_same(ones, 3);
}

static void a_prompt_that_does_not_fit_is_refused_alone(void **state) {
    (void)state;
    NEED_RIG();
    static struct one ones[2];
    static int32_t tokens[200];
    struct error err = { 0 };
    struct prompt_lanes *lanes = prompt_lanes_new(rig.engine, ROPE_AUTO, 2, &err);
    make(&ones[0], 0, 0, 10, 5);
    make(&ones[1], 1, 0, 10, 5);
    ones[1].request.prompt = tokens;
    ones[1].request.count = 200;
    ASSERT_OK(prompt_lanes_add(lanes, &ones[0].request, &ones[0].together, &ones[0], &err), err);
    assert_false(prompt_lanes_add(lanes, &ones[1].request, &ones[1].together, &ones[1], &err));
    assert_int_equal(err.kind, ERROR_USAGE);
    void *done = NULL;
    for (int i = 0; i < 5 && !done; i++) {
        ASSERT_OK(prompt_lanes_step(lanes, &err), err);
        done = prompt_lanes_done(lanes);
    }
    assert_ptr_equal(done, &ones[0]);
    assert_int_equal(ones[0].together.sequences[0].count, 5);
    generation_release(&ones[0].together);
    generation_release(&ones[1].together);
    /* What is left half-way is given back. */
    ASSERT_OK(prompt_lanes_add(lanes, &ones[0].request, &ones[0].together, &ones[0], &err), err);
    prompt_lanes_free(lanes);
    generation_release(&ones[0].together);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(together_they_give_what_each_gives_alone),
        cmocka_unit_test(those_without_pages_wait),
        cmocka_unit_test(a_common_beginning_is_run_once),
        cmocka_unit_test(with_a_sliding_window_too),
        cmocka_unit_test(one_lane_does_as_well),
        cmocka_unit_test(a_prompt_that_does_not_fit_is_refused_alone),
    };
    return cmocka_run_group_tests(tests, open_rig, close_rig);
}
