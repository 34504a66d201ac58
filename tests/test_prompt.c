#include "tests/support.h"

#include "runtime/prompt.h"

#include <stdio.h>
#include <unistd.h>

static void a_file_is_read_to_its_end(void **state) {
    (void)state;
    char path[512];
    struct error err = { 0 };
    struct text text;
    snprintf(path, sizeof path, "%s/prompt", test_folder());
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (int i = 0; i < 20000; i++)
        fprintf(file, "%05d\n", i);
    fclose(file);
    text_init(&text);
    text_append(&text, "> ");
    ASSERT_OK(prompt_read_file(path, &text, &err), err);
    assert_int_equal(text.length, 2 + 6 * 20000);
    assert_memory_equal(text.bytes + text.length - 6, "19999\n", 6);
    text_release(&text);
}

/* As if what came so far had reached TEXT_LIMIT, without the memory. */
static void a_file_without_end_is_too_large(void **state) {
    (void)state;
    struct error err = { 0 };
    struct text text;
    text_init(&text);
    text_append_bytes(&text, "", TEXT_LIMIT);
    assert_true(text.failed);
    alarm(10);   /* where it reads on */
    assert_false(prompt_read_file("/dev/zero", &text, &err));
    alarm(0);
    assert_string_equal(err.text, "cannot read '/dev/zero': it is too large");
    text_release(&text);
}

static void a_file_that_is_not_there_is_named(void **state) {
    (void)state;
    struct error err = { 0 };
    struct text text;
    text_init(&text);
    assert_false(prompt_read_file("/nowhere/prompt", &text, &err));
    assert_string_equal(err.text, "cannot read '/nowhere/prompt': No such file or directory");
    text_release(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_read_to_its_end),
        cmocka_unit_test(a_file_without_end_is_too_large),
        cmocka_unit_test(a_file_that_is_not_there_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
