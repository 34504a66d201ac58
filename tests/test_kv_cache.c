#include "tests/support.h"

#include "runtime/kv_cache.h"

#include <stdlib.h>
#include <string.h>

/* The invariants of the header, whatever was done. */
static void check(const struct kv_cache *cache) {
    uint32_t *seen = calloc(cache->page_count, sizeof *seen);
    assert_non_null(seen);
    for (uint32_t s = 0; s < cache->sequence_count; s++)
        for (uint32_t column = 0; column < cache->page_columns; column++) {
            int32_t page = cache->table[s * cache->page_columns + column];
            bool is_used = (uint64_t)column * KV_PAGE_TOKENS < cache->lengths[s] && column >= cache->starts[s];
            assert_int_equal(page >= 0, is_used);
            assert_true(page < (int32_t)cache->page_count);
            if (page >= 0)
                seen[page]++;
        }
    for (uint32_t i = 0; i < cache->free_count; i++) {
        assert_int_equal(seen[cache->free_pages[i]], 0);
        assert_int_equal(cache->references[cache->free_pages[i]], 0);
    }
    for (uint32_t s = 0; s < cache->sequence_count; s++) {
        uint32_t length = cache->lengths[s], window = cache->window;
        assert_true(cache->starts[s] * KV_PAGE_TOKENS <= (window && length >= window ? length - window + 1 : 0));
    }
    uint32_t used = 0;
    for (uint32_t page = 0; page < cache->page_count; page++) {
        assert_int_equal(cache->references[page], seen[page]);
        used += seen[page] > 0;
    }
    assert_int_equal(used + cache->free_count, cache->page_count);
    free(seen);
}

static void extend(struct kv_cache *cache, uint32_t sequence, uint32_t count, uint32_t copies) {
    struct error err = { 0 };
    uint32_t copied = 0;
    for (uint32_t i = 0; i < count; i++) {
        bool must_copy;
        struct kv_copy copy;
        ASSERT_OK(kv_cache_extend(cache, sequence, &must_copy, &copy, &err), err);
        copied += must_copy;
        if (must_copy) {
            int32_t now = cache->table[sequence * cache->page_columns + (cache->lengths[sequence] - 1) / KV_PAGE_TOKENS];
            assert_int_equal(copy.to, now);
            assert_int_not_equal(copy.from, copy.to);
        }
    }
    assert_int_equal(copied, copies);
    check(cache);
}

static void pages_are_taken_in_order_and_given_back(void **state) {
    (void)state;
    struct error err = { 0 };
    struct kv_cache cache;
    ASSERT_OK(kv_cache_init(&cache, 4 * KV_PAGE_TOKENS - 5, 1, &err), err);
    assert_int_equal(cache.page_count, 4);
    extend(&cache, 0, 3 * KV_PAGE_TOKENS, 0);
    for (int32_t column = 0; column < 3; column++)
        assert_int_equal(cache.table[column], column);
    uint64_t version = cache.version;
    kv_cache_truncate(&cache, 0, KV_PAGE_TOKENS + 1);
    check(&cache);
    assert_int_equal(cache.free_count, 2);
    assert_true(cache.version > version);
    kv_cache_truncate(&cache, 0, 100);
    assert_int_equal(cache.lengths[0], KV_PAGE_TOKENS + 1);
    kv_cache_truncate(&cache, 0, 0);
    check(&cache);
    assert_int_equal(cache.free_count, 4);
    kv_cache_release(&cache);
}

static void a_full_cache_is_a_usage_error_and_stays_as_it_is(void **state) {
    (void)state;
    struct error err = { 0 };
    struct kv_cache cache;
    ASSERT_OK(kv_cache_init(&cache, 2 * KV_PAGE_TOKENS, 2, &err), err);
    extend(&cache, 0, 2 * KV_PAGE_TOKENS, 0);
    extend(&cache, 1, KV_PAGE_TOKENS, 0);
    bool must_copy;
    struct kv_copy copy;
    for (uint32_t s = 0; s < 2; s++) {
        uint32_t before = cache.lengths[s];
        err.kind = ERROR_NONE;
        assert_false(kv_cache_extend(&cache, s, &must_copy, &copy, &err));
        assert_int_equal(err.kind, ERROR_USAGE);
        assert_non_null(strstr(err.text, "full"));
        assert_int_equal(cache.lengths[s], before);
        check(&cache);
    }
    kv_cache_release(&cache);
}

