/* Plans by Accelerate's policies and by maps that were brought along. */
#include "tests/support.h"
#include "tests/support_model.h"

#include "planner/fixed_placement.h"
#include "planner/plan_make.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GIB (1ull << 30)

static const struct device devices[] = {
    { .type = DEVICE_GPU, .short_name = "gpu0", .platform = "A", .name = "a", .memory_bytes = 12 * GIB,
      .max_buffer_bytes = 4 * GIB, .alignment = 256, .usable = true },
    { .type = DEVICE_GPU, .short_name = "gpu1", .platform = "A", .name = "b", .memory_bytes = 4 * GIB,
      .max_buffer_bytes = 4 * GIB, .alignment = 256, .usable = true },
    { .type = DEVICE_GPU, .short_name = "gpu2", .platform = "A", .name = "c", .memory_bytes = 4 * GIB,
      .max_buffer_bytes = 4 * GIB, .alignment = 256, .usable = false, .reason = "it hangs" },
    { .type = DEVICE_CPU, .short_name = "cpu0", .platform = "B", .name = "d", .memory_bytes = 32 * GIB,
      .max_buffer_bytes = 8 * GIB, .alignment = 128, .is_cpu_pool = true, .usable = true },
    { .type = DEVICE_CPU, .short_name = "cpu1", .platform = "B", .name = "e", .memory_bytes = 32 * GIB,
      .max_buffer_bytes = 8 * GIB, .alignment = 128, .is_cpu_pool = true, .usable = true },
};
enum { DEVICE_COUNT = sizeof devices / sizeof *devices };

static struct made_plan made;
static struct text notes;
static struct model *phi3;

static int set_up(void **state) {
    (void)state;
    phi3 = support_model(&support_phi3_mini);
    text_init(&notes);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    made_plan_release(&made);
    text_release(&notes);
    model_close(phi3);
    return 0;
}

/* Plan Phi-3-mini in float16 on the first `count` devices; `json`: an imported map or NULL. */
static bool make_on(uint32_t count, struct plan_request request, const char *json, struct error *err) {
    const struct device_list list = { (struct device *)(uintptr_t)devices, count };
    const struct host_memory host = { 32 * GIB, 24 * GIB };
    struct device_rates rates[DEVICE_COUNT];
    struct device_map map = { 0 };
    made_plan_release(&made);
    text_clear(&notes);
    for (uint32_t i = 0; i < count; i++)
        device_rates_assume(&rates[i], &devices[i]);
    if (json)
        ASSERT_OK(device_map_read(json, strlen(json), "map.json", &map, err), *err);
    struct sizing_source source = { .model = phi3, .devices = &list, .rates = rates, .host = &host,
                                    .map = json ? &map : NULL };
    request.kv_type = KV_F16;
    if (json)
        snprintf(request.policy, sizeof request.policy, "%s", POLICY_IMPORT);
    bool ok = plan_make(&source, &request, &made, &notes, err);
    device_map_release(&map);
    return ok;
}

static bool make(struct plan_request request, const char *json, struct error *err) {
    return make_on(DEVICE_COUNT, request, json, err);
}

/* What a device holds, in words. */
static void check_units(const char *device, const char *expected) {
    struct text text;
    int32_t index = PLAN_HOST;
    for (uint32_t d = 0; d < made.plan->device_count; d++)
        if (strcmp(made.plan->devices[d].device.short_name, device) == 0)
            index = (int32_t)d;
    text_init(&text);
    plan_report_units(made.plan, index, &text);
    assert_string_equal(text.bytes, expected);
    text_release(&text);
}

