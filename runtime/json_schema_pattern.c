/* The regular expressions of "pattern", as far as a grammar can follow them: what they match,
 * spelled as the inside of a JSON string. */
#include "runtime/json_schema_parts.h"

#include "runtime/grammar_parts.h"
#include "runtime/unicode.h"

#include <stdlib.h>
#include <string.h>

#define MOST_DEPTH 60u
#define MOST_TIMES 20000u

struct ranges {
    struct code_range *list;
    uint32_t count, capacity;
};

struct pattern {
    struct schema_translator *translator;
    const char *at, *end;
    struct text *to;
    unsigned depth;
    bool failed;
};

static const struct code_range digits[] = { { '0', '9' } };
static const struct code_range words[] = { { '0', '9' }, { 'A', 'Z' }, { '_', '_' }, { 'a', 'z' } };
static const struct code_range spaces[] = { { 9, 13 }, { ' ', ' ' }, { 0xa0, 0xa0 }, { 0x1680, 0x1680 },
    { 0x2000, 0x200a }, { 0x2028, 0x2029 }, { 0x202f, 0x202f }, { 0x205f, 0x205f }, { 0x3000, 0x3000 },
    { 0xfeff, 0xfeff } };
static const struct code_range line_ends[] = { { '\n', '\n' }, { '\r', '\r' }, { 0x2028, 0x2029 } };
#define COUNT(array) ((uint32_t)(sizeof(array) / sizeof *(array)))

static bool refuse(struct pattern *pattern, const char *what) {
    size_t left = (size_t)(pattern->end - pattern->at), length = left < 20 ? left : 20;
    length = utf8_valid_prefix(pattern->at, length);
    return schema_refuse(pattern->translator, "the pattern has %s at '%.*s'", what, (int)length, pattern->at);
}

static bool next_is(const struct pattern *pattern, const char *text) {
    size_t length = strlen(text);
    return (size_t)(pattern->end - pattern->at) >= length && memcmp(pattern->at, text, length) == 0;
}

static void add_range(struct pattern *pattern, struct ranges *ranges, uint32_t from, uint32_t to) {
    if (grammar_grow((void **)&ranges->list, &ranges->capacity, ranges->count, sizeof *ranges->list, &pattern->failed))
        ranges->list[ranges->count++] = (struct code_range){ from, to };
}

static void add_list(struct pattern *pattern, struct ranges *ranges, const struct code_range *list, uint32_t count,
                     bool negate) {
    struct code_range *normal;
    uint32_t normal_count;
    if (!code_ranges_normalize(list, count, negate, &normal, &normal_count)) {
        pattern->failed = true;
        return;
    }
    for (uint32_t i = 0; i < normal_count; i++)
        add_range(pattern, ranges, normal[i].from, normal[i].to);
    free(normal);
}

/* One character of the set, as a JSON string spells it. Control characters without a short
 * spelling are left out. */
static bool write_set(struct pattern *pattern, const struct ranges *ranges, bool negate) {
    static const struct { uint32_t code; const char *spelling; } escapes[] = {
        { '"', "\\\\\\\"" }, { '\\', "\\\\\\\\" }, { '\n', "\\\\n" }, { '\t', "\\\\t" }, { '\r', "\\\\r" },
        { '\f', "\\\\f" }, { '\b', "\\\\b" } };
    struct code_range *normal;
    uint32_t count;
    bool is_first = true, opens = false;
    if (!code_ranges_normalize(ranges->list, ranges->count, negate, &normal, &count)) {
        pattern->failed = true;
        return false;
    }
    text_append(pattern->to, " (");
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t from = normal[i].from; from <= normal[i].to;) {
            static const struct code_range plain[] = { { ' ', '!' }, { '#', '[' }, { ']', '~' }, { 0x80, 0x10ffff } };
            uint32_t to = 0, next = UINT32_MAX;
            for (uint32_t j = COUNT(plain); j-- > 0;)
                if (plain[j].to >= from)
                    next = plain[j].from > from ? plain[j].from : from, to = plain[j].to;
            if (next > normal[i].to)
                break;
            to = to < normal[i].to ? to : normal[i].to;
            text_append(pattern->to, opens ? "" : "[");
            text_append_format(pattern->to, "\\U%08X-\\U%08X", (unsigned)next, (unsigned)to);
            opens = true;
            from = to + 1;
        }
    text_append(pattern->to, opens ? "]" : "");
    is_first = !opens;
    for (uint32_t i = 0; i < COUNT(escapes); i++)
        for (uint32_t j = 0; j < count; j++)
            if (escapes[i].code >= normal[j].from && escapes[i].code <= normal[j].to) {
                text_append_format(pattern->to, "%s\"%s\"", is_first ? "" : " | ", escapes[i].spelling);
                is_first = false;
            }
    text_append(pattern->to, ")");
    free(normal);
    return !is_first || refuse(pattern, "a class without a character that a string can show");
}

