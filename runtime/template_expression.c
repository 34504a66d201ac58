#include "runtime/template_run.h"

#include <string.h>
#include <time.h>

enum { DEPTH_LIMIT = 64, ARGUMENT_LIMIT = 8, STEP_LIMIT = 4 << 20 };

static const struct template_token *next(const struct template_run *run) {
    return &run->tokens[run->at];
}

static bool is_word(const struct template_token *token, const char *text) {
    return (token->kind == TOKEN_NAME || token->kind == TOKEN_OPERATOR)
        && name_is(token->text, token->length, text);
}

bool template_take(struct template_run *run, const char *text) {
    if (!is_word(next(run), text))
        return false;
    run->at++;
    return true;
}

bool template_fail_here(struct template_run *run) {
    const struct template_token *token = next(run);
    if (token->kind == TOKEN_END || token->kind == TOKEN_TEXT || token->kind == TOKEN_STRING)
        return error_set(run->err, ERROR_FAILED, "the chat template is not understood at %s",
                         token->kind == TOKEN_END ? "its end" : token->kind == TOKEN_TEXT ? "a text" : "a string");
    return error_set(run->err, ERROR_FAILED, "the chat template is not understood at '%.*s'",
                     token->length < 40 ? (int)token->length : 40, token->text);
}

bool template_expect(struct template_run *run, const char *text) {
    return template_take(run, text) || template_fail_here(run);
}

bool template_step(struct template_run *run) {
    return ++run->steps <= STEP_LIMIT
        || error_set(run->err, ERROR_FAILED, "the chat template takes too many steps");
}

bool variable_set(struct variable_list *list, unsigned scope, const char *name, size_t length,
                  const struct value *value, struct error *err) {
    for (unsigned i = scope; i < list->count; i++)
        if (list->list[i].length == length && memcmp(list->list[i].name, name, length) == 0) {
            list->list[i].value = *value;
            return true;
        }
    if (list->count == VARIABLE_LIMIT)
        return error_set(err, ERROR_FAILED, "the chat template has more than %d variables", VARIABLE_LIMIT);
    list->list[list->count++] = (struct variable){ name, length, *value };
    return true;
}

static const struct value *find_variable(const struct template_run *run, const struct template_token *name) {
    for (unsigned i = run->variables.count; i-- > 0;) {
        const struct variable *variable = &run->variables.list[i];
        if (variable->length == name->length && memcmp(variable->name, name->text, name->length) == 0)
            return &variable->value;
    }
    return NULL;
}

static const struct value undefined = { .kind = VALUE_UNDEFINED };

/* Arguments of a call, up to and with the closing parenthesis. Named ones go to
 * `named`, which may be NULL. */
static bool read_arguments(struct template_run *run, struct value *arguments, unsigned *count,
                           struct variable_list *named) {
    *count = 0;
    while (!template_take(run, ")")) {
        const struct template_token *name = next(run);
        bool is_named = name->kind == TOKEN_NAME && is_word(name + 1, "=");
        if (is_named)
            run->at += 2;
        struct value value;
        if (!template_expression(run, &value))
            return false;
        if (is_named && named) {
            if (!variable_set(named, 0, name->text, name->length, &value, run->err))
                return false;
        } else if (is_named && run->live) {
            return error_set(run->err, ERROR_FAILED, "the chat template uses the argument '%.*s', which is not "
                             "supported", name->length < 40 ? (int)name->length : 40, name->text);
        } else if (!is_named) {
            if (*count == ARGUMENT_LIMIT)
                return template_fail_here(run);
            arguments[(*count)++] = value;
        }
        if (!template_take(run, ",") && !is_word(next(run), ")"))
            return template_fail_here(run);
    }
    return true;
}

static bool format_now(struct template_run *run, const struct value *format, struct value *result) {
    char *text = arena_take(run->arena, 128, run->err);
    time_t now = time(NULL);
    struct tm fields;
    if (!text)
        return false;
    localtime_r(&now, &fields);
    *result = value_string(text, strftime(text, 128, format->text, &fields));
    return true;
}

