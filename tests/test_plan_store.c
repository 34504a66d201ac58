#include "common/weight_choice.h"
#include "tests/support.h"
#include "tests/support_plan.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEPT_SUPERSEDED 10

static void a_plan_comes_back_as_it_was_saved(void **state) {
    (void)state;
    struct error err = { 0 };
    int64_t model;
    struct plan_store *store = test_store(test_path("roundtrip/deep/plans.db"), &model);
    struct plan *plan = test_plan(3, "default");
    plan->shards[2].residency = STREAMED;
    plan->shards[4].part_begin = 1;      /* a unit in two slices */
    struct shard slice = plan->shards[4];
    slice.part_begin = 0;
    slice.part_end = 1;
    slice.device = 0;
    assert_true(plan_add_shard(plan, &slice, NULL));
    ASSERT_OK(plan_store_save_plan(store, model, plan, &err), err);
    assert_true(plan->id > 0);

    struct plan *loaded = plan_store_load_plan(store, plan->id, &err);
    ASSERT_OK(loaded != NULL, err);
    assert_int_equal(loaded->shard_count, plan->shard_count);
    for (uint32_t i = 0; i < plan->shard_count; i++) {
        const struct shard *a = &plan->shards[i], *b = &loaded->shards[i];
        assert_true(a->unit == b->unit && a->device == b->device && a->part_begin == b->part_begin &&
                    a->part_end == b->part_end && a->residency == b->residency && a->artifact == b->artifact &&
                    a->weight_bytes == b->weight_bytes && a->kv_bytes == b->kv_bytes);
        assert_string_equal(a->format, b->format);
    }
    /* Everything else is plain data. */
    struct shard *shards = loaded->shards;
    loaded->shards = plan->shards;
    assert_memory_equal(&loaded->request, &plan->request, sizeof plan->request);
    for (uint32_t i = 0; i < plan->device_count; i++)
        assert_memory_equal(&loaded->devices[i], &plan->devices[i], sizeof plan->devices[i]);
    assert_memory_equal(loaded, plan, sizeof *plan);
    loaded->shards = shards;
    plan_free(loaded);

    assert_null(plan_store_load_plan(store, 999, &err));
    assert_int_equal(err.kind, ERROR_NO_PLAN);
    plan_free(plan);
    plan_store_close(store);
}

static void a_new_plan_supersedes_and_the_last_ten_stay(void **state) {
    (void)state;
    struct error err = { 0 };
    int64_t model;
    const char *path = test_path("supersede.db");
    struct plan_store *store = test_store(path, &model);
    struct plan *other = test_plan(1, "other"), *elsewhere = test_plan(1, "default");
    memset(elsewhere->hardware_key, 'd', 64);
    ASSERT_OK(plan_store_save_plan(store, model, other, &err), err);
    ASSERT_OK(plan_store_save_plan(store, model, elsewhere, &err), err);
    int64_t first = 0, newest = 0;
    for (uint32_t i = 0; i < 15; i++) {
        struct plan *plan = test_plan(1, "default");
        plan->request.context = 1000 + i;
        ASSERT_OK(plan_store_save_plan(store, model, plan, &err), err);
        first = first ? first : plan->id;
        newest = plan->id;
        plan_free(plan);
    }
    struct plan **plans;
    uint32_t count;
    ASSERT_OK(plan_store_find_plans(store, test_hashes('a').weights, "default", &plans, &count, &err), err);
    assert_int_equal(count, 2);
    assert_int_equal(plans[0]->id, newest);
    assert_int_equal(plans[0]->request.context, 1014);
    assert_int_equal(plans[1]->id, elsewhere->id);
    plan_store_free_plans(plans, count);
    ASSERT_OK(plan_store_find_plans(store, test_hashes('f').weights, "default", &plans, &count, &err), err);
    assert_int_equal(count, 0);
    assert_null(plans);
    ASSERT_OK(plan_store_list_plans(store, false, &plans, &count, &err), err);
    assert_int_equal(count, 3);
    plan_store_free_plans(plans, count);
    ASSERT_OK(plan_store_list_plans(store, true, &plans, &count, &err), err);
    assert_int_equal(count, 3 + KEPT_SUPERSEDED);
    assert_int_equal(plans[0]->id, newest);
    plan_store_free_plans(plans, count);
    struct plan *oldest = plan_store_load_plan(store, first, &err);
    assert_null(oldest);
    struct plan *last = plan_store_newest_plan(store, &err);
    ASSERT_OK(last != NULL, err);
    assert_int_equal(last->id, newest);
    plan_free(last);
    bool is_superseded;
    int64_t by;
    ASSERT_OK(plan_store_superseded(store, newest - 1, &is_superseded, &by, &err), err);
    assert_true(is_superseded && by == newest);
    ASSERT_OK(plan_store_superseded(store, newest, &is_superseded, &by, &err), err);
    assert_true(!is_superseded && !by);
    ASSERT_OK(plan_store_superseded(store, elsewhere->id, &is_superseded, &by, &err), err);
    assert_true(!is_superseded && !by);
    ASSERT_OK(plan_store_remove_plan(store, newest, &err), err);
    ASSERT_OK(plan_store_superseded(store, newest - 1, &is_superseded, &by, &err), err);
    assert_true(is_superseded && !by);
    assert_false(plan_store_remove_plan(store, newest, &err));
    assert_int_equal(err.kind, ERROR_NO_PLAN);
    plan_free(other);
    plan_free(elsewhere);
    plan_store_close(store);
    assert_string_equal(test_sql(path, "select count(*) from plan_overview"), "2");
    assert_string_equal(test_sql(path, "select count(*) from shard where plan not in (select id from plan)"), "0");
}

