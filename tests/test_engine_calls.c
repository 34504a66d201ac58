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

/* A prompt of PASSES micro-batches over the devices, some units on each. */
#define PASSES 9u
#define MICRO_BATCH 16u
static bool run_prompt(struct engine *engine, struct error *err) {
    int32_t tokens[PASSES * MICRO_BATCH], positions[PASSES * MICRO_BATCH];
    for (uint32_t i = 0; i < PASSES * MICRO_BATCH; i++) {
        tokens[i] = (int32_t)(3 * i % 200 + 1);
        positions[i] = (int32_t)i;
    }
    float *logits = calloc(engine_model(engine)->vocab_size, sizeof *logits);
    struct engine_batch batch = { .token_count = PASSES * MICRO_BATCH, .tokens = tokens, .positions = positions,
                                  .is_prefill = true };
    bool ok = logits && engine_forward(engine, &batch, logits, err);
    free(logits);
    return ok;
}

static void place_in_turn(struct plan *plan, uint32_t device_count) {
    if (device_count == 3)   /* the first once more, under another name */
        plan->devices[plan->device_count] = plan->devices[0];
    plan->device_count = device_count;
    snprintf(plan->devices[2].device.short_name, sizeof plan->devices[2].device.short_name, "again0");
    for (uint32_t i = 0; i < plan->shard_count; i++)
        plan->shards[i].device = (int32_t)(i * device_count / plan->shard_count);
}

