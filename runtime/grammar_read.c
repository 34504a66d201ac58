/* The reader of GBNF: text to expressions. */
#include "runtime/grammar_parts.h"

#include "runtime/piece_table.h"
#include "runtime/unicode.h"

#include <stdlib.h>
#include <string.h>

#define MOST_DEPTH 200u          /* of groups in groups */
#define MOST_REPEATS 100000u
#define MOST_RULES 200000u

struct reader {
    struct grammar_source *source;
    const char *at, *end;
    const char *counted;         /* up to where `line` counts lines; never after the present rule */
    uint32_t line;
    struct piece_table names;    /* of the rules; an id is the rule's number */
    uint32_t *stack;             /* children of the expressions that are being read */
    uint32_t stack_count, stack_capacity, depth;
    struct error *err;
};

bool grammar_grow(void **array, uint32_t *capacity, uint32_t count, size_t size, bool *failed) {
    if (count < *capacity)
        return true;
    uint32_t wanted = *capacity ? 2 * *capacity : 64;
    void *longer = *failed || wanted > UINT32_MAX / 4 ? NULL : realloc(*array, wanted * size);
    if (!longer) {
        *failed = true;
        return false;
    }
    *array = longer;
    *capacity = wanted;
    return true;
}

static uint32_t add_expression(struct grammar_source *source, struct expression expression) {
    if (!grammar_grow((void **)&source->expressions, &source->expression_capacity, source->expression_count,
                      sizeof *source->expressions, &source->failed))
        return 0;
    expression.rule = NO_RULE;
    source->expressions[source->expression_count] = expression;
    return source->expression_count++;
}

uint32_t grammar_add_rule(struct grammar_source *source, const char *name, size_t length, uint32_t line) {
    char *copy = name ? strndup(name, length) : NULL;
    if ((name && !copy) || !grammar_grow((void **)&source->rules, &source->rule_capacity, source->rule_count,
                                         sizeof *source->rules, &source->failed)) {
        free(copy);
        source->failed = true;
        return 0;
    }
    source->rules[source->rule_count] = (struct grammar_rule){ copy, UINT32_MAX, line };
    return source->rule_count++;
}

void grammar_source_release(struct grammar_source *source) {
    for (uint32_t i = 0; i < source->rule_count; i++)
        free(source->rules[i].name);
    free(source->expressions);
    free(source->ranges);
    free(source->bytes);
    free(source->children);
    free(source->rules);
    *source = (struct grammar_source){ 0 };
}

/* ---- sentences ---- */

/* The line that is being read. */
static uint32_t line_of(struct reader *reader) {
    for (; reader->counted < reader->at; reader->counted++)
        reader->line += *reader->counted == '\n';
    return reader->line;
}

static bool refuse(struct reader *reader, const char *what) {
    return error_set(reader->err, ERROR_USAGE, "line %u of %s: %s", line_of(reader), reader->source->name, what);
}

static bool refuse_here(struct reader *reader, const char *what) {
    size_t length = (size_t)(reader->end - reader->at) < 20 ? (size_t)(reader->end - reader->at) : 20;
    length = utf8_valid_prefix(reader->at, length);
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)reader->at[i] < ' ')
            length = i;
    if (!length)
        return error_set(reader->err, ERROR_USAGE, "line %u of %s: %s, but the %s ends there",
                         line_of(reader), reader->source->name, what,
                         reader->at == reader->end ? "text" : "line");
    return error_set(reader->err, ERROR_USAGE, "line %u of %s: %s, not '%.*s'", line_of(reader),
                     reader->source->name, what, (int)length, reader->at);
}

/* ---- small things ---- */

static char peek(const struct reader *reader) {
    return reader->at < reader->end ? *reader->at : '\0';
}

/* White space and comments; line ends only where they mean nothing. */
static void skip_space(struct reader *reader, bool lines_too) {
    while (reader->at < reader->end) {
        char c = *reader->at;
        if (c == '#')
            while (reader->at < reader->end && *reader->at != '\n' && *reader->at != '\r')
                reader->at++;
        else if (c == ' ' || c == '\t' || (lines_too && (c == '\n' || c == '\r')))
            reader->at++;
        else
            break;
    }
}

static bool is_name_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static size_t name_length(const struct reader *reader) {
    size_t length = 0;
    while (reader->at + length < reader->end && is_name_char(reader->at[length]))
        length++;
    return length;
}

