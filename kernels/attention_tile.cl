/* attention_tile: as kernels/attention.cl, to the same bits, for CPUs: a work-item takes
 * several queries over the same keys, so that a page is read and made float once for all.
 * A query is a head of a token: those of one KV head, and of tokens that follow each other
 * in one sequence.
 *
 * Buffers, rounding and host: see kernels/attention.cl. Every operation on a query's own
 * numbers is the one that is written there; only their order between queries differs.
 *
 * Launch: (KV heads * parts * splits, tiles) work-items in groups of one. A part is
 *         heads_per_item of a KV head's query heads, a tile is tokens_per_item tokens; the
 *         product of both is at most LANES. Of several splits each leaves its share of
 *         the spans to attention_join.cl; tiles are of one token then.
 * Needs:  head_dim at most 256; 82 KiB of private memory.
 * Speed:  with AVX-512 scores and values meet in kernels/attention_avx512.h.
 * Test:   tests/test_kernel_attention.c, tests/test_kernel_attention_splits.c. */
#include "kernels/numerics.h"
#include "kernels/kernel_args.h"
#include "kernels/kv_cache.h"
#include "kernels/attention_span.h"
#include "kernels/attention_avx512.h"

#define LANES ATTENTION_LANES
#define MOST_DIM 256

/* The queries of one work-item; `stride` is head_dim rounded up to 16, filled with zeros. */
struct tile {
    int dim, stride;
    float query[LANES * MOST_DIM];
    float total[LANES * MOST_DIM], largest[LANES], weight[LANES], rescale[LANES];   /* of the span */
    float joined_total[LANES * MOST_DIM];
    struct span_sums joined[LANES];
    float scores[LANES * PAGE_TOKENS];
    float rows[PAGE_TOKENS * MOST_DIM];   /* K, then V of the page */
};

/* sum_16() of eight keys whose 16 partial sums are added to 8 already: the same tree. */
static inline float8 sums_of_8(const float *partial) {
    float8 p0 = vload8(0, partial), p1 = vload8(1, partial), p2 = vload8(2, partial), p3 = vload8(3, partial);
    float8 p4 = vload8(4, partial), p5 = vload8(5, partial), p6 = vload8(6, partial), p7 = vload8(7, partial);
    float8 a0 = (float8)(p0.lo, p1.lo) + (float8)(p0.hi, p1.hi);
    float8 a1 = (float8)(p2.lo, p3.lo) + (float8)(p2.hi, p3.hi);
    float8 a2 = (float8)(p4.lo, p5.lo) + (float8)(p4.hi, p5.hi);
    float8 a3 = (float8)(p6.lo, p7.lo) + (float8)(p6.hi, p7.hi);
    float8 b0 = (float8)(a0.s01, a1.s01, a0.s45, a1.s45) + (float8)(a0.s23, a1.s23, a0.s67, a1.s67);
    float8 b1 = (float8)(a2.s01, a3.s01, a2.s45, a3.s45) + (float8)(a2.s23, a3.s23, a2.s67, a3.s67);
    float8 c = (float8)(b0.s02, b1.s02, b0.s46, b1.s46) + (float8)(b0.s13, b1.s13, b0.s57, b1.s57);
    return c.s04152637;
}

/* `ahead` is a page that is needed next. */
static inline void load_rows(struct tile *tile, global const kv_value *page, global const kv_value *ahead, int begin,
                             int end) {
    for (int i = begin; i < end; i++) {
        kv_prefetch(ahead + i * KV_ROW(tile->dim), tile->dim);
        for (int c = 0; c * 16 < tile->dim; c++)
            vstore16(kv_load_16(page + i * KV_ROW(tile->dim), c, tile->dim), c, tile->rows + i * tile->stride);
    }
}

/* Scores of a lane from the 8 partial sums of each of its keys. */
static inline void finish_scores(struct tile *tile, int lane, float *partial, int begin, int end, float scale) {
    float *scores = tile->scores + lane * PAGE_TOKENS;
    for (int j = 0; j < begin; j++)
        vstore8((float8)(0.0f), j, partial);
    for (int j = end; j < PAGE_TOKENS; j++)
        vstore8((float8)(0.0f), j, partial);
    for (int j = 0; j < PAGE_TOKENS; j += 8)
        vstore8(sums_of_8(partial + j * 8) * scale, 0, scores + j);
    for (int j = 0; j < begin; j++)
        scores[j] = -INFINITY;
    for (int j = end; j < PAGE_TOKENS; j++)
        scores[j] = -INFINITY;
}

#ifdef ATTENTION_AVX512

