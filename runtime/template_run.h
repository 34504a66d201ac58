/* template_run: a chat template while it is being rendered.
 *
 * There is no tree: expressions are evaluated as they are parsed, and a loop goes
 * back to its first token. Where a condition does not hold, the same functions
 * run with `live` false: they only find the end. */
#ifndef RUNTIME_TEMPLATE_RUN_H
#define RUNTIME_TEMPLATE_RUN_H

#include "runtime/template_value.h"

struct template_run {
    const struct template_token *tokens;
    size_t at;                       /* the next token */
    bool live;
    unsigned depth;                  /* of blocks and brackets, bounded */
    uint64_t steps;                  /* bounded: a template can loop in loops */
    struct arena *arena;
    struct variable_list variables;  /* innermost last */
    unsigned scope;                  /* where the innermost scope's variables begin */
    struct text *out;
    struct error *err;
};

/* The statements of the whole template. */
bool template_run_all(struct template_run *run);

/* An expression; undefined where not live. */
bool template_expression(struct template_run *run, struct value *result);
/* One that is not a choice: after it an `if` has another meaning. */
bool template_operand(struct template_run *run, struct value *result);

/* For both: is the next token this operator or name? If so, move past it. */
bool template_take(struct template_run *run, const char *text);
bool template_expect(struct template_run *run, const char *text);
bool template_fail_here(struct template_run *run);   /* "... at 'token' ..." */
bool template_step(struct template_run *run);        /* counts; false when there were too many */

bool variable_set(struct variable_list *list, unsigned scope, const char *name, size_t length,
                  const struct value *value, struct error *err);

#endif
