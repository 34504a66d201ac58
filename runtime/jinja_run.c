/* jinja_run: what a template's statements do. */
#include "runtime/jinja_syntax.h"

#include <string.h>

static bool run_list(struct jinja *run, const struct jinja_node *list, struct jinja_scope *scope,
                     enum jinja_flow *flow);

/* A scope inside `parent`. It outlives its body: macros remember where they were defined. */
static struct jinja_scope *scope_new(struct jinja *run, struct jinja_scope *parent) {
    struct jinja_scope *scope = jinja_alloc(run, sizeof *scope);
    if (scope)
        scope->parent = parent;
    return scope;
}

static bool define(struct jinja *run, struct jinja_scope *scope, struct jinja_string name, struct jinja_value value) {
    return jinja_dict_set(run, &scope->names, jinja_text(name), value);
}

static bool assign(struct jinja *run, const struct jinja_node *target, struct jinja_value value,
                   struct jinja_scope *scope) {
    run->line = target->line;
    if (target->kind == JINJA_NAME)
        return define(run, scope, target->name, value);
    if (target->kind == JINJA_ATTRIBUTE) {
        struct jinja_value owner;
        if (!jinja_evaluate(run, target->first, scope, &owner))
            return false;
        if (owner.kind != JINJA_NAMESPACE)
            return jinja_fail(run, "cannot assign attribute on non-namespace object");
        return jinja_dict_set(run, owner.dict, jinja_text(target->name), value);
    }
    struct jinja_list *items;
    if (value.kind == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, &value);
    if (!jinja_items(run, &value, &items))
        return false;
    size_t i = 0;
    for (const struct jinja_node *part = target->list; part; part = part->next, i++) {
        if (i == items->count)
            return jinja_fail(run, "not enough values to unpack: %zu", items->count);
        if (!assign(run, part, items->items[i], scope))
            return false;
    }
    return i == items->count || jinja_fail(run, "too many values to unpack (expected %zu)", i);
}

/* Those items for which the loop's condition holds, each with the target assigned. */
static bool select_items(struct jinja *run, const struct jinja_node *node, struct jinja_scope *scope,
                         struct jinja_list **items) {
    struct jinja_value chosen;
    if (!jinja_list_new(run, JINJA_LIST, 0, &chosen))
        return false;
    for (size_t i = 0; i < (*items)->count; i++) {
        struct jinja_value condition;
        struct jinja_scope *inner = scope_new(run, scope);
        if (!inner || !assign(run, node->first, (*items)->items[i], inner)
            || !jinja_evaluate(run, node->third, inner, &condition))
            return false;
        if (jinja_truth(&condition) && !jinja_list_push(run, chosen.list, (*items)->items[i]))
            return false;
    }
    *items = chosen.list;
    return true;
}

static bool run_rounds(struct jinja *run, struct jinja_loop *loop, const struct jinja_value *self) {
    const struct jinja_node *node = loop->statement;
    enum jinja_flow flow = JINJA_GO_ON;
    for (; loop->index < loop->items->count && flow != JINJA_LEAVE_LOOP; loop->index++) {
        struct jinja_scope *inner = scope_new(run, loop->scope);
        flow = JINJA_GO_ON;
        if (!inner || !define(run, inner, jinja_literal("loop"), *self)
            || !assign(run, node->first, loop->items->items[loop->index], inner)
            || !run_list(run, node->list, inner, &flow))
            return false;
    }
    return true;
}

static bool run_loop(struct jinja *run, const struct jinja_node *node, struct jinja_scope *scope,
                     const struct jinja_value *items, unsigned level) {
    struct jinja_loop *loop = jinja_alloc(run, sizeof *loop);
    if (!loop)
        return false;
    *loop = (struct jinja_loop){ .statement = node, .scope = scope, .level = level };
    if (!jinja_items(run, items, &loop->items) || (node->third && !select_items(run, node, scope, &loop->items)))
        return false;
    struct jinja_value self = { .kind = JINJA_LOOP, .loop = loop };
    if (loop->items->count)
        return run_rounds(run, loop, &self);
    enum jinja_flow flow = JINJA_GO_ON;
    struct jinja_scope *inner = scope_new(run, scope);
    return inner && run_list(run, node->other, inner, &flow);
}

bool jinja_call_loop(struct jinja *run, const struct jinja_loop *loop, const struct jinja_arguments *arguments,
                     struct jinja_value *out) {
    if (!loop->statement->flag)
        return jinja_fail(run, "loop() is called in a loop that is not marked as recursive");
    if (arguments->positional.count != 1 || arguments->named.count)
        return jinja_fail(run, "loop() takes one argument");
    size_t mark = jinja_mark(run);
    return run_loop(run, loop->statement, loop->scope, &arguments->positional.items[0], loop->level + 1)
        && jinja_capture(run, mark, out);
}