static void an_unsound_plan_is_not_saved(void **state) {
    (void)state;
    struct error err = { 0 };
    int64_t model;
    const char *path = test_path("unsound.db");
    struct plan_store *store = test_store(path, &model);
    struct plan *plan = test_plan(2, "default");
    plan->shard_count--;
    assert_false(plan_store_save_plan(store, model, plan, &err));
    assert_non_null(strstr(err.text, "cannot save plan 'default': unit 'head'"));
    plan->shard_count++;
    plan->shards[3].weight_bytes = UINT64_MAX;   /* fails late, inside the transaction */
    assert_false(plan_store_save_plan(store, model, plan, &err));
    assert_non_null(strstr(err.text, "out of range"));
    plan->shards[3].weight_bytes = 1;
    assert_false(plan_store_save_plan(store, model + 1, plan, &err));   /* no such model */
    assert_string_equal(test_sql(path, "select count(*) from plan"), "0");
    assert_string_equal(test_sql(path, "select count(*) from plan_device"), "0");
    ASSERT_OK(plan_store_save_plan(store, model, plan, &err), err);
    plan_free(plan);
    plan_store_close(store);
}

static void moving_shards_by_sql_moves_the_bytes(void **state) {
    (void)state;
    struct error err = { 0 };
    int64_t model;
    const char *path = test_path("moved.db");
    struct plan_store *store = test_store(path, &model);
    struct plan *plan = test_plan(4, "default");
    ASSERT_OK(plan_store_save_plan(store, model, plan, &err), err);
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)plan->model_weight_bytes);
    assert_string_equal(test_sql(path, "select sum(weight_bytes) from shard where plan = 1"), text);
    assert_string_equal(test_sql(path, "select devices from plan_overview"),
                        "host: embed; gpu0: blocks 0-1; cpu0: blocks 2-3, head");

    assert_string_equal(test_sql(path, "update shard set device='cpu0' where plan=1 and unit between 2 and 3"), "");
    assert_string_equal(test_sql(path, "select devices from plan_overview"),
                        "host: embed; gpu0: attn 0, ffn 1; cpu0: ffn 0, attn 1, blocks 2-3, head");
    assert_string_equal(test_sql(path, "select edited_at > '2020' from plan"), "1");
    struct plan *loaded = plan_store_load_plan(store, plan->id, &err);
    ASSERT_OK(loaded != NULL, err);
    for (uint32_t i = 1; i < loaded->shard_count; i++)
        assert_int_equal(loaded->shards[i].device, !(i == 1 || i == 4));
    assert_int_equal(loaded->devices[0].weight_bytes,
                     plan->devices[0].weight_bytes - plan->shards[2].weight_bytes - plan->shards[3].weight_bytes);
    assert_int_equal(loaded->devices[1].kv_bytes, plan->devices[1].kv_bytes + plan->shards[3].kv_bytes);
    plan_free(loaded);

    assert_non_null(strstr(test_sql(path, "update shard set device='gpu7' where plan=1 and unit=3"),
                           "the plan has no such device"));
    assert_non_null(strstr(test_sql(path, "update shard set device='host' where plan=1 and unit=3"), "CHECK"));
    assert_string_equal(test_sql(path, "update shard set device='cpu0' where plan=1 and unit=0"), "");
    loaded = plan_store_load_plan(store, plan->id, &err);
    ASSERT_OK(loaded != NULL, err);
    assert_int_equal(loaded->shards[0].device, 1);
    plan_free(loaded);

    /* A determined person. */
    test_sql(path, "drop trigger shard_device_known; update shard set device='gpu7' where plan=1 and unit=3");
    assert_null(plan_store_load_plan(store, plan->id, &err));
    assert_non_null(strstr(err.text, "unit 'attn.1' of plan 1 is on 'gpu7', which is none of the plan's "
                                     "devices (gpu0, cpu0)"));
    test_sql(path, "update shard set device='cpu0' where plan=1 and unit=3; delete from shard where unit=5");
    assert_null(plan_store_load_plan(store, plan->id, &err));
    assert_non_null(strstr(err.text, "unit 'attn.2' of plan 'default' is not placed"));
    plan_free(plan);
    test_sql(path, "update plan set unit_count = 0");   /* of which nobody can count the blocks */
    assert_null(plan_store_newest_plan(store, &err));
    assert_non_null(strstr(err.text, "plan 'default' has 0 units"));
    plan_store_close(store);
}

