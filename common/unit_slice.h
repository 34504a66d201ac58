/* unit_slice: the shape of some of a unit's parts.
 *
 * Every slice of a unit takes the whole residual vector. The first matrices of attn and
 * ffn are cut by rows: each slice computes its own columns of the activation between the
 * matrices. Those are exchanged, so that each slice then has the whole activation, and
 * the second matrix is cut by rows too: each slice adds its own rows of the residual.
 * No sum is ever taken in two pieces: the bits are those of the whole unit. */
#ifndef COMMON_UNIT_SLICE_H
#define COMMON_UNIT_SLICE_H

#include "common/unit.h"

/* Parts [begin, end); none where they are equal. */
struct part_range { uint32_t begin, end; };

struct unit_slice {
    bool is_whole;
    uint32_t head_count, kv_head_count;     /* attn: of these parts; otherwise 0 */
    uint32_t inner_begin, inner_count;      /* attn, ffn: columns of the activation between the matrices */
    uint32_t inner_total;                   /* of the whole unit */
    uint32_t output_begin, output_count;    /* attn, ffn: values of the residual, multiples of 16 but at its
                                             * end, perhaps none; head: rows of the vocabulary */
};

struct part_range unit_all_parts(const struct model *model, struct unit unit);

/* `parts` must lie within the unit. */
struct unit_slice unit_slice_of(const struct model *model, struct unit unit, struct part_range parts);

#endif
