/* jinja_evaluate: what an expression is worth. */
#include "runtime/jinja_syntax.h"

#include <string.h>

static bool evaluate_name(struct jinja *run, const struct jinja_node *node, struct jinja_scope *scope,
                          struct jinja_value *out) {
    struct jinja_value key = jinja_text(node->name), *found;
    for (; scope; scope = scope->parent) {
        if (!jinja_dict_find(run, &scope->names, &key, &found))
            return false;
        if (found) {
            *out = *found;
            return true;
        }
    }
    return jinja_missing(run, JINJA_ABSENT, key, out);
}

static bool evaluate_sequence(struct jinja *run, const struct jinja_node *node, struct jinja_scope *scope,
                              struct jinja_value *out) {
    if (!jinja_list_new(run, node->kind == JINJA_MAKE_LIST ? JINJA_LIST : JINJA_TUPLE, 0, out))
        return false;
    for (const struct jinja_node *item = node->list; item; item = item->next) {
        struct jinja_value value;
        if (!jinja_evaluate(run, item, scope, &value) || !jinja_list_push(run, out->list, value))
            return false;
    }
    return true;
}

static bool evaluate_dict(struct jinja *run, const struct jinja_node *node, struct jinja_scope *scope,
                          struct jinja_value *out) {
    if (!jinja_dict_new(run, JINJA_DICT, out))
        return false;
    for (const struct jinja_node *key = node->list; key; key = key->next->next) {
        struct jinja_value name, value;
        if (!jinja_evaluate(run, key, scope, &name) || !jinja_evaluate(run, key->next, scope, &value)
            || !jinja_dict_set(run, out->dict, name, value))
            return false;
    }
    return true;
}

static bool evaluate_join(struct jinja *run, const struct jinja_node *node, struct jinja_scope *scope,
                          struct jinja_value *out) {
    /* Whatever the operands print while they are evaluated stays between marks of their own. */
    struct jinja_value parts;
    size_t mark = jinja_mark(run);
    if (!evaluate_sequence(run, node, scope, &parts))
        return false;
    for (size_t i = 0; i < parts.list->count; i++)
        if (!jinja_put(run, &parts.list->items[i]))
            return false;
    return jinja_capture(run, mark, out);
}

static bool holds(struct jinja *run, int operation, const struct jinja_value *a, const struct jinja_value *b,
                  bool *result) {
    int order = 0;
    switch (operation) {
    case JINJA_EQUAL:
        return jinja_equal(run, a, b, result);
    case JINJA_NOT_EQUAL:
        if (!jinja_equal(run, a, b, result))
            return false;
        *result = !*result;
        return true;
    case JINJA_IN: case JINJA_NOT_IN:
        if (!jinja_contains(run, b, a, result))
            return false;
        *result ^= operation == JINJA_NOT_IN;
        return true;
    }
    const char *shown = operation == '<' ? "<" : operation == '>' ? ">" : operation == JINJA_LESS_EQUAL ? "<=" : ">=";
    if (!jinja_compare(run, a, b, shown, &order))
        return false;
    *result = operation == '<' ? order < 0 : operation == '>' ? order > 0
            : operation == JINJA_LESS_EQUAL ? order <= 0 : order >= 0;
    return true;
}

/* a < b < c: each with its neighbour, until one does not hold. */
static bool evaluate_compare(struct jinja *run, const struct jinja_node *node, struct jinja_scope *scope,
                             struct jinja_value *out) {
    struct jinja_value left, right;
    bool result = true;
    if (!jinja_evaluate(run, node->first, scope, &left))
        return false;
    for (const struct jinja_node *next = node->list; next && result; next = next->next) {
        if (!jinja_evaluate(run, next->first, scope, &right)
            || !holds(run, next->operation, &left, &right, &result))
            return false;
        left = right;
    }
    *out = jinja_bool(result);
    return true;
}

static bool evaluate_sign(struct jinja *run, const struct jinja_node *node, struct jinja_scope *scope,
                          struct jinja_value *out) {
    struct jinja_value value, zero = jinja_integer(0);
    if (!jinja_evaluate(run, node->first, scope, &value))
        return false;
    if (value.kind == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, &value);
    if (!jinja_is_number(&value))
        return jinja_fail(run, "bad operand type for unary %c: '%s'", node->operation, jinja_kind_name(&value));
    if (value.kind == JINJA_FLOAT)
        return *out = jinja_real(node->operation == '-' ? -value.real : value.real), true;
    return jinja_binary(run, node->operation, &zero, &value, out);
}

