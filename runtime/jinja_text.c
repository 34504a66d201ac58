/* jinja_text: work on strings that filters and methods share. */
#include "runtime/jinja_library.h"

#include "runtime/unicode.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

size_t jinja_find_bytes(struct jinja_string text, size_t start, struct jinja_string needle) {
    if (start > text.size)
        return SIZE_MAX;
    if (!needle.size)
        return start;
    const char *found = memmem(text.bytes + start, text.size - start, needle.bytes, needle.size);
    return found ? (size_t)(found - text.bytes) : SIZE_MAX;
}

static bool is_among(const char *character, size_t size, struct jinja_string characters) {
    for (size_t i = 0; i < characters.size;) {
        struct utf8_unit unit = utf8_next(characters.bytes + i, characters.size - i);
        if (unit.length == size && !memcmp(characters.bytes + i, character, size))
            return true;
        i += unit.length;
    }
    return false;
}

/* Looking up one character among those to strip. */
static bool spend_lookup(struct jinja *run, struct jinja_string characters) {
    return jinja_spend(run, 1 + characters.size / 8);
}

static bool strip_characters(struct jinja *run, struct jinja_string text, struct jinja_string characters, int sides,
                             struct jinja_string *out) {
    while ((sides & JINJA_LEFT) && text.size) {
        struct utf8_unit unit = utf8_next(text.bytes, text.size);
        if (!spend_lookup(run, characters))
            return false;
        if (!is_among(text.bytes, unit.length, characters))
            break;
        text = (struct jinja_string){ text.bytes + unit.length, text.size - unit.length };
    }
    while ((sides & JINJA_RIGHT) && text.size) {
        size_t start = utf8_last(text.bytes, text.size);
        if (!spend_lookup(run, characters))
            return false;
        if (!is_among(text.bytes + start, text.size - start, characters))
            break;
        text.size = start;
    }
    *out = text;
    return true;
}

bool jinja_strip(struct jinja *run, struct jinja_string text, struct jinja_string characters, int sides,
                 struct jinja_string *out) {
    if (characters.bytes)
        return strip_characters(run, text, characters, sides, out);
    size_t start = sides & JINJA_LEFT ? jinja_space_prefix(text.bytes, text.size) : 0;
    *out = (struct jinja_string){ text.bytes + start, text.size - start };
    if (sides & JINJA_RIGHT)
        out->size = jinja_without_space(out->bytes, out->size);
    return jinja_spend(run, 1 + (text.size - out->size) / 8);
}

bool jinja_find_last(struct jinja *run, struct jinja_string text, size_t end, struct jinja_string needle, size_t *found) {
    *found = SIZE_MAX;
    if (!jinja_spend(run, 1 + end / 64))
        return false;
    for (size_t start = end >= needle.size ? end - needle.size + 1 : 0; start-- > 0;) {
        if (needle.size && text.bytes[start] != needle.bytes[0])
            continue;
        if (!jinja_spend(run, 1 + needle.size / 64))
            return false;
        if (!needle.size || !memcmp(text.bytes + start, needle.bytes, needle.size)) {
            *found = start;
            return true;
        }
    }
    return true;
}

/* The size of a line's end at the start of `bytes`, 0 where there is none. */
static size_t line_end(const char *bytes, size_t size) {
    if (bytes[0] == '\r')
        return size > 1 && bytes[1] == '\n' ? 2 : 1;
    if ((bytes[0] >= '\n' && bytes[0] <= '\f') || (bytes[0] >= 0x1c && bytes[0] <= 0x1e))
        return 1;
    struct utf8_unit unit = utf8_next(bytes, size);
    return unit.codepoint == 0x85 || unit.codepoint == 0x2028 || unit.codepoint == 0x2029 ? unit.length : 0;
}