/* Whether a rule's head, `name ::=`, is next. */
static bool is_head(struct reader *reader) {
    const char *start = reader->at;
    size_t length = name_length(reader);
    reader->at += length;
    skip_space(reader, false);
    bool is = length && reader->end - reader->at >= 3 && memcmp(reader->at, "::=", 3) == 0;
    reader->at = start;
    return is;
}

static uint32_t find_rule(struct reader *reader, size_t length) {
    int32_t found = piece_table_find(&reader->names, reader->at, length);
    if (found >= 0)
        return (uint32_t)found;
    uint32_t rule = grammar_add_rule(reader->source, reader->at, length, line_of(reader));
    if (!reader->source->failed && !piece_table_add(&reader->names, (int32_t)rule, reader->at, length))
        reader->source->failed = true;
    return rule;
}

/* A character of a literal or a class, escapes resolved. */
static bool read_character(struct reader *reader, uint32_t *code) {
    if (*reader->at != '\\') {
        struct utf8_unit unit = utf8_next(reader->at, (size_t)(reader->end - reader->at));
        if (unit.state != UTF8_VALID)
            return refuse(reader, "this is no UTF-8");
        *code = unit.codepoint;
        reader->at += unit.length;
        return true;
    }
    char kind = reader->at + 1 < reader->end ? reader->at[1] : '\0';
    unsigned digits = kind == 'x' ? 2 : kind == 'u' ? 4 : kind == 'U' ? 8 : 0;
    static const char letters[] = "ntr\\\"[]^-/", meanings[] = "\n\t\r\\\"[]^-/";
    const char *letter = kind ? strchr(letters, kind) : NULL;
    if (!digits && !letter)
        return refuse_here(reader, "expected an escape: \\n \\t \\r \\\\ \\\" \\[ \\] \\xNN \\uNNNN \\UNNNNNNNN");
    *code = letter ? (unsigned char)meanings[letter - letters] : 0;
    for (unsigned i = 0; i < digits; i++) {
        int digit = reader->at + 2 + i < reader->end ? hex_digit(reader->at[2 + i]) : -1;
        if (digit < 0 || *code > UINT32_MAX >> 4)
            return refuse_here(reader, "expected hexadecimal digits after the escape");
        *code = *code << 4 | (uint32_t)digit;
    }
    if (*code > 0x10ffff || (*code >= 0xd800 && *code < 0xe000))
        return refuse_here(reader, "expected a character of Unicode");
    reader->at += 2 + digits;
    return true;
}

/* ---- elements ---- */

static bool add_literal(struct reader *reader, uint32_t *expression) {
    struct grammar_source *source = reader->source;
    struct expression literal = { .kind = EXPRESSION_LITERAL, .first = source->byte_count };
    struct text spelling;
    text_init(&spelling);
    bool ok = true;
    for (reader->at++; ok && peek(reader) != '"';) {
        uint32_t code;
        ok = (reader->at < reader->end && *reader->at != '\n') || refuse(reader, "a text in quotes has no end");
        ok = ok && read_character(reader, &code);
        if (ok)
            text_append_utf8(&spelling, code);
    }
    for (size_t i = 0; ok && i < spelling.length; i++)
        if (grammar_grow((void **)&source->bytes, &source->byte_capacity, source->byte_count, 1, &source->failed))
            source->bytes[source->byte_count++] = (uint8_t)spelling.bytes[i];
    source->failed |= spelling.failed;
    text_release(&spelling);
    if (!ok)
        return false;
    reader->at++;
    literal.count = source->byte_count - literal.first;
    *expression = add_expression(source, literal);
    return true;
}

static bool keep_class(struct reader *reader, const struct code_range *ranges, uint32_t count, bool negate,
                       uint32_t *expression) {
    struct grammar_source *source = reader->source;
    struct code_range *normal;
    uint32_t normal_count;
    struct expression class = { .kind = EXPRESSION_CLASS, .first = source->range_count };
    if (!code_ranges_normalize(ranges, count, negate, &normal, &normal_count)) {
        source->failed = true;
        return true;
    }
    for (uint32_t i = 0; i < normal_count; i++)
        if (grammar_grow((void **)&source->ranges, &source->range_capacity, source->range_count,
                         sizeof *source->ranges, &source->failed))
            source->ranges[source->range_count++] = normal[i];
    free(normal);
    class.count = source->range_count - class.first;
    if (!class.count && !source->failed)
        return refuse(reader, "a class of characters has none");
    *expression = add_expression(source, class);
    return true;
}

