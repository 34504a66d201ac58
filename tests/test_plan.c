#include "tests/support.h"

#include "common/plan_request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct plan *two_block_plan(void) {
    struct plan *plan = plan_new();
    assert_non_null(plan);
    strcpy(plan->name, "default");
    plan->unit_count = 6;
    plan->device_count = 2;
    strcpy(plan->devices[0].device.short_name, "gpu0");
    strcpy(plan->devices[1].device.short_name, "cpu0");
    for (uint32_t unit = 6; unit-- > 0;) {   /* backwards: the plan sorts */
        struct shard shard = { .unit = unit, .device = unit ? (int32_t)(unit / 4) : PLAN_HOST,
                               .part_end = 4, .format = "keep", .weight_bytes = 100 };
        assert_true(plan_add_shard(plan, &shard, NULL));
    }
    return plan;
}

static void refused(struct plan *plan, const char *expected) {
    struct error err = { 0 };
    assert_false(plan_validate(plan, &err));
    assert_int_equal(err.kind, ERROR_FAILED);
    if (!strstr(err.text, expected))
        fail_msg("'%s' does not say '%s'", err.text, expected);
}

static void shards_come_out_sorted_and_the_plan_is_valid(void **state) {
    (void)state;
    struct error err = { 0 };
    struct plan *plan = two_block_plan();
    for (uint32_t i = 0; i < plan->shard_count; i++)
        assert_int_equal(plan->shards[i].unit, i);
    ASSERT_OK(plan_validate(plan, &err), err);
    /* Two slices of one unit, the second added first. */
    plan->shards[3].part_begin = 1;
    struct shard slice = plan->shards[3];
    slice.part_begin = 0;
    slice.part_end = 1;
    slice.device = 0;
    ASSERT_OK(plan_add_shard(plan, &slice, &err), err);
    assert_int_equal(plan->shards[3].part_end, 1);
    assert_int_equal(plan->shards[4].part_end, 4);
    ASSERT_OK(plan_validate(plan, &err), err);
    plan_free(plan);
    plan_free(NULL);
}

static void a_unit_that_is_missing_or_placed_twice_is_named(void **state) {
    (void)state;
    struct plan *plan = two_block_plan();
    plan->shard_count--;
    refused(plan, "unit 'head' of plan 'default' is not placed");
    plan->shard_count++;
    plan->shards[3].part_begin = 1;
    refused(plan, "unit 'attn.1' of plan 'default' is not placed, or not all of it");
    plan->shards[3].part_begin = 0;
    struct shard twice = plan->shards[2];
    assert_true(plan_add_shard(plan, &twice, NULL));
    refused(plan, "unit 'ffn.0' of plan 'default' is placed twice");
    plan->shards[3].part_begin = 3;
    plan->shards[3].part_end = 5;
    refused(plan, "unit 'ffn.0' of plan 'default' is placed twice");
    plan->shards[3].part_begin = 5;
    plan->shards[3].part_end = 6;
    refused(plan, "unit 'ffn.0' of plan 'default' is not placed, or not all");
    plan_free(plan);
}

static void a_place_that_cannot_be_is_refused(void **state) {
    (void)state;
    struct plan *plan = two_block_plan();
    plan->shards[1].device = PLAN_HOST;
    refused(plan, "unit 'attn.0' of plan 'default' is on 'host'; only embed can be there");
    plan->shards[1].device = 2;
    refused(plan, "unit 'attn.0' of plan 'default' is on device 2 of 2");
    plan->shards[1].device = -7;
    refused(plan, "is on device -7");
    plan->shards[1].device = 0;
    plan->shards[2].kv_bytes = 1;
    refused(plan, "unit 'ffn.0' of plan 'default' has KV");
    plan->shards[2].kv_bytes = 0;
    plan->shards[2].part_end = 0;
    refused(plan, "empty shard");
    plan->shards[2].part_end = 4;
    memset(plan->shards[2].format, 'x', sizeof plan->shards[2].format);
    refused(plan, "no weight format");
    strcpy(plan->shards[2].format, "keep");
    plan->shards[5].unit = UINT32_MAX;
    refused(plan, "places unit 4294967295 of 6");
    plan->shards[5].unit = 5;
    strcpy(plan->devices[1].device.short_name, "gpu0");
    refused(plan, "names device 'gpu0' twice");
    plan->unit_count = 7;
    refused(plan, "7 units");
    plan_free(plan);
}

