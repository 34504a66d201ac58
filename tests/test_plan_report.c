#include "tests/support.h"
#include "tests/support_plan.h"

#include "common/json.h"
#include "planner/plan_picture.h"
#include "planner/plan_report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A plan whose units lie where `drawn` says: 'h' the host, else the device's digit. */
static struct plan *drawn_plan(const char *drawn) {
    struct plan *plan = plan_new();
    struct error err = { 0 };
    assert_non_null(plan);
    plan->unit_count = (uint32_t)strlen(drawn);
    for (uint32_t u = 0; u < plan->unit_count; u++) {
        struct shard shard = { .unit = u, .device = drawn[u] == 'h' ? PLAN_HOST : drawn[u] - '0', .part_end = 1,
                               .format = "keep", .weight_bytes = 1u << u };
        ASSERT_OK(plan_add_shard(plan, &shard, &err), err);
    }
    return plan;
}

static void units_are_told_in_runs(void **state) {
    (void)state;
    static const struct { const char *drawn; int32_t device; const char *text; } cases[] = {
        { "h000000000", PLAN_HOST, "embed" },
        { "h000000000", 0, "blocks 0-3, head" },
        { "h000000000", 1, "" },
        { "0000000000", 0, "embed, blocks 0-3, head" },
        { "h000111111", 0, "block 0, attn 1" },
        { "h000111111", 1, "ffn 1, blocks 2-3, head" },
        { "h010101010", 0, "attn 0-3, head" },
        { "h010101010", 1, "ffn 0-3" },
        { "h0", 0, "head" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct plan *plan = drawn_plan(cases[i].drawn);
        struct text text;
        text_init(&text);
        plan_report_units(plan, cases[i].device, &text);
        if (strcmp(text.bytes, cases[i].text) != 0)
            fail_msg("%s on %d: '%s'", cases[i].drawn, cases[i].device, text.bytes);
        text_release(&text);
        plan_free(plan);
    }
}

/* gpu0 with half of two blocks, cpu0 with the rest, one device left empty. */
static struct plan *example(void) {
    struct plan *plan = drawn_plan("h00111");
    const struct { const char *name; uint64_t kv, scratch, budget; double seconds; } entries[] = {
        { "gpu0", 3u << 20, 1u << 20, 8u << 20, 0.001 }, { "cpu0", 1u << 20, 2u << 20, 64u << 20, 0.003 },
        { "gpu1", 0, 0, 0, 0 },
    };
    plan->device_count = 3;
    for (uint32_t d = 0; d < 3; d++) {
        struct plan_device *device = &plan->devices[d];
        snprintf(device->device.short_name, sizeof device->device.short_name, "%s", entries[d].name);
        device->kv_bytes = entries[d].kv;
        device->scratch_bytes = entries[d].scratch;
        device->budget_bytes = entries[d].budget;
        device->decode_seconds = entries[d].seconds;
    }
    plan->devices[0].weight_bytes = 2 + 4;
    plan->devices[1].weight_bytes = 8 + 16 + 32;
    snprintf(plan->devices[2].empty_reason, sizeof plan->devices[2].empty_reason, "excluded by --exclude");
    snprintf(plan->name, sizeof plan->name, "default");
    snprintf(plan->model_name, sizeof plan->model_name, "tiny");
    snprintf(plan->architecture, sizeof plan->architecture, "llama");
    snprintf(plan->request.policy, sizeof plan->request.policy, "fill");
    plan->request.context = 64;
    plan->model_weight_bytes = 63;
    plan->predicted_prefill_tokens_per_s = 306.4;
    plan->predicted_decode_tokens_per_s = 12.34;
    plan->predicted_decode_tokens_per_s_end = 1.234;
    plan->predicted_first_token_s = 0.36;
    snprintf(plan->binding, sizeof plan->binding, "one more block on 'gpu0' needs 61 MiB more");
    return plan;
}

static void the_table_shows_devices_bytes_and_predictions(void **state) {
    (void)state;
    static const struct plan_alternative other = { "cpu0", 100, 9.5, 0.5, 20 };
    static const struct weights_figures weights[] = {
        { .name = "keep", .weight_bytes = 126 },
        { "q8_0", true, true, 63, 306, 12.34, 0.36, 2.5 },
    };
    struct plan_extra extra = { .alternatives = &other, .alternative_count = 1, .weight_type = "q4_1",
                                .is_dry_run = true, .stored_bytes = 126, .weights = weights, .weights_count = 2 };
    struct plan *plan = example();
    struct text text;
    text_init(&text);
    plan_report_table(plan, &extra, &text);
    static const char *const lines[] = {
        "tiny  llama q4_1, 2 blocks, 63 B\n",
        "device  holds                weights     kv  scratch    free  of a token\n",
        "host    embed                    1 B\n",
        "gpu0    block 0                  6 B  3 MiB    1 MiB   4 MiB        25 %\n",
        "cpu0    block 1, head           56 B  1 MiB    2 MiB  61 MiB        75 %\n",
        "gpu1    nothing: excluded by --exclude\n",
        "predicted  prefill 306 tok/s, decode 12.3 tok/s (1.23 where the context ends), first token 0.360 s",
        "otherwise  cpu0: decode 9.50 tok/s, first token 0.500 s, workload 20.0 s\n",
        "weights    keep                          126 B: does not fit\n",
        "         * q8_0                           63 B: decode 12.3 tok/s, first token 0.360 s, workload 2.50 s\n",
        "limit      one more block on 'gpu0' needs 61 MiB more\n",
        "plan       none: a dry run saves nothing\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        /* Column widths follow the longest cell: compare with runs of blanks as one. */
        char want[256], *have = strdup(text.bytes);
        assert_non_null(have);
        size_t n = 0, m = 0;
        for (const char *c = lines[i]; *c; c++)
            if (*c != ' ' || c[1] != ' ')
                want[n++] = *c;
        want[n] = '\0';
        for (const char *c = text.bytes; *c; c++)
            if (*c != ' ' || c[1] != ' ')
                have[m++] = *c;
        have[m] = '\0';
        if (!strstr(have, want))
            fail_msg("no '%s' in\n%s", want, text.bytes);
        free(have);
    }
    text_release(&text);
    plan_free(plan);
}

static void the_json_has_the_keys_that_stay(void **state) {
    (void)state;
    static const struct plan_alternative other = { "cpu0", 100, 9.5, 0.5, 20 };
    struct plan_extra extra = { .alternatives = &other, .alternative_count = 1, .is_dry_run = true,
                                .rates_note = "from typical speeds" };
    struct plan *plan = example();
    struct text text;
    struct error err = { 0 };
    text_init(&text);
    plan->devices[1].decode_seconds = 1.0 / 0.0;
    ASSERT_OK(plan_report_json(plan, &extra, &text, &err), err);
    json_t *root = json_read_text(text.bytes, text.length, "report", &err);
    if (!root)
        fail_msg("%s", err.text);
    assert_true(json_is_null(json_object_get(root, "plan")));
    assert_true(json_is_null(json_object_get(root, "hardware_key")));
    assert_string_equal(json_string_value(json_object_get(root, "name")), "default");
    json_t *model = json_object_get(root, "model");
    assert_true(json_is_null(json_object_get(model, "weights_hash")));
    assert_string_equal(json_string_value(json_object_get(model, "architecture")), "llama");
    assert_int_equal(json_integer_value(json_object_get(model, "weight_bytes")), 63);
    json_t *devices = json_object_get(root, "devices");
    assert_int_equal(json_array_size(devices), 4);
    json_int_t sum = 0;
    static const char *const names[] = { "host", "gpu0", "cpu0", "gpu1" };
    static const size_t units[] = { 1, 2, 3, 0 };
    for (size_t i = 0; i < 4; i++) {
        json_t *device = json_array_get(devices, i);
        assert_string_equal(json_string_value(json_object_get(device, "device")), names[i]);
        assert_int_equal(json_array_size(json_object_get(device, "units")), units[i]);
        assert_true(json_is_integer(json_object_get(device, "kv_bytes")));
        assert_true(json_is_integer(json_object_get(device, "scratch_bytes")));
        sum += json_integer_value(json_object_get(device, "weight_bytes"));
    }
    assert_int_equal(sum, 63);
    json_t *cpu_units = json_object_get(json_array_get(devices, 2), "units");
    assert_string_equal(json_string_value(json_array_get(cpu_units, 0)), "attn.1");
    assert_string_equal(json_string_value(json_array_get(cpu_units, 2)), "head");
    assert_true(json_is_null(json_object_get(json_array_get(devices, 2), "decode_s")));
    json_t *predicted = json_object_get(root, "predicted");
    assert_true(json_is_real(json_object_get(predicted, "prefill_tokens_per_s")));
    assert_true(json_is_real(json_object_get(predicted, "decode_tokens_per_s")));
    assert_true(json_is_real(json_object_get(predicted, "first_token_s")));
    assert_int_equal(json_array_size(json_object_get(root, "alternatives")), 1);
    json_decref(root);

    plan->id = 7;
    memset(plan->weights_hash, 'a', 64);
    text_clear(&text);
    ASSERT_OK(plan_report_json(plan, &extra, &text, &err), err);
    root = json_read_text(text.bytes, text.length, "report", &err);
    assert_int_equal(json_integer_value(json_object_get(root, "plan")), 7);
    assert_int_equal(json_string_length(json_object_get(json_object_get(root, "model"), "weights_hash")), 64);
    json_decref(root);
    text_release(&text);
    plan_free(plan);
}

static void devices_with_odd_names_still_make_json(void **state) {
    (void)state;
    struct device devices[] = {
        { .short_name = "gpu0", .platform = "A\"B", .name = "caf\xe9", .driver = "1\n2", .type = DEVICE_GPU,
          .memory_bytes = 5, .usable = true, .alias_of = "gpu1" },
        { .platform = "broken.icd", .reason = "its driver crashed" },
    };
    const struct device_list list = { devices, 2 };
    struct text text;
    struct error err = { 0 };
    text_init(&text);
    ASSERT_OK(device_report_json(&list, &text, &err), err);
    json_t *root = json_read_text(text.bytes, text.length, "devices", &err);
    assert_int_equal(json_array_size(root), 2);
    json_t *first = json_array_get(root, 0), *second = json_array_get(root, 1);
    assert_string_equal(json_string_value(json_object_get(first, "name")), "caf?");
    assert_string_equal(json_string_value(json_object_get(first, "alias_of")), "gpu1");
    assert_string_equal(json_string_value(json_object_get(first, "type")), "gpu");
    assert_true(json_is_null(json_object_get(first, "reason")));
    assert_true(json_is_false(json_object_get(second, "usable")));
    assert_string_equal(json_string_value(json_object_get(second, "reason")), "its driver crashed");
    json_decref(root);
    text_clear(&text);
    device_report_table(&list, &text);
    assert_non_null(strstr(text.bytes, "broken.icd: its driver crashed\n"));
    assert_non_null(strstr(text.bytes, "the same silicon as gpu1"));
    text_release(&text);
}

static void stored_plans_are_listed_a_line_each(void **state) {
    (void)state;
    struct plan *plans[] = { test_plan(4, "default"), test_plan(4, "other") };
    struct text text;
    struct error err = { 0 };
    text_init(&text);
    plan_list_table(plans, 2, &text);
    unsigned lines = 0;
    for (const char *c = text.bytes; *c; c++)
        lines += *c == '\n';
    assert_int_equal(lines, 3);
    assert_non_null(strstr(text.bytes, "gpu0 + cpu0"));
    text_clear(&text);
    ASSERT_OK(plan_list_json(plans, 2, &text, &err), err);
    json_t *root = json_read_text(text.bytes, text.length, "list", &err);
    assert_int_equal(json_array_size(root), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(root, 1), "name")), "other");
    json_decref(root);
    text_release(&text);
    plan_free(plans[0]);
    plan_free(plans[1]);
}