/* phiplan gc ran between packing and saving. */
static void packed_weights_that_are_gone_do_not_cost_the_plan(void **state) {
    (void)state;
    struct error err = { 0 };
    int64_t model;
    struct plan_store *store = test_store(test_path("gone.db"), &model);
    struct artifact_record record = { .unit = "attn.0", .part_end = 4, .format = "keep", .layout = "r16", .version = 1,
                                      .path = "/cache/attn.0", .size_bytes = 4096 };
    ASSERT_OK(plan_store_save_artifact(store, &record, false, &err), err);
    struct plan *plan = test_plan(2, "default");
    plan->shards[1].artifact = record.id;
    plan->shards[2].artifact = record.id + 1;
    ASSERT_OK(plan_store_save_plan(store, model, plan, &err), err);
    struct plan *loaded = plan_store_load_plan(store, plan->id, &err);
    ASSERT_OK(loaded, err);
    assert_int_equal(loaded->shards[1].artifact, record.id);
    assert_int_equal(loaded->shards[2].artifact, 0);
    plan_free(loaded);
    plan_free(plan);
    plan_store_close(store);
}

static bool count_kept(void *context, const char *path) {
    uint32_t *kept = context;
    if (strcmp(path, "/cache/attn.0") == 0)
        ++*kept;
    else
        *kept += 100;
    return true;
}

static void packed_weights_are_in_use_until_their_plans_are_collected(void **state) {
    (void)state;
    struct error err = { 0 };
    int64_t model;
    struct plan_store *store = test_store(test_path("in-use.db"), &model);
    struct artifact_record used = { .unit = "attn.0", .part_end = 4, .format = "keep", .layout = "r16", .version = 1,
                                    .path = "/cache/attn.0", .size_bytes = 4096 }, unused = used;
    snprintf(unused.unit, sizeof unused.unit, "attn.1");
    snprintf(unused.path, sizeof unused.path, "/cache/attn.1");
    ASSERT_OK(plan_store_save_artifact(store, &used, false, &err), err);
    ASSERT_OK(plan_store_save_artifact(store, &unused, false, &err), err);
    struct plan *plan = test_plan(2, "default");
    plan->shards[1].artifact = used.id;
    ASSERT_OK(plan_store_save_plan(store, model, plan, &err), err);
    uint32_t kept = 0;
    ASSERT_OK(plan_store_keep_artifacts(store, count_kept, &kept, &err), err);
    assert_int_equal(kept, 1);
    plan->shards[1].artifact = 0;
    ASSERT_OK(plan_store_save_plan(store, model, plan, &err), err);   /* the first one is superseded */
    kept = 0;
    ASSERT_OK(plan_store_keep_artifacts(store, count_kept, &kept, &err), err);
    assert_int_equal(kept, 1);
    struct collected collected;
    kept = 0;
    ASSERT_OK(plan_store_collect(store, &collected, count_kept, &kept, &err), err);
    assert_int_equal(kept, 0);
    assert_int_equal(collected.plans, 1);
    assert_int_equal(collected.artifacts, 2);
    plan_free(plan);
    plan_store_close(store);
}

