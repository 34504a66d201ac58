#include "tests/reference_ops.h"

#include "kernels/numerics.h"

#include <stdlib.h>
#include <string.h>

/* The fixed tree over 8 or 16 partial sums. */
static float sum_tree(const float *sums, int count) {
    float s[16];
    memcpy(s, sums, (size_t)count * sizeof *s);
    for (int width = count / 2; width; width /= 2)
        for (int j = 0; j < width; j++)
            s[j] += s[j + width];
    return s[0];
}

static float dot(const float *a, const float *b, int count, int sum_count) {
    float sums[16] = { 0 };
    for (int c = 0; c < count; c++)
        sums[c % sum_count] = fmaf(a[c], b[c], sums[c % sum_count]);
    return sum_tree(sums, sum_count);
}

static float inverse_norm(const float *x, int columns, float epsilon) {
    return 1.0f / sqrtf(dot(x, x, columns, 16) / (float)columns + epsilon);
}

void reference_rms_norm(const float *x, const float *weight, float *out, const struct rms_norm_args *args) {
    for (int t = 0; t < args->token_count; t++, x += args->columns, out += args->columns) {
        float inverse = inverse_norm(x, args->columns, args->epsilon);
        for (int c = 0; c < args->columns; c++)
            out[c] = x[c] * inverse * weight[c];
    }
}

void reference_quantise(const float *x, const struct reference_q8 *out, const struct quantise_args *args) {
    for (int block = 0; block < args->token_count * args->columns / 32; block++, x += 32) {
        float largest = 0.0f;
        bool is_finite = true;
        for (int i = 0; i < 32; i++) {
            largest = fmaxf(largest, fabsf(x[i]));
            is_finite = is_finite && isfinite(x[i]);
        }
        float scale = largest / 127.0f;
        int32_t sum = 0;
        for (int i = 0; i < 32; i++) {
            float value = is_finite && scale > 0.0f ? rintf(x[i] / scale) : 0.0f;
            out->values[block * 32 + i] = (int8_t)fminf(fmaxf(value, -127.0f), 127.0f);
            sum += out->values[block * 32 + i];
        }
        out->scales[block] = is_finite ? scale : NAN;
        out->sums[block] = sum;
    }
}

void reference_swiglu(const float *wide, float *out, const struct swiglu_args *args) {
    int count = args->intermediate;
    for (int t = 0; t < args->token_count; t++)
        for (int c = 0; c < count; c++) {
            float gate = wide[2 * t * count + c], up = wide[2 * t * count + count + c];
            out[t * count + c] = gate / (1.0f + exp_1(-gate)) * up;
        }
}

static void store_result(float *y, const struct matmul_args *args, int token, int row, float value) {
    float *out = y + (size_t)token * args->y_stride + args->row_offset + row;
    *out = args->accumulate ? *out + value : value;
}

void reference_matmul(enum tensor_type type, const void *weights, const float *x, float *y,
                      const struct matmul_args *args) {
    uint64_t row_bytes;
    float *row = malloc((size_t)args->columns * sizeof *row);
    if (!row || !tensor_bytes(type, 1, (uint64_t)args->columns, &row_bytes))
        abort();
    for (int r = 0; r < args->rows; r++) {
        dequantise(type, (const char *)weights + (size_t)r * row_bytes, row, (uint64_t)args->columns);
        for (int t = 0; t < args->token_count; t++)
            store_result(y, args, t, r, dot(row, x + (size_t)t * args->columns, args->columns, 8));
    }
    free(row);
}

static float half_at(const uint8_t *bytes) {
    return half_to_float((uint16_t)(bytes[0] | bytes[1] << 8));
}

/* Six-bit scale and minimum number g of Q4_K and Q5_K. */
static void unpack_six_bits(const uint8_t *packed, int g, int *scale, int *minimum) {
    if (g < 4) {
        *scale = packed[g] & 63;
        *minimum = packed[g + 4] & 63;
    } else {
        *scale = (packed[g + 4] & 15) + 16 * (packed[g - 4] >> 6);
        *minimum = (packed[g + 4] >> 4) + 16 * (packed[g] >> 6);
    }
}

