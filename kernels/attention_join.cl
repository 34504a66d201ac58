/* attention_join: what attention.cl or attention_tile.cl left of a query's spans, joined
 * in ascending order; see kernels/attention_span.h.
 *
 *   positions   [tokens]                     int32
 *   out         [tokens][heads * head_dim]   float, then from room_begin on the sums of spans
 *
 * Launch: (heads * chunks of 16 dimensions, tokens) work-items.
 * Host:   kernels/ops_attention.c. Test: tests/test_kernel_attention_splits.c. */
#include "kernels/numerics.h"
#include "kernels/kernel_args.h"
#include "kernels/attention_span.h"

kernel void attention_join(struct attention_args args, global const int *restrict positions,
                           global float *restrict out) {
    int token = get_global_id(1), dim = args.head_dim, chunks = (dim + 15) / 16;
    if (token >= args.token_count || (int)get_global_id(0) >= args.head_count * chunks)
        return;
    int head = get_global_id(0) / chunks, begin = get_global_id(0) % chunks * 16;
    int position = positions[token], start = first_seen(position, args.window);
    int length = span_pages(position - start + 1) * PAGE_TOKENS;
    int count = position / length - start / length + 1;
    struct span_sums sums = { -INFINITY, 0.0f };
    float16 total = 0.0f;
    for (int slot = 0; slot < count; slot++) {
        global const float *place = out + span_place(&args, token, head, slot);
        float16 own = begin + 16 <= dim ? vload16(0, place + begin) : load_tail(place + begin, dim - begin);
        float2 factors = span_join(&sums, place[dim], place[dim + 1]);
        total = fma(own, (float16)(factors.y), total * factors.x);
    }
    total = total / sums.weight;
    out += ((size_t)token * args.head_count + head) * dim + begin;
    if (begin + 16 <= dim) {
        vstore16(total, 0, out);
        return;
    }
    float last[16];
    vstore16(total, 0, last);
    for (int i = 0; begin + i < dim; i++)
        out[i] = last[i];
}