static const struct plan_environment *recorded(const struct plan *plan, const char *name) {
    for (uint32_t i = 0; i < plan->environment_count; i++)
        if (strcmp(plan->environment[i].name, name) == 0)
            return &plan->environment[i];
    return NULL;
}

static void a_changed_variable_makes_the_plan_stale(void **state) {
    (void)state;
    struct plan *plan = two_block_plan();
    struct error err = { 0 };
    setenv("POCL_DEVICES", "pthread basic", 1);
    setenv("POCL_CACHE_DIR", "/somewhere", 1);
    setenv("ODD_VISIBLE_DEVICES", "1", 1);
    unsetenv("DRI_PRIME");
    unsetenv("POCL_MAX_PTHREAD_COUNT");
    plan_record_environment(plan);
    assert_string_equal(recorded(plan, "POCL_DEVICES")->value, "pthread basic");
    assert_string_equal(recorded(plan, "ODD_VISIBLE_DEVICES")->value, "1");
    assert_string_equal(recorded(plan, "DRI_PRIME")->value, "");
    assert_null(recorded(plan, "POCL_CACHE_DIR"));
    for (uint32_t i = 1; i < plan->environment_count; i++)
        assert_true(strcmp(plan->environment[i - 1].name, plan->environment[i].name) < 0);
    ASSERT_OK(plan_check_environment(plan, &err), err);

    setenv("POCL_CACHE_DIR", "/elsewhere", 1);
    ASSERT_OK(plan_check_environment(plan, &err), err);
    setenv("DRI_PRIME", "1", 1);
    assert_false(plan_check_environment(plan, &err));
    assert_int_equal(err.kind, ERROR_STALE);
    assert_string_equal(err.text,
                        "environment variable 'DRI_PRIME' was '' when the plan was made and is '1' now");
    unsetenv("DRI_PRIME");
    setenv("POCL_MAX_PTHREAD_COUNT", "1", 1);   /* of the kind that is recorded only where set */
    assert_false(plan_check_environment(plan, &err));
    assert_non_null(strstr(err.text, "'POCL_MAX_PTHREAD_COUNT' was ''"));
    unsetenv("POCL_MAX_PTHREAD_COUNT");
    unsetenv("ODD_VISIBLE_DEVICES");
    assert_false(plan_check_environment(plan, &err));
    assert_non_null(strstr(err.text, "'ODD_VISIBLE_DEVICES' was '1'"));
    plan_free(plan);
}

static void a_request_is_its_options(void **state) {
    (void)state;
    struct plan_request request = { .context = 4096, .kv_type = KV_Q8_0, .policy = "fill", .pins = "ffn.*=cpu1",
                                    .max_memory = "cpu=1GiB", .stream = true, .dtype = "float16" };
    struct request_field fields[PLAN_REQUEST_FIELDS];
    char text[400] = "";
    plan_request_fields(&request, fields);
    for (uint32_t i = 0; i < PLAN_REQUEST_FIELDS; i++)
        if (fields[i].value[0])
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s=%s%s ", fields[i].option, fields[i].value,
                     fields[i].is_number ? "#" : fields[i].is_flag ? "!" : "");
    assert_string_equal(text, "ctx=4096# kv=q8_0 policy=fill max-memory=cpu=1GiB pin=ffn.*=cpu1 stream=on! "
                        "dtype=float16 ");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards_come_out_sorted_and_the_plan_is_valid),
        cmocka_unit_test(a_unit_that_is_missing_or_placed_twice_is_named),
        cmocka_unit_test(a_place_that_cannot_be_is_refused),
        cmocka_unit_test(a_changed_variable_makes_the_plan_stale),
        cmocka_unit_test(a_request_is_its_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
