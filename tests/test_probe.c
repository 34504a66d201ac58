/* The probe starts this program again as its child: main() passes "__probe" on. */
#include "tests/support.h"

#include "common/clock.h"
#include "common/opencl.h"
#include "planner/probe.h"
#include "planner/probe_child.h"
#include "planner/probe_protocol.h"
#include "planner/probe_hop.h"
#include "planner/probe_together.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char self[PATH_MAX], build_folder[PATH_MAX], pocl[PATH_MAX], temporary[PATH_MAX];

/* ---- machines made of .icd files ---- */

/* A folder of drivers: names of tests/fake_icd_NAME.so, or "pocl", or "missing". */
static void use_drivers(const char *const *names) {
    static int machines;
    char folder[PATH_MAX], path[PATH_MAX + 64];
    snprintf(folder, sizeof folder, "%s/machine%d", test_folder(), machines++);
    assert_int_equal(mkdir(folder, 0700), 0);
    for (int i = 0; names[i]; i++) {
        snprintf(path, sizeof path, "%s/%d-%s.icd", folder, i, names[i]);
        if (!strcmp(names[i], "pocl")) {
            assert_int_equal(symlink(pocl, path), 0);
            continue;
        }
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        fprintf(file, "%s/fake_icd_%s.so\n", build_folder, names[i]);
        fclose(file);
    }
    setenv("OCL_ICD_VENDORS", folder, 1);
}

static const char *const only_pocl[] = { "pocl", NULL };

/* No child may be left, dead or alive, and nothing in the temporary folder. */
static void assert_nothing_is_left(void) {
    errno = 0;
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    DIR *stream = opendir(temporary);
    assert_non_null(stream);
    for (struct dirent *entry; (entry = readdir(stream));)
        if (entry->d_name[0] != '.')
            fail_msg("'%s' was left behind", entry->d_name);
    closedir(stream);
}

static const struct probe_value *value_of(const struct probe_results *results, uint32_t index,
                                          const char *what, const char *format) {
    for (uint32_t i = 0; i < results->devices[index].count; i++) {
        const struct probe_value *value = &results->devices[index].values[i];
        if (!strcmp(value->what, what) && !strcmp(value->format, format))
            return value;
    }
    return NULL;
}

/* ---- drivers that misbehave ---- */

static void a_driver_that_crashes_or_hangs_is_marked_and_the_rest_is_found(void **state) {
    (void)state;
    struct error err = { 0 };
    struct device_list devices;
    struct probe_results results;
    const char *const all[] = { "crash", "hang", "missing", "noise", "pocl", NULL };
    const char *const bad[] = { "crash", "hang", "missing", "noise", NULL };
    setenv("POCL_DEVICES", "pthread", 1);
    use_drivers(pocl[0] ? all : bad);
    const struct probe_request request = { .quick = true, .timeout_s = pocl[0] ? 10 : 2 };
    ASSERT_OK(probe_survey(&request, &devices, &results, &err), err);

    uint32_t real = pocl[0] ? 1 : 0;
    assert_int_equal(devices.count, real + 2);
    assert_int_equal(results.count, devices.count);
    if (real) {
        assert_true(devices.devices[0].usable);
        assert_string_equal(devices.devices[0].reason, "");
        assert_string_equal(devices.devices[0].short_name, "cpu0");
        assert_non_null(value_of(&results, 0, "stream", ""));
    }
    const struct device *crashed = &devices.devices[real], *hung = &devices.devices[real + 1];
    assert_string_equal(crashed->platform, "0-crash.icd");
    assert_string_equal(crashed->reason, "its driver crashed (SIGSEGV)");
    assert_string_equal(hung->platform, "1-hang.icd");
    assert_non_null(strstr(hung->reason, "its driver hung: no answer within "));
    for (uint32_t i = real; i < devices.count; i++) {
        assert_false(devices.devices[i].usable);
        assert_string_equal(devices.devices[i].name, "");
        assert_string_equal(devices.devices[i].short_name, "");
        assert_int_equal(results.devices[i].count, 0);
    }
    device_list_release(&devices);
    probe_results_release(&results);
    assert_nothing_is_left();
}

static void a_machine_without_drivers_has_no_devices(void **state) {
    (void)state;
    struct error err = { 0 };
    struct device_list devices;
    struct probe_results results;
    const char *const none[] = { NULL };
    const struct probe_request request = { .quick = true };
    use_drivers(none);
    ASSERT_OK(probe_survey(&request, &devices, &results, &err), err);
    assert_int_equal(devices.count, 0);
    probe_results_release(&results);
    device_list_release(&devices);
}

