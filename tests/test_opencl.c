#include "tests/support.h"

#include "common/opencl.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Every case that needs a driver runs on what main() chose: PoCL alone, as two
 * equal devices and a third one. */
static const char *pocl;

static void write_file(const char *path, const char *content) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(content, file);
    fclose(file);
}

/* A variable's value, to be put back: NULL where it was not set. */
static char *saved(const char *name) {
    return getenv(name) ? strdup(getenv(name)) : NULL;
}

static void put_back(const char *name, char *value) {
    if (value)
        setenv(name, value, 1);
    else
        unsetenv(name);
    free(value);
}

static void a_code_is_named_in_the_sentence(void **state) {
    (void)state;
    struct error err = { 0 };
    assert_false(opencl_failed(&err, CL_OUT_OF_RESOURCES, "cannot queue '%s'", "rms_norm"));
    assert_string_equal(err.text, "cannot queue 'rms_norm': CL_OUT_OF_RESOURCES (-5)");
    assert_string_equal(opencl_error_name(CL_PLATFORM_NOT_FOUND_KHR), "CL_PLATFORM_NOT_FOUND_KHR");
    assert_non_null(opencl_error_name(-31337));
}

static void drivers_are_listed_as_the_loader_would_read_them(void **state) {
    (void)state;
    struct error err = { 0 };
    char folder[PATH_MAX], b[PATH_MAX + 16], a[PATH_MAX + 16], other[PATH_MAX + 16];
    char *before = saved("OCL_ICD_VENDORS");
    snprintf(folder, sizeof folder, "%s/vendors", test_folder());
    assert_int_equal(mkdir(folder, 0700), 0);
    snprintf(b, sizeof b, "%s/b.icd", folder);
    snprintf(a, sizeof a, "%s/a.icd", folder);
    snprintf(other, sizeof other, "%s/readme.txt", folder);
    write_file(b, "libb.so\n");
    write_file(a, "liba.so\n");
    write_file(other, "x");

    const struct { const char *vendors, *path; uint32_t count; const char *first; } cases[] = {
        { folder, NULL, 2, a },                      /* a folder */
        { b, NULL, 1, b },                           /* a file */
        { "b.icd", folder, 1, b },                   /* a file beside the others */
        { "libalone.so", folder, 1, "libalone.so" }, /* a library by itself */
        { "", folder, 2, a },                        /* empty is unset */
        { "", "/nowhere/at/all", 0, NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char **paths;
        uint32_t count;
        setenv("OCL_ICD_VENDORS", cases[i].vendors, 1);
        if (cases[i].path)
            setenv("OPENCL_VENDOR_PATH", cases[i].path, 1);
        ASSERT_OK(opencl_list_icds(&paths, &count, &err), err);
        assert_int_equal(count, cases[i].count);
        if (count)
            assert_string_equal(paths[0], cases[i].first);
        opencl_free_icds(paths, count);
    }
    unsetenv("OPENCL_VENDOR_PATH");
    put_back("OCL_ICD_VENDORS", before);
}

static void an_icd_folder_holds_links_and_wrapped_libraries(void **state) {
    (void)state;
    struct error err = { 0 };
    char folder[PATH_MAX], path[PATH_MAX + 16], line[64] = "";
    const char *const drivers[] = { "/etc/OpenCL/vendors/some.icd", "libalone.so" };
    ASSERT_OK(opencl_make_icd_folder(drivers, 2, folder, &err), err);
    snprintf(path, sizeof path, "%s/000.icd", folder);
    char target[PATH_MAX] = "";
    assert_true(readlink(path, target, sizeof target - 1) > 0);
    assert_string_equal(target, drivers[0]);
    snprintf(path, sizeof path, "%s/001.icd", folder);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof line, file));
    fclose(file);
    assert_string_equal(line, "libalone.so\n");
    snprintf(path, sizeof path, "%s", folder);
    opencl_remove_icd_folder(folder);
    assert_string_equal(folder, "");
    assert_int_equal(access(path, F_OK), -1);
    opencl_remove_icd_folder(folder);
}