bool jinja_split_lines(struct jinja *run, struct jinja_string text, bool keep_ends, struct jinja_value *out) {
    if (!jinja_list_new(run, JINJA_LIST, 0, out) || !jinja_spend(run, text.size / 16))
        return false;
    size_t start = 0, position = 0;
    while (position < text.size) {
        size_t end = line_end(text.bytes + position, text.size - position);
        if (!end) {
            position++;
            continue;
        }
        size_t size = position - start + (keep_ends ? end : 0);
        if (!jinja_list_push(run, out->list, jinja_text((struct jinja_string){ text.bytes + start, size })))
            return false;
        start = position += end;
    }
    if (start == text.size)
        return true;
    return jinja_list_push(run, out->list, jinja_text((struct jinja_string){ text.bytes + start, text.size - start }));
}

bool jinja_replace(struct jinja *run, struct jinja_string text, struct jinja_string old, struct jinja_string fresh,
                   int64_t count, struct jinja_value *out) {
    size_t mark = jinja_mark(run), position = 0;
    if (!jinja_spend(run, text.size / 64))
        return false;
    for (int64_t done = 0; count < 0 || done < count; done++) {
        size_t found = jinja_find_bytes(text, position, old);
        if (found == SIZE_MAX)
            break;
        /* An empty string is found before each character, and after the last one. */
        size_t step = found;
        if (!jinja_spend(run, 1) || !jinja_put_bytes(run, text.bytes + position, found - position)
            || !jinja_put_string(run, fresh))
            return false;
        position = found + old.size;
        if (!old.size) {
            if (position == text.size)
                return jinja_capture(run, mark, out);
            step = utf8_next(text.bytes + position, text.size - position).length;
            if (!jinja_put_bytes(run, text.bytes + position, step))
                return false;
            position += step;
        }
    }
    return jinja_put_bytes(run, text.bytes + position, text.size - position) && jinja_capture(run, mark, out);
}

bool jinja_change_case(struct jinja *run, struct jinja_string text, enum jinja_case to, struct jinja_value *out) {
    size_t mark = jinja_mark(run);
    if (!jinja_spend(run, text.size / 2))
        return false;
    for (size_t i = 0; i < text.size;) {
        struct utf8_unit unit = utf8_next(text.bytes + i, text.size - i);
        bool upper = to == JINJA_UPPER || (to == JINJA_CAPITALIZE && i == 0);
        if (upper && unit.codepoint == 0xdf)      /* the one letter in use whose capital is two */
            text_append(&run->output, to == JINJA_CAPITALIZE ? "Ss" : "SS");
        else
            text_append_utf8(&run->output, upper ? unicode_upper(unit.codepoint) : unicode_lower(unit.codepoint));
        i += unit.length;
    }
    return jinja_put_bytes(run, "", 0) && jinja_capture(run, mark, out);
}

/* One conversion of a format: flags, width, precision, and the letter. */
struct conversion {
    char flags[8];
    int width, precision;      /* precision -1: none */
    char letter;
};

enum { WIDTH_LIMIT = 200 };

static bool read_number(struct jinja *run, struct jinja_string format, size_t *position, int *number) {
    *number = 0;
    while (*position < format.size && isdigit((unsigned char)format.bytes[*position])) {
        *number = *number * 10 + (format.bytes[(*position)++] - '0');
        if (*number > WIDTH_LIMIT)
            return jinja_fail(run, "a format asks for more than %d characters", WIDTH_LIMIT);
    }
    return true;
}

static bool read_conversion(struct jinja *run, struct jinja_string format, size_t *position, struct conversion *out) {
    size_t flags = 0;
    *out = (struct conversion){ .precision = -1 };
    while (*position < format.size && format.bytes[*position] && strchr("-+ #0", format.bytes[*position])) {
        if (flags < sizeof out->flags - 1)
            out->flags[flags++] = format.bytes[*position];
        (*position)++;
    }
    if (!read_number(run, format, position, &out->width))
        return false;
    if (*position < format.size && format.bytes[*position] == '.') {
        (*position)++;
        if (!read_number(run, format, position, &out->precision))
            return false;
    }
    if (*position == format.size)
        return jinja_fail(run, "incomplete format");
    out->letter = format.bytes[(*position)++];
    return true;
}