static void a_sliced_unit_shows_as_part(void **state) {
    (void)state;
    struct error err = { 0 };
    int64_t model;
    const char *path = test_path("sliced.db");
    struct plan_store *store = test_store(path, &model);
    struct plan *plan = test_plan(2, "default");
    plan->shards[4].part_begin = 1;
    struct shard slice = plan->shards[4];
    slice.part_begin = 0;
    slice.part_end = 1;
    slice.device = 0;
    assert_true(plan_add_shard(plan, &slice, NULL));
    ASSERT_OK(plan_store_save_plan(store, model, plan, &err), err);
    assert_string_equal(test_sql(path, "select devices from plan_overview"),
                        "host: embed; gpu0: block 0, part of ffn 1; cpu0: part of block 1, head");
    assert_string_equal(test_sql(path, "select group_concat(parts) from plan_layers where unit >= 3"),
                        "all,0-0,1-3,all");
    plan_free(plan);
    plan_store_close(store);
}

static void streamed_units_show_as_such(void **state) {
    (void)state;
    struct error err = { 0 };
    int64_t model;
    const char *path = test_path("streamed.db");
    struct plan_store *store = test_store(path, &model);
    struct plan *plan = test_plan(4, "default");
    for (uint32_t unit = 6; unit <= 9; unit++)   /* ffn.2, block 3, head */
        plan->shards[unit].residency = STREAMED;
    ASSERT_OK(plan_store_save_plan(store, model, plan, &err), err);
    assert_string_equal(test_sql(path, "select devices from plan_overview"),
                        "host: embed; gpu0: blocks 0-1; cpu0: attn 2, streamed ffn 2, streamed block 3, streamed head");
    assert_string_equal(test_sql(path, "select group_concat(name) from plan_layers where residency = 'streamed'"),
                        "ffn.2,attn.3,ffn.3,head");
    plan_free(plan);
    plan_store_close(store);
}

static void the_views_read_well_in_a_shell(void **state) {
    (void)state;
    if (system("command -v sqlite3 > /dev/null") != 0)
        SKIP_BECAUSE("no sqlite3 shell");
    struct error err = { 0 };
    int64_t model;
    const char *path = test_path("shell.db");
    struct plan_store *store = test_store(path, &model);
    struct plan *plan = test_plan(4, "default");
    ASSERT_OK(plan_store_save_plan(store, model, plan, &err), err);
    char command[5000], line[1024] = "";
    snprintf(command, sizeof command, "sqlite3 '%s' 'select * from plan_overview; select * from plan_layers "
             "limit 1; select * from device_overview'", path);
    FILE *shell = popen(command, "r");
    assert_non_null(shell);
    assert_non_null(fgets(line, sizeof line, shell));
    char *created = strstr(line, "|20");
    assert_non_null(created);
    *created = '\0';
    assert_string_equal(line, "1|default|org/model|953.7 MiB|host: embed; gpu0: blocks 0-1; "
                              "cpu0: blocks 2-3, head|4096|71.3|12.5");
    assert_non_null(fgets(line, sizeof line, shell));
    assert_string_equal(line, "1|0|embed|host|all|keep|95.4 MiB|0 B|resident\n");
    assert_non_null(fgets(line, sizeof line, shell));
    assert_non_null(strstr(line, "gpu0|gpu|Device 'quoted' gpu0|Platform of gpu0|8.00 GiB|2||3.1|usable"));
    assert_int_equal(pclose(shell), 0);
    plan_free(plan);
    plan_store_close(store);
}

