/* The test starts itself again as a small OpenCL program under LD_PRELOAD and reads
 * what cl_trace wrote about it. */
#include "tests/support.h"

#include "common/json.h"
#include "common/opencl.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BIG = 4096, SMALL = 1000, NEVER_USED = 300, FIRST_ARGUMENT = 8192, SECOND_ARGUMENT = 1024 };

/* ---- the program that is watched ---- */

static const char source[] =
    "kernel void add(global int *x, global const int *y) { x[get_global_id(0)] += y[get_global_id(0)]; }\n";

/* Exit 0: all went well; 10 + n: step n failed as the driver would. */
static int program(void) {
    struct error err = { 0 };
    struct opencl_devices found;
    cl_int code;
    if (!opencl_enumerate(&found, NULL, &err) || !found.count)
        return 77;
    cl_device_id ids[2] = { found.devices[0].id, found.devices[0].id };
    for (uint32_t i = 1; i < found.count; i++)
        if (found.devices[i].platform == found.devices[0].platform)
            ids[1] = found.devices[i].id;
    cl_context context = opencl_context(ids, ids[0] == ids[1] ? 1 : 2, &err);
    if (!context)
        return 10;
    cl_command_queue first = opencl_queue(context, ids[0], &err);
    cl_command_queue second = opencl_queue(context, ids[1], &err);
    if (!first || !second)
        return 11;

    /* One buffer for each way of being used, and one for none. */
    char bytes[BIG] = { 0 };
    cl_mem written = clCreateBuffer(context, CL_MEM_READ_WRITE, BIG, NULL, &code);
    cl_mem read = code ? NULL : clCreateBuffer(context, CL_MEM_USE_HOST_PTR, SMALL, bytes, &code);
    cl_mem x = code ? NULL : clCreateBuffer(context, CL_MEM_READ_WRITE, FIRST_ARGUMENT, NULL, &code);
    cl_mem y = code ? NULL : clCreateBuffer(context, CL_MEM_READ_WRITE, SECOND_ARGUMENT, NULL, &code);
    cl_mem unused = code ? NULL : clCreateBuffer(context, CL_MEM_READ_WRITE, NEVER_USED, NULL, &code);
    if (code != CL_SUCCESS) {
        printf("%s", opencl_error_name(code));
        return 12;
    }
    cl_buffer_region region = { 0, SECOND_ARGUMENT };
    cl_mem part = clCreateSubBuffer(x, CL_MEM_READ_WRITE, CL_BUFFER_CREATE_TYPE_REGION, &region, &code);

    const char *text = source;
    cl_program built = clCreateProgramWithSource(context, 1, &text, NULL, &code);
    if (clBuildProgram(built, 0, NULL, "", NULL, NULL) != CL_SUCCESS)
        return 13;
    cl_kernel kernel = clCreateKernel(built, "add", &code);
    clSetKernelArg(kernel, 0, sizeof part, &part);
    clSetKernelArg(kernel, 1, sizeof y, &y);

    cl_event event = NULL;
    char target[SMALL];
    size_t global = SECOND_ARGUMENT / sizeof (int);
    clEnqueueWriteBuffer(first, written, CL_FALSE, 0, BIG, bytes, 0, NULL, &event);
    clEnqueueReadBuffer(second, read, CL_TRUE, 0, SMALL, target, 0, NULL, NULL);
    if (clEnqueueNDRangeKernel(second, kernel, 1, NULL, &global, NULL, 0, NULL, NULL) != CL_SUCCESS)
        return 14;
    clEnqueueReadBuffer(first, x, CL_FALSE, 0, SMALL, target, 0, NULL, NULL);  /* not the first use */
    clWaitForEvents(1, &event);
    if (clFinish(first) != CL_SUCCESS || clFinish(second) != CL_SUCCESS)
        return 15;

    clReleaseEvent(event);
    clRetainKernel(kernel);
    clReleaseKernel(kernel);
    clReleaseKernel(kernel);
    clReleaseProgram(built);
    clReleaseMemObject(part);
    clReleaseMemObject(x);
    clReleaseMemObject(read);
    clReleaseMemObject(written);
    clReleaseMemObject(unused);          /* y is left to the trace to find */
    clReleaseCommandQueue(second);
    clReleaseCommandQueue(first);
    clReleaseContext(context);
    opencl_devices_release(&found);
    return 0;
}

