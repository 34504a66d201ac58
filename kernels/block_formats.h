/* block_formats: decoding of stored weights in OpenCL C, 32 columns at a time.
 *
 * The build says which type with one of WEIGHTS_F32, WEIGHTS_F16, WEIGHTS_BF16,
 * WEIGHTS_Q8_0, ... (layouts: common/tensor_type.h). All quantised types are
 * brought to one form, a group of 32 columns with
 *
 *     w[c] = step * (quant[c] - ZERO_POINT) + floor
 *
 * where the quants are small integers and floor is there only if HAS_FLOOR. The
 * product and the sum are rounded once each, as in dequantise(). ROWS_AVX2 converts
 * halves and bfloat16 with x86's instructions, where the host has proven that it does.
 * Blocks lie as in the file: aligned to 2 bytes, so vectors are loaded by elements. */
#ifndef KERNELS_BLOCK_FORMATS_H
#define KERNELS_BLOCK_FORMATS_H

#include "kernels/numerics.h"

/* The largest |sum| of 32 products of a quant and an int8 activation stays below
 * 2^24, exact in float (Q6_K: 32 * 4096 * 127). */
#define GROUP_COLUMNS 32

#ifdef __OPENCL_VERSION__

/* Half bits of step and floor, for the K types with the integers that multiply them. */
struct group_scale {
    int step, floor;
    int step_factor, floor_factor;
};

static inline int half_at(global const uchar *p) {
    return *(global const ushort *)p;
}

/* 16 bytes: the low nibbles are columns 0-15 of a group, the high ones 16-31. */
static inline void load_nibbles(global const uchar *p, short16 *low, short16 *high) {
    uchar16 bytes = vload16(0, p);
    *low = convert_short16(bytes & (uchar16)(15));
    *high = convert_short16(bytes >> (uchar16)(4));
}

/* 16 where a bit is set, else 0. */
static inline short16 fifth_bits(ushort bits) {
    const short16 masks = (short16)(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192,
                                    16384, (short)-32768);
    return (((short16)((short)bits) & masks) != (short16)(0)) & (short16)(16);
}

#define ZERO_POINT 0
#define HAS_FLOOR 0
#define IS_QUANTISED 1

#if defined(WEIGHTS_Q8_0)
#define BLOCK_COLUMNS 32
#define BLOCK_BYTES 34
static inline void load_quants(global const uchar *row, int group, short16 *low, short16 *high) {
    global const char *q = (global const char *)(row + (size_t)group * BLOCK_BYTES + 2);
    *low = convert_short16(vload16(0, q));
    *high = convert_short16(vload16(1, q));
}

#elif defined(WEIGHTS_Q4_0)
#define BLOCK_COLUMNS 32
#define BLOCK_BYTES 18
#undef ZERO_POINT
#define ZERO_POINT 8
static inline void load_quants(global const uchar *row, int group, short16 *low, short16 *high) {
    load_nibbles(row + (size_t)group * BLOCK_BYTES + 2, low, high);
}

#elif defined(WEIGHTS_Q4_1)
#define BLOCK_COLUMNS 32
#define BLOCK_BYTES 20
#undef HAS_FLOOR
#define HAS_FLOOR 1
static inline void load_quants(global const uchar *row, int group, short16 *low, short16 *high) {
    load_nibbles(row + (size_t)group * BLOCK_BYTES + 4, low, high);
}

#elif defined(WEIGHTS_Q5_0) || defined(WEIGHTS_Q5_1)
#define BLOCK_COLUMNS 32
#ifdef WEIGHTS_Q5_0
#define BLOCK_BYTES 22
#define HIGH_AT 2
#undef ZERO_POINT
#define ZERO_POINT 16
#else
#define BLOCK_BYTES 24
#define HIGH_AT 4
#undef HAS_FLOOR
#define HAS_FLOOR 1
#endif
static inline void load_quants(global const uchar *row, int group, short16 *low, short16 *high) {
    global const uchar *block = row + (size_t)group * BLOCK_BYTES;
    ushort2 bits = vload2(0, (global const ushort *)(block + HIGH_AT));
    load_nibbles(block + HIGH_AT + 4, low, high);
    *low |= fifth_bits(bits.x);
    *high |= fifth_bits(bits.y);
}

