/* jinja_text_filters: filters that make a string or a number of one value. */
#include "runtime/jinja_library.h"

#include "runtime/unicode.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILTER(name) \
    static bool name(struct jinja *run, const struct jinja_call *call, struct jinja_value *out)

FILTER(string) {
    struct jinja_string text;
    if (!jinja_to_string(run, call->self, &text))
        return false;
    *out = jinja_text(text);
    return true;
}

FILTER(trim) {
    struct jinja_string text, characters = { NULL, 0 };
    if (!jinja_to_string(run, call->self, &text))
        return false;
    if (call->given[0].kind > JINJA_NONE && !jinja_take_string(run, &call->given[0], "chars", &characters))
        return false;
    if (!jinja_strip(run, text, characters, JINJA_LEFT | JINJA_RIGHT, &text))
        return false;
    *out = jinja_text(text);
    return true;
}

static bool recased(struct jinja *run, const struct jinja_call *call, enum jinja_case to, struct jinja_value *out) {
    struct jinja_string text;
    return jinja_to_string(run, call->self, &text) && jinja_change_case(run, text, to, out);
}

FILTER(upper) {
    return recased(run, call, JINJA_UPPER, out);
}

FILTER(lower) {
    return recased(run, call, JINJA_LOWER, out);
}

FILTER(capitalize) {
    return recased(run, call, JINJA_CAPITALIZE, out);
}

/* Each word with a capital: words begin after white space and - ( { [ <. */
FILTER(title) {
    struct jinja_string text;
    size_t mark = jinja_mark(run);
    if (!jinja_to_string(run, call->self, &text) || !jinja_spend(run, text.size))
        return false;
    bool at_start = true;
    for (size_t i = 0; i < text.size;) {
        struct utf8_unit unit = utf8_next(text.bytes + i, text.size - i);
        uint32_t code = at_start ? unicode_upper(unit.codepoint) : unicode_lower(unit.codepoint);
        text_append_utf8(&run->output, code);
        at_start = jinja_is_space(unit.codepoint) || (unit.codepoint < 0x80 && unit.codepoint && strchr("-({[<", (int)unit.codepoint));
        i += unit.length;
    }
    return jinja_put_bytes(run, "", 0) && jinja_capture(run, mark, out);
}

FILTER(replace) {
    struct jinja_string text, old, fresh;
    int64_t count;
    return jinja_to_string(run, call->self, &text) && jinja_to_string(run, &call->given[0], &old)
        && jinja_to_string(run, &call->given[1], &fresh) && jinja_take_whole(run, &call->given[2], -1, &count)
        && jinja_replace(run, text, old, fresh, count, out);
}

FILTER(otherwise) {
    bool is_missing = call->self->kind == JINJA_UNDEFINED
        || (jinja_take_bool(&call->given[1], false) && !jinja_truth(call->self));
    struct jinja_value value = call->given[0];
    if (value.kind == JINJA_ABSENT)
        value = jinja_text(jinja_literal(""));
    *out = is_missing ? value : *call->self;
    (void)run;
    return true;
}

/* The indent of JSON: a number of spaces, or a string. */
static bool take_indent(struct jinja *run, const struct jinja_value *value, struct jinja_string *out) {
    static const char spaces[] = "                                                                ";
    int64_t width;
    *out = (struct jinja_string){ NULL, 0 };
    if (value->kind == JINJA_ABSENT || value->kind == JINJA_NONE)
        return true;
    if (value->kind == JINJA_STRING)
        return jinja_take_string(run, value, "indent", out);
    if (!jinja_take_whole(run, value, 0, &width))
        return false;
    if (width > (int64_t)sizeof spaces - 1)
        return jinja_fail(run, "an indent of more than %zu characters", sizeof spaces - 1);
    *out = (struct jinja_string){ spaces, width > 0 ? (size_t)width : 0 };
    return true;
}

FILTER(json) {
    struct jinja_json style = { .ascii = jinja_take_bool(&call->given[0], false),
                                .sort_keys = jinja_take_bool(&call->given[3], false) };
    const struct jinja_value *separators = &call->given[2];
    size_t mark = jinja_mark(run);
    if (!take_indent(run, &call->given[1], &style.indent))
        return false;
    style.comma = jinja_literal(style.indent.bytes ? "," : ", ");
    style.colon = jinja_literal(": ");
    if (separators->kind != JINJA_ABSENT && separators->kind != JINJA_NONE) {
        if (!jinja_is_sequence(separators) || separators->list->count != 2)
            return jinja_fail(run, "separators must be two strings");
        if (!jinja_take_string(run, &separators->list->items[0], "a separator", &style.comma)
            || !jinja_take_string(run, &separators->list->items[1], "a separator", &style.colon))
            return false;
    }
    return jinja_put_json(run, call->self, &style) && jinja_capture(run, mark, out);
}