static bool evaluate_slice(struct jinja *run, const struct jinja_node *node, struct jinja_scope *scope,
                           struct jinja_value *out) {
    const struct jinja_node *const nodes[3] = { node->second, node->third, node->other };
    struct jinja_value value, bounds[3] = { { .kind = JINJA_ABSENT } };
    if (!jinja_evaluate(run, node->first, scope, &value))
        return false;
    for (int i = 0; i < 3; i++)
        if (nodes[i] && !jinja_evaluate(run, nodes[i], scope, &bounds[i]))
            return false;
    return jinja_slice(run, &value, bounds, out);
}

static bool spread(struct jinja *run, int operation, const struct jinja_value *value, struct jinja_arguments *out) {
    if (operation == '*') {
        struct jinja_list *items;
        if (!jinja_items(run, value, &items))
            return false;
        for (size_t i = 0; i < items->count; i++)
            if (!jinja_list_push(run, &out->positional, items->items[i]))
                return false;
        return true;
    }
    if (value->kind != JINJA_DICT)
        return jinja_fail(run, "argument after ** must be a mapping, not %s", jinja_kind_name(value));
    for (size_t i = 0; i < value->dict->count; i++) {
        const struct jinja_entry *entry = &value->dict->entries[i];
        if (entry->key.kind != JINJA_STRING)
            return jinja_fail(run, "keywords must be strings");
        if (!jinja_dict_set(run, &out->named, entry->key, entry->value))
            return false;
    }
    return true;
}

bool jinja_evaluate_arguments(struct jinja *run, const struct jinja_node *list, struct jinja_scope *scope,
                              struct jinja_arguments *out) {
    *out = (struct jinja_arguments){ 0 };
    for (const struct jinja_node *node = list; node; node = node->next) {
        struct jinja_value value;
        bool good = jinja_evaluate(run, node->first, scope, &value);
        if (good && node->operation)
            good = spread(run, node->operation, &value, out);
        else if (good && node->name.bytes)
            good = jinja_dict_set(run, &out->named, jinja_text(node->name), value);
        else if (good)
            good = jinja_list_push(run, &out->positional, value);
        if (!good)
            return false;
    }
    return true;
}

/* |name(arguments) and is name(arguments). */
static bool evaluate_builtin(struct jinja *run, const struct jinja_node *node, struct jinja_scope *scope,
                             struct jinja_value *out) {
    bool is_filter = node->kind == JINJA_FILTER;
    struct jinja_value self;
    struct jinja_arguments arguments;
    const struct jinja_builtin *builtin = is_filter ? jinja_find_filter(node->name) : jinja_find_test(node->name);
    if (!builtin)
        return jinja_unsupported(run, is_filter ? "the filter" : "the test", node->name);
    if (!jinja_evaluate(run, node->first, scope, &self)
        || !jinja_evaluate_arguments(run, node->list, scope, &arguments))
        return false;
    run->line = node->line;
    return jinja_run_builtin(run, builtin, &self, &arguments, out);
}

bool jinja_call(struct jinja *run, const struct jinja_value *callee, const struct jinja_arguments *arguments,
                struct jinja_value *out) {
    static const struct jinja_value nothing = { .kind = JINJA_ABSENT };
    switch (callee->kind) {
    case JINJA_FUNCTION: return jinja_run_builtin(run, callee->function, &nothing, arguments, out);
    case JINJA_METHOD: return jinja_run_builtin(run, callee->method->function, &callee->method->self, arguments, out);
    case JINJA_MACRO: return jinja_call_macro(run, callee->macro, arguments, out);
    case JINJA_LOOP: return jinja_call_loop(run, callee->loop, arguments, out);
    case JINJA_UNDEFINED: return jinja_fail_undefined(run, callee);
    default: return jinja_fail(run, "'%s' object is not callable", jinja_kind_name(callee));
    }
}

