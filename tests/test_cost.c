#include "tests/support.h"

#include "planner/cost.h"
#include "planner/forecast.h"
#include "planner/pipeline.h"

#include <math.h>
#include <string.h>

/* Two blocks of hidden 64, 2 heads of 32, 1 KV head, intermediate 128, vocabulary
 * 256; all matrices F16 but the head, Q8_0. */
static struct model_tensor tensors[] = {
    { .type = TENSOR_F16, .rows = 256, .columns = 64 },
    { .type = TENSOR_Q8_0, .rows = 256, .columns = 64 },
    { .type = TENSOR_F16, .rows = 128, .columns = 64 },     /* qkv: 64 + 32 + 32 rows */
    { .type = TENSOR_F16, .rows = 64, .columns = 64 },      /* o */
    { .type = TENSOR_F16, .rows = 256, .columns = 64 },     /* gate, up */
    { .type = TENSOR_F16, .rows = 64, .columns = 128 },     /* down */
    { .type = TENSOR_F32, .rows = 1, .columns = 64 },
};

static struct weight_ref ref(uint32_t tensor, uint64_t begin, uint64_t rows) {
    return (struct weight_ref){ .tensor = tensor, .row_begin = begin, .row_count = rows,
                                .column_count = tensors[tensor].columns };
}

static struct model make_model(struct model_block blocks[2]) {
    for (int i = 0; i < 2; i++) {
        for (int r = 0; r < BLOCK_ROLE_COUNT; r++)
            blocks[i].weights[r] = (struct weight_ref){ .tensor = MODEL_NO_TENSOR };
        blocks[i].weights[ROLE_ATTN_NORM] = blocks[i].weights[ROLE_FFN_NORM] = ref(6, 0, 1);
        blocks[i].weights[ROLE_Q] = ref(2, 0, 64);
        blocks[i].weights[ROLE_K] = ref(2, 64, 32);
        blocks[i].weights[ROLE_V] = ref(2, 96, 32);
        blocks[i].weights[ROLE_O] = ref(3, 0, 64);
        blocks[i].weights[ROLE_GATE] = ref(4, 0, 128);
        blocks[i].weights[ROLE_UP] = ref(4, 128, 128);
        blocks[i].weights[ROLE_DOWN] = ref(5, 0, 64);
    }
    return (struct model){ .hidden_size = 64, .intermediate_size = 128, .block_count = 2, .head_count = 2,
                           .kv_head_count = 1, .head_dim = 32, .vocab_size = 256, .max_context = 512,
                           .tensor_count = 7, .tensors = tensors, .embed = ref(0, 0, 256),
                           .head = ref(1, 0, 256), .out_norm = ref(6, 0, 1), .blocks = blocks };
}

static struct device_rates round_rates(void) {
    struct device_rates rates = { .kv_bytes_per_s = 1e6, .attention_ops_per_s = 1e7, .launch_s = 1e-3,
                                  .transfer_s = 0.01, .transfer_bytes_per_s = 25600, .fit = { 1, 1, 1, 0 } };
    for (int t = 0; t < TENSOR_TYPE_COUNT; t++) {
        rates.decode_bytes_per_s[t] = 1e6;
        rates.prefill_ops_per_s[t] = 1e6;
    }
    rates.decode_bytes_per_s[TENSOR_Q8_0] = 2e6;
    return rates;
}