#elif defined(WEIGHTS_Q4_K) || defined(WEIGHTS_Q5_K)
#define BLOCK_COLUMNS 256
#undef HAS_FLOOR
#define HAS_FLOOR 1
#ifdef WEIGHTS_Q4_K
#define BLOCK_BYTES 144
#define QUANTS_AT 16
#else
#define BLOCK_BYTES 176
#define QUANTS_AT 48
#endif
static inline void load_quants(global const uchar *row, int group, short16 *low, short16 *high) {
    global const uchar *block = row + (size_t)(group / 8) * BLOCK_BYTES;
    int g = group % 8;
    global const uchar *q = block + QUANTS_AT + g / 2 * 32;
    uchar16 shift = (uchar16)((uchar)(g % 2 * 4));
    uchar16 q0 = (vload16(0, q) >> shift) & (uchar16)(15), q1 = (vload16(1, q) >> shift) & (uchar16)(15);
#ifdef WEIGHTS_Q5_K
    uchar16 bit = (uchar16)((uchar)g);
    q0 |= ((vload16(0, block + 16) >> bit) & (uchar16)(1)) << (uchar16)(4);
    q1 |= ((vload16(1, block + 16) >> bit) & (uchar16)(1)) << (uchar16)(4);
#endif
    *low = convert_short16(q0);
    *high = convert_short16(q1);
}

#elif defined(WEIGHTS_Q6_K)
#define BLOCK_COLUMNS 256
#define BLOCK_BYTES 210
/* The scale of each 16 columns is an integer: it goes into the quant. */
static inline void load_quants(global const uchar *row, int group, short16 *low, short16 *high) {
    global const uchar *block = row + (size_t)(group / 8) * BLOCK_BYTES;
    int g = group % 4, half_block = group % 8 / 4;
    global const uchar *q = block + half_block * 64 + g % 2 * 32;
    global const uchar *top = block + 128 + half_block * 32;
    global const char *scales = (global const char *)(block + 192 + group % 8 * 2);
    uchar16 shift = (uchar16)((uchar)(g / 2 * 4)), top_shift = (uchar16)((uchar)(g * 2));
    uchar16 q0 = ((vload16(0, q) >> shift) & (uchar16)(15)) |
                 (((vload16(0, top) >> top_shift) & (uchar16)(3)) << (uchar16)(4));
    uchar16 q1 = ((vload16(1, q) >> shift) & (uchar16)(15)) |
                 (((vload16(1, top) >> top_shift) & (uchar16)(3)) << (uchar16)(4));
    *low = (convert_short16(q0) - (short16)(32)) * (short16)((short)scales[0]);
    *high = (convert_short16(q1) - (short16)(32)) * (short16)((short)scales[1]);
}

#else
#undef IS_QUANTISED
#define IS_QUANTISED 0
#define BLOCK_COLUMNS 1
#ifdef WEIGHTS_F32
#define BLOCK_BYTES 4
#else
#define BLOCK_BYTES 2
#endif
#endif

static inline global const uchar *row_at(global const uchar *weights, size_t row, int columns) {
    return weights + row * (size_t)(columns / BLOCK_COLUMNS) * BLOCK_BYTES;
}

#if IS_QUANTISED
static inline struct group_scale load_scale(global const uchar *row, int group) {
    global const uchar *block = row + (size_t)(group / (BLOCK_COLUMNS / 32)) * BLOCK_BYTES;
    struct group_scale scale = { 0, 0, 1, 1 };
#if defined(WEIGHTS_Q4_K) || defined(WEIGHTS_Q5_K)
    global const uchar *packed = block + 4;
    int i = group % 4;
    scale.step_factor = packed[i] & 63;
    scale.floor_factor = packed[4 + i] & 63;
    if (group % 8 >= 4) {
        scale.step_factor = (packed[8 + i] & 15) | (packed[i] >> 6) << 4;
        scale.floor_factor = packed[8 + i] >> 4 | (packed[4 + i] >> 6) << 4;
    }
    scale.step = half_at(block);
    scale.floor = half_at(block + 2);
#elif defined(WEIGHTS_Q6_K)
    scale.step = half_at(block + 208);
#else
    scale.step = half_at(block);
#if HAS_FLOOR
    scale.floor = half_at(block + 2);
#endif
#endif
    return scale;
}

