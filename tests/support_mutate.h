/* support_mutate: small damages of files, each made again from its number alone. */
#ifndef TESTS_SUPPORT_MUTATE_H
#define TESTS_SUPPORT_MUTATE_H

#include "common/text.h"

#include <stdint.h>

/* A generator of its own (splitmix64): the same on every machine. */
uint64_t mutate_random(uint64_t *state);
uint64_t mutate_below(uint64_t *state, uint64_t end);   /* 0 .. end - 1; end > 0 */

enum mutation_style {
    MUTATE_BINARY,   /* bits, bytes, numbers of 4 and 8 bytes */
    MUTATE_JSON      /* also: numbers, strings and words replaced by others */
};

/* Damage `bytes` in one to four places; most of them before `head`, where the counts
 * are. Returns what the first one was: "bits", "cut", "count", "swap", "insert",
 * "remove", "token". */
const char *mutate(struct text *bytes, size_t head, enum mutation_style style, uint64_t *state);

#endif
