/* accelerate_map: the device maps of Hugging Face Accelerate 1.15 and of
 * transformers 5, key for key, for those who move from there.
 *
 * Modules are taken in the order of their registration and put on the first device
 * with room; once a device was left, nothing comes back to it. On the first device that
 * is no CPU, and on the CPU, room for the largest remaining layer is kept. Speeds,
 * KV and scratch play no part. Pure. */
#ifndef PLANNER_ACCELERATE_MAP_H
#define PLANNER_ACCELERATE_MAP_H

#include "planner/device_map.h"

#define ACCELERATE_MAX_DEVICES 64

/* Amounts beyond this are as good as endless; sums stay far from overflow. */
#define ACCELERATE_MAX_BYTES ((uint64_t)1 << 56)

/* max_memory: numbers ascending, then the CPU, then the disk. */
struct accelerate_memory {
    uint32_t count;
    struct { int32_t device; uint64_t bytes; } devices[ACCELERATE_MAX_DEVICES];
};

/* Put a device in its place; one that is there is replaced. */
bool accelerate_memory_add(struct accelerate_memory *memory, int32_t device, uint64_t bytes,
                           struct error *err);

/* Read "0=8GiB,1=3GiB,cpu=24GiB" for devices that need not exist. ERROR_USAGE for other names
 * and for percentages, as there is nothing to take them of. */
bool accelerate_memory_parse(const char *list, struct accelerate_memory *memory, struct text *notes,
                             struct error *err);

enum accelerate_dialect { ACCELERATE_1, TRANSFORMERS_5 };

/* get_balanced_memory: lower the limits so that the devices get even shares.
 * `low_zero` keeps device 0 for other work. Where Python ends in an accident (a
 * disk among the devices of ACCELERATE_1, a gap in the numbers with low_zero),
 * ERROR_USAGE. */
bool accelerate_balance(const struct module_tree *tree, enum accelerate_dialect dialect, bool low_zero,
                        struct accelerate_memory *memory, struct error *err);

struct accelerate_options {
    enum accelerate_dialect dialect;
    bool splits_blocks;            /* no_split_module_classes not given */
    bool fallback_allocation;      /* ACCELERATE_1 only */
};

/* infer_auto_device_map and clean_device_map. The order of the keys is Accelerate's
 * where it has one: with splits_blocks it walks a set. */
bool accelerate_infer(const struct module_tree *tree, const struct accelerate_memory *memory,
                      const struct accelerate_options *options, struct device_map *map, struct error *err);

/* ---- the policies hf-sequential, hf-balanced, hf-balanced-low-0, hf-auto ---- */

bool accelerate_is_policy(const char *policy);

/* The bytes of a value that --dtype float16, f16, bfloat16, float32, int8 ... stands for;
 * 0 where it is none of them or "". */
uint32_t accelerate_dtype_bytes(const char *dtype);

/* The map of a policy; `memory` is balanced on the way. `dtype`: as above, "" for the
 * stored types. */
bool accelerate_policy_map(const struct model *model, const char *policy, const char *dtype,
                           struct accelerate_memory *memory, struct device_map *map, struct error *err);

#endif