static void a_driver_named_twice_counts_once(void **state) {
    (void)state;
    struct error err = { 0 };
    struct device_list devices;
    struct probe_results results;
    const char *const twice[] = { "crash", "crash", NULL };
    const struct probe_request request = { .quick = true };
    use_drivers(twice);
    ASSERT_OK(probe_survey(&request, &devices, &results, &err), err);
    assert_int_equal(devices.count, 1);
    probe_results_release(&results);
    device_list_release(&devices);
}

static volatile sig_atomic_t interrupted;

static void interrupt(int number) {
    (void)number;
    interrupted = 1;
}

static void an_interrupt_ends_a_survey_at_once(void **state) {
    (void)state;
    struct error err = { 0 };
    struct device_list devices;
    struct probe_results results;
    const char *const hanging[] = { "hang", NULL };
    const struct probe_request request = { .quick = true, .interrupted = &interrupted };
    use_drivers(hanging);
    interrupted = 0;
    signal(SIGALRM, interrupt);
    alarm(1);
    double start = seconds_now();
    assert_false(probe_survey(&request, &devices, &results, &err));
    assert_int_equal(err.kind, ERROR_INTERRUPTED);
    assert_true(seconds_now() - start < 5);
    probe_results_release(&results);
    device_list_release(&devices);
    assert_nothing_is_left();
}

/* Whether a child of the probe exists that asks a driver in `folder`. */
static bool has_child_for(const char *folder) {
    DIR *stream = opendir("/proc");
    bool found = false;
    assert_non_null(stream);
    for (struct dirent *entry; !found && (entry = readdir(stream));) {
        char path[300], words[8192];
        snprintf(path, sizeof path, "/proc/%s/cmdline", entry->d_name);
        FILE *file = fopen(path, "r");
        if (!file)
            continue;
        size_t length = fread(words, 1, sizeof words - 1, file);
        fclose(file);
        words[length] = '\0';
        for (size_t i = 0; i < length; i++)
            words[i] = words[i] ? words[i] : ' ';
        found = strstr(words, " __probe ") && strstr(words, folder);
    }
    closedir(stream);
    return found;
}

