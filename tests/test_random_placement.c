/* A property: whatever the placement, sliced or whole, the residency, the micro-batches and the passes, the
 * bits are those of one device. PLACEMENT_SEED=N chooses other placements, PLACEMENT_ROUNDS=N more. */
#include "tests/support.h"
#include "tests/support_engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKENS 44u
#define MOST_DEVICES 3u

static uint32_t random_state;

/* 0 .. limit - 1 */
static uint32_t chance(uint32_t limit) {
    random_state = random_state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)random_state * limit >> 32);
}

static uint32_t random_pass(uint32_t left) {
    return chance(2) ? 1 + chance(left) : left;
}

/* Logits of every position, in passes of random lengths where `random_passes`. */
static float *run(struct engine *engine, bool random_passes) {
    return support_logits(engine, &(struct support_passes){ .tokens = TOKENS,
                                                            .next = random_passes ? random_pass : NULL });
}

/* PoCL's two devices, and the first of them once more: the same silicon under another name. */
static void add_third_device(struct plan *plan) {
    struct plan_device *third = &plan->devices[plan->device_count++];
    *third = plan->devices[0];
    snprintf(third->device.short_name, sizeof third->device.short_name, "again0");
}

/* Give some of the parts of some units to other devices. */
static void slice_at_random(struct plan *plan) {
    const uint32_t whole_count = plan->shard_count;
    for (uint32_t i = 0, left = whole_count; left; i++, left--) {
        struct shard *shard = &plan->shards[i];
        if (shard->unit == 0 || shard->part_end < 2 || chance(3))
            continue;
        struct shard rest = *shard;
        rest.part_begin = shard->part_end = 1 + chance(shard->part_end - 1);
        rest.device = (int32_t)((uint32_t)shard->device + 1) % (int32_t)plan->device_count;
        rest.residency = chance(4) ? RESIDENT : STREAMED;
        struct error err = { 0 };
        ASSERT_OK(plan_add_shard(plan, &rest, &err), err);
        i++;   /* the rest is in its place now */
    }
}

/* Runs of units on devices, in any order and any number; some streamed, with windows of any size. */
static void place_at_random(struct plan *plan, char *text, size_t size) {
    size_t used = 0;
    uint32_t devices = 1 + chance(plan->device_count), most = 1 + chance(4);
    bool streams = chance(2), streams_all = chance(3) == 0;
    for (uint32_t unit = 0, left = 0, device = 0; unit < plan->unit_count; unit++) {
        struct shard *shard = &plan->shards[unit];
        if (left-- == 0) {
            device = chance(devices);
            left = chance(most);
        }
        shard->device = unit == 0 && chance(2) ? PLAN_HOST : (int32_t)device;
        shard->residency = shard->device != PLAN_HOST && streams && (streams_all || chance(2)) ? STREAMED : RESIDENT;
        if (used < size)
            used += (size_t)snprintf(text + used, size - used, "%s%d%s", unit ? " " : "", (int)shard->device,
                                     shard->residency == STREAMED ? "s" : "");
    }
    uint64_t budget = chance(2) ? 0 : (8u << 20) << chance(3);
    for (uint32_t d = 0; d < plan->device_count; d++)
        plan->devices[d].budget_bytes = budget;
    if (used < size)
        snprintf(text + used, size - used, "; budget %llu", (unsigned long long)budget);
}

static void check_model(const char *path, bool packed, uint32_t rounds) {
    static const uint32_t batches[] = { 1, 2, 5, 16, 31, 32, 64, 256 };
    struct error err = { 0 };
    struct rig rig;
    struct rig_options options = { .kv_type = KV_F16, .logit_rows = TOKENS, .context = 64, .packed = packed };
    ASSERT_OK(rig_open(&rig, path, &options, &err), err);
    float *expected = run(rig.engine, false);
    const size_t bytes = (size_t)TOKENS * rig.model->vocab_size * sizeof *expected;
    rig_close(&rig);
    for (uint32_t round = 0; round < rounds; round++) {
        char text[512];
        const uint32_t seed = random_state;
        options.micro_batch = batches[chance(sizeof batches / sizeof *batches)];
        options.logit_rows = 1 + chance(TOKENS);
        options.discrete = chance(2);
        options.apart = chance(3);
        ASSERT_OK(rig_prepare(&rig, path, &options, &err), err);
        add_third_device(rig.plan);
        place_at_random(rig.plan, text, sizeof text);
        bool slices = chance(2);
        if (slices)
            slice_at_random(rig.plan);
        ASSERT_OK(rig_start(&rig, &options, &err), err);
        float *logits = run(rig.engine, true);
        if (memcmp(logits, expected, bytes) != 0)
            fail_msg("other bits with PLACEMENT_SEED=%u (%s): units on %s; micro-batch %u%s%s%s", seed, path, text,
                     options.micro_batch, options.discrete ? ", discrete" : "", options.apart == 1 ? ", apart" : options.apart ? ", the first apart" : "",
                     slices ? ", in slices" : "");
        free(logits);
        rig_close(&rig);
    }
    free(expected);
}

static void every_placement_gives_the_same_bits(void **state) {
    (void)state;
    static const struct { const char *name; bool packed; } models[] = {
        { "models/phi3-tiny", false }, { "models/gguf/quantizable-tiny-Q4_1.gguf", true },
        { "models/phi3-tiny-swa", false }, { "models/gguf/quantizable-tiny-Q4_1.gguf", false },
    };
    const char *seed = getenv("PLACEMENT_SEED"), *more = getenv("PLACEMENT_ROUNDS");
    uint32_t rounds = more ? (uint32_t)strtoul(more, NULL, 10) : 6;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        const char *path = support_devices() ? test_data(models[i].name) : NULL;
        if (!path)
            SKIP_BECAUSE("no PoCL device, or no %s", models[i].name);
        random_state = seed ? (uint32_t)strtoul(seed, NULL, 10) : 20261122u + (uint32_t)i;
        check_model(path, models[i].packed, rounds);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_placement_gives_the_same_bits) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
