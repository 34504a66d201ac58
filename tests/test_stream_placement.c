/* Models that fit nowhere: refused, or streamed where that is allowed. */
#include "tests/support.h"
#include "tests/support_model.h"

#include "planner/plan_make.h"
#include "planner/stream_placement.h"

#include <math.h>
#include <string.h>

#define GIB (1ull << 30)
#define MIB (1ull << 20)
#define RATE 2e9

static struct device devices[] = {
    { .type = DEVICE_GPU, .short_name = "gpu0", .platform = "A", .name = "a", .memory_bytes = 3 * GIB,
      .max_buffer_bytes = 1 * GIB, .alignment = 256, .usable = true },
    { .type = DEVICE_CPU, .short_name = "cpu0", .platform = "B", .name = "b", .memory_bytes = 32 * GIB,
      .max_buffer_bytes = 8 * GIB, .alignment = 128, .is_cpu_pool = true, .usable = true },
};
static const struct device_list list = { devices, 2 };

static bool make(const struct model *model, struct plan_request *request, struct made_plan *made, struct error *err) {
    const struct host_memory host = { 24 * GIB, 24 * GIB };
    struct device_rates rates[2];
    struct text notes;
    for (int i = 0; i < 2; i++)
        device_rates_assume(&rates[i], &devices[i]);
    struct sizing_source source = { .model = model, .devices = &list, .rates = rates, .host = &host,
                                    .stream_bytes_per_s = RATE };
    text_init(&notes);
    bool ok = plan_make(&source, request, made, &notes, err);
    text_release(&notes);
    return ok;
}

static uint64_t device_bytes(const struct plan_device *device) {
    return device->weight_bytes + device->kv_bytes + device->scratch_bytes + device->staging_bytes + device->slack_bytes;
}

static void without_permission_it_is_refused_with_the_way_on(void **state) {
    (void)state;
    struct model *model = support_model(&support_phi3_mini);
    struct plan_request request = { .kv_type = KV_F16, .context = 512, .max_memory = "gpu0=1GiB,cpu=1GiB" };
    struct made_plan made;
    struct error err = { 0 };
    assert_false(make(model, &request, &made, &err));
    assert_int_equal(err.kind, ERROR_FAILED);
    assert_non_null(strstr(err.text, "does not fit"));
    assert_non_null(strstr(err.text, "--stream would fit"));
    model_close(model);
}

/* What the plan says of a device is what phirun's list of buffers takes. */
static void check_bytes(const struct model *model, const struct plan *plan) {
    for (uint32_t d = 0; d < plan->device_count; d++) {
        const struct plan_device *device = &plan->devices[d];
        struct buffer_options options = {
            .context = plan->request.context, .micro_batch = plan->request.micro_batch, .sequence_count = 1,
            .logit_rows = 1, .kv_type = plan->request.kv_type, .numeric = plan->numeric,
            .alignment = device->device.alignment, .max_buffer_bytes = device->max_buffer_bytes,
            .window_bytes = window_limit(device->budget_bytes) };
        struct buffer_list buffers = { 0 };
        struct error err = { 0 };
        bool held[66] = { false };
        uint64_t bytes = 0;
        for (uint32_t i = 0; i < plan->shard_count; i++) {
            const struct shard *shard = &plan->shards[i];
            if (shard->device != (int32_t)d)
                continue;
            held[shard->unit] = true;
            options.streamed = shard->residency == STREAMED;
            assert_true(weight_layout_from_name(shard->format, &options.layout));
            ASSERT_OK(unit_buffers(model, unit_at(model, shard->unit), &options, &buffers, &err), err);
        }
        ASSERT_OK(device_buffers(model, held, &options, &buffers, &err) &&
                      window_buffers(model, &options, &buffers, &err), err);
        for (int kind = 0; kind < BUFFER_KINDS; kind++)
            bytes += kind != BUFFER_STREAMED ? buffers.total_bytes[kind] : 0;
        assert_int_equal(bytes, device_bytes(device));
        assert_true(bytes <= device->budget_bytes);
        buffer_list_release(&buffers);
    }
}

