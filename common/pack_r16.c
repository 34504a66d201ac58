#include "common/pack_r16.h"

#include <string.h>

#define GROUP_ROWS 16u
#define BLOCK_COLUMNS 32u
#define LOW_NIBBLES 0x0f0f0f0fu

const char *weight_layout_name(enum weight_layout layout) {
    static const char *const names[LAYOUT_COUNT] = { "keep", "r16" };
    return names[layout];
}

bool weight_layout_from_name(const char *name, enum weight_layout *layout) {
    for (int i = 0; i < LAYOUT_COUNT; i++)
        if (!strcmp(name, weight_layout_name((enum weight_layout)i))) {
            *layout = (enum weight_layout)i;
            return true;
        }
    return false;
}

bool r16_packs(enum tensor_type type) {
    return type == TENSOR_Q8_0 || type == TENSOR_Q4_0 || type == TENSOR_Q4_1;
}

/* Bytes of the quants of 16 rows in one block of columns. */
static uint64_t quant_bytes(enum tensor_type type) {
    return type == TENSOR_Q8_0 ? 512 : 256;
}

/* Append a plane of `cells` times `bytes`; its offset goes to `at`. */
static bool add_plane(uint64_t cells, uint64_t bytes, uint64_t *total, uint64_t *at) {
    uint64_t size;
    *at = *total;
    if (__builtin_mul_overflow(cells, bytes, &size) ||
        __builtin_add_overflow(size, R16_PLANE_ALIGNMENT - 1, &size))
        return false;
    return !__builtin_add_overflow(*total, size / R16_PLANE_ALIGNMENT * R16_PLANE_ALIGNMENT, total);
}

bool r16_shape_init(struct r16_shape *shape, enum tensor_type type, uint64_t rows, uint64_t columns) {
    if (!r16_packs(type) || !rows || !columns || columns % BLOCK_COLUMNS)
        return false;
    struct r16_shape made = {
        .type = type, .rows = rows, .columns = columns,
        .group_count = rows / GROUP_ROWS + (rows % GROUP_ROWS != 0),
        .block_count = columns / BLOCK_COLUMNS,
    };
    uint64_t cells, quants_at;
    if (__builtin_mul_overflow(made.group_count, made.block_count, &cells) ||
        !add_plane(cells, quant_bytes(type), &made.bytes, &quants_at) ||
        !add_plane(cells, GROUP_ROWS * 2, &made.bytes, &made.scales_at))
        return false;
    made.mins_at = made.bytes;
    if (type == TENSOR_Q4_1 && !add_plane(cells, GROUP_ROWS * 2, &made.bytes, &made.mins_at))
        return false;
    *shape = made;
    return true;
}

static bool has_rows(const struct r16_shape *shape, uint64_t first_row, uint64_t row_count) {
    return first_row <= shape->rows && row_count <= shape->rows - first_row;
}

/* Where one row's part of a block lies in the planes. */
struct cell {
    uint64_t quants, scale, min;
};

static struct cell find_cell(const struct r16_shape *shape, uint64_t row, uint64_t block) {
    uint64_t lane = row % GROUP_ROWS, cell = row / GROUP_ROWS * shape->block_count + block;
    uint64_t half_at = (cell * GROUP_ROWS + lane) * 2;
    return (struct cell) {
        cell * quant_bytes(shape->type) + lane * 4, shape->scales_at + half_at, shape->mins_at + half_at
    };
}

/* The file has columns 0-15 in the low nibbles of 16 bytes and 16-31 in the high
 * ones; the layout has four columns of each half of eight. */
static void pack_nibbles(const uint8_t *block, uint8_t *quants) {
    uint32_t from[4];
    memcpy(from, block, sizeof from);
    const uint32_t to[4] = {
        (from[0] & LOW_NIBBLES) | (from[1] & LOW_NIBBLES) << 4,
        (from[2] & LOW_NIBBLES) | (from[3] & LOW_NIBBLES) << 4,
        (from[0] >> 4 & LOW_NIBBLES) | (from[1] & ~LOW_NIBBLES),
        (from[2] >> 4 & LOW_NIBBLES) | (from[3] & ~LOW_NIBBLES),
    };
    for (int q = 0; q < 4; q++)
        memcpy(quants + q * 64, &to[q], sizeof to[q]);
}

static void unpack_nibbles(const uint8_t *quants, uint8_t *block) {
    uint32_t from[4];
    for (int q = 0; q < 4; q++)
        memcpy(&from[q], quants + q * 64, sizeof from[q]);
    const uint32_t to[4] = {
        (from[0] & LOW_NIBBLES) | (from[2] & LOW_NIBBLES) << 4,
        (from[0] >> 4 & LOW_NIBBLES) | (from[2] & ~LOW_NIBBLES),
        (from[1] & LOW_NIBBLES) | (from[3] & LOW_NIBBLES) << 4,
        (from[1] >> 4 & LOW_NIBBLES) | (from[3] & ~LOW_NIBBLES),
    };
    memcpy(block, to, sizeof to);
}

