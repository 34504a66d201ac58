/* forward: the transformer on one device, unit by unit.
 *
 * Everything is enqueued without waiting; the only blocking call is the read of the
 * logits at the end of forward_head(). n = token_count, at most the micro-batch. */
#ifndef RUNTIME_FORWARD_H
#define RUNTIME_FORWARD_H

#include "runtime/shard_loader.h"

struct forward {
    const struct model *model;
    struct ops *ops;
    cl_command_queue queue;
    const char *device;                  /* name, for sentences */
    const struct device_memory *memory;
    enum numeric_class numeric;
    uint32_t page_columns;               /* of the page table */
    uint32_t key_count;                  /* most keys before and with a token of the input */
    const bool *gemm_types;              /* [TENSOR_TYPE_COUNT] see engine_options; NULL: none */
    uint32_t logit_rows;                 /* rows that the logits buffer holds; at least 1 */
    cl_mem residual;                     /* [n][hidden] that the units read and add to: the device's own, or one
                                          * that devices of its context share, see engine_hop.c */
};

/* What a device needs to know of a micro-batch; non-blocking writes from memory that must
 * stay as it is until the micro-batch has passed. */
struct forward_input {
    uint32_t token_count;
    const int32_t *tokens, *positions, *sequences;   /* [n] */
    const float *rope;                               /* [n][rotary_dim / 2][2] */
};
bool forward_write_input(const struct forward *forward, const struct forward_input *input, struct error *err);
bool forward_write_pages(const struct forward *forward, const int32_t *table, uint32_t entries,
                         struct error *err);
bool forward_write_residual(const struct forward *forward, const float *residual, uint32_t token_count,
                            struct error *err);

/* The residual [n][hidden] of the device, through one unit: not the head. */
bool forward_unit(const struct forward *forward, uint32_t unit, uint32_t token_count, struct error *err);

/* logits [wanted_count][vocab] of the rows `wanted` (ascending) of the residual, which is
 * used up; of a slice, its columns of them. Returns when they are there. */
bool forward_head(const struct forward *forward, uint32_t unit, const uint32_t *wanted,
                  uint32_t wanted_count, float *logits, struct error *err);

/* ---- a slice of a unit, see common/unit_slice.h ----
 * Both halves take and leave values on the host, since other devices have the rest; both
 * return when theirs are there. */

/* The slice's columns of the activation: of [n][inner_total]. The residual is on the device. */
bool forward_slice_inner(const struct forward *forward, uint32_t unit, uint32_t token_count, float *activation,
                         struct error *err);
/* The whole activation and the device's residual to the slice's columns of residual [n][hidden]. */
bool forward_slice_output(const struct forward *forward, uint32_t unit, uint32_t token_count,
                          const float *activation, float *residual, struct error *err);
/* Only the columns of the residual that forward_slice_output() adds to. */
bool forward_write_residual_slice(const struct forward *forward, uint32_t unit, const float *residual,
                                  uint32_t token_count, struct error *err);

/* Copy page `from` to page `to` in every attn unit of the device; head_bytes: of the K (or
 * V) of one KV head in a page. */
bool forward_copy_page(const struct forward *forward, int32_t from, int32_t to, uint64_t head_bytes,
                       struct error *err);

/* Read page `page` of what the device has of every attn unit into, or write it from, `bytes`,
 * where the model's attn units lie one after the other: K, then V of all KV heads, `head_bytes`
 * of each. Waits. */
bool forward_read_page(const struct forward *forward, int32_t page, uint64_t head_bytes, uint8_t *bytes,
                       struct error *err);
bool forward_write_page(const struct forward *forward, int32_t page, uint64_t head_bytes, const uint8_t *bytes,
                        struct error *err);

#endif