static bool put_converted_number(struct jinja *run, const struct conversion *how, const struct jinja_value *value) {
    char pattern[40], shown[800];
    bool is_whole = strchr("diuxXo", how->letter) != NULL;
    if (!jinja_is_number(value))
        return jinja_fail(run, "%%%c format: a number is required, not %s", how->letter, jinja_kind_name(value));
    int width = how->width, precision = how->precision;
    size_t flags = strlen(how->flags);
    memcpy(pattern, "%", 1);
    memcpy(pattern + 1, how->flags, flags);
    snprintf(pattern + 1 + flags, sizeof pattern - 1 - flags, "*.*%s%c", is_whole ? "ll" : "",
             how->letter == 'u' ? 'd' : how->letter);
    if (!is_whole) {
        snprintf(shown, sizeof shown, pattern, width, precision, jinja_number(value));
    } else {
        double real = jinja_number(value);
        if (value->kind == JINJA_FLOAT && !(real > -9e18 && real < 9e18))
            return jinja_fail(run, "a number is too large");
        long long whole = value->kind == JINJA_FLOAT ? (long long)real : (long long)jinja_whole(value);
        if (strchr("xXo", how->letter) && whole < 0)
            return jinja_fail(run, "%%%c format of a negative number", how->letter);
        snprintf(shown, sizeof shown, pattern, width, precision, whole);
    }
    return jinja_put_bytes(run, shown, strlen(shown));
}

static bool put_converted(struct jinja *run, const struct conversion *how, const struct jinja_value *value) {
    if (strchr("diuxXofFeEgG", how->letter))
        return put_converted_number(run, how, value);
    if (!strchr("sr", how->letter))
        return jinja_fail(run, "unsupported format character '%c'", how->letter);
    struct jinja_value text;
    size_t mark = jinja_mark(run);
    if (!(how->letter == 'r' ? jinja_put_repr(run, value) : jinja_put(run, value)) || !jinja_capture(run, mark, &text))
        return false;
    if (how->precision >= 0)
        text.string.size = jinja_offset(text.string, (size_t)how->precision);
    size_t count = jinja_count(text.string), width = (size_t)how->width, pad = width > count ? width - count : 0;
    bool is_left = strchr(how->flags, '-') != NULL;
    for (size_t i = 0; !is_left && i < pad; i++)
        if (!jinja_put_bytes(run, " ", 1))
            return false;
    if (!jinja_put_string(run, text.string))
        return false;
    for (size_t i = 0; is_left && i < pad; i++)
        if (!jinja_put_bytes(run, " ", 1))
            return false;
    return true;
}

bool jinja_format(struct jinja *run, struct jinja_string format, const struct jinja_value *values,
                  struct jinja_value *out) {
    size_t mark = jinja_mark(run), position = 0, used = 0;
    const struct jinja_value *given = values->kind == JINJA_TUPLE ? values->list->items : values;
    size_t count = values->kind == JINJA_TUPLE ? values->list->count : 1;
    while (position < format.size) {
        const char *percent = memchr(format.bytes + position, '%', format.size - position);
        size_t plain = percent ? (size_t)(percent - format.bytes) : format.size;
        if (!jinja_put_bytes(run, format.bytes + position, plain - position))
            return false;
        position = plain + (percent != NULL);
        if (!percent)
            break;
        struct conversion how;
        if (position < format.size && format.bytes[position] == '(')
            return jinja_unsupported(run, "the format", jinja_literal("%(name)"));
        if (!jinja_spend(run, 1) || !read_conversion(run, format, &position, &how))
            return false;
        if (how.letter == '%') {
            if (!jinja_put_bytes(run, "%", 1))
                return false;
            continue;
        }
        if (used == count)
            return jinja_fail(run, "not enough arguments for format string");
        if (!how.letter || !put_converted(run, &how, &given[used++]))
            return how.letter ? false : jinja_fail(run, "incomplete format");
    }
    if (used < count && values->kind != JINJA_DICT)
        return jinja_fail(run, "not all arguments converted during string formatting");
    return jinja_capture(run, mark, out);
}
