#include "common/unit_slice.h"

/* Rows are shared out in groups of this many, as the packed layouts have them. */
#define ROW_GROUP 16u

struct part_range unit_all_parts(const struct model *model, struct unit unit) {
    return (struct part_range){ 0, unit_part_count(model, unit) };
}

static uint32_t smaller(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

/* Where part `part` of `parts` begins in `total` rows that are shared out evenly. */
static uint32_t share_begin(uint32_t total, uint32_t part, uint32_t parts) {
    if (part >= parts)
        return total;
    return (uint32_t)((uint64_t)total * part / parts) / ROW_GROUP * ROW_GROUP;
}

struct unit_slice unit_slice_of(const struct model *model, struct unit unit, struct part_range parts) {
    const uint32_t count = unit_part_count(model, unit);
    struct unit_slice slice = { .is_whole = parts.begin == 0 && parts.end == count };
    if (unit.kind == UNIT_HEAD) {
        slice.output_begin = smaller(parts.begin * UNIT_HEAD_PART_ROWS, model->vocab_size);
        slice.output_count = smaller(parts.end * UNIT_HEAD_PART_ROWS, model->vocab_size) - slice.output_begin;
        return slice;
    }
    if (unit.kind == UNIT_ATTN) {
        uint32_t group = model->head_count / model->kv_head_count;
        slice.kv_head_count = parts.end - parts.begin;
        slice.head_count = slice.kv_head_count * group;
        slice.inner_begin = parts.begin * group * model->head_dim;
        slice.inner_count = slice.head_count * model->head_dim;
        slice.inner_total = model->head_count * model->head_dim;
    }
    if (unit.kind == UNIT_FFN) {
        slice.inner_total = model->intermediate_size;
        slice.inner_begin = smaller(parts.begin * UNIT_FFN_PART_COLUMNS, slice.inner_total);
        slice.inner_count = smaller(parts.end * UNIT_FFN_PART_COLUMNS, slice.inner_total) - slice.inner_begin;
    }
    slice.output_begin = share_begin(model->hidden_size, parts.begin, count);
    slice.output_count = share_begin(model->hidden_size, parts.end, count) - slice.output_begin;
    return slice;
}
