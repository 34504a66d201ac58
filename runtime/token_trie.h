/* token_trie: the bytes of every token, as a tree that is walked from its beginning to its end. */
#ifndef RUNTIME_TOKEN_TRIE_H
#define RUNTIME_TOKEN_TRIE_H

#include "runtime/tokenizer.h"

#define TRIE_MOST_DEPTH 255u     /* longer tokens are left out */

/* A byte after those of the node's ancestors. Nodes come before their children; what does not
 * lead on is left by going to `skip`. */
struct trie_node {
    uint32_t skip;               /* the first node that is no descendant */
    uint32_t first;              /* of ids, of the tokens that end here; those of descendants follow */
    uint16_t count;
    uint8_t byte, depth;         /* depth of the first byte: 0 */
    uint8_t below;               /* how many bytes the longest way down from here has */
};

struct token_trie {
    struct trie_node *nodes;     /* [node_count] */
    int32_t *ids;                /* [id_count] in the order of their bytes */
    uint32_t *offsets;           /* [vocab + 1] of each token's bytes; equal ones: it has none */
    uint8_t *bytes;
    uint32_t node_count, id_count, vocab;
};

struct token_trie *token_trie_new(const struct tokenizer *tokenizer, uint32_t vocab, struct error *err);
void token_trie_free(struct token_trie *trie);   /* NULL is fine */

/* The bytes of a token; *size 0: it is no text. */
const uint8_t *token_trie_bytes(const struct token_trie *trie, int32_t id, size_t *size);

#endif
