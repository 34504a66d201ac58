/* template_token: the source of a chat template (Jinja) as a list of tokens.
 *
 * White space round the tags is settled here, as the reference has it configured:
 * a newline after a block or comment goes, so do blanks before one that begins a
 * line; a '-' in the tag takes all white space on that side, a '+' keeps it. */
#ifndef RUNTIME_TEMPLATE_TOKEN_H
#define RUNTIME_TEMPLATE_TOKEN_H

#include "common/error.h"

#include <stddef.h>
#include <stdint.h>

/* Memory that lives as long as one rendering, freed at once. */
struct arena {
    struct arena_block *blocks;
    size_t used_bytes;    /* of all blocks; bounded */
};

void *arena_take(struct arena *arena, size_t size, struct error *err);   /* NULL: out of memory or bounds */
void arena_release(struct arena *arena);

enum token_kind {
    TOKEN_TEXT,          /* to be copied to the output */
    TOKEN_PRINT,         /* {{ */
    TOKEN_PRINT_END,     /* }} */
    TOKEN_BLOCK,         /* {% */
    TOKEN_BLOCK_END,     /* %} */
    TOKEN_NAME,
    TOKEN_STRING,        /* `text` is without quotes and escapes */
    TOKEN_NUMBER,        /* a whole number */
    TOKEN_OPERATOR,      /* one or two characters */
    TOKEN_END            /* of the template; always the last */
};

struct template_token {
    enum token_kind kind;
    const char *text;    /* in the arena */
    size_t length;
    int64_t number;
};

/* The tokens, in the arena, *count of them; NULL on failure. */
struct template_token *template_tokens(const char *source, struct arena *arena, size_t *count, struct error *err);

#endif