/* Hexadecimal digits of an escape. */
static bool read_hex(struct pattern *pattern, unsigned count, uint32_t *code) {
    *code = 0;
    for (unsigned i = 0; i < count; i++) {
        int digit = pattern->at < pattern->end ? hex_digit(*pattern->at) : -1;
        if (digit < 0)
            return refuse(pattern, "an escape without its digits");
        *code = *code << 4 | (uint32_t)digit;
        pattern->at++;
    }
    return true;
}

/* What follows a backslash: characters into `ranges`. */
static bool read_escape(struct pattern *pattern, struct ranges *ranges, bool *is_one) {
    static const char letters[] = "ntrfv0", meanings[] = "\n\t\r\f\v";
    char c = pattern->at + 1 < pattern->end ? pattern->at[1] : '\0';
    const char *letter = c ? strchr(letters, c) : NULL;
    uint32_t code;
    *is_one = true;
    if (c == 'd' || c == 'D' || c == 'w' || c == 'W' || c == 's' || c == 'S') {
        const struct code_range *list = c == 'd' || c == 'D' ? digits : c == 'w' || c == 'W' ? words : spaces;
        uint32_t count = list == digits ? COUNT(digits) : list == words ? COUNT(words) : COUNT(spaces);
        add_list(pattern, ranges, list, count, c < 'a');
        *is_one = false;
        pattern->at += 2;
        return true;
    }
    if (c == 'x' || c == 'u') {
        pattern->at += 2;
        if (!read_hex(pattern, c == 'x' ? 2 : 4, &code))
            return false;
        if (code >= 0xd800 && code < 0xe000)
            return refuse(pattern, "half a surrogate pair");
        add_range(pattern, ranges, code, code);
        return true;
    }
    if (letter && *letter) {
        code = (unsigned char)meanings[letter - letters];
    } else if (c && strchr("^$\\.*+?()[]{}|/-\"'`~!@#%&=:;<>, _", c)) {
        code = (unsigned char)c;
    } else {
        return refuse(pattern, "an escape that is not supported");
    }
    pattern->at += 2;
    add_range(pattern, ranges, code, code);
    return true;
}

static bool read_plain(struct pattern *pattern, struct ranges *ranges) {
    struct utf8_unit unit = utf8_next(pattern->at, (size_t)(pattern->end - pattern->at));
    pattern->at += unit.length;
    add_range(pattern, ranges, unit.codepoint, unit.codepoint);
    return true;
}

static bool read_class(struct pattern *pattern, struct ranges *ranges, bool *negate) {
    pattern->at++;
    *negate = next_is(pattern, "^");
    pattern->at += *negate;
    while (!next_is(pattern, "]")) {
        bool is_one = true;
        if (pattern->at == pattern->end)
            return refuse(pattern, "a class without ]");
        if (!(next_is(pattern, "\\") ? read_escape(pattern, ranges, &is_one) : read_plain(pattern, ranges)))
            return false;
        if (!is_one || !next_is(pattern, "-") || pattern->at + 1 >= pattern->end || pattern->at[1] == ']')
            continue;
        uint32_t low = pattern->failed ? 0 : ranges->list[ranges->count - 1].from;
        pattern->at++;
        if (!(next_is(pattern, "\\") ? read_escape(pattern, ranges, &is_one) : read_plain(pattern, ranges)))
            return false;
        if (pattern->failed || !is_one || ranges->list[ranges->count - 1].to < low)
            return refuse(pattern, "a range that ends before it begins");
        ranges->list[ranges->count - 1].from = low;
    }
    pattern->at++;
    return true;
}