static void pack_block(const struct r16_shape *shape, uint64_t row, uint64_t block, const uint8_t *from,
                       uint8_t *packed) {
    struct cell cell = find_cell(shape, row, block);
    memcpy(packed + cell.scale, from, 2);
    from += 2;
    if (shape->type == TENSOR_Q4_1) {
        memcpy(packed + cell.min, from, 2);
        from += 2;
    }
    if (shape->type == TENSOR_Q8_0)
        for (int q = 0; q < 8; q++)
            memcpy(packed + cell.quants + q * 64, from + q * 4, 4);
    else
        pack_nibbles(from, packed + cell.quants);
}

static void unpack_block(const struct r16_shape *shape, uint64_t row, uint64_t block, const uint8_t *packed,
                         uint8_t *to) {
    struct cell cell = find_cell(shape, row, block);
    memcpy(to, packed + cell.scale, 2);
    to += 2;
    if (shape->type == TENSOR_Q4_1) {
        memcpy(to, packed + cell.min, 2);
        to += 2;
    }
    if (shape->type == TENSOR_Q8_0)
        for (int q = 0; q < 8; q++)
            memcpy(to + q * 4, packed + cell.quants + q * 64, 4);
    else
        unpack_nibbles(packed + cell.quants, to);
}

/* Rows of one group block by block, so that what is written is written in order. */
bool r16_pack(const struct r16_shape *shape, uint64_t first_row, uint64_t row_count, const void *rows,
              void *packed) {
    if (!has_rows(shape, first_row, row_count))
        return false;
    uint64_t block_bytes = tensor_type_info(shape->type)->block_bytes;
    uint64_t row_bytes = shape->block_count * block_bytes;
    for (uint64_t row = first_row, end = first_row + row_count, stop; row < end; row = stop) {
        uint64_t group_end = (row / GROUP_ROWS + 1) * GROUP_ROWS;
        const uint8_t *from = (const uint8_t *)rows + (row - first_row) * row_bytes;
        stop = group_end < end ? group_end : end;
        for (uint64_t block = 0; block < shape->block_count; block++)
            for (uint64_t r = row; r < stop; r++)
                pack_block(shape, r, block, from + (r - row) * row_bytes + block * block_bytes, packed);
    }
    return true;
}

bool r16_unpack(const struct r16_shape *shape, uint64_t first_row, uint64_t row_count, const void *packed,
                void *rows) {
    if (!has_rows(shape, first_row, row_count))
        return false;
    uint64_t block_bytes = tensor_type_info(shape->type)->block_bytes;
    uint8_t *to = rows;
    for (uint64_t row = first_row; row < first_row + row_count; row++)
        for (uint64_t block = 0; block < shape->block_count; block++, to += block_bytes)
            unpack_block(shape, row, block, packed, to);
    return true;
}

bool r16_cut_by(const struct r16_shape *whole, r16_read *read, void *context, uint64_t first_row,
                const struct r16_shape *part, void *to) {
    uint64_t group = first_row / GROUP_ROWS, blocks = whole->block_count;
    if (first_row % GROUP_ROWS || part->type != whole->type || part->block_count != blocks ||
        group > whole->group_count || part->group_count > whole->group_count - group)
        return false;
    const uint64_t cell_bytes[] = { quant_bytes(whole->type), GROUP_ROWS * 2, GROUP_ROWS * 2 };
    const uint64_t at[] = { 0, whole->scales_at, whole->mins_at };
    const uint64_t part_at[] = { 0, part->scales_at, part->mins_at, part->bytes };
    const int planes = whole->type == TENSOR_Q4_1 ? 3 : 2;
    bool ok = true;
    for (int i = 0; ok && i < planes; i++) {
        uint64_t bytes = part->group_count * blocks * cell_bytes[i], end = part_at[i + 1 < planes ? i + 1 : 3];
        ok = read(context, at[i] + group * blocks * cell_bytes[i], (uint8_t *)to + part_at[i], bytes);
        memset((uint8_t *)to + part_at[i] + bytes, 0, end - part_at[i] - bytes);   /* up to the next plane */
    }
    return ok;
}

static bool copy_bytes(void *context, uint64_t offset, void *target, uint64_t bytes) {
    memcpy(target, (const uint8_t *)context + offset, bytes);
    return true;
}

bool r16_cut(const struct r16_shape *whole, const void *from, uint64_t first_row, const struct r16_shape *part,
             void *to) {
    return r16_cut_by(whole, copy_bytes, (void *)(uintptr_t)from, first_row, part, to);
}