static void children_die_with_a_killed_parent(void **state) {
    (void)state;
    const char *const hanging[] = { "hang", NULL };
    use_drivers(hanging);
    char vendors[PATH_MAX];
    assert_non_null(realpath(getenv("OCL_ICD_VENDORS"), vendors));
    char root[PATH_MAX];
    snprintf(root, sizeof root, "%s/killed", test_folder());
    assert_int_equal(mkdir(root, 0700), 0);
    pid_t parent = fork();
    if (parent == 0) {
        setenv("TMPDIR", root, 1);   /* nobody can clean up after SIGKILL */
        execl(self, self, "--survey", (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < 100 && !has_child_for(vendors); i++)
        poll(NULL, 0, 50);
    bool has_started = has_child_for(vendors);
    kill(parent, SIGKILL);
    waitpid(parent, NULL, 0);
    for (int i = 0; i < 40 && has_child_for(vendors); i++)
        poll(NULL, 0, 50);
    assert_true(has_started);
    assert_false(has_child_for(vendors));
}

/* ---- devices ---- */

static const struct probe_shape small_shapes[] = {
    { TENSOR_F32, 512, 256 }, { TENSOR_Q4_0, 512, 512 }, { TENSOR_F16, 256, 512 }, { TENSOR_Q4_0, 1024, 256 },
};

static void a_working_device_is_measured(void **state) {
    (void)state;
    struct error err = { 0 };
    struct device_list devices;
    struct probe_results results;
    if (!pocl[0])
        SKIP_BECAUSE("no PoCL driver here");
    setenv("POCL_DEVICES", "basic pthread", 1);
    use_drivers(only_pocl);
    struct probe_request request = { .shape_count = 4, .token_bytes = 4 << 20, .numeric = NUMERIC_INT8,
                                     .kv_type = KV_F16, .head_count = 4, .kv_head_count = 2, .head_dim = 32,
                                     .prefill_tokens = 16 };
    memcpy(request.shapes, small_shapes, sizeof small_shapes);
    ASSERT_OK(probe_survey(&request, &devices, &results, &err), err);
    assert_int_equal(devices.count, 2);
    static const struct { const char *what, *format, *unit; double low, high; } expected[] = {
        { "stream", "", "B/s", 1e6, 1e13 }, { "launch", "", "s", 1e-8, 1 }, { "finish", "", "s", 1e-8, 1 },
        { "hop", "", "s", 1e-8, 1 }, { "copy", "", "B/s", 1e7, 1e13 },
        { "decode", "f32", "B/s", 1e6, 1e13 }, { "decode", "f16", "B/s", 1e6, 1e13 },
        { "decode", "q4_0", "B/s", 1e5, 1e13 }, { "prefill", "f32", "op/s", 1e6, 1e15 },
        { "prefill", "f16", "op/s", 1e6, 1e15 }, { "prefill", "q4_0", "op/s", 1e6, 1e15 },
        { "kv", "", "B/s", 1e5, 1e13 }, { "attention", "", "op/s", 1e5, 1e15 },
    };
    for (uint32_t d = 0; d < devices.count; d++) {
        if (!devices.devices[d].usable)
            fail_msg("%s", devices.devices[d].reason);
        assert_string_equal(devices.devices[d].alias_of, "");   /* its driver was told to show both */
        for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
            const struct probe_value *value = value_of(&results, d, expected[i].what, expected[i].format);
            if (!value)
                fail_msg("no %s %s", expected[i].what, expected[i].format);
            assert_string_equal(value->unit, expected[i].unit);
            if (value->value < expected[i].low || value->value > expected[i].high)
                fail_msg("%s %s is %g", expected[i].what, expected[i].format, value->value);
        }
        assert_null(value_of(&results, d, "memory", ""));
        uint64_t set = value_of(&results, d, "decode", "q4_0")->working_set_bytes;
        assert_true(set >= 16 * 256 / 2 && set <= 5 << 20);
    }
    device_list_release(&devices);
    probe_results_release(&results);
    assert_nothing_is_left();
}

static void two_devices_on_one_memory_are_measured_together(void **state) {
    (void)state;
    struct error err = { 0 };
    struct device_list devices;
    struct probe_results results;
    if (!pocl[0])
        SKIP_BECAUSE("no PoCL driver here");
    setenv("POCL_DEVICES", "basic pthread", 1);
    use_drivers(only_pocl);
    struct probe_request request = { .quick = true, .shape_count = 1, .numeric = NUMERIC_INT8, .kv_type = KV_F16,
                                     .shapes = { { TENSOR_Q4_0, 512, 1024 } } };
    ASSERT_OK(probe_survey(&request, &devices, &results, &err), err);
    assert_int_equal(devices.count, 2);
    const struct device *pair[2] = { &devices.devices[0], &devices.devices[1] };
    struct together_rates rates;
    ASSERT_OK(probe_together(&request, pair, &rates, &err), err);
    assert_true(rates.is_known);
    for (int i = 0; i < 2; i++)
        assert_true(rates.alone[i] > 1e5 && rates.together[i] > 1e5 && rates.together[i] < 10 * rates.alone[i]);
    assert_nothing_is_left();
    double hop;
    assert_true(probe_hop_shares(pair[0], pair[1]));
    ASSERT_OK(probe_hop(&request, pair, &hop, &err), err);
    assert_true(hop > 1e-7 && hop < 0.1);
    assert_nothing_is_left();
    /* A device that its driver does not have. */
    struct device other = *pair[1];
    other.ordinal = 7;
    pair[1] = &other;
    ASSERT_OK(probe_hop(&request, pair, &hop, &err), err);
    assert_true(hop == 0);
    ASSERT_OK(probe_together(&request, pair, &rates, &err), err);
    assert_false(rates.is_known);
    device_list_release(&devices);
    probe_results_release(&results);
    assert_nothing_is_left();
}

static void a_hopelessly_slow_processor_is_measured_only_where_that_is_asked(void **state) {
    (void)state;
    struct error err = { 0 };
    struct device_list devices;
    struct probe_results results;
    if (!pocl[0])
        SKIP_BECAUSE("no PoCL driver here");
    setenv("POCL_DEVICES", "pthread", 1);
    use_drivers(only_pocl);
    struct probe_request request = { .shape_count = 1, .least_cpu_stream = 1e15 };
    memcpy(request.shapes, small_shapes, sizeof small_shapes);
    ASSERT_OK(probe_survey(&request, &devices, &results, &err), err);
    assert_int_equal(devices.count, 1);
    assert_true(devices.devices[0].usable);
    assert_int_equal(results.devices[0].count, 1);
    assert_non_null(value_of(&results, 0, "stream", ""));
    device_list_release(&devices);
    probe_results_release(&results);
    request.measures_slow = true;
    ASSERT_OK(probe_survey(&request, &devices, &results, &err), err);
    assert_non_null(value_of(&results, 0, "launch", ""));
    device_list_release(&devices);
    probe_results_release(&results);
}

static char progress[4096];

static void note(void *context, const char *what) {
    size_t used = strlen(progress);
    (void)context;
    snprintf(progress + used, sizeof progress - used, "%s\n", what);
}

static void equal_devices_get_ordinals_and_progress_is_told(void **state) {
    (void)state;
    struct error err = { 0 };
    struct device_list devices;
    struct probe_results results;
    if (!pocl[0])
        SKIP_BECAUSE("no PoCL driver here");
    setenv("POCL_DEVICES", "basic pthread basic", 1);
    use_drivers(only_pocl);
    const struct probe_request request = { .quick = true, .progress = note };
    ASSERT_OK(probe_survey(&request, &devices, &results, &err), err);
    assert_int_equal(devices.count, 3);
    assert_string_equal(devices.devices[0].name, devices.devices[1].name);
    for (uint32_t i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof name, "cpu%u", i);
        assert_string_equal(devices.devices[i].short_name, name);
        assert_int_equal(devices.devices[i].ordinal, i == 1);
        assert_string_equal(strrchr(devices.devices[i].icd, '.'), ".icd");
        assert_true(devices.devices[i].usable);
        assert_int_equal(results.devices[i].count, 1);
    }
    assert_non_null(strstr(progress, "pocl.icd: devices\n"));
    assert_non_null(strstr(progress, ": a kernel with a known answer\n"));
    device_list_release(&devices);
    probe_results_release(&results);
}

