/* jinja_expression: expressions as trees.
 *
 * From what binds least: a if b else c; or; and; not; comparisons; + -; ~;
 * * / // %; **; + - before a value; .name [key] (arguments); |filter, is test. */
#include "runtime/jinja_syntax.h"

#include <string.h>

static bool parse_unary(struct jinja_parser *parser, bool with_filters, struct jinja_node **node);
static bool parse_primary(struct jinja_parser *parser, struct jinja_node **node);
static bool parse_postfix(struct jinja_parser *parser, struct jinja_node **node);

static struct jinja_node *wrap(struct jinja_parser *parser, enum jinja_node_kind kind, struct jinja_node *first) {
    struct jinja_node *node = jinja_node_new(parser, kind);
    if (node) {
        node->first = first;
        node->line = first ? first->line : node->line;
    }
    return node;
}

/* (*node OP second), in place of *node. */
static bool combine(struct jinja_parser *parser, enum jinja_node_kind kind, int operation,
                    struct jinja_node *second, struct jinja_node **node) {
    struct jinja_node *both = wrap(parser, kind, *node);
    if (!both)
        return false;
    both->operation = operation;
    both->second = second;
    *node = both;
    return true;
}

/* Operands joined by any of the operators in `operations`, leftmost first. */
static bool parse_left(struct jinja_parser *parser, const int *operations,
                       bool (*operand)(struct jinja_parser *, struct jinja_node **), struct jinja_node **node) {
    if (!operand(parser, node))
        return false;
    for (;;) {
        const int *operation = operations;
        while (*operation && !jinja_at_operator(parser, *operation))
            operation++;
        struct jinja_node *second;
        if (!*operation)
            return true;
        if (!jinja_advance(parser) || !operand(parser, &second)
            || !combine(parser, JINJA_BINARY, *operation, second, node))
            return false;
    }
}

static bool parse_operand(struct jinja_parser *parser, struct jinja_node **node) {
    return parse_unary(parser, true, node);
}

static bool parse_power(struct jinja_parser *parser, struct jinja_node **node) {
    static const int operations[] = { JINJA_POWER, 0 };
    return parse_left(parser, operations, parse_operand, node);
}

static bool parse_product(struct jinja_parser *parser, struct jinja_node **node) {
    static const int operations[] = { '*', '/', JINJA_FLOOR, '%', 0 };
    return parse_left(parser, operations, parse_power, node);
}

static bool parse_join(struct jinja_parser *parser, struct jinja_node **node) {
    if (!parse_product(parser, node))
        return false;
    if (!jinja_at_operator(parser, '~'))
        return true;
    struct jinja_node *join = wrap(parser, JINJA_JOIN, NULL);
    if (!join)
        return false;
    join->list = *node;
    struct jinja_node *last = *node;
    *node = join;
    for (;;) {
        bool more;
        if (!jinja_skip_operator(parser, '~', &more))
            return false;
        if (!more)
            return true;
        if (!parse_product(parser, &last->next))
            return false;
        last = last->next;
    }
}

static bool parse_sum(struct jinja_parser *parser, struct jinja_node **node) {
    static const int operations[] = { '+', '-', 0 };
    return parse_left(parser, operations, parse_join, node);
}

/* Move past a comparison's operator; *operation is 0 where there is none. */
static bool pass_comparison(struct jinja_parser *parser, int *operation) {
    static const int operations[] = { JINJA_EQUAL, JINJA_NOT_EQUAL, '<', '>', JINJA_LESS_EQUAL, JINJA_GREATER_EQUAL };
    *operation = 0;
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
        if (jinja_at_operator(parser, operations[i])) {
            *operation = operations[i];
            return jinja_advance(parser);
        }
    if (jinja_at_name(parser, "in")) {
        *operation = JINJA_IN;
        return jinja_advance(parser);
    }
    if (!jinja_at_name(parser, "not"))
        return true;
    if (!jinja_look_ahead(parser))
        return false;
    if (parser->ahead.kind != JINJA_TOKEN_NAME || !jinja_string_is(parser->ahead.text, "in"))
        return true;
    *operation = JINJA_NOT_IN;
    return jinja_advance(parser) && jinja_advance(parser);
}

