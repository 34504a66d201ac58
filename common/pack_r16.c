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
    return type == TENSOR_Q8_0 || type == TENSOR_Q4_0 || type == TENSOR_Q4_1 || type == TENSOR_Q4_K ||
           type == TENSOR_Q6_K;
}

/* Bytes of the quants of 16 rows in one block of columns. */
static uint64_t quant_bytes(enum tensor_type type) {
    return type == TENSOR_Q8_0 ? 512 : type == TENSOR_Q6_K ? 384 : 256;
}

static bool has_mins(enum tensor_type type) {
    return type == TENSOR_Q4_1 || type == TENSOR_Q4_K;
}

static bool has_factors(enum tensor_type type) {
    return type == TENSOR_Q4_K || type == TENSOR_Q6_K;
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
    if (!r16_packs(type) || !rows || !columns || columns % tensor_type_info(type)->block_values)
        return false;
    struct r16_shape made = {
        .type = type, .rows = rows, .columns = columns,
        .group_count = rows / GROUP_ROWS + (rows % GROUP_ROWS != 0),
        .block_count = columns / BLOCK_COLUMNS,
        .scale_count = columns / tensor_type_info(type)->block_values,
    };
    uint64_t cells, scales, quants_at;
    if (__builtin_mul_overflow(made.group_count, made.block_count, &cells) ||
        __builtin_mul_overflow(made.group_count, made.scale_count, &scales) ||
        !add_plane(cells, quant_bytes(type), &made.bytes, &quants_at) ||
        !add_plane(scales, GROUP_ROWS * 2, &made.bytes, &made.scales_at) ||
        (has_mins(type) && !add_plane(scales, GROUP_ROWS * 2, &made.bytes, &made.mins_at)) ||
        (has_factors(type) && !add_plane(cells, GROUP_ROWS * 2, &made.bytes, &made.factors_at)))
        return false;
    made.mins_at = has_mins(type) ? made.mins_at : made.bytes;
    made.factors_at = has_factors(type) ? made.factors_at : made.bytes;
    *shape = made;
    return true;
}

static bool has_rows(const struct r16_shape *shape, uint64_t first_row, uint64_t row_count) {
    return first_row <= shape->rows && row_count <= shape->rows - first_row;
}

/* Where one row's part of a block lies in the planes. */
struct cell {
    uint64_t quants, scale, min, factors;
};

