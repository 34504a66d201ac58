/* jinja_syntax: a template as tokens and as a tree, and what runs the tree. */
#ifndef RUNTIME_JINJA_SYNTAX_H
#define RUNTIME_JINJA_SYNTAX_H

#include "runtime/jinja_library.h"
#include "runtime/jinja_value.h"

/* Operators of one character are that character. */
enum jinja_operator {
    JINJA_POWER = 256, JINJA_FLOOR, JINJA_EQUAL, JINJA_NOT_EQUAL, JINJA_LESS_EQUAL, JINJA_GREATER_EQUAL,
    JINJA_IN, JINJA_NOT_IN
};

enum jinja_token_kind {
    JINJA_TOKEN_TEXT,            /* outside of tags */
    JINJA_TOKEN_PRINT,           /* {{ */
    JINJA_TOKEN_PRINT_END,
    JINJA_TOKEN_TAG,             /* {% */
    JINJA_TOKEN_TAG_END,
    JINJA_TOKEN_NAME,
    JINJA_TOKEN_CONSTANT,        /* a string or a number */
    JINJA_TOKEN_OPERATOR,
    JINJA_TOKEN_END
};

struct jinja_token {
    enum jinja_token_kind kind;
    unsigned line;
    int operation;
    struct jinja_string text;    /* text or name; of others as written */
    struct jinja_value value;    /* of a constant */
};

enum jinja_mode { JINJA_IN_TEXT, JINJA_IN_PRINT, JINJA_IN_TAG };

struct jinja_lexer {
    struct jinja_string source;  /* valid UTF-8, lines end with \n */
    size_t position;
    size_t counted;              /* bytes whose lines are in `line` */
    unsigned line;
    enum jinja_mode mode;
    unsigned brackets;           /* open ones inside a tag: its end is not looked for in them */
    bool tag_is_due;             /* {{ or {% was passed, its token is to follow */
    bool at_line_start;          /* the last tag ended with a line's end that it swallowed */
};

bool jinja_next_token(struct jinja *run, struct jinja_lexer *lexer, struct jinja_token *token);

/* A node and which of its members it uses. Lists are linked by `next`. */
enum jinja_node_kind {
    /* statements */
    JINJA_TEXT,          /* value */
    JINJA_PRINT,         /* first */
    JINJA_FOR,           /* first: target, second: items, third: filter or NULL, list: body, other: else, flag: recursive */
    JINJA_IF,            /* list of BRANCH */
    JINJA_BRANCH,        /* first: condition or NULL, list: body */
    JINJA_SET,           /* first: target, second: value */
    JINJA_SET_BLOCK,     /* first: target, second: filters around CAPTURED, list: body */
    JINJA_FILTER_BLOCK,  /* second: filters around CAPTURED, list: body */
    JINJA_DEFINE,        /* a macro. name, list of PARAMETER, other: body */
    JINJA_CALL_BLOCK,    /* first: call, list of PARAMETER, other: body */
    JINJA_WITH,          /* list of SET, other: body */
    JINJA_BODY,          /* list; flag: a scope of its own */
    JINJA_BREAK,
    JINJA_CONTINUE,
    JINJA_PARAMETER,     /* name, first: default or NULL */
    /* expressions */
    JINJA_CONSTANT,      /* value */
    JINJA_CAPTURED,      /* value, set by the statement around it */
    JINJA_NAME,          /* name */
    JINJA_MAKE_LIST,     /* list */
    JINJA_MAKE_TUPLE,    /* list */
    JINJA_MAKE_DICT,     /* list: key, value, key, ... */
    JINJA_NOT,           /* first */
    JINJA_SIGN,          /* operation, first */
    JINJA_BINARY,        /* operation, first, second */
    JINJA_COMPARE,       /* first, list of COMPARISON */
    JINJA_COMPARISON,    /* operation, first */
    JINJA_AND,           /* first, second */
    JINJA_OR,            /* first, second */
    JINJA_JOIN,          /* list: a ~ b ~ c */
    JINJA_CONDITION,     /* first: condition, second: then, third: else or NULL */
    JINJA_ATTRIBUTE,     /* first, name */
    JINJA_SUBSCRIPT,     /* first, second */
    JINJA_SLICE,         /* first: value; second, third, other: bounds or NULL */
    JINJA_CALL,          /* first, list of ARGUMENT */
    JINJA_FILTER,        /* name, first, list of ARGUMENT */
    JINJA_TEST,          /* name, first, list of ARGUMENT */
    JINJA_ARGUMENT       /* first; name of a keyword; operation '*' or JINJA_POWER for * and ** */
};