static bool parse_comparison(struct jinja_parser *parser, struct jinja_node **node) {
    int operation;
    if (!parse_sum(parser, node) || !pass_comparison(parser, &operation))
        return false;
    if (!operation)
        return true;
    struct jinja_node *all = wrap(parser, JINJA_COMPARE, *node);
    if (!all)
        return false;
    struct jinja_node **end = &all->list;
    while (operation) {
        struct jinja_node *operand;
        if (!parse_sum(parser, &operand) || !(*end = wrap(parser, JINJA_COMPARISON, operand)))
            return false;
        (*end)->operation = operation;
        end = &(*end)->next;
        if (!pass_comparison(parser, &operation))
            return false;
    }
    *node = all;
    return true;
}

static bool parse_not(struct jinja_parser *parser, struct jinja_node **node) {
    bool negated;
    if (!jinja_skip_name(parser, "not", &negated))
        return false;
    if (!negated)
        return parse_comparison(parser, node);
    bool good = jinja_enter(parser->run) && parse_not(parser, node);
    jinja_leave(parser->run);
    return good && (*node = wrap(parser, JINJA_NOT, *node));
}

static bool parse_logic(struct jinja_parser *parser, const char *name, enum jinja_node_kind kind,
                        bool (*operand)(struct jinja_parser *, struct jinja_node **), struct jinja_node **node) {
    if (!operand(parser, node))
        return false;
    for (;;) {
        bool more;
        struct jinja_node *second;
        if (!jinja_skip_name(parser, name, &more))
            return false;
        if (!more)
            return true;
        if (!operand(parser, &second) || !combine(parser, kind, 0, second, node))
            return false;
    }
}

static bool parse_and(struct jinja_parser *parser, struct jinja_node **node) {
    return parse_logic(parser, "and", JINJA_AND, parse_not, node);
}

static bool parse_or(struct jinja_parser *parser, struct jinja_node **node) {
    return parse_logic(parser, "or", JINJA_OR, parse_and, node);
}

static bool parse_condition(struct jinja_parser *parser, struct jinja_node **node) {
    if (!parse_or(parser, node))
        return false;
    for (;;) {
        bool more;
        if (!jinja_skip_name(parser, "if", &more))
            return false;
        if (!more)
            return true;
        struct jinja_node *condition;
        if (!parse_or(parser, &condition) || !(condition = wrap(parser, JINJA_CONDITION, condition)))
            return false;
        condition->second = *node;
        *node = condition;
        if (!jinja_skip_name(parser, "else", &more) || (more && !jinja_parse_expression(parser, &condition->third)))
            return false;
    }
}

bool jinja_parse_expression(struct jinja_parser *parser, struct jinja_node **node) {
    bool good = jinja_enter(parser->run) && parse_condition(parser, node);
    jinja_leave(parser->run);
    return good;
}

static bool at_expression_end(const struct jinja_parser *parser) {
    enum jinja_token_kind kind = parser->token.kind;
    return kind == JINJA_TOKEN_TAG_END || kind == JINJA_TOKEN_PRINT_END || jinja_at_operator(parser, ')')
        || jinja_at_name(parser, "in") || jinja_at_name(parser, "recursive");
}

bool jinja_parse_tuple(struct jinja_parser *parser, bool with_conditions, struct jinja_node **node) {
    bool (*item)(struct jinja_parser *, struct jinja_node **) = with_conditions ? jinja_parse_expression : parse_or;
    if (!item(parser, node))
        return false;
    if (!jinja_at_operator(parser, ','))
        return true;
    struct jinja_node *tuple = wrap(parser, JINJA_MAKE_TUPLE, NULL), *last = *node;
    if (!tuple)
        return false;
    tuple->list = last;
    *node = tuple;
    for (;;) {
        bool more;
        if (!jinja_skip_operator(parser, ',', &more))
            return false;
        if (!more || at_expression_end(parser))
            return true;
        if (!item(parser, &last->next))
            return false;
        last = last->next;
    }
}

