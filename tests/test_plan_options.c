#include "tests/support.h"

#include "common/host_memory.h"
#include "planner/plan_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_WORDS 24

/* Split at blanks and parse; `words` keeps the strings that options point into. */
static bool parse(const char *line, char words[512], struct plan_options *options, struct error *err) {
    char *argv[MOST_WORDS + 1] = { (char *)"phiplan" };
    int argc = 1;
    strcpy(words, line);
    for (char *word = strtok(words, " "); word && argc < MOST_WORDS; word = strtok(NULL, " "))
        argv[argc++] = word;
    return plan_options_parse(argc, argv, options, err);
}

static void options_become_a_request(void **state) {
    (void)state;
    struct plan_options options;
    struct error err = { 0 };
    char words[512];
    ASSERT_OK(parse("--ctx 2048 model.gguf --prompt=10 --new 20 --kv f32 --policy fill --devices cpu0,cpu1 "
                    "--max-memory cpu0=60MiB --max-memory cpu1=1GiB --pin ffn.*=cpu1 --json --name other",
                    words, &options, &err), err);
    assert_int_equal(options.verb, VERB_PLAN);
    assert_string_equal(options.subject, "model.gguf");
    assert_int_equal(options.request.context, 2048);
    assert_int_equal(options.request.prompt_tokens, 10);
    assert_int_equal(options.request.new_tokens, 20);
    assert_int_equal(options.request.kv_type, KV_F32);
    assert_string_equal(options.request.policy, "fill");
    assert_string_equal(options.request.devices, "cpu0,cpu1");
    assert_string_equal(options.request.max_memory, "cpu0=60MiB,cpu1=1GiB");
    assert_string_equal(options.request.pins, "ffn.*=cpu1");
    assert_string_equal(options.name, "other");
    assert_true(options.json && !options.dry_run);
}