static void devices_and_probes_are_kept_by_identity(void **state) {
    (void)state;
    struct error err = { 0 };
    int64_t model;
    struct plan_store *store = test_store(test_path("devices.db"), &model);
    struct plan *plan = test_plan(1, "default");
    struct device device = plan->devices[1].device;
    ASSERT_OK(plan_store_save_device(store, &device, &err), err);
    ASSERT_OK(plan_store_save_device(store, &plan->devices[0].device, &err), err);
    device.memory_bytes = 1;
    ASSERT_OK(plan_store_save_device(store, &device, &err), err);
    struct device_list list;
    ASSERT_OK(plan_store_devices(store, &list, &err), err);
    assert_int_equal(list.count, 2);
    assert_string_equal(list.devices[0].short_name, "gpu0");
    assert_memory_equal(&list.devices[1], &device, sizeof device);
    device_list_release(&list);

    struct probe_value values[] = { { "decode", "q4_1", 1u << 30, 27.5e9, "B/s" },
                                    { "launch", "", 0, 2.6e-6, "s" } };
    ASSERT_OK(plan_store_save_probe(store, &device, values, 2, &err), err);
    values[0].value = 28e9;
    ASSERT_OK(plan_store_save_probe(store, &device, values, 1, &err), err);
    struct probe_value *found;
    uint32_t count;
    ASSERT_OK(plan_store_probes(store, &device, &found, &count, &err), err);
    assert_int_equal(count, 2);
    assert_string_equal(found[0].what, "decode");
    assert_true(found[0].value == 28e9 && found[1].value == 2.6e-6);
    assert_string_equal(found[1].unit, "s");
    free(found);

    const struct device *first = &plan->devices[0].device;
    struct link_rates link = { 5e9, 4e9, 1 };
    ASSERT_OK(plan_store_link(store, first, &device, &link, &err), err);
    assert_true(link.source_together == 0 && link.target_together == 0 && link.hop_s == 0);
    link = (struct link_rates){ 5e9, 0, 0 };
    ASSERT_OK(plan_store_save_link(store, first, &device, &link, &err), err);
    link.source_together = 6e9;
    link.hop_s = 12e-6;
    ASSERT_OK(plan_store_save_link(store, first, &device, &link, &err), err);
    ASSERT_OK(plan_store_link(store, &device, first, &link, &err), err);
    assert_true(link.source_together == 0 && link.hop_s == 0);   /* a link has a direction */
    ASSERT_OK(plan_store_link(store, first, &device, &link, &err), err);
    assert_true(link.source_together == 6e9 && link.target_together == 0 && link.hop_s == 12e-6);
    link = (struct link_rates){ -1, -1, -1 };
    ASSERT_OK(plan_store_save_link(store, first, &device, &link, &err), err);
    link = (struct link_rates){ 0 };
    ASSERT_OK(plan_store_link(store, first, &device, &link, &err), err);
    assert_true(link.source_together == -1 && link.target_together == -1 && link.hop_s == -1);

    snprintf(device.driver, sizeof device.driver, "4.0");
    ASSERT_OK(plan_store_probes(store, &device, &found, &count, &err), err);
    assert_int_equal(count, 0);
    ASSERT_OK(plan_store_link(store, first, &device, &link, &err), err);
    assert_true(link.source_together == 0 && link.hop_s == 0);
    plan_free(plan);
    plan_store_close(store);
}

static void runs_are_kept_and_trimmed(void **state) {
    (void)state;
    struct error err = { 0 };
    int64_t model;
    const char *path = test_path("runs.db");
    struct plan_store *store = test_store(path, &model);
    struct plan *plan = test_plan(1, "default"), *other = test_plan(1, "other");
    ASSERT_OK(plan_store_save_plan(store, model, plan, &err), err);
    ASSERT_OK(plan_store_save_plan(store, model, other, &err), err);
    struct run_record run = { .plan = other->id, .kind = "generate", .prompt_tokens = 10, .new_tokens = 11,
                              .prefill_s = 0.5, .decode_s = 1, .first_token_s = 0.75, .finish_reason = "eos",
                              .settings = "greedy", .device_count = 1,
                              .devices = { { "cpu0", "decode", 0.9, 1000 } } };
    ASSERT_OK(plan_store_add_run(store, &run, &err), err);
    run.plan = plan->id;
    for (int i = 0; i < 1003; i++)
        ASSERT_OK(plan_store_add_run(store, &run, &err), err);
    assert_string_equal(test_sql(path, "select count(*) from run where plan = 1"), "1000");
    assert_string_equal(test_sql(path, "select count(*) from run where plan = 2"), "1");
    assert_string_equal(test_sql(path, "select count(*) from run_device"), "1001");
    assert_string_equal(test_sql(path, "select prefill_measured || ' ' || prefill_error || ' ' || "
                                       "decode_measured || ' ' || decode_error from prediction_error where plan = 2"),
                        "20.0 -0.719 10.0 -0.199");
    run.plan = 99;
    assert_false(plan_store_add_run(store, &run, &err));
    assert_int_equal(err.kind, ERROR_FAILED);
    plan_free(plan);
    plan_free(other);
    plan_store_close(store);
}

