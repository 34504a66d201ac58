/* grammar: rules in GBNF, as llama.cpp's users know it, turned into one network of nodes that
 * reads bytes.
 *
 *     root ::= "yes" | "no" [.!]{1,3}        # alternatives, classes, ? * + {m} {m,} {m,n}
 *
 * Characters are UTF-8 in the network, so a token may end within one. A rule that begins with
 * itself, or that can never end, is refused by name. */
#ifndef RUNTIME_GRAMMAR_H
#define RUNTIME_GRAMMAR_H

#include "common/error.h"

#include <stddef.h>
#include <stdint.h>

#define GRAMMAR_TEXT_LIMIT ((size_t)4 << 20)
#define GRAMMAR_END 0u            /* the node where every rule ends */

enum grammar_node_kind {
    NODE_END,      /* back to where the rule was called from */
    NODE_SPLIT,    /* on to `a` and to `b` */
    NODE_BYTES,    /* a byte of the set `a`, then `b` */
    NODE_CALL      /* the rule `a`, then `b` */
};

struct grammar_node {
    enum grammar_node_kind kind;
    uint32_t a, b;
};

struct byte_set {
    uint32_t bits[8];
};

struct grammar {
    struct grammar_node *nodes;   /* [node_count] */
    struct byte_set *sets;        /* [set_count], none of them empty, no two the same */
    uint32_t *entries;            /* [rule_count] the first node of each rule */
    uint32_t node_count, set_count, rule_count, root;
};

/* `name` names the text in sentences. NULL with ERROR_USAGE where it is no usable grammar. */
struct grammar *grammar_parse(const char *text, size_t size, const char *name, struct error *err);
void grammar_free(struct grammar *grammar);   /* NULL is fine */

static inline int byte_set_has(const struct byte_set *set, unsigned byte) {
    return set->bits[byte >> 5] >> (byte & 31) & 1;
}

#endif
