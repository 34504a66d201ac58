/* rope_kv: finish q, k and v of each token, and keep k and v in their pages.
 *
 *   qkv         [tokens][(heads + 2 kv_heads) * head_dim]  float, in place
 *   bias        [(heads + 2 kv_heads) * head_dim]          float, if has_bias
 *   qk_norm     [2][head_dim]                              float (q, k), if has_qk_norm
 *   rope        [tokens][rotary_dim / 2][2]                float: cos, sin
 *   positions, sequences  [tokens]                         int32
 *   page_table  [sequences][page_columns]                  int32
 *   k, v        [page][kv_head][PAGE_TOKENS] rows           see kernels/kv_cache.h
 *
 * In order: x + bias; RMS norm of a q or k head as in kernels/rms_norm.cl; then
 * dimensions i and i + rotary_dim / 2 of a q or k head, a and b, become
 * a cos - b sin and b cos + a sin, each product and the sum rounded by itself.
 *
 * Launch: (heads + 2 kv_heads, tokens) work-items, one a head.
 * Host:   kernels/ops.c, op_rope_kv(). Test: tests/test_kernel_attention.c. */
#include "kernels/numerics.h"
#include "kernels/kernel_args.h"
#include "kernels/kv_cache.h"

kernel void rope_kv(struct rope_kv_args args, global float *restrict qkv,
                    global const float *restrict bias, global const float *restrict qk_norm,
                    global const float *restrict rope, global const int *restrict positions,
                    global const int *restrict sequences, global const int *restrict page_table,
                    global kv_value *restrict k, global kv_value *restrict v) {
    int head = get_global_id(0), token = get_global_id(1), dim = args.head_dim;
    int slots = args.head_count + 2 * args.kv_head_count;
    if (head >= slots || token >= args.token_count)
        return;
    bool is_value = head >= args.head_count + args.kv_head_count;
    bool is_key = !is_value && head >= args.head_count;
    global float *x = qkv + ((size_t)token * slots + head) * dim;

    if (args.has_bias)
        for (int i = 0; i < dim; i++)
            x[i] = x[i] + bias[head * dim + i];
    if (!is_value && args.has_qk_norm) {
        global const float *weight = qk_norm + (is_key ? dim : 0);
        float inverse = 1.0f / sqrt(sum_of_squares(x, dim) / (float)dim + args.norm_epsilon);
        for (int i = 0; i < dim; i++)
            x[i] = x[i] * inverse * weight[i];
    }
    if (!is_value) {
        int half_rotary = args.rotary_dim / 2;
        rope += (size_t)token * half_rotary * 2;
        for (int i = 0; i < half_rotary; i++) {
            float a = x[i], b = x[i + half_rotary];
            float cosine = rope[2 * i], sine = rope[2 * i + 1];
            x[i] = a * cosine - b * sine;
            x[i + half_rotary] = b * cosine + a * sine;
        }
    }
    if (head < args.head_count)
        return;
    int kv_head = head - args.head_count - (is_value ? args.kv_head_count : 0);
    int position = positions[token];
    int page = page_table[(size_t)sequences[token] * args.page_columns + position / PAGE_TOKENS];
    size_t row = ((size_t)page * args.kv_head_count + kv_head) * PAGE_TOKENS + position % PAGE_TOKENS;
    kv_store_row(x, dim, (is_value ? v : k) + row * KV_ROW(dim));
}