/* Scores of lane a and, where `two`, of the next one, eight keys at a time: of keys before `begin`
 * and from `end` on, with what is in memory, and not kept. */
static inline void score(struct tile *tile, int a, bool two, int begin, int end, float scale) {
    const int stride = tile->stride;
    const float *query = tile->query + a * stride;
    float *scores = tile->scores + a * PAGE_TOKENS, unused[8];
    for (int j = begin / 8 * 8; j < end; j += 8)
        score_eight(query, two ? query + stride : query, tile->rows + j * stride, stride, scale, scores + j,
                    two ? scores + PAGE_TOKENS + j : unused);
    for (int lane = 0; lane <= two; lane++, scores += PAGE_TOKENS) {
        for (int j = 0; j < begin; j++)
            scores[j] = -INFINITY;
        for (int j = end; j < PAGE_TOKENS; j++)
            scores[j] = -INFINITY;
    }
}

#else

/* Scores of lane a and, where `two`, of the next one. */
static inline void score(struct tile *tile, int a, bool two, int begin, int end, float scale) {
    float partial[2 * PAGE_TOKENS * 8];
    int stride = tile->stride, i = begin;
    const float *query = tile->query + a * stride, *next = query + (two ? stride : 0);
    for (; i + 2 <= end; i += 2) {
        const float *row = tile->rows + i * stride;
        float16 dot0 = 0.0f, dot1 = 0.0f, dot2 = 0.0f, dot3 = 0.0f;
        if (two) {
            for (int d = 0; d < stride; d += 16) {
                float16 q0 = vload16(0, query + d), q1 = vload16(0, next + d);
                float16 k0 = vload16(0, row + d), k1 = vload16(0, row + stride + d);
                dot0 = fma(q0, k0, dot0);
                dot1 = fma(q0, k1, dot1);
                dot2 = fma(q1, k0, dot2);
                dot3 = fma(q1, k1, dot3);
            }
            vstore8(dot2.lo + dot2.hi, PAGE_TOKENS + i, partial);
            vstore8(dot3.lo + dot3.hi, PAGE_TOKENS + i + 1, partial);
        } else {
            for (int d = 0; d < stride; d += 16) {
                float16 q0 = vload16(0, query + d);
                dot0 = fma(q0, vload16(0, row + d), dot0);
                dot1 = fma(q0, vload16(0, row + stride + d), dot1);
            }
        }
        vstore8(dot0.lo + dot0.hi, i, partial);
        vstore8(dot1.lo + dot1.hi, i + 1, partial);
    }
    if (i < end) {
        const float *row = tile->rows + i * stride;
        float16 dot0 = 0.0f, dot1 = 0.0f;
        for (int d = 0; d < stride; d += 16) {
            float16 k0 = vload16(0, row + d);
            dot0 = fma(vload16(0, query + d), k0, dot0);
            dot1 = fma(vload16(0, next + d), k0, dot1);
        }
        vstore8(dot0.lo + dot0.hi, i, partial);
        vstore8(dot1.lo + dot1.hi, PAGE_TOKENS + i, partial);
    }
    for (int lane = 0; lane <= two; lane++)
        finish_scores(tile, a + lane, partial + lane * PAGE_TOKENS * 8, begin, end, scale);
}

#endif

/* What the lanes that see keys of the page, by `ranges`, make of their scores of it. */
static inline void soften(struct tile *tile, int lanes, const int2 *ranges) {
    float page[LANES];
    for (int lane = 0; lane < LANES; lane++) {
        const float *scores = tile->scores + lane * PAGE_TOKENS;
        bool sees = lane < lanes && ranges[lane].x < ranges[lane].y;
        page[lane] = sees ? largest_16(fmax(vload16(0, scores), vload16(1, scores))) : -INFINITY;
    }
    float16 before = vload16(0, tile->largest), largest = fmax(before, vload16(0, page));
    vstore16(exp_16(before - largest), 0, tile->rescale);
    vstore16(largest, 0, tile->largest);
    for (int lane = 0; lane < lanes; lane++) {
        float *scores = tile->scores + lane * PAGE_TOKENS;
        if (ranges[lane].x >= ranges[lane].y)
            continue;
        float16 low = exp_16(vload16(0, scores) - tile->largest[lane]);
        float16 high = exp_16(vload16(1, scores) - tile->largest[lane]);
        tile->weight[lane] = tile->weight[lane] * tile->rescale[lane] + sum_16(low + high);
        vstore16(low, 0, scores);
        vstore16(high, 1, scores);
    }
}