/* Each line but the first (and, with `first`, that too) behind an indent; empty lines only with `blank`. */
FILTER(indent) {
    struct jinja_string text, margin = jinja_literal("    ");
    struct jinja_value lines;
    size_t mark = jinja_mark(run);
    bool first = jinja_take_bool(&call->given[1], false), blank = jinja_take_bool(&call->given[2], false);
    if (!jinja_to_string(run, call->self, &text)
        || (call->given[0].kind != JINJA_ABSENT && !take_indent(run, &call->given[0], &margin)))
        return false;
    /* The filter looks at the text with a line end added, so that a last empty line counts. */
    if (!jinja_put_string(run, text) || !jinja_put_bytes(run, "\n", 1) || !jinja_capture(run, mark, &lines)
        || !jinja_split_lines(run, lines.string, false, &lines))
        return false;
    for (size_t i = 0; i < lines.list->count; i++) {
        struct jinja_string line = lines.list->items[i].string;
        bool is_indented = i == 0 ? first : blank || line.size;
        if ((i && !jinja_put_bytes(run, "\n", 1)) || (is_indented && margin.bytes && !jinja_put_string(run, margin))
            || !jinja_put_string(run, line))
            return false;
    }
    return jinja_capture(run, mark, out);
}

FILTER(format) {
    struct jinja_string text;
    struct jinja_list given = call->all->positional;
    const struct jinja_value values = { .kind = JINJA_TUPLE, .list = &given };
    if (call->all->named.count)
        return jinja_unsupported(run, "the format", jinja_literal("%(name)"));
    return jinja_to_string(run, call->self, &text) && jinja_format(run, text, &values, out);
}

/* A number at the start of a string, all of it but white space around it. */
static bool parse_number(struct jinja_string text, bool whole, int base, struct jinja_value *out) {
    char copy[64], *end;
    size_t space = jinja_space_prefix(text.bytes, text.size);
    text = (struct jinja_string){ text.bytes + space, jinja_without_space(text.bytes + space, text.size - space) };
    if (!text.size || text.size >= sizeof copy)
        return false;
    memcpy(copy, text.bytes, text.size);
    copy[text.size] = '\0';
    errno = 0;
    if (whole)
        *out = jinja_integer(strtoll(copy, &end, base));
    else
        *out = jinja_real(strtod(copy, &end));
    return end != copy && !*end && (!whole || errno == 0) && !strpbrk(copy, whole ? "" : "xXpP");
}

static bool truncate_real(double real, struct jinja_value *out) {
    if (!(real > -9.2e18 && real < 9.2e18))
        return false;
    *out = jinja_integer((int64_t)real);
    return true;
}

/* Reading a number passes over white space, however much there is. */
static bool spend_bytes(struct jinja *run, const struct jinja_value *value) {
    return value->kind != JINJA_STRING || jinja_spend(run, value->string.size / 16);
}

FILTER(integer) {
    struct jinja_value real;
    int64_t base;
    if (!spend_bytes(run, call->self) || !jinja_take_whole(run, &call->given[1], 10, &base))
        return false;
    *out = call->given[0].kind == JINJA_ABSENT ? jinja_integer(0) : call->given[0];
    if (jinja_is_whole(call->self)) {
        *out = jinja_integer(jinja_whole(call->self));
    } else if (call->self->kind == JINJA_FLOAT) {
        struct jinja_value otherwise_value = *out;
        if (!truncate_real(call->self->real, out))
            *out = otherwise_value;
    } else if (call->self->kind == JINJA_STRING) {
        struct jinja_value found;
        if (base >= 2 && base <= 36 && parse_number(call->self->string, true, (int)base, &found))
            *out = found;
        else if (parse_number(call->self->string, false, 10, &real) && truncate_real(real.real, &found))
            *out = found;
    }
    return true;
}