static int program(void) {
    struct error err = { 0 };
    struct rig rig;
    const char *pipeline = getenv("CALLS_PIPELINE");
    struct rig_options options = { .exact = true, .split = 4, .embed_on_device = true,
                                   .micro_batch = pipeline ? MICRO_BATCH : 32,
                                   .discrete = getenv("CALLS_DISCRETE") != NULL,
                                   .apart = getenv("CALLS_APART") != NULL,
                                   .watchdog_seconds = getenv("CALLS_WATCHDOG") ? 10 : 0 };
    if (!test_data(MODEL) || !support_devices() || support_devices()->count < 2)
        return NO_DEVICES;
    bool ok = rig_prepare(&rig, test_data(MODEL), &options, &err);
    if (ok && getenv("CALLS_SLICED"))
        support_slice_plan(&rig, 11);
    if (ok && pipeline)
        place_in_turn(rig.plan, (uint32_t)atoi(pipeline));
    ok = ok && rig_start(&rig, &options, &err);
    if (ok) {
        struct engine_device_report reports[4];
        uint32_t count = engine_report(rig.engine, reports, 4);
        ok = pipeline ? run_prompt(rig.engine, &err) : generate(rig.engine, &err);
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

static void so_does_one_in_several_contexts(void **state) {
    (void)state;
    setenv("CALLS_APART", "1", 1);
    check_allocations();
    unsetenv("CALLS_APART");
}

/* Calls of the whole run from the first launch on; what comes after the last launch is apart. */
struct call_counts {
    uint32_t launches;
    struct { uint32_t reads, writes, finishes, others; } within, after;   /* others: that wait, copy or map */
};

static struct call_counts count_calls(void) {
    char line[512];
    struct call_counts counts = { 0 };
    FILE *file = fopen(lines, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        if (strstr(line, " clEnqueueNDRangeKernel ")) {
            counts.launches++;
            counts.within.reads += counts.after.reads;
            counts.within.writes += counts.after.writes;
            counts.within.finishes += counts.after.finishes;
            counts.within.others += counts.after.others;
            memset(&counts.after, 0, sizeof counts.after);
        } else if (counts.launches) {
            if (strstr(line, " clEnqueueReadBuffer "))
                counts.after.reads++;
            else if (strstr(line, " clEnqueueWriteBuffer ") && strstr(line, " blocking=0 "))
                counts.after.writes++;
            else if (strstr(line, " clFinish "))
                counts.after.finishes++;
            else if (strstr(line, " blocking=1 ") || strstr(line, " clWaitForEvents ") || strstr(line, "Map") ||
                     strstr(line, "Migrate") || strstr(line, "Copy"))
                counts.after.others++;
        }
    }
    fclose(file);
    assert_true(counts.launches > STEPS);
    return counts;
}

/* The prompt's last row is gathered for the head by one copy within the device; the last logits come
 * after the last launch. */
#define GATHERED 1u

static void a_token_waits_only_for_its_hop_and_its_logits(void **state) {
    (void)state;
    char said[1024];
    const uint32_t tokens = 1 + STEPS;
    setenv("CALLS_DISCRETE", "1", 1);
    int status = watch("", said);
    unsetenv("CALLS_DISCRETE");
    assert_int_equal(status, 0);
    const struct call_counts staged = count_calls();
    assert_int_equal(staged.within.reads, 2 * tokens - 1);
    assert_int_equal(staged.within.finishes, 0);
    assert_int_equal(staged.within.others, GATHERED);

    /* Within a context the residual does not go through the host: neither read nor written, copied or mapped. */
    assert_int_equal(watch("", said), 0);
    const struct call_counts shared = count_calls();
    assert_int_equal(shared.launches, staged.launches);
    assert_int_equal(shared.within.reads, tokens - 1);
    assert_int_equal(shared.within.writes, staged.within.writes - tokens);
    assert_int_equal(shared.within.finishes, tokens);
    assert_int_equal(shared.within.others, GATHERED);

    /* Between contexts on the host's memory the first one's result is mapped; the second one's buffer, in which
     * the pass ends, is written. */
    setenv("CALLS_APART", "1", 1);
    status = watch("", said);
    unsetenv("CALLS_APART");
    assert_int_equal(status, 0);
    const struct call_counts mapped = count_calls();
    assert_int_equal(mapped.launches, staged.launches);
    assert_int_equal(mapped.within.reads, tokens - 1);
    assert_int_equal(mapped.within.writes, staged.within.writes);
    assert_int_equal(mapped.within.finishes, 0);
    assert_int_equal(mapped.within.others, GATHERED + tokens);
}

/* ---- the prompt's passes ---- */

struct queue_calls { char name[32]; uint32_t launches, ends; uint32_t launch[4096], end[PASSES]; };

/* In the order in which the devices have units; of each the lines at which it is given work, and those
 * at which a pass has come out of it at the end of the way. */
static uint32_t read_queues(struct queue_calls queues[4]) {
    char line[512];
    uint32_t count = 0, number = 0;
    FILE *file = fopen(lines, "r");
    assert_non_null(file);
    for (; fgets(line, sizeof line, file); number++) {
        const char *at = strstr(line, "queue=");
        bool is_launch = strstr(line, " clEnqueueNDRangeKernel ") != NULL;
        char name[32];
        if (!at || sscanf(at, "queue=%31s", name) != 1)
            continue;
        uint32_t q = 0;
        while (q < count && strcmp(queues[q].name, name) != 0)
            q++;
        if (q == count && (!is_launch || count == 4))
            continue;
        if (q == count)
            snprintf(queues[count++].name, sizeof queues[q].name, "%s", name);
        if (is_launch && queues[q].launches < 4096)
            queues[q].launch[queues[q].launches++] = number;
        if (strstr(line, " clFinish ") && queues[q].ends < PASSES)
            queues[q].end[queues[q].ends++] = number;
    }
    fclose(file);
    return count;
}

/* For how many passes the first device began the one that is as many behind it as there are devices before
 * the last, before it came to its end on the last: each device had one then. */
static uint32_t passes_together(uint32_t devices, bool discrete) {
    char said[1024], count[8];
    snprintf(count, sizeof count, "%u", devices);
    setenv("CALLS_PIPELINE", count, 1);
    if (discrete)
        setenv("CALLS_DISCRETE", "1", 1);
    int status = watch("", said);
    unsetenv("CALLS_DISCRETE");
    unsetenv("CALLS_PIPELINE");
    if (status != 0)
        fail_msg("%u devices: exit %d, \"%s\"", devices, status, said);
    struct queue_calls *queues = calloc(4, sizeof *queues);
    assert_non_null(queues);
    assert_int_equal(read_queues(queues), devices);
    const struct queue_calls *first = &queues[0], *last = &queues[devices - 1];
    assert_true(first->launches >= PASSES && first->launches % PASSES == 0 && last->ends >= PASSES - 1);
    uint32_t together = 0;
    for (uint32_t pass = 0; pass + devices - 1 < PASSES; pass++)
        together += first->launch[(pass + devices - 1) * (first->launches / PASSES)] < last->end[pass];
    free(queues);
    return together;
}

/* With fewer passes on the way it would never happen; how often it does is the scheduler's business. */
static void the_passes_of_a_prompt_keep_all_devices_at_work(void **state) {
    (void)state;
    for (uint32_t devices = 2; devices <= 3; devices++)
        for (int discrete = 0; discrete < 2; discrete++) {
            uint32_t together = 0;
            for (int attempt = 0; attempt < 3 && !together; attempt++)
                together = passes_together(devices, discrete);
            if (!together)
                fail_msg("%u devices were never at work at once%s", devices, discrete ? ", discrete" : "");
        }
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
        { "clEnqueueReadBuffer:1", "cannot read logits" }, { "clFinish:5", "cannot finish units" },
        { "clEnqueueMigrateMemObjects:2", "cannot place the residual" },
        { "clEnqueueReadBuffer:7+", "cannot" }, { "clEnqueueCopyBuffer:1", "cannot gather" },
    };
    char said[1024];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int status = watch(cases[i].fail, said);
        if (status != 1 || !strstr(said, cases[i].what))
            fail_msg("%s: exit %d, \"%s\"", cases[i].fail, status, said);
        check_released(cases[i].fail);
    }
    setenv("CALLS_DISCRETE", "1", 1);
    int status = watch("clEnqueueReadBuffer:1", said);
    unsetenv("CALLS_DISCRETE");
    if (status != 1 || !strstr(said, "cannot finish units"))
        fail_msg("a hop through the host: exit %d, \"%s\"", status, said);
    check_released("a hop through the host");
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
        cmocka_unit_test(so_does_one_in_several_contexts),
        cmocka_unit_test(a_token_waits_only_for_its_hop_and_its_logits),
        cmocka_unit_test(the_passes_of_a_prompt_keep_all_devices_at_work),
        cmocka_unit_test(a_driver_that_hangs_ends_in_a_sentence),
        cmocka_unit_test(every_failure_is_a_sentence_and_leaves_nothing_behind),
        cmocka_unit_test(a_failure_in_a_slice_ends_the_pass_for_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
