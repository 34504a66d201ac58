/* speculation: what is guessed, how much, and when not. Seconds are the test's own. */
#include "runtime/speculation.h"
#include "tests/support.h"

#include <string.h>

#define PLAIN 1.0

static struct speculation ready(void) {
    struct speculation speculation;
    speculation_init(&speculation);
    speculation_note(&speculation, 0, 0, PLAIN);
    return speculation;
}

/* A history that repeats itself, and ends in a repetition. */
static uint32_t draft(struct speculation *speculation, uint32_t most, int32_t *guesses) {
    static const int32_t history[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 1, 2, 3, 4 };
    return speculation_draft(speculation, history, sizeof history / sizeof *history, most, guesses);
}

static void what_followed_before_is_guessed(void **state) {
    (void)state;
    struct speculation speculation = ready();
    int32_t guesses[SPECULATION_MOST];
    assert_int_equal(draft(&speculation, SPECULATION_MOST, guesses), 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(guesses[i], 5 + i);
    assert_int_equal(draft(&speculation, 2, guesses), 2);
    /* The longest match decides, not the nearest. */
    const int32_t nearer[] = { 1, 2, 3, 4, 5, 9, 3, 4, 6, 1, 2, 3, 4 };
    assert_int_equal(speculation_draft(&speculation, nearer, 13, 1, guesses), 1);
    assert_int_equal(guesses[0], 5);
    /* Into the guess itself. */
    const int32_t turning[] = { 8, 9, 8, 9 };
    assert_int_equal(speculation_draft(&speculation, turning, 4, 4, guesses), 4);
    const int32_t expected[] = { 8, 9, 8, 9 };
    assert_memory_equal(guesses, expected, sizeof expected);
    /* One token alone is no repetition. */
    const int32_t fresh[] = { 1, 2, 3, 1 };
    assert_int_equal(speculation_draft(&speculation, fresh, 4, 4, guesses), 0);
    assert_int_equal(speculation_draft(&speculation, fresh, 0, 4, guesses), 0);
}

static void nothing_is_guessed_before_the_plain_cost_is_known(void **state) {
    (void)state;
    struct speculation speculation;
    int32_t guesses[SPECULATION_MOST];
    speculation_init(&speculation);
    assert_int_equal(draft(&speculation, SPECULATION_MOST, guesses), 0);
    speculation_note(&speculation, 0, 0, PLAIN);
    assert_int_equal(draft(&speculation, SPECULATION_MOST, guesses), 4);
}

static void right_guesses_become_more_and_wrong_ones_fewer(void **state) {
    (void)state;
    struct speculation speculation = ready();
    int32_t guesses[SPECULATION_MOST];
    uint32_t last = 4;
    for (int i = 0; i < 4; i++) {
        uint32_t count = draft(&speculation, SPECULATION_MOST, guesses);
        assert_true(count >= last);
        speculation_note(&speculation, count, count, 1.2 * PLAIN);
        last = count;
    }
    assert_int_equal(last, SPECULATION_MOST);
    speculation_note(&speculation, last, 3, 1.2 * PLAIN);
    assert_int_equal(draft(&speculation, SPECULATION_MOST, guesses), 4);
    speculation_note(&speculation, 4, 0, 1.2 * PLAIN);
    assert_true(draft(&speculation, SPECULATION_MOST, guesses) <= 2);
    assert_int_equal(speculation.guessed, 4 + 8 + 2 * SPECULATION_MOST + last + 4);
    assert_int_equal(speculation.accepted, 4 + 8 + 2 * SPECULATION_MOST + 3);
}

/* Steps until guesses come again, which they must. */
static uint32_t wait(struct speculation *speculation) {
    int32_t guesses[SPECULATION_MOST];
    uint32_t steps = 0;
    for (; !draft(speculation, SPECULATION_MOST, guesses); steps++) {
        speculation_note(speculation, 0, 0, PLAIN);
        assert_true(steps < 2000);
    }
    return steps;
}

static void it_switches_itself_off_while_it_does_not_pay(void **state) {
    (void)state;
    struct speculation speculation = ready();
    uint32_t last = 0, costly = 0;
    /* Guesses that are always wrong, and cost two tokens: waits grow, so that little is lost. */
    for (int i = 0; i < 5; i++) {
        uint32_t steps = wait(&speculation);
        assert_true(i == 0 ? steps == 0 : steps >= 2 * last || steps >= 16);
        last = steps;
        speculation_note(&speculation, 4, 0, 2 * PLAIN);
        costly++;
    }
    assert_true(last >= 100);
    assert_int_equal(costly, 5);
    /* Once it pays it stays on, and the next wait is short again. */
    wait(&speculation);
    for (int i = 0; i < 20; i++) {
        speculation_note(&speculation, 4, 4, 1.5 * PLAIN);
        assert_int_equal(wait(&speculation), 0);
    }
    while (speculation.pause == 0)
        speculation_note(&speculation, 4, 0, 2 * PLAIN);
    assert_true(wait(&speculation) <= 16);
}

/* Guesses may be right and yet cost more than they save: a batch is slow on some devices. */
static void right_guesses_that_cost_too_much_end_it(void **state) {
    (void)state;
    struct speculation speculation = ready();
    speculation_note(&speculation, 4, 4, 10 * PLAIN);
    assert_true(speculation.pause > 0);
}

static void one_step_that_was_held_up_does_not(void **state) {
    (void)state;
    struct speculation speculation = ready();
    for (int i = 0; i < 3; i++)
        speculation_note(&speculation, 4, 4, 1.5 * PLAIN);
    speculation_note(&speculation, 4, 4, 100 * PLAIN);
    assert_int_equal(speculation.pause, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_followed_before_is_guessed),
        cmocka_unit_test(nothing_is_guessed_before_the_plain_cost_is_known),
        cmocka_unit_test(right_guesses_become_more_and_wrong_ones_fewer),
        cmocka_unit_test(it_switches_itself_off_while_it_does_not_pay),
        cmocka_unit_test(right_guesses_that_cost_too_much_end_it),
        cmocka_unit_test(one_step_that_was_held_up_does_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