#if defined(WEIGHTS_Q4_K) || defined(WEIGHTS_Q5_K)
/* Their floor is subtracted. */
#define WITH_FACTOR(value, factor) ((value) * (factor))
#define FLOOR_SIGN -
#else
#define WITH_FACTOR(value, factor) (value)
#define FLOOR_SIGN
#endif

/* The steps of four rows, and their floors. */
static inline float4 steps_of(struct group_scale a, struct group_scale b, struct group_scale c,
                              struct group_scale d) {
    return WITH_FACTOR(half_to_float_4((int4)(a.step, b.step, c.step, d.step)),
                       convert_float4((int4)(a.step_factor, b.step_factor, c.step_factor, d.step_factor)));
}

static inline float4 floors_of(struct group_scale a, struct group_scale b, struct group_scale c,
                               struct group_scale d) {
    return FLOOR_SIGN WITH_FACTOR(half_to_float_4((int4)(a.floor, b.floor, c.floor, d.floor)),
                                  convert_float4((int4)(a.floor_factor, b.floor_factor,
                                                        c.floor_factor, d.floor_factor)));
}

/* Columns 32 * group .. + 31 as float. */
static inline void load_group(global const uchar *row, int group, float16 *low, float16 *high) {
    short16 q0, q1;
    struct group_scale bits = load_scale(row, group);
    float2 scale = WITH_FACTOR(half_to_float_2((int2)(bits.step, bits.floor)),
                               convert_float2((int2)(bits.step_factor, bits.floor_factor)));
    load_quants(row, group, &q0, &q1);
    *low = scale.x * convert_float16(q0 - (short16)(ZERO_POINT));
    *high = scale.x * convert_float16(q1 - (short16)(ZERO_POINT));
#if HAS_FLOOR
    *low += FLOOR_SIGN scale.y;
    *high += FLOOR_SIGN scale.y;
#endif
}
#else
static inline float load_column(global const uchar *row, int column) {
#if defined(WEIGHTS_F32)
    return ((global const float *)row)[column];
#elif defined(WEIGHTS_F16)
    return half_to_float_2((int2)(((global const ushort *)row)[column])).x;
#else
    return as_float((uint)((global const ushort *)row)[column] << 16);
#endif
}

#if defined(WEIGHTS_F16) || defined(WEIGHTS_BF16)
/* Columns `column` .. + 7. */
static inline float8 load_8_columns(global const uchar *row, int column) {
    global const ushort *bits = (global const ushort *)row + column;
#if defined(ROWS_AVX2) && defined(WEIGHTS_F16)
    float8 values;
    __asm__("vcvtph2ps %1, %0" : "=x"(values) : "m"(*(global const ushort8 *)bits));
    return values;
#elif defined(ROWS_AVX2)
    float8 values;
    __asm__("vpmovzxwd %1, %0\n vpslld $16, %0, %0" : "=x"(values) : "m"(*(global const ushort8 *)bits));
    return values;
#elif defined(WEIGHTS_F16)
    return half_to_float_8(convert_int8(vload8(0, bits)));
#else
    return as_float8(convert_uint8(vload8(0, bits)) << 16);
#endif
}
#endif

/* Columns `column` .. + 15. */
static inline float16 load_columns(global const uchar *row, int column) {
#if defined(WEIGHTS_F32)
    return vload16(0, (global const float *)row + column);
#elif defined(WEIGHTS_F16)
    return half_to_float_16(convert_int16(vload16(0, (global const ushort *)row + column)));
#else
    return as_float16(convert_uint16(vload16(0, (global const ushort *)row + column)) << 16);
#endif
}
#endif

#endif
#endif