#define ASSERT_NEAR(value, expected) do { double v = (value), e = (expected); \
    if (fabs(v - e) > 1e-9 * (fabs(e) + 1e-9)) fail_msg(#value ": %.12g instead of %.12g", v, e); } while (0)

static void a_unit_costs_its_bytes_its_keys_and_its_launches(void **state) {
    (void)state;
    struct model_block blocks[2];
    struct model model = make_model(blocks);
    struct device_rates rates = round_rates();
    struct workload workload = { .prompt_tokens = 10, .new_tokens = 4, .micro_batch = 4, .kv_type = KV_F16 };

    struct unit_cost attn = cost_unit(&model, (struct unit){ UNIT_ATTN, 1 }, &rates, &workload);
    ASSERT_NEAR(attn.token_s, (128 * 64 * 2 + 64 * 64 * 2) / 1e6 + 6e-3);
    ASSERT_NEAR(attn.key_s, 2 * 32 * 2 / 1e6);
    /* 3 passes; 55 keys in all for 10 tokens, each 4 operations a value of the heads. */
    ASSERT_NEAR(attn.prefill_s, 3 * 6e-3 + 2.0 * (128 + 64) * 64 * 10 / 1e6 + 4.0 * 64 * 55 / 1e7);
    struct unit_cost ffn = cost_unit(&model, (struct unit){ UNIT_FFN, 0 }, &rates, &workload);
    ASSERT_NEAR(ffn.token_s, (256 * 64 * 2 + 64 * 128 * 2) / 1e6 + 5e-3);
    ASSERT_NEAR(ffn.key_s, 0);
    /* The head runs for the last token alone, in its own format's rate. */
    struct unit_cost head = cost_unit(&model, (struct unit){ UNIT_HEAD, 0 }, &rates, &workload);
    ASSERT_NEAR(head.token_s, 256 * 68 / 2e6 + 2e-3);
    ASSERT_NEAR(head.prefill_s, 256 * 68 / 2e6 + 3 * 2e-3);
    /* New tokens at positions 10..13 see 11 + 12 + 13 + 14 keys. */
    ASSERT_NEAR(cost_total(&model, &attn, &workload), attn.prefill_s + 4 * attn.token_s + 50 * attn.key_s);
    assert_int_equal(cost_token_bytes(&model), 2 * (128 + 64 + 256 + 128) * 64 * 2 + 256 * 68);
}

static void a_prompt_costs_at_least_one_reading_of_the_weights(void **state) {
    (void)state;
    struct model_block blocks[2];
    struct model model = make_model(blocks);
    struct device_rates rates = round_rates();
    rates.prefill_ops_per_s[TENSOR_F16] = 1e12;
    struct workload workload = { .prompt_tokens = 1, .micro_batch = 256, .kv_type = KV_F16 };
    struct unit_cost ffn = cost_unit(&model, (struct unit){ UNIT_FFN, 0 }, &rates, &workload);
    ASSERT_NEAR(ffn.prefill_s, ffn.token_s);
}

static void a_window_bounds_the_keys(void **state) {
    (void)state;
    struct model_block blocks[2];
    struct model model = make_model(blocks);
    model.sliding_window = 12;
    /* Positions 10, 11, 12, 13 see 11, 12, 12, 12. */
    struct workload workload = { .prompt_tokens = 10, .new_tokens = 4, .micro_batch = 4 };
    ASSERT_NEAR(cost_workload_keys(&model, &workload), 47);
    workload.prompt_tokens = 100;
    ASSERT_NEAR(cost_workload_keys(&model, &workload), 48);
    ASSERT_NEAR(cost_keys(&model, 3), 4);
    ASSERT_NEAR(cost_keys(&model, 400), 12);
    model.sliding_window = 0;
    ASSERT_NEAR(cost_keys(&model, 400), 401);
}

static void crossing_a_longrope_switch_costs_a_second_prefill(void **state) {
    (void)state;
    struct model_block blocks[2];
    struct model model = make_model(blocks);
    model.rope.scaling = ROPE_LONGROPE;
    model.rope.original_context = 20;
    assert_true(workload_crosses_switch(&model, 18, 3, "auto"));
    assert_false(workload_crosses_switch(&model, 18, 2, "auto"));
    assert_false(workload_crosses_switch(&model, 21, 9, "auto"));
    assert_false(workload_crosses_switch(&model, 18, 3, "long"));
    model.rope.scaling = ROPE_LLAMA3;
    assert_false(workload_crosses_switch(&model, 18, 3, "auto"));

    struct device_rates rates = round_rates();
    struct workload workload = { .prompt_tokens = 18, .new_tokens = 3, .micro_batch = 8, .crosses_rope_switch = true };
    struct unit_cost ffn = cost_unit(&model, (struct unit){ UNIT_FFN, 0 }, &rates, &workload);
    workload.prompt_tokens = 21;
    struct unit_cost longer = cost_unit(&model, (struct unit){ UNIT_FFN, 0 }, &rates, &workload);
    ASSERT_NEAR(ffn.rerun_s, longer.prefill_s);
    workload.prompt_tokens = 18;
    ASSERT_NEAR(cost_total(&model, &ffn, &workload), ffn.prefill_s + ffn.rerun_s + 3 * ffn.token_s);
}

static void hops_cost_both_ends_and_the_residual_vector(void **state) {
    (void)state;
    struct model_block blocks[2];
    struct model model = make_model(blocks);
    struct device_rates rates = round_rates();
    struct workload workload = { .prompt_tokens = 10, .new_tokens = 100, .micro_batch = 4 };
    ASSERT_NEAR(cost_hop_token(&model, &rates, &rates), 0.02 + 2 * 256 / 25600.0);
    ASSERT_NEAR(cost_hop_token(&model, NULL, &rates), 0.01 + 256 / 25600.0);
    ASSERT_NEAR(cost_hop_prompt(&model, &rates, NULL, &workload), 3 * 0.01 + 10 * 256 / 25600.0);
    ASSERT_NEAR(cost_hop_total(&model, NULL, &rates, &workload), 0.13 + 100 * 0.02);
    /* In one context: what was measured, and the bytes where they are moved. */
    struct device_rates one = rates, other = rates;
    one.context = other.context = 3;
    one.handover_s = 0.004;
    other.handover_s = 0.005;
    ASSERT_NEAR(cost_hop_token(&model, &one, &other), 0.005 + 2 * 256 / 25600.0);
    one.has_host_memory = other.has_host_memory = true;
    ASSERT_NEAR(cost_hop_token(&model, &one, &other), 0.005);
    ASSERT_NEAR(cost_hop_prompt(&model, &one, &other, &workload), 3 * 0.005);
    ASSERT_NEAR(cost_hop_token(&model, &one, NULL), 0.01 + 256 / 25600.0);
    other.context = 4;
    ASSERT_NEAR(cost_hop_token(&model, &one, &other), 0.02 + 2 * 256 / 25600.0);
}

static void measured_rates_replace_typical_ones(void **state) {
    (void)state;
    struct device device = { .type = DEVICE_CPU };
    struct device_rates rates;
    device_rates_assume(&rates, &device);
    assert_false(rates.measured);
    double typical_copy = rates.transfer_bytes_per_s;
    const struct probe_value values[] = {
        { "decode", "q4_0", 1u << 20, 56e9, "B/s" },     { "decode", "q4_0", 1u << 30, 30e9, "B/s" },
        { "decode", "f16", 1u << 30, 20e9, "B/s" },      { "prefill", "f16", 0, 40e9, "op/s" },
        { "decode", "f32", 1u << 30, (double)NAN, "B/s" }, { "decode", "bf16", 1u << 30, -1, "B/s" },
        { "launch", "", 0, 3e-6, "s" },                  { "hop", "", 0, 20e-6, "s" },
    };
    const struct probe_value stream = { "stream", "", 4u << 20, 1e6, "B/s" };
    device_rates_apply(&rates, &stream, 1, 800u << 20);
    assert_false(rates.measured);
    ASSERT_NEAR(rates.decode_bytes_per_s[TENSOR_Q4_0], 1e6);
    device_rates_apply(&rates, values, sizeof values / sizeof *values, 800u << 20);
    assert_true(rates.measured);
    ASSERT_NEAR(rates.decode_bytes_per_s[TENSOR_Q4_0], 30e9);
    ASSERT_NEAR(rates.decode_bytes_per_s[TENSOR_F16], 20e9);
    ASSERT_NEAR(rates.decode_bytes_per_s[TENSOR_F32], 20e9);
    ASSERT_NEAR(rates.decode_bytes_per_s[TENSOR_Q6_K], 30e9);
    assert_true(rates.knows_format[TENSOR_Q4_0] && rates.knows_format[TENSOR_F16]);
    assert_false(rates.knows_format[TENSOR_F32] || rates.knows_format[TENSOR_Q6_K] || rates.knows_format[TENSOR_BF16]);
    ASSERT_NEAR(rates.prefill_ops_per_s[TENSOR_Q4_0], 40e9);
    ASSERT_NEAR(rates.launch_s, 3e-6);
    ASSERT_NEAR(rates.transfer_s, 20e-6);
    ASSERT_NEAR(rates.transfer_bytes_per_s, typical_copy);
    device_rates_apply(&rates, values, sizeof values / sizeof *values, 2u << 20);
    ASSERT_NEAR(rates.decode_bytes_per_s[TENSOR_Q4_0], 56e9);
}

static void a_format_that_was_not_measured_is_like_the_nearest(void **state) {
    (void)state;
    struct device device = { .type = DEVICE_CPU };
    struct device_rates rates;
    device_rates_assume(&rates, &device);
    const struct probe_value values[] = {
        { "decode", "q4_1", 0, 2e9, "B/s" }, { "decode", "q4_1/r16", 0, 10e9, "B/s" },
        { "prefill", "q4_1", 0, 1e9, "op/s" }, { "prefill", "q4_1/r16", 0, 6e9, "op/s" },
    };
    device_rates_apply(&rates, values, sizeof values / sizeof *values, 100u << 20);
    ASSERT_NEAR(rates.decode_bytes_per_s[TENSOR_Q4_1], 2e9);
    ASSERT_NEAR(rates.packed_decode_bytes_per_s[TENSOR_Q4_1], 10e9);
    /* 18 bytes where q4_1 has 20: the values come as fast. */
    ASSERT_NEAR(rates.decode_bytes_per_s[TENSOR_Q4_0], 9e9);
    ASSERT_NEAR(rates.prefill_ops_per_s[TENSOR_Q4_0], 6e9);
    ASSERT_NEAR(rates.decode_bytes_per_s[TENSOR_F16], 10e9);
    /* q5_1 has rows only. */
    ASSERT_NEAR(rates.decode_bytes_per_s[TENSOR_Q5_1], 2e9);
    ASSERT_NEAR(rates.prefill_ops_per_s[TENSOR_Q5_1], 1e9);
}

static void devices_on_one_memory_slow_each_other_down(void **state) {
    (void)state;
    /* alone, part of the speed that is left, until both are done */
    static const struct { double alone[3], together[3]; uint32_t count; double seconds; } cases[] = {
        { { 2, 3 }, { 0, 0 }, 2, 5 },          /* not measured: in turns */
        { { 2, 3 }, { 1, 1 }, 2, 3 },          /* they do not mind */
        { { 2, 2 }, { 0.5, 0.5 }, 2, 4 },
        { { 2, 3 }, { 0.8, 0.5 }, 2, 4.25 },   /* 2.5 s for the first, by then 1.25 s of the other's 3 */
        { { 2 }, { 0.5 }, 1, 2 },
        { { 2, 0 }, { 0.5, 0.5 }, 2, 2 },
        { { 1, 1, 1 }, { 0, 0, 0 }, 3, 3 },
        { { 1, 1, 1 }, { 0.5, 0.5, 0.5 }, 3, 3 },
        { { 0 }, { 0 }, 0, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double seconds = forecast_pooled_seconds(cases[i].alone, cases[i].together, cases[i].count);
        if (fabs(seconds - cases[i].seconds) > 1e-9)
            fail_msg("case %zu: %g s instead of %g", i, seconds, cases[i].seconds);
    }
}

static void passes_overlap_on_their_way_through_the_devices(void **state) {
    (void)state;
    /* seconds of the steps on devices 0, 1, 0, ...; passes; part of the sum that they take */
    static const struct { double steps[4]; uint32_t count; double passes; bool shares; double together, part; } cases[] = {
        { { 1 }, 1, 5, false, 0, 1 },
        { { 1, 1 }, 2, 1, false, 0, 1 },
        { { 1, 1 }, 2, 0.5, false, 0, 1 },
        { { 1, 1 }, 2, 2, false, 0, 3 / 4.0 },
        { { 3, 1 }, 2, 2, false, 0, 7 / 8.0 },
        { { 1, 1 }, 2, 1.5, false, 0, 2.5 / 3 },
        { { 1, 1 }, 2, 100, false, 0, 101 / 200.0 },
        { { 1, 1, 1, 1 }, 4, 2, false, 0, 5 / 8.0 },
        { { 1, 1 }, 2, 2, true, 0, 1 },        /* in turns */
        { { 1, 1 }, 2, 2, true, 0.5, 1 },
        { { 1, 1 }, 2, 2, true, 0.8, 3.25 / 4 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pipeline pipeline = { 0 };
        bool shares[PLAN_MAX_DEVICES] = { cases[i].shares, cases[i].shares };
        double together[PLAN_MAX_DEVICES] = { cases[i].together, cases[i].together };
        pipeline_add(&pipeline, PLAN_HOST, 7);
        for (uint32_t s = 0; s < cases[i].count; s++) {
            pipeline_add(&pipeline, (int32_t)(s % 2), cases[i].steps[s] / 4);
            pipeline_add(&pipeline, (int32_t)(s % 2), cases[i].steps[s] * 3 / 4);
        }
        double part = pipeline_overlap(&pipeline, cases[i].passes, shares, together);
        if (fabs(part - cases[i].part) > 1e-9)
            fail_msg("case %zu: %g instead of %g", i, part, cases[i].part);
    }
    /* Each of three devices has a pass of its own: the last comes out two steps after the others. */
    const bool apart[PLAN_MAX_DEVICES] = { false }, same[PLAN_MAX_DEVICES] = { true, true, true };
    const double none[PLAN_MAX_DEVICES] = { 0 }, most[PLAN_MAX_DEVICES] = { 0.75, 0.75, 0.75 };
    struct pipeline three = { 0 };
    for (int32_t device = 0; device < 3; device++)
        pipeline_add(&three, device, 1);
    assert_true(fabs(pipeline_overlap(&three, 3, apart, none) - 5 / 9.0) < 1e-9);
    assert_true(fabs(pipeline_overlap(&three, 100, apart, none) - 102 / 300.0) < 1e-9);
    /* One, two, three, two and one of them at work: as fast as 1, 0.75 and 0.5. */
    assert_true(fabs(pipeline_overlap(&three, 3, same, most) - (2 + 2 / 0.75 + 1 / 0.5) / 9) < 1e-9);
    struct pipeline long_way = { 0 };
    for (int32_t s = 0; s < 1000; s++)
        pipeline_add(&long_way, s % 2, 1);
    assert_true(pipeline_overlap(&long_way, 9, apart, none) == 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_unit_costs_its_bytes_its_keys_and_its_launches),
        cmocka_unit_test(a_prompt_costs_at_least_one_reading_of_the_weights),
        cmocka_unit_test(a_window_bounds_the_keys),
        cmocka_unit_test(crossing_a_longrope_switch_costs_a_second_prefill),
        cmocka_unit_test(hops_cost_both_ends_and_the_residual_vector),
        cmocka_unit_test(measured_rates_replace_typical_ones),
        cmocka_unit_test(a_format_that_was_not_measured_is_like_the_nearest),
        cmocka_unit_test(devices_on_one_memory_slow_each_other_down),
        cmocka_unit_test(passes_overlap_on_their_way_through_the_devices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
