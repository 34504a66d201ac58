/* constraint: which tokens a grammar allows next.
 *
 * The grammar reads bytes, tokens are bytes: a token is allowed where all of its bytes lead
 * on, whether or not it ends within a character. What is allowed in a state is worked out once,
 * by a walk through the vocabulary's tree that leaves every branch at its first wrong byte, and
 * kept. Where a sequence stands is a number of the caller's; see constraint_trim(). */
#ifndef RUNTIME_CONSTRAINT_H
#define RUNTIME_CONSTRAINT_H

#include "runtime/tokenizer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct constraint;

/* Keeps what does not change between texts: the vocabulary's tree, and the last grammar with
 * its states. */
struct constraint_store {
    struct token_trie *trie;
    const struct tokenizer *tokenizer;      /* the trie's */
    struct constraint *constraint;
    char *text;                             /* its grammar */
};
void constraint_store_release(struct constraint_store *store);

/* For a grammar in GBNF that was checked before (grammar_parse()). Borrowed from the store
 * until the next call. */
struct constraint *constraint_open(struct constraint_store *store, const char *text, const struct tokenizer *tokenizer,
                                   uint32_t vocab, struct error *err);

uint32_t constraint_start(const struct constraint *constraint);

/* The tokens that may follow, one bit each in 32-bit words, the end tokens last: they are
 * allowed where the grammar can end, and only there. `drops_space`: the text has not begun, and
 * a space at its beginning would be dropped: no token begins with one. Borrowed until the next
 * call. NULL on failure: also where no token is left. */
const uint32_t *constraint_allowed(struct constraint *constraint, uint32_t state, bool drops_space,
                                   const int32_t *end_ids, uint32_t end_count, struct error *err);

/* Take a token in that is no end token. False where the grammar does not allow it. */
bool constraint_accept(struct constraint *constraint, uint32_t *state, int32_t id, struct error *err);

bool constraint_can_end(const struct constraint *constraint, uint32_t state);
bool constraint_is_complete(const struct constraint *constraint, uint32_t state);   /* nothing can follow */

/* Bound the memory: keep only these states, under new numbers, if much has piled up. All
 * other states are void then. */
bool constraint_trim(struct constraint *constraint, uint32_t *states, uint32_t count, struct error *err);

/* Whether the tokens, up to the first end token, are a whole text of the grammar. */
bool constraint_accepts(struct constraint *constraint, const int32_t *ids, uint32_t count, const int32_t *end_ids,
                        uint32_t end_count);

#endif