static bool call_function(struct template_run *run, const struct template_token *name, struct value *result) {
    struct variable_list *named = NULL;
    struct value arguments[ARGUMENT_LIMIT];
    unsigned count;
    if (run->live && name_is(name->text, name->length, "namespace")) {
        named = arena_take(run->arena, sizeof *named, run->err);
        if (!named)
            return false;
        named->count = 0;
    }
    if (!read_arguments(run, arguments, &count, named))
        return false;
    *result = undefined;
    if (!run->live)
        return true;
    bool has_text = count == 1 && arguments[0].kind == VALUE_STRING;
    if (named && !count) {
        *result = (struct value){ .kind = VALUE_SPACE, .variables = named };
        return true;
    }
    if (name_is(name->text, name->length, "raise_exception") && has_text)
        return error_set(run->err, ERROR_USAGE, "the chat template refuses this conversation: %.300s",
                         arguments[0].text);
    if (name_is(name->text, name->length, "strftime_now") && has_text)
        return format_now(run, &arguments[0], result);
    return error_set(run->err, ERROR_FAILED, "the chat template uses the function '%.*s', which is not supported",
                     name->length < 40 ? (int)name->length : 40, name->text);
}

static bool read_name(struct template_run *run, struct value *result) {
    const struct template_token *name = &run->tokens[run->at++];
    static const struct { const char *name; enum value_kind kind; int64_t number; } constants[] = {
        { "true", VALUE_BOOL, 1 }, { "True", VALUE_BOOL, 1 }, { "false", VALUE_BOOL, 0 },
        { "False", VALUE_BOOL, 0 }, { "none", VALUE_NONE, 0 }, { "None", VALUE_NONE, 0 },
    };
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (is_word(name, constants[i].name)) {
            *result = (struct value){ .kind = constants[i].kind, .number = constants[i].number };
            return true;
        }
    if (template_take(run, "("))
        return call_function(run, name, result);
    const struct value *found = find_variable(run, name);
    *result = found && run->live ? *found : undefined;
    /* The reference knows more special tokens than we are told of. */
    if (run->live && !found && name->length > 6 && memcmp(name->text + name->length - 6, "_token", 6) == 0)
        return error_set(run->err, ERROR_FAILED, "the chat template uses '%.*s', which is not supported",
                         name->length < 40 ? (int)name->length : 40, name->text);
    return true;
}

/* [a, b, c]; the opening bracket is taken. */
static bool read_list(struct template_run *run, struct value *result) {
    struct value items[ARGUMENT_LIMIT];
    size_t count = 0;
    while (!template_take(run, "]")) {
        if (count == ARGUMENT_LIMIT)
            return template_fail_here(run);
        if (!template_expression(run, &items[count++]))
            return false;
        if (!template_take(run, ",") && !is_word(next(run), "]"))
            return template_fail_here(run);
    }
    struct value *copy = arena_take(run->arena, count * sizeof *copy, run->err);
    if (!copy)
        return false;
    memcpy(copy, items, count * sizeof *copy);
    *result = (struct value){ .kind = VALUE_LIST, .number = (int64_t)count, .items = copy };
    return true;
}

static bool read_primary(struct template_run *run, struct value *result) {
    const struct template_token *token = next(run);
    if (!template_step(run))
        return false;
    if (token->kind == TOKEN_NAME)
        return read_name(run, result);
    if (token->kind == TOKEN_NUMBER) {
        run->at++;
        *result = value_number(token->number);
        return true;
    }
    if (token->kind == TOKEN_STRING) {   /* neighbours are one string */
        run->at++;
        *result = value_string(token->text, token->length);
        for (; next(run)->kind == TOKEN_STRING; run->at++) {
            struct value more = value_string(next(run)->text, next(run)->length);
            if (!value_add(result, &more, run->arena, result, run->err))
                return false;
        }
        return true;
    }
    if (template_take(run, "["))
        return read_list(run, result);
    return template_expect(run, "(") && template_expression(run, result) && template_expect(run, ")");
}

/* [index] or [start:stop:step]; the opening bracket is taken. */
static bool read_subscript(struct template_run *run, struct value *value) {
    struct value bounds[3] = { undefined, undefined, undefined };
    unsigned colons = 0;
    while (!template_take(run, "]")) {
        if (template_take(run, ":")) {
            if (++colons > 2)
                return template_fail_here(run);
        } else if (!template_expression(run, &bounds[colons])) {
            return false;
        } else if (!is_word(next(run), ":") && !is_word(next(run), "]")) {
            return template_fail_here(run);
        }
    }
    struct value from = *value;
    *value = undefined;
    if (!run->live)
        return true;
    return colons ? value_slice(&from, bounds, run->arena, value, run->err)
        : value_item(&from, &bounds[0], value, run->err);
}

