/* shard_loader: the buffers of one device: made exactly as common/unit_buffers.h
 * lists them; weights by weight_loader. */
#ifndef RUNTIME_SHARD_LOADER_H
#define RUNTIME_SHARD_LOADER_H

#include "common/model.h"
#include "common/unit_buffers.h"
#include "kernels/ops.h"
#include "runtime/weight_loader.h"
#include "runtime/weight_window.h"

#include <signal.h>

/* The buffers that make up a matrix, by rows; several where it was split or where its
 * parts are of different types. */
struct matrix_list {
    struct device_matrix *entries;   /* borrowed from the device_memory */
    uint32_t count;
};

/* All borrowed from the device_memory; NULL or count 0: the unit has none. */
struct unit_memory {
    struct unit_slice slice;         /* of the unit, on this device */
    cl_mem norm, qkv_bias, qk_norm;
    struct matrix_list input;        /* attn: q, k, v; ffn: gate, up; head: head; embed: table */
    struct matrix_list output;       /* attn: o; ffn: down */
    cl_mem k, v;
};

#define STAGE_COUNT 2

struct device_memory {
    struct unit_memory *units;       /* [unit_count]; filled for those that are held */
    cl_mem shared[BUFFER_STAGE];     /* scratch by buffer_role; NULL where not needed */
    struct q8_buffers act_q8;        /* the three of shared */
    uint64_t gemm_bytes;             /* of shared[BUFFER_GEMM] */
    uint64_t act_values;             /* floats in shared[BUFFER_ACT] */
    float *stage[STAGE_COUNT];       /* host staging, mapped for the device's life; [n][hidden] */
    float *gather[STAGE_COUNT];      /* the same, [n][activation]; NULL where it leads no slices */

    struct buffer_list list;
    cl_mem *buffers;                 /* [list.count], owned */
    struct device_matrix *matrices;  /* [list.count], owned; without a buffer where it is no matrix */
    cl_mem stage_buffers[STAGE_COUNT], gather_buffers[STAGE_COUNT];
    struct weight_window *window;    /* owned; NULL where nothing is streamed. A matrix without a buffer comes */
                                     /* through it, under its index in `matrices`                              */
    struct weight_loader weights;    /* owned; its mappings outlive the buffers */
    uint64_t bytes_allocated;
};

struct shard_request {
    const struct model *model;
    const struct part_range *parts;  /* [unit_count] what this device holds of each unit */
    const enum weight_layout *layouts;            /* [unit_count] */
    const bool *streamed;                         /* [unit_count] */
    const struct artifact *const *artifacts;      /* [unit_count]; NULL: not packed */
    bool in_place;                   /* use mapped pages as buffers */
    float *stages[STAGE_COUNT];      /* whole pages to be the staging where the driver can use them; NULL: its own */
    const struct buffer_options *options;
    const char *device;              /* name, for sentences */
    cl_context context;
    cl_command_queue queue;
    const volatile sig_atomic_t *interrupted;   /* may be NULL */
};

/* All the buffers that a device needs for the parts it holds of each unit, each in its
 * layout and streamed or not ([unit_count]), whatever the options say of these. */
bool shard_list_buffers(const struct model *model, const struct part_range *parts, const enum weight_layout *layouts,
                        const bool *streamed, const struct buffer_options *options, struct buffer_list *list,
                        struct error *err);

/* Allocate and load. On failure too, device_memory_release() must follow. */
bool shard_load(struct device_memory *memory, const struct shard_request *request, struct error *err);
void device_memory_release(struct device_memory *memory, cl_command_queue queue);

#endif
