/* jinja_parser: a template's statements as a tree. */
#include "runtime/jinja_syntax.h"

#include "runtime/jinja.h"

#include <stdio.h>
#include <string.h>

struct jinja_node *jinja_node_new(struct jinja_parser *parser, enum jinja_node_kind kind) {
    struct jinja_node *node = jinja_alloc(parser->run, sizeof *node);
    if (node) {
        node->kind = kind;
        node->line = parser->token.line;
    }
    return node;
}

bool jinja_advance(struct jinja_parser *parser) {
    if (parser->has_ahead) {
        parser->token = parser->ahead;
        parser->has_ahead = false;
        return true;
    }
    return jinja_next_token(parser->run, &parser->lexer, &parser->token);
}

bool jinja_look_ahead(struct jinja_parser *parser) {
    if (!parser->has_ahead && !jinja_next_token(parser->run, &parser->lexer, &parser->ahead))
        return false;
    parser->has_ahead = true;
    return true;
}

bool jinja_expected(struct jinja_parser *parser, const char *what) {
    const struct jinja_token *token = &parser->token;
    parser->run->line = token->line;
    if (token->kind == JINJA_TOKEN_TAG_END || token->kind == JINJA_TOKEN_PRINT_END)
        return jinja_fail(parser->run, "%s is missing before the end of a tag", what);
    if (token->kind == JINJA_TOKEN_END || token->kind == JINJA_TOKEN_TEXT)
        return jinja_fail(parser->run, "%s is missing before the end of the template", what);
    return jinja_fail(parser->run, "%s is missing before '%.*s'", what, JINJA_SHOWN(token->text));
}

bool jinja_at_operator(const struct jinja_parser *parser, int operation) {
    return parser->token.kind == JINJA_TOKEN_OPERATOR && parser->token.operation == operation;
}

bool jinja_at_name(const struct jinja_parser *parser, const char *name) {
    return parser->token.kind == JINJA_TOKEN_NAME && jinja_string_is(parser->token.text, name);
}

bool jinja_skip_operator(struct jinja_parser *parser, int operation, bool *skipped) {
    *skipped = jinja_at_operator(parser, operation);
    return !*skipped || jinja_advance(parser);
}

bool jinja_skip_name(struct jinja_parser *parser, const char *name, bool *skipped) {
    *skipped = jinja_at_name(parser, name);
    return !*skipped || jinja_advance(parser);
}

bool jinja_need_operator(struct jinja_parser *parser, int operation, const char *shown) {
    bool skipped;
    if (!jinja_skip_operator(parser, operation, &skipped))
        return false;
    return skipped || jinja_expected(parser, shown);
}

bool jinja_need_name(struct jinja_parser *parser, struct jinja_string *name) {
    if (parser->token.kind != JINJA_TOKEN_NAME)
        return jinja_expected(parser, "a name");
    *name = parser->token.text;
    return jinja_advance(parser);
}

bool jinja_next_item(struct jinja_parser *parser, int close, bool *is_first, bool *more) {
    if (!*is_first && !jinja_at_operator(parser, close) && !jinja_need_operator(parser, ',', "','"))
        return false;
    *is_first = false;
    *more = !jinja_at_operator(parser, close);
    return *more || jinja_advance(parser);
}

static bool need_tag_end(struct jinja_parser *parser) {
    if (parser->token.kind != JINJA_TOKEN_TAG_END)
        return jinja_expected(parser, "'%}'");
    return jinja_advance(parser);
}

static bool parse_statement(struct jinja_parser *parser, struct jinja_node **node);

/* Statements until a tag with one of the names in `ends` (separated by spaces), whose
 * name is then the current token; NULL: until the template's end. `tag` is what is being
 * closed, for the sentence. */
static bool parse_body(struct jinja_parser *parser, const char *tag, const char *ends, struct jinja_node **list) {
    unsigned line = parser->token.line;
    *list = NULL;
    for (;;) {
        const struct jinja_token *token = &parser->token;
        if (token->kind == JINJA_TOKEN_END) {
            parser->run->line = line;
            return !ends || jinja_fail(parser->run, "{%% %s %%} has no end", tag);
        }
        if (token->kind == JINJA_TOKEN_TEXT) {
            if (token->text.size) {
                if (!(*list = jinja_node_new(parser, JINJA_TEXT)))
                    return false;
                (*list)->value = jinja_text(token->text);
                list = &(*list)->next;
            }
            if (!jinja_advance(parser))
                return false;
        } else if (token->kind == JINJA_TOKEN_PRINT) {
            if (!(*list = jinja_node_new(parser, JINJA_PRINT)) || !jinja_advance(parser)
                || !jinja_parse_tuple(parser, true, &(*list)->first))
                return false;
            if (parser->token.kind != JINJA_TOKEN_PRINT_END)
                return jinja_expected(parser, "'}}'");
            list = &(*list)->next;
            if (!jinja_advance(parser))
                return false;
        } else {
            if (!jinja_advance(parser))
                return false;
            if (token->kind != JINJA_TOKEN_NAME)
                return jinja_expected(parser, "a tag's name");
            for (const char *end = ends; end && *end; end += strcspn(end, " "), end += *end == ' ')
                if (jinja_string_equal(token->text, (struct jinja_string){ end, strcspn(end, " ") }))
                    return true;
            if (!parse_statement(parser, list))
                return false;
            list = &(*list)->next;
        }
    }
}