static void verbs_take_what_they_need(void **state) {
    (void)state;
    static const struct { const char *line; enum plan_verb verb; const char *subject; } cases[] = {
        { "plan list", VERB_PLAN, "list" },   { "./list --dry-run", VERB_PLAN, "./list" },
        { "devices --json", VERB_DEVICES, NULL }, { "list", VERB_LIST, NULL }, { "show", VERB_SHOW, NULL },
        { "show 3", VERB_SHOW, "3" },         { "rm 3", VERB_REMOVE, "3" },
        { "export", VERB_EXPORT, NULL },      { "export 3 --format accelerate", VERB_EXPORT, "3" },
        { "import map.json a", VERB_IMPORT, "a" }, { "gc", VERB_COLLECT, NULL },
        { "--help nonsense", VERB_HELP, NULL }, { "--version", VERB_VERSION, NULL },
        { "-- --odd-name", VERB_PLAN, "--odd-name" },
        { "help", VERB_HELP, NULL },          { "plan help", VERB_PLAN, "help" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct plan_options options;
        struct error err = { 0 };
        char words[512];
        ASSERT_OK(parse(cases[i].line, words, &options, &err), err);
        assert_int_equal(options.verb, cases[i].verb);
        if (cases[i].subject)
            assert_string_equal(options.subject, cases[i].subject);
        else
            assert_null(options.subject);
    }
}

static void formats_and_types_are_told_apart(void **state) {
    (void)state;
    static const struct { const char *line; enum plan_format format; const char *dtype; } cases[] = {
        { "a", FORMAT_TABLE, "" },                { "a --json", FORMAT_JSON, "" },
        { "a --format json", FORMAT_JSON, "" },   { "a --format table --json", FORMAT_JSON, "" },
        { "export", FORMAT_JSON, "" },            { "export --format accelerate", FORMAT_ACCELERATE, "" },
        { "a --dtype float16 --format accelerate", FORMAT_ACCELERATE, "f16" },
        { "a --dtype bfloat16", FORMAT_TABLE, "bf16" }, { "a --dtype FLOAT32", FORMAT_TABLE, "f32" },
        { "a --dtype q4_0", FORMAT_TABLE, "q4_0" },
        { "a --policy hf-auto --dtype int8", FORMAT_TABLE, "int8" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct plan_options options;
        struct error err = { 0 };
        char words[512];
        ASSERT_OK(parse(cases[i].line, words, &options, &err), err);
        assert_int_equal(options.format, cases[i].format);
        assert_int_equal(options.json, cases[i].format == FORMAT_JSON);
        assert_string_equal(options.request.dtype, cases[i].dtype);
    }
}

static void wrong_usage_is_named(void **state) {
    (void)state;
    static const struct { const char *line, *text; } cases[] = {
        { "", "no MODEL given" },
        { "rm", "no PLAN given" },
        { "a b", "'b' is one argument too many" },
        { "list a", "'a' is one argument too many" },
        { "a --ctx 0", "--ctx takes a whole number from 1 on, not '0'" },
        { "a --ctx -5", "not '-5'" },
        { "a --ctx 4k", "not '4k'" },
        { "a --new 99999999999", "not '99999999999'" },
        { "a --ctx", "option '--ctx' needs a value; see phiplan --help" },
        { "a --contest 5", "there is no option '--contest'; see phiplan --help" },
        { "a --polcy x", "there is no option '--polcy' (did you mean '--policy'?); see phiplan --help" },
        { "a --polcy=x", "there is no option '--polcy' (did you mean '--policy'?); see phiplan --help" },
        { "a --ma 8GiB", "no option '--ma' (did you mean '--max-memory' or '--max-buffer'?); see phiplan --help" },
        { "a --probe=1", "option '--probe' takes no value; see phiplan --help" },
        { "a --prob", "there is no option '--prob' (did you mean '--probe'?); see phiplan --help" },
        { "a -x", "there is no option '-x'" },
        { "a --policy slowest", "--policy takes fastest, fill, balanced, hf-sequential, hf-balanced, hf-balanced-low-0, hf-auto, not 'slowest'" },
        { "a --policy import", "phiplan import FILE MODEL" },
        { "a --kv q4_0", "--kv takes f16, f32, q8_0, not 'q4_0'" },
        { "a --weights q4_k", "--weights takes keep, f16, q8_0, q4_0, auto, not 'q4_k'" },
        { "a --slices on", "--slices takes auto, off, not 'on'" },
        { "list --format dot", "--format dot is for plans" },
        { "list --simulate x.json", "--simulate is for phiplan MODEL and import" },
        { "a --simulate x.json --probe", "nothing can be measured with it" },
        { "why", "no DEVICE given" },
        { "diff 1", "diff wants two plans" },
        { "diff 1 2 3", "'3' is one argument too many" },
        { "a --dtype q9", "--dtype takes float32, float16" },
        { "a --dtype int8", "--dtype int8 is only what the hf- policies count with" },
        { "import", "import wants a FILE" },
        { "import map.json", "import wants a FILE" },
        { "import map.json a --policy fill", "--policy 'fill' and the map" },
        { "import map.json a b", "'b' is one argument too many" },
        { "export --format table", "export writes json, accelerate, dot or svg" },
        { "devices --format accelerate", "--format accelerate is for plans" },
        { "a --name=", "--name takes 1 to 63 characters" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct plan_options options;
        struct error err = { 0 };
        char words[512];
        if (parse(cases[i].line, words, &options, &err) || err.kind != ERROR_USAGE ||
            !strstr(err.text, cases[i].text))
            fail_msg("'%s': %d '%s'", cases[i].line, err.kind, err.text);
    }
}

static void a_mistyped_command_has_a_nearest_one(void **state) {
    (void)state;
    static const struct { const char *word, *nearest; } cases[] = {
        { "lst", "list" }, { "shows", "show" }, { "devises", "devices" }, { "wh", "why" },
        { "model", NULL }, { "g", NULL }, { "", NULL }, { "devicesdevicesdevicesdevices", NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *nearest = plan_options_nearest_verb(cases[i].word);
        if (cases[i].nearest ? !nearest || strcmp(nearest, cases[i].nearest) != 0 : nearest != NULL)
            fail_msg("'%s': '%s'", cases[i].word, nearest ? nearest : "none");
    }
}

static void the_help_fits_eighty_columns(void **state) {
    (void)state;
    size_t column = 0;
    for (const char *c = plan_options_help; *c; c++) {
        column = *c == '\n' ? 0 : column + 1;
        assert_in_range(column, 0, 80);
    }
    assert_non_null(strstr(plan_options_help, "example: "));
    assert_non_null(strstr(plan_options_help, "3 no such plan, 4 plan stale"));
}

static void write_group(const char *group, const char *name, const char *text) {
    char path[8192];
    snprintf(path, sizeof path, "mkdir -p '%s/%s' && printf '%s' > '%s/%s/%s'", test_folder(), group, text, test_folder(),
             group, name);
    assert_int_equal(system(path), 0);
}

static void host_memory_is_what_is_left_for_us(void **state) {
    (void)state;
    static const struct { const char *meminfo, *limit, *stat; uint64_t total_mib, available_mib; } cases[] = {
        { "MemTotal: 10485760 kB\nMemFree: 1 kB\nMemAvailable: 5242880 kB\n", "", "", 10240, 5120 },
        { "MemTotal: 10485760 kB\nMemAvailable: 10380902 kB\n", "max\\n", "", 10240, 8192 },
        { "MemTotal: 10485760 kB\n", "9223372036854771712\\n", "", 10240, 8192 },
        { "MemTotal: 10485760 kB\nMemAvailable: 9437184 kB\n", "1073741824\\n",
          "anon 536870912\\nfile 400000000\\n", 1024, 512 },
        { "MemTotal: 10485760 kB\nMemAvailable: 9437184 kB\n", "1073741824\\n",
          "total_cache 1\\ntotal_rss 1073741825\\n", 1024, 0 },
    };
    struct host_memory host;
    struct error err = { 0 };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_group("case", "memory.max", cases[i].limit);
        write_group("case", "memory.stat", cases[i].stat);
        ASSERT_OK(host_memory_parse(cases[i].meminfo, "0::/case\n", test_folder(), &host, &err), err);
        assert_int_equal(host.total_bytes >> 20, cases[i].total_mib);
        assert_int_equal((host.available_bytes + 5) >> 20, cases[i].available_mib);
    }
    assert_false(host_memory_parse("", "", test_folder(), &host, &err));
    ASSERT_OK(host_memory_read(&host, &err), err);
    assert_true(host.available_bytes <= host.total_bytes && host.total_bytes > 0);
}

/* Of a machine of 16 GiB, all of it free. */
static struct host_memory limited_by(const char *groups) {
    struct host_memory host;
    struct error err = { 0 };
    ASSERT_OK(host_memory_parse("MemTotal: 16777216 kB\n", groups, test_folder(), &host, &err), err);
    return host;
}

static void every_control_group_above_the_process_counts(void **state) {
    (void)state;
    const uint64_t gib = 1ull << 30;
    write_group("user/job", "memory.max", "max\\n");
    write_group("user", "memory.max", "4294967296\\n");
    write_group("user", "memory.stat", "anon 1073741824\\nfile 7\\n");
    struct host_memory host = limited_by("1:cpu:/user/job\n0::/user/job\n");
    assert_int_equal(host.total_bytes, 4 * gib);
    assert_int_equal(host.available_bytes, 3 * gib);

    write_group("memory/batch/42", "memory.limit_in_bytes", "2147483648\\n");
    write_group("memory/batch/42", "memory.stat", "total_rss 1073741824\\n");
    write_group("memory", "memory.limit_in_bytes", "9223372036854771712\\n");
    host = limited_by("4:memory:/batch/42\n0::/\n");
    assert_int_equal(host.total_bytes, 2 * gib);
    assert_int_equal(host.available_bytes, gib);

    host = limited_by("4:memory:/../..\n0::/docker/of/outside\nno group\n");
    assert_int_equal(host.total_bytes, 16 * gib);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_become_a_request),
        cmocka_unit_test(verbs_take_what_they_need),
        cmocka_unit_test(formats_and_types_are_told_apart),
        cmocka_unit_test(wrong_usage_is_named),
        cmocka_unit_test(a_mistyped_command_has_a_nearest_one),
        cmocka_unit_test(the_help_fits_eighty_columns),
        cmocka_unit_test(host_memory_is_what_is_left_for_us),
        cmocka_unit_test(every_control_group_above_the_process_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
