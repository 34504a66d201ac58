/* jinja_lexer: a template as tokens.
 *
 * White space around tags, as trim_blocks and lstrip_blocks have it:
 *   {%- {{- {#-   all white space before the tag goes
 *   -%} -}} -#}   all white space after the tag goes
 *   {% {#         white space goes that stands alone between the line's start and the tag; not with {%+ {#+
 *   %} #}         one line end after the tag goes; not with +%} */
#include "runtime/jinja_syntax.h"

#include "runtime/unicode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static size_t left(const struct jinja_lexer *lexer) {
    return lexer->source.size - lexer->position;
}

static const char *here(const struct jinja_lexer *lexer) {
    return lexer->source.bytes + lexer->position;
}

static bool looking_at(const struct jinja_lexer *lexer, size_t offset, const char *text) {
    size_t size = strlen(text);
    return offset <= left(lexer) && size <= left(lexer) - offset && !memcmp(here(lexer) + offset, text, size);
}

static size_t find(const struct jinja_lexer *lexer, size_t offset, const char *text) {
    const char *found = memmem(here(lexer) + offset, left(lexer) - offset, text, strlen(text));
    return found ? (size_t)(found - here(lexer)) : SIZE_MAX;
}

static void count_lines(struct jinja *run, struct jinja_lexer *lexer) {
    for (; lexer->counted < lexer->position; lexer->counted++)
        lexer->line += lexer->source.bytes[lexer->counted] == '\n';
    run->line = lexer->line;
}

/* Move past a tag's end that was found at `offset`, `sign` before it included, and past
 * the white space that goes with it. */
static void pass_end(struct jinja_lexer *lexer, size_t offset, size_t size, char sign, bool trims_line) {
    lexer->position += offset + size;
    size_t before = lexer->position;
    if (sign == '-')
        lexer->position += jinja_space_prefix(here(lexer), left(lexer));
    else if (sign != '+' && trims_line && looking_at(lexer, 0, "\n"))
        lexer->position++;
    lexer->at_line_start = lexer->position > before && lexer->source.bytes[lexer->position - 1] == '\n';
}

/* What is left of the `size` bytes of text before a tag. */
static size_t trim_before(const struct jinja_lexer *lexer, size_t size, char sign, bool trims_line) {
    const char *text = here(lexer);
    if (sign == '-')
        return jinja_without_space(text, size);
    if (sign == '+' || !trims_line)
        return size;
    size_t start = size;
    while (start > 0 && text[start - 1] != '\n')
        start--;
    if (start == 0 && !lexer->at_line_start)
        return size;
    return jinja_without_space(text + start, size - start) == 0 ? start : size;
}

static char sign_at(const struct jinja_lexer *lexer, size_t offset) {
    char c = offset < left(lexer) ? here(lexer)[offset] : '\0';
    return c == '-' || c == '+' ? c : '\0';
}

/* The size of "{%- raw %}" where one stands at `offset`, else 0; *end_sign of its end. */
static size_t raw_tag(const struct jinja_lexer *lexer, size_t offset, const char *name, char *end_sign) {
    if (!looking_at(lexer, offset, "{%"))
        return 0;
    size_t position = offset + 2 + (sign_at(lexer, offset + 2) != '\0');
    position += jinja_space_prefix(here(lexer) + position, left(lexer) - position);
    if (!looking_at(lexer, position, name))
        return 0;
    position += strlen(name);
    position += jinja_space_prefix(here(lexer) + position, left(lexer) - position);
    *end_sign = sign_at(lexer, position);
    position += *end_sign != '\0';
    return looking_at(lexer, position, "%}") ? position + 2 - offset : 0;
}

/* The text of {% raw %}, up to and with its end. */
static bool read_raw(struct jinja *run, struct jinja_lexer *lexer, size_t tag, size_t size, char end_sign,
                     struct jinja_token *token) {
    pass_end(lexer, tag, size, end_sign, false);
    size_t end = find(lexer, 0, "{%");
    for (; end != SIZE_MAX; end = find(lexer, end + 2, "{%")) {
        if (!jinja_spend(run, 1))
            return false;
        size = raw_tag(lexer, end, "endraw", &end_sign);
        if (size)
            break;
    }
    if (end == SIZE_MAX)
        return jinja_fail(run, "{%% raw %%} has no end");
    token->text = (struct jinja_string){ here(lexer), trim_before(lexer, end, sign_at(lexer, end + 2), true) };
    pass_end(lexer, end, size, end_sign, true);
    return true;
}

