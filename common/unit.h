/* unit: the unit of placement, half a transformer block.
 *
 * Units in the order of execution, for a model of L blocks:
 *   0            embed
 *   1 + 2i       attn.i   (norm, qkv, rope, KV, o_proj, residual)
 *   2 + 2i       ffn.i    (norm, gate_up, act, down, residual)
 *   1 + 2L       head     (norm, lm_head)
 * Only the residual vector (float32, [tokens][hidden]) crosses between units.
 *
 * Parts of a unit, for slices: attn: KV heads with their query heads; ffn: groups of
 * 256 intermediate columns (both with their share of the rows of o_proj or down, see
 * common/unit_slice.h); head: groups of 16 vocabulary rows; embed: one part. A whole
 * unit is all of its parts. */
#ifndef COMMON_UNIT_H
#define COMMON_UNIT_H

#include "common/model.h"

#define UNIT_FFN_PART_COLUMNS 256u
#define UNIT_HEAD_PART_ROWS 16u

enum unit_kind { UNIT_EMBED, UNIT_ATTN, UNIT_FFN, UNIT_HEAD };

struct unit {
    enum unit_kind kind;
    uint32_t block;     /* 0 for embed and head */
};

uint32_t unit_count(const struct model *model);
struct unit unit_at(const struct model *model, uint32_t index);
uint32_t unit_index(const struct model *model, struct unit unit);
uint32_t unit_part_count(const struct model *model, struct unit unit);

/* "embed", "attn.3", "ffn.3", "head"; `name` holds at least 24 bytes. */
void unit_name(struct unit unit, char name[24]);
bool unit_from_name(const struct model *model, const char *name, struct unit *unit);

#endif
