/* Every case of goldens/accelerate/device_maps.json: sizes, balanced limits, maps. */
#include "tests/support.h"

#include "planner/accelerate_map.h"
#include "planner/size_text.h"
#include "tests/support_golden.h"
#include "tests/support_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One model of the goldens, built from a config.json as a dry run does it. */
struct subject {
    const json_t *golden;
    const char *name;
    struct model *model;
};

static struct golden goldens;

static int load(void **state) {
    (void)state;
    golden_load(&goldens, "goldens/accelerate/device_maps.json");
    return 0;
}

static int release(void **state) {
    (void)state;
    if (goldens.root)
        golden_release(&goldens);
    return 0;
}

static void open_subject(struct subject *subject, const json_t *golden) {
    struct error err = { 0 };
    struct model_source source = { 0 };
    const struct model_options dry = { .headers_optional = true };
    char folder[256], path[300];
    subject->golden = golden;
    subject->name = json_string_value(golden_get(golden, "name"));
    json_t *config = json_deep_copy(golden_get(golden, "config"));
    /* The goldens name the rotary buffers; the config says the share of a head. */
    const json_t *shape = json_array_get(golden_get(golden_get(golden, "buffers"), "model.rotary_emb.inv_freq"), 0);
    double head_dim = (double)json_integer_value(golden_get(config, "hidden_size")) /
                      (double)json_integer_value(golden_get(config, "num_attention_heads"));
    double rotary = 2 * (double)json_integer_value(json_array_get(shape, 0));
    json_object_set_new(config, "partial_rotary_factor", json_real(rotary / head_dim));
    snprintf(folder, sizeof folder, "%s/%s", test_folder(), subject->name);
    snprintf(path, sizeof path, "mkdir -p '%s'", folder);
    assert_int_equal(system(path), 0);
    snprintf(path, sizeof path, "%s/config.json", folder);
    assert_int_equal(json_dump_file(config, path, 0), 0);
    json_decref(config);
    ASSERT_OK(model_source_resolve(&source, folder, &err), err);
    subject->model = model_open(&source, &dry, &err);
    ASSERT_OK(subject->model, err);
    model_source_release(&source);
}

typedef void visit_subject(const struct subject *subject);

static void each_subject(visit_subject *visit) {
    if (!goldens.root)
        SKIP_BECAUSE("no goldens/accelerate/device_maps.json");
    const json_t *models = golden_get(goldens.root, "models"), *golden;
    size_t index;
    assert_true(json_array_size(models) >= 6);
    json_array_foreach(models, index, golden) {
        struct subject subject;
        open_subject(&subject, golden);
        visit(&subject);
        model_close(subject.model);
    }
}

static struct module_tree *tree_of(const struct subject *subject, const char *dtype, enum accelerate_dialect dialect) {
    struct error err = { 0 };
    uint32_t bytes = accelerate_dtype_bytes(dtype);
    struct module_sizes sizes = { bytes, dialect == TRANSFORMERS_5 ? 4 : bytes };
    struct module_tree *tree = module_tree_new(subject->model, &sizes, &err);
    ASSERT_OK(tree, err);
    return tree;
}

/* ---- sizes ---- */

static unsigned compare_sizes(const struct subject *subject, const struct module_tree *tree, const json_t *sizes) {
    const char *key;
    json_t *value;
    unsigned compared = 0;
    json_object_foreach((json_t *)(uintptr_t)sizes, key, value) {
        uint32_t node = module_tree_find(tree, key);
        const char *dot = strrchr(key, '.');
        bool is_tensor = dot && (strcmp(dot, ".weight") == 0 || strstr(dot, "inv_freq"));
        if (is_tensor)
            continue;
        if (node == MODULE_NONE)
            fail_msg("%s: no module '%s'", subject->name, key);
        if (tree->nodes[node].bytes != (uint64_t)json_integer_value(value))
            fail_msg("%s: '%s' has %llu bytes, not %lld", subject->name, key,
                     (unsigned long long)tree->nodes[node].bytes, json_integer_value(value));
        compared++;
    }
    return compared;
}