/* .name or .name(arguments), |name or |name(arguments); the sign is taken. */
static bool read_suffix(struct template_run *run, bool is_filter, struct value *value) {
    const struct template_token *name = next(run);
    if (name->kind != TOKEN_NAME)
        return template_fail_here(run);
    run->at++;
    struct value arguments[ARGUMENT_LIMIT], from = *value;
    unsigned count = 0;
    bool is_call = template_take(run, "(");
    if (is_call && !read_arguments(run, arguments, &count, NULL))
        return false;
    *value = undefined;
    if (!run->live)
        return true;
    if (is_filter)
        return value_filter(&from, name->text, name->length, arguments, count, run->arena, value, run->err);
    return is_call ? value_method(&from, name->text, name->length, arguments, count, run->arena, value, run->err)
        : value_member(&from, name->text, name->length, value, run->err);
}

static bool read_test(struct template_run *run, struct value *value) {
    bool negated = template_take(run, "not");
    const struct template_token *name = next(run);
    bool result = false;
    if (name->kind != TOKEN_NAME)
        return template_fail_here(run);
    run->at++;
    if (run->live && !value_test(value, name->text, name->length, &result, run->err))
        return false;
    *value = value_bool(result != negated);
    return true;
}

static bool read_unary(struct template_run *run, struct value *result) {
    if (template_take(run, "-")) {
        if (++run->depth > DEPTH_LIMIT)
            return template_fail_here(run);
        bool ok = read_unary(run, result);
        run->depth--;
        if (ok && run->live && result->kind != VALUE_NUMBER)
            return error_set(run->err, ERROR_FAILED, "the chat template negates what is not a number");
        result->number = result->number == INT64_MIN ? 0 : -result->number;
        return ok;
    }
    if (!read_primary(run, result))
        return false;
    for (;;) {
        bool ok;
        if (template_take(run, "."))
            ok = read_suffix(run, false, result);
        else if (template_take(run, "|"))
            ok = read_suffix(run, true, result);
        else if (template_take(run, "["))
            ok = read_subscript(run, result);
        else if (template_take(run, "is"))
            ok = read_test(run, result);
        else
            return true;
        if (!ok)
            return false;
    }
}

/* Division and remainder as Python has them: towards minus infinity. */
static bool multiply(struct template_run *run, char sign, struct value *left, const struct value *right) {
    int64_t a = left->number, b = right->number, result = 0;
    if (left->kind != VALUE_NUMBER || right->kind != VALUE_NUMBER)
        return error_set(run->err, ERROR_FAILED, "the chat template calculates with what is not a number");
    if (sign == '*') {
        if (__builtin_mul_overflow(a, b, &result))
            return error_set(run->err, ERROR_FAILED, "the chat template counts too far");
    } else if (b == 0 || (a == INT64_MIN && b == -1)) {
        return error_set(run->err, ERROR_FAILED, "the chat template divides by zero");
    } else {
        int64_t rest = a % b;
        bool adjust = rest && (rest < 0) != (b < 0);
        result = sign == '%' ? rest + (adjust ? b : 0) : a / b - adjust;
    }
    *left = value_number(result);
    return true;
}

static bool read_product(struct template_run *run, struct value *result) {
    if (!read_unary(run, result))
        return false;
    for (;;) {
        char sign = template_take(run, "*") ? '*' : template_take(run, "%") ? '%'
            : template_take(run, "//") ? '/' : '\0';
        struct value right;
        if (!sign)
            return true;
        if (!read_unary(run, &right) || (run->live && !multiply(run, sign, result, &right)))
            return false;
    }
}

/* a ~ b: both as text. */
static bool read_concatenation(struct template_run *run, struct value *result) {
    if (!read_product(run, result))
        return false;
    while (template_take(run, "~")) {
        struct value right;
        if (!read_product(run, &right))
            return false;
        if (!run->live)
            continue;
        struct text joined;
        text_init(&joined);
        char *copy = NULL;
        if (value_print(result, &joined, run->err) && value_print(&right, &joined, run->err))
            copy = arena_take(run->arena, joined.length + 1, run->err);
        if (copy) {
            memcpy(copy, joined.bytes, joined.length + 1);
            *result = value_string(copy, joined.length);
        }
        text_release(&joined);
        if (!copy)
            return false;
    }
    return true;
}