static bool skip_comment(struct jinja *run, struct jinja_lexer *lexer) {
    size_t content = 2 + (sign_at(lexer, 2) != '\0');
    size_t end = find(lexer, content, "#}");
    if (end == SIZE_MAX)
        return jinja_fail(run, "a comment has no end");
    pass_end(lexer, end, 2, end > content ? sign_at(lexer, end - 1) : '\0', true);
    return true;
}

static size_t find_tag(const struct jinja_lexer *lexer) {
    size_t size = left(lexer);
    for (size_t i = 0; i + 1 < size; i++) {
        const char *c = memchr(here(lexer) + i, '{', size - 1 - i);
        if (!c)
            break;
        i = (size_t)(c - here(lexer));
        if (c[1] == '{' || c[1] == '%' || c[1] == '#')
            return i;
    }
    return size;
}

/* The text up to the next tag, which may be empty. A comment is passed, of a raw part the
 * text is read; the beginning of another tag is due as the next token. */
static bool read_text(struct jinja *run, struct jinja_lexer *lexer, struct jinja_token *token) {
    token->kind = JINJA_TOKEN_TEXT;
    size_t tag = find_tag(lexer);
    if (tag == left(lexer)) {
        token->text = (struct jinja_string){ here(lexer), tag };
        lexer->position += tag;
        if (tag == 0)
            token->kind = JINJA_TOKEN_END;
        return true;
    }
    bool is_print = looking_at(lexer, tag, "{{"), is_comment = looking_at(lexer, tag, "{#");
    char sign = sign_at(lexer, tag + 2), end_sign = '\0';
    token->text = (struct jinja_string){ here(lexer), trim_before(lexer, tag, sign, !is_print) };
    size_t raw = raw_tag(lexer, tag, "raw", &end_sign);
    if (raw && end_sign != '+') {
        if (token->text.size)      /* first this text, then what is raw */
            lexer->position += tag;
        else
            return read_raw(run, lexer, tag, raw, end_sign, token);
        /* What was trimmed is behind us: nothing is left before the tag. */
        lexer->at_line_start = false;
        return true;
    }
    lexer->position += tag;
    count_lines(run, lexer);
    if (is_comment)
        return skip_comment(run, lexer);
    lexer->position += 2 + (sign != '\0');
    lexer->mode = is_print ? JINJA_IN_PRINT : JINJA_IN_TAG;
    lexer->brackets = 0;
    lexer->tag_is_due = true;
    return true;
}

/* Where a tag's end stands here, move past it. */
static bool at_end(struct jinja_lexer *lexer) {
    bool is_tag = lexer->mode == JINJA_IN_TAG;
    char sign = sign_at(lexer, 0);
    if (sign == '+' && !is_tag)
        sign = '\0';
    if (!looking_at(lexer, sign != '\0', is_tag ? "%}" : "}}"))
        return false;
    pass_end(lexer, sign != '\0', 2, sign, is_tag);
    lexer->mode = JINJA_IN_TEXT;
    return true;
}

static bool is_digit(char c, int base) {
    return hex_digit(c) >= 0 && hex_digit(c) < base;
}

/* Digits, with single underscores between them, from `offset`; the offset after them. */
static size_t pass_digits(const struct jinja_lexer *lexer, size_t offset, int base) {
    while (offset < left(lexer)) {
        char c = here(lexer)[offset];
        bool is_gap = c == '_' && offset + 1 < left(lexer) && is_digit(here(lexer)[offset + 1], base);
        if (!is_gap && !is_digit(c, base))
            break;
        offset++;
    }
    return offset;
}

