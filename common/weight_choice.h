/* weight_choice: matrices in another type than their file stores, chosen at plan time.
 *
 * A model's refs say what the matrices are computed with (weight_ref_type()); sizes,
 * costs, buffers and packed artifacts follow from that, and weight_read_rows() converts
 * on the way. The choice is made for a unit, and kept as the shard's format:
 *
 *   "keep"       the file's values, in rows         "r16"        in that layout
 *   "q8_0"       as q8_0 in rows                    "q8_0/r16"   in that layout
 *
 * Vectors and the embedding's table always keep their values; a tied head that is
 * converted is a matrix of its own. */
#ifndef COMMON_WEIGHT_CHOICE_H
#define COMMON_WEIGHT_CHOICE_H

#include "common/plan.h"

/* The types that a matrix can become. */
bool weight_choice_can_make(enum tensor_type type);

/* Whether rows of `columns` values stored in one type are better off in another. */
bool weight_choice_helps(enum tensor_type stored, enum tensor_type type, uint64_t columns);

/* Have the unit's matrices in `type`: those of floats, where their rows are whole blocks,
 * and quantised ones where it makes them smaller; others stay, and what was chosen before
 * is undone. Whether any is converted. */
bool model_convert_unit(struct model *model, struct unit unit, enum tensor_type type);
void model_keep_unit(struct model *model, struct unit unit);
void model_keep_all(struct model *model);

/* The type that the unit's converted matrices have; false: it has none. */
bool model_unit_conversion(const struct model *model, struct unit unit, enum tensor_type *type);

/* Bytes of all weights as the choice has them; model_weight_bytes() where nothing is converted. */
uint64_t model_chosen_bytes(const struct model *model);

/* Bytes of the weights by the type that the files store them in. */
void model_stored_bytes(const struct model *model, uint64_t bytes[TENSOR_TYPE_COUNT]);

/* The name of the type that most of the weights have: what `plan` (NULL: it is not made) converts most of them to,
 * or where it keeps more of them, the one of most `stored` bytes; NULL where there are none. The embedding, which
 * keeps its values whatever becomes of the others, does not count as kept. */
const char *main_weight_type(const struct plan *plan, const uint64_t stored[TENSOR_TYPE_COUNT]);

/* The shard format of a unit as the model has it now, in this layout; and its reverse,
 * false where `format` is none. */
void shard_format_write(const struct model *model, struct unit unit, enum weight_layout layout, char format[16]);
bool shard_format_read(const char *format, bool *is_converted, enum tensor_type *type, enum weight_layout *layout);

/* Have every unit as the plan's shards say. A plan of other units fails, and a format that
 * is not known or cannot be had; the next step, to plan again, is the caller's to say. */
bool model_take_formats(struct model *model, const struct plan *plan, struct error *err);

#endif