static void a_fork_shares_pages_until_one_side_writes(void **state) {
    (void)state;
    struct error err = { 0 };
    struct kv_cache cache;
    ASSERT_OK(kv_cache_init(&cache, 8 * KV_PAGE_TOKENS, 3, &err), err);
    extend(&cache, 0, 2 * KV_PAGE_TOKENS + 7, 0);
    uint32_t free_before = cache.free_count;
    ASSERT_OK(kv_cache_fork(&cache, 0, 1, 2 * KV_PAGE_TOKENS + 7, &err), err);
    ASSERT_OK(kv_cache_fork(&cache, 0, 2, 2 * KV_PAGE_TOKENS + 3, &err), err);
    check(&cache);
    assert_int_equal(cache.free_count, free_before);
    extend(&cache, 1, 1, 1);    /* the partial page is shared by three */
    extend(&cache, 0, 1, 1);    /* ... by two */
    extend(&cache, 2, 1, 0);    /* the last one keeps it */
    extend(&cache, 1, KV_PAGE_TOKENS, 0);
    /* Going back into a shared full page: it is copied before it is written to. */
    kv_cache_truncate(&cache, 0, KV_PAGE_TOKENS + 1);
    check(&cache);
    extend(&cache, 0, 1, 1);
    assert_int_equal(cache.table[0], cache.table[cache.page_columns]);
    kv_cache_release(&cache);
}

static void a_fork_that_makes_no_sense_is_refused(void **state) {
    (void)state;
    struct error err = { 0 };
    struct kv_cache cache;
    ASSERT_OK(kv_cache_init(&cache, 4 * KV_PAGE_TOKENS, 2, &err), err);
    extend(&cache, 0, 5, 0);
    extend(&cache, 1, 1, 0);
    assert_false(kv_cache_fork(&cache, 0, 1, 5, &err));
    kv_cache_truncate(&cache, 1, 0);
    assert_false(kv_cache_fork(&cache, 0, 1, 6, &err));
    assert_false(kv_cache_fork(&cache, 0, 0, 5, &err));
    check(&cache);
    kv_cache_release(&cache);
}

/* A window of 20 keys: at 200 tokens, with 32 of slack, what lies before 149 is not needed. */
static void a_window_gives_back_the_pages_before_it(void **state) {
    (void)state;
    struct error err = { 0 };
    struct kv_cache cache;
    ASSERT_OK(kv_cache_init(&cache, 10 * KV_PAGE_TOKENS, 2, &err), err);
    cache.window = 20;
    extend(&cache, 0, 200, 0);
    uint32_t free_before = cache.free_count;
    kv_cache_give_back(&cache, 0, 32);
    check(&cache);
    assert_int_equal(cache.starts[0], 4);
    assert_int_equal(cache.free_count, free_before + 4);
    kv_cache_give_back(&cache, 0, 32);
    assert_int_equal(cache.starts[0], 4);
    /* Within the slack nothing is lost; a fork shares what is left. */
    kv_cache_truncate(&cache, 0, 170);
    check(&cache);
    assert_int_equal(cache.lengths[0], 170);
    assert_true(kv_cache_fork(&cache, 0, 1, 165, &err));
    check(&cache);
    assert_int_equal(cache.lengths[1], 165);
    kv_cache_truncate(&cache, 1, 0);
    /* Position 140 would see 121 to 140, and the page of 121 is gone. */
    assert_false(kv_cache_fork(&cache, 0, 1, 140, &err));
    assert_non_null(strstr(err.text, "given back"));
    kv_cache_truncate(&cache, 0, 140);
    check(&cache);
    assert_int_equal(cache.lengths[0], 0);
    extend(&cache, 0, 40, 0);
    kv_cache_release(&cache);
}

static void random_use(uint32_t window) {
    struct error err = { 0 };
    struct kv_cache cache;
    ASSERT_OK(kv_cache_init(&cache, 6 * KV_PAGE_TOKENS, 4, &err), err);
    cache.window = window;
    uint32_t random = 1;
    for (int step = 0; step < 3000; step++) {
        random = random * 1664525u + 1013904223u;
        uint32_t s = random >> 30, other = random >> 28 & 3, amount = random >> 16 & 63;
        bool must_copy;
        struct kv_copy copy;
        if (random >> 22 & 1)
            kv_cache_give_back(&cache, s, amount & 31);
        switch (random >> 24 & 3) {
        case 0: kv_cache_truncate(&cache, s, amount); break;
        case 1: kv_cache_fork(&cache, s, other, amount, NULL); break;
        default:
            while (amount-- && kv_cache_extend(&cache, s, &must_copy, &copy, NULL))
                continue;
        }
        check(&cache);
    }
    kv_cache_release(&cache);
}

static void random_use_keeps_the_invariants(void **state) {
    (void)state;
    random_use(0);
    random_use(1);
    random_use(40);
}

static void sizes_without_sense_are_refused(void **state) {
    (void)state;
    struct error err = { 0 };
    struct kv_cache cache;
    assert_false(kv_cache_init(&cache, 0, 1, &err));
    assert_false(kv_cache_init(&cache, 32, 0, &err));
    assert_false(kv_cache_init(&cache, UINT32_MAX, UINT32_MAX, &err));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_are_taken_in_order_and_given_back),
        cmocka_unit_test(a_full_cache_is_a_usage_error_and_stays_as_it_is),
        cmocka_unit_test(a_fork_shares_pages_until_one_side_writes),
        cmocka_unit_test(a_fork_that_makes_no_sense_is_refused),
        cmocka_unit_test(a_window_gives_back_the_pages_before_it),
        cmocka_unit_test(random_use_keeps_the_invariants),
        cmocka_unit_test(sizes_without_sense_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