static void the_policies_place_whole_blocks_where_accelerate_does(void **state) {
    (void)state;
    struct error err = { 0 };
    /* anchors/accelerate.md 2.4: embed and blocks 0-16, then 17-30, then the rest. */
    ASSERT_OK(make((struct plan_request){ .policy = "hf-sequential", .dtype = "f16", .context = 512,
                                          .max_memory = "0=4GiB,1=3GiB,cpu=24GiB" }, NULL, &err), err);
    check_units("gpu0", "embed, blocks 0-16");
    check_units("gpu1", "blocks 17-30");
    check_units("cpu0", "block 31, head");
    check_units("cpu1", "");
    assert_string_equal(made.plan->request.max_memory, "0=4GiB,1=3GiB,cpu=24GiB");
    assert_string_equal(made.plan->request.policy, "hf-sequential");
    /* The order of the devices in a map is theirs by number. */
    struct device_map map;
    ASSERT_OK(device_map_from_plan(made.plan, &map, &err), err);
    assert_int_equal(map.entries[0].place.device, 0);
    assert_int_equal(map.entries[20].place.device, 1);
    assert_int_equal(map.entries[34].place.device, DEVICE_MAP_CPU);
    device_map_release(&map);
    /* Without a limit for it a device gets nothing. */
    ASSERT_OK(make((struct plan_request){ .policy = "hf-sequential", .context = 512,
                                          .max_memory = "gpu0=4GiB,cpu=24GiB" }, NULL, &err), err);
    check_units("gpu0", "embed, blocks 0-16");
    check_units("gpu1", "");
    check_units("cpu0", "blocks 17-31, head");
    for (uint32_t d = 0; d < made.plan->device_count; d++)
        if (strcmp(made.plan->devices[d].device.short_name, "gpu1") == 0)
            assert_string_equal(made.plan->devices[d].empty_reason, "the map puts nothing there");
}

static void without_limits_the_budgets_count(void **state) {
    (void)state;
    struct error err = { 0 };
    ASSERT_OK(make((struct plan_request){ .policy = "hf-sequential", .context = 512 }, NULL, &err), err);
    check_units("gpu0", "embed, blocks 0-31, head");
    ASSERT_OK(make((struct plan_request){ .policy = "hf-sequential", .context = 512, .max_memory = "0=50%,cpu=100%" },
                   NULL, &err), err);
    assert_true(made.plan->shards[5].device == 0 && made.plan->shards[64].device == 1);
    /* balanced leaves the last device as it is and lowers the one before it. */
    ASSERT_OK(make((struct plan_request){ .policy = "hf-auto", .context = 512, .devices = "gpu0,gpu1,cpu0" }, NULL, &err),
              err);
    check_units("gpu0", "embed, blocks 0-15");
}

static void kv_that_accelerate_forgets_is_named(void **state) {
    (void)state;
    struct error err = { 0 };
    /* 3 GiB of weights on a GPU with 3.75; the KV of 4096 tokens is 48 MiB a block. */
    assert_false(make((struct plan_request){ .policy = "hf-sequential", .context = 4096,
                                             .max_memory = "0=4GiB,1=3.5GiB,cpu=24GiB" }, NULL, &err));
    assert_int_equal(err.kind, ERROR_FAILED);
    assert_non_null(strstr(err.text, "policy hf-sequential puts"));
    assert_non_null(strstr(err.text, "'gpu1' with KV and scratch (Accelerate counts weights alone), which has 3.75 GiB"));
    assert_non_null(strstr(err.text, "short"));
    /* More than there is of the host's RAM. */
    err = (struct error){ 0 };
    assert_false(make((struct plan_request){ .context = 128, .max_memory = "cpu=4GiB" }, "{\"\": \"cpu\"}", &err));
    assert_non_null(strstr(err.text, "4 GiB"));
}

static void what_fits_nowhere_is_refused_not_streamed(void **state) {
    (void)state;
    struct error err = { 0 };
    assert_false(make((struct plan_request){ .policy = "hf-sequential", .max_memory = "0=2GiB,cpu=1GiB" }, NULL, &err));
    assert_int_equal(err.kind, ERROR_USAGE);
    assert_non_null(strstr(err.text, "on disk"));
}

