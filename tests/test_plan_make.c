#include "tests/support.h"
#include "tests/support_model.h"

#include "planner/plan_make.h"

#include <stdio.h>
#include <string.h>

#define GIB (1ull << 30)
#define MIB (1ull << 20)

static struct device devices[] = {
    { .type = DEVICE_GPU, .short_name = "gpu0", .platform = "A", .name = "a", .memory_bytes = 5 * GIB,
      .max_buffer_bytes = 2 * GIB, .alignment = 256, .usable = true },
    { .type = DEVICE_CPU, .short_name = "cpu0", .platform = "B", .name = "b", .memory_bytes = 32 * GIB,
      .max_buffer_bytes = 8 * GIB, .alignment = 128, .is_cpu_pool = true, .usable = true },
    { .type = DEVICE_CPU, .short_name = "cpu1", .platform = "B", .name = "c", .memory_bytes = 32 * GIB,
      .max_buffer_bytes = 8 * GIB, .alignment = 128, .is_cpu_pool = true, .usable = true, .alias_of = "cpu0" },
};
static const struct device_list list = { devices, 3 };

static bool make(const struct model *model, uint64_t ram, struct plan_request *request, struct made_plan *made,
                 struct error *err) {
    const struct host_memory host = { ram, ram };
    struct device_rates rates[3];
    struct text notes;
    for (int i = 0; i < 3; i++)
        device_rates_assume(&rates[i], &devices[i]);
    struct sizing_source source = { .model = model, .devices = &list, .rates = rates, .host = &host };
    text_init(&notes);
    bool ok = plan_make(&source, request, made, &notes, err);
    text_release(&notes);
    return ok;
}

static const char *units_on(const struct plan *plan, int32_t device) {
    static char kept[4][512];
    static unsigned next;
    struct text text;
    text_init(&text);
    plan_report_units(plan, device, &text);
    char *slot = kept[next++ % 4];
    snprintf(slot, sizeof kept[0], "%s", text.bytes);
    text_release(&text);
    return slot;
}

static void the_fast_device_is_filled_and_bytes_are_phi3_minis(void **state) {
    (void)state;
    struct model *model = support_model(&support_phi3_mini);
    struct plan_request request = { .kv_type = KV_F16 };
    struct made_plan made;
    struct error err = { 0 };
    ASSERT_OK(make(model, 24 * GIB, &request, &made, &err), err);
    const struct plan *plan = made.plan;
    /* anchors/peers.md 3.1: 7.64 GB in float16, the KV of 4096 tokens 1.5 GiB. */
    assert_int_equal(plan->unit_count, 66);
    assert_int_equal(plan->request.context, 4096);
    assert_int_equal(plan->request.prompt_tokens, 512);
    assert_int_equal(plan->request.new_tokens, 256);
    assert_int_equal(plan->shard_count, 66);
    assert_int_equal(plan->shards[0].device, PLAN_HOST);
    uint64_t kv = 0, weights = 0;
    for (uint32_t i = 0; i < plan->shard_count; i++) {
        kv += plan->shards[i].kv_bytes;
        weights += plan->shards[i].weight_bytes;
    }
    assert_int_equal(kv, 1536 * MIB);
    assert_int_equal(weights, plan->model_weight_bytes);
    /* 4.75 GiB of the GPU hold 264 MiB a block (weights 216, KV 48), 17 and a half of them: 3.9 GiB
     * of weights. Without KV, of which this workload fills a fifth, they hold 4.7 GiB of weights. */
    assert_string_equal(plan->devices[0].device.short_name, "cpu0");
    assert_string_equal(units_on(plan, 0), "attn 0-31");
    assert_string_equal(units_on(plan, 1), "ffn 0-31, head");
    for (uint32_t d = 0; d < plan->device_count; d++) {
        const struct plan_device *device = &plan->devices[d];
        uint64_t held_weights = 0, held_kv = 0;
        for (uint32_t i = 0; i < plan->shard_count; i++) {
            if (plan->shards[i].device == (int32_t)d) {
                held_weights += plan->shards[i].weight_bytes;
                held_kv += plan->shards[i].kv_bytes;
            }
        }
        assert_int_equal(device->weight_bytes, held_weights);
        assert_int_equal(device->kv_bytes, held_kv);
        assert_true(device->weight_bytes + device->kv_bytes + device->scratch_bytes + device->staging_bytes +
                        device->slack_bytes <= device->budget_bytes || !held_weights);
    }
    assert_non_null(strstr(plan->binding, "one more block on 'gpu0' needs"));
    assert_string_equal(plan->devices[2].empty_reason, "the same silicon as 'cpu0', which is faster");
    assert_true(plan->predicted_decode_tokens_per_s > plan->predicted_decode_tokens_per_s_end);
    assert_true(plan->predicted_total_s > plan->predicted_first_token_s);
    assert_true(made.alternative_count >= 1);
    assert_string_equal(made.alternatives[0].devices, "cpu0");
    made_plan_release(&made);
    model_close(model);
}