static struct cell find_cell(const struct r16_shape *shape, uint64_t row, uint64_t block) {
    uint64_t lane = row % GROUP_ROWS, group = row / GROUP_ROWS, cell = group * shape->block_count + block;
    uint64_t scale = group * shape->scale_count + block / (shape->block_count / shape->scale_count);
    uint64_t half_at = (scale * GROUP_ROWS + lane) * 2;
    return (struct cell) {
        cell * quant_bytes(shape->type) + lane * 4, shape->scales_at + half_at, shape->mins_at + half_at,
        shape->factors_at + cell * 2 * GROUP_ROWS + lane
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

/* ---- blocks of 256 ---- */

/* The columns of a file's block that are block `b` of eight: nibbles as Q4_0 has them. */
static void take_nibbles(const uint8_t *quants, unsigned shift, uint8_t nibbles[16]) {
    for (int k = 0; k < 16; k++)
        nibbles[k] = (uint8_t)((quants[k] >> shift & 15) | (quants[16 + k] >> shift & 15) << 4);
}

static void put_nibbles(const uint8_t nibbles[16], unsigned shift, uint8_t *quants) {
    for (int k = 0; k < 16; k++) {
        quants[k] |= (uint8_t)((nibbles[k] & 15) << shift);
        quants[16 + k] |= (uint8_t)(nibbles[k] >> 4 << shift);
    }
}

/* half d, half dmin, 12 bytes of factors, 128 of quants: see dequantise() */
static void pack_q4_k(const struct r16_shape *shape, uint64_t row, uint64_t block, const uint8_t *from,
                      uint8_t *packed) {
    const uint8_t *factors = from + 4;
    for (unsigned b = 0; b < 8; b++) {
        struct cell cell = find_cell(shape, row, 8 * block + b);
        uint8_t nibbles[16];
        take_nibbles(from + 16 + b / 2 * 32, b % 2 * 4, nibbles);
        pack_nibbles(nibbles, packed + cell.quants);
        packed[cell.factors] = b < 4 ? factors[b] & 63 : (uint8_t)((factors[b + 4] & 15) | factors[b - 4] >> 6 << 4);
        packed[cell.factors + GROUP_ROWS] =
            b < 4 ? factors[b + 4] & 63 : (uint8_t)(factors[b + 4] >> 4 | factors[b] >> 6 << 4);
        memcpy(packed + cell.scale, from, 2);
        memcpy(packed + cell.min, from + 2, 2);
    }
}

static void unpack_q4_k(const struct r16_shape *shape, uint64_t row, uint64_t block, const uint8_t *packed,
                        uint8_t *to) {
    uint8_t *factors = to + 4;
    memset(to, 0, 144);
    for (unsigned b = 0; b < 8; b++) {
        struct cell cell = find_cell(shape, row, 8 * block + b);
        uint8_t nibbles[16], step = packed[cell.factors], floor = packed[cell.factors + GROUP_ROWS];
        unpack_nibbles(packed + cell.quants, nibbles);
        put_nibbles(nibbles, b % 2 * 4, to + 16 + b / 2 * 32);
        if (b < 4) {
            factors[b] |= step;
            factors[b + 4] |= floor;
        } else {
            factors[b + 4] |= (uint8_t)((step & 15) | (floor & 15) << 4);
            factors[b - 4] |= (uint8_t)(step >> 4 << 6);
            factors[b] |= (uint8_t)(floor >> 4 << 6);
        }
        memcpy(to, packed + cell.scale, 2);
        memcpy(to + 2, packed + cell.min, 2);
    }
}

/* 128 bytes of low bits, 64 of high ones, 16 of factors, half d: see dequantise() */
static void pack_q6_k(const struct r16_shape *shape, uint64_t row, uint64_t block, const uint8_t *from,
                      uint8_t *packed) {
    for (unsigned b = 0; b < 8; b++) {
        struct cell cell = find_cell(shape, row, 8 * block + b);
        const uint8_t *top = from + 128 + b / 4 * 32;
        uint8_t nibbles[16], *high = packed + cell.quants + 256;
        take_nibbles(from + b / 4 * 64 + b % 2 * 32, b % 4 / 2 * 4, nibbles);
        pack_nibbles(nibbles, packed + cell.quants);
        for (unsigned h = 0; h < 2; h++)
            memset(high + h * 64, 0, 4);
        for (unsigned c = 0; c < 32; c++)
            high[c / 16 * 64 + c % 4] |= (uint8_t)((top[c] >> (b % 4 * 2) & 3) << (c % 16 / 4 * 2));
        packed[cell.factors] = from[192 + 2 * b];
        packed[cell.factors + GROUP_ROWS] = from[193 + 2 * b];
        memcpy(packed + cell.scale, from + 208, 2);
    }
}

static void unpack_q6_k(const struct r16_shape *shape, uint64_t row, uint64_t block, const uint8_t *packed,
                        uint8_t *to) {
    memset(to, 0, 210);
    for (unsigned b = 0; b < 8; b++) {
        struct cell cell = find_cell(shape, row, 8 * block + b);
        const uint8_t *high = packed + cell.quants + 256;
        uint8_t nibbles[16], *top = to + 128 + b / 4 * 32;
        unpack_nibbles(packed + cell.quants, nibbles);
        put_nibbles(nibbles, b % 4 / 2 * 4, to + b / 4 * 64 + b % 2 * 32);
        for (unsigned c = 0; c < 32; c++)
            top[c] |= (uint8_t)((high[c / 16 * 64 + c % 4] >> (c % 16 / 4 * 2) & 3) << (b % 4 * 2));
        to[192 + 2 * b] = packed[cell.factors];
        to[193 + 2 * b] = packed[cell.factors + GROUP_ROWS];
        memcpy(to + 208, packed + cell.scale, 2);
    }
}

/* ---- all ---- */

/* One block of the file, at its place among those of the row. */
static void pack_block(const struct r16_shape *shape, uint64_t row, uint64_t block, const uint8_t *from,
                       uint8_t *packed) {
    if (shape->type == TENSOR_Q4_K) {
        pack_q4_k(shape, row, block, from, packed);
        return;
    }
    if (shape->type == TENSOR_Q6_K) {
        pack_q6_k(shape, row, block, from, packed);
        return;
    }
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
    if (shape->type == TENSOR_Q4_K) {
        unpack_q4_k(shape, row, block, packed, to);
        return;
    }
    if (shape->type == TENSOR_Q6_K) {
        unpack_q6_k(shape, row, block, packed, to);
        return;
    }
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
    uint64_t row_bytes = shape->scale_count * block_bytes;
    for (uint64_t row = first_row, end = first_row + row_count, stop; row < end; row = stop) {
        uint64_t group_end = (row / GROUP_ROWS + 1) * GROUP_ROWS;
        const uint8_t *from = (const uint8_t *)rows + (row - first_row) * row_bytes;
        stop = group_end < end ? group_end : end;
        for (uint64_t block = 0; block < shape->scale_count; block++)
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
        for (uint64_t block = 0; block < shape->scale_count; block++, to += block_bytes)
            unpack_block(shape, row, block, packed, to);
    return true;
}

bool r16_cut_by(const struct r16_shape *whole, r16_read *read, void *context, uint64_t first_row,
                const struct r16_shape *part, void *to) {
    uint64_t group = first_row / GROUP_ROWS, blocks = whole->block_count, scales = whole->scale_count;
    if (first_row % GROUP_ROWS || part->type != whole->type || part->block_count != blocks ||
        group > whole->group_count || part->group_count > whole->group_count - group)
        return false;
    const struct { bool is_there; uint64_t from, to, group_bytes; } planes[] = {
        { true, 0, 0, blocks * quant_bytes(whole->type) },
        { true, whole->scales_at, part->scales_at, scales * GROUP_ROWS * 2 },
        { has_mins(whole->type), whole->mins_at, part->mins_at, scales * GROUP_ROWS * 2 },
        { has_factors(whole->type), whole->factors_at, part->factors_at, blocks * GROUP_ROWS * 2 },
    };
    uint64_t done = 0;   /* of the part */
    for (size_t i = 0; i < sizeof planes / sizeof *planes; i++) {
        uint64_t bytes = part->group_count * planes[i].group_bytes;
        if (!planes[i].is_there)
            continue;
        memset((uint8_t *)to + done, 0, planes[i].to - done);
        if (!read(context, planes[i].from + group * planes[i].group_bytes, (uint8_t *)to + planes[i].to, bytes))
            return false;
        done = planes[i].to + bytes;
    }
    memset((uint8_t *)to + done, 0, part->bytes - done);
    return true;
}

static bool copy_bytes(void *context, uint64_t offset, void *target, uint64_t bytes) {
    memcpy(target, (const uint8_t *)context + offset, bytes);
    return true;
}

bool r16_cut(const struct r16_shape *whole, const void *from, uint64_t first_row, const struct r16_shape *part,
             void *to) {
    return r16_cut_by(whole, copy_bytes, (void *)(uintptr_t)from, first_row, part, to);
}
