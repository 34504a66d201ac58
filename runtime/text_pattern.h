/* text_pattern: the expressions of tokenizer files; the door to PCRE2.
 *
 * They are written for Oniguruma's Ruby dialect. What means something else to
 * PCRE2 is rewritten (\s is White_Space, \w has the marks, ^ and $ match at line
 * ends, \h is a hex digit) or refused by name. */
#ifndef RUNTIME_TEXT_PATTERN_H
#define RUNTIME_TEXT_PATTERN_H

#include "common/error.h"

#include <stddef.h>

struct text_pattern;
struct pattern_scratch;   /* what matching needs besides; one for each thread */

struct text_pattern *text_pattern_new_regex(const char *regex, struct error *err);
struct text_pattern *text_pattern_new_literal(const char *bytes, size_t size, struct error *err);
void text_pattern_free(struct text_pattern *pattern);   /* NULL is fine */

struct pattern_scratch *pattern_scratch_new(struct error *err);
void pattern_scratch_free(struct pattern_scratch *scratch);   /* NULL is fine */

/* Walks through the matches in valid UTF-8 from left to right. */
struct pattern_walk {
    const struct text_pattern *pattern;
    struct pattern_scratch *scratch;
    const char *bytes;
    size_t size;
    size_t position;        /* where the search goes on */
    size_t start, end;      /* the match, which may be empty */
    bool has_matched;
};

/* The next match; *found tells whether there is one. False where the expression
 * costs more than the limits on one search allow. */
bool pattern_walk_next(struct pattern_walk *walk, bool *found, struct error *err);

#endif