/* (a), (a, b), () */
static bool parse_parentheses(struct jinja_parser *parser, struct jinja_node **node) {
    bool empty;
    if (!jinja_advance(parser) || !jinja_skip_operator(parser, ')', &empty))
        return false;
    if (empty)
        return (*node = wrap(parser, JINJA_MAKE_TUPLE, NULL)) != NULL;
    return jinja_parse_tuple(parser, true, node) && jinja_need_operator(parser, ')', "')'");
}

/* [a, b] and {a: b}; a comma may follow the last item. */
static bool parse_items(struct jinja_parser *parser, bool is_dict, struct jinja_node **node) {
    int close = is_dict ? '}' : ']';
    if (!(*node = wrap(parser, is_dict ? JINJA_MAKE_DICT : JINJA_MAKE_LIST, NULL)) || !jinja_advance(parser))
        return false;
    struct jinja_node **end = &(*node)->list;
    for (bool is_first = true, more;;) {
        if (!jinja_next_item(parser, close, &is_first, &more))
            return false;
        if (!more)
            return true;
        if (!jinja_parse_expression(parser, end))
            return false;
        end = &(*end)->next;
        if (!is_dict)
            continue;
        if (!jinja_need_operator(parser, ':', "':'") || !jinja_parse_expression(parser, end))
            return false;
        end = &(*end)->next;
    }
}

static bool parse_name(struct jinja_parser *parser, struct jinja_node **node) {
    static const struct { const char *name; enum jinja_kind kind; bool truth; } constants[] = {
        { "true", JINJA_BOOL, true }, { "True", JINJA_BOOL, true }, { "false", JINJA_BOOL, false },
        { "False", JINJA_BOOL, false }, { "none", JINJA_NONE, false }, { "None", JINJA_NONE, false },
    };
    if (!(*node = wrap(parser, JINJA_NAME, NULL)))
        return false;
    (*node)->name = parser->token.text;
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (jinja_at_name(parser, constants[i].name)) {
            (*node)->kind = JINJA_CONSTANT;
            (*node)->value = constants[i].kind == JINJA_BOOL ? jinja_bool(constants[i].truth) : jinja_none();
        }
    return jinja_advance(parser);
}

static bool parse_constant(struct jinja_parser *parser, struct jinja_node **node) {
    if (!(*node = wrap(parser, JINJA_CONSTANT, NULL)))
        return false;
    (*node)->value = parser->token.value;
    if (!jinja_advance(parser))
        return false;
    if ((*node)->value.kind != JINJA_STRING || parser->token.kind != JINJA_TOKEN_CONSTANT
        || parser->token.value.kind != JINJA_STRING)
        return true;
    size_t mark = jinja_mark(parser->run);
    if (!jinja_put_string(parser->run, (*node)->value.string))
        return false;
    while (parser->token.kind == JINJA_TOKEN_CONSTANT && parser->token.value.kind == JINJA_STRING)
        if (!jinja_put_string(parser->run, parser->token.value.string) || !jinja_advance(parser))
            return false;
    return jinja_capture(parser->run, mark, &(*node)->value);
}

static bool parse_primary(struct jinja_parser *parser, struct jinja_node **node) {
    if (parser->token.kind == JINJA_TOKEN_NAME)
        return parse_name(parser, node);
    if (parser->token.kind == JINJA_TOKEN_CONSTANT)
        return parse_constant(parser, node);
    if (jinja_at_operator(parser, '('))
        return parse_parentheses(parser, node);
    if (jinja_at_operator(parser, '[') || jinja_at_operator(parser, '{'))
        return parse_items(parser, jinja_at_operator(parser, '{'), node);
    return jinja_expected(parser, "an expression");
}

static bool parse_unary(struct jinja_parser *parser, bool with_filters, struct jinja_node **node) {
    bool is_signed = jinja_at_operator(parser, '-') || jinja_at_operator(parser, '+');
    if (!is_signed) {
        if (!parse_primary(parser, node))
            return false;
    } else {
        int sign = parser->token.operation;
        bool good = jinja_enter(parser->run) && jinja_advance(parser) && parse_unary(parser, false, node)
            && (*node = wrap(parser, JINJA_SIGN, *node));
        jinja_leave(parser->run);
        if (!good)
            return false;
        (*node)->operation = sign;
    }
    if (!parse_postfix(parser, node))
        return false;
    return !with_filters || jinja_parse_filters(parser, node);
}

