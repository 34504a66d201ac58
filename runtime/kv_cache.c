#include "runtime/kv_cache.h"

#include <stdlib.h>

static int32_t *row(struct kv_cache *cache, uint32_t sequence) {
    return cache->table + (size_t)sequence * cache->page_columns;
}

bool kv_cache_init(struct kv_cache *cache, uint32_t context, uint32_t sequence_count, struct error *err) {
    uint32_t columns = kv_pages_of(context);
    if (columns == 0 || sequence_count == 0 || columns > INT32_MAX / 2 / sequence_count)
        return error_set(err, ERROR_FAILED, "cannot lay out KV for %u tokens in %u sequences", context,
                         sequence_count);
    uint32_t pages = columns + sequence_count - 1;
    *cache = (struct kv_cache){ .page_count = pages, .page_columns = columns,
                                .sequence_count = sequence_count, .free_count = pages, .version = 1 };
    cache->table = malloc((size_t)sequence_count * columns * sizeof *cache->table);
    cache->lengths = calloc(sequence_count, sizeof *cache->lengths);
    cache->starts = calloc(sequence_count, sizeof *cache->starts);
    cache->references = calloc(pages, sizeof *cache->references);
    cache->free_pages = malloc(pages * sizeof *cache->free_pages);
    if (!cache->table || !cache->lengths || !cache->starts || !cache->references || !cache->free_pages) {
        kv_cache_release(cache);
        return error_set(err, ERROR_FAILED, "cannot keep a page table of %u pages: out of memory", pages);
    }
    for (size_t i = 0; i < (size_t)sequence_count * columns; i++)
        cache->table[i] = -1;
    /* Taken from the end: pages are used in ascending order at first. */
    for (uint32_t i = 0; i < pages; i++)
        cache->free_pages[i] = pages - 1 - i;
    return true;
}

void kv_cache_release(struct kv_cache *cache) {
    free(cache->table);
    free(cache->lengths);
    free(cache->starts);
    free(cache->references);
    free(cache->free_pages);
    *cache = (struct kv_cache){ 0 };
}

static void drop(struct kv_cache *cache, int32_t *entry) {
    if (--cache->references[*entry] == 0)
        cache->free_pages[cache->free_count++] = (uint32_t)*entry;
    *entry = -1;
    cache->version++;
}

bool kv_cache_extend(struct kv_cache *cache, uint32_t sequence, bool *must_copy, struct kv_copy *copy,
                     struct error *err) {
    uint32_t position = cache->lengths[sequence], column = position / KV_PAGE_TOKENS;
    *must_copy = false;
    if (column >= cache->page_columns)
        return error_set(err, ERROR_USAGE, "the plan's context of %u tokens is full",
                         cache->page_columns * KV_PAGE_TOKENS);
    int32_t *entry = row(cache, sequence) + column;
    bool is_new = position % KV_PAGE_TOKENS == 0;
    if (is_new || cache->references[*entry] > 1) {
        if (cache->free_count == 0)
            return error_set(err, ERROR_USAGE, "the plan's KV of %u tokens is full: its %u sequences need more",
                             cache->page_count * KV_PAGE_TOKENS, cache->sequence_count);
        int32_t page = (int32_t)cache->free_pages[--cache->free_count];
        if (!is_new) {
            *must_copy = true;
            *copy = (struct kv_copy){ .from = *entry, .to = page };
            drop(cache, entry);   /* shared: never the last reference */
        }
        *entry = page;
        cache->references[page] = 1;
        cache->version++;
    }
    cache->lengths[sequence]++;
    return true;
}

uint32_t kv_cache_pages_for(const struct kv_cache *cache, uint32_t sequence, uint32_t length) {
    uint32_t now = cache->lengths[sequence];
    if (length <= now)
        return 0;
    bool splits = now % KV_PAGE_TOKENS != 0 &&
                  cache->references[cache->table[(size_t)sequence * cache->page_columns + now / KV_PAGE_TOKENS]] > 1;
    return kv_pages_of(length) - kv_pages_of(now) + splits;
}

/* The first position that a token at `position` sees. */
static uint32_t first_seen(const struct kv_cache *cache, uint32_t position) {
    return cache->window && position >= cache->window ? position - cache->window + 1 : 0;
}

static bool has_window(const struct kv_cache *cache, uint32_t sequence, uint32_t length) {
    return cache->starts[sequence] <= first_seen(cache, length) / KV_PAGE_TOKENS;
}

void kv_cache_give_back(struct kv_cache *cache, uint32_t sequence, uint32_t slack) {
    uint32_t length = cache->lengths[sequence];
    uint32_t keep = first_seen(cache, length > slack ? length - slack : 0) / KV_PAGE_TOKENS;
    for (; cache->starts[sequence] < keep; cache->starts[sequence]++)
        drop(cache, row(cache, sequence) + cache->starts[sequence]);
}

void kv_cache_truncate(struct kv_cache *cache, uint32_t sequence, uint32_t length) {
    if (length >= cache->lengths[sequence])
        return;
    if (!has_window(cache, sequence, length))
        length = 0;
    uint32_t column = kv_pages_of(length);
    if (column < cache->starts[sequence])
        column = cache->starts[sequence];
    for (; column < kv_pages_of(cache->lengths[sequence]); column++)
        drop(cache, row(cache, sequence) + column);
    cache->lengths[sequence] = length;
    if (length == 0)
        cache->starts[sequence] = 0;
}

bool kv_cache_fork(struct kv_cache *cache, uint32_t source, uint32_t target, uint32_t length,
                   struct error *err) {
    if (source == target || cache->lengths[target] != 0 || length > cache->lengths[source])
        return error_set(err, ERROR_FAILED,
                         "cannot fork %u tokens of sequence %u (which has %u) to sequence %u (which has %u)",
                         length, source, cache->lengths[source], target, cache->lengths[target]);
    if (!has_window(cache, source, length))
        return error_set(err, ERROR_FAILED, "cannot fork %u tokens of sequence %u: keys that they see were given back",
                         length, source);
    for (uint32_t column = cache->starts[source]; column < kv_pages_of(length); column++) {
        int32_t page = row(cache, source)[column];
        row(cache, target)[column] = page;
        cache->references[page]++;
    }
    cache->lengths[target] = length;
    cache->starts[target] = length ? cache->starts[source] : 0;
    cache->version++;
    return true;
}