static void an_imported_map_is_followed(void **state) {
    (void)state;
    struct error err = { 0 };
    ASSERT_OK(make((struct plan_request){ .context = 512 },
                   "{\"model.embed_tokens\": 0, \"model.layers\": 1, \"model.layers.3\": \"cpu1\", "
                   "\"model.layers.7.mlp\": \"cuda:0\", \"model.layers.8\": 0, \"model.layers.9\": 0, "
                   "\"model.layers.10\": 0, \"model.layers.11\": 0, \"model.layers.12\": 0, \"model.layers.13\": 0, "
                   "\"model.layers.14\": 0, \"model.layers.15\": 0, \"model.layers.16\": 0, \"model.layers.17\": 0, "
                   "\"model.layers.18\": 0, \"model.layers.19\": 0, \"model.layers.20\": 0, \"model.layers.21\": 0, "
                   "\"model.layers.22\": 0, \"model.layers.23\": 0, \"model.layers.24\": 0, \"model.norm\": 1, "
                   "\"lm_head\": \"cpu\"}", &err), err);
    check_units("gpu0", "embed, ffn 7, blocks 8-24");
    check_units("gpu1", "blocks 0-2, blocks 4-6, attn 7, blocks 25-31");
    check_units("cpu1", "block 3");
    check_units("cpu0", "head");
    assert_non_null(strstr(notes.bytes, "'model.norm' goes with 'lm_head'"));
    assert_string_equal(made.plan->binding, "");
    /* The search's own is shown beside it. */
    assert_int_equal(made.alternative_count, 1);
    assert_string_equal(made.alternatives[0].devices, "gpu0");
    assert_true(made.alternatives[0].total_s < made.plan->predicted_total_s);
    /* "cpu" for the embedding: rows from the file. */
    ASSERT_OK(make((struct plan_request){ .context = 512 }, "{\"\": \"cpu\"}", &err), err);
    check_units("host", "embed");
    check_units("cpu0", "blocks 0-31, head");
    ASSERT_OK(make((struct plan_request){ .context = 512 }, "{\"\": 0, \"embed\": \"host\"}", &err), err);
    check_units("host", "embed");
    ASSERT_OK(make((struct plan_request){ .context = 512 }, "{\"\": 0}", &err), err);
    check_units("gpu0", "embed, blocks 0-31, head");
    assert_int_equal(made.alternative_count, 1);   /* the search leaves embed to the host */
}

static void what_a_map_cannot_have_is_refused_by_name(void **state) {
    (void)state;
    static const struct { const char *json, *text; struct plan_request request; } cases[] = {
        { "{\"\": 7}", "no device '7'", { .context = 512 } },
        { "{\"\": \"igpu0\"}", "no device 'igpu0'", { .context = 512 } },
        { "{\"\": 2}", "'2' (gpu2), which is left out: unusable: it hangs", { .context = 512 } },
        { "{\"\": 0}", "excluded by --exclude", { .context = 512, .exclude = "gpu0" } },
        { "{\"\": \"cpu\"}", "is a CPU", { .context = 512, .devices = "gpu0,gpu1" } },
        { "{\"\": \"host\"}", "only embed can be on 'host'", { .context = 512 } },
        { "{\"\": 0}", "--pin and the map", { .context = 512, .pins = "head=gpu1" } },
        { "{\"\": 0}", "'head' on 'gpu0', where it is forbidden", { .context = 512, .forbids = "head=gpu0" } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = { 0 };
        if (make(cases[i].request, cases[i].json, &err) || !strstr(err.text, cases[i].text))
            fail_msg("%s gave '%s'", cases[i].json, err.text);
    }
}

static void what_max_memory_cannot_name_is_refused(void **state) {
    (void)state;
    static const struct { const char *memory, *text; } cases[] = {
        { "3=8GiB", "this machine has no device '3'" }, { "8GiB", "names no device" }, { "0=8G", "8G" },
        { "2=1GiB", "'2' is left out: unusable: it hangs" }, { "disk=1TB", "leave disk= out" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = { 0 };
        struct plan_request request = { .context = 512, .policy = "hf-balanced" };
        snprintf(request.max_memory, sizeof request.max_memory, "%s", cases[i].memory);
        if (make(request, NULL, &err) || err.kind != ERROR_USAGE || !strstr(err.text, cases[i].text))
            fail_msg("%s gave '%s'", cases[i].memory, err.text);
    }
    struct error err = { 0 };
    assert_false(make_on(1, (struct plan_request){ .policy = "hf-auto", .max_memory = "1=2GiB" }, NULL, &err));
    assert_non_null(strstr(err.text, "--dry-run --format accelerate"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_policies_place_whole_blocks_where_accelerate_does),
        cmocka_unit_test(without_limits_the_budgets_count),
        cmocka_unit_test(kv_that_accelerate_forgets_is_named),
        cmocka_unit_test(what_fits_nowhere_is_refused_not_streamed),
        cmocka_unit_test(an_imported_map_is_followed),
        cmocka_unit_test(what_a_map_cannot_have_is_refused_by_name),
        cmocka_unit_test(what_max_memory_cannot_name_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