/* The body and its {% endNAME %}. The current token is the end of the opening tag. */
static bool parse_block(struct jinja_parser *parser, const char *tag, const char *end, struct jinja_node **list) {
    return need_tag_end(parser) && parse_body(parser, tag, end, list) && jinja_advance(parser) && need_tag_end(parser);
}

static bool parse_for(struct jinja_parser *parser, struct jinja_node *node) {
    bool skipped;
    node->kind = JINJA_FOR;
    if (!jinja_parse_target(parser, false, &node->first) || !jinja_skip_name(parser, "in", &skipped))
        return false;
    if (!skipped)
        return jinja_expected(parser, "'in'");
    if (!jinja_parse_tuple(parser, false, &node->second) || !jinja_skip_name(parser, "if", &skipped)
        || (skipped && !jinja_parse_expression(parser, &node->third))
        || !jinja_skip_name(parser, "recursive", &node->flag) || !need_tag_end(parser))
        return false;
    parser->loops++;
    bool good = parse_body(parser, "for", "else endfor", &node->list);
    parser->loops--;
    if (!good || !jinja_skip_name(parser, "else", &skipped))
        return false;
    if (skipped && (!need_tag_end(parser) || !parse_body(parser, "for", "endfor", &node->other)))
        return false;
    return jinja_advance(parser) && need_tag_end(parser);
}

static bool parse_if(struct jinja_parser *parser, struct jinja_node *node) {
    node->kind = JINJA_IF;
    struct jinja_node **end = &node->list;
    bool is_else = false;
    do {
        if (!(*end = jinja_node_new(parser, JINJA_BRANCH)))
            return false;
        if (!is_else && !jinja_parse_tuple(parser, true, &(*end)->first))
            return false;
        if (!need_tag_end(parser) || !parse_body(parser, "if", is_else ? "endif" : "elif else endif", &(*end)->list))
            return false;
        end = &(*end)->next;
        is_else = jinja_at_name(parser, "else");
        if (jinja_at_name(parser, "endif"))
            break;
    } while (jinja_advance(parser));
    return jinja_advance(parser) && need_tag_end(parser);
}

static bool parse_set(struct jinja_parser *parser, struct jinja_node *node) {
    bool has_value;
    if (!jinja_parse_target(parser, true, &node->first) || !jinja_skip_operator(parser, '=', &has_value))
        return false;
    node->kind = has_value ? JINJA_SET : JINJA_SET_BLOCK;
    if (has_value)
        return jinja_parse_tuple(parser, true, &node->second) && need_tag_end(parser);
    return (node->second = jinja_node_new(parser, JINJA_CAPTURED)) && jinja_parse_filters(parser, &node->second)
        && parse_block(parser, "set", "endset", &node->list);
}

/* "(a, b=1)", where there is one. */
static bool parse_parameters(struct jinja_parser *parser, struct jinja_node **list) {
    bool skipped, is_first = true, more;
    if (!jinja_at_operator(parser, '('))
        return true;
    if (!jinja_advance(parser))
        return false;
    for (;;) {
        if (!jinja_next_item(parser, ')', &is_first, &more))
            return false;
        if (!more)
            return true;
        if (!(*list = jinja_node_new(parser, JINJA_PARAMETER)) || !jinja_need_name(parser, &(*list)->name)
            || !jinja_skip_operator(parser, '=', &skipped)
            || (skipped && !jinja_parse_expression(parser, &(*list)->first)))
            return false;
        list = &(*list)->next;
    }
}

/* The body of something that is called: no loop around it can be left from inside. */
static bool parse_called_body(struct jinja_parser *parser, const char *tag, const char *end, struct jinja_node *node) {
    unsigned loops = parser->loops;
    parser->loops = 0;
    bool good = parse_block(parser, tag, end, &node->other);
    parser->loops = loops;
    return good;
}

