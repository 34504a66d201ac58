/* pack_r16: matrices of quantised blocks in groups of 16 rows, the layout that the
 * fast matrix products read: a lane of a vector is a row, so nothing is summed
 * across lanes, and quants and scales lie in planes of their own.
 *
 * Rows are padded to whole groups: group g holds rows 16 g .. 16 g + 15, block b
 * columns 32 b .. 32 b + 31; row r is counted in its group. Padding is zero bytes.
 *
 *   plane    types              at [group][block]
 *   quants   Q4_0, Q4_1, Q4_K   256 bytes: byte [q * 64 + r * 4 + j], q and j 0..3, has in its low
 *                               nibble column 8 q + j, in its high nibble column 8 q + 4 + j, 0..15
 *            Q8_0               512 bytes: byte [q * 64 + r * 4 + j], q 0..7, is column 4 q + j, int8
 *            Q6_K               384 bytes: the low four bits as above; then byte [256 + h * 64 + r * 4 + j],
 *                               h 0..1, has in bits 2 k, 2 k + 1 the upper two of column 16 h + 4 k + j
 *   scales   all                16 halves: d of each row's block
 *   mins     Q4_1, Q4_K         16 halves: m, dmin of each row's block
 *   factors  Q4_K               32 bytes: 16 rows' factor of d, then of dmin, 0..63
 *            Q6_K               32 bytes: 16 rows' factor of d for columns 0-15, then 16-31, int8
 *
 * Scales and mins of Q4_K and Q6_K are for eight blocks, a block of the file: [group][block / 8].
 * The planes follow each other in this order, each at a multiple of 256 bytes.
 * kernels/packed_r16.h finds them by the same rule. */
#ifndef COMMON_PACK_R16_H
#define COMMON_PACK_R16_H

#include "common/tensor_type.h"

/* How a matrix lies in a buffer. */
enum weight_layout {
    LAYOUT_ROWS,   /* rows of blocks, as the file stores them */
    LAYOUT_R16,
    LAYOUT_COUNT
};
const char *weight_layout_name(enum weight_layout layout);                    /* "keep", "r16" */
bool weight_layout_from_name(const char *name, enum weight_layout *layout);   /* exact */

/* The largest alignment of a plane; `bytes` of a matrix is a multiple of it. */
#define R16_PLANE_ALIGNMENT 256u

struct r16_shape {
    enum tensor_type type;
    uint64_t rows, columns;      /* without padding */
    uint64_t group_count;        /* of 16 rows */
    uint64_t block_count;        /* of 32 columns, in a row */
    uint64_t scale_count;        /* of scales in a row: block_count, or an eighth */
    uint64_t scales_at, mins_at, factors_at; /* byte offsets; == bytes where there are none */
    uint64_t bytes;              /* of all planes */
};

/* Whether matrices of this type have the layout at all. */
bool r16_packs(enum tensor_type type);

/* False where the type has no such layout, `columns` is not a multiple of its block, there
 * is nothing to pack, or the sizes overflow. */
bool r16_shape_init(struct r16_shape *shape, enum tensor_type type, uint64_t rows, uint64_t columns);

/* Place `row_count` rows, as the file stores them, as rows first_row .. of the matrix
 * at `packed` (shape->bytes, zeroed before the first call, so that the padding is
 * zero). Rows may come in any portions. No pointer needs alignment. False, with
 * nothing written, where the rows are not all inside the matrix. */
bool r16_pack(const struct r16_shape *shape, uint64_t first_row, uint64_t row_count, const void *rows,
              void *packed);

/* Copy the groups from row `first_row` (a multiple of 16) on, as many as `part` has, of
 * the packed matrix `from` to `to` (part->bytes), which becomes a packed matrix of its
 * own. False, with nothing written, where they are not all there. */
bool r16_cut(const struct r16_shape *whole, const void *from, uint64_t first_row, const struct r16_shape *part,
             void *to);

/* The same where the packed matrix is elsewhere: `read` puts `bytes` bytes of it, from `offset`
 * on, at `target`; false ends the work and is returned. */
typedef bool r16_read(void *context, uint64_t offset, void *target, uint64_t bytes);
bool r16_cut_by(const struct r16_shape *whole, r16_read *read, void *context, uint64_t first_row,
                const struct r16_shape *part, void *to);

/* The reverse of r16_pack(), bit for bit. */
bool r16_unpack(const struct r16_shape *shape, uint64_t first_row, uint64_t row_count, const void *packed,
                void *rows);

#endif