static bool parse_argument(struct jinja_parser *parser, struct jinja_node **node) {
    if (!(*node = wrap(parser, JINJA_ARGUMENT, NULL)))
        return false;
    if (jinja_at_operator(parser, '*') || jinja_at_operator(parser, JINJA_POWER)) {
        (*node)->operation = parser->token.operation;
        return jinja_advance(parser) && jinja_parse_expression(parser, &(*node)->first);
    }
    if (parser->token.kind == JINJA_TOKEN_NAME) {
        if (!jinja_look_ahead(parser))
            return false;
        if (parser->ahead.kind == JINJA_TOKEN_OPERATOR && parser->ahead.operation == '=') {
            (*node)->name = parser->token.text;
            if (!jinja_advance(parser) || !jinja_advance(parser))
                return false;
        }
    }
    return jinja_parse_expression(parser, &(*node)->first);
}

/* "(a, b, c=d)", the opening parenthesis being the current token. */
static bool parse_arguments(struct jinja_parser *parser, struct jinja_node **list) {
    if (!jinja_advance(parser))
        return false;
    for (bool is_first = true, more;;) {
        if (!jinja_next_item(parser, ')', &is_first, &more))
            return false;
        if (!more)
            return true;
        if (!parse_argument(parser, list))
            return false;
        list = &(*list)->next;
    }
}

static bool parse_call(struct jinja_parser *parser, struct jinja_node **node) {
    struct jinja_node *call = wrap(parser, JINJA_CALL, *node);
    *node = call;
    return call && parse_arguments(parser, &call->list);
}

static bool parse_dot(struct jinja_parser *parser, struct jinja_node **node) {
    if (!jinja_advance(parser))
        return false;
    if (parser->token.kind == JINJA_TOKEN_NAME) {
        if (!(*node = wrap(parser, JINJA_ATTRIBUTE, *node)))
            return false;
        (*node)->name = parser->token.text;
        return jinja_advance(parser);
    }
    struct jinja_node *key;
    if (parser->token.kind != JINJA_TOKEN_CONSTANT || parser->token.value.kind != JINJA_INTEGER)
        return jinja_expected(parser, "a name");
    if (!(key = wrap(parser, JINJA_CONSTANT, NULL)))
        return false;
    key->value = parser->token.value;
    return combine(parser, JINJA_SUBSCRIPT, 0, key, node) && jinja_advance(parser);
}

/* "[key]" or "[start:stop:step]". */
static bool parse_brackets(struct jinja_parser *parser, struct jinja_node **node) {
    struct jinja_node *bounds[3] = { NULL };
    int colons = 0;
    if (!jinja_advance(parser))
        return false;
    while (!jinja_at_operator(parser, ']')) {
        bool skipped = false;
        if (colons < 2 && !jinja_skip_operator(parser, ':', &skipped))
            return false;
        if (skipped)
            colons++;
        else if (bounds[colons])
            return jinja_expected(parser, "']'");
        else if (!jinja_parse_expression(parser, &bounds[colons]))
            return false;
    }
    if (!colons && !bounds[0])
        return jinja_expected(parser, "an expression");
    struct jinja_node *access = wrap(parser, colons ? JINJA_SLICE : JINJA_SUBSCRIPT, *node);
    if (!access)
        return false;
    access->second = bounds[0];
    access->third = bounds[1];
    access->other = bounds[2];
    *node = access;
    return jinja_advance(parser);
}

static bool parse_postfix(struct jinja_parser *parser, struct jinja_node **node) {
    for (;;) {
        bool good;
        if (jinja_at_operator(parser, '.'))
            good = parse_dot(parser, node);
        else if (jinja_at_operator(parser, '['))
            good = parse_brackets(parser, node);
        else if (jinja_at_operator(parser, '('))
            good = parse_call(parser, node);
        else
            return true;
        if (!good)
            return false;
    }
}