/* Group `group` of 32 columns of a row: w = step * quant + minimum. */
static void decode_group(enum tensor_type type, const uint8_t *row, int group, int quants[32],
                         float *step, float *minimum) {
    const struct tensor_type_info *info = tensor_type_info(type);
    const uint8_t *block = row + (size_t)(group * 32 / (int)info->block_values) * info->block_bytes;
    int g = group % 8, scale, floor;
    *step = half_at(block);
    *minimum = 0.0f;
    for (int j = 0; j < 32; j++) {
        int shift = j < 16 ? 0 : 4, i = j % 16;
        switch (type) {
        case TENSOR_Q8_0:
            quants[j] = (int8_t)block[2 + j];
            break;
        case TENSOR_Q4_0:
            quants[j] = (block[2 + i] >> shift & 15) - 8;
            break;
        case TENSOR_Q4_1:
            quants[j] = block[4 + i] >> shift & 15;
            *minimum = half_at(block + 2);
            break;
        case TENSOR_Q5_0:
            quants[j] = (block[6 + i] >> shift & 15) + 16 * (block[2 + j / 8] >> j % 8 & 1) - 16;
            break;
        case TENSOR_Q5_1:
            quants[j] = (block[8 + i] >> shift & 15) + 16 * (block[4 + j / 8] >> j % 8 & 1);
            *minimum = half_at(block + 2);
            break;
        case TENSOR_Q4_K:
        case TENSOR_Q5_K:
            quants[j] = block[(type == TENSOR_Q4_K ? 16 : 48) + g / 2 * 32 + j] >> g % 2 * 4 & 15;
            if (type == TENSOR_Q5_K)
                quants[j] += 16 * (block[16 + j] >> g & 1);
            unpack_six_bits(block + 4, g, &scale, &floor);
            *step = half_at(block) * (float)scale;
            *minimum = -(half_at(block + 2) * (float)floor);
            break;
        case TENSOR_Q6_K:
            quants[j] = block[g / 4 * 64 + g % 2 * 32 + j] >> g % 4 / 2 * 4 & 15;
            quants[j] += 16 * (block[128 + g / 4 * 32 + j] >> g % 4 * 2 & 3);
            quants[j] = (quants[j] - 32) * (int8_t)block[192 + g * 2 + j / 16];
            *step = half_at(block + 208);
            break;
        default:
            abort();
        }
    }
}

void reference_matmul_q8(enum tensor_type type, const void *weights, const struct reference_q8 *x,
                         float *y, const struct matmul_args *args) {
    uint64_t row_bytes;
    int groups = args->columns / 32;
    if (!tensor_bytes(type, 1, (uint64_t)args->columns, &row_bytes))
        abort();
    bool has_minimum = type == TENSOR_Q4_1 || type == TENSOR_Q5_1 || type == TENSOR_Q4_K || type == TENSOR_Q5_K;
    for (int t = 0; t < args->token_count; t++)
        for (int r = 0; r < args->rows; r++) {
            float sum = 0.0f;
            for (int g = 0; g < groups; g++) {
                int quants[32], dot = 0, block = t * groups + g;
                float step, minimum;
                decode_group(type, (const uint8_t *)weights + (size_t)r * row_bytes, g, quants, &step, &minimum);
                for (int j = 0; j < 32; j++)
                    dot += quants[j] * x->values[block * 32 + j];
                sum = fmaf((float)dot, step * x->scales[block], sum);
                if (has_minimum)
                    sum = fmaf(minimum, x->scales[block] * (float)x->sums[block], sum);
            }
            store_result(y, args, t, r, sum);
        }
}

/* A vector's values, then (q8_0) its scales: kernels/kv_cache.h. */
static size_t kv_row_bytes(int dim, enum kv_type type) {
    size_t blocks = ((size_t)dim + 31) / 32;
    return type == KV_Q8_0 ? blocks * 34 : (size_t)dim * (type == KV_F16 ? 2 : 4);
}

