#include "tests/support.h"

#include "common/unit.h"
#include "planner/device_map.h"
#include "tests/support_model.h"
#include "tests/support_plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool read(const char *json, struct device_map *map, struct error *err) {
    return device_map_read(json, strlen(json), "map.json", map, err);
}

static void check_print(const struct device_map *map, const char *expected) {
    struct text text;
    text_init(&text);
    device_map_print(map, &text);
    assert_string_equal(text.bytes, expected);
    text_release(&text);
}

/* ---- text ---- */

static void a_map_is_printed_as_python_prints_it(void **state) {
    (void)state;
    struct error err = { 0 };
    struct device_map map = { 0 };
    const struct device_map_place cpu = { .device = DEVICE_MAP_CPU }, disk = { .device = DEVICE_MAP_DISK };
    const struct device_map_place one = { .device = 1 }, named = { DEVICE_MAP_NAMED, "igpu0" };
    check_print(&map, "{}");
    ASSERT_OK(device_map_add(&map, "", one, &err), err);
    check_print(&map, "{\"\": 1}");
    ASSERT_OK(device_map_add(&map, "lm_head", cpu, &err), err);
    ASSERT_OK(device_map_add(&map, "model.norm", disk, &err), err);
    ASSERT_OK(device_map_add(&map, "a\"\\\n\xd5\x83", named, &err), err);
    check_print(&map, "{\"\": 1, \"lm_head\": \"cpu\", \"model.norm\": \"disk\", \"a\\\"\\\\\\n\\u0543\": \"igpu0\"}");
    device_map_release(&map);
}

static void every_spelling_of_a_device_is_read(void **state) {
    (void)state;
    struct error err = { 0 };
    struct device_map map;
    ASSERT_OK(read("{\"a\": 0, \"b\": \"cpu\", \"c\": \"disk\", \"d\": \"cuda:0\", \"e\": \"xpu:1\", \"f\": \"cuda\", "
                   "\"g\": \"2\", \"h\": \"mps\", \"i\": \"gpu0\", \"j\": \"cpu1\", \"k\": \"cpu:0\", \"l\": \"host\"}", &map, &err), err);
    check_print(&map, "{\"a\": 0, \"b\": \"cpu\", \"c\": \"disk\", \"d\": 0, \"e\": 1, \"f\": 0, \"g\": 2, \"h\": 0, "
                      "\"i\": \"gpu0\", \"j\": \"cpu1\", \"k\": \"cpu\", \"l\": \"host\"}");
    device_map_release(&map);
}