static void check_sizes(const struct subject *subject) {
    const json_t *sizes = golden_get(subject->golden, "sizes");
    static const char *const dtypes[] = { "float16", "float32", "int8" };
    for (size_t i = 0; i < 3; i++) {
        struct module_tree *tree = tree_of(subject, dtypes[i], ACCELERATE_1);
        assert_true(compare_sizes(subject, tree, golden_get(sizes, dtypes[i])) >= 12);
        module_tree_free(tree);
    }
    struct module_tree *tree = tree_of(subject, "float16", TRANSFORMERS_5);
    sizes = golden_get(golden_get(subject->golden, "transformers5"), "sizes_float16");
    assert_true(compare_sizes(subject, tree, sizes) >= 6);
    module_tree_free(tree);
}

static void modules_have_the_bytes_that_compute_module_sizes_gives(void **state) {
    (void)state;
    each_subject(check_sizes);
}

/* ---- maps ---- */

static void read_memory(const json_t *list, struct accelerate_memory *memory) {
    struct error err = { 0 };
    const json_t *pair;
    size_t index;
    *memory = (struct accelerate_memory){ 0 };
    json_array_foreach(list, index, pair) {
        const json_t *key = json_array_get(pair, 0), *value = json_array_get(pair, 1);
        struct size_value size = { .bytes = (uint64_t)json_integer_value(value) };
        if (json_is_string(value))
            ASSERT_OK(size_parse(json_string_value(value), &size, &err), err);
        int32_t device = json_is_integer(key) ? (int32_t)json_integer_value(key)
                         : strcmp(json_string_value(key), "cpu") == 0 ? DEVICE_MAP_CPU : DEVICE_MAP_DISK;
        ASSERT_OK(accelerate_memory_add(memory, device, size.bytes, &err), err);
    }
}

static char *show(const struct device_map *map) {
    struct text text;
    text_init(&text);
    device_map_print(map, &text);
    return text_take(&text);
}

/* Same keys in the same order, or as unordered maps. */
static void compare_maps(const char *what, const struct device_map *map, const json_t *golden, bool in_order) {
    struct error err = { 0 };
    char *ours = show(map), *expected = json_dumps(golden, JSON_ENCODE_ANY);
    if (in_order && strcmp(ours, expected) != 0)
        fail_msg("%s:\n   is %s\ngolden %s", what, ours, expected);
    json_t *read = json_read_text(ours, strlen(ours), "ours", &err);
    ASSERT_OK(read, err);
    if (!json_equal(read, golden))
        fail_msg("%s:\n   is %s\ngolden %s", what, ours, expected);
    json_decref(read);
    free(ours);
    free(expected);
}

static unsigned run_count, error_count;

static void check_run(const struct subject *subject, const json_t *entry, const json_t *run,
                      enum accelerate_dialect dialect) {
    struct error err = { 0 };
    struct accelerate_memory memory, balanced;
    struct device_map map = { 0 };
    const char *mode = json_string_value(golden_get(run, "mode"));
    const char *dtype = json_string_value(golden_get(entry, "dtype"));
    const json_t *golden = json_object_get(run, "map");
    struct accelerate_options options = {
        .dialect = dialect,
        .fallback_allocation = json_is_true(json_object_get(run, "fallback_allocation")),
        .splits_blocks = json_object_get(run, "no_split") != NULL,
    };
    char what[256];
    snprintf(what, sizeof what, "%s %s %s %s%s%s%s", subject->name, json_string_value(golden_get(entry, "name")), dtype,
             mode, options.fallback_allocation ? " fallback" : "", options.splits_blocks ? " split" : "",
             dialect == TRANSFORMERS_5 ? " transformers5" : "");
    read_memory(golden_get(entry, "max_memory"), &memory);
    struct module_tree *tree = tree_of(subject, dtype, dialect);
    bool ok = true;
    run_count++;
    if (strcmp(mode, "sequential") != 0)
        ok = accelerate_balance(tree, dialect, strcmp(mode, "balanced_low_0") == 0, &memory, &err);
    const json_t *limits = json_object_get(run, "balanced_memory");
    if (ok && limits) {
        read_memory(limits, &balanced);
        assert_int_equal(memory.count, balanced.count);
        for (uint32_t i = 0; i < memory.count; i++)
            if (memory.devices[i].device != balanced.devices[i].device ||
                memory.devices[i].bytes != balanced.devices[i].bytes)
                fail_msg("%s: device %d may hold %llu, golden %llu", what, memory.devices[i].device,
                         (unsigned long long)memory.devices[i].bytes, (unsigned long long)balanced.devices[i].bytes);
    }
    ok = ok && accelerate_infer(tree, &memory, &options, &map, &err);
    if (!golden) {
        error_count++;
        if (ok || err.kind != ERROR_USAGE)
            fail_msg("%s: made a map where the golden has none", what);
        assert_true(strlen(err.text) > 40);
    } else {
        if (!ok)
            fail_msg("%s: %s", what, err.text);
        compare_maps(what, &map, golden, !options.splits_blocks);
        const json_t *text = json_object_get(run, "json_text");
        char *ours = show(&map);
        if (text)
            assert_string_equal(ours, json_string_value(text));
        free(ours);
    }
    device_map_release(&map);
    module_tree_free(tree);
}

