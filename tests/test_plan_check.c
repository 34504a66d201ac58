#include "tests/support.h"

#include "runtime/plan_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A plan with one block on each of two devices, and a machine that has both. */
struct fixture {
    struct plan *plan;
    struct opencl_device devices[2];
    struct opencl_devices present;
};

static int set_up(void **state) {
    static struct fixture fixture;
    memset(&fixture, 0, sizeof fixture);
    fixture.plan = plan_new();
    fixture.plan->unit_count = 4;
    for (uint32_t i = 0; i < 2; i++) {
        struct device *device = &fixture.devices[i].info;
        snprintf(device->platform, sizeof device->platform, "platform");
        snprintf(device->name, sizeof device->name, "device %u", i);
        snprintf(device->short_name, sizeof device->short_name, "cpu%u", i);
        snprintf(device->driver, sizeof device->driver, "3.1");
        device->type = DEVICE_CPU;
        device->memory_bytes = 1 << 30;
        fixture.plan->devices[i].device = *device;
        fixture.plan->devices[i].weight_bytes = 512 << 20;
    }
    fixture.plan->device_count = 2;
    for (uint32_t unit = 0; unit < 4; unit++) {
        struct shard shard = { .unit = unit, .device = unit == 0 ? PLAN_HOST : unit > 1,
                               .part_end = 1, .format = "keep" };
        struct error err = { 0 };
        ASSERT_OK(plan_add_shard(fixture.plan, &shard, &err), err);
    }
    unsetenv("POCL_DEVICES");
    plan_record_environment(fixture.plan);
    fixture.present = (struct opencl_devices){ fixture.devices, 2 };
    *state = &fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    plan_free(fixture->plan);
    return 0;
}

static void expect_stale(struct fixture *fixture, const char *field, const char *old, const char *new) {
    struct error err = { 0 };
    assert_false(plan_check(fixture->plan, &fixture->present, &err));
    assert_int_equal(err.kind, ERROR_STALE);
    if (!strstr(err.text, field) || !strstr(err.text, old) || !strstr(err.text, new))
        fail_msg("%s", err.text);
}

static void the_same_machine_passes(void **state) {
    struct fixture *fixture = *state;
    struct error err = { 0 };
    ASSERT_OK(plan_check(fixture->plan, &fixture->present, &err), err);
    assert_true(plan_devices_present(fixture->plan, &fixture->present));
}

static void another_driver_is_named_with_both_versions(void **state) {
    struct fixture *fixture = *state;
    strcpy(fixture->devices[1].info.driver, "4.0");
    expect_stale(fixture, "driver of device cpu1", "'3.1'", "'4.0'");
}

static void a_device_that_is_gone_is_named(void **state) {
    struct fixture *fixture = *state;
    fixture->present.count = 1;
    assert_false(plan_devices_present(fixture->plan, &fixture->present));
    expect_stale(fixture, "device cpu1", "'device 1'", "not there");
}

static void a_device_that_holds_nothing_may_be_gone(void **state) {
    struct fixture *fixture = *state;
    struct error err = { 0 };
    for (uint32_t i = 0; i < fixture->plan->shard_count; i++)
        if (fixture->plan->shards[i].device == 1)
            fixture->plan->shards[i].device = 0;
    fixture->present.count = 1;
    ASSERT_OK(plan_check(fixture->plan, &fixture->present, &err), err);
}

static void memory_that_no_longer_suffices_is_named(void **state) {
    struct fixture *fixture = *state;
    fixture->devices[0].info.memory_bytes = 256 << 20;
    expect_stale(fixture, "memory of device cpu0", "1024 MiB", "256 MiB");
}

static void an_environment_variable_that_changed_is_named(void **state) {
    struct fixture *fixture = *state;
    setenv("POCL_DEVICES", "basic", 1);
    expect_stale(fixture, "POCL_DEVICES", "", "'basic'");
    unsetenv("POCL_DEVICES");
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(the_same_machine_passes),
        WITH_FIXTURE(another_driver_is_named_with_both_versions),
        WITH_FIXTURE(a_device_that_is_gone_is_named),
        WITH_FIXTURE(a_device_that_holds_nothing_may_be_gone),
        WITH_FIXTURE(memory_that_no_longer_suffices_is_named),
        WITH_FIXTURE(an_environment_variable_that_changed_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
