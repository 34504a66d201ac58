/* When the planner cuts units into slices, and that such plans fit. */
#include "tests/support.h"
#include "tests/support_model.h"

#include "planner/plan_make.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GIB (1ull << 30)
#define MIB (1ull << 20)

/* Two cards with memories of their own, and the host's processor twice. */
static const struct device machine[4] = {
    { .type = DEVICE_GPU, .short_name = "gpu0", .platform = "A", .name = "a", .memory_bytes = 12 * GIB,
      .max_buffer_bytes = 4 * GIB, .alignment = 256, .usable = true },
    { .type = DEVICE_GPU, .short_name = "gpu1", .platform = "A", .name = "b", .memory_bytes = 12 * GIB,
      .max_buffer_bytes = 4 * GIB, .alignment = 256, .usable = true },
    { .type = DEVICE_CPU, .short_name = "cpu0", .platform = "B", .name = "c", .memory_bytes = 32 * GIB,
      .max_buffer_bytes = 8 * GIB, .alignment = 128, .is_cpu_pool = true, .usable = true },
    { .type = DEVICE_CPU, .short_name = "cpu1", .platform = "C", .name = "d", .memory_bytes = 32 * GIB,
      .max_buffer_bytes = 8 * GIB, .alignment = 128, .is_cpu_pool = true, .usable = true },
};

struct question {
    struct device devices[4];
    struct device_rates rates[4];
    struct plan_request request;
    uint64_t ram;
};

/* Links of 5 us and 20 GB/s. */
static struct question ask(void) {
    struct question question = { .request = { .kv_type = KV_F16, .context = 1024 }, .ram = 24 * GIB };
    memcpy(question.devices, machine, sizeof machine);
    for (int i = 0; i < 4; i++) {
        device_rates_assume(&question.rates[i], &question.devices[i]);
        question.rates[i].transfer_s = 5e-6;
        question.rates[i].transfer_bytes_per_s = 20e9;
    }
    return question;
}

static bool answer(const struct question *question, const struct model *model, const char *slices, const char *devices,
                   struct made_plan *made, struct error *err) {
    const struct device_list list = { (struct device *)(uintptr_t)question->devices, 4 };
    const struct host_memory host = { question->ram, question->ram };
    const struct sizing_source source = { .model = model, .devices = &list, .rates = question->rates, .host = &host };
    struct plan_request request = question->request;
    struct text notes;
    snprintf(request.slices, sizeof request.slices, "%s", slices);
    snprintf(request.devices, sizeof request.devices, "%s", devices);
    *err = (struct error){ 0 };
    text_init(&notes);
    bool ok = plan_make(&source, &request, made, &notes, err);
    text_release(&notes);
    return ok;
}

static uint32_t count_slices(const struct plan *plan) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < plan->shard_count; i++)
        count += plan_shard_is_slice(plan, i);
    return count;
}

/* Within the budgets, weights and KV counted once, no device twice in a unit. */
static void check_plan(const struct plan *plan, const struct model *model, uint64_t ram) {
    struct error err = { 0 };
    uint64_t weights = 0, pooled = 0;
    ASSERT_OK(plan_validate(plan, &err), err);
    for (uint32_t i = 0; i < plan->shard_count; i++) {
        weights += plan->shards[i].weight_bytes;
        for (uint32_t j = 0; j < i; j++)
            assert_false(plan->shards[j].unit == plan->shards[i].unit && plan->shards[j].device == plan->shards[i].device);
    }
    assert_int_equal(weights, model_weight_bytes(model));
    for (uint32_t d = 0; d < plan->device_count; d++) {
        const struct plan_device *device = &plan->devices[d];
        uint64_t held = 0, kv = 0, all = device->weight_bytes + device->kv_bytes + device->scratch_bytes +
                                         device->staging_bytes + device->slack_bytes;
        for (uint32_t i = 0; i < plan->shard_count; i++) {
            held += plan->shards[i].device == (int32_t)d ? plan->shards[i].weight_bytes : 0;
            kv += plan->shards[i].device == (int32_t)d ? plan->shards[i].kv_bytes : 0;
        }
        assert_int_equal(device->weight_bytes, held);
        assert_int_equal(device->kv_bytes, kv);
        assert_true(all <= device->budget_bytes);
        pooled += device->device.is_cpu_pool ? all : 0;
    }
    assert_true(pooled <= ram);
}