static void check_runs(const struct subject *subject, const json_t *cases, enum accelerate_dialect dialect) {
    const json_t *entry, *run;
    size_t index, number;
    json_array_foreach(cases, index, entry)
        json_array_foreach(golden_get(entry, "runs"), number, run)
            check_run(subject, entry, run, dialect);
}

static void check_accelerate(const struct subject *subject) {
    check_runs(subject, golden_get(subject->golden, "cases"), ACCELERATE_1);
}

static void check_transformers(const struct subject *subject) {
    check_runs(subject, golden_get(golden_get(subject->golden, "transformers5"), "cases"), TRANSFORMERS_5);
}

static void every_map_is_accelerates_key_for_key(void **state) {
    (void)state;
    run_count = error_count = 0;
    each_subject(check_accelerate);
    print_message("# %u runs, %u of them errors\n", run_count, error_count);
    assert_true(run_count > 500 && error_count >= 5 * 6);
}

static void every_map_is_that_of_transformers_5(void **state) {
    (void)state;
    run_count = error_count = 0;
    each_subject(check_transformers);
    print_message("# %u runs, %u of them errors\n", run_count, error_count);
    assert_true(run_count > 400 && error_count >= 6);
}

/* ---- amounts ---- */

static void amounts_follow_the_golden_but_a_bare_number_is_bytes(void **state) {
    (void)state;
    if (!goldens.root)
        SKIP_BECAUSE("no goldens/accelerate/device_maps.json");
    const json_t *sizes = golden_get(goldens.root, "file_sizes"), *pair;
    size_t index, bare = 0;
    assert_true(json_array_size(sizes) >= 19);
    json_array_foreach(sizes, index, pair) {
        struct error err = { 0 };
        struct size_value size;
        const char *text = json_string_value(json_array_get(pair, 0));
        const json_t *golden = json_array_get(pair, 1);
        bool ok = size_parse(text, &size, &err);
        if (*text && strspn(text, "0123456789") == strlen(text)) {
            assert_true(ok && size.bytes == strtoull(text, NULL, 10));
            bare++;
        } else if (json_is_integer(golden)) {
            if (!ok || size.bytes != (uint64_t)json_integer_value(golden))
                fail_msg("'%s' is %llu bytes, golden %lld", text, (unsigned long long)size.bytes,
                         json_integer_value(golden));
        } else if (ok || err.kind != ERROR_USAGE) {
            fail_msg("'%s' was accepted", text);
        }
    }
    assert_int_equal(bare, 2);
}

static void max_memory_is_read_in_any_order(void **state) {
    (void)state;
    struct error err = { 0 };
    struct accelerate_memory memory;
    struct text notes;
    text_init(&notes);
    ASSERT_OK(accelerate_memory_parse(" cpu=24GiB, 1 = 3GiB,0=8GiB,disk=1TB,0=4096", &memory, &notes, &err), err);
    const struct { int32_t device; uint64_t bytes; } expected[] = {
        { 0, 4096 }, { 1, 3221225472u }, { DEVICE_MAP_CPU, 25769803776u }, { DEVICE_MAP_DISK, 1000000000000u },
    };
    assert_int_equal(memory.count, 4);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(memory.devices[i].device, expected[i].device);
        assert_int_equal(memory.devices[i].bytes, expected[i].bytes);
    }
    assert_string_equal(notes.bytes, "--max-memory: '0=4096' is 4096 bytes; for 4096 MiB write 4096MiB\n");
    ASSERT_OK(accelerate_memory_parse("0=8Gb", &memory, &notes, &err), err);
    assert_int_equal(memory.devices[0].bytes, 1000000000);
    assert_non_null(strstr(notes.bytes, "8Gb"));
    text_release(&notes);
}

