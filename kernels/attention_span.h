/* attention_span: how the keys that a query sees are divided between those who sum them, for
 * the kernels of attention and their host.
 *
 * A span is a number of pages that begins at a multiple of that number. Each span is summed
 * by itself, as kernels/attention.cl says, to its largest score m, its weight w and its
 * total t; results of spans are joined in ascending order, by whoever has them:
 *     new = max(largest, m)    a = e^(largest - new)    b = e^(m - new)
 *     weight = fma(w, b, weight * a)    total[d] = fma(t[d], b, total[d] * a)
 * The length of a span follows from the number of keys that the query sees, and from
 * nothing else: who sums which spans makes no difference to the result. */
#ifndef KERNELS_ATTENTION_SPAN_H
#define KERNELS_ATTENTION_SPAN_H

#include "kernels/kernel_args.h"
#include "kernels/kv_cache.h"

/* Pages of a span, doubled until a query has at most MOST_SPANS of them, the first and the
 * last of which may be seen in part. */
#define SPAN_PAGES 8
#define MOST_SPANS 32

static inline int span_pages(int keys) {
    int pages = SPAN_PAGES;
    while ((keys - 1) / (PAGE_TOKENS * (MOST_SPANS - 1)) >= pages)
        pages *= 2;
    return pages;
}

/* The first position that the query at `position` sees; window 0: it sees all. */
static inline int first_seen(int position, int window) {
    return window > 0 && position >= window ? position - window + 1 : 0;
}

#ifdef __OPENCL_VERSION__
struct span_sums {
    float largest, weight;
};

/* Join the next span, or the first one to { -INFINITY, 0 }; the factors of the totals: a, b. */
static inline float2 span_join(struct span_sums *sums, float largest, float weight) {
    float now_largest = fmax(sums->largest, largest);
    float2 factors = (float2)(exp_1(sums->largest - now_largest), exp_1(largest - now_largest));
    sums->largest = now_largest;
    sums->weight = fma(weight, factors.y, sums->weight * factors.x);
    return factors;
}

/* Where a query's sums of its span number `slot`, counted from the first that it sees, wait
 * to be joined: head_dim totals, the largest, the weight. In `out`, behind the result. */
static inline size_t span_place(const struct attention_args *args, int token, int head, int slot) {
    return (size_t)args->room_begin +
           (((size_t)token * args->head_count + head) * args->span_slots + slot) * (args->head_dim + 2);
}
#endif

#endif
