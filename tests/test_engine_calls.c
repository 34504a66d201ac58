/* The engine as the OpenCL driver sees it, through tests/cl_trace: this program runs
 * itself with --program under it. */
#include "tests/support.h"
#include "tests/support_engine.h"

#include "common/json.h"
#include "runtime/session.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MODEL "models/phi3-tiny"
#define STEPS 6u
#define NO_DEVICES 77

/* ---- the program: a prompt of 20 tokens and STEPS more, over two devices ---- */

static bool generate(struct engine *engine, struct error *err) {
    bool ok = false;
    int32_t tokens[20];
    for (int32_t i = 0; i < 20; i++)
        tokens[i] = 3 * i + 1;
    float *logits = calloc(engine_model(engine)->vocab_size, sizeof *logits);
    struct session *session = session_new(engine, 0, ROPE_AUTO, err);
    if (logits && session) {
        ok = session_append(session, tokens, 20, logits, err);
        for (uint32_t step = 0; ok && step < STEPS; step++)
            ok = session_append(session, tokens + step, 1, logits, err);
        /* A second use after a failure must fail too, in words. */
        struct error again = { 0 };
        if (!ok && (session_append(session, tokens, 1, logits, &again) || !again.text[0]))
            ok = error_set(err, ERROR_NONE, "a failure was forgotten");
    }
    session_free(session);
    free(logits);
    return ok;
}

static int program(void) {
    struct error err = { 0 };
    struct rig rig;
    struct rig_options options = { .exact = true, .split = 4, .embed_on_device = true, .micro_batch = 32,
                                   .watchdog_seconds = getenv("CALLS_WATCHDOG") ? 10 : 0 };
    if (!test_data(MODEL) || !support_devices() || support_devices()->count < 2)
        return NO_DEVICES;
    bool ok = rig_prepare(&rig, test_data(MODEL), &options, &err);
    if (ok && getenv("CALLS_SLICED"))
        support_slice_plan(&rig, 11);
    ok = ok && rig_start(&rig, &options, &err);
    if (ok) {
        struct engine_device_report reports[4];
        uint32_t count = engine_report(rig.engine, reports, 4);
        ok = generate(rig.engine, &err);
        rig_close(&rig);
        for (uint32_t i = 0; ok && i < count; i++)
            printf("%llu ", (unsigned long long)reports[i].bytes_allocated);
    }
    if (!ok)
        printf("%s", err.text);
    return error_exit_code(err.kind);
}

/* ---- running it ---- */

static char self[PATH_MAX], library[PATH_MAX + 32], totals[PATH_MAX], lines[PATH_MAX];

static int watch(const char *fail, char said[1024]) {
    char command[5 * PATH_MAX];
    snprintf(command, sizeof command,
             "LD_PRELOAD='%s' ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0 CL_TRACE_OUT='%s' "
             "CL_TRACE_LOG='%s' CL_TRACE_FAIL='%s' exec timeout 60 '%s' --program 2>&1", library, totals, lines, fail, self);
    remove(totals);
    remove(lines);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    said[fread(said, 1, 1023, pipe)] = '\0';
    int status = pclose(pipe);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == NO_DEVICES)
        SKIP_BECAUSE("no two PoCL devices, or no " MODEL);
    return WEXITSTATUS(status);
}

static void check_released(const char *when) {
    struct error err = { 0 };
    static const char *const kinds[] = { "context", "queue", "memory", "program", "kernel", "event" };
    json_t *root = json_read_file(totals, 1 << 20, &err);
    ASSERT_OK(root, err);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const json_t *object = json_object_get(json_object_get(root, "objects"), kinds[i]);
        if (json_integer_value(json_object_get(object, "live")) != 0)
            fail_msg("%s: %lld of kind %s are not released", when,
                     (long long)json_integer_value(json_object_get(object, "live")), kinds[i]);
    }
    json_decref(root);
}

static void check_allocations(void) {
    struct error err = { 0 };
    char said[1024], expected[2][32] = { "", "" };
    if (watch("", said) != 0)
        fail_msg("%s", said);
    check_released("after a whole run");
    assert_int_equal(sscanf(said, "%31s %31s", expected[0], expected[1]), 2);
    json_t *root = json_read_file(totals, 1 << 20, &err);
    ASSERT_OK(root, err);
    const json_t *devices = json_object_get(root, "devices");
    assert_int_equal(json_array_size(devices), 2);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(root, "unattributed"), "buffers")), 0);
    bool matched[2] = { false, false };   /* in which order is the driver's business */
    for (size_t i = 0; i < 2; i++)
        for (size_t j = 0; j < 2; j++) {
            char bytes[32];
            snprintf(bytes, sizeof bytes, "%lld",
                     (long long)json_integer_value(json_object_get(json_array_get(devices, i), "bytes")));
            matched[j] |= strcmp(bytes, expected[j]) == 0;
        }
    assert_true(matched[0] && matched[1]);
    json_decref(root);
}

static void a_run_allocates_what_it_reports_and_releases_it(void **state) {
    (void)state;
    check_allocations();
}

static void so_does_one_in_slices(void **state) {
    (void)state;
    setenv("CALLS_SLICED", "1", 1);
    check_allocations();
    unsetenv("CALLS_SLICED");
}

