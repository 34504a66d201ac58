/* unit_weights: the bytes of a weight buffer, from the model's own files.
 *
 * What unit_buffers() lists, filled: phiplan packs artifacts with it, phirun loads
 * what no artifact has. */
#ifndef COMMON_UNIT_WEIGHTS_H
#define COMMON_UNIT_WEIGHTS_H

#include "common/file_map.h"
#include "common/unit_buffers.h"

/* Fill `target` (spec->used_bytes of a BUFFER_WEIGHTS entry) in the entry's layout. Adds
 * the bytes read from files to *bytes_read (may be NULL). */
bool unit_read_buffer(const struct model *model, const struct buffer_spec *spec, void *target,
                      uint64_t *bytes_read, struct error *err);

/* Stored bytes of what the entry holds, without padding and widening. Norms, which every
 * slice of a unit has, count for the one with its first part: slices add up to the unit. */
uint64_t unit_stored_bytes(const struct model *model, const struct buffer_spec *spec);

/* The same of a vector, and of all weights of some parts of a unit. */
uint64_t unit_vector_bytes(const struct model *model, struct unit unit, struct part_range parts,
                           enum buffer_role role);
uint64_t unit_part_stored_bytes(const struct model *model, struct unit unit, struct part_range parts);

/* Where the entry lies in one piece in one file, in the order and layout wanted: true, with
 * its place. Rows of pairs, parts of several tensors that do not touch, vectors that
 * would have to be widened and packed matrices do not. */
bool unit_stored_in_one_piece(const struct model *model, const struct buffer_spec *spec, uint32_t *file,
                              uint64_t *offset);

#endif
