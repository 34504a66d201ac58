/* The statements of a chat template: text, {{ }}, if, for, set. */
#include "runtime/template_run.h"

#include <string.h>

enum { BLOCK_DEPTH_LIMIT = 32, OUTPUT_LIMIT = 64 << 20 };

static bool run_statements(struct template_run *run);

static const struct template_token *next(const struct template_run *run) {
    return &run->tokens[run->at];
}

static bool expect_kind(struct template_run *run, enum token_kind kind) {
    if (next(run)->kind != kind)
        return template_fail_here(run);
    run->at++;
    return true;
}

/* At "{% name": one of those that end a list of statements? */
static bool is_ending(const struct template_run *run) {
    static const char *const names[] = { "elif", "else", "endif", "endfor", "endgeneration" };
    const struct template_token *name = next(run) + 1;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (name->kind == TOKEN_NAME && name_is(name->text, name->length, names[i]))
            return true;
    return false;
}

/* Take "{% name"; false without a sentence where it is another. */
static bool take_block(struct template_run *run, const char *name) {
    const struct template_token *token = next(run);
    if (token->kind != TOKEN_BLOCK || token[1].kind != TOKEN_NAME
        || !name_is(token[1].text, token[1].length, name))
        return false;
    run->at += 2;
    return true;
}

static bool run_print(struct template_run *run) {
    struct value value;
    if (!template_expression(run, &value) || !expect_kind(run, TOKEN_PRINT_END))
        return false;
    return !run->live || value_print(&value, run->out, run->err);
}

/* "{% if" is taken. Each branch is passed through; the first whose condition holds
 * is live. */
static bool run_if(struct template_run *run) {
    bool live = run->live, waiting = live;
    for (bool is_else = false; ; ) {
        struct value condition = value_bool(true);
        run->live = waiting;
        if ((!is_else && !template_expression(run, &condition)) || !expect_kind(run, TOKEN_BLOCK_END))
            return false;
        bool holds = waiting && value_is_true(&condition);
        run->live = holds;
        waiting = waiting && !holds;
        if (!run_statements(run))
            return false;
        if (take_block(run, "endif"))
            break;
        if (is_else || !(take_block(run, "elif") || (is_else = take_block(run, "else"))))
            return template_fail_here(run);
    }
    run->live = live;
    return expect_kind(run, TOKEN_BLOCK_END);
}

/* "{% set" is taken: a name, or a member of a namespace. */
static bool run_set(struct template_run *run) {
    const struct template_token *name = next(run), *member = NULL;
    if (!expect_kind(run, TOKEN_NAME))
        return false;
    if (template_take(run, ".")) {
        member = next(run);
        if (!expect_kind(run, TOKEN_NAME))
            return false;
    }
    struct value value;
    if (!template_expect(run, "=") || !template_expression(run, &value) || !expect_kind(run, TOKEN_BLOCK_END))
        return false;
    if (!run->live)
        return true;
    if (!member)
        return variable_set(&run->variables, run->scope, name->text, name->length, &value, run->err);
    for (unsigned i = run->variables.count; i-- > 0;) {
        const struct variable *variable = &run->variables.list[i];
        if (variable->length == name->length && memcmp(variable->name, name->text, name->length) == 0
            && variable->value.kind == VALUE_SPACE)
            return variable_set(variable->value.variables, 0, member->text, member->length, &value, run->err);
    }
    return error_set(run->err, ERROR_FAILED, "the chat template sets a member of what is no namespace");
}

struct loop {
    const struct template_token *name;
    struct value list;
    size_t body;           /* its first token */
};

static bool run_body(struct template_run *run, const struct loop *loop, int64_t index) {
    unsigned outer_scope = run->scope, outer_count = run->variables.count;
    struct value counter = { .kind = VALUE_LOOP, .number = index, .length = loop->list.number };
    run->scope = outer_count;
    run->at = loop->body;
    bool ok = template_step(run)
        && variable_set(&run->variables, run->scope, "loop", 4, &counter, run->err)
        && variable_set(&run->variables, run->scope, loop->name->text, loop->name->length,
                        &loop->list.items[index], run->err)
        && run_statements(run);
    run->scope = outer_scope;
    run->variables.count = outer_count;
    return ok;
}

/* Past the head of a loop that will not run, whatever it has in it. */
static void skip_head(struct template_run *run) {
    while (next(run)->kind != TOKEN_BLOCK_END && next(run)->kind != TOKEN_END)
        run->at++;
}

/* "{% for" is taken. */
static bool run_for(struct template_run *run) {
    bool live = run->live;
    struct loop loop = { .name = next(run), .list = { .kind = VALUE_LIST } };
    if (live) {
        if (!expect_kind(run, TOKEN_NAME) || !template_expect(run, "in") || !template_operand(run, &loop.list))
            return false;
        if (loop.list.kind != VALUE_LIST)
            return error_set(run->err, ERROR_FAILED, "the chat template loops over what is not a list");
    } else {
        skip_head(run);
    }
    if (!expect_kind(run, TOKEN_BLOCK_END))
        return false;
    loop.body = run->at;
    for (int64_t i = 0; live && i < loop.list.number; i++)
        if (!run_body(run, &loop, i))
            return false;
    bool is_empty = !live || loop.list.number == 0;
    run->live = false;
    if (is_empty && !run_statements(run))
        return false;
    if (take_block(run, "else")) {
        run->live = live && is_empty;
        if (!expect_kind(run, TOKEN_BLOCK_END) || !run_statements(run))
            return false;
    }
    run->live = live;
    return take_block(run, "endfor") ? expect_kind(run, TOKEN_BLOCK_END) : template_fail_here(run);
}

static bool run_block(struct template_run *run) {
    bool ok;
    if (++run->depth > BLOCK_DEPTH_LIMIT)
        return template_fail_here(run);
    if (take_block(run, "if"))
        ok = run_if(run);
    else if (take_block(run, "for"))
        ok = run_for(run);
    else if (take_block(run, "set"))
        ok = run_set(run);
    else if (take_block(run, "generation"))   /* marks what is trained on; prints nothing */
        ok = expect_kind(run, TOKEN_BLOCK_END) && run_statements(run)
            && (take_block(run, "endgeneration") || template_fail_here(run)) && expect_kind(run, TOKEN_BLOCK_END);
    else
        ok = error_set(run->err, ERROR_FAILED, "the chat template uses the statement '%.*s', which is not supported",
                       next(run)[1].length < 40 ? (int)next(run)[1].length : 40, next(run)[1].text);
    run->depth--;
    return ok;
}

/* Up to "{%" with an ending, or the end of the template. */
static bool run_statements(struct template_run *run) {
    for (;;) {
        const struct template_token *token = next(run);
        bool ok = template_step(run);
        if (ok && run->live && (run->out->failed || run->out->length > OUTPUT_LIMIT))
            ok = error_set(run->err, ERROR_FAILED, "the chat template writes too much");
        if (!ok)
            return false;
        switch (token->kind) {
        case TOKEN_TEXT:
            run->at++;
            if (run->live)
                text_append_bytes(run->out, token->text, token->length);
            break;
        case TOKEN_PRINT:
            run->at++;
            ok = run_print(run);
            break;
        case TOKEN_BLOCK:
            if (is_ending(run))
                return true;
            ok = run_block(run);
            break;
        case TOKEN_END:
            return true;
        default:
            ok = template_fail_here(run);
        }
        if (!ok)
            return false;
    }
}

bool template_run_all(struct template_run *run) {
    return run_statements(run) && (next(run)->kind == TOKEN_END || template_fail_here(run));
}