/* ---- running it ---- */

static char self[PATH_MAX], library[PATH_MAX + 32], totals[PATH_MAX], lines[PATH_MAX];

/* The exit status of the program; its output in `said`. */
static int watch(const char *fail, char said[256]) {
    char command[4 * PATH_MAX];
    snprintf(command, sizeof command,
             "LD_PRELOAD='%s' ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0 CL_TRACE_OUT='%s' "
             "CL_TRACE_LOG='%s' CL_TRACE_FAIL='%s' exec '%s' --program",
             library, totals, lines, fail, self);
    remove(totals);
    remove(lines);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    said[fread(said, 1, 255, pipe)] = '\0';
    int status = pclose(pipe);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        SKIP_BECAUSE("no OpenCL device here");
    return WEXITSTATUS(status);
}

static json_t *read_totals(void) {
    struct error err = { 0 };
    json_t *root = json_read_file(totals, 1 << 20, &err);
    ASSERT_OK(root, err);
    return root;
}

/* The number under a path such as "objects.memory.live". */
static long long number(const json_t *root, const char *path) {
    char key[64];
    const json_t *value = root;
    while (*path) {
        size_t length = strcspn(path, ".");
        snprintf(key, sizeof key, "%.*s", (int)length, path);
        value = json_is_array(value) ? json_array_get(value, (size_t)atoi(key))
                                     : json_object_get(value, key);
        path += length + (path[length] == '.');
    }
    if (!json_is_integer(value))
        fail_msg("no number there");
    return json_integer_value(value);
}

static void calls_objects_and_waits_are_counted(void **state) {
    (void)state;
    char said[256];
    assert_int_equal(watch("", said), 0);
    json_t *root = read_totals();
    const struct { const char *path; long long value; } expected[] = {
        { "program_builds", 1 }, { "finishes", 2 }, { "event_waits", 1 }, { "blocking_commands", 1 },
        { "refused", 0 }, { "calls.clCreateBuffer", 5 }, { "calls.clSetKernelArg", 2 },
        { "objects.context.created", 1 }, { "objects.context.live", 0 },
        { "objects.queue.created", 2 }, { "objects.queue.live", 0 },
        { "objects.memory.created", 6 }, { "objects.memory.released", 5 }, { "objects.memory.live", 1 },
        { "objects.program.live", 0 }, { "objects.kernel.created", 1 }, { "objects.kernel.live", 0 },
        { "objects.event.created", 1 }, { "objects.event.live", 0 },
    };
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        if (number(root, expected[i].path) != expected[i].value)
            fail_msg("%s is %lld, not %lld", expected[i].path, number(root, expected[i].path),
                     expected[i].value);
    json_decref(root);
}

static void bytes_go_to_the_device_that_uses_them_first(void **state) {
    (void)state;
    char said[256];
    assert_int_equal(watch("", said), 0);
    json_t *root = read_totals();
    if (json_array_size(json_object_get(root, "devices")) != 2) {
        json_decref(root);
        SKIP_BECAUSE("this machine's drivers offer one device only");
    }
    assert_int_equal(number(root, "devices.0.bytes"), BIG);
    assert_int_equal(number(root, "devices.0.bytes_written"), BIG);
    assert_int_equal(number(root, "devices.0.bytes_read"), SMALL);
    assert_int_equal(number(root, "devices.0.launches"), 0);
    /* a host pointer, an argument by a sub-buffer, an argument */
    assert_int_equal(number(root, "devices.1.bytes"), SMALL + FIRST_ARGUMENT + SECOND_ARGUMENT);
    assert_int_equal(number(root, "devices.1.host_pointer_bytes"), SMALL);
    assert_int_equal(number(root, "devices.1.peak_bytes"), SMALL + FIRST_ARGUMENT + SECOND_ARGUMENT);
    assert_int_equal(number(root, "devices.1.live_bytes"), SECOND_ARGUMENT);
    assert_int_equal(number(root, "devices.1.launches"), 1);
    assert_int_equal(number(root, "unattributed.bytes"), NEVER_USED);
    assert_int_equal(number(root, "contexts.0.peak_bytes"),
                     BIG + SMALL + NEVER_USED + FIRST_ARGUMENT + SECOND_ARGUMENT);
    json_decref(root);
}

