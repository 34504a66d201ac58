/* added_tokens: pieces that are found in the text before anything else is done
 * to it: end-of-text, turn markers and the like. */
#ifndef RUNTIME_ADDED_TOKENS_H
#define RUNTIME_ADDED_TOKENS_H

#include "common/error.h"

#include <stddef.h>
#include <stdint.h>

enum added_token_flags {
    ADDED_SPECIAL = 1,
    ADDED_LSTRIP = 2,        /* swallows the white space on its left */
    ADDED_RSTRIP = 4,        /* ... on its right */
    ADDED_SINGLE_WORD = 8,   /* does not match inside a word */
    ADDED_NORMALIZED = 16    /* is looked for in the normalized text */
};

struct added_token {
    char *content;           /* owned; may hold any byte */
    uint32_t length;
    int32_t id;
    unsigned flags;
};

/* A set that is searched together. */
struct added_tokens {
    struct added_token *tokens;   /* sorted by content after added_tokens_finish() */
    uint32_t count, capacity;
    uint32_t first[257];          /* [byte] where contents with that first byte begin */
};

void added_tokens_release(struct added_tokens *set);

/* Copies `content`, which must be neither empty nor longer than 4096 bytes. */
bool added_tokens_add(struct added_tokens *set, const char *content, size_t length, int32_t id,
                      unsigned flags, struct error *err);
void added_tokens_finish(struct added_tokens *set);

/* Gets the parts from left to right: text (id -1; may be empty only where the
 * whole is) or an added token. `start` is the part's offset. */
typedef bool part_visitor(void *context, int32_t id, const char *bytes, size_t size, size_t start,
                          struct error *err);

/* Cut valid UTF-8 at the tokens: the longest that matches at the leftmost place.
 * With skip_special, special tokens stay text. */
bool added_tokens_split(const struct added_tokens *set, const char *bytes, size_t size, bool skip_special,
                        part_visitor *visit, void *context, struct error *err);

#endif