static void as_few_units_as_need_be_are_streamed(void **state) {
    (void)state;
    static const struct { const char *policy, *max_memory; } cases[] = {
        { "fastest", "gpu0=2560MiB,cpu=0" }, { "fill", "gpu0=2GiB,cpu=1GiB" }, { "fastest", "gpu0=0,cpu=600MiB" },
    };
    struct model *model = support_model(&support_phi3_mini);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct plan_request request = { .kv_type = KV_F16, .context = 512, .stream = true };
        struct made_plan made;
        struct error err = { 0 };
        strcpy(request.policy, cases[i].policy);
        strcpy(request.max_memory, cases[i].max_memory);
        ASSERT_OK(make(model, &request, &made, &err), err);
        const struct plan *plan = made.plan;
        uint64_t streamed = 0, largest = 0, room = 0, weights = 0;
        for (uint32_t u = 0; u < plan->shard_count; u++) {
            const struct shard *shard = &plan->shards[u];
            weights += shard->weight_bytes;
            if (shard->residency != STREAMED)
                continue;
            streamed += shard->weight_bytes;
            largest = shard->weight_bytes > largest ? shard->weight_bytes : largest;
            room = plan->devices[shard->device].budget_bytes - device_bytes(&plan->devices[shard->device]);
        }
        assert_true(streamed > 0);
        assert_int_equal(weights, plan->model_weight_bytes);
        check_bytes(model, plan);
        /* Where a block more would have fitted, it would be there. */
        if (room > largest)
            fail_msg("case %zu: %llu bytes are free on the device that streams", i, (unsigned long long)room);
        assert_non_null(strstr(plan->binding, "fit nowhere"));
        assert_true(1 / plan->predicted_decode_tokens_per_s >= (double)streamed / RATE);
        assert_true(1 / plan->predicted_decode_tokens_per_s < 2 * (double)streamed / RATE + 0.5);
        made_plan_release(&made);
    }
    model_close(model);
}

static void what_fits_is_not_streamed(void **state) {
    (void)state;
    struct model *model = support_model(&support_phi3_mini);
    struct plan_request request = { .kv_type = KV_F16, .context = 512, .stream = true };
    struct made_plan made;
    struct error err = { 0 };
    ASSERT_OK(make(model, &request, &made, &err), err);
    assert_false(plan_streams(made.plan, PLAN_ANY_DEVICE));
    made_plan_release(&made);
    model_close(model);
}

static void a_pinned_unit_stays_on_its_device(void **state) {
    (void)state;
    struct model *model = support_model(&support_phi3_mini);
    struct plan_request request = { .kv_type = KV_F16, .context = 512, .stream = true, .pins = "ffn.31=gpu0",
                                    .max_memory = "gpu0=500MiB,cpu=600MiB" };
    struct made_plan made;
    struct error err = { 0 };
    ASSERT_OK(make(model, &request, &made, &err), err);
    const struct shard *shard = &made.plan->shards[64];
    assert_string_equal(made.plan->devices[shard->device].device.short_name, "gpu0");
    check_bytes(model, made.plan);
    made_plan_release(&made);
    model_close(model);
}

static void kv_and_windows_must_fit_all_the_same(void **state) {
    (void)state;
    struct model *model = support_model(&support_phi3_mini);
    struct plan_request request = { .kv_type = KV_F16, .context = 4096, .stream = true,
                                    .max_memory = "gpu0=1GiB,cpu=200MiB" };
    struct made_plan made;
    struct error err = { 0 };
    assert_false(make(model, &request, &made, &err));
    assert_non_null(strstr(err.text, "even with weights streamed"));
    assert_non_null(strstr(err.text, "--ctx"));
    model_close(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_permission_it_is_refused_with_the_way_on),
        cmocka_unit_test(as_few_units_as_need_be_are_streamed),
        cmocka_unit_test(what_fits_is_not_streamed),
        cmocka_unit_test(a_pinned_unit_stays_on_its_device),
        cmocka_unit_test(kv_and_windows_must_fit_all_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