static void what_is_no_map_is_refused_with_the_key(void **state) {
    (void)state;
    static const struct { const char *json, *subject; } cases[] = {
        { "", "map.json" }, { "[]", "object" }, { "{}", "object" }, { "{\"a\": 0", "map.json" }, { "3", "map.json" },
        { "{\"lm_head\": -1}", "lm_head" }, { "{\"lm_head\": 1.5}", "1.5" }, { "{\"lm_head\": null}", "null" },
        { "{\"lm_head\": true}", "true" }, { "{\"lm_head\": \"\"}", "lm_head" }, { "{\"lm_head\": \"cuda:\"}", "cuda:" },
        { "{\"lm_head\": \"cuda:x\"}", "cuda:x" }, { "{\"lm_head\": \"cuda:1234\"}", "cuda:1234" },
        { "{\"lm_head\": \"meta\"}", "meta" }, { "{\"lm_head\": \"cpu:1\"}", "cpu:1" }, { "{\"lm_head\": \"gpu:0\"}", "gpu:0" },
        { "{\"lm_head\": \"a name far too long for a device\"}", "lm_head" }, { "{\"lm_head\": 4294967296}", "lm_head" },
        { "{\"lm_head\": {\"a\": 1}}", "lm_head" }, { "{\"lm_head\": \"cpu\\u0000x\"}", "lm_head" },
        { "{\"devices\": [1]}", "devices" }, { "{\"devices\": [{\"device\": \"cpu0\"}]}", "units" },
        { "{\"devices\": [{\"device\": \"cpu0\", \"units\": [1]}]}", "cpu0" },
        { "{\"devices\": [{\"device\": 3, \"units\": []}]}", "device" },
        { "{\"devices\": [{\"device\": \"a:b\", \"units\": []}]}", "a:b" },
        { "{\"devices\": [{\"device\": \"cpu0\", \"units\": [\"embed\"]}, {\"device\": \"cpu1\", \"units\": [\"embed\"]}]}",
          "'embed' twice" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = { 0 };
        struct device_map map;
        if (read(cases[i].json, &map, &err) || err.kind != ERROR_USAGE || !strstr(err.text, cases[i].subject))
            fail_msg("'%s' gave '%s'", cases[i].json, err.text);
        assert_int_equal(map.count, 0);
    }
}

static void hostile_bytes_end_in_a_sentence(void **state) {
    (void)state;
    struct error err = { 0 };
    struct device_map map;
    char *deep = malloc(200001);
    memset(deep, '[', 200000);
    deep[200000] = '\0';
    assert_false(read(deep, &map, &err));
    free(deep);
    assert_false(device_map_read("{\"\xff\": 0}", 8, "map.json", &map, &err));
    assert_false(device_map_read("{\"a\": 0}\0x", 10, "map.json", &map, &err));
    assert_int_equal(err.kind, ERROR_USAGE);
}

/* ---- resolving ---- */

struct fixture { struct model *model; struct module_tree *tree; struct device_map_place places[64]; struct text notes; };

static void set_up(struct fixture *fixture, uint32_t blocks, bool is_tied, const char *architecture) {
    struct error err = { 0 };
    struct support_shape shape = {
        .hidden = 64, .intermediate = 96, .blocks = blocks, .heads = 4, .kv_heads = 2, .head_dim = 16, .vocab = 50,
        .type = TENSOR_F16, .q_type = TENSOR_F16, .k_type = TENSOR_F16, .v_type = TENSOR_F16, .is_tied = is_tied,
        .has_bias = strcmp(architecture, "qwen2") == 0 };
    struct module_sizes sizes = { 0, 4 };
    fixture->model = support_model(&shape);
    free(fixture->model->architecture);
    fixture->model->architecture = strdup(architecture);
    fixture->tree = module_tree_new(fixture->model, &sizes, &err);
    ASSERT_OK(fixture->tree, err);
    text_init(&fixture->notes);
}

static void tear_down(struct fixture *fixture) {
    module_tree_free(fixture->tree);
    model_close(fixture->model);
    text_release(&fixture->notes);
}

static bool resolve(struct fixture *fixture, const char *json, struct error *err) {
    struct device_map map;
    text_clear(&fixture->notes);
    bool ok = read(json, &map, err) && device_map_resolve(&map, fixture->tree, fixture->places, &fixture->notes, err);
    device_map_release(&map);
    return ok;
}

static void check_places(struct fixture *fixture, const char *json, const char *expected) {
    struct error err = { 0 };
    char found[256] = "";
    ASSERT_OK(resolve(fixture, json, &err), err);
    for (uint32_t unit = 0; unit < fixture->tree->unit_count; unit++) {
        char place[24];
        device_map_place_text(fixture->places[unit], place);
        snprintf(found + strlen(found), sizeof found - strlen(found), "%s%s", unit ? " " : "", place);
    }
    assert_string_equal(found, expected);
}

static void keys_match_at_dots_only(void **state) {
    (void)state;
    struct fixture fixture;
    set_up(&fixture, 12, false, "phi3");
    /* embed, then attn and ffn of blocks 0 to 11, then head. */
    check_places(&fixture, "{\"\": 0, \"model.layers.1\": 1}",
                 "0 0 0 1 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0");
    check_places(&fixture, "{\"model.layers.1\": 1, \"model.layers.10.mlp\": 2, \"model\": \"cpu\", \"lm_head\": 3}",
                 "cpu cpu cpu 1 1 cpu cpu cpu cpu cpu cpu cpu cpu cpu cpu cpu cpu cpu cpu cpu cpu cpu 2 cpu cpu 3");
    tear_down(&fixture);
}

static void a_block_may_be_halved_but_not_torn(void **state) {
    (void)state;
    struct fixture fixture;
    struct error err = { 0 };
    set_up(&fixture, 2, false, "phi3");
    check_places(&fixture, "{\"\": 0, \"model.layers.1.mlp\": \"cpu\"}", "0 0 0 0 cpu 0");
    /* What Accelerate makes of a model without no_split_module_classes. */
    assert_false(resolve(&fixture, "{\"model.embed_tokens\": 0, \"model.layers.0.self_attn.o_proj\": 0, "
                         "\"model.layers.0.self_attn.qkv_proj\": 1, \"model.layers.0\": 1, \"model.layers.1\": 1, "
                         "\"model.norm\": 1, \"lm_head\": 1}", &err));
    assert_int_equal(err.kind, ERROR_USAGE);
    assert_non_null(strstr(err.text, "'model.layers.0.self_attn.o_proj' is on 0"));
    assert_non_null(strstr(err.text, "'model.layers.0.self_attn.qkv_proj' on 1"));
    assert_null(strstr(err.text, "layers.1"));
    /* By parameter, and all torn halves counted. */
    assert_false(resolve(&fixture, "{\"\": 0, \"model.layers.0.mlp.down_proj.weight\": 1, "
                         "\"model.layers.1.mlp.down_proj\": \"cpu\"}", &err));
    assert_non_null(strstr(err.text, "tears 2 half blocks"));
    assert_non_null(strstr(err.text, "'model.layers.1.mlp.down_proj' on cpu"));
    tear_down(&fixture);
    set_up(&fixture, 1, false, "qwen2");
    assert_false(resolve(&fixture, "{\"\": 0, \"model.layers.0.self_attn.k_proj.bias\": 1}", &err));
    assert_non_null(strstr(err.text, "k_proj.bias' on 1"));
    check_places(&fixture, "{\"\": 0, \"model.layers.0.self_attn.o_proj.weight\": 0}", "0 0 0 0");
    tear_down(&fixture);
}

static void a_norm_goes_with_its_matrices(void **state) {
    (void)state;
    struct fixture fixture;
    set_up(&fixture, 1, false, "phi3");
    check_places(&fixture, "{\"model.embed_tokens\": 0, \"model.layers.0\": 1, \"model.norm\": 1, \"lm_head\": \"cpu\"}",
                 "0 1 1 cpu");
    assert_string_equal(fixture.notes.bytes, "'model.norm' goes with 'lm_head': a norm runs where its matrices are\n");
    check_places(&fixture, "{\"\": 0}", "0 0 0 0");
    assert_string_equal(fixture.notes.bytes, "");
    tear_down(&fixture);
}

static void a_tied_head_needs_no_key(void **state) {
    (void)state;
    struct fixture fixture;
    struct error err = { 0 };
    set_up(&fixture, 1, true, "llama");
    check_places(&fixture, "{\"model\": 2}", "2 2 2 2");
    check_places(&fixture, "{\"model\": 2, \"lm_head\": 1}", "2 2 2 1");
    tear_down(&fixture);
    set_up(&fixture, 1, false, "llama");
    assert_false(resolve(&fixture, "{\"model\": 2}", &err));
    assert_non_null(strstr(err.text, "'lm_head'"));
    tear_down(&fixture);
}

static void keys_of_other_versions_are_passed_over(void **state) {
    (void)state;
    struct fixture fixture;
    set_up(&fixture, 1, false, "phi3");
    check_places(&fixture, "{\"model.embed_tokens\": 0, \"model.embed_dropout\": 0, \"model.layers.0\": 0, "
                 "\"model.layers.0.resid_attn_dropout\": 1, \"model.layers.0.self_attn.rotary_emb\": 1, "
                 "\"model.rotary_emb\": \"disk\", \"model.norm\": 0, \"lm_head\": 0}", "0 0 0 0");
    tear_down(&fixture);
}

static void a_map_of_another_model_is_refused(void **state) {
    (void)state;
    struct fixture fixture;
    struct error err = { 0 };
    set_up(&fixture, 2, false, "phi3");
    static const struct { const char *json, *subject; } cases[] = {
        { "{\"\": 0, \"model.layers.2\": 1}", "'model.layers.2'" },
        { "{\"\": 0, \"model.layers.0.self_attn.q_proj\": 1}", "q_proj" },
        { "{\"\": 0, \"transformer.h.0\": 1, \"transformer.h.1\": 1}", "2 keys" },
        { "{\"\": 0, \"attn.2\": 1}", "'attn.2'" }, { "{\"\": 0, \"attn.4294967296\": 1}", "attn" },
        { "{\"\": 0, \"model.layers.0.mlp.weight\": 1}", "mlp.weight" },
        { "{\"model.layers.0\": 0}", "no key of the map covers 'model.embed_tokens'" },
        { "{\"\": 0, \"model.layers.1\": \"disk\"}", "key 'model.layers.1'" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        err = (struct error){ 0 };
        if (resolve(&fixture, cases[i].json, &err) || err.kind != ERROR_USAGE || !strstr(err.text, cases[i].subject))
            fail_msg("'%s' gave '%s'", cases[i].json, err.text);
    }
    tear_down(&fixture);
}

static void a_plan_in_json_is_a_map_by_units(void **state) {
    (void)state;
    struct fixture fixture;
    set_up(&fixture, 2, false, "phi3");
    check_places(&fixture, "{\"plan\": 3, \"devices\": [{\"device\": \"host\", \"units\": [\"embed\"]}, "
                 "{\"device\": \"gpu0\", \"units\": [\"attn.0\", \"ffn.0\", \"attn.1\"]}, "
                 "{\"device\": \"cpu0\", \"units\": [\"ffn.1\", \"head\"]}]}", "host gpu0 gpu0 gpu0 cpu0 cpu0");
    assert_string_equal(fixture.notes.bytes, "");
    check_places(&fixture, "{\"\": 0, \"ffn.0\": \"cpu1\"}", "0 0 cpu1 0 0 0");
    tear_down(&fixture);
}

static void a_plan_in_json_brings_its_request(void **state) {
    (void)state;
    static const char json[] = "{\"devices\": [], \"request\": {\"ctx\": 8192, \"prompt\": 30, \"kv\": \"q8_0\", "
                               "\"weights\": \"q4_0\", \"policy\": \"fill\", \"max_memory\": \"cpu0=1GiB\", "
                               "\"devices\": \"cpu0\", \"exclude\": \"cpu1\"}}";
    static const char odd[] = "{\"devices\": [], \"request\": {\"weights\": \"q3_x\"}}";
    struct plan_request request = { .prompt_tokens = 7, .exclude = "cpu2" };
    struct error err = { 0 };
    struct text notes;
    text_init(&notes);
    ASSERT_OK(device_map_read_request(json, strlen(json), "plan.json", true, &request, &notes, &err), err);
    assert_int_equal(request.context, 8192);
    assert_int_equal(request.prompt_tokens, 7);
    assert_int_equal(request.kv_type, KV_Q8_0);
    assert_string_equal(request.weights, "q4_0");
    assert_string_equal(request.max_memory, "");
    assert_string_equal(notes.bytes, "'plan.json' was made with --devices, --max-memory, which import does not take\n");
    text_clear(&notes);
    snprintf(request.weights, sizeof request.weights, "keep");
    ASSERT_OK(device_map_read_request(odd, strlen(odd), "plan.json", true, &request, &notes, &err), err);
    assert_string_equal(notes.bytes, "");
    request.weights[0] = '\0';
    assert_false(device_map_read_request(odd, strlen(odd), "plan.json", true, &request, &notes, &err));
    assert_non_null(strstr(err.text, "'plan.json' asks for weights 'q3_x'"));
    text_release(&notes);
}

/* ---- from a plan ---- */

static void a_plan_becomes_a_map_of_whole_blocks(void **state) {
    (void)state;
    struct error err = { 0 };
    struct device_map map;
    struct plan *plan = test_plan(2, "default");   /* embed on the host, a half each on gpu0 and cpu0 */
    ASSERT_OK(device_map_from_plan(plan, &map, &err), err);
    check_print(&map, "{\"model.embed_tokens\": \"cpu\", \"model.layers.0\": 0, \"model.layers.1\": \"cpu\", "
                      "\"model.norm\": \"cpu\", \"model.rotary_emb\": \"cpu\", \"lm_head\": \"cpu\"}");
    device_map_release(&map);
    /* Halves apart; the number that the device has in the machine's list, which starts with GPUs. */
    snprintf(plan->devices[0].device.short_name, sizeof plan->devices[0].device.short_name, "%s", "igpu0");
    plan->devices[0].device.type = DEVICE_IGPU;
    plan->devices[2].device.type = DEVICE_GPU;
    snprintf(plan->devices[2].device.short_name, sizeof plan->devices[2].device.short_name, "%s", "gpu0");
    plan->device_count = 3;
    for (uint32_t i = 0; i < plan->shard_count; i++)
        if (plan->shards[i].unit == 3)
            plan->shards[i].device = 0;
    ASSERT_OK(device_map_from_plan(plan, &map, &err), err);
    check_print(&map, "{\"model.embed_tokens\": \"cpu\", \"model.layers.0\": 1, "
                      "\"model.layers.1.input_layernorm\": 1, \"model.layers.1.self_attn\": 1, "
                      "\"model.layers.1.post_attention_layernorm\": \"cpu\", \"model.layers.1.mlp\": \"cpu\", "
                      "\"model.norm\": \"cpu\", \"model.rotary_emb\": \"cpu\", \"lm_head\": \"cpu\"}");
    struct fixture fixture;
    set_up(&fixture, 2, false, "llama");
    ASSERT_OK(device_map_resolve(&map, fixture.tree, fixture.places, &fixture.notes, &err), err);
    assert_int_equal(fixture.places[3].device, 1);
    assert_int_equal(fixture.places[4].device, DEVICE_MAP_CPU);
    tear_down(&fixture);
    device_map_release(&map);
    plan_free(plan);
}

static void a_sliced_plan_has_no_map(void **state) {
    (void)state;
    struct error err = { 0 };
    struct device_map map;
    struct plan *plan = test_plan(2, "default");
    struct shard second = plan->shards[1];
    plan->shards[1].part_end = 1;
    second.part_begin = 1;
    second.part_end = 2;
    ASSERT_OK(plan_add_shard(plan, &second, &err), err);
    assert_false(device_map_from_plan(plan, &map, &err));
    assert_non_null(strstr(err.text, "'attn.0' is sliced"));
    plan_free(plan);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_map_is_printed_as_python_prints_it),
        cmocka_unit_test(every_spelling_of_a_device_is_read),
        cmocka_unit_test(what_is_no_map_is_refused_with_the_key),
        cmocka_unit_test(hostile_bytes_end_in_a_sentence),
        cmocka_unit_test(keys_match_at_dots_only),
        cmocka_unit_test(a_block_may_be_halved_but_not_torn),
        cmocka_unit_test(a_norm_goes_with_its_matrices),
        cmocka_unit_test(a_tied_head_needs_no_key),
        cmocka_unit_test(keys_of_other_versions_are_passed_over),
        cmocka_unit_test(a_map_of_another_model_is_refused),
        cmocka_unit_test(a_plan_in_json_is_a_map_by_units),
        cmocka_unit_test(a_plan_in_json_brings_its_request),
        cmocka_unit_test(a_plan_becomes_a_map_of_whole_blocks),
        cmocka_unit_test(a_sliced_plan_has_no_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