static bool parse_macro(struct jinja_parser *parser, struct jinja_node *node) {
    node->kind = JINJA_DEFINE;
    return jinja_need_name(parser, &node->name) && parse_parameters(parser, &node->list)
        && parse_called_body(parser, "macro", "endmacro", node);
}

static bool parse_call_block(struct jinja_parser *parser, struct jinja_node *node) {
    node->kind = JINJA_CALL_BLOCK;
    node->name = jinja_literal("caller");
    if (!parse_parameters(parser, &node->list) || !jinja_parse_expression(parser, &node->first))
        return false;
    if (node->first->kind != JINJA_CALL)
        return jinja_expected(parser, "a call");
    return parse_called_body(parser, "call", "endcall", node);
}

static bool parse_filter_block(struct jinja_parser *parser, struct jinja_node *node) {
    node->kind = JINJA_FILTER_BLOCK;
    /* "{% filter a | b %}": the bar before the first filter is not written. */
    parser->ahead = parser->token;
    parser->has_ahead = true;
    parser->token = (struct jinja_token){ .kind = JINJA_TOKEN_OPERATOR, .line = node->line, .operation = '|' };
    return (node->second = jinja_node_new(parser, JINJA_CAPTURED)) && jinja_parse_filters(parser, &node->second)
        && parse_block(parser, "filter", "endfilter", &node->list);
}

static bool parse_with(struct jinja_parser *parser, struct jinja_node *node) {
    node->kind = JINJA_WITH;
    struct jinja_node **end = &node->list;
    while (parser->token.kind != JINJA_TOKEN_TAG_END) {
        if (end != &node->list && !jinja_need_operator(parser, ',', "','"))
            return false;
        if (!(*end = jinja_node_new(parser, JINJA_SET)) || !((*end)->first = jinja_node_new(parser, JINJA_NAME))
            || !jinja_need_name(parser, &(*end)->first->name) || !jinja_need_operator(parser, '=', "'='")
            || !jinja_parse_expression(parser, &(*end)->second))
            return false;
        end = &(*end)->next;
    }
    return parse_block(parser, "with", "endwith", &node->other);
}

static bool parse_generation(struct jinja_parser *parser, struct jinja_node *node) {
    node->kind = JINJA_BODY;
    node->flag = true;
    return parse_block(parser, "generation", "endgeneration", &node->list);
}

static bool parse_jump(struct jinja_parser *parser, struct jinja_node *node) {
    bool is_break = node->kind == JINJA_BREAK;
    if (!parser->loops)
        return jinja_fail(parser->run, "{%% %s %%} stands outside of a loop", is_break ? "break" : "continue");
    return need_tag_end(parser);
}

static bool parse_tag(struct jinja_parser *parser, struct jinja_node **node) {
    static const struct {
        const char *name;
        enum jinja_node_kind kind;      /* as far as the parser does not decide it */
        bool (*parse)(struct jinja_parser *, struct jinja_node *);
    } tags[] = {
        { "for", JINJA_FOR, parse_for }, { "if", JINJA_IF, parse_if }, { "set", JINJA_SET, parse_set },
        { "macro", JINJA_DEFINE, parse_macro }, { "call", JINJA_CALL_BLOCK, parse_call_block },
        { "filter", JINJA_FILTER_BLOCK, parse_filter_block }, { "with", JINJA_WITH, parse_with },
        { "generation", JINJA_BODY, parse_generation }, { "break", JINJA_BREAK, parse_jump },
        { "continue", JINJA_CONTINUE, parse_jump },
    };
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++)
        if (jinja_at_name(parser, tags[i].name))
            return (*node = jinja_node_new(parser, tags[i].kind)) && jinja_advance(parser)
                && tags[i].parse(parser, *node);
    struct jinja_string name = parser->token.text;
    parser->run->line = parser->token.line;
    if (jinja_string_is(name, "else") || jinja_string_is(name, "elif") || (name.size > 3 && !memcmp(name.bytes, "end", 3)))
        return jinja_fail(parser->run, "{%% %.*s %%} has nothing that it belongs to", JINJA_SHOWN(name));
    return jinja_unsupported(parser->run, "the tag", name);
}

static bool parse_statement(struct jinja_parser *parser, struct jinja_node **node) {
    bool good = jinja_enter(parser->run) && parse_tag(parser, node);
    jinja_leave(parser->run);
    return good;
}

bool jinja_parse(struct jinja *run, struct jinja_string source, struct jinja_node **body) {
    struct jinja_parser parser = {
        .run = run, .lexer = { .source = source, .line = 1, .at_line_start = true },
    };
    return jinja_advance(&parser) && parse_body(&parser, "", NULL, body);
}