static void what_was_arranged_is_given_back(void **state) {
    (void)state;
    struct error err = { 0 };
    char *vendors = saved("OCL_ICD_VENDORS"), *cache = saved("POCL_CACHE_DIR"), *home = saved("HOME");
    opencl_shutdown();
    setenv("OCL_ICD_VENDORS", "/nowhere", 1);
    setenv("OPENCL_VENDOR_PATH", "/nowhere", 1);
    assert_string_equal(opencl_selecting_variable(), "OCL_ICD_VENDORS");
    unsetenv("OCL_ICD_VENDORS");
    assert_string_equal(opencl_selecting_variable(), "OPENCL_VENDOR_PATH");
    unsetenv("OPENCL_VENDOR_PATH");
    assert_null(opencl_selecting_variable());
    unsetenv("POCL_CACHE_DIR");
    unsetenv("XDG_CACHE_HOME");
    setenv("HOME", "/proc/nowhere", 1);    /* no place for a cache: a temporary one */
    const char *const drivers[] = { "/etc/OpenCL/vendors/some.icd" };
    ASSERT_OK(opencl_choose_icds(drivers, 1, &err), err);
    char folder[PATH_MAX], temporary[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", getenv("OCL_ICD_VENDORS"));
    snprintf(temporary, sizeof temporary, "%s", getenv("POCL_CACHE_DIR"));
    assert_int_equal(access(folder, F_OK), 0);
    assert_int_equal(access(temporary, W_OK), 0);
    assert_null(opencl_selecting_variable());   /* it is the program's now */
    opencl_shutdown();
    opencl_shutdown();
    assert_null(getenv("OCL_ICD_VENDORS"));
    assert_null(getenv("POCL_CACHE_DIR"));
    assert_int_equal(access(folder, F_OK), -1);
    assert_int_equal(access(temporary, F_OK), -1);

    /* With a cache folder of the user's it is used and stays. */
    char expected[PATH_MAX + 16];
    setenv("XDG_CACHE_HOME", test_folder(), 1);
    ASSERT_OK(opencl_choose_icds(NULL, 0, &err), err);
    snprintf(expected, sizeof expected, "%s/phi/pocl", test_folder());
    assert_string_equal(getenv("POCL_CACHE_DIR"), expected);
    assert_null(getenv("OCL_ICD_VENDORS"));
    opencl_shutdown();
    assert_int_equal(access(expected, W_OK), 0);

    unsetenv("XDG_CACHE_HOME");
    put_back("OCL_ICD_VENDORS", vendors);
    put_back("POCL_CACHE_DIR", cache);
    put_back("HOME", home);
}

static void equal_devices_differ_by_ordinal_and_are_found_again(void **state) {
    (void)state;
    struct error err = { 0 };
    struct opencl_devices found;
    if (!pocl)
        SKIP_BECAUSE("no PoCL driver here");
    ASSERT_OK(opencl_enumerate(&found, pocl, &err), err);
    if (found.count != 3) {
        opencl_devices_release(&found);
        SKIP_BECAUSE("this PoCL does not know the drivers basic and pthread");
    }
    /* in the order of POCL_DEVICES; the names follow the sorted identities */
    const struct { const char *stem; uint32_t ordinal; const char *name; } expected[] = {
        { "basic", 0, "cpu0" }, { "basic", 1, "cpu1" }, { "pthread", 0, "cpu2" },
    };
    for (uint32_t i = 0; i < 3; i++) {
        const struct device *info = &found.devices[i].info;
        assert_int_equal(strncmp(info->name, expected[i].stem, strlen(expected[i].stem)), 0);
        assert_int_equal(info->ordinal, expected[i].ordinal);
        assert_string_equal(info->short_name, expected[i].name);
        assert_string_equal(info->icd, pocl);
        assert_int_equal(info->type, DEVICE_CPU);
        assert_true(info->usable && info->is_cpu_pool && info->unified_memory);
        assert_true(info->memory_bytes >= info->max_buffer_bytes && info->max_buffer_bytes > 0);
        assert_true(info->alignment >= 64 && info->compute_units > 0);
        assert_true(info->driver[0] && info->version[0] && info->platform[0]);
        assert_ptr_equal(opencl_find(&found, info), &found.devices[i]);
    }
    struct device stranger = found.devices[0].info;
    stranger.ordinal = 7;
    assert_null(opencl_find(&found, &stranger));
    stranger = found.devices[0].info;
    snprintf(stranger.driver, sizeof stranger.driver, "of tomorrow");
    assert_ptr_equal(opencl_find(&found, &stranger), &found.devices[0]);
    opencl_devices_release(&found);
}

static void one_context_serves_the_devices_of_a_platform(void **state) {
    (void)state;
    struct error err = { 0 };
    struct opencl_devices found;
    if (!pocl)
        SKIP_BECAUSE("no PoCL driver here");
    ASSERT_OK(opencl_enumerate(&found, NULL, &err), err);
    cl_device_id ids[8];
    uint32_t count = found.count < 8 ? found.count : 8;
    for (uint32_t i = 0; i < count; i++)
        ids[i] = found.devices[i].id;
    cl_context context = opencl_context(ids, count, &err);
    ASSERT_OK(context, err);
    for (uint32_t i = 0; i < count; i++) {
        cl_command_queue queue = opencl_queue(context, ids[i], &err);
        ASSERT_OK(queue, err);
        const cl_uint written = 0x1234567 + i;
        cl_uint back = 0;
        cl_int code;
        cl_mem buffer = clCreateBuffer(context, CL_MEM_READ_WRITE, sizeof written, NULL, &code);
        assert_int_equal(code, CL_SUCCESS);
        clEnqueueWriteBuffer(queue, buffer, CL_FALSE, 0, sizeof written, &written, 0, NULL, NULL);
        clEnqueueReadBuffer(queue, buffer, CL_TRUE, 0, sizeof back, &back, 0, NULL, NULL);
        assert_int_equal(back, written);
        clReleaseMemObject(buffer);
        clReleaseCommandQueue(queue);
    }
    clReleaseContext(context);
    assert_null(opencl_context(NULL, 0, &err));
    assert_non_null(strstr(err.text, "CL_INVALID_VALUE"));
    opencl_devices_release(&found);
}

/* Sanitizers and drivers disagree about what leaks inside LLVM: only PoCL here. */
static const char *choose_pocl(void) {
    static char path[PATH_MAX];
    struct error err = { 0 };
    char **paths;
    uint32_t count;
    setenv("POCL_DEVICES", "basic basic pthread", 1);
    if (!opencl_list_icds(&paths, &count, &err))
        return NULL;
    for (uint32_t i = 0; i < count; i++)
        if (strstr(paths[i], "pocl"))
            snprintf(path, sizeof path, "%s", paths[i]);
    opencl_free_icds(paths, count);
    const char *chosen = path;
    if (!path[0] || !opencl_choose_icds(&chosen, 1, &err))
        return NULL;
    return path;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_code_is_named_in_the_sentence),
        cmocka_unit_test(drivers_are_listed_as_the_loader_would_read_them),
        cmocka_unit_test(an_icd_folder_holds_links_and_wrapped_libraries),
        cmocka_unit_test(equal_devices_differ_by_ordinal_and_are_found_again),
        cmocka_unit_test(one_context_serves_the_devices_of_a_platform),
        /* last: the drivers are loaded by now, and it removes their folder */
        cmocka_unit_test(what_was_arranged_is_given_back),
    };
    pocl = choose_pocl();
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    opencl_shutdown();
    return failures;
}