static bool evaluate_call(struct jinja *run, const struct jinja_node *node, struct jinja_scope *scope,
                          struct jinja_value *out) {
    struct jinja_value callee;
    struct jinja_arguments arguments;
    if (!jinja_evaluate(run, node->first, scope, &callee)
        || !jinja_evaluate_arguments(run, node->list, scope, &arguments))
        return false;
    run->line = node->line;
    /* A call of what is not there asks for something that this interpreter may just not know. */
    const struct jinja_missing *missing = callee.kind == JINJA_UNDEFINED ? callee.missing : NULL;
    if (missing && missing->key.kind == JINJA_STRING && missing->owner != JINJA_NONE)
        return jinja_unsupported(run, missing->owner == JINJA_ABSENT ? "the function" : "the method",
                                 missing->key.string);
    return jinja_call(run, &callee, &arguments, out);
}

static bool evaluate_logic(struct jinja *run, const struct jinja_node *node, struct jinja_scope *scope,
                           struct jinja_value *out) {
    if (!jinja_evaluate(run, node->first, scope, out))
        return false;
    if (jinja_truth(out) == (node->kind == JINJA_OR))
        return true;
    return jinja_evaluate(run, node->second, scope, out);
}

static bool evaluate_condition(struct jinja *run, const struct jinja_node *node, struct jinja_scope *scope,
                               struct jinja_value *out) {
    struct jinja_value condition;
    if (!jinja_evaluate(run, node->first, scope, &condition))
        return false;
    const struct jinja_node *branch = jinja_truth(&condition) ? node->second : node->third;
    *out = jinja_undefined();
    return !branch || jinja_evaluate(run, branch, scope, out);
}

/* Expressions with one or two operands that are always evaluated. */
static bool evaluate_operands(struct jinja *run, const struct jinja_node *node, struct jinja_scope *scope,
                              struct jinja_value *out) {
    struct jinja_value first, second = { .kind = JINJA_ABSENT };
    if (!jinja_evaluate(run, node->first, scope, &first)
        || (node->second && !jinja_evaluate(run, node->second, scope, &second)))
        return false;
    run->line = node->line;
    switch (node->kind) {
    case JINJA_NOT:
        *out = jinja_bool(!jinja_truth(&first));
        return true;
    case JINJA_BINARY: return jinja_binary(run, node->operation, &first, &second, out);
    case JINJA_ATTRIBUTE: return jinja_attribute(run, &first, node->name, out);
    default: return jinja_subscript(run, &first, &second, out);
    }
}

static bool evaluate_kind(struct jinja *run, const struct jinja_node *node, struct jinja_scope *scope,
                          struct jinja_value *out) {
    switch (node->kind) {
    case JINJA_CONSTANT: case JINJA_CAPTURED:
        *out = node->value;
        return true;
    case JINJA_NAME: return evaluate_name(run, node, scope, out);
    case JINJA_MAKE_LIST: case JINJA_MAKE_TUPLE: return evaluate_sequence(run, node, scope, out);
    case JINJA_MAKE_DICT: return evaluate_dict(run, node, scope, out);
    case JINJA_SIGN: return evaluate_sign(run, node, scope, out);
    case JINJA_COMPARE: return evaluate_compare(run, node, scope, out);
    case JINJA_AND: case JINJA_OR: return evaluate_logic(run, node, scope, out);
    case JINJA_JOIN: return evaluate_join(run, node, scope, out);
    case JINJA_CONDITION: return evaluate_condition(run, node, scope, out);
    case JINJA_SLICE: return evaluate_slice(run, node, scope, out);
    case JINJA_CALL: return evaluate_call(run, node, scope, out);
    case JINJA_FILTER: case JINJA_TEST: return evaluate_builtin(run, node, scope, out);
    default: return evaluate_operands(run, node, scope, out);
    }
}

bool jinja_evaluate(struct jinja *run, const struct jinja_node *node, struct jinja_scope *scope,
                    struct jinja_value *out) {
    run->line = node->line;
    bool good = jinja_spend(run, 1) && jinja_enter(run) && evaluate_kind(run, node, scope, out);
    /* After a failure the run is over: what the depth is then does not matter. */
    jinja_leave(run);
    return good;
}
