/* tensor_type: how weights are stored, whatever the container.
 *
 * A row of `columns` values takes columns / block_values * block_bytes bytes.
 * Block layouts (little endian, from the GGUF specification):
 *   Q8_0  half d, int8 q[32]                   w = d * q
 *   Q4_0  half d, uint8 q[16]                  w = d * (nibble - 8)
 *   Q4_1  half d, half m, uint8 q[16]          w = d * nibble + m
 *   Q5_0  half d, uint32 h, uint8 q[16]        w = d * (nibble + 16 * bit - 16)
 *   Q5_1  half d, half m, uint32 h, uint8 q[16]
 * where nibble j < 16 is the low half of q[j] and j >= 16 the high half of
 * q[j - 16]. Q4_K, Q5_K and Q6_K have blocks of 256 values. */
#ifndef COMMON_TENSOR_TYPE_H
#define COMMON_TENSOR_TYPE_H

#include <stdbool.h>
#include <stdint.h>

enum tensor_type {
    TENSOR_F32, TENSOR_F16, TENSOR_BF16,
    TENSOR_Q8_0, TENSOR_Q4_0, TENSOR_Q4_1, TENSOR_Q5_0, TENSOR_Q5_1,
    TENSOR_Q4_K, TENSOR_Q5_K, TENSOR_Q6_K,
    TENSOR_TYPE_COUNT
};

struct tensor_type_info {
    const char *name;        /* "f32", "q4_0": lower case, as the store and the command line spell it */
    uint32_t block_values;   /* 1 for the float types */
    uint32_t block_bytes;
    bool is_quantised;
};

const struct tensor_type_info *tensor_type_info(enum tensor_type type);

/* Case-insensitive. False where the name is none of ours. */
bool tensor_type_from_name(const char *name, enum tensor_type *type);

/* The type of which there are most bytes, the first of several; TENSOR_F32 where there are none. */
enum tensor_type tensor_type_of_most(const uint64_t bytes[TENSOR_TYPE_COUNT]);

/* Bytes of `rows` rows of `columns` values. False on overflow or where
 * `columns` is not a multiple of the block. */
bool tensor_bytes(enum tensor_type type, uint64_t rows, uint64_t columns, uint64_t *bytes);

/* Exact float32 values of `count` stored values (a multiple of the block), in
 * the reference order d*q or d*q + m. `source` needs no alignment. */
void dequantise(enum tensor_type type, const void *source, float *target, uint64_t count);

/* The reverse with the reference rounding, for F32, F16, BF16, Q8_0, Q4_0,
 * Q4_1, Q5_0, Q5_1. False for a type that cannot be made here. */
bool quantise(enum tensor_type type, const float *source, void *target, uint64_t count);

float half_to_float(uint16_t half);
uint16_t float_to_half(float value);      /* nearest even */
uint16_t float_to_bfloat16(float value);  /* nearest even */

#endif