static void a_digest_holds_until_the_file_changes(void **state) {
    (void)state;
    int64_t model;
    struct plan_store *store = test_store(test_path("digests.db"), &model);
    struct hash_cache cache = plan_store_hash_cache(store);
    const char *path = test_path("weights.bin");
    FILE *file = fopen(path, "w");
    fputs("1234", file);
    fclose(file);
    char hex[65] = "", digest[65];
    memset(digest, 'e', 64);
    digest[64] = '\0';
    assert_false(cache.find(cache.context, path, hex));
    struct stat as_hashed;
    assert_int_equal(stat(path, &as_hashed), 0);
    cache.store(cache.context, path, &as_hashed, digest);
    assert_true(cache.find(cache.context, path, hex));
    assert_string_equal(hex, digest);

    /* Recording a model that names the file keeps the digest. */
    struct error err = { 0 };
    struct model named = test_model();
    struct model_file weights = { .path = (char *)path, .name = "weights.bin", .size_bytes = 4 };
    struct model_tensor tensor = { .name = "w", .type = TENSOR_Q4_1, .rows = 2, .columns = 32, .size_bytes = 40 };
    named.file_count = named.tensor_count = 1;
    named.files = &weights;
    named.tensors = &tensor;
    struct model_hashes hashes = test_hashes('a');
    int64_t row;
    ASSERT_OK(plan_store_save_model(store, &named, &hashes, &row, &err), err);
    assert_int_equal(row, model);
    assert_true(cache.find(cache.context, path, hex));
    assert_string_equal(test_sql(test_path("digests.db"), "select type || ' ' || file from tensor"), "q4_1 weights.bin");
    uint64_t bytes[TENSOR_TYPE_COUNT], recorded[TENSOR_TYPE_COUNT];
    model_stored_bytes(&named, bytes);
    assert_int_equal(bytes[TENSOR_Q4_1], 40);
    ASSERT_OK(plan_store_stored_bytes(store, hashes.weights, recorded, &err), err);
    assert_memory_equal(recorded, bytes, sizeof bytes);
    ASSERT_OK(plan_store_stored_bytes(store, test_hashes('9').weights, recorded, &err), err);
    assert_null(main_weight_type(NULL, recorded));

    /* The same size and mtime, other content: ctime tells. */
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    struct timespec times[2] = { status.st_atim, status.st_mtim };
    usleep(20000);
    file = fopen(path, "w");
    fputs("5678", file);
    fclose(file);
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    assert_false(cache.find(cache.context, path, hex));
    assert_false(cache.find(cache.context, test_path("missing"), hex));
    plan_store_close(store);
}

static void the_default_path_follows_the_environment(void **state) {
    (void)state;
    struct error err = { 0 };
    setenv("HOME", "/home/someone", 1);
    unsetenv("PHI_STORE");
    unsetenv("XDG_DATA_HOME");
    static const char *const expected[] = { "/home/someone/.local/share/phi/plans.db", "/data/phi/plans.db", "x.db" };
    for (int i = 0; i < 3; i++) {
        if (i)
            setenv(i == 1 ? "XDG_DATA_HOME" : "PHI_STORE", i == 1 ? "/data" : "x.db", 1);
        char *path = plan_store_default_path(&err);
        assert_string_equal(path, expected[i]);
        free(path);
    }
    unsetenv("PHI_STORE");
    unsetenv("XDG_DATA_HOME");
    unsetenv("HOME");
    assert_null(plan_store_default_path(&err));
    assert_non_null(strstr(err.text, "--db"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plan_comes_back_as_it_was_saved),
        cmocka_unit_test(a_new_plan_supersedes_and_the_last_ten_stay),
        cmocka_unit_test(an_unsound_plan_is_not_saved),
        cmocka_unit_test(moving_shards_by_sql_moves_the_bytes),
        cmocka_unit_test(packed_weights_that_are_gone_do_not_cost_the_plan),
        cmocka_unit_test(packed_weights_are_in_use_until_their_plans_are_collected),
        cmocka_unit_test(a_sliced_unit_shows_as_part),
        cmocka_unit_test(streamed_units_show_as_such),
        cmocka_unit_test(the_views_read_well_in_a_shell),
        cmocka_unit_test(devices_and_probes_are_kept_by_identity),
        cmocka_unit_test(runs_are_kept_and_trimmed),
        cmocka_unit_test(a_digest_holds_until_the_file_changes),
        cmocka_unit_test(the_default_path_follows_the_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
