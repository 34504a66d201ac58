/* attention: each query head over the keys of its own sequence.
 *
 *   qkv         [tokens][qkv_stride]                    float; the first heads * head_dim are q
 *   k, v        [page][kv_head][PAGE_TOKENS] rows        see kernels/kv_cache.h
 *   positions, sequences  [tokens]                      int32
 *   page_table  [sequences][page_columns]               int32
 *   out         [tokens][heads * head_dim]              float
 *
 * Rounding: a score is the dot product in 16 partial sums as in matmul_float.cl,
 * times `scale`. The keys go by pages in ascending order; in each page
 *     new = max(old, scores)    rescale = e^(old - new)    p = e^(score - new)
 *     weight = weight * rescale + (the p's, number i and i + 16 added, then the tree)
 *     total[d] = total[d] * rescale, then one fma of p and v[d] a key, ascending
 * and at the end out[d] = total[d] / weight. Only a key's position decides where
 * it comes in, so the width of the batch does not matter.
 *
 * Launch: (heads, tokens) work-items, one a head of a token.
 * Needs:  head_dim at most 256.
 * Host:   kernels/ops.c, op_attention(). Test: tests/test_kernel_attention.c. */
#include "kernels/numerics.h"
#include "kernels/kernel_args.h"
#include "kernels/kv_cache.h"

#define MOST_CHUNKS 16   /* of 16 dimensions */

static inline float largest_of(float16 v) {
    float8 a = fmax(v.lo, v.hi);
    float4 b = fmax(a.lo, a.hi);
    float2 c = fmax(b.lo, b.hi);
    return fmax(c.x, c.y);
}

kernel void attention(struct attention_args args, global const float *restrict qkv,
                      global const kv_value *restrict k, global const kv_value *restrict v,
                      global const int *restrict positions, global const int *restrict sequences,
                      global const int *restrict page_table, global float *restrict out) {
    int head = get_global_id(0), token = get_global_id(1), dim = args.head_dim;
    if (head >= args.head_count || token >= args.token_count)
        return;
    int kv_head = head / (args.head_count / args.kv_head_count);
    int chunks = (dim + 15) / 16;
    float16 query[MOST_CHUNKS], total[MOST_CHUNKS];
    qkv += (size_t)token * args.qkv_stride + head * dim;
    for (int c = 0; c < chunks; c++) {
        query[c] = c * 16 + 16 <= dim ? vload16(c, qkv) : load_tail(qkv + c * 16, dim - c * 16);
        total[c] = 0.0f;
    }

    int position = positions[token];
    int start = args.window > 0 ? max(position - args.window + 1, 0) : 0;
    page_table += (size_t)sequences[token] * args.page_columns;
    float largest = -INFINITY, weight = 0.0f;
    for (int page = start / PAGE_TOKENS; page <= position / PAGE_TOKENS; page++) {
        int begin = max(start - page * PAGE_TOKENS, 0);
        int end = min(position + 1 - page * PAGE_TOKENS, PAGE_TOKENS);
        size_t at = ((size_t)page_table[page] * args.kv_head_count + kv_head) * PAGE_TOKENS * KV_ROW(dim);
        float scores[PAGE_TOKENS];
        for (int i = 0; i < PAGE_TOKENS; i++)
            scores[i] = -INFINITY;
        for (int i = begin; i < end; i++) {
            global const kv_value *key = k + at + i * KV_ROW(dim);
            float16 dot = 0.0f;
            for (int c = 0; c < chunks; c++)
                dot = fma(query[c], kv_load_16(key, c, dim), dot);
            scores[i] = sum_16(dot) * args.scale;
        }
        float16 low = vload16(0, scores), high = vload16(1, scores);
        float now_largest = fmax(largest, largest_of(fmax(low, high)));
        float rescale = exp_1(largest - now_largest);
        largest = now_largest;
        low = exp_16(low - largest);
        high = exp_16(high - largest);
        weight = weight * rescale + sum_16(low + high);
        vstore16(low, 0, scores);
        vstore16(high, 1, scores);
        for (int c = 0; c < chunks; c++) {
            float16 sum = total[c] * rescale;
            for (int i = begin; i < end; i++)
                sum = fma((float16)(scores[i]), kv_load_16(v + at + i * KV_ROW(dim), c, dim), sum);
            total[c] = sum;
        }
    }
    out += ((size_t)token * args.head_count + head) * dim;
    for (int c = 0; c < chunks; c++) {
        float last[16];
        if (c * 16 + 16 <= dim) {
            vstore16(total[c] / weight, c, out);
            continue;
        }
        vstore16(total[c] / weight, 0, last);
        for (int i = 0; c * 16 + i < dim; i++)
            out[c * 16 + i] = last[i];
    }
}
