/* grammar_parts: what lies between a grammar's text and its network: expressions. */
#ifndef RUNTIME_GRAMMAR_PARTS_H
#define RUNTIME_GRAMMAR_PARTS_H

#include "runtime/grammar.h"

#include <stdbool.h>

#define REPEAT_FOREVER UINT32_MAX
#define NO_RULE UINT32_MAX

enum expression_kind {
    EXPRESSION_LITERAL,    /* bytes [first, first + count) */
    EXPRESSION_CLASS,      /* one character of ranges [first, first + count) */
    EXPRESSION_RULE,       /* the rule `first` */
    EXPRESSION_SEQUENCE,   /* children [first, first + count); none: empty text */
    EXPRESSION_CHOICE,     /* children */
    EXPRESSION_REPEAT      /* the expression `first`, min to max times */
};

struct expression {
    enum expression_kind kind;
    uint32_t first, count, min, max;
    uint32_t depth;        /* of the tree below; bounded by the parser */
    uint32_t rule;         /* REPEAT's child, once it is a rule of its own; else NO_RULE */
};

struct code_range {
    uint32_t from, to;     /* of code points, both included; never surrogates alone */
};

struct grammar_rule {
    char *name;            /* owned; NULL: made from a group */
    uint32_t expression;   /* UINT32_MAX: not defined (yet) */
    uint32_t line;         /* where it was mentioned first */
};

/* Growing arrays; a failure of memory is kept in `failed`. */
struct grammar_source {
    const char *name;                /* borrowed */
    struct expression *expressions;
    struct code_range *ranges;
    uint8_t *bytes;
    uint32_t *children;
    struct grammar_rule *rules;
    uint32_t expression_count, range_count, byte_count, child_count, rule_count;
    uint32_t expression_capacity, range_capacity, byte_capacity, child_capacity, rule_capacity;
    bool failed;
};

bool grammar_read(struct grammar_source *source, const char *text, size_t size, struct error *err);
void grammar_source_release(struct grammar_source *source);
uint32_t grammar_add_rule(struct grammar_source *source, const char *name, size_t length, uint32_t line);

/* Sort, join, and with `negate` turn round a list of ranges in place; the result lies in *out
 * (owned, to be freed) and holds no surrogates. False: out of memory. */
bool code_ranges_normalize(const struct code_range *ranges, uint32_t count, bool negate, struct code_range **out,
                           uint32_t *out_count);

struct grammar *grammar_compile(struct grammar_source *source, struct error *err);

/* Refuse rules that begin with themselves or cannot end. */
bool grammar_check(const struct grammar *grammar, const struct grammar_source *source, struct error *err);

/* Append `count` times the size; false and `failed` where memory runs out. */
bool grammar_grow(void **array, uint32_t *capacity, uint32_t count, size_t size, bool *failed);

#endif
