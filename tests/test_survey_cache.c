#include "tests/support.h"

#include "planner/survey_cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char vendors[4096];

static void write_file(const char *folder, const char *name, const char *content) {
    char path[8192];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(content, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* A machine of its own: one .icd file, an empty cache. */
static int new_machine(void **state) {
    static unsigned count;
    char cache[4096];
    (void)state;
    snprintf(vendors, sizeof vendors, "%s/vendors%u", test_folder(), count);
    snprintf(cache, sizeof cache, "%s/cache%u", test_folder(), count++);
    if (mkdir(vendors, 0700) || setenv("OCL_ICD_VENDORS", vendors, 1) || setenv("XDG_CACHE_HOME", cache, 1))
        return -1;
    write_file(vendors, "one.icd", "libone.so\n");
    return unsetenv("POCL_DEVICES");
}

static struct device example(void) {
    return (struct device){ .platform = "A", .vendor_id = 0x10de, .name = "b \"quoted\"", .type = DEVICE_IGPU,
        .uuid = "00112233445566778899aabbccddeeff", .pci = "0000:03:00.0", .ordinal = 1, .icd = "/x/one.icd",
        .short_name = "igpu0", .driver = "1.2", .version = "OpenCL 3.0", .memory_bytes = 1ull << 40,
        .max_buffer_bytes = 7, .alignment = 512, .compute_units = 3, .unified_memory = true, .is_cpu_pool = true,
        .usable = false, .reason = "wrong answer", .alias_of = "gpu0" };
}

static void a_survey_comes_back_as_it_was(void **state) {
    (void)state;
    struct device device = example();
    struct device_list saved = { &device, 1 }, loaded;
    assert_false(survey_cache_load(&loaded));
    survey_cache_save(&saved);
    assert_true(survey_cache_load(&loaded));
    assert_int_equal(loaded.count, 1);
    assert_memory_equal(&loaded.devices[0], &device, sizeof device);
    device_list_release(&loaded);
}

static void a_changed_machine_was_never_surveyed(void **state) {
    (void)state;
    struct device device = example();
    struct device_list saved = { &device, 1 }, loaded;
    survey_cache_save(&saved);
    assert_int_equal(setenv("POCL_DEVICES", "pthread basic", 1), 0);
    assert_false(survey_cache_load(&loaded));
    assert_int_equal(unsetenv("POCL_DEVICES"), 0);
    assert_true(survey_cache_load(&loaded));
    device_list_release(&loaded);
    write_file(vendors, "two.icd", "libtwo.so\n");
    assert_false(survey_cache_load(&loaded));
}

/* Overwrite the one file that there is. */
static void damage(const char *content) {
    char command[8192];
    const char *cache = getenv("XDG_CACHE_HOME");
    assert_non_null(cache);
    snprintf(command, sizeof command, "for f in '%s'/phi/devices-*.json; do printf '%%s' '%s' > \"$f\"; done", cache,
             content);
    assert_int_equal(system(command), 0);
}

static void a_damaged_file_is_as_good_as_none(void **state) {
    (void)state;
    static const char *const contents[] = {
        "", "{", "{}", "[1]", "[{}]", "[{\"platform\": 5}]", "null",
    };
    struct device device = example();
    struct device_list saved = { &device, 1 }, loaded;
    for (size_t i = 0; i < sizeof contents / sizeof *contents; i++) {
        survey_cache_save(&saved);
        damage(contents[i]);
        assert_false(survey_cache_load(&loaded));
        assert_int_equal(loaded.count, 0);
    }
    /* An alignment that sizes could not be rounded to. */
    device.alignment = 3;
    survey_cache_save(&saved);
    assert_false(survey_cache_load(&loaded));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_survey_comes_back_as_it_was, new_machine),
        cmocka_unit_test_setup(a_changed_machine_was_never_surveyed, new_machine),
        cmocka_unit_test_setup(a_damaged_file_is_as_good_as_none, new_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