/* The values times the scores of lane a and, where `two`, of the next one. */
static inline void weigh(struct tile *tile, int a, bool two, int begin, int end) {
    int stride = tile->stride, d = 0;
    const float *scores = tile->scores + a * PAGE_TOKENS, *next_scores = scores + (two ? PAGE_TOKENS : 0);
    float *total = tile->total + a * stride, *next_total = total + (two ? stride : 0);
    float rescale = tile->rescale[a], next_rescale = tile->rescale[two ? a + 1 : a];
    for (; d + 32 <= stride; d += 32) {
        const float *row = tile->rows + begin * stride + d;
        float16 s0 = vload16(0, total + d) * rescale, s1 = vload16(1, total + d) * rescale;
        if (two) {
            float16 s2 = vload16(0, next_total + d) * next_rescale, s3 = vload16(1, next_total + d) * next_rescale;
            for (int i = begin; i < end; i++, row += stride) {
                float16 v0 = vload16(0, row), v1 = vload16(1, row);
                float16 p0 = (float16)(scores[i]), p1 = (float16)(next_scores[i]);
                s0 = fma(p0, v0, s0);
                s1 = fma(p0, v1, s1);
                s2 = fma(p1, v0, s2);
                s3 = fma(p1, v1, s3);
            }
            vstore16(s2, 0, next_total + d);
            vstore16(s3, 1, next_total + d);
        } else {
            for (int i = begin; i < end; i++, row += stride) {
                float16 p0 = (float16)(scores[i]);
                s0 = fma(p0, vload16(0, row), s0);
                s1 = fma(p0, vload16(1, row), s1);
            }
        }
        vstore16(s0, 0, total + d);
        vstore16(s1, 1, total + d);
    }
    if (d < stride) {
        const float *row = tile->rows + begin * stride + d;
        float16 s0 = vload16(0, total + d) * rescale, s1 = vload16(0, next_total + d) * next_rescale;
        for (int i = begin; i < end; i++, row += stride) {
            float16 v0 = vload16(0, row);
            s0 = fma((float16)(scores[i]), v0, s0);
            s1 = fma((float16)(next_scores[i]), v0, s1);
        }
        if (two)
            vstore16(s1, 0, next_total + d);
        vstore16(s0, 0, total + d);
    }
}

#ifdef ATTENTION_AVX512
/* The same of lanes a to a + 3. */
static inline void weigh_four(struct tile *tile, int a, int begin, int end) {
    const int stride = tile->stride;
    for (int d = 0; d < stride; d += 32)
        add_values(tile->total + a * stride + d, tile->rescale + a, tile->scores + a * PAGE_TOKENS + begin,
                   tile->rows + begin * stride + d, stride, end - begin);
}
#endif

/* ---- one query alone, whose head_dim is a multiple of 16: nothing is kept for others ---- */

static inline void score_alone(struct tile *tile, global const kv_value *page, global const kv_value *ahead, int begin,
                               int end, float scale) {
    float partial[PAGE_TOKENS * 8];
    int dim = tile->dim, i = begin;
    for (; i + 2 <= end; i += 2) {
        global const kv_value *row = page + i * KV_ROW(dim), *next = row + KV_ROW(dim);
        float16 dot0 = 0.0f, dot1 = 0.0f;
        kv_prefetch(ahead + i * KV_ROW(dim), dim);
        kv_prefetch(ahead + (i + 1) * KV_ROW(dim), dim);
        for (int c = 0; c * 16 < dim; c++) {
            float16 query = vload16(c, tile->query);
            dot0 = fma(query, kv_load_inner(row, c, dim), dot0);
            dot1 = fma(query, kv_load_inner(next, c, dim), dot1);
        }
        vstore8(dot0.lo + dot0.hi, i, partial);
        vstore8(dot1.lo + dot1.hi, i + 1, partial);
    }
    if (i < end) {
        float16 dot = 0.0f;
        for (int c = 0; c * 16 < dim; c++)
            dot = fma(vload16(c, tile->query), kv_load_inner(page + i * KV_ROW(dim), c, dim), dot);
        vstore8(dot.lo + dot.hi, i, partial);
    }
    finish_scores(tile, 0, partial, begin, end, scale);
}

