/* progress_bar: on a terminal, where a step takes its time. */
#include "common/progress_bar.h"
#include "tests/support.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int before;

/* Standard error goes to a file until shown() reads it, which says what was written. */
static FILE *begin(void) {
    FILE *file = tmpfile();
    assert_non_null(file);
    fflush(stderr);
    before = dup(STDERR_FILENO);
    assert_true(before >= 0 && dup2(fileno(file), STDERR_FILENO) >= 0);
    return file;
}

static const char *shown(FILE *file) {
    static char text[512];
    fflush(stderr);
    assert_true(dup2(before, STDERR_FILENO) >= 0);
    close(before);
    rewind(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    return text;
}

static void a_bar_is_drawn_where_its_figure_changes_and_then_wiped_away(void **state) {
    (void)state;
    FILE *file = begin();
    struct progress_bar bar = progress_bar_of("phirun", "hashing the weights");
    bar.is_terminal = true;
    bar.from = 0;
    progress_bar_show(&bar, 500, 1000);
    progress_bar_show(&bar, 501, 1000);
    progress_bar_show(&bar, 1000, 1000);
    progress_bar_clear(&bar);
    progress_bar_clear(&bar);
    assert_string_equal(shown(file), "\r\033[Kphirun: hashing the weights [###############...............]  50 %"
                                     "\r\033[Kphirun: hashing the weights [##############################] 100 %"
                                     "\r\033[K");
}

static void nothing_is_drawn_for_a_short_step_or_elsewhere(void **state) {
    (void)state;
    FILE *file = begin();
    struct progress_bar bar = progress_bar_of("phiplan", "packing the weights");
    assert_false(bar.is_terminal);
    progress_bar_show(&bar, 1, 2);
    bar.is_terminal = true;
    progress_bar_show(&bar, 1, 2);
    progress_bar_show(&bar, 2, 2);
    progress_bar_clear(&bar);
    bar = progress_bar_of("phiplan", "packing the weights");
    bar.from = 0;
    progress_bar_show(&bar, 1, 2);
    progress_bar_clear(&bar);
    assert_string_equal(shown(file), "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bar_is_drawn_where_its_figure_changes_and_then_wiped_away),
        cmocka_unit_test(nothing_is_drawn_for_a_short_step_or_elsewhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