static bool add_class(struct reader *reader, uint32_t *expression) {
    struct code_range *ranges = NULL;
    uint32_t count = 0, capacity = 0;
    reader->at++;
    bool negate = peek(reader) == '^', ok = true;
    reader->at += negate;
    while (ok && peek(reader) != ']') {
        struct code_range range;
        if (reader->at == reader->end || *reader->at == '\n') {
            ok = refuse(reader, "a class has no ]");
            break;
        }
        ok = read_character(reader, &range.from);
        range.to = range.from;
        if (ok && reader->end - reader->at >= 2 && reader->at[0] == '-' && reader->at[1] != ']') {
            reader->at++;
            ok = read_character(reader, &range.to)
                 && (range.to >= range.from || refuse(reader, "a range of characters ends before it begins"));
        }
        if (ok && grammar_grow((void **)&ranges, &capacity, count, sizeof *ranges, &reader->source->failed))
            ranges[count++] = range;
    }
    reader->at += ok;
    ok = ok && keep_class(reader, ranges, count, negate, expression);
    free(ranges);
    return ok;
}

static bool read_choice(struct reader *reader, bool is_nested, uint32_t *expression);

static bool add_group(struct reader *reader, uint32_t *expression) {
    if (++reader->depth > MOST_DEPTH)
        return refuse(reader, "groups are nested too deeply");
    reader->at++;
    if (!read_choice(reader, true, expression))
        return false;
    if (peek(reader) != ')')
        return refuse_here(reader, "expected )");
    reader->at++;
    reader->depth--;
    return true;
}

static bool read_number(struct reader *reader, uint32_t *number) {
    uint64_t value = 0;
    const char *start = reader->at;
    for (; peek(reader) >= '0' && peek(reader) <= '9'; reader->at++)
        value = value <= MOST_REPEATS ? value * 10 + (uint64_t)(*reader->at - '0') : value;
    *number = (uint32_t)(value <= MOST_REPEATS ? value : MOST_REPEATS + 1);
    if (reader->at == start)
        return refuse_here(reader, "expected a number: {3}, {3,} or {3,5}");
    return value <= MOST_REPEATS || refuse(reader, "a repetition of more than 100000 times");
}

/* {m}, {m,} or {m,n} */
static bool read_times(struct reader *reader, uint32_t *min, uint32_t *max) {
    reader->at++;
    skip_space(reader, false);
    if (!read_number(reader, min))
        return false;
    *max = *min;
    skip_space(reader, false);
    if (peek(reader) == ',') {
        reader->at++;
        skip_space(reader, false);
        *max = REPEAT_FOREVER;
        if (peek(reader) != '}' && !read_number(reader, max))
            return false;
        skip_space(reader, false);
    }
    if (peek(reader) != '}')
        return refuse_here(reader, "expected }");
    reader->at++;
    return *max >= *min || refuse(reader, "a repetition ends before it begins");
}

static bool add_repeat(struct reader *reader, uint32_t *expression) {
    struct grammar_source *source = reader->source;
    struct expression repeat = { .kind = EXPRESSION_REPEAT, .first = *expression, .max = REPEAT_FOREVER };
    char kind = *reader->at;
    if (kind == '{') {
        if (!read_times(reader, &repeat.min, &repeat.max))
            return false;
    } else {
        repeat.min = kind == '+';
        repeat.max = kind == '?' ? 1 : REPEAT_FOREVER;
        reader->at++;
    }
    repeat.depth = source->expressions[*expression].depth + 1;
    if (repeat.depth > 4 * MOST_DEPTH)
        return refuse(reader, "repetitions are nested too deeply");
    *expression = add_expression(source, repeat);
    return true;
}

/* One element with its repetitions; *found: there was one. */
static bool read_element(struct reader *reader, bool is_nested, uint32_t *expression, bool *found) {
    static const struct code_range any = { 0, 0x10ffff };
    char c = peek(reader);
    bool ok;
    *found = true;
    if (c == '"') {
        ok = add_literal(reader, expression);
    } else if (c == '[') {
        ok = add_class(reader, expression);
    } else if (c == '(') {
        ok = add_group(reader, expression);
    } else if (c == '.') {
        reader->at++;
        ok = keep_class(reader, &any, 1, false, expression);
    } else if (is_name_char(c) && (is_nested || !is_head(reader))) {
        size_t length = name_length(reader);
        uint32_t rule = find_rule(reader, length);
        *expression = add_expression(reader->source, (struct expression){ .kind = EXPRESSION_RULE, .first = rule });
        reader->at += length;
        ok = true;
    } else if (c == '<' || c == '!') {
        ok = refuse_here(reader, "expected text or a rule; tokens by number or name are not supported");
    } else {
        *found = false;
        return true;
    }
    if (!ok || reader->source->failed)
        return false;
    for (;;) {
        skip_space(reader, is_nested);
        c = peek(reader);
        if (c != '*' && c != '+' && c != '?' && c != '{')
            return true;
        if (!add_repeat(reader, expression) || reader->source->failed)
            return false;
    }
}