static void the_log_has_a_line_for_each_call_in_order(void **state) {
    (void)state;
    char said[256], line[512];
    assert_int_equal(watch("", said), 0);
    FILE *file = fopen(lines, "r");
    assert_non_null(file);
    int number_before = 0, launches = 0, finishes = 0;
    while (fgets(line, sizeof line, file)) {
        int this_number = 0;
        char name[64] = "";
        assert_int_equal(sscanf(line, "%d %*d %63s", &this_number, name), 2);
        assert_int_equal(this_number, number_before + 1);
        number_before = this_number;
        if (!strcmp(name, "clEnqueueNDRangeKernel")) {
            assert_non_null(strstr(line, " name=add "));
            assert_int_equal(finishes, 0);
            launches++;
        }
        finishes += !strcmp(name, "clFinish");
    }
    fclose(file);
    assert_int_equal(launches, 1);
    assert_int_equal(finishes, 2);
}

static void a_call_fails_when_it_was_told_to(void **state) {
    (void)state;
    char said[256];
    assert_int_equal(watch("clCreateBuffer:3", said), 12);
    assert_string_equal(said, "CL_MEM_OBJECT_ALLOCATION_FAILURE");
    json_t *root = read_totals();
    assert_int_equal(number(root, "refused"), 1);
    assert_int_equal(number(root, "objects.memory.created"), 2);
    json_decref(root);
    assert_int_equal(watch("clCreateBuffer:5:-6", said), 12);
    assert_string_equal(said, "CL_OUT_OF_HOST_MEMORY");
    assert_int_equal(watch("clBuildProgram:1", said), 13);
    assert_int_equal(watch("clCreateBuffer:9,clEnqueueNDRangeKernel:1+", said), 14);
    assert_int_equal(watch("clFinish:2+", said), 15);
    assert_int_equal(watch("clFinish:3+", said), 0);
    assert_int_equal(watch("clFinish:3:crash,clFlush:1:hang", said), 0);
}

static void a_mistake_in_the_list_ends_the_program(void **state) {
    (void)state;
    char said[256];
    assert_int_equal(watch("clCreateBufer:1", said), 125);
    assert_int_equal(watch("clFinish:0", said), 125);
    assert_int_equal(watch("clFinish", said), 125);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "--program"))
        return program();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_objects_and_waits_are_counted),
        cmocka_unit_test(bytes_go_to_the_device_that_uses_them_first),
        cmocka_unit_test(the_log_has_a_line_for_each_call_in_order),
        cmocka_unit_test(a_call_fails_when_it_was_told_to),
        cmocka_unit_test(a_mistake_in_the_list_ends_the_program),
    };
    struct error err = { 0 };
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length < 0)
        return 1;
    snprintf(library, sizeof library, "%.*s/cl_trace.so", (int)(strrchr(self, '/') - self), self);
    snprintf(totals, sizeof totals, "%s/totals.json", test_folder());
    snprintf(lines, sizeof lines, "%s/log", test_folder());
    setenv("POCL_DEVICES", "basic pthread", 1);
    if (!opencl_choose_icds(NULL, 0, &err)) {   /* a cache for PoCL; no call is made here */
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    opencl_shutdown();
    return failures;
}