static inline void weigh_alone(struct tile *tile, global const kv_value *page, global const kv_value *ahead, int begin,
                               int end) {
    int dim = tile->dim, c = 0;
    const float *scores = tile->scores;
    float rescale = tile->rescale[0];
    for (; c * 16 + 32 <= dim; c += 2) {
        float16 s0 = vload16(c, tile->total) * rescale, s1 = vload16(c + 1, tile->total) * rescale;
        for (int i = begin; i < end; i++) {
            global const kv_value *row = page + i * KV_ROW(dim);
            float16 p = (float16)(scores[i]);
            if (c == 0)
                kv_prefetch(ahead + i * KV_ROW(dim), dim);
            s0 = fma(p, kv_load_inner(row, c, dim), s0);
            s1 = fma(p, kv_load_inner(row, c + 1, dim), s1);
        }
        vstore16(s0, c, tile->total);
        vstore16(s1, c + 1, tile->total);
    }
    if (c * 16 < dim) {
        float16 s0 = vload16(c, tile->total) * rescale;
        for (int i = begin; i < end; i++)
            s0 = fma((float16)(scores[i]), kv_load_inner(page + i * KV_ROW(dim), c, dim), s0);
        vstore16(s0, c, tile->total);
    }
}

/* What the query at `position` sees of the keys that begin at position `base`. */
static inline int2 seen(const struct attention_args *args, int position, int base, int count) {
    return (int2)(max(first_seen(position, args->window) - base, 0), min(position + 1 - base, count));
}

/* Tokens first .. first + tokens - 1, which follow each other in one sequence and have spans
 * of the same length; of one token, heads first_head .. first_head + heads - 1. */
struct queries {
    int first, tokens, first_head, heads, kv_head, position;
    global const int *pages;
};

static inline void load_queries(struct tile *tile, const struct attention_args *args, const struct queries *own,
                                global const float *qkv) {
    int dim = tile->dim, stride = tile->stride, heads = own->heads;
    for (int lane = 0; lane < own->tokens * heads; lane++) {
        global const float *query =
            qkv + (size_t)(own->first + lane / heads) * args->qkv_stride + (own->first_head + lane % heads) * dim;
        for (int d = 0; d < stride; d += 16) {
            vstore16(d + 16 <= dim ? vload16(0, query + d) : load_tail(query + d, dim - d), 0,
                     tile->query + lane * stride + d);
            vstore16((float16)(0.0f), 0, tile->joined_total + lane * stride + d);
        }
        tile->joined[lane].largest = -INFINITY;
        tile->joined[lane].weight = 0.0f;
    }
}

/* Pages first_page .. last_page, which are in one span, to the lanes' sums of it. */
static inline void sum_pages(struct tile *tile, const struct attention_args *args, const struct queries *own,
                             int first_page, int last_page, global const kv_value *k, global const kv_value *v) {
    int heads = own->heads, lanes = own->tokens * heads, last_position = own->position + own->tokens - 1;
    for (int lane = 0; lane < lanes; lane++) {
        for (int d = 0; d < tile->stride; d += 16)
            vstore16((float16)(0.0f), 0, tile->total + lane * tile->stride + d);
    }
    vstore16((float16)(-INFINITY), 0, tile->largest);
    vstore16((float16)(0.0f), 0, tile->weight);
    for (int page = first_page; page <= last_page; page++) {
        int base = page * PAGE_TOKENS;
        size_t at = ((size_t)own->pages[page] * args->kv_head_count + own->kv_head) * PAGE_TOKENS * KV_ROW(tile->dim);
        int begin = seen(args, own->position, base, PAGE_TOKENS).x;
        int end = seen(args, last_position, base, PAGE_TOKENS).y;
        size_t next_at = ((size_t)own->pages[min(page + 1, last_position / PAGE_TOKENS)] * args->kv_head_count +
                          own->kv_head) * PAGE_TOKENS * KV_ROW(tile->dim);
        int2 ranges[LANES];
        for (int lane = 0; lane < lanes; lane++)
            ranges[lane] = seen(args, own->position + lane / heads, base, PAGE_TOKENS);
        if (lanes == 1 && tile->dim % 16 == 0) {
            score_alone(tile, k + at, v + at, begin, end, args->scale);
            soften(tile, 1, ranges);
            weigh_alone(tile, v + at, k + next_at, begin, end);
            continue;
        }
        load_rows(tile, k + at, v + at, begin, end);
        for (int lane = 0, step; lane < lanes; lane += step) {
            int2 range = ranges[lane];
            bool two = lane + 1 < lanes && all(range == ranges[lane + 1]);
            step = 1 + two;
            if (range.x < range.y)
                score(tile, lane, two, range.x, range.y, args->scale);
        }
        soften(tile, lanes, ranges);
        load_rows(tile, v + at, k + next_at, begin, end);
        for (int lane = 0, step; lane < lanes; lane += step) {
            int2 range = ranges[lane];
            bool two = lane + 1 < lanes && all(range == ranges[lane + 1]);
            step = 1 + two;
#ifdef ATTENTION_AVX512
            if (lane + 3 < lanes && tile->stride % 32 == 0 && all(range == ranges[lane + 3])) {
                step = 4;
                if (range.x < range.y)
                    weigh_four(tile, lane, range.x, range.y);
                continue;
            }
#endif
            if (range.x < range.y)
                weigh(tile, lane, two, range.x, range.y);
        }
    }
}