static bool read_integer(struct jinja *run, struct jinja_lexer *lexer, struct jinja_value *value) {
    int base = 10;
    size_t start = 0;
    if (here(lexer)[0] == '0' && left(lexer) > 2) {
        char c = here(lexer)[1] | 0x20;
        base = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 10;
        start = base != 10 && is_digit(here(lexer)[2], base) ? 2 : 0;
        base = start ? base : 10;
    }
    size_t end = pass_digits(lexer, start, base);
    int64_t number = 0;
    for (size_t i = start; i < end; i++) {
        if (here(lexer)[i] == '_')
            continue;
        if (__builtin_mul_overflow(number, base, &number)
            || __builtin_add_overflow(number, hex_digit(here(lexer)[i]), &number))
            return jinja_fail(run, "a number is too large");
    }
    lexer->position += end;
    *value = jinja_integer(number);
    return true;
}

static bool read_number(struct jinja *run, struct jinja_lexer *lexer, struct jinja_value *value) {
    size_t whole = pass_digits(lexer, 0, 10), end = whole;
    bool after_dot = lexer->position > 0 && here(lexer)[-1] == '.';
    if (!after_dot && looking_at(lexer, end, ".") && pass_digits(lexer, end + 1, 10) > end + 1)
        end = pass_digits(lexer, end + 1, 10);
    if (!after_dot && (looking_at(lexer, end, "e") || looking_at(lexer, end, "E"))) {
        size_t exponent = end + 1 + (sign_at(lexer, end + 1) != '\0');
        if (pass_digits(lexer, exponent, 10) > exponent)
            end = pass_digits(lexer, exponent, 10);
    }
    if (end == whole)
        return read_integer(run, lexer, value);
    char digits[64];
    size_t count = 0;
    for (size_t i = 0; i < end; i++) {
        if (here(lexer)[i] == '_')
            continue;
        if (count == sizeof digits - 1)
            return jinja_fail(run, "a number has too many digits");
        digits[count++] = here(lexer)[i];
    }
    digits[count] = '\0';
    *value = jinja_real(strtod(digits, NULL));
    lexer->position += end;
    return true;
}

/* The code point of `count` digits at `offset`; false where they are not all there. */
static bool read_code(const char *bytes, size_t size, size_t offset, size_t count, uint32_t *code) {
    *code = 0;
    if (offset > size || count > size - offset)
        return false;
    for (size_t i = 0; i < count; i++) {
        int digit = hex_digit(bytes[offset + i]);
        if (digit < 0)
            return false;
        *code = *code * 16 + (uint32_t)digit;
    }
    return true;
}

/* One escape after its backslash: append what it means, say how many bytes it has. */
static bool put_escape(struct jinja *run, const char *bytes, size_t size, size_t *used) {
    static const char letters[] = "abfnrtv\\'\"\n", meanings[] = "\a\b\f\n\r\t\v\\'\"";
    const char *letter = bytes[0] ? strchr(letters, bytes[0]) : NULL;
    *used = 1;
    if (letter)
        return jinja_put_bytes(run, meanings + (letter - letters), *letter != '\n');
    uint32_t code = 0;
    size_t digits = bytes[0] == 'x' ? 2 : bytes[0] == 'u' ? 4 : bytes[0] == 'U' ? 8 : 0;
    if (digits) {
        if (!read_code(bytes, size, 1, digits, &code) || code > 0x10ffff)
            return jinja_fail(run, "a string has a \\%c that is no character", bytes[0]);
        *used = 1 + digits;
    } else if (bytes[0] >= '0' && bytes[0] <= '7') {
        for (*used = 0; *used < 3 && *used < size && bytes[*used] >= '0' && bytes[*used] <= '7'; (*used)++)
            code = code * 8 + (uint32_t)(bytes[*used] - '0');
    } else {
        /* Not an escape: the backslash stays, the character follows as it is. */
        *used = 0;
        return jinja_put_bytes(run, "\\", 1);
    }
    text_append_utf8(&run->output, code);
    return jinja_put_bytes(run, "", 0);
}