static void two_cards_share_every_unit_where_the_link_is_fast(void **state) {
    (void)state;
    struct model *model = support_model(&support_phi3_mini);
    struct question question = ask();
    struct made_plan whole, sliced;
    struct error err;
    ASSERT_OK(answer(&question, model, "off", "gpu0,gpu1", &whole, &err), err);
    ASSERT_OK(answer(&question, model, "auto", "gpu0,gpu1", &sliced, &err), err);
    assert_int_equal(count_slices(whole.plan), 0);
    check_plan(sliced.plan, model, question.ram);
    /* Equal cards: every unit in halves, in little more than half the time. */
    assert_int_equal(count_slices(sliced.plan), 2 * 65);
    for (uint32_t i = 1; i + 1 < sliced.plan->shard_count; i++)
        if (sliced.plan->shards[i].unit % 2 == 1 && sliced.plan->shards[i].unit < 65)
            assert_int_equal(sliced.plan->shards[i].part_end - sliced.plan->shards[i].part_begin, 16);
    double ratio = sliced.plan->predicted_total_s / whole.plan->predicted_total_s;
    assert_true(ratio > 0.5 && ratio < 0.7);
    assert_true(sliced.alternative_count >= 1);
    assert_true(sliced.alternatives[0].total_s > sliced.plan->predicted_total_s);
    made_plan_release(&whole);
    made_plan_release(&sliced);

    /* A start-up of 2 ms a transfer eats all that. */
    question.rates[0].transfer_s = question.rates[1].transfer_s = 2e-3;
    ASSERT_OK(answer(&question, model, "auto", "gpu0,gpu1", &sliced, &err), err);
    assert_int_equal(count_slices(sliced.plan), 0);
    made_plan_release(&sliced);
    model_close(model);
}

/* An integrated GPU beside the processor: where both together were measured to be faster.
 * Two CPU devices are the same cores, whatever was measured. */
static void devices_of_one_memory_share_units_where_that_was_measured(void **state) {
    (void)state;
    struct model *model = support_model(&support_phi3_mini);
    struct question question = ask();
    struct made_plan made;
    struct error err;
    for (int i = 0; i < 4; i++) {
        question.devices[1].type = i < 3 ? DEVICE_IGPU : DEVICE_CPU;
        question.devices[1].is_cpu_pool = true;
        question.rates[1] = question.rates[2];
        question.rates[1].together = question.rates[2].together = i == 0 ? 0 : i == 1 ? 0.5 : 0.9;
        snprintf(question.devices[1].short_name, sizeof question.devices[1].short_name, i < 3 ? "igpu0" : "cpu2");
        ASSERT_OK(answer(&question, model, "auto", i < 3 ? "igpu0,cpu0" : "cpu2,cpu0", &made, &err), err);
        assert_int_equal(count_slices(made.plan) > 0, i == 2);
        made_plan_release(&made);
    }
    model_close(model);
}

/* No card holds a unit of 105 MiB and more with its scratch, or the head of 188: together
 * they do. */
static void a_model_runs_on_devices_smaller_than_its_units(void **state) {
    (void)state;
    struct support_shape shape = support_phi3_mini;
    shape.blocks = 1;
    struct model *model = support_model(&shape);
    struct question question = ask();
    struct made_plan made;
    struct error err;
    snprintf(question.request.max_memory, sizeof question.request.max_memory, "gpu0=170MiB,gpu1=170MiB,cpu=170MiB");
    assert_false(answer(&question, model, "off", "gpu0,gpu1,cpu0", &made, &err));
    assert_int_equal(err.kind, ERROR_FAILED);
    ASSERT_OK(answer(&question, model, "auto", "gpu0,gpu1,cpu0", &made, &err), err);
    check_plan(made.plan, model, 170 * MIB);
    assert_true(count_slices(made.plan) >= 4);
    assert_int_equal(err.text[0], 0);
    made_plan_release(&made);

    /* `fill` cuts too where nothing else fits, and only there. */
    snprintf(question.request.policy, sizeof question.request.policy, "fill");
    ASSERT_OK(answer(&question, model, "auto", "gpu0,gpu1,cpu0", &made, &err), err);
    check_plan(made.plan, model, 170 * MIB);
    made_plan_release(&made);
    question.request.max_memory[0] = '\0';
    ASSERT_OK(answer(&question, model, "auto", "gpu0,gpu1,cpu0", &made, &err), err);
    assert_int_equal(count_slices(made.plan), 0);
    made_plan_release(&made);

    snprintf(question.request.max_memory, sizeof question.request.max_memory, "gpu0=100MiB,gpu1=100MiB,cpu=100MiB");
    assert_false(answer(&question, model, "auto", "gpu0,gpu1,cpu0", &made, &err));
    assert_non_null(strstr(err.text, "fit"));
    model_close(model);
}