static inline void join(struct tile *tile, int lane) {
    float2 factors = span_join(&tile->joined[lane], tile->largest[lane], tile->weight[lane]);
    float *joined = tile->joined_total + lane * tile->stride;
    const float *total = tile->total + lane * tile->stride;
    for (int d = 0; d < tile->stride; d += 16)
        vstore16(fma(vload16(0, total + d), (float16)(factors.y), vload16(0, joined + d) * factors.x), 0, joined + d);
}

static inline void leave(const struct tile *tile, int lane, global float *place) {
    const float *total = tile->total + lane * tile->stride;
    for (int d = 0; d < tile->dim; d++)
        place[d] = total[d];
    place[tile->dim] = tile->largest[lane];
    place[tile->dim + 1] = tile->weight[lane];
}

static inline void attend(struct tile *tile, const struct attention_args *args, const struct queries *own, int split,
                          global const float *qkv, global const kv_value *k, global const kv_value *v,
                          global float *out) {
    int dim = tile->dim, heads = own->heads, lanes = own->tokens * heads;
    int last_position = own->position + own->tokens - 1, start = first_seen(own->position, args->window);
    int length = span_pages(own->position - start + 1), span_tokens = length * PAGE_TOKENS;
    int first = start / span_tokens, span = first, last = last_position / span_tokens;
    if (args->split_count > 1) {
        span = first + split * args->span_slots / args->split_count;
        last = min(last, first + (split + 1) * args->span_slots / args->split_count - 1);
    }
    load_queries(tile, args, own, qkv);
    for (; span <= last; span++) {
        sum_pages(tile, args, own, max(span * length, start / PAGE_TOKENS),
                  min((span + 1) * length - 1, last_position / PAGE_TOKENS), k, v);
        for (int lane = 0; lane < lanes; lane++) {
            int2 range = seen(args, own->position + lane / heads, span * span_tokens, span_tokens);
            if (range.x >= range.y)
                continue;
            if (args->split_count == 1)
                join(tile, lane);
            else
                leave(tile, lane, out + span_place(args, own->first, own->first_head + lane, span - first));
        }
    }
    if (args->split_count > 1)
        return;
    for (int lane = 0; lane < lanes; lane++) {
        global float *target =
            out + ((size_t)(own->first + lane / heads) * args->head_count + own->first_head + lane % heads) * dim;
        const float *total = tile->joined_total + lane * tile->stride;
        for (int d = 0; d < dim; d++)
            target[d] = total[d] / tile->joined[lane].weight;
    }
}

static inline int span_pages_of(const struct attention_args *args, int position) {
    return span_pages(position - first_seen(position, args->window) + 1);
}

kernel void attention_tile(struct attention_args args, global const float *restrict qkv,
                           global const kv_value *restrict k, global const kv_value *restrict v,
                           global const int *restrict positions, global const int *restrict sequences,
                           global const int *restrict page_table, global float *restrict out) {
    int group = args.head_count / args.kv_head_count;
    int parts = (group + args.heads_per_item - 1) / args.heads_per_item;
    int split = get_global_id(0) % args.split_count, part = get_global_id(0) / args.split_count % parts;
    int kv_head = get_global_id(0) / args.split_count / parts, head = part * args.heads_per_item;
    int first = get_global_id(1) * args.tokens_per_item;
    int last = min(first + args.tokens_per_item, args.token_count);
    if (kv_head >= args.kv_head_count)
        return;
    struct tile tile;
    tile.dim = args.head_dim;
    tile.stride = (args.head_dim + 15) / 16 * 16;
    while (first < last) {
        int tokens = 1, length = span_pages_of(&args, positions[first]);
        while (first + tokens < last && sequences[first + tokens] == sequences[first] &&
               positions[first + tokens] == positions[first] + tokens &&
               span_pages_of(&args, positions[first + tokens]) == length)
            tokens++;
        struct queries own = {
            .first = first, .tokens = tokens, .first_head = kv_head * group + head,
            .heads = min(args.heads_per_item, group - head), .kv_head = kv_head, .position = positions[first],
            .pages = page_table + (size_t)sequences[first] * args.page_columns,
        };
        attend(&tile, &args, &own, split, qkv, k, v, out);
        first += tokens;
    }
}
