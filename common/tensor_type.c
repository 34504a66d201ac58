#include "common/tensor_type.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

/* The little-endian layouts are read by shifts for bit fields, and by memcpy for
 * float32: this code supposes a little-endian host, as OpenCL devices here are. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "weights are little endian");

static const struct tensor_type_info infos[TENSOR_TYPE_COUNT] = {
    [TENSOR_F32]  = { "f32", 1, 4, false },
    [TENSOR_F16]  = { "f16", 1, 2, false },
    [TENSOR_BF16] = { "bf16", 1, 2, false },
    [TENSOR_Q8_0] = { "q8_0", 32, 34, true },
    [TENSOR_Q4_0] = { "q4_0", 32, 18, true },
    [TENSOR_Q4_1] = { "q4_1", 32, 20, true },
    [TENSOR_Q5_0] = { "q5_0", 32, 22, true },
    [TENSOR_Q5_1] = { "q5_1", 32, 24, true },
    [TENSOR_Q4_K] = { "q4_k", 256, 144, true },
    [TENSOR_Q5_K] = { "q5_k", 256, 176, true },
    [TENSOR_Q6_K] = { "q6_k", 256, 210, true },
};

const struct tensor_type_info *tensor_type_info(enum tensor_type type) {
    return &infos[type];
}

bool tensor_type_from_name(const char *name, enum tensor_type *type) {
    for (int i = 0; i < TENSOR_TYPE_COUNT; i++)
        if (strcasecmp(name, infos[i].name) == 0) {
            *type = (enum tensor_type)i;
            return true;
        }
    return false;
}

enum tensor_type tensor_type_of_most(const uint64_t bytes[TENSOR_TYPE_COUNT]) {
    enum tensor_type most = TENSOR_F32;
    for (unsigned type = 0; type < TENSOR_TYPE_COUNT; type++)
        if (bytes[type] > bytes[most])
            most = (enum tensor_type)type;
    return most;
}

bool tensor_bytes(enum tensor_type type, uint64_t rows, uint64_t columns, uint64_t *bytes) {
    const struct tensor_type_info *info = &infos[type];
    uint64_t row_bytes;
    return columns % info->block_values == 0
        && !__builtin_mul_overflow(columns / info->block_values, (uint64_t)info->block_bytes, &row_bytes)
        && !__builtin_mul_overflow(rows, row_bytes, bytes);
}

static float float_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_of_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

float half_to_float(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t exponent = half >> 10 & 31, fraction = half & 0x3ff;
    if (exponent == 31)
        return float_from_bits(sign | 0x7f800000 | fraction << 13);
    if (exponent)
        return float_from_bits(sign | (exponent + 112) << 23 | fraction << 13);
    /* Zero and subnormals: fraction * 2^-24, exact in float32. */
    float magnitude = (float)fraction * 0x1p-24f;
    return sign ? -magnitude : magnitude;
}

uint16_t float_to_half(float value) {
    uint32_t bits = bits_of_float(value);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    bits &= 0x7fffffff;
    if (bits > 0x7f800000)
        return sign | 0x7e00;                           /* NaN: quiet */
    if (bits >= 0x477ff000)
        return sign | 0x7c00;                           /* 65520 and above round to infinity */
    if (bits < 0x38800000) {
        /* Below 2^-14: adding 0.5 leaves the value, rounded to nearest even in
         * steps of 2^-24, in the low bits of the sum. */
        float shifted = float_from_bits(bits) + 0.5f;
        return sign | (uint16_t)(bits_of_float(shifted) - 0x3f000000);
    }
    bits += 0xfff + (bits >> 13 & 1);
    return sign | (uint16_t)((bits >> 13) - (112 << 10));
}