/* A filter's or a test's name, which may have dots. */
static bool parse_dotted(struct jinja_parser *parser, struct jinja_string *name) {
    if (!jinja_need_name(parser, name))
        return false;
    for (bool more = true; more;) {
        struct jinja_string part;
        if (!jinja_skip_operator(parser, '.', &more) || (more && !jinja_need_name(parser, &part)))
            return false;
        if (more)
            name->size = (size_t)(part.bytes + part.size - name->bytes);
    }
    return true;
}

static bool parse_filter(struct jinja_parser *parser, struct jinja_node **node) {
    if (!jinja_advance(parser) || !(*node = wrap(parser, JINJA_FILTER, *node))
        || !parse_dotted(parser, &(*node)->name))
        return false;
    return !jinja_at_operator(parser, '(') || parse_arguments(parser, &(*node)->list);
}

/* Whether the current token can begin the argument of a test without parentheses. */
static bool begins_operand(const struct jinja_parser *parser) {
    if (parser->token.kind == JINJA_TOKEN_NAME)
        return !jinja_at_name(parser, "else") && !jinja_at_name(parser, "or") && !jinja_at_name(parser, "and")
            && !jinja_at_name(parser, "is") && !jinja_at_name(parser, "if");
    return parser->token.kind == JINJA_TOKEN_CONSTANT || jinja_at_operator(parser, '[')
        || jinja_at_operator(parser, '{');
}

static bool parse_test(struct jinja_parser *parser, struct jinja_node **node) {
    bool negated;
    struct jinja_node *test;
    if (!jinja_advance(parser) || !jinja_skip_name(parser, "not", &negated)
        || !(test = wrap(parser, JINJA_TEST, *node)) || !parse_dotted(parser, &test->name))
        return false;
    *node = test;
    if (jinja_at_operator(parser, '(')) {
        if (!parse_arguments(parser, &test->list))
            return false;
    } else if (begins_operand(parser)) {
        if (!(test->list = wrap(parser, JINJA_ARGUMENT, NULL)) || !parse_primary(parser, &test->list->first)
            || !parse_postfix(parser, &test->list->first))
            return false;
    }
    return !negated || (*node = wrap(parser, JINJA_NOT, *node));
}

bool jinja_parse_filters(struct jinja_parser *parser, struct jinja_node **node) {
    for (;;) {
        bool good;
        if (jinja_at_operator(parser, '|'))
            good = parse_filter(parser, node);
        else if (jinja_at_name(parser, "is"))
            good = parse_test(parser, node);
        else if (jinja_at_operator(parser, '('))
            good = parse_call(parser, node);
        else
            return true;
        if (!good)
            return false;
    }
}

/* name, (name, name), name.attribute: what an assignment can be to. */
bool jinja_parse_target(struct jinja_parser *parser, bool with_attributes, struct jinja_node **node) {
    if (!jinja_enter(parser->run))
        return jinja_leave(parser->run), false;
    struct jinja_node *tuple = NULL, **end = node;
    bool good = true;
    while (good) {
        bool nested = false;
        good = jinja_skip_operator(parser, '(', &nested);
        if (good && nested) {
            good = jinja_parse_target(parser, with_attributes, end) && jinja_need_operator(parser, ')', "')'");
        } else if (good) {
            good = (*end = wrap(parser, JINJA_NAME, NULL)) && jinja_need_name(parser, &(*end)->name);
            if (good && with_attributes && jinja_at_operator(parser, '.')) {
                struct jinja_node *name = *end, *attribute = wrap(parser, JINJA_ATTRIBUTE, name);
                *end = attribute;
                good = attribute && jinja_advance(parser) && jinja_need_name(parser, &attribute->name);
            }
        }
        if (!good || !jinja_at_operator(parser, ','))
            break;
        if (!tuple) {
            tuple = wrap(parser, JINJA_MAKE_TUPLE, NULL);
            if (tuple)
                tuple->list = *node;
            good = tuple != NULL;
        }
        good = good && jinja_advance(parser);
        end = &(*end)->next;
        if (jinja_at_operator(parser, ')') || jinja_at_name(parser, "in") || jinja_at_operator(parser, '='))
            break;
    }
    if (good && tuple)
        *node = tuple;
    jinja_leave(parser->run);
    return good;
}
