#include "tests/support_plan.h"

#include "tests/support.h"

#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fill_device(struct plan_device *row, const char *short_name, enum device_type type) {
    struct device *device = &row->device;
    snprintf(device->short_name, sizeof device->short_name, "%s", short_name);
    snprintf(device->platform, sizeof device->platform, "Platform of %s", short_name);
    snprintf(device->name, sizeof device->name, "Device 'quoted' %s", short_name);
    snprintf(device->icd, sizeof device->icd, "/etc/OpenCL/vendors/%s.icd", short_name);
    snprintf(device->driver, sizeof device->driver, "3.1");
    snprintf(device->version, sizeof device->version, "OpenCL 3.0 PoCL HSTR: pthread");
    snprintf(device->pci, sizeof device->pci, "0000:03:00.%u", (unsigned)type);
    device->type = type;
    device->vendor_id = 0xfffffffeu;
    device->memory_bytes = 8ull << 30;
    device->max_buffer_bytes = 2ull << 30;
    device->alignment = 128;
    device->compute_units = 2;
    device->unified_memory = device->is_cpu_pool = type == DEVICE_CPU;
    device->usable = true;
    row->budget_bytes = 7ull << 30;
    row->max_buffer_bytes = 1ull << 30;
    row->scratch_bytes = 4096;
    row->staging_bytes = 512;
    row->slack_bytes = 64;
    row->decode_seconds = 0.0125;
    row->prefill_seconds = 0.5;
}

struct plan *test_plan(uint32_t blocks, const char *name) {
    struct plan *plan = plan_new();
    assert_non_null(plan);
    snprintf(plan->name, sizeof plan->name, "%s", name);
    memset(plan->weights_hash, 'a', 64);
    memset(plan->text_hash, 'b', 64);
    memset(plan->hardware_key, 'c', 64);
    snprintf(plan->model_name, sizeof plan->model_name, "org/model");
    snprintf(plan->architecture, sizeof plan->architecture, "phi3");
    snprintf(plan->model_path, sizeof plan->model_path, "/models/model");
    plan->unit_count = 2 * blocks + 2;
    plan->numeric = NUMERIC_INT8;
    plan->request = (struct plan_request){
        .context = 4096, .prompt_tokens = 512, .new_tokens = 256, .micro_batch = 256, .kv_type = KV_F16,
        .weights = "keep", .policy = "fastest", .rope = "auto", .devices = "gpu0,cpu0",
        .exclude = "igpu0", .max_memory = "gpu0=7GiB", .max_buffer = "1GiB", .pins = "head=cpu0",
        .forbids = "attn.*=igpu0", .slices = "auto", .stream = true, .dtype = "bf16",
    };
    plan->device_count = 2;
    fill_device(&plan->devices[0], "gpu0", DEVICE_GPU);
    fill_device(&plan->devices[1], "cpu0", DEVICE_CPU);
    plan->environment_count = 2;
    snprintf(plan->environment[0].name, sizeof plan->environment[0].name, "DRI_PRIME");
    snprintf(plan->environment[1].name, sizeof plan->environment[1].name, "POCL_DEVICES");
    snprintf(plan->environment[1].value, sizeof plan->environment[1].value, "pthread basic");
    for (uint32_t unit = 0; unit < plan->unit_count; unit++) {
        bool is_attention = unit % 2 && unit + 1 < plan->unit_count;
        struct shard shard = { .unit = unit, .device = unit == 0 ? PLAN_HOST : unit > blocks, .part_end = 4,
                               .format = "keep", .weight_bytes = 100000000u + unit,
                               .kv_bytes = is_attention ? 3000000 : 0 };
        assert_true(plan_add_shard(plan, &shard, NULL));
        plan->model_weight_bytes += shard.weight_bytes;
        if (unit) {
            plan->devices[shard.device].weight_bytes += shard.weight_bytes;
            plan->devices[shard.device].kv_bytes += shard.kv_bytes;
        }
    }
    plan->predicted_prefill_tokens_per_s = 71.25;
    plan->predicted_decode_tokens_per_s = 12.5;
    plan->predicted_decode_tokens_per_s_end = 10;
    plan->predicted_first_token_s = 7.5;
    plan->predicted_total_s = 28;
    snprintf(plan->binding, sizeof plan->binding, "one more block on gpu0 needs 61 MiB");
    return plan;
}

struct model test_model(void) {
    return (struct model){ .architecture = "phi3", .name = "org/model", .source = { .path = "/models/model" },
                           .hidden_size = 128, .block_count = 3, .vocab_size = 1000, .max_context = 4096 };
}

struct model_hashes test_hashes(char digit) {
    struct model_hashes hashes = { .text = "" };
    memset(hashes.weights, digit, 64);
    hashes.weights[64] = '\0';
    return hashes;
}

const char *test_path(const char *name) {
    static char ring[4][PATH_MAX];
    static unsigned next;
    char *path = ring[next++ % 4];
    snprintf(path, PATH_MAX, "%s/%s", test_folder(), name);
    return path;
}

struct plan_store *test_store(const char *path, int64_t *model_row) {
    struct error err = { 0 };
    struct plan_store *store = plan_store_open(path, STORE_CREATE, &err);
    ASSERT_OK(store != NULL, err);
    struct model model = test_model();
    struct model_hashes hashes = test_hashes('a');
    ASSERT_OK(plan_store_save_model(store, &model, &hashes, model_row, &err), err);
    return store;
}

const char *test_sql(const char *path, const char *sql) {
    static char result[4096];
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    result[0] = '\0';
    int code = sqlite3_open(path, &db);
    sqlite3_busy_timeout(db, 5000);
    while (code == SQLITE_OK && *sql) {
        code = sqlite3_prepare_v2(db, sql, -1, &statement, &sql);
        while (code == SQLITE_OK && statement && (code = sqlite3_step(statement)) == SQLITE_ROW) {
            const unsigned char *text = sqlite3_column_text(statement, 0);
            snprintf(result, sizeof result, "%s", text ? (const char *)text : "");
            code = SQLITE_OK;
        }
        code = code == SQLITE_DONE ? SQLITE_OK : code;
        if (code == SQLITE_OK)
            sqlite3_finalize(statement);
    }
    if (code != SQLITE_OK) {
        snprintf(result, sizeof result, "error: %s", sqlite3_errmsg(db));
        sqlite3_finalize(statement);
    }
    sqlite3_close(db);
    return result;
}
