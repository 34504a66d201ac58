#include "tests/support.h"

#include "common/option_rules.h"

#include <stdio.h>
#include <string.h>

enum { POLICY = 256, PROBE, MAX_MEMORY, MAX_BUFFER, TOP_K, TOP_P };

static const struct option longs[] = {
    { "policy", required_argument, NULL, POLICY },
    { "probe", no_argument, NULL, PROBE },
    { "max-memory", required_argument, NULL, MAX_MEMORY },
    { "max-buffer", required_argument, NULL, MAX_BUFFER },
    { "top-k", required_argument, NULL, TOP_K },
    { "top-p", required_argument, NULL, TOP_P },
    { "verbose", no_argument, NULL, 'v' },
    { "new", required_argument, NULL, 'n' },
    { "db", required_argument, NULL, 'd' },
    { NULL, 0, NULL, 0 },
};
static const struct option_rules rules = { ":vn:d:", longs, "phirun chat" };

static char words[512];
static char *argv[16];
static int argc;

static void type(const char *line) {
    snprintf(words, sizeof words, "phirun %s", line);
    argc = 0;
    for (char *word = strtok(words, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    argv[argc] = NULL;
    optind = 0;
}

static void whole_names_and_letters_are_taken(void **state) {
    (void)state;
    static const struct { int code; const char *value; } wanted[] = {
        { POLICY, "fill" }, { PROBE, NULL }, { 'v', NULL }, { 'n', "5" }, { MAX_MEMORY, "--ma" }, { TOP_K, "" },
        { 'v', NULL }, { 'd', "a=b" },
    };
    struct error err = { 0 };
    type("--policy fill model --probe -vn 5 --max-memory --ma --top-k= --verbose other --db=a=b -- --probe");
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        assert_int_equal(option_rules_next(&rules, argc, argv, &err), wanted[i].code);
        if (wanted[i].value)
            assert_string_equal(optarg, wanted[i].value);
    }
    assert_int_equal(option_rules_next(&rules, argc, argv, &err), -1);
    assert_int_equal(argc - optind, 3);
    assert_string_equal(argv[optind], "model");
    assert_string_equal(argv[optind + 1], "other");
    assert_string_equal(argv[optind + 2], "--probe");
    assert_int_equal(err.kind, ERROR_NONE);
}

static void each_mistake_has_its_sentence(void **state) {
    (void)state;
    static const struct { const char *line, *text; } cases[] = {
        { "--nonsense", "there is no option '--nonsense'; see phirun chat --help" },
        { "--nonsense=3", "there is no option '--nonsense'; see phirun chat --help" },
        { "--polcy x", "there is no option '--polcy' (did you mean '--policy'?); see phirun chat --help" },
        { "--polcy=x", "there is no option '--polcy' (did you mean '--policy'?); see phirun chat --help" },
        { "--polic x", "there is no option '--polic' (did you mean '--policy'?); see phirun chat --help" },
        { "--polic", "there is no option '--polic' (did you mean '--policy'?); see phirun chat --help" },
        { "--polic=x", "there is no option '--polic' (did you mean '--policy'?); see phirun chat --help" },
        { "--prob", "there is no option '--prob' (did you mean '--probe'?); see phirun chat --help" },
        { "--prob=1", "there is no option '--prob' (did you mean '--probe'?); see phirun chat --help" },
        { "--ma 8GiB", "there is no option '--ma' (did you mean '--max-memory' or '--max-buffer'?); "
                       "see phirun chat --help" },
        { "--top-q 1", "there is no option '--top-q' (did you mean '--top-k' or '--top-p'?); see phirun chat --help" },
        { "--policies x", "there is no option '--policies'; see phirun chat --help" },
        { "--dc x", "there is no option '--dc'; see phirun chat --help" },
        { "--=x", "there is no option '--=x'; see phirun chat --help" },
        { "-Z", "there is no option '-Z'; see phirun chat --help" },
        { "-vZ", "there is no option '-Z'; see phirun chat --help" },
        { "--probe -Zv", "there is no option '-Z'; see phirun chat --help" },
        { "--probe -v:v", "there is no option '-:'; see phirun chat --help" },
        { "--probe -v\xc3\xa4v", "there is no option '-v\xc3\xa4v'; see phirun chat --help" },
        { "--policy", "option '--policy' needs a value; see phirun chat --help" },
        { "--probe -n", "option '-n' needs a value; see phirun chat --help" },
        { "-vn", "option '-n' needs a value; see phirun chat --help" },
        { "--new", "option '--new' needs a value; see phirun chat --help" },
        { "--probe=1", "option '--probe' takes no value; see phirun chat --help" },
        { "--verbose=", "option '--verbose' takes no value; see phirun chat --help" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = { 0 };
        int code;
        type(cases[i].line);
        while ((code = option_rules_next(&rules, argc, argv, &err)) != -1 && code != '?')
            continue;
        if (code != '?' || err.kind != ERROR_USAGE || strcmp(err.text, cases[i].text) != 0)
            fail_msg("'%s': %d '%s'", cases[i].line, code, err.text);
    }
}

/* More names than a question has room for are left to --help; a name of any length is none that crashes. */
static void a_question_stays_short(void **state) {
    (void)state;
    static const struct option many[] = {
        { "a1", no_argument, NULL, 256 }, { "a2", no_argument, NULL, 257 }, { "a3", no_argument, NULL, 258 },
        { "a4", no_argument, NULL, 259 }, { "a5", no_argument, NULL, 260 }, { NULL, 0, NULL, 0 },
    };
    const struct option_rules crowd = { ":", many, "phiplan" }, four = { ":", many + 1, "phiplan" };
    struct error err = { 0 };
    type("--a");
    assert_int_equal(option_rules_next(&crowd, argc, argv, &err), '?');
    assert_string_equal(err.text, "there is no option '--a'; see phiplan --help");
    type("--a");
    assert_int_equal(option_rules_next(&four, argc, argv, &err), '?');
    assert_string_equal(err.text, "there is no option '--a' (did you mean '--a2', '--a3', '--a4' or '--a5'?); "
                                  "see phiplan --help");
    char line[400] = "--";
    memset(line + 2, 'a', sizeof line - 3);
    type(line);
    assert_int_equal(option_rules_next(&crowd, argc, argv, &err), '?');
    assert_non_null(strstr(err.text, "aaa'; see phiplan --help"));
}

static void distances_count_letters(void **state) {
    (void)state;
    assert_int_equal(typing_distance("", ""), 0);
    assert_int_equal(typing_distance("policy", "policy"), 0);
    assert_int_equal(typing_distance("polcy", "policy"), 1);
    assert_int_equal(typing_distance("", "list"), 4);
    assert_int_equal(typing_distance("josn", "json"), 2);
    assert_int_equal(typing_distance("aaaaaaaaaaaaaaaaaaaaaaaaa", "a"), 24);
    assert_int_equal(typing_distance("a", "aaaaaaaaaaaaaaaaaaaaaaaaa"), 24);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_names_and_letters_are_taken),
        cmocka_unit_test(each_mistake_has_its_sentence),
        cmocka_unit_test(a_question_stays_short),
        cmocka_unit_test(distances_count_letters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