static void what_max_memory_cannot_mean_is_refused(void **state) {
    (void)state;
    static const char *const cases[] = {
        "", "8GiB", "gpu0=8GiB", "0=80%", "-1=8GiB", "0=8G", "0=", "=8GiB", "cuda:0=8GiB", "1234567=1GiB", "0 1=1GiB",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = { 0 };
        struct accelerate_memory memory;
        struct text notes;
        text_init(&notes);
        if (accelerate_memory_parse(cases[i], &memory, &notes, &err) || err.kind != ERROR_USAGE)
            fail_msg("'%s' was accepted", cases[i]);
        text_release(&notes);
    }
    struct error err = { 0 };
    struct accelerate_memory many = { 0 };
    for (int32_t i = 0; i < ACCELERATE_MAX_DEVICES; i++)
        ASSERT_OK(accelerate_memory_add(&many, i, 1, &err), err);
    assert_false(accelerate_memory_add(&many, DEVICE_MAP_CPU, 1, &err));
    assert_int_equal(err.kind, ERROR_USAGE);
}

/* ---- a model of round numbers ---- */

/* embed 1200; 4 blocks of attn 400, mlp 800, norm 40; norm 40; head 1200: 7400 in all. */
static struct module_tree toy_tree(void) {
    static struct module_node nodes[32];
    static const struct { const char *name; uint64_t bytes; } parts[] = { { "attn", 400 }, { "mlp", 800 }, { "norm", 40 } };
    struct module_tree tree = { .nodes = nodes, .tied_owner = MODULE_NONE, .tied_copy = MODULE_NONE };
    memset(nodes, 0, sizeof nodes);
    nodes[tree.count++].bytes = 7400;
    nodes[tree.count++] = (struct module_node){ .name = "embed", .end = 2, .bytes = 1200 };
    uint32_t layers = tree.count++;
    nodes[layers] = (struct module_node){ .name = "layers", .bytes = 4960 };
    for (unsigned block = 0; block < 4; block++) {
        struct module_node *layer = &nodes[tree.count++];
        *layer = (struct module_node){ .end = tree.count + 3, .bytes = 1240, .is_block = true };
        snprintf(layer->name, sizeof layer->name, "L%u", block);
        for (size_t i = 0; i < 3; i++) {
            struct module_node *part = &nodes[tree.count++];
            *part = (struct module_node){ .end = tree.count, .bytes = parts[i].bytes };
            snprintf(part->name, sizeof part->name, "L%u.%s", block, parts[i].name);
        }
    }
    nodes[layers].end = tree.count;
    nodes[tree.count++] = (struct module_node){ .name = "norm", .end = tree.count + 1, .bytes = 40 };
    nodes[tree.count++] = (struct module_node){ .name = "head", .end = tree.count + 1, .bytes = 1200 };
    nodes[tree.count - 2].end = tree.count - 1;
    nodes[tree.count - 1].end = nodes[0].end = tree.count;
    return tree;
}