static void pins_and_forbids_hold(void **state) {
    (void)state;
    struct model *model = support_model(&support_phi3_mini);
    struct question question = ask();
    struct made_plan made;
    struct error err;
    snprintf(question.request.pins, sizeof question.request.pins, "head=gpu1");
    snprintf(question.request.forbids, sizeof question.request.forbids, "attn.*=gpu1");
    ASSERT_OK(answer(&question, model, "auto", "gpu0,gpu1", &made, &err), err);
    assert_true(count_slices(made.plan) > 0);
    for (uint32_t i = 0; i < made.plan->shard_count; i++) {
        const struct shard *shard = &made.plan->shards[i];
        const char *name = shard->device < 0 ? "host" : made.plan->devices[shard->device].device.short_name;
        if (shard->unit == 65)
            assert_string_equal(name, "gpu1");
        if (shard->unit % 2 == 1 && shard->unit < 65)
            assert_string_equal(name, "gpu0");
    }
    made_plan_release(&made);
    model_close(model);
}

/* Whatever the memories and rates: what is planned fits, and is never slower than whole. */
static void random_machines_get_plans_that_fit(void **state) {
    (void)state;
    struct support_shape shape = support_phi3_mini;
    shape.blocks = 3;
    struct model *model = support_model(&shape);
    uint32_t seed = 7, sliced = 0, only_sliced = 0;
    for (int turn = 0; turn < 60; turn++) {
        struct question question = ask();
        struct made_plan made, whole;
        struct error err, refused;
        uint32_t size[3];
        for (int i = 0; i < 3; i++) {
            seed = seed * 1664525u + 1013904223u;
            size[i] = 60 + (seed >> 8) % 600;
            question.rates[i].decode_bytes_per_s[TENSOR_F16] *= 0.2 + (seed >> 20) % 100 / 50.0;
            question.rates[i].transfer_s = 1e-6 * (double)(1 + (seed >> 5) % 300);
        }
        snprintf(question.request.max_memory, sizeof question.request.max_memory, "gpu0=%uMiB,gpu1=%uMiB,cpu=%uMiB",
                 size[0], size[1], size[2]);
        bool fits_whole = answer(&question, model, "off", "", &whole, &refused);
        if (!answer(&question, model, "auto", "", &made, &err)) {
            assert_false(fits_whole);
            assert_true(err.text[0]);
            continue;
        }
        check_plan(made.plan, model, question.ram);
        sliced += count_slices(made.plan) > 0;
        only_sliced += !fits_whole;
        if (fits_whole)
            assert_true(made.plan->predicted_total_s <= whole.plan->predicted_total_s * 1.0001);
        made_plan_release(&made);
        if (fits_whole)
            made_plan_release(&whole);
    }
    print_message("# %u of 60 plans have slices, %u of them would not fit without\n", sliced, only_sliced);
    assert_true(sliced > 5 && only_sliced > 0);
    model_close(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_cards_share_every_unit_where_the_link_is_fast),
        cmocka_unit_test(devices_of_one_memory_share_units_where_that_was_measured),
        cmocka_unit_test(a_model_runs_on_devices_smaller_than_its_units),
        cmocka_unit_test(pins_and_forbids_hold),
        cmocka_unit_test(random_machines_get_plans_that_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