static bool read_sum(struct template_run *run, struct value *result) {
    if (!read_concatenation(run, result))
        return false;
    for (;;) {
        bool minus = template_take(run, "-");
        if (!minus && !template_take(run, "+"))
            return true;
        struct value right;
        if (!read_concatenation(run, &right))
            return false;
        if (!run->live)
            continue;
        if (minus && (result->kind != VALUE_NUMBER || right.kind != VALUE_NUMBER))
            return error_set(run->err, ERROR_FAILED, "the chat template calculates with what is not a number");
        if (minus && __builtin_sub_overflow(result->number, right.number, &result->number))
            return error_set(run->err, ERROR_FAILED, "the chat template counts too far");
        if (!minus && !value_add(result, &right, run->arena, result, run->err))
            return false;
    }
}

static bool compare(struct template_run *run, const char *sign, const struct value *left,
                    const struct value *right, bool *result) {
    if (strcmp(sign, "==") == 0 || strcmp(sign, "!=") == 0) {
        *result = value_equals(left, right) == (sign[0] == '=');
        return true;
    }
    if (strcmp(sign, "in") == 0)
        return value_contains(right, left, result, run->err);
    if (left->kind != VALUE_NUMBER || right->kind != VALUE_NUMBER)
        return error_set(run->err, ERROR_FAILED, "the chat template compares what are not numbers");
    int64_t a = left->number, b = right->number;
    *result = sign[0] == '<' ? (sign[1] ? a <= b : a < b) : (sign[1] ? a >= b : a > b);
    return true;
}

static bool read_comparison(struct template_run *run, struct value *result) {
    static const char *const signs[] = { "==", "!=", "<=", ">=", "<", ">", "in" };
    if (!read_sum(run, result))
        return false;
    const char *sign = NULL;
    bool negated = is_word(next(run), "not") && is_word(next(run) + 1, "in");
    run->at += negated;
    for (size_t i = 0; i < sizeof signs / sizeof *signs && !sign; i++)
        if (template_take(run, signs[i]))
            sign = signs[i];
    if (!sign)
        return true;
    struct value right;
    bool holds = false;
    if (!read_sum(run, &right) || (run->live && !compare(run, sign, result, &right, &holds)))
        return false;
    *result = value_bool(holds != negated);
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if (is_word(next(run), signs[i]))   /* a < b < c */
            return template_fail_here(run);
    return true;
}

static bool read_not(struct template_run *run, struct value *result) {
    bool negated = false, any = false;
    while (template_take(run, "not")) {
        negated = !negated;
        any = true;
    }
    if (!read_comparison(run, result))
        return false;
    if (any)
        *result = value_bool(value_is_true(result) != negated);
    return true;
}

/* `and` and `or` give one of their operands; the second is not evaluated where the
 * first decides. */
static bool read_and(struct template_run *run, struct value *result) {
    if (!read_not(run, result))
        return false;
    while (template_take(run, "and")) {
        bool live = run->live, decided = !value_is_true(result);
        struct value right;
        run->live = live && !decided;
        bool ok = read_not(run, &right);
        run->live = live;
        if (!ok)
            return false;
        if (!decided)
            *result = right;
    }
    return true;
}

bool template_operand(struct template_run *run, struct value *result) {
    if (!read_and(run, result))
        return false;
    while (template_take(run, "or")) {
        bool live = run->live, decided = value_is_true(result);
        struct value right;
        run->live = live && !decided;
        bool ok = read_and(run, &right);
        run->live = live;
        if (!ok)
            return false;
        if (!decided)
            *result = right;
    }
    return true;
}

/* a if condition else b. The condition comes second, so `a` is read twice. */
static bool read_choice(struct template_run *run, struct value *result) {
    bool live = run->live;
    size_t start = run->at;
    run->live = false;
    bool ok = template_operand(run, result);
    run->live = live;
    if (!ok)
        return false;
    size_t behind = run->at;
    if (!template_take(run, "if")) {
        if (!live)
            return true;
        run->at = start;
        return template_operand(run, result) && (run->at == behind || template_fail_here(run));
    }
    struct value condition;
    if (!template_operand(run, &condition))
        return false;
    bool holds = value_is_true(&condition);
    if (live && holds) {
        size_t after = run->at;
        run->at = start;
        if (!template_operand(run, result))
            return false;
        run->at = after;
    }
    if (!template_take(run, "else")) {
        if (!holds)
            *result = undefined;
        return true;
    }
    struct value other;
    run->live = live && !holds;
    ok = template_expression(run, &other);
    run->live = live;
    if (ok && !holds)
        *result = other;
    return ok;
}

bool template_expression(struct template_run *run, struct value *result) {
    *result = undefined;
    if (++run->depth > DEPTH_LIMIT)
        return template_fail_here(run);
    bool ok = read_choice(run, result);
    run->depth--;
    return ok;
}