bool jinja_loop_attribute(struct jinja *run, const struct jinja_loop *loop, struct jinja_string name, bool *found,
                          struct jinja_value *out) {
    int64_t index = (int64_t)loop->index, count = (int64_t)loop->items->count;
    const struct { const char *name; struct jinja_value value; } attributes[] = {
        { "index", jinja_integer(index + 1) }, { "index0", jinja_integer(index) },
        { "revindex", jinja_integer(count - index) }, { "revindex0", jinja_integer(count - index - 1) },
        { "first", jinja_bool(index == 0) }, { "last", jinja_bool(index == count - 1) },
        { "length", jinja_integer(count) }, { "depth", jinja_integer(loop->level + 1) },
        { "depth0", jinja_integer(loop->level) },
    };
    *found = true;
    for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++)
        if (jinja_string_is(name, attributes[i].name)) {
            *out = attributes[i].value;
            return true;
        }
    bool is_previous = jinja_string_is(name, "previtem");
    if (!is_previous && !jinja_string_is(name, "nextitem")) {
        *found = false;
        return true;
    }
    if (is_previous ? index == 0 : index >= count - 1)
        return jinja_missing(run, JINJA_LOOP, jinja_text(name), out);
    *out = loop->items->items[is_previous ? index - 1 : index + 1];
    return true;
}

/* Run a body in a scope of its own and take what it prints. */
static bool capture_body(struct jinja *run, const struct jinja_node *list, struct jinja_scope *scope,
                         enum jinja_flow *flow, struct jinja_value *out) {
    size_t mark = jinja_mark(run);
    struct jinja_scope *inner = scope_new(run, scope);
    return inner && run_list(run, list, inner, flow) && jinja_capture(run, mark, out);
}

static bool is_parameter(const struct jinja_node *definition, struct jinja_string name) {
    for (const struct jinja_node *parameter = definition->list; parameter; parameter = parameter->next)
        if (jinja_string_equal(parameter->name, name))
            return true;
    return jinja_string_is(name, "caller");
}

/* What is left of the arguments: varargs and kwargs. */
static bool bind_rest(struct jinja *run, const struct jinja_node *definition, size_t position,
                      const struct jinja_arguments *arguments, struct jinja_scope *scope) {
    struct jinja_value more, rest, *caller, key = jinja_text(jinja_literal("caller"));
    if (!jinja_list_new(run, JINJA_TUPLE, 0, &more) || !jinja_dict_new(run, JINJA_DICT, &rest)
        || !jinja_dict_find(run, &arguments->named, &key, &caller)
        || (caller && !define(run, scope, key.string, *caller)))
        return false;
    for (; position < arguments->positional.count; position++)
        if (!jinja_list_push(run, more.list, arguments->positional.items[position]))
            return false;
    for (size_t i = 0; i < arguments->named.count; i++) {
        const struct jinja_entry *entry = &arguments->named.entries[i];
        if (!is_parameter(definition, entry->key.string)
            && !jinja_dict_set(run, rest.dict, entry->key, entry->value))
            return false;
    }
    return define(run, scope, jinja_literal("varargs"), more) && define(run, scope, jinja_literal("kwargs"), rest);
}

/* Give each parameter its argument, its default or an undefined value. */
static bool bind_parameters(struct jinja *run, const struct jinja_node *definition,
                            const struct jinja_arguments *arguments, struct jinja_scope *scope) {
    size_t position = 0;
    for (const struct jinja_node *parameter = definition->list; parameter; parameter = parameter->next, position++) {
        struct jinja_value key = jinja_text(parameter->name), value, *named;
        bool is_given = position < arguments->positional.count, good = true;
        if (!jinja_dict_find(run, &arguments->named, &key, &named))
            return false;
        if (is_given && named)
            return jinja_fail(run, "a macro got two values for '%.*s'", JINJA_SHOWN(parameter->name));
        if (is_given)
            value = arguments->positional.items[position];
        else if (named)
            value = *named;
        else if (parameter->first)
            good = jinja_evaluate(run, parameter->first, scope, &value);
        else
            good = jinja_missing(run, JINJA_ABSENT, key, &value);
        if (!good || !define(run, scope, parameter->name, value))
            return false;
    }
    return bind_rest(run, definition, position, arguments, scope);
}

bool jinja_call_macro(struct jinja *run, const struct jinja_macro *macro, const struct jinja_arguments *arguments,
                      struct jinja_value *out) {
    size_t mark = jinja_mark(run);
    enum jinja_flow flow = JINJA_GO_ON;
    struct jinja_scope *scope = scope_new(run, macro->scope);
    bool good = scope && jinja_enter(run) && bind_parameters(run, macro->definition, arguments, scope)
        && run_list(run, macro->definition->other, scope, &flow) && jinja_capture(run, mark, out);
    if (scope)
        jinja_leave(run);
    return good;
}

