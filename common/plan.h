/* plan: a placement as plain data.
 *
 * It can be built in a test, printed, stored and compared without a device or a
 * file. Made by the planner, kept by db/plan_store, executed by the runtime. */
#ifndef COMMON_PLAN_H
#define COMMON_PLAN_H

#include "common/device.h"
#include "common/unit_buffers.h"

#define PLAN_HOST (-1)          /* shard.device: rows gathered by the host (embed only) */
#define PLAN_MAX_DEVICES 16

enum residency { RESIDENT, STREAMED };

struct shard {
    uint32_t unit;              /* index, see common/unit.h */
    int32_t device;             /* index into plan.devices, or PLAN_HOST */
    uint32_t part_begin, part_end;
    char format[16];            /* layout and type of the weights: "keep", "r16", "q8_0/r16": weight_choice.h */
    enum residency residency;
    int64_t artifact;           /* row of the store; 0: read from the model's own files */
    uint64_t weight_bytes;
    uint64_t kv_bytes;
};

/* What was asked for: enough to repeat it. Strings are as typed; "" = not given. */
struct plan_request {
    uint32_t context;
    uint32_t prompt_tokens, new_tokens;   /* the declared workload */
    uint32_t micro_batch;
    enum kv_type kv_type;
    char weights[16];           /* "keep", "f16", "q8_0", "q4_0", "auto" */
    char policy[32];            /* "fastest", "fill" */
    char rope[8];               /* "auto", "short", "long" */
    char devices[256], exclude[256];
    char max_memory[512], max_buffer[64];
    char pins[512], forbids[512];
    char slices[8];             /* "auto", "off" */
    bool stream;
    char dtype[16];
};

struct plan_device {
    struct device device;       /* identity and the preconditions as they were */
    uint64_t budget_bytes;      /* what the plan may use */
    uint64_t max_buffer_bytes;
    uint64_t weight_bytes, kv_bytes, scratch_bytes, staging_bytes, slack_bytes;
    double decode_seconds;      /* predicted share of one token, at the middle of the workload */
    double prefill_seconds;     /* predicted share of the prompt */
    char empty_reason[160];     /* why it holds nothing; "" otherwise */
};

/* An environment variable that chooses devices, as it was ("" = unset). */
struct plan_environment { char name[48]; char value[256]; };

struct plan {
    int64_t id;                 /* 0 until stored */
    char name[64];
    char weights_hash[65], text_hash[65], hardware_key[65];   /* "" in a dry run */
    char model_name[128], architecture[32];
    char model_path[4096];      /* as resolved when planned */
    uint64_t model_weight_bytes;   /* as the plan has them, see model_chosen_bytes() */
    uint32_t unit_count;
    enum numeric_class numeric;
    struct plan_request request;

    uint32_t device_count;
    struct plan_device devices[PLAN_MAX_DEVICES];
    uint32_t environment_count;
    struct plan_environment environment[16];

    uint32_t shard_count;
    struct shard *shards;       /* sorted by unit, then part */

    double predicted_prefill_tokens_per_s;
    double predicted_decode_tokens_per_s;        /* at context 0 */
    double predicted_decode_tokens_per_s_end;    /* at full context */
    double predicted_first_token_s;
    double predicted_total_s;                    /* the declared workload */
    char binding[200];          /* the binding constraint, as a sentence; "" for none */
    char created[32];           /* ISO 8601, UTC */
};

/* Whether a text, as typed, can be the number of a stored plan, and which. */
bool plan_id_read(const char *text, int64_t *id);

struct plan *plan_new(void);            /* zeroed; NULL when out of memory */
void plan_free(struct plan *plan);      /* NULL is fine */
bool plan_add_shard(struct plan *plan, const struct shard *shard, struct error *err);  /* keeps the order */

/* The name of a unit ("embed", "attn.3", "ffn.3", "head") where only the plan is at hand. */
void plan_unit_name(uint32_t unit_count, uint32_t unit, char name[24]);

/* Whether a shard, which is in its place, has only some of its unit's parts; its name then
 * says which: "attn.3[0:2]" has parts 0 and 1. */
bool plan_shard_is_slice(const struct plan *plan, uint32_t index);
void plan_shard_name(const struct plan *plan, uint32_t index, char name[48]);

/* Whether the device (or PLAN_HOST) has a shard. */
bool plan_device_holds(const struct plan *plan, int32_t device);

/* Whether the device (or any) streams units. */
#define PLAN_ANY_DEVICE (-2)
bool plan_streams(const struct plan *plan, int32_t device);

/* Every unit covered exactly once (parts from 0 on without a gap; where they end,
 * only the model knows), devices in range, only embed on the host, KV only in
 * attn units. The sentence names the unit and the device. */
bool plan_validate(const struct plan *plan, struct error *err);

/* The present values of the environment variables that choose devices, sorted by
 * name: DRI_PRIME, HSA_OVERRIDE_GFX_VERSION, RUSTICL_ENABLE, the usual
 * *_VISIBLE_DEVICES, POCL_DEVICES and POCL_MEMORY_LIMIT whether set or not, and
 * those set of *_VISIBLE_DEVICES and POCL_* (but not PoCL's cache and debugging). */
void plan_record_environment(struct plan *plan);

/* Compare with the environment as it is now: ERROR_STALE names the variable, the
 * old and the new value. */
bool plan_check_environment(const struct plan *plan, struct error *err);

#endif