void reference_kv_read(const void *values, size_t row, int dim, enum kv_type type, float *out) {
    const char *at = (const char *)values + row * kv_row_bytes(dim, type);
    for (int d = 0; d < dim; d++) {
        uint16_t half;
        switch (type) {
        case KV_F32: memcpy(&out[d], at + 4 * d, 4); break;
        case KV_F16: memcpy(&half, at + 2 * d, 2); out[d] = half_to_float(half); break;
        case KV_Q8_0:
            memcpy(&half, at + (dim + 31) / 32 * 32 + d / 32 * 2, 2);
            out[d] = (float)(int8_t)at[d] * half_to_float(half);
            break;
        }
    }
}

static void kv_write_q8(char *at, int dim, const float *x) {
    int blocks = (dim + 31) / 32;
    for (int block = 0; block < blocks; block++) {
        float largest = 0.0f;
        bool is_finite = true;
        for (int d = block * 32; d < dim && d < block * 32 + 32; d++) {
            largest = fmaxf(largest, fabsf(x[d]));
            is_finite = is_finite && isfinite(x[d]);
        }
        uint16_t half = float_to_half(is_finite ? largest / 127.0f : NAN);
        float scale = half_to_float(half);
        memcpy(at + blocks * 32 + block * 2, &half, 2);
        for (int d = block * 32; d < block * 32 + 32; d++) {
            float value = d < dim && scale > 0.0f ? rintf(x[d] / scale) : 0.0f;
            at[d] = (char)(int8_t)fminf(fmaxf(value, -127.0f), 127.0f);
        }
    }
}

static void kv_write(void *values, size_t row, int dim, enum kv_type type, const float *x) {
    char *at = (char *)values + row * kv_row_bytes(dim, type);
    for (int d = 0; d < dim && type != KV_Q8_0; d++) {
        uint16_t half = float_to_half(x[d]);
        if (type == KV_F16)
            memcpy(at + 2 * d, &half, 2);
        else
            memcpy(at + 4 * d, &x[d], 4);
    }
    if (type == KV_Q8_0)
        kv_write_q8(at, dim, x);
}

/* Which vector is that of (position, KV head). */
static size_t kv_row(const int32_t *pages, int position, int kv_heads, int kv_head) {
    size_t page = (size_t)pages[position / (int)KV_PAGE_TOKENS];
    return (page * (size_t)kv_heads + (size_t)kv_head) * KV_PAGE_TOKENS + (size_t)position % KV_PAGE_TOKENS;
}

void reference_rope_kv(float *qkv, const float *bias, const float *qk_norm, const float *rope,
                       const int32_t *positions, const int32_t *sequences, const int32_t *page_table,
                       void *k, void *v, enum kv_type kv_type, const struct rope_kv_args *args) {
    int dim = args->head_dim, pairs = args->rotary_dim / 2;
    int q_heads = args->head_count, kv_heads = args->kv_head_count, slots = q_heads + 2 * kv_heads;
    for (int t = 0; t < args->token_count; t++)
        for (int slot = 0; slot < slots; slot++) {
            float *x = qkv + ((size_t)t * slots + slot) * dim;
            bool is_query = slot < q_heads, is_value = slot >= q_heads + kv_heads;
            for (int i = 0; args->has_bias && i < dim; i++)
                x[i] += bias[slot * dim + i];
            if (args->has_qk_norm && !is_value) {
                float inverse = inverse_norm(x, dim, args->norm_epsilon);
                for (int i = 0; i < dim; i++)
                    x[i] = x[i] * inverse * qk_norm[(is_query ? 0 : dim) + i];
            }
            for (int i = 0; !is_value && i < pairs; i++) {
                float a = x[i], b = x[i + pairs];
                float cosine = rope[2 * (t * pairs + i)], sine = rope[2 * (t * pairs + i) + 1];
                x[i] = a * cosine - b * sine;
                x[i + pairs] = b * cosine + a * sine;
            }
            if (is_query)
                continue;
            const int32_t *pages = page_table + (size_t)sequences[t] * args->page_columns;
            kv_write(is_value ? v : k, kv_row(pages, positions[t], kv_heads, (slot - q_heads) % kv_heads), dim,
                     kv_type, x);
        }
}