static void a_token_waits_only_for_its_hop_and_its_logits(void **state) {
    (void)state;
    char said[1024], line[512];
    assert_int_equal(watch("", said), 0);
    FILE *file = fopen(lines, "r");
    assert_non_null(file);
    uint32_t launches = 0, reads = 0, others = 0, reads_after = 0, others_after = 0;
    while (fgets(line, sizeof line, file)) {
        if (strstr(line, " clEnqueueNDRangeKernel ")) {
            launches++;
            reads += reads_after;     /* what comes after the last launch is the end */
            others += others_after;
            reads_after = others_after = 0;
        } else if (strstr(line, " clEnqueueReadBuffer ") && strstr(line, " blocking=1 ")) {
            reads_after++;
        } else if (launches && (strstr(line, " blocking=1 ") || strstr(line, " clFinish ") ||
                                strstr(line, " clWaitForEvents "))) {
            others_after++;
        }
    }
    fclose(file);
    assert_true(launches > STEPS);
    assert_int_equal(reads, 2 * (1 + STEPS) - 1);   /* the last logits come after the last launch */
    assert_int_equal(others, 0);
}

static void every_failure_is_a_sentence_and_leaves_nothing_behind(void **state) {
    (void)state;
    /* A buffer that cannot use mapped pages in place is tried again: so many in a row fail. */
    static const struct { const char *fail, *what; } cases[] = {
        { "clCreateContext:1", "'cpu" }, { "clCreateCommandQueue:2", "'cpu" },
        { "clCreateBuffer:1+", "MB (" }, { "clCreateBuffer:30+", "MB (" }, { "clEnqueueMapBuffer:1", "cannot map" },
        { "clEnqueueMapBuffer:4", "cannot map" }, { "clEnqueueUnmapMemObject:3", "cannot upload" },
        { "clBuildProgram:1", "cannot build" }, { "clCreateKernel:2", "CL_" }, { "clFinish:1", "cannot upload" },
        { "clEnqueueWriteBuffer:1", "cannot write" }, { "clEnqueueWriteBuffer:13", "cannot write" },
        { "clEnqueueNDRangeKernel:1", "on 'cpu" }, { "clEnqueueNDRangeKernel:40", "on 'cpu" },
        { "clEnqueueNDRangeKernel:20+", "on 'cpu" }, { "clSetKernelArg:100", "on 'cpu" },
        { "clEnqueueReadBuffer:1", "cannot finish" }, { "clEnqueueReadBuffer:2", "cannot read logits" },
        { "clEnqueueReadBuffer:7+", "cannot" }, { "clEnqueueCopyBuffer:1", "cannot gather" },
    };
    char said[1024];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int status = watch(cases[i].fail, said);
        if (status != 1 || !strstr(said, cases[i].what))
            fail_msg("%s: exit %d, \"%s\"", cases[i].fail, status, said);
        check_released(cases[i].fail);
    }
}

/* One device fails while the others run their slices of the same unit. */
static void a_failure_in_a_slice_ends_the_pass_for_all(void **state) {
    (void)state;
    static const struct { const char *fail, *what; } cases[] = {
        { "clEnqueueNDRangeKernel:25+", "on 'cpu" }, { "clEnqueueWriteBuffer:19", "cannot write" },
        { "clEnqueueReadBufferRect:5", "cannot read a slice" }, { "clEnqueueReadBufferRect:30+", "cannot read a slice" },
    };
    char said[1024];
    setenv("CALLS_SLICED", "1", 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int status = watch(cases[i].fail, said);
        if (status != 1 || !strstr(said, cases[i].what))
            fail_msg("%s: exit %d, \"%s\"", cases[i].fail, status, said);
        check_released(cases[i].fail);
    }
    unsetenv("CALLS_SLICED");
}

static void a_driver_that_hangs_ends_in_a_sentence(void **state) {
    (void)state;
    char said[1024];
    setenv("CALLS_WATCHDOG", "1", 1);
    int status = watch("clEnqueueReadBuffer:3:hang", said);
    unsetenv("CALLS_WATCHDOG");
    if (status != 1 || !strstr(said, "no progress"))
        fail_msg("exit %d, \"%s\"", status, said);
}

int main(int count, char **arguments) {
    if (count == 2 && strcmp(arguments[1], "--program") == 0)
        return program();
    if (!realpath("/proc/self/exe", self))
        return 1;
    snprintf(library, sizeof library, "%.*s/cl_trace.so", (int)(strrchr(self, '/') - self), self);
    snprintf(totals, sizeof totals, "%s/totals.json", test_folder());
    snprintf(lines, sizeof lines, "%s/lines.log", test_folder());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_allocates_what_it_reports_and_releases_it),
        cmocka_unit_test(so_does_one_in_slices),
        cmocka_unit_test(a_token_waits_only_for_its_hop_and_its_logits),
        cmocka_unit_test(a_driver_that_hangs_ends_in_a_sentence),
        cmocka_unit_test(every_failure_is_a_sentence_and_leaves_nothing_behind),
        cmocka_unit_test(a_failure_in_a_slice_ends_the_pass_for_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
