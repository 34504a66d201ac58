/* placement: which device runs which unit. Pure: numbers in, numbers out; no
 * device, file or clock, so that decisions are tested with tables.
 *
 * Units run in order. `fill` and `balanced` give a device one contiguous run of the
 * units that are free to move, and so does `fastest` where nothing else is clearly
 * faster; pinned units stay where they are told and are passed through on the way. Memory of a device: the bytes of its units plus its scratch, which
 * depends only on the kinds of unit that it holds; a pool is one budget shared
 * by several devices (host RAM). */
#ifndef PLANNER_PLACEMENT_H
#define PLANNER_PLACEMENT_H

#include "common/unit_slice.h"

#define PLACEMENT_MAX_DEVICES 16
#define PLACEMENT_HOST (-1)        /* rows gathered by the host, no device memory */
#define PLACEMENT_FREE (-2)        /* no pin */
#define PLACEMENT_KIND_MASKS 16    /* sets of unit kinds: bit (1 << UNIT_...) */

/* What one unit costs on one device. */
struct placement_unit {
    bool allowed;
    uint64_t bytes;                /* weights and KV, as allocated */
    double seconds;                /* over the whole workload */
};

struct placement_device {
    char name[16];
    uint64_t budget_bytes;
    bool in_pool;
    uint64_t scratch_bytes[PLACEMENT_KIND_MASKS];  /* [0] is 0; never shrinks with a larger set */
    struct placement_unit *units;  /* [unit_count]; owned by whoever made the input */
};

struct placement_input {
    uint32_t unit_count;
    enum unit_kind *kinds;         /* [unit_count] */
    int32_t *pinned;               /* [unit_count]: a device, PLACEMENT_HOST or PLACEMENT_FREE */
    uint32_t device_count;
    struct placement_device devices[PLACEMENT_MAX_DEVICES];   /* `fill` takes them in this order */
    uint64_t pool_bytes;           /* for all devices with in_pool together */
    uint32_t required;             /* bits: devices that must hold something (placement_fastest) */
    /* Seconds that crossing from one device to another costs over the whole
     * workload, once for each place where it happens; index PLACEMENT_MAX_DEVICES is the host. */
    double hop_seconds[PLACEMENT_MAX_DEVICES + 1][PLACEMENT_MAX_DEVICES + 1];
};

/* NULL tables on failure; zeroed, everything free and allowed. */
bool placement_input_init(struct placement_input *input, uint32_t unit_count, uint32_t device_count,
                          struct error *err);
void placement_input_release(struct placement_input *input);

/* Some of a unit's parts on one device, which runs them while others run the others. */
struct placement_slice {
    uint32_t unit;
    int32_t device;
    struct part_range parts;
};

struct placement {
    int32_t *device;               /* [unit_count]: index of a device, or PLACEMENT_HOST; of a unit in
                                    * slices that of its first part */
    double seconds;                /* the whole workload */
    struct placement_slice *slices;   /* [slice_count] of the units that are not whole, by unit and part */
    uint32_t slice_count;
};

#define PLACEMENT_ALTERNATIVES 2

struct placement_result {
    struct placement best;
    /* The best runs of the two next sets of devices, fastest first. */
    struct placement alternatives[PLACEMENT_ALTERNATIVES];
    uint32_t alternative_count;
    /* Time of the best placement that uses the device; infinite where there is none. */
    double best_with[PLACEMENT_MAX_DEVICES];
    bool infeasible;               /* on failure: the memory does not suffice */
};

/* The placement with the least time of those in which each device has one run: exact over
 * every ordered subset of up to eight devices (of more, the eight that would be fastest
 * alone) and every cut between half blocks, as long as that takes no more than a moment. */
bool placement_runs(const struct placement_input *input, struct placement_result *result, struct error *err);

/* The same, and then over maps in which devices come back, of which one is taken where it
 * needs 1 % less time: all maps of a small model, those that look best of a large one (see
 * placement_wide.h). The same input gives the same answer. */
bool placement_fastest(const struct placement_input *input, struct placement_result *result, struct error *err);

/* Each device in the order given takes as many of the next units as it holds. */
bool placement_fill(const struct placement_input *input, struct placement_result *result,
                    struct error *err);

/* Contiguous in the order given like `fill`, with the same share of each device's memory:
 * the smallest that holds the model. */
bool placement_balanced(const struct placement_input *input, struct placement_result *result,
                        struct error *err);

void placement_result_release(struct placement_result *result);

/* The slices of a unit: how many, and the first of them; 0 where it is whole. */
uint32_t placement_slices_of(const struct placement *placement, uint32_t unit,
                             const struct placement_slice **first);
/* The parts of a unit, of `part_count`, that a device has. */
struct part_range placement_parts(const struct placement *placement, uint32_t unit, int32_t device,
                                  uint32_t part_count);

/* Bytes that the placement takes on a device, scratch included; of slices their share. */
uint64_t placement_bytes(const struct placement_input *input, const struct placement *placement,
                         uint32_t device);

/* Seconds of the workload, hops included. */
double placement_seconds(const struct placement_input *input, const int32_t *device);

/* What keeps the plan from being faster, as a sentence ("one more block on 'gpu0'
 * needs 61 MiB more"); "" where memory binds nothing. */
void placement_binding(const struct placement_input *input, const struct placement *placement,
                       char *text, size_t size);

/* Why `device` holds nothing in result->best. */
void placement_empty_reason(const struct placement_input *input,
                            const struct placement_result *result, uint32_t device, char *text,
                            size_t size);

/* ---- shared with placement_search.c ---- */

/* Bytes of the units pinned to a device, and the mask of their kinds. */
uint64_t placement_pinned_bytes(const struct placement_input *input, uint32_t device,
                                uint32_t *kind_mask);
/* ERROR_FAILED with what is needed and what there is. Sets result->infeasible. */
bool placement_explain_infeasible(const struct placement_input *input,
                                  struct placement_result *result, struct error *err);
double placement_hop(const struct placement_input *input, int32_t from, int32_t to);

#endif