/* A driver that fails in the middle: cl_trace sits between it and the child. */
static void survey_two_with_failure(const char *failure, double timeout_s, struct device_list *devices) {
    struct error err = { 0 };
    struct probe_results results;
    char library[PATH_MAX + 32];
    setenv("POCL_DEVICES", "basic pthread", 1);
    use_drivers(only_pocl);
    snprintf(library, sizeof library, "%s/cl_trace.so", build_folder);
    setenv("LD_PRELOAD", library, 1);
    setenv("CL_TRACE_FAIL", failure, 1);
    const struct probe_request request = { .quick = true, .timeout_s = timeout_s };
    bool fine = probe_survey(&request, devices, &results, &err);
    unsetenv("LD_PRELOAD");
    unsetenv("CL_TRACE_FAIL");
    ASSERT_OK(fine, err);
    assert_int_equal(devices->count, 2);
    probe_results_release(&results);
    assert_nothing_is_left();
}

static void a_device_that_fails_is_marked_and_the_next_one_tried(void **state) {
    (void)state;
    struct device_list devices;
    if (!pocl[0])
        SKIP_BECAUSE("no PoCL driver here");
    survey_two_with_failure("clEnqueueReadBuffer:1:-36", 0, &devices);
    assert_false(devices.devices[0].usable);
    assert_non_null(strstr(devices.devices[0].reason, "CL_INVALID_COMMAND_QUEUE"));
    assert_true(devices.devices[1].usable);
    device_list_release(&devices);
}

static void a_crash_or_a_hang_over_one_device_is_its_own(void **state) {
    (void)state;
    struct device_list devices;
    if (!pocl[0])
        SKIP_BECAUSE("no PoCL driver here");
    /* the second child, begun behind the first device, dies at the same call */
    survey_two_with_failure("clEnqueueReadBuffer:1:crash", 0, &devices);
    for (uint32_t i = 0; i < 2; i++)
        assert_string_equal(devices.devices[i].reason,
                            "its driver crashed (SIGSEGV) (during: a kernel with a known answer)");
    device_list_release(&devices);
    /* the third read is the second device's: the first one was through */
    survey_two_with_failure("clEnqueueReadBuffer:3:hang", 4, &devices);
    assert_true(devices.devices[0].usable);
    assert_false(devices.devices[1].usable);
    assert_string_equal(devices.devices[1].reason,
                        "its driver hung: no answer within 8 s (during: a kernel with a known answer)");
    device_list_release(&devices);
}

/* ---- aliases ---- */

static struct device cpu(const char *platform, const char *name, const char *short_name) {
    struct device device = { .type = DEVICE_CPU, .usable = true };
    snprintf(device.platform, sizeof device.platform, "%s", platform);
    snprintf(device.name, sizeof device.name, "%s", name);
    snprintf(device.short_name, sizeof device.short_name, "%s", short_name);
    return device;
}