static void what_a_plan_says_is_what_the_buffers_take(void **state) {
    (void)state;
    struct support_shape shape = support_phi3_mini;
    shape.type = shape.q_type = shape.k_type = shape.v_type = TENSOR_Q4_0;
    shape.is_tied = true;
    struct model *model = support_model(&shape);
    struct plan_request request = { .kv_type = KV_F16, .context = 512, .devices = "cpu0", .max_buffer = "32MiB" };
    struct made_plan made;
    struct error err = { 0 };
    ASSERT_OK(make(model, 24 * GIB, &request, &made, &err), err);
    struct buffer_options options = { .context = 512, .micro_batch = 256, .sequence_count = 1, .logit_rows = 1,
                                      .kv_type = KV_F16, .numeric = NUMERIC_INT8, .alignment = 128,
                                      .max_buffer_bytes = 32 * MIB };
    struct buffer_list buffers = { 0 };
    bool held[66];
    for (uint32_t u = 0; u < 66; u++) {
        held[u] = u > 0;
        if (held[u])
            ASSERT_OK(unit_buffers(model, unit_at(model, u), &options, &buffers, &err), err);
    }
    ASSERT_OK(device_buffers(model, held, &options, &buffers, &err), err);
    const struct plan_device *device = &made.plan->devices[0];
    assert_int_equal(made.plan->numeric, NUMERIC_INT8);
    assert_int_equal(device->weight_bytes + device->slack_bytes, buffers.total_bytes[BUFFER_WEIGHTS]);
    assert_int_equal(device->kv_bytes, buffers.total_bytes[BUFFER_KV]);
    assert_int_equal(device->scratch_bytes, buffers.total_bytes[BUFFER_SCRATCH]);
    assert_int_equal(device->staging_bytes, buffers.total_bytes[BUFFER_STAGING]);
    assert_string_equal(units_on(made.plan, PLAN_HOST), "embed");
    assert_string_equal(units_on(made.plan, 0), "blocks 0-31, head");
    /* Tied: the embedding's rows are the head's bytes, counted once. */
    assert_int_equal(made.plan->shards[0].weight_bytes, 0);
    assert_int_equal(device->weight_bytes, made.plan->model_weight_bytes);
    buffer_list_release(&buffers);
    made_plan_release(&made);
    model_close(model);
}

static void fill_follows_the_order_and_the_limits(void **state) {
    (void)state;
    struct model *model = support_model(&support_phi3_mini);
    struct plan_request request = { .kv_type = KV_F16, .policy = "fill", .devices = "cpu1,cpu0",
                                    .max_memory = "cpu1=2GiB" };
    struct made_plan made;
    struct error err = { 0 };
    ASSERT_OK(make(model, 24 * GIB, &request, &made, &err), err);
    assert_string_equal(made.plan->devices[0].device.short_name, "cpu1");
    assert_string_equal(units_on(made.plan, 0), "blocks 0-6, attn 7");
    assert_string_equal(units_on(made.plan, 1), "ffn 7, blocks 8-31, head");
    assert_string_equal(made.plan->devices[2].empty_reason, "not named in --devices");
    made_plan_release(&made);

    struct plan_request pinned = { .kv_type = KV_F16, .policy = "fill", .pins = "ffn.*=cpu1,embed=cpu0", .exclude = "gpu0" };
    ASSERT_OK(make(model, 24 * GIB, &pinned, &made, &err), err);
    assert_string_equal(units_on(made.plan, 0), "embed, attn 0-31, head");
    assert_string_equal(units_on(made.plan, 1), "ffn 0-31");
    made_plan_release(&made);

    struct plan_request forbidden = { .kv_type = KV_F16, .devices = "cpu0,cpu1", .policy = "fill",
                                      .forbids = "head=cpu0,embed=host" };
    ASSERT_OK(make(model, 24 * GIB, &forbidden, &made, &err), err);
    assert_string_equal(units_on(made.plan, 0), "embed, blocks 0-31");
    assert_string_equal(units_on(made.plan, 1), "head");
    made_plan_release(&made);
    model_close(model);
}