static bool read_times(struct pattern *pattern) {
    char *end;
    const char *start = pattern->at;
    unsigned long least = strtoul(pattern->at + 1, &end, 10), most = least;
    bool is_open = false;
    if (end == pattern->at + 1 || pattern->at[1] == '-' || pattern->at[1] == '+' || pattern->at[1] == ' ')
        return refuse(pattern, "a { that is no number of times");
    if (*end == ',') {
        const char *second = end + 1;
        is_open = *second == '}';
        most = is_open ? least : strtoul(second, &end, 10);
        end = is_open ? end + 1 : end;
        if (!is_open && (end == second || *second < '0' || *second > '9'))
            return refuse(pattern, "a { that is no number of times");
    }
    if (*end != '}' || end >= pattern->end || least > most || most > MOST_TIMES) {
        pattern->at = start;
        return refuse(pattern, "a { that is no number of times, or too many of them");
    }
    pattern->at = end + 1;
    text_append_format(pattern->to, is_open ? "{%lu,}" : least == most ? "{%lu}" : "{%lu,%lu}", least, most);
    return true;
}

static bool read_choice(struct pattern *pattern, bool is_top);

static bool read_group(struct pattern *pattern) {
    if (++pattern->depth > MOST_DEPTH)
        return refuse(pattern, "too many groups in groups");
    if (next_is(pattern, "(?:"))
        pattern->at += 3;
    else if (next_is(pattern, "(?<") && !next_is(pattern, "(?<=") && !next_is(pattern, "(?<!")
             && memchr(pattern->at, '>', (size_t)(pattern->end - pattern->at)))
        pattern->at = (const char *)memchr(pattern->at, '>', (size_t)(pattern->end - pattern->at)) + 1;
    else if (next_is(pattern, "(?"))
        return refuse(pattern, "a look ahead or behind, which is not supported,");
    else
        pattern->at++;
    text_append(pattern->to, " (");
    if (!read_choice(pattern, false))
        return false;
    if (!next_is(pattern, ")"))
        return refuse(pattern, "a group without )");
    text_append(pattern->to, ")");
    pattern->at++;
    pattern->depth--;
    return true;
}

static bool read_atom(struct pattern *pattern) {
    struct ranges ranges = { 0 };
    bool negate = false, is_one, ok;
    char c = *pattern->at;
    if (c == '(')
        return read_group(pattern);
    if (strchr("*+?{^$", c))
        return refuse(pattern, c == '^' || c == '$' ? "an anchor in its middle, which is not supported,"
                                                    : "a repetition of nothing");
    if (c == '[') {
        ok = read_class(pattern, &ranges, &negate);
    } else if (c == '.') {
        pattern->at++;
        add_list(pattern, &ranges, line_ends, COUNT(line_ends), true);
        ok = true;
    } else {
        ok = c == '\\' ? read_escape(pattern, &ranges, &is_one) : read_plain(pattern, &ranges);
    }
    ok = ok && !pattern->failed && write_set(pattern, &ranges, negate);
    free(ranges.list);
    return ok;
}

static bool read_sequence(struct pattern *pattern, bool is_top) {
    bool is_anchored = is_top && next_is(pattern, "^");
    pattern->at += is_anchored;
    text_append(pattern->to, is_top && !is_anchored ? " char*" : " \"\"");
    while (pattern->at < pattern->end && *pattern->at != '|' && *pattern->at != ')') {
        bool is_last = pattern->at + 1 == pattern->end || pattern->at[1] == '|';
        if (is_top && *pattern->at == '$' && is_last) {
            pattern->at++;
            return true;
        }
        if (!read_atom(pattern))
            return false;
        char c = pattern->at < pattern->end ? *pattern->at : '\0';
        if (c == '*' || c == '+' || c == '?') {
            text_append_char(pattern->to, c);
            pattern->at++;
        } else if (c == '{' && !read_times(pattern)) {
            return false;
        }
        /* a lazy repetition matches the same */
        if ((c == '*' || c == '+' || c == '?' || c == '{') && next_is(pattern, "?"))
            pattern->at++;
    }
    if (is_top)
        text_append(pattern->to, " char*");
    return true;
}

static bool read_choice(struct pattern *pattern, bool is_top) {
    for (;;) {
        if (!read_sequence(pattern, is_top))
            return false;
        if (!next_is(pattern, "|"))
            return true;
        text_append(pattern->to, " |");
        pattern->at++;
    }
}

bool schema_write_pattern(struct schema_translator *translator, const char *regex, size_t size, struct text *to) {
    struct pattern pattern = { .translator = translator, .at = regex, .end = regex + size, .to = to };
    if (memchr(regex, '\0', size))
        return schema_refuse(translator, "the pattern holds a NUL character");
    text_append(to, " (");
    if (!read_choice(&pattern, true))
        return pattern.failed ? error_set(translator->err, ERROR_FAILED, "cannot read %s: out of memory",
                                          translator->name) : false;
    text_append(to, ")");
    return pattern.at == pattern.end || refuse(&pattern, "a ) without a group");
}
