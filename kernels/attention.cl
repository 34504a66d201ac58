/* attention: each query head over the keys of its own sequence.
 *
 *   qkv         [tokens][qkv_stride]                    float; the first heads * head_dim are q
 *   k, v        [page][kv_head][PAGE_TOKENS] rows        see kernels/kv_cache.h
 *   positions, sequences  [tokens]                      int32
 *   page_table  [sequences][page_columns]               int32
 *   out         [tokens][heads * head_dim]              float, and room for sums of spans
 *
 * Rounding: a score is the dot product in 16 partial sums as in matmul_float.cl,
 * times `scale`. The keys of a span go by pages in ascending order; in each page
 *     new = max(old, scores)    rescale = e^(old - new)    p = e^(score - new)
 *     weight = weight * rescale + (the p's, number i and i + 16 added, then the tree)
 *     total[d] = total[d] * rescale, then one fma of p and v[d] a key, ascending
 * Spans are joined as kernels/attention_span.h says, and at the end
 * out[d] = total[d] / weight. Only a key's position and the query's decide where it
 * comes in, so neither the width of the batch nor the number of splits matters.
 *
 * A group of work-items has one head of one token, and of its spans the share of its
 * split: two pages at a time, a key a work-item for the scores, then two dimensions a
 * work-item. One split alone writes `out`; of several, attention_join.cl makes it.
 *
 * Launch: (heads * splits, tokens) groups of ATTENTION_GROUP.
 * Needs:  head_dim at most 256.
 * Host:   kernels/ops_attention.c. Test: tests/test_kernel_attention.c, _splits.c. */
#include "kernels/numerics.h"
#include "kernels/kernel_args.h"
#include "kernels/kv_cache.h"
#include "kernels/attention_span.h"

#define MOST_DIM 256
#define PAIRS (MOST_DIM / (2 * ATTENTION_GROUP))   /* of dimensions, of a work-item */

static inline float largest_of_page(const local float *scores) {
    return largest_16(fmax(vload16(0, scores), vload16(1, scores)));
}

static inline float sum_of_page(const local float *powers) {
    return sum_16(vload16(0, powers) + vload16(1, powers));
}

/* Rows begin .. end - 1 of a page, dimensions d and d + 1. */
static inline float2 weigh(float2 sum, global const kv_value *page, const local float *powers, int begin, int end,
                           int d, int dim) {
    for (int i = begin; i < end; i++)
        sum = fma((float2)(powers[i]), kv_load_2(page + i * KV_ROW(dim), d, dim), sum);
    return sum;
}