static bool read_string(struct jinja *run, struct jinja_lexer *lexer, struct jinja_value *value) {
    char quote = here(lexer)[0];
    size_t end = 1;
    bool has_escapes = false;
    while (end < left(lexer) && here(lexer)[end] != quote) {
        bool is_escape = here(lexer)[end] == '\\';
        has_escapes |= is_escape;
        end += is_escape ? 2 : 1;
    }
    if (end >= left(lexer))
        return jinja_fail(run, "a string has no end");
    struct jinja_string raw = { here(lexer) + 1, end - 1 };
    lexer->position += end + 1;
    *value = jinja_text(raw);
    if (!has_escapes)
        return true;
    size_t mark = jinja_mark(run);
    for (size_t i = 0; i < raw.size;) {
        const char *backslash = memchr(raw.bytes + i, '\\', raw.size - i);
        size_t plain = backslash ? (size_t)(backslash - raw.bytes) : raw.size, used = 0;
        if (!jinja_put_bytes(run, raw.bytes + i, plain - i))
            return false;
        i = plain;
        if (backslash && !put_escape(run, backslash + 1, raw.size - plain - 1, &used))
            return false;
        i += backslash ? 1 + used : 0;
    }
    return jinja_capture(run, mark, value);
}

static size_t name_size(const struct jinja_lexer *lexer) {
    size_t size = 0;
    while (size < left(lexer)) {
        struct utf8_unit unit = utf8_next(here(lexer) + size, left(lexer) - size);
        if (!unicode_is_word(unit.codepoint) || (size == 0 && unit.codepoint >= '0' && unit.codepoint <= '9'))
            break;
        size += unit.length;
    }
    return size;
}

static bool read_operator(struct jinja *run, struct jinja_lexer *lexer, struct jinja_token *token) {
    static const struct { char text[3]; int operation; } pairs[] = {
        { "**", JINJA_POWER }, { "//", JINJA_FLOOR }, { "==", JINJA_EQUAL }, { "!=", JINJA_NOT_EQUAL },
        { "<=", JINJA_LESS_EQUAL }, { ">=", JINJA_GREATER_EQUAL },
    };
    token->kind = JINJA_TOKEN_OPERATOR;
    size_t size = 1;
    char c = here(lexer)[0];
    token->operation = c;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (looking_at(lexer, 0, pairs[i].text)) {
            token->operation = pairs[i].operation;
            size = 2;
        }
    if (size == 1 && (!c || !strchr("+-*/%~[](){}<>=.:|,;", c))) {
        struct utf8_unit unit = utf8_next(here(lexer), left(lexer));
        return jinja_fail(run, "a tag has a character that means nothing there: '%.*s'", (int)unit.length, here(lexer));
    }
    if (strchr("([{", c) && size == 1)
        lexer->brackets++;
    else if (strchr(")]}", c) && size == 1 && lexer->brackets)
        lexer->brackets--;
    lexer->position += size;
    return true;
}

static bool read_code_token(struct jinja *run, struct jinja_lexer *lexer, struct jinja_token *token) {
    lexer->position += jinja_space_prefix(here(lexer), left(lexer));
    count_lines(run, lexer);
    token->line = lexer->line;
    if (!left(lexer))
        return jinja_fail(run, "the template ends inside a tag");
    const char *start = here(lexer);
    bool good = true;
    enum jinja_mode mode = lexer->mode;
    if (!lexer->brackets && at_end(lexer)) {
        token->kind = mode == JINJA_IN_TAG ? JINJA_TOKEN_TAG_END : JINJA_TOKEN_PRINT_END;
    } else if (*start >= '0' && *start <= '9') {
        token->kind = JINJA_TOKEN_CONSTANT;
        good = read_number(run, lexer, &token->value);
    } else if (*start == '\'' || *start == '"') {
        token->kind = JINJA_TOKEN_CONSTANT;
        good = read_string(run, lexer, &token->value);
    } else if (name_size(lexer)) {
        token->kind = JINJA_TOKEN_NAME;
        lexer->position += name_size(lexer);
    } else {
        good = read_operator(run, lexer, token);
    }
    token->text = (struct jinja_string){ start, (size_t)(here(lexer) - start) };
    return good;
}

bool jinja_next_token(struct jinja *run, struct jinja_lexer *lexer, struct jinja_token *token) {
    *token = (struct jinja_token){ .line = lexer->line };
    if (!jinja_spend(run, 1))
        return false;
    if (lexer->tag_is_due) {
        lexer->tag_is_due = false;
        token->kind = lexer->mode == JINJA_IN_TAG ? JINJA_TOKEN_TAG : JINJA_TOKEN_PRINT;
        return true;
    }
    if (lexer->mode != JINJA_IN_TEXT)
        return read_code_token(run, lexer, token);
    return read_text(run, lexer, token);
}