struct jinja_node {
    enum jinja_node_kind kind;
    unsigned line;
    int operation;
    bool flag;
    struct jinja_string name;
    struct jinja_value value;
    struct jinja_node *first, *second, *third;
    struct jinja_node *list, *other;
    struct jinja_node *next;
};

struct jinja_parser {
    struct jinja *run;
    struct jinja_lexer lexer;
    struct jinja_token token;    /* the current one */
    struct jinja_token ahead;    /* the one after it, where has_ahead */
    bool has_ahead;
    unsigned loops;              /* around the current statement */
};

/* A template's statements; NULL body for an empty one. */
bool jinja_parse(struct jinja *run, struct jinja_string source, struct jinja_node **body);

/* Between jinja_parser.c (statements) and jinja_expression.c. `node` is set. */
struct jinja_node *jinja_node_new(struct jinja_parser *parser, enum jinja_node_kind kind);
bool jinja_advance(struct jinja_parser *parser);
bool jinja_look_ahead(struct jinja_parser *parser);
bool jinja_expected(struct jinja_parser *parser, const char *what);      /* false, with the sentence */
bool jinja_at_operator(const struct jinja_parser *parser, int operation);
bool jinja_at_name(const struct jinja_parser *parser, const char *name);
bool jinja_skip_operator(struct jinja_parser *parser, int operation, bool *skipped);
bool jinja_skip_name(struct jinja_parser *parser, const char *name, bool *skipped);
bool jinja_need_operator(struct jinja_parser *parser, int operation, const char *shown);
bool jinja_need_name(struct jinja_parser *parser, struct jinja_string *name);
/* In a list up to `close`: past the comma before the next item, which the first one (*is_first) has
 * not; a comma may follow the last one. *more is false at its end, which is passed then. */
bool jinja_next_item(struct jinja_parser *parser, int close, bool *is_first, bool *more);
bool jinja_parse_expression(struct jinja_parser *parser, struct jinja_node **node);
/* Expressions separated by commas; `with_conditions` false leaves an `if` for the caller. */
bool jinja_parse_tuple(struct jinja_parser *parser, bool with_conditions, struct jinja_node **node);
bool jinja_parse_target(struct jinja_parser *parser, bool with_attributes, struct jinja_node **node);
/* "| a | b(c)" around `node`. */
bool jinja_parse_filters(struct jinja_parser *parser, struct jinja_node **node);

/* Variables: those of a scope hide those of its parents. */
struct jinja_scope {
    struct jinja_scope *parent;
    struct jinja_dict names;
};

struct jinja_macro {
    const struct jinja_node *definition;     /* DEFINE or CALL_BLOCK */
    struct jinja_scope *scope;               /* where it was defined */
};

struct jinja_loop {
    const struct jinja_node *statement;
    struct jinja_scope *scope;               /* around the loop */
    struct jinja_list *items;
    size_t index;
    unsigned level;                          /* 0 for the outermost of a recursive loop */
    struct jinja_value changed;              /* what changed() saw last */
};

enum jinja_flow { JINJA_GO_ON, JINJA_LEAVE_LOOP, JINJA_NEXT_ROUND };

bool jinja_run_body(struct jinja *run, const struct jinja_node *body, struct jinja_scope *scope,
                    enum jinja_flow *flow);
bool jinja_evaluate(struct jinja *run, const struct jinja_node *node, struct jinja_scope *scope,
                    struct jinja_value *out);
bool jinja_evaluate_arguments(struct jinja *run, const struct jinja_node *list, struct jinja_scope *scope,
                              struct jinja_arguments *out);
bool jinja_call(struct jinja *run, const struct jinja_value *callee, const struct jinja_arguments *arguments,
                struct jinja_value *out);
bool jinja_call_macro(struct jinja *run, const struct jinja_macro *macro, const struct jinja_arguments *arguments,
                      struct jinja_value *out);
bool jinja_call_loop(struct jinja *run, const struct jinja_loop *loop, const struct jinja_arguments *arguments,
                     struct jinja_value *out);
bool jinja_loop_attribute(struct jinja *run, const struct jinja_loop *loop, struct jinja_string name, bool *found,
                          struct jinja_value *out);
/* The built-in names, in the outermost scope. */
bool jinja_define_functions(struct jinja *run, struct jinja_scope *scope);

#endif
