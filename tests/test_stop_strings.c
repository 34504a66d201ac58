#include "tests/support.h"

#include "runtime/stop_strings.h"

#include <stdio.h>
#include <string.h>

/* Feed the pieces of `text`, cut at '|'. The result: what comes out after each, followed by
 * '|', or by '!' where a string was found and feeding stops; then what was held back. */
static const char *run(const char *text, char *const *strings, uint32_t count, bool keeps) {
    static char result[256];
    char copy[256];
    struct stop_matcher matcher;
    struct text out;
    stop_matcher_init(&matcher, strings, count, keeps);
    text_init(&out);
    snprintf(copy, sizeof copy, "%s", text);
    bool found = false;
    for (char *piece = strtok(copy, "|"); piece && !found; piece = strtok(NULL, "|")) {
        found = stop_matcher_feed(&matcher, piece, strlen(piece), &out);
        text_append(&out, found ? "!" : "|");
    }
    stop_matcher_end(&matcher, &out);
    snprintf(result, sizeof result, "%s", out.bytes);
    text_release(&out);
    stop_matcher_release(&matcher);
    return result;
}

static void a_string_is_found_across_pieces(void **state) {
    (void)state;
    char *stops[] = { "END", "\n\n" };
    assert_string_equal(run("one |E|N|D two", stops, 2, false), "one |||!");
    assert_string_equal(run("oneEND", stops, 2, false), "one!");
    assert_string_equal(run("a\n|\nb", stops, 2, false), "a|!");
    assert_string_equal(run("b END a \n\n", stops, 2, false), "b !");
    assert_string_equal(run("one", NULL, 0, false), "one|");
}

static void what_turns_out_to_be_no_string_comes_later(void **state) {
    (void)state;
    char *stops[] = { "ENDE" };
    assert_string_equal(run("one E|N|Done|E", stops, 1, false), "one ||ENDone||E");
}

static void a_string_can_stay_in_the_text(void **state) {
    (void)state;
    char *stops[] = { "END" };
    assert_string_equal(run("one E|N|D two|three", stops, 1, true), "one ||END two!");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_string_is_found_across_pieces),
        cmocka_unit_test(what_turns_out_to_be_no_string_comes_later),
        cmocka_unit_test(a_string_can_stay_in_the_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