static bool make_macro(struct jinja *run, const struct jinja_node *node, struct jinja_scope *scope,
                       struct jinja_value *out) {
    struct jinja_macro *macro = jinja_alloc(run, sizeof *macro);
    if (!macro)
        return false;
    *macro = (struct jinja_macro){ node, scope };
    *out = (struct jinja_value){ .kind = JINJA_MACRO, .macro = macro };
    return true;
}

/* {% call(a) m(b) %}: m(b) with the body as its macro caller(a). */
static bool run_call_block(struct jinja *run, const struct jinja_node *node, struct jinja_scope *scope) {
    struct jinja_value caller, callee, value;
    struct jinja_arguments arguments;
    if (!make_macro(run, node, scope, &caller) || !jinja_evaluate(run, node->first->first, scope, &callee)
        || !jinja_evaluate_arguments(run, node->first->list, scope, &arguments)
        || !jinja_dict_set(run, &arguments.named, jinja_text(jinja_literal("caller")), caller))
        return false;
    return jinja_call(run, &callee, &arguments, &value) && jinja_put(run, &value);
}

static bool run_if(struct jinja *run, const struct jinja_node *node, struct jinja_scope *scope,
                   enum jinja_flow *flow) {
    for (const struct jinja_node *branch = node->list; branch; branch = branch->next) {
        struct jinja_value condition = jinja_bool(true);
        if (branch->first && !jinja_evaluate(run, branch->first, scope, &condition))
            return false;
        if (jinja_truth(&condition))
            return run_list(run, branch->list, scope, flow);
    }
    return true;
}

static bool run_with(struct jinja *run, const struct jinja_node *node, struct jinja_scope *scope,
                     enum jinja_flow *flow) {
    struct jinja_scope *inner = scope_new(run, scope);
    for (const struct jinja_node *set = node->list; inner && set; set = set->next) {
        struct jinja_value value;
        if (!jinja_evaluate(run, set->second, scope, &value) || !assign(run, set->first, value, inner))
            return false;
    }
    return inner && run_list(run, node->other, inner, flow);
}

/* The text of a block, passed through its filters. */
static bool run_captured(struct jinja *run, const struct jinja_node *node, struct jinja_scope *scope,
                         enum jinja_flow *flow, struct jinja_value *out) {
    struct jinja_value text;
    if (!capture_body(run, node->list, scope, flow, &text))
        return false;
    struct jinja_node *innermost = node->second;
    while (innermost->kind != JINJA_CAPTURED)
        innermost = innermost->first;
    innermost->value = text;
    return jinja_evaluate(run, node->second, scope, out);
}

static bool run_statement(struct jinja *run, const struct jinja_node *node, struct jinja_scope *scope,
                          enum jinja_flow *flow) {
    struct jinja_value value;
    struct jinja_scope *inner;
    switch (node->kind) {
    case JINJA_TEXT: return jinja_put_string(run, node->value.string);
    case JINJA_PRINT: return jinja_evaluate(run, node->first, scope, &value) && jinja_put(run, &value);
    case JINJA_FOR:
        return jinja_evaluate(run, node->second, scope, &value) && run_loop(run, node, scope, &value, 0);
    case JINJA_IF: return run_if(run, node, scope, flow);
    case JINJA_SET: return jinja_evaluate(run, node->second, scope, &value) && assign(run, node->first, value, scope);
    case JINJA_SET_BLOCK:
        return run_captured(run, node, scope, flow, &value) && assign(run, node->first, value, scope);
    case JINJA_FILTER_BLOCK: return run_captured(run, node, scope, flow, &value) && jinja_put(run, &value);
    case JINJA_DEFINE: return make_macro(run, node, scope, &value) && define(run, scope, node->name, value);
    case JINJA_CALL_BLOCK: return run_call_block(run, node, scope);
    case JINJA_WITH: return run_with(run, node, scope, flow);
    case JINJA_BODY:
        inner = scope_new(run, scope);
        return inner && run_list(run, node->list, inner, flow);
    case JINJA_BREAK:
        *flow = JINJA_LEAVE_LOOP;
        return true;
    default:
        *flow = JINJA_NEXT_ROUND;
        return true;
    }
}

static bool run_list(struct jinja *run, const struct jinja_node *list, struct jinja_scope *scope,
                     enum jinja_flow *flow) {
    bool good = jinja_enter(run);
    for (; good && list && *flow == JINJA_GO_ON; list = list->next) {
        run->line = list->line;
        good = jinja_spend(run, 1) && run_statement(run, list, scope, flow);
    }
    jinja_leave(run);
    return good;
}

bool jinja_run_body(struct jinja *run, const struct jinja_node *body, struct jinja_scope *scope,
                    enum jinja_flow *flow) {
    return run_list(run, body, scope, flow);
}