static void what_does_not_fit_is_told_with_a_context_that_does(void **state) {
    (void)state;
    struct model *model = support_model(&support_phi3_mini);
    struct plan_request request = { .kv_type = KV_F16, .devices = "cpu0" };
    struct made_plan made;
    struct error err = { 0 };
    assert_false(make(model, 8 * GIB, &request, &made, &err));
    assert_int_equal(err.kind, ERROR_FAILED);
    if (!strstr(err.text, "the model does not fit: it needs 8.47 GiB (weights, KV and scratch) and there are 8 GiB"))
        fail_msg("%s", err.text);
    const char *advice = strstr(err.text, "; --ctx ");
    assert_non_null(advice);
    unsigned context = 0;
    assert_int_equal(sscanf(advice, "; --ctx %u would fit", &context), 1);
    /* The advice holds, and one page more would not. */
    struct plan_request advised = { .kv_type = KV_F16, .devices = "cpu0", .context = context };
    struct error none = { 0 };
    ASSERT_OK(make(model, 8 * GIB, &advised, &made, &none), none);
    made_plan_release(&made);
    struct plan_request longer = { .kv_type = KV_F16, .devices = "cpu0", .context = context + KV_PAGE_TOKENS };
    assert_false(make(model, 8 * GIB, &longer, &made, &none));

    struct plan_request hopeless = { .kv_type = KV_F16, .devices = "cpu0" };
    assert_false(make(model, 4 * GIB, &hopeless, &made, &err));
    assert_non_null(strstr(err.text, "no shorter --ctx fits either"));
    struct plan_request wide = { .kv_type = KV_F32, .devices = "cpu0" };
    assert_false(make(model, 9 * GIB, &wide, &made, &err));
    assert_non_null(strstr(err.text, "; --kv f16 would fit"));
    model_close(model);
}

static void requests_that_make_no_sense_are_refused(void **state) {
    (void)state;
    struct model *model = support_model(&support_phi3_mini);
    const struct { struct plan_request request; enum error_kind kind; const char *text; } cases[] = {
        { { .context = 100000000 }, ERROR_USAGE, "--ctx 100000000 exceeds the" },
        { { .context = 100, .prompt_tokens = 90, .new_tokens = 20 }, ERROR_USAGE, "do not fit a context of 100" },
        { { .pins = "ffn.0=host" }, ERROR_USAGE, "only embed can be on 'host'" },
        { { .pins = "ffn.0=cpu0", .forbids = "ffn.*=cpu0" }, ERROR_USAGE, "'ffn.0' is pinned to 'cpu0', where it is" },
        { { .pins = "layer.0=cpu0" }, ERROR_USAGE, "no unit is called 'layer.0'" },
        { { .forbids = "head=*" }, ERROR_USAGE, "this machine has no device '*'" },
        { { .devices = "cpu0", .max_buffer = "4KiB" }, ERROR_FAILED, "one row of" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct plan_request request = cases[i].request;
        struct made_plan made;
        struct error err = { 0 };
        request.kv_type = KV_F16;
        assert_false(make(model, 24 * GIB, &request, &made, &err));
        if (err.kind != cases[i].kind || !strstr(err.text, cases[i].text))
            fail_msg("case %zu: %d '%s'", i, err.kind, err.text);
    }
    model_close(model);
}

static void short_contexts_share_prompt_and_new_tokens(void **state) {
    (void)state;
    struct model *model = support_model(&support_phi3_mini);
    static const struct { uint32_t context, prompt, new_tokens, want_prompt, want_new; } cases[] = {
        { 4096, 0, 0, 512, 256 }, { 768, 0, 0, 512, 256 }, { 300, 0, 0, 200, 100 }, { 300, 299, 0, 299, 1 },
        { 300, 0, 290, 10, 290 }, { 300, 300, 0, 300, 0 }, { 1, 0, 0, 1, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct plan_request request = { .context = cases[i].context, .prompt_tokens = cases[i].prompt,
                                        .new_tokens = cases[i].new_tokens };
        struct error err = { 0 };
        ASSERT_OK(request_complete(&request, model, &err), err);
        if (request.prompt_tokens != cases[i].want_prompt || request.new_tokens != cases[i].want_new)
            fail_msg("case %zu: %u + %u", i, request.prompt_tokens, request.new_tokens);
    }
    model_close(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fast_device_is_filled_and_bytes_are_phi3_minis),
        cmocka_unit_test(what_a_plan_says_is_what_the_buffers_take),
        cmocka_unit_test(fill_follows_the_order_and_the_limits),
        cmocka_unit_test(what_does_not_fit_is_told_with_a_context_that_does),
        cmocka_unit_test(requests_that_make_no_sense_are_refused),
        cmocka_unit_test(short_contexts_share_prompt_and_new_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