FILTER(real) {
    struct jinja_value found;
    if (!spend_bytes(run, call->self))
        return false;
    *out = call->given[0].kind == JINJA_ABSENT ? jinja_real(0) : call->given[0];
    if (jinja_is_number(call->self))
        *out = jinja_real(jinja_number(call->self));
    else if (call->self->kind == JINJA_STRING && parse_number(call->self->string, false, 10, &found))
        *out = found;
    return true;
}

FILTER(round_number) {
    int64_t precision;
    char shown[400];
    struct jinja_string method = jinja_literal("common");
    if (!jinja_is_number(call->self))
        return jinja_fail(run, "round needs a number, not %s", jinja_kind_name(call->self));
    if (!jinja_take_whole(run, &call->given[0], 0, &precision)
        || (call->given[1].kind != JINJA_ABSENT && !jinja_take_string(run, &call->given[1], "method", &method)))
        return false;
    double value = jinja_number(call->self);
    if (precision < 0 || precision > 20)
        return jinja_fail(run, "round to 0 to 20 decimals only");
    if (jinja_string_is(method, "common")) {
        if (jinja_is_whole(call->self))
            return *out = jinja_integer(jinja_whole(call->self)), true;
        snprintf(shown, sizeof shown, "%.*f", (int)precision, value);
        *out = jinja_real(strtod(shown, NULL));
        return true;
    }
    double scale = pow(10, (double)precision);
    *out = jinja_real((jinja_string_is(method, "ceil") ? ceil(value * scale) : floor(value * scale)) / scale);
    return true;
}

FILTER(magnitude) {
    if (!jinja_is_number(call->self))
        return jinja_fail(run, "bad operand type for abs(): '%s'", jinja_kind_name(call->self));
    struct jinja_value zero = jinja_integer(0);
    if (call->self->kind == JINJA_FLOAT)
        return *out = jinja_real(fabs(call->self->real)), true;
    return jinja_binary(run, jinja_whole(call->self) < 0 ? '-' : '+', &zero, call->self, out);
}

FILTER(attribute) {
    struct jinja_string name;
    if (!jinja_take_string(run, &call->given[0], "name", &name))
        return false;
    /* Attributes only, not the items of a mapping. */
    if (call->self->kind == JINJA_DICT && !jinja_find_method(JINJA_DICT, name))
        return jinja_missing(run, JINJA_DICT, jinja_text(name), out);
    return jinja_attribute(run, call->self, name, out);
}

FILTER(escape) {
    static const char letters[] = "&<>'\"";
    static const char *const entities[] = { "&amp;", "&lt;", "&gt;", "&#39;", "&#34;" };
    struct jinja_string text;
    size_t mark = jinja_mark(run);
    if (!jinja_to_string(run, call->self, &text) || !jinja_spend(run, text.size / 16))
        return false;
    for (size_t i = 0; i < text.size; i++) {
        const char *letter = text.bytes[i] ? strchr(letters, text.bytes[i]) : NULL;
        if (letter ? !jinja_put_string(run, jinja_literal(entities[letter - letters]))
                   : !jinja_put_bytes(run, text.bytes + i, 1))
            return false;
    }
    return jinja_capture(run, mark, out);
}

FILTER(count_words) {
    struct jinja_string text;
    int64_t count = 0;
    bool inside = false;
    if (!jinja_to_string(run, call->self, &text) || !jinja_spend(run, text.size / 16))
        return false;
    for (size_t i = 0; i < text.size;) {
        struct utf8_unit unit = utf8_next(text.bytes + i, text.size - i);
        bool is_word = unicode_is_word(unit.codepoint);
        count += is_word && !inside;
        inside = is_word;
        i += unit.length;
    }
    *out = jinja_integer(count);
    return true;
}

const struct jinja_builtin jinja_text_filters[] = {
    { "string", "", string }, { "safe", "", string }, { "trim", "/ chars", trim }, { "upper", "", upper },
    { "lower", "", lower }, { "capitalize", "", capitalize }, { "title", "", title },
    { "replace", "old new / count", replace }, { "default", "/ default_value boolean", otherwise },
    { "d", "/ default_value boolean", otherwise },
    { "tojson", "/ ensure_ascii indent separators sort_keys", json }, { "indent", "/ width first blank", indent },
    { "format", "*", format }, { "int", "/ default base", integer }, { "float", "/ default", real },
    { "round", "/ precision method", round_number }, { "abs", "", magnitude }, { "attr", "name", attribute },
    { "escape", "", escape }, { "e", "", escape }, { "wordcount", "", count_words }, { 0 },
};