/* The children that were put on the stack from `first` on become one expression. */
static uint32_t collect(struct reader *reader, enum expression_kind kind, uint32_t first) {
    struct grammar_source *source = reader->source;
    uint32_t count = reader->stack_count - first;
    struct expression list = { .kind = kind, .first = source->child_count, .count = count };
    reader->stack_count = first;
    if (count == 1)
        return reader->stack[first];
    for (uint32_t i = 0; i < count; i++) {
        uint32_t child = reader->stack[first + i];
        if (!grammar_grow((void **)&source->children, &source->child_capacity, source->child_count,
                          sizeof *source->children, &source->failed))
            return 0;
        source->children[source->child_count++] = child;
        if (source->expressions[child].depth >= list.depth)
            list.depth = source->expressions[child].depth + 1;
    }
    return add_expression(source, list);
}

static bool push(struct reader *reader, uint32_t expression) {
    if (!grammar_grow((void **)&reader->stack, &reader->stack_capacity, reader->stack_count, sizeof *reader->stack,
                      &reader->source->failed))
        return false;
    reader->stack[reader->stack_count++] = expression;
    return true;
}

/* Alternatives of sequences. Outside of a group a line's end ends them, unless | follows. */
static bool read_choice(struct reader *reader, bool is_nested, uint32_t *expression) {
    uint32_t choices = reader->stack_count;
    for (;;) {
        uint32_t elements = reader->stack_count;
        bool found;
        skip_space(reader, true);
        do {
            uint32_t element = 0;
            skip_space(reader, is_nested);
            if (!read_element(reader, is_nested, &element, &found) || (found && !push(reader, element)))
                return false;
        } while (found);
        if (!push(reader, collect(reader, EXPRESSION_SEQUENCE, elements)) || reader->source->failed)
            return false;
        const char *here = reader->at;
        skip_space(reader, true);
        if (peek(reader) != '|') {
            reader->at = is_nested ? reader->at : here;
            *expression = collect(reader, EXPRESSION_CHOICE, choices);
            return !reader->source->failed;
        }
        reader->at++;
    }
}

static bool read_rule(struct reader *reader) {
    struct grammar_source *source = reader->source;
    size_t length = name_length(reader);
    if (!length)
        return refuse_here(reader, "expected a rule: name ::= ...");
    uint32_t rule = find_rule(reader, length), expression;
    if (source->failed)
        return false;
    if (source->rules[rule].expression != UINT32_MAX)
        return error_set(reader->err, ERROR_USAGE, "line %u of %s: the rule '%.60s' is defined twice",
                         line_of(reader), source->name, source->rules[rule].name);
    reader->at += length;
    skip_space(reader, false);
    if (reader->end - reader->at < 3 || memcmp(reader->at, "::=", 3) != 0)
        return refuse_here(reader, "expected ::= after the name of a rule");
    reader->at += 3;
    if (!read_choice(reader, false, &expression))
        return false;
    source->rules[rule].expression = expression;
    skip_space(reader, false);
    if (reader->at < reader->end && *reader->at != '\n' && *reader->at != '\r')
        return refuse_here(reader, "expected text in quotes, a class, a rule or a group");
    return source->rule_count <= MOST_RULES || refuse(reader, "there are more than 200000 rules");
}

bool grammar_read(struct grammar_source *source, const char *text, size_t size, struct error *err) {
    struct reader reader = { .source = source, .at = text, .end = text + size, .counted = text, .line = 1,
                             .err = err };
    bool ok = true;
    source->failed |= !piece_table_init(&reader.names);
    for (skip_space(&reader, true); ok && reader.at < reader.end; skip_space(&reader, true))
        ok = read_rule(&reader);
    free(reader.stack);
    piece_table_release(&reader.names);
    if (source->failed)
        ok = error_set(err, ERROR_FAILED, "cannot read %s: out of memory", source->name);
    for (uint32_t i = 0; ok && i < source->rule_count; i++)
        if (source->rules[i].expression == UINT32_MAX)
            ok = error_set(err, ERROR_USAGE, "line %u of %s: the rule '%.60s' is not defined", source->rules[i].line,
                           source->name, source->rules[i].name);
    return ok;
}