uint16_t float_to_bfloat16(float value) {
    uint32_t bits = bits_of_float(value);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static uint16_t load_u16(const uint8_t *bytes) {
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

static uint32_t load_u32(const uint8_t *bytes) {
    return load_u16(bytes) | (uint32_t)load_u16(bytes + 2) << 16;
}

static void store_u16(uint8_t *bytes, uint16_t value) {
    bytes[0] = (uint8_t)value;
    bytes[1] = (uint8_t)(value >> 8);
}

static float load_half(const uint8_t *bytes) {
    return half_to_float(load_u16(bytes));
}

/* Q4_0, Q4_1, Q5_0, Q5_1 differ in where their parts lie and in what is taken
 * off or added: offset 0 means "no such part". */
struct small_block {
    uint8_t min_at, high_at, quants_at;
    int8_t bias;
    uint8_t levels;         /* of a quant, less one */
};

static const struct small_block q4_0_block = { 0, 0, 2, 8, 15 };
static const struct small_block q4_1_block = { 2, 0, 4, 0, 15 };
static const struct small_block q5_0_block = { 0, 2, 6, 16, 31 };
static const struct small_block q5_1_block = { 2, 4, 8, 0, 31 };

static void dequantise_small(const struct small_block *layout, const uint8_t *block, float *target) {
    float d = load_half(block);
    float m = layout->min_at ? load_half(block + layout->min_at) : 0.0f;
    uint32_t high = layout->high_at ? load_u32(block + layout->high_at) : 0;
    const uint8_t *quants = block + layout->quants_at;
    for (int j = 0; j < 32; j++) {
        int quant = (quants[j % 16] >> (j < 16 ? 0 : 4) & 15) | (int)(high >> j & 1) << 4;
        float product = d * (float)(quant - layout->bias);
        /* Adding an absent minimum of 0 would turn -0 into 0. */
        target[j] = layout->min_at ? product + m : product;
    }
}

static void dequantise_q8_0(const uint8_t *block, float *target) {
    float d = load_half(block);
    for (int j = 0; j < 32; j++)
        target[j] = d * (float)(int8_t)block[2 + j];
}

/* Q4_K and Q5_K:  half d, half dmin, uint8 packed[12], uint8 high[32] (Q5_K only), uint8 q[128]
 *
 * Eight groups of 32 values, each with a scale s and a minimum m of six bits:
 * w = (d * s) * quant - dmin * m. In packed[], groups 0-3 have s in the low six
 * bits of bytes 0-3 and m in those of bytes 4-7; groups 4-7 have their low
 * nibbles in bytes 8-11 (s low, m high) and their top two bits above the others.
 * Groups 2i and 2i + 1 are the low and high nibbles of q[32i .. 32i + 31]; bit g
 * of high[j] is the fifth bit of value j of group g. */
static void dequantise_q4_k_or_q5_k(const uint8_t *block, bool has_high, float *target) {
    float d = load_half(block), dmin = load_half(block + 2);
    const uint8_t *packed = block + 4;
    const uint8_t *high = block + 16;
    const uint8_t *quants = has_high ? block + 48 : block + 16;
    for (int group = 0; group < 8; group++) {
        int i = group % 4;
        int scale = packed[i] & 63, min = packed[4 + i] & 63;
        if (group >= 4) {
            scale = (packed[8 + i] & 15) | (packed[i] >> 6) << 4;
            min = packed[8 + i] >> 4 | (packed[4 + i] >> 6) << 4;
        }
        float step = d * (float)scale, floor = dmin * (float)min;
        for (int j = 0; j < 32; j++) {
            int quant = quants[group / 2 * 32 + j] >> group % 2 * 4 & 15;
            if (has_high)
                quant |= (high[j] >> group & 1) << 4;
            target[group * 32 + j] = step * (float)quant - floor;
        }
    }
}

/* Q6_K:  uint8 low[128], uint8 high[64], int8 scales[16], half d
 *
 * Two halves of 128 values, each of four groups of 32: group g takes the nibble
 * g / 2 of low[32 * (g % 2) + j] and bits 2g, 2g + 1 of high[j]. A scale serves 16
 * values: w = (d * scale) * (quant - 32). */
static void dequantise_q6_k(const uint8_t *block, float *target) {
    float d = load_half(block + 208);
    for (int k = 0; k < 256; k++) {
        int half = k / 128, group = k / 32 % 4, j = k % 32;
        int low = block[half * 64 + group % 2 * 32 + j] >> group / 2 * 4 & 15;
        int high = block[128 + half * 32 + j] >> group * 2 & 3;
        float step = d * (float)(int8_t)block[192 + k / 16];
        target[k] = step * (float)((low | high << 4) - 32);
    }
}

void dequantise(enum tensor_type type, const void *source, float *target, uint64_t count) {
    const struct tensor_type_info *info = &infos[type];
    const uint8_t *block = source;
    for (uint64_t i = 0; i < count; i += info->block_values, block += info->block_bytes) {
        float *values = target + i;
        switch (type) {
        case TENSOR_F32: memcpy(values, block, 4); break;
        case TENSOR_F16: *values = load_half(block); break;
        case TENSOR_BF16: *values = float_from_bits((uint32_t)load_u16(block) << 16); break;
        case TENSOR_Q8_0: dequantise_q8_0(block, values); break;
        case TENSOR_Q4_0: dequantise_small(&q4_0_block, block, values); break;
        case TENSOR_Q4_1: dequantise_small(&q4_1_block, block, values); break;
        case TENSOR_Q5_0: dequantise_small(&q5_0_block, block, values); break;
        case TENSOR_Q5_1: dequantise_small(&q5_1_block, block, values); break;
        case TENSOR_Q4_K: dequantise_q4_k_or_q5_k(block, false, values); break;
        case TENSOR_Q5_K: dequantise_q4_k_or_q5_k(block, true, values); break;
        case TENSOR_Q6_K: dequantise_q6_k(block, values); break;
        case TENSOR_TYPE_COUNT: return;
        }
    }
}

/* The whole part of `value` held to 0 .. top; NaN becomes 0. */
static int truncate_to(float value, int top) {
    if (!(value > 0.0f))
        return 0;
    return value >= (float)top ? top : (int)value;
}

static float magnitude(float value) {
    return value < 0.0f ? -value : value;
}

static float reciprocal(float d) {
    return d == 0.0f ? 0.0f : 1.0f / d;
}

/* Without a minimum the value of largest magnitude becomes the lowest quant, so
 * d has the sign opposite to it; with one, the range maps to 0 .. levels. */
static void quantise_small(const struct small_block *layout, const float *source, uint8_t *block,
                           uint32_t block_bytes) {
    float least = source[0], most = source[0], extreme = source[0];
    for (int j = 1; j < 32; j++) {
        least = source[j] < least ? source[j] : least;
        most = source[j] > most ? source[j] : most;
        extreme = magnitude(source[j]) > magnitude(extreme) ? source[j] : extreme;
    }
    float d = layout->min_at ? (most - least) / (float)layout->levels : extreme / (float)-layout->bias;
    float inverse = reciprocal(d);
    uint32_t high = 0;
    memset(block, 0, block_bytes);
    for (int j = 0; j < 32; j++) {
        float scaled = layout->min_at ? (source[j] - least) * inverse + 0.5f
                                      : source[j] * inverse + ((float)layout->bias + 0.5f);
        int quant = truncate_to(scaled, layout->levels);
        block[layout->quants_at + j % 16] |= (uint8_t)((quant & 15) << (j < 16 ? 0 : 4));
        high |= (uint32_t)(quant >> 4) << j;
    }
    store_u16(block, float_to_half(d));
    if (layout->min_at)
        store_u16(block + layout->min_at, float_to_half(least));
    if (layout->high_at) {
        store_u16(block + layout->high_at, (uint16_t)high);
        store_u16(block + layout->high_at + 2, (uint16_t)(high >> 16));
    }
}

static void quantise_q8_0(const float *source, uint8_t *block) {
    float largest = 0.0f;
    for (int j = 0; j < 32; j++)
        largest = magnitude(source[j]) > largest ? magnitude(source[j]) : largest;
    float d = largest / 127.0f, inverse = reciprocal(d);
    store_u16(block, float_to_half(d));
    for (int j = 0; j < 32; j++) {
        /* Halves round away from zero. Adding 0.5 first would round the sum
         * itself, and take 0.49999997 up to 1. */
        float scaled = magnitude(source[j] * inverse);
        int whole = truncate_to(scaled, 127);
        if (whole < 127 && scaled - (float)whole >= 0.5f)
            whole++;
        block[2 + j] = (uint8_t)(int8_t)(source[j] < 0.0f ? -whole : whole);
    }
}

bool quantise(enum tensor_type type, const float *source, void *target, uint64_t count) {
    const struct tensor_type_info *info = &infos[type];
    uint8_t *block = target;
    for (uint64_t i = 0; i < count; i += info->block_values, block += info->block_bytes) {
        const float *values = source + i;
        switch (type) {
        case TENSOR_F32: memcpy(block, values, 4); break;
        case TENSOR_F16: store_u16(block, float_to_half(*values)); break;
        case TENSOR_BF16: store_u16(block, float_to_bfloat16(*values)); break;
        case TENSOR_Q8_0: quantise_q8_0(values, block); break;
        case TENSOR_Q4_0: quantise_small(&q4_0_block, values, block, info->block_bytes); break;
        case TENSOR_Q4_1: quantise_small(&q4_1_block, values, block, info->block_bytes); break;
        case TENSOR_Q5_0: quantise_small(&q5_0_block, values, block, info->block_bytes); break;
        case TENSOR_Q5_1: quantise_small(&q5_1_block, values, block, info->block_bytes); break;
        default: return false;
        }
    }
    return true;
}