static void the_slower_platform_of_one_silicon_is_an_alias(void **state) {
    (void)state;
    struct device list[] = {
        cpu("pocl", "basic", "cpu0"), cpu("pocl", "pthread", "cpu1"), cpu("intel", "xeon", "cpu2"),
        cpu("rusticl", "llvmpipe", "cpu3"), cpu("broken", "cpu", "cpu4"),
        cpu("vendor", "card", "gpu0"), cpu("rusticl", "card", "gpu1"), cpu("rusticl", "card", "gpu2"),
    };
    struct probe_value values[] = {
        { .what = "decode", .value = 5 }, { .what = "decode", .value = 20 }, { .what = "decode", .value = 10 },
        { .what = "stream", .value = 1000 }, { .what = "decode", .value = 30 },
        { .what = "stream", .value = 7 }, { .what = "stream", .value = 6 }, { .what = "stream", .value = 9 },
    };
    struct probe_measured measured[8];
    for (int i = 0; i < 8; i++)
        measured[i] = (struct probe_measured){ &values[i], 1 };
    list[4].usable = false;
    for (int i = 5; i < 8; i++) {
        list[i].type = DEVICE_GPU;
        snprintf(list[i].pci, sizeof list[i].pci, "0000:0%d:00.0", i < 7 ? 1 : 2);
    }
    struct device_list devices = { list, 8 };
    struct probe_results results = { measured, 8 };
    snprintf(list[3].alias_of, sizeof list[3].alias_of, "old");
    probe_mark_aliases(&devices, &results);
    /* cpu0 is slower than cpu2, but its platform has cpu1; cpu3 has only a "stream", which
     * the others lack: that wins over none */
    static const char *const expected[] = { "cpu3", "cpu3", "cpu3", "", "", "", "gpu0", "" };
    for (int i = 0; i < 8; i++)
        assert_string_equal(list[i].alias_of, expected[i]);

    snprintf(values[3].what, sizeof values[3].what, "decode");
    values[3].value = 0.1;
    probe_mark_aliases(&devices, &results);
    static const char *const measured_all[] = { "", "", "cpu1", "cpu1", "", "", "gpu0", "" };
    for (int i = 0; i < 8; i++)
        assert_string_equal(list[i].alias_of, measured_all[i]);
}

/* ---- the protocol ---- */

static void a_request_and_messages_survive_the_way(void **state) {
    (void)state;
    struct error err = { 0 };
    struct probe_request request = { .quick = false, .shape_count = 4, .token_bytes = 123456789012,
                                     .numeric = NUMERIC_INT8, .kv_type = KV_F16, .head_count = 32,
                                     .kv_head_count = 8, .head_dim = 96, .prefill_tokens = 64,
                                     .together = { .start_s = 12345.678, .turn = 1, .identity = "a|b|\"c\"" } }, back;
    memcpy(request.shapes, small_shapes, sizeof small_shapes);
    snprintf(request.programs.store, sizeof request.programs.store, "plans.db");
    request.programs.packed_types[TENSOR_Q4_0] = request.programs.gemm_types[TENSOR_F16] = true;
    char *text = probe_request_text(&request);
    assert_non_null(text);
    ASSERT_OK(probe_request_read(text, &back, &err), err);
    free(text);
    assert_memory_equal(&back.programs, &request.programs, sizeof back.programs);
    assert_int_equal(back.shape_count, 4);
    assert_memory_equal(back.shapes, request.shapes, 4 * sizeof *back.shapes);
    assert_true(back.token_bytes == request.token_bytes && back.numeric == NUMERIC_INT8 &&
                back.kv_type == KV_F16 && back.head_count == 32 && back.kv_head_count == 8 &&
                back.head_dim == 96 && back.prefill_tokens == 64 && !back.quick);
    assert_true(back.together.start_s == 12345.678 && back.together.turn == 1);
    assert_string_equal(back.together.identity, request.together.identity);

    struct probe_message sent = { .event = PROBE_DEVICE, .device = cpu("a \"b\"", "c\\d", "") }, got;
    sent.device.alignment = 128;
    sent.device.memory_bytes = (uint64_t)5 << 40;
    sent.device.is_cpu_pool = true;
    text = probe_message_text(&sent);
    ASSERT_OK(probe_message_read(text, strlen(text), &got, &err), err);
    free(text);
    assert_int_equal(got.event, PROBE_DEVICE);
    assert_memory_equal(&got.device, &sent.device, sizeof got.device);

    sent = (struct probe_message){ .event = PROBE_VALUE, .value = { "decode", "q4_0", 77, 1.5e10, "B/s" } };
    text = probe_message_text(&sent);
    ASSERT_OK(probe_message_read(text, strlen(text), &got, &err), err);
    free(text);
    assert_memory_equal(&got.value, &sent.value, sizeof got.value);

    /* Cut in the middle of the last character. */
    sent = (struct probe_message){ .event = PROBE_END, .reason = "no room for 'Gr\xc3\xb6\xc3" };
    text = probe_message_text(&sent);
    assert_non_null(text);
    ASSERT_OK(probe_message_read(text, strlen(text), &got, &err), err);
    free(text);
    assert_string_equal(got.reason, "no room for 'Gr\xc3\xb6?");
}