kernel __attribute__((reqd_work_group_size(ATTENTION_GROUP, 1, 1)))
void attention(struct attention_args args, global const float *restrict qkv,
               global const kv_value *restrict k, global const kv_value *restrict v,
               global const int *restrict positions, global const int *restrict sequences,
               global const int *restrict page_table, global float *restrict out) {
    local float query[MOST_DIM], scores[ATTENTION_GROUP], powers[ATTENTION_GROUP];
    int item = get_local_id(0), token = get_global_id(1), dim = args.head_dim, chunks = (dim + 15) / 16;
    int head = get_group_id(0) / args.split_count, split = get_group_id(0) % args.split_count;
    if (head >= args.head_count || token >= args.token_count)
        return;   /* the whole group */
    int kv_head = head / (args.head_count / args.kv_head_count);
    qkv += (size_t)token * args.qkv_stride + head * dim;
    for (int d = item; d < chunks * 16; d += ATTENTION_GROUP)
        query[d] = d < dim ? qkv[d] : 0.0f;
    barrier(CLK_LOCAL_MEM_FENCE);

    int position = positions[token], start = first_seen(position, args.window);
    int length = span_pages(position - start + 1), first_span = start / (length * PAGE_TOKENS);
    int slot = split * args.span_slots / args.split_count;
    int slot_end = min((split + 1) * args.span_slots / args.split_count,
                       position / (length * PAGE_TOKENS) - first_span + 1);
    page_table += (size_t)sequences[token] * args.page_columns;
    struct span_sums joined = { -INFINITY, 0.0f };
    float2 joined_total[PAIRS];
    for (int r = 0; r < PAIRS; r++)
        joined_total[r] = 0.0f;

    for (; slot < slot_end; slot++) {
        int page = max((first_span + slot) * length, start / PAGE_TOKENS);
        int last_page = min((first_span + slot + 1) * length - 1, position / PAGE_TOKENS);
        float largest = -INFINITY, weight = 0.0f;
        float2 total[PAIRS];
        for (int r = 0; r < PAIRS; r++)
            total[r] = 0.0f;
        for (; page <= last_page; page += 2) {
            bool has_next = page < last_page;
            size_t page_values = (size_t)PAGE_TOKENS * KV_ROW(dim);
            size_t at = ((size_t)page_table[page] * args.kv_head_count + kv_head) * page_values;
            size_t next_at = ((size_t)page_table[page + has_next] * args.kv_head_count + kv_head) * page_values;
            int key = page * PAGE_TOKENS + item;
            float score = -INFINITY;
            if (key >= start && key <= position && (item < PAGE_TOKENS || has_next)) {
                global const kv_value *row =
                    k + (item < PAGE_TOKENS ? at : next_at) + item % PAGE_TOKENS * KV_ROW(dim);
                float16 dot = 0.0f;
                for (int c = 0; c < chunks; c++)
                    dot = fma(vload16(c, query), kv_load_16(row, c, dim), dot);
                score = sum_16(dot) * args.scale;
            }
            scores[item] = score;
            barrier(CLK_LOCAL_MEM_FENCE);
            /* A next page that is not there changes nothing: e^0 is 1, and its powers are 0. */
            float first = fmax(largest, largest_of_page(scores));
            float second = fmax(first, largest_of_page(scores + PAGE_TOKENS));
            float rescale = exp_1(largest - first), next_rescale = exp_1(first - second);
            powers[item] = exp_1(score - (item < PAGE_TOKENS ? first : second));
            largest = second;
            barrier(CLK_LOCAL_MEM_FENCE);
            weight = weight * rescale + sum_of_page(powers);
            weight = weight * next_rescale + sum_of_page(powers + PAGE_TOKENS);
            int base = page * PAGE_TOKENS, next_base = base + PAGE_TOKENS;
            for (int r = 0; r < PAIRS; r++) {
                int d = 2 * (item + r * ATTENTION_GROUP);
                if (d >= dim)
                    continue;
                float2 sum = weigh(total[r] * rescale, v + at, powers, max(start - base, 0),
                                   min(position + 1 - base, PAGE_TOKENS), d, dim);
                sum *= next_rescale;
                if (has_next)
                    sum = weigh(sum, v + next_at, powers + PAGE_TOKENS, max(start - next_base, 0),
                                min(position + 1 - next_base, PAGE_TOKENS), d, dim);
                total[r] = sum;
            }
        }

        if (args.split_count == 1) {
            float2 factors = span_join(&joined, largest, weight);
            for (int r = 0; r < PAIRS; r++)
                joined_total[r] = fma(total[r], (float2)(factors.y), joined_total[r] * factors.x);
            continue;
        }
        global float *place = out + span_place(&args, token, head, slot);
        for (int r = 0; r < PAIRS; r++)
            for (int i = 0, d = 2 * (item + r * ATTENTION_GROUP); i < 2 && d + i < dim; i++)
                place[d + i] = i ? total[r].y : total[r].x;
        if (item == 0) {
            place[dim] = largest;
            place[dim + 1] = weight;
        }
    }
    if (args.split_count > 1)
        return;
    out += ((size_t)token * args.head_count + head) * dim;
    for (int r = 0; r < PAIRS; r++)
        for (int i = 0, d = 2 * (item + r * ATTENTION_GROUP); i < 2 && d + i < dim; i++)
            out[d + i] = (i ? joined_total[r].y : joined_total[r].x) / joined.weight;
}
