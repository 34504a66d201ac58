/* fuzz_store: a sound store with some of its bytes changed; what opens is listed, and
 * its plans loaded. The input is a list of changes, five bytes each: offset (of 24
 * bits), how, value. */
#include "db/plan_store.h"
#include "common/file_map.h"
#include "tests/support_fuzz.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#define REQUIRE(condition) do { if (!(condition)) abort(); } while (0)

static const char *store_path(void) {
    static char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/plans.db", fuzz_folder());
    return path;
}

/* A store with one plan of four units; it stays for the process's life. */
static char *make_store(size_t *size) {
    struct error err = { 0 };
    struct model model = { .architecture = (char *)"phi3", .name = (char *)"fuzz", .hidden_size = 128,
                           .source = { .path = (char *)"/models/fuzz" }, .block_count = 1 };
    struct model_hashes hashes = { .text = "" };
    struct plan *plan = plan_new();
    struct plan_store *store = plan_store_open(store_path(), STORE_CREATE, &err);
    int64_t row;
    REQUIRE(store && plan);
    memset(hashes.weights, 'a', 64);
    memset(plan->weights_hash, 'a', 64);
    memset(plan->hardware_key, 'c', 64);
    snprintf(plan->name, sizeof plan->name, "default");
    plan->unit_count = 4;
    plan->request = (struct plan_request){ .context = 64, .micro_batch = 16, .weights = "keep", .policy = "fastest" };
    plan->device_count = 1;
    snprintf(plan->devices[0].device.short_name, sizeof plan->devices[0].device.short_name, "cpu0");
    plan->devices[0].device.type = DEVICE_CPU;
    plan->devices[0].budget_bytes = plan->devices[0].max_buffer_bytes = 1 << 30;
    for (uint32_t unit = 0; unit < 4; unit++) {
        struct shard shard = { .unit = unit, .device = unit ? 0 : PLAN_HOST, .part_end = 1, .format = "keep",
                               .weight_bytes = 100 };
        REQUIRE(plan_add_shard(plan, &shard, &err));
    }
    REQUIRE(plan_store_save_model(store, &model, &hashes, &row, &err));
    REQUIRE(plan_store_save_plan(store, row, plan, &err));
    plan_store_close(store);
    plan_free(plan);
    char *image = file_read_all(store_path(), 1 << 24, size, &err);
    REQUIRE(image);
    return image;
}

static void load(struct plan_store *store) {
    struct error err = { 0 };
    struct plan **plans = NULL;
    uint32_t count = 0;
    struct device_list devices = { 0 };
    if (plan_store_list_plans(store, true, &plans, &count, &err)) {
        for (uint32_t i = 0; i < count; i++) {
            struct plan *plan = plan_store_load_plan(store, plans[i]->id, &err);
            if (plan && !plan_validate(plan, &err))
                REQUIRE(err.text[0]);
            plan_free(plan);
        }
        plan_store_free_plans(plans, count);
    } else {
        REQUIRE(err.text[0]);
    }
    err = (struct error){ 0 };
    if (plan_store_devices(store, &devices, &err))
        device_list_release(&devices);
    else
        REQUIRE(err.text[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static char *sound, *changed;
    static size_t length;
    struct error err = { 0 };
    if (!sound) {
        sound = make_store(&length);
        changed = malloc(length);
        REQUIRE(changed);
    }
    memcpy(changed, sound, length);
    for (; size >= 5; bytes += 5, size -= 5) {
        size_t at = (bytes[0] | (size_t)bytes[1] << 8 | (size_t)bytes[2] << 16) % length;
        switch (bytes[3] % 4) {
        case 0: changed[at] = (char)bytes[4]; break;
        case 1: changed[at] ^= (char)(1 << bytes[4] % 8); break;
        case 2: changed[at] = (char)(changed[at] + bytes[4]); break;
        default: {   /* a few bytes from elsewhere */
            size_t from = bytes[4] * (length / 256), last = at > from ? at : from;
            memmove(changed + at, changed + from, (length - last) % 64);
        }
        }
    }
    fuzz_remove("plans.db-wal");
    fuzz_remove("plans.db-shm");
    fuzz_write("plans.db", changed, length);
    struct plan_store *store = plan_store_open(store_path(), STORE_EXISTING, &err);
    if (store)
        load(store);
    else
        REQUIRE(err.kind != ERROR_NONE && err.text[0]);
    plan_store_close(store);
    return 0;
}