static void nonsense_from_a_child_is_refused(void **state) {
    (void)state;
    static const char *const lines[] = {
        "", "x", "[]", "{}", "{\"event\": 3}", "{\"event\": \"party\"}", "{\"event\": \"begin\", \"index\": -1}",
        "{\"event\": \"value\", \"what\": \"decode\", \"value\": -2}",
        "{\"event\": \"value\", \"what\": \"decode\"}",
        "{\"event\": \"device\", \"name\": \"a\", \"type\": \"toaster\", \"alignment\": 64}",
        "{\"event\": \"device\", \"name\": \"\", \"type\": \"cpu\", \"alignment\": 64}",
        "{\"event\": \"device\", \"name\": \"a\", \"type\": \"cpu\", \"alignment\": 96}",
        "{\"event\": \"device\", \"name\": \"a\", \"type\": \"cpu\", \"alignment\": 64, \"memory\": \"much\"}",
    };
    struct probe_message message;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct error err = { 0 };
        if (probe_message_read(lines[i], strlen(lines[i]), &message, &err))
            fail_msg("'%s' was accepted", lines[i]);
        assert_int_equal(err.kind, ERROR_FAILED);
    }
}

static int survey_alone(void) {
    struct device_list devices;
    struct probe_results results;
    const struct probe_request request = { .quick = true, .timeout_s = 60 };
    return !probe_survey(&request, &devices, &results, NULL);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "__probe"))
        return probe_child_main(argc, argv);
    if (argc > 1 && !strcmp(argv[1], "--survey"))
        return survey_alone();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_driver_that_crashes_or_hangs_is_marked_and_the_rest_is_found),
        cmocka_unit_test(a_machine_without_drivers_has_no_devices),
        cmocka_unit_test(a_driver_named_twice_counts_once),
        cmocka_unit_test(an_interrupt_ends_a_survey_at_once),
        cmocka_unit_test(children_die_with_a_killed_parent),
        cmocka_unit_test(a_working_device_is_measured),
        cmocka_unit_test(two_devices_on_one_memory_are_measured_together),
        cmocka_unit_test(a_hopelessly_slow_processor_is_measured_only_where_that_is_asked),
        cmocka_unit_test(equal_devices_get_ordinals_and_progress_is_told),
        cmocka_unit_test(a_device_that_fails_is_marked_and_the_next_one_tried),
        cmocka_unit_test(a_crash_or_a_hang_over_one_device_is_its_own),
        cmocka_unit_test(the_slower_platform_of_one_silicon_is_an_alias),
        cmocka_unit_test(a_request_and_messages_survive_the_way),
        cmocka_unit_test(nonsense_from_a_child_is_refused),
    };
    struct error err = { 0 };
    char **paths;
    uint32_t count;
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length < 0 || !opencl_list_icds(&paths, &count, &err))
        return 1;
    for (uint32_t i = 0; i < count; i++) {
        if (strstr(paths[i], "pocl"))
            snprintf(pocl, sizeof pocl, "%s", paths[i]);
        free(paths[i]);
    }
    free(paths);
    snprintf(build_folder, sizeof build_folder, "%.*s", (int)(strrchr(self, '/') - self), self);
    snprintf(temporary, sizeof temporary, "%s/tmp", test_folder());
    if (mkdir(temporary, 0700) != 0)
        return 1;
    setenv("TMPDIR", temporary, 1);
    /* for children of a sanitized build: crash as others do, bear cl_trace before you */
    setenv("ASAN_OPTIONS", "verify_asan_link_order=0:handle_segv=0", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