static void worked_examples_come_out_as_written(void **state) {
    (void)state;
    /* As run with Accelerate, anchors/accelerate.md 2.4 and 2.5, but the last two: by
     * hand. 'f' allows the fallback, 's' splits blocks, 'b' balances, 'z' also lowers device 0. */
    static const struct { const char *memory, *flags, *map; } cases[] = {
        { "0=20000,1=20000", "", "{\"\": 0}" },
        { "0=4000,1=4000,cpu=8000", "", "{\"embed\": 0, \"L0\": 0, \"L1\": 1, \"L2\": 1, \"L3\": 1, \"norm\": 1, "
          "\"head\": \"cpu\"}" },
        { "0=4000,1=4000,cpu=8000", "s", "{\"embed\": 0, \"L0\": 0, \"L2\": 1, \"L3\": 1, \"norm\": 1, "
          "\"head\": \"cpu\", \"L1\": 1}" },   /* L1 was split on device 0 and came together again */
        { "0=1000,1=2500,cpu=20000", "", "{\"embed\": 1, \"L0\": 1, \"L1\": \"cpu\", \"L2\": \"cpu\", "
          "\"L3\": \"cpu\", \"norm\": \"cpu\", \"head\": \"cpu\"}" },
        { "0=3640,1=1200,cpu=20000", "", "{\"embed\": 0, \"norm\": \"cpu\", \"head\": \"cpu\", \"layers\": \"cpu\"}" },
        { "0=3640,1=1200,cpu=20000", "f", "{\"embed\": 0, \"norm\": \"cpu\", \"head\": \"cpu\", \"layers\": \"cpu\"}" },
        { "0=3640,1=1240,cpu=20000", "", "{\"embed\": 0, \"L0\": 1, \"L1\": \"cpu\", \"L2\": \"cpu\", "
          "\"L3\": \"cpu\", \"norm\": \"cpu\", \"head\": \"cpu\"}" },
        { "0=3640,1=1240,cpu=2000", "", "{\"embed\": 0, \"L0\": 1, \"L1\": \"disk\", \"L2\": \"disk\", "
          "\"L3\": \"disk\", \"norm\": \"disk\", \"head\": \"disk\"}" },
        { "0=20000,1=20000,2=20000", "b", "{\"embed\": 0, \"L0\": 0, \"L1\": 1, \"L2\": 1, \"L3\": 1, \"norm\": 1, "
          "\"head\": 2}" },
        { "0=20000,1=20000,2=20000", "z", "{\"embed\": 1, \"L0\": 1, \"L1\": 1, \"L2\": 1, \"L3\": 2, \"norm\": 2, "
          "\"head\": 2}" },
        /* 1300 less the 1240 of a block, which is more than embed: only a norm fits. */
        { "0=1300,cpu=20000", "f", "{\"norm\": 0, \"embed\": \"cpu\", \"layers\": \"cpu\", \"head\": \"cpu\"}" },
        { "0=1300,cpu=20000", "", "{\"\": \"cpu\"}" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = { 0 };
        struct accelerate_memory memory;
        struct device_map map = { 0 };
        struct text notes;
        text_init(&notes);
        struct module_tree tree = toy_tree();
        const char *flags = cases[i].flags;
        struct accelerate_options options = { .fallback_allocation = strchr(flags, 'f') != NULL,
                                              .splits_blocks = strchr(flags, 's') != NULL };
        ASSERT_OK(accelerate_memory_parse(cases[i].memory, &memory, &notes, &err), err);
        if (*flags == 'b' || *flags == 'z')
            ASSERT_OK(accelerate_balance(&tree, ACCELERATE_1, *flags == 'z', &memory, &err), err);
        if (*flags == 'b')
            assert_true(memory.devices[0].bytes == 4016 && memory.devices[1].bytes == 4016);
        if (*flags == 'z')
            assert_true(memory.devices[0].bytes == 0 && memory.devices[1].bytes == 5250);
        ASSERT_OK(accelerate_infer(&tree, &memory, &options, &map, &err), err);
        char *ours = show(&map);
        if (strcmp(ours, cases[i].map) != 0)
            fail_msg("%s %s\n      is %s\nexpected %s", cases[i].memory, flags, ours, cases[i].map);
        free(ours);
        device_map_release(&map);
        text_release(&notes);
    }
}

static void infer_toy(const struct module_node *nodes, uint32_t count, uint32_t copy, const char *limits, bool fallback,
                      enum accelerate_dialect dialect, struct device_map *map, struct error *err) {
    struct module_node kept[8];
    struct accelerate_memory memory;
    struct text notes;
    memcpy(kept, nodes, count * sizeof *nodes);
    const struct module_tree tree = { .count = count, .nodes = kept, .tied_owner = copy == 4 ? 1 : 2, .tied_copy = copy };
    const struct accelerate_options options = { .dialect = dialect, .fallback_allocation = fallback };
    text_init(&notes);
    ASSERT_OK(accelerate_memory_parse(limits, &memory, &notes, err), *err);
    accelerate_infer(&tree, &memory, &options, map, err);
    text_release(&notes);
}

static void a_module_is_split_for_its_tied_partner(void **state) {
    (void)state;
    static const struct module_node nodes[] = {
        { .end = 6, .bytes = 2240 }, { .name = "embed", .end = 2, .bytes = 1200 },
        { .name = "tail", .end = 6, .bytes = 1040 }, { .name = "tail.norm", .end = 4, .bytes = 40 },
        { .name = "tail.head", .end = 5 }, { .name = "tail.big", .end = 6, .bytes = 1000 },
    };
    for (enum accelerate_dialect dialect = ACCELERATE_1; dialect <= TRANSFORMERS_5; dialect++) {
        struct error err = { 0 };
        struct device_map map = { 0 };
        infer_toy(nodes, 6, 4, "0=2200,cpu=20000", false, dialect, &map, &err);
        char *ours = show(&map);
        assert_string_equal(ours, "{\"embed\": 0, \"tail.head\": 0, \"tail.norm\": \"cpu\", \"tail.big\": \"cpu\"}");
        free(ours);
        device_map_release(&map);
    }
}

static void a_fallback_that_parts_tied_weights_is_refused(void **state) {
    (void)state;
    struct error err = { 0 };
    struct device_map map = { 0 };
    static const struct module_node nodes[] = {
        { .end = 4, .bytes = 4200 }, { .name = "big", .end = 2, .bytes = 3000 },
        { .name = "embed", .end = 3, .bytes = 1200 }, { .name = "head", .end = 4 },
    };
    infer_toy(nodes, 4, 3, "0=3010,cpu=20000", true, ACCELERATE_1, &map, &err);
    assert_int_equal(err.kind, ERROR_USAGE);
    assert_non_null(strstr(err.text, "'head' shares its weights with 'embed'"));
    assert_int_equal(map.count, 0);
}

/* ---- policies and other models ---- */

static void the_policies_are_the_modes_of_the_goldens(void **state) {
    (void)state;
    struct error err = { 0 };
    struct model *model = support_model(&support_phi3_mini);
    static const struct { const char *policy; uint64_t zero, one; const char *start; } cases[] = {
        /* The limits are the goldens' for the case "blog" of phi-3-mini-4k in float16. */
        { "hf-sequential", 8589934592u, 3221225472u, "{\"\": 0}" },
        { "hf-balanced", 4104210528u, 3221225472u, "{\"model.embed_tokens\": 0, \"model.layers.0\": 0, " },
        { "hf-balanced-low-0", 4420933824u, 3221225472u, "{\"model.embed_tokens\": 0, \"model.layers.0\": 0, " },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct accelerate_memory memory = { 0 };
        struct device_map map = { 0 };
        struct text notes;
        text_init(&notes);
        ASSERT_OK(accelerate_memory_parse("0=8GiB,1=3GiB,cpu=24GiB", &memory, &notes, &err), err);
        ASSERT_OK(accelerate_policy_map(model, cases[i].policy, "float16", &memory, &map, &err), err);
        assert_int_equal(memory.devices[0].bytes, cases[i].zero);
        assert_int_equal(memory.devices[1].bytes, cases[i].one);
        char *ours = show(&map);
        assert_int_equal(strncmp(ours, cases[i].start, strlen(cases[i].start)), 0);
        free(ours);
        device_map_release(&map);
        text_release(&notes);
    }
    assert_true(accelerate_is_policy("hf-auto") && !accelerate_is_policy("fastest"));
    model_close(model);
}

/* The leaves of a block, joined by spaces. */
static void name_leaves(const struct module_tree *tree, char *names, size_t size) {
    names[0] = '\0';
    uint32_t block = module_tree_find(tree, "model.layers.1");
    for (uint32_t i = block; i < tree->nodes[block].end; i++)
        if (module_is_leaf(tree, i))
            snprintf(names + strlen(names), size - strlen(names), "%s%s", names[0] ? " " : "",
                     tree->nodes[i].name + strlen("model.layers.1."));
}

static void other_architectures_have_their_own_modules(void **state) {
    (void)state;
    static const struct { const char *architecture; bool has_bias, has_qk_norm; const char *leaves; } cases[] = {
        { "phi3", false, false, "self_attn.o_proj self_attn.qkv_proj mlp.gate_up_proj mlp.down_proj mlp.activation_fn "
          "input_layernorm post_attention_layernorm resid_attn_dropout resid_mlp_dropout" },
        { "mistral", false, false, "self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.o_proj mlp.gate_proj "
          "mlp.up_proj mlp.down_proj mlp.act_fn input_layernorm post_attention_layernorm" },
        { "qwen2", true, false, "self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.o_proj mlp.gate_proj "
          "mlp.up_proj mlp.down_proj mlp.act_fn input_layernorm post_attention_layernorm" },
        { "qwen3", false, true, "self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.o_proj self_attn.q_norm "
          "self_attn.k_norm mlp.gate_proj mlp.up_proj mlp.down_proj mlp.act_fn input_layernorm "
          "post_attention_layernorm" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = { 0 };
        struct support_shape shape = {
            .hidden = 64, .intermediate = 96, .blocks = 2, .heads = 4, .kv_heads = 2, .head_dim = 16, .vocab = 50,
            .type = TENSOR_F16, .q_type = TENSOR_F16, .k_type = TENSOR_F16, .v_type = TENSOR_F16,
            .has_bias = cases[i].has_bias, .has_qk_norm = cases[i].has_qk_norm };
        struct model *model = support_model(&shape);
        free(model->architecture);
        model->architecture = strdup(cases[i].architecture);
        struct module_sizes two = { 2, 2 }, stored = { 0, 4 };
        struct module_tree *tree = module_tree_new(model, &two, &err), *as_stored = module_tree_new(model, &stored, &err);
        ASSERT_OK(tree && as_stored, err);
        char names[400];
        name_leaves(tree, names, sizeof names);
        assert_string_equal(names, cases[i].leaves);
        uint64_t block = 2ull * (64 * 64 + 2 * 32 * 64 + 64 * 64 + 3 * 64 * 96 + 2 * 64);
        block += cases[i].has_bias ? 2ull * (64 + 32 + 32) : 0;
        block += cases[i].has_qk_norm ? 2ull * 32 : 0;
        assert_int_equal(tree->nodes[module_tree_find(tree, "model.layers.1")].bytes, block);
        assert_int_equal(tree->nodes[0].bytes, 2 * block + 2ull * 2 * 50 * 64 + 2 * 64 + 2ull * 16);
        /* As stored: the sum of the file's tensors and the buffers in float32. */
        assert_int_equal(as_stored->nodes[0].bytes, model_weight_bytes(model) + 4ull * 16);
        module_tree_free(tree);
        module_tree_free(as_stored);
        model_close(model);
    }
}

static void sizes_beyond_any_memory_are_refused(void **state) {
    (void)state;
    struct error err = { 0 };
    struct model *model = support_model(&support_phi3_mini);
    struct module_sizes sizes = { 4, 4 };
    model->blocks[3].weights[ROLE_DOWN].row_count = UINT64_MAX / 3;
    assert_null(module_tree_new(model, &sizes, &err));
    assert_non_null(strstr(err.text, "beyond"));
    model_close(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(modules_have_the_bytes_that_compute_module_sizes_gives),
        cmocka_unit_test(every_map_is_accelerates_key_for_key),
        cmocka_unit_test(every_map_is_that_of_transformers_5),
        cmocka_unit_test(amounts_follow_the_golden_but_a_bare_number_is_bytes),
        cmocka_unit_test(max_memory_is_read_in_any_order),
        cmocka_unit_test(what_max_memory_cannot_mean_is_refused),
        cmocka_unit_test(worked_examples_come_out_as_written),
        cmocka_unit_test(a_module_is_split_for_its_tied_partner),
        cmocka_unit_test(a_fallback_that_parts_tied_weights_is_refused),
        cmocka_unit_test(the_policies_are_the_modes_of_the_goldens),
        cmocka_unit_test(other_architectures_have_their_own_modules),
        cmocka_unit_test(sizes_beyond_any_memory_are_refused),
    };
    return cmocka_run_group_tests(tests, load, release);
}
