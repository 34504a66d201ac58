/* support_plan: a plan and a store to test with. */
#ifndef TESTS_SUPPORT_PLAN_H
#define TESTS_SUPPORT_PLAN_H

#include "db/plan_store.h"

/* A plan of `blocks` blocks on gpu0 (first half) and cpu0 (second half and head), embed
 * on the host; every field filled. Fails the test when out of memory. */
struct plan *test_plan(uint32_t blocks, const char *name);

/* A small model without files, and its hashes (weights: 64 times `digit`). */
struct model test_model(void);
struct model_hashes test_hashes(char digit);

/* NAME in the test's folder; a static ring of buffers. */
const char *test_path(const char *name);

/* Open and record the small model; fails the test with the sentence otherwise. */
struct plan_store *test_store(const char *path, int64_t *model_row);

/* Run SQL on a file behind the store's back, foreign keys off as in a plain shell. The first
 * value of the last row as text, "" for none; "error: ..." where it failed. Static. */
const char *test_sql(const char *path, const char *sql);

#endif
