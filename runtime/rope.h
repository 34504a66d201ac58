/* rope: inverse frequencies and the table of cos and sin that rope_kv.cl reads.
 *
 * Computed on the host in float32, in transformers' order of operations, so that
 * every device of a plan rotates by the same bits. */
#ifndef RUNTIME_ROPE_H
#define RUNTIME_ROPE_H

#include "common/model.h"

struct rope {
    uint32_t pair_count;          /* rotary_dim / 2 */
    float attention_factor;       /* multiplies cos and sin */
    uint32_t original_context;    /* longrope: the longest sequence of the short factors; else 0 */
    float *frequencies[2];        /* [pair_count] each: short, long; the same values unless longrope */
};

bool rope_init(struct rope *rope, const struct rope_parameters *parameters, struct error *err);
void rope_release(struct rope *rope);

/* table [count][pair_count][2]: cos and sin of each token's position. */
void rope_fill(const struct rope *rope, bool long_factors, const int32_t *positions, uint32_t count,
               float *table);

#endif
