/* kv_cache: which page of the KV buffers holds which positions of which sequence.
 *
 * Only bookkeeping: the bytes lie in every attn unit's K and V buffers, under the
 * same page number. Pages are reference-counted; sequences share them after a fork,
 * and one that is shared is copied before it is written to.
 *
 * Where every token sees a window of keys only, pages before it can be given back.
 *
 * Invariants: row `s` of the table has valid entries from starts[s] up to
 * ceil(lengths[s] / KV_PAGE_TOKENS), the rest is -1; what the next token of `s` sees is
 * there; references[p] is the number of entries that name p. */
#ifndef RUNTIME_KV_CACHE_H
#define RUNTIME_KV_CACHE_H

#include "common/unit_buffers.h"

struct kv_cache {
    uint32_t page_count;
    uint32_t page_columns;      /* entries in a row of the table */
    uint32_t sequence_count;
    int32_t *table;             /* [sequence_count][page_columns] */
    uint32_t *lengths;          /* [sequence_count] tokens */
    uint32_t *starts;           /* [sequence_count] pages that were given back */
    uint32_t window;            /* keys that a token sees, its own included; 0: all. Set once, after init */
    uint32_t *references;       /* [page_count] */
    uint32_t *free_pages;       /* [page_count], the first free_count are valid; taken from the end */
    uint32_t free_count;
    uint64_t version;           /* grows with every change of the table */
};

/* A page to copy in every attn unit before the next write. */
struct kv_copy { int32_t from, to; };

/* `context` tokens in all, over all sequences; as unit_buffers() counts, each sequence but
 * the first has a page more, since it may leave one partly used. */
bool kv_cache_init(struct kv_cache *cache, uint32_t context, uint32_t sequence_count, struct error *err);
void kv_cache_release(struct kv_cache *cache);

/* Give the sequence one more position. A page that it shares is replaced by a page of
 * its own: then *must_copy is set and *copy says what to copy. ERROR_USAGE where no page
 * is left; then nothing has changed. */
bool kv_cache_extend(struct kv_cache *cache, uint32_t sequence, bool *must_copy, struct kv_copy *copy,
                     struct error *err);

/* How many free pages it takes to extend the sequence to `length` positions. */
uint32_t kv_cache_pages_for(const struct kv_cache *cache, uint32_t sequence, uint32_t length);

/* Give back the pages that lie before the window of the next token and of the `slack` tokens
 * before it, to which a truncation may go back. */
void kv_cache_give_back(struct kv_cache *cache, uint32_t sequence, uint32_t slack);

/* Drop the positions from `length` on; no more than the sequence has is no change. Where
 * keys that position `length` would see were given back, the sequence becomes empty. */
void kv_cache_truncate(struct kv_cache *cache, uint32_t sequence, uint32_t length);

/* `target`, which must be empty, gets the first `length` positions of `source`, of which none
 * that the next one sees may have been given back. */
bool kv_cache_fork(struct kv_cache *cache, uint32_t source, uint32_t target, uint32_t length,
                   struct error *err);

#endif