/* What a span of keys gives: its total of head_dim values, not yet divided by the weight. */
struct span {
    float largest, weight, total[256];
};

/* Keys `begin` (of a page's first) .. `end` - 1, of which those from `start` on are seen. */
static void attend_span(const float *query, const void *k, const void *v, const int32_t *pages, int start, int begin,
                        int end, int kv_head, struct span *span, enum kv_type kv_type,
                        const struct attention_args *args) {
    int dim = args->head_dim, page_tokens = KV_PAGE_TOKENS;
    *span = (struct span){ .largest = -INFINITY };
    for (; begin < end; begin += page_tokens) {
        float scores[KV_PAGE_TOKENS], sums[16], old = span->largest;
        for (int i = 0; i < page_tokens; i++) {
            float key[256];
            scores[i] = -INFINITY;
            if (begin + i < start || begin + i >= end)
                continue;
            reference_kv_read(k, kv_row(pages, begin + i, args->kv_head_count, kv_head), dim, kv_type, key);
            scores[i] = dot(query, key, dim, 16) * args->scale;
            span->largest = fmaxf(span->largest, scores[i]);
        }
        float rescale = exp_1(old - span->largest);
        for (int i = 0; i < page_tokens; i++)
            scores[i] = exp_1(scores[i] - span->largest);
        for (int i = 0; i < 16; i++)
            sums[i] = scores[i] + scores[i + 16];
        span->weight = span->weight * rescale + sum_tree(sums, 16);
        for (int d = 0; d < dim; d++)
            span->total[d] *= rescale;
        for (int i = 0; i < page_tokens; i++) {
            float value[256];
            if (begin + i < start || begin + i >= end)
                continue;
            reference_kv_read(v, kv_row(pages, begin + i, args->kv_head_count, kv_head), dim, kv_type, value);
            for (int d = 0; d < dim; d++)
                span->total[d] = fmaf(scores[i], value[d], span->total[d]);
        }
    }
}

/* One head of one token; `total` has head_dim values. */
static void attend(const float *query, const void *k, const void *v, const int32_t *pages, int position,
                   int kv_head, float *total, enum kv_type kv_type, const struct attention_args *args) {
    int start = args->window > 0 && position >= args->window ? position - args->window + 1 : 0, length = 256;
    float largest = -INFINITY, weight = 0.0f;
    while (position - start + 1 > 31 * length)   /* 32 spans, where they begin within the first */
        length *= 2;
    memset(total, 0, (size_t)args->head_dim * sizeof *total);
    for (int begin = start / length * length; begin <= position; begin += length) {
        struct span span;
        int page_begin = begin > start ? begin : start / (int)KV_PAGE_TOKENS * (int)KV_PAGE_TOKENS;
        int end = begin + length <= position ? begin + length : position + 1;
        attend_span(query, k, v, pages, start, page_begin, end, kv_head, &span, kv_type, args);
        float now_largest = fmaxf(largest, span.largest);
        float old_factor = exp_1(largest - now_largest), factor = exp_1(span.largest - now_largest);
        largest = now_largest;
        weight = fmaf(span.weight, factor, weight * old_factor);
        for (int d = 0; d < args->head_dim; d++)
            total[d] = fmaf(span.total[d], factor, total[d] * old_factor);
    }
    for (int d = 0; d < args->head_dim; d++)
        total[d] /= weight;
}

void reference_attention(const float *qkv, const void *k, const void *v, const int32_t *positions,
                         const int32_t *sequences, const int32_t *page_table, float *out,
                         enum kv_type kv_type, const struct attention_args *args) {
    int group = args->head_count / args->kv_head_count;
    for (int t = 0; t < args->token_count; t++)
        for (int head = 0; head < args->head_count; head++)
            attend(qkv + (size_t)t * args->qkv_stride + (size_t)head * args->head_dim, k, v,
                   page_table + (size_t)sequences[t] * args->page_columns, positions[t], head / group,
                   out + ((size_t)t * args->head_count + head) * args->head_dim, kv_type, args);
}
