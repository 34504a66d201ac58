/* stop_strings: find the first of some strings in a text that comes in pieces.
 *
 * What could be the beginning of one is held back until the next piece decides. */
#ifndef RUNTIME_STOP_STRINGS_H
#define RUNTIME_STOP_STRINGS_H

#include "common/text.h"

#include <stdint.h>

struct stop_matcher {
    char *const *strings;     /* borrowed [count]; none is empty */
    uint32_t count;
    bool keeps;               /* a string that stopped stays in the text */
    struct text pending;
};

void stop_matcher_init(struct stop_matcher *matcher, char *const *strings, uint32_t count, bool keeps);
void stop_matcher_release(struct stop_matcher *matcher);

/* Take a piece and append what is certain to `out`. True: a string was found; then the text
 * is complete: up to the string, or to the piece's end where strings are kept. */
bool stop_matcher_feed(struct stop_matcher *matcher, const char *bytes, size_t length, struct text *out);

/* No more pieces: what was held back. */
void stop_matcher_end(struct stop_matcher *matcher, struct text *out);

#endif