/* The number behind `key` in what comes before `end`. */
static double number_before(const char *end, const char *start, const char *key) {
    const char *found = NULL;
    for (const char *at = start; (at = strstr(at, key)) && at < end; at++)
        found = at;
    assert_non_null(found);
    return strtod(found + strlen(key), NULL);
}

static void a_picture_has_its_words_in_their_boxes(void **state) {
    (void)state;
    struct plan *plan = example();
    struct plan_hop hops[PLAN_MAX_HOPS];
    struct text text;
    text_init(&text);
    plan->predicted_prefill_tokens_per_s = 11800.4;
    plan->devices[0].budget_bytes = 64u << 20;
    plan->devices[1].budget_bytes = 1u << 20;
    snprintf(plan->devices[1].device.name, sizeof plan->devices[1].device.name, "A processor with quite a long name");
    snprintf(plan->devices[0].device.name, sizeof plan->devices[0].device.name, "24 letters are not cut..");
    uint32_t count = plan_hops(plan, NULL, NULL, hops);
    hops[0].count = 129;
    plan_picture_svg(plan, hops, count, &text);
    assert_non_null(strstr(text.bytes, "prefill 11800 tok/s, decode 12.3 tok/s"));
    assert_non_null(strstr(text.bytes, ">A processor with quite...<"));
    assert_non_null(strstr(text.bytes, ">24 letters are not cut..<"));
    assert_non_null(strstr(text.bytes, ">129 hops<"));
    /* The head is the second line of what cpu0 holds, whose memory is the smallest. */
    const char *head = strstr(text.bytes, ">head</text>");
    assert_non_null(head);
    const char *box = strstr(text.bytes, "<rect x=\"410\" y=\"190\" width=\"130\" height=\"");
    assert_non_null(box);
    double bottom = 190 + strtod(strstr(box, "height=\"") + strlen("height=\""), NULL);
    assert_true(number_before(head, box, "y=\"") + 4 <= bottom);
    /* Labels come behind all curves, so that none strikes one out. */
    const char *last_curve = NULL;
    for (const char *at = text.bytes; (at = strstr(at, "<path d=\"M ")); at++)
        last_curve = at;
    assert_true(last_curve && last_curve < strstr(text.bytes, "<rect class=\"label\""));
    text_release(&text);
    plan_free(plan);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(units_are_told_in_runs),
        cmocka_unit_test(the_table_shows_devices_bytes_and_predictions),
        cmocka_unit_test(the_json_has_the_keys_that_stay),
        cmocka_unit_test(devices_with_odd_names_still_make_json),
        cmocka_unit_test(stored_plans_are_listed_a_line_each),
        cmocka_unit_test(a_picture_has_its_words_in_their_boxes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
