#include "runtime/template_token.h"

#include "common/text.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_LIMIT ((size_t)64 << 20)

struct arena_block {
    struct arena_block *next;
    size_t used, size;
    _Alignas(max_align_t) char bytes[];
};

void *arena_take(struct arena *arena, size_t size, struct error *err) {
    size = (size + sizeof(max_align_t)) & ~(sizeof(max_align_t) - 1);   /* never 0 */
    struct arena_block *block = arena->blocks;
    if (!block || block->size - block->used < size) {
        size_t room = size > 16384 ? size : 16384;
        if (size > ARENA_LIMIT || arena->used_bytes > ARENA_LIMIT - room || !(block = malloc(sizeof *block + room))) {
            error_set(err, ERROR_FAILED, "the chat template needs too much memory");
            return NULL;
        }
        *block = (struct arena_block){ arena->blocks, 0, room };
        arena->blocks = block;
        arena->used_bytes += room;
    }
    void *taken = block->bytes + block->used;
    block->used += size;
    return taken;
}

void arena_release(struct arena *arena) {
    while (arena->blocks) {
        struct arena_block *next = arena->blocks->next;
        free(arena->blocks);
        arena->blocks = next;
    }
    arena->used_bytes = 0;
}

struct lexer {
    const char *at, *end;
    bool line_starts;         /* the last tag ended with its newline */
    struct arena *arena;
    struct template_token *tokens;
    size_t count, capacity;
    struct error *err;
};

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

static bool add(struct lexer *lexer, enum token_kind kind, const char *text, size_t length, int64_t number) {
    if (lexer->count == lexer->capacity) {
        size_t capacity = lexer->capacity ? lexer->capacity * 2 : 256;
        struct template_token *tokens = arena_take(lexer->arena, capacity * sizeof *tokens, lexer->err);
        if (!tokens)
            return false;
        if (lexer->count)
            memcpy(tokens, lexer->tokens, lexer->count * sizeof *tokens);
        lexer->tokens = tokens;
        lexer->capacity = capacity;
    }
    lexer->tokens[lexer->count++] = (struct template_token){ kind, text, length, number };
    return true;
}

/* The source with \n for every line end, and without the last one. */
static bool normalize_lines(struct lexer *lexer, const char *source) {
    char *copy = arena_take(lexer->arena, strlen(source) + 1, lexer->err);
    if (!copy)
        return false;
    char *out = copy;
    for (const char *at = source; *at; at++) {
        *out++ = *at == '\r' ? '\n' : *at;
        if (at[0] == '\r' && at[1] == '\n')
            at++;
    }
    if (out > copy && out[-1] == '\n')
        out--;
    *out = '\0';
    lexer->at = copy;
    lexer->end = out;
    return true;
}

/* Text up to the tag at `tag` (or the end), less what the tag takes from it. */
static bool add_text(struct lexer *lexer, const char *tag) {
    const char *start = lexer->at, *end = tag;
    if (tag < lexer->end) {
        if (tag[2] == '-') {
            while (end > start && is_blank(end[-1]))
                end--;
        } else if (tag[1] != '{' && tag[2] != '+') {
            const char *line = end;
            while (line > start && (line[-1] == ' ' || line[-1] == '\t'))
                line--;
            if (line > start ? line[-1] == '\n' : lexer->line_starts)
                end = line;
        }
    }
    return end == start || add(lexer, TOKEN_TEXT, start, (size_t)(end - start), 0);
}

/* Past a tag's end, which `at` is at: "-%}", "+%}" or "%}". */
static void leave_tag(struct lexer *lexer, bool trims_newline) {
    char sign = *lexer->at;
    bool has_sign = sign == '-' || sign == '+';
    lexer->at += has_sign ? 3 : 2;
    lexer->line_starts = false;
    if (sign == '-') {
        while (is_blank(*lexer->at))
            lexer->line_starts = *lexer->at++ == '\n';
    } else if (!has_sign && trims_newline && *lexer->at == '\n') {
        lexer->at++;
        lexer->line_starts = true;
    }
}

static bool is_tag_end(const char *at, char kind) {
    if (*at == '-' || (*at == '+' && kind != '}'))
        at++;
    return at[0] == kind && at[1] == '}';
}

static bool skip_comment(struct lexer *lexer) {
    for (lexer->at += 2; lexer->at < lexer->end; lexer->at++)
        if (is_tag_end(lexer->at, '#')) {
            leave_tag(lexer, true);
            return true;
        }
    return error_set(lexer->err, ERROR_FAILED, "the chat template has a comment without an end");
}

static int hex_value(const char *at, unsigned digits) {
    int value = 0;
    for (unsigned i = 0; i < digits; i++) {
        char c = at[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
            : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* The character after a backslash; leaves `at` behind it. */
static bool append_escape(struct lexer *lexer, struct text *text) {
    static const char names[] = "ntr\\'\"abfv", values[] = "\n\t\r\\'\"\a\b\f\v";
    char c = *lexer->at++;
    const char *name = c ? strchr(names, c) : NULL;
    unsigned digits = c == 'x' ? 2 : c == 'u' ? 4 : 0;
    if (name) {
        text_append_char(text, values[name - names]);
        return true;
    }
    int value = digits ? hex_value(lexer->at, digits) : -1;
    if (value > 0) {
        text_append_utf8(text, (unsigned)value);
        lexer->at += digits;
        return true;
    }
    return error_set(lexer->err, ERROR_FAILED, "the chat template has the escape '\\%c', which is not supported",
                     c ? c : ' ');
}

static bool read_string(struct lexer *lexer) {
    char quote = *lexer->at++;
    struct text text;
    text_init(&text);
    bool ok = true;
    while (ok && lexer->at < lexer->end && *lexer->at != quote) {
        char c = *lexer->at++;
        if (c == '\\')
            ok = append_escape(lexer, &text);
        else
            text_append_char(&text, c);
    }
    if (ok && lexer->at >= lexer->end)
        ok = error_set(lexer->err, ERROR_FAILED, "the chat template has a string without an end");
    char *copy = ok ? arena_take(lexer->arena, text.length + 1, lexer->err) : NULL;
    if (copy) {
        memcpy(copy, text.bytes, text.length + 1);
        lexer->at++;
        ok = add(lexer, TOKEN_STRING, copy, text.length, 0);
    }
    text_release(&text);
    return copy && ok;
}

static bool is_name_start(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool read_token(struct lexer *lexer) {
    static const char *const pairs[] = { "==", "!=", "<=", ">=", "//", "**" };
    const char *start = lexer->at;
    if (*start == '\'' || *start == '"')
        return read_string(lexer);
    if (is_name_start(*start)) {
        while (is_name_start(*lexer->at) || is_digit(*lexer->at))
            lexer->at++;
        return add(lexer, TOKEN_NAME, start, (size_t)(lexer->at - start), 0);
    }
    if (is_digit(*start)) {
        int64_t number = 0;
        for (; is_digit(*lexer->at); lexer->at++) {
            if (number > INT32_MAX)
                return error_set(lexer->err, ERROR_FAILED, "the chat template has too large a number");
            number = number * 10 + (*lexer->at - '0');
        }
        return add(lexer, TOKEN_NUMBER, start, (size_t)(lexer->at - start), number);
    }
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (memcmp(start, pairs[i], 2) == 0) {
            lexer->at += 2;
            return add(lexer, TOKEN_OPERATOR, start, 2, 0);
        }
    if (!strchr("+-*/%~|.,:()[]{}=<>", *start))
        return error_set(lexer->err, ERROR_FAILED, "the chat template has the character '%c', which is not "
                         "supported there", *start);
    lexer->at++;
    return add(lexer, TOKEN_OPERATOR, start, 1, 0);
}

/* What is between a tag's ends. A closing brace that closes an opened one ends
 * nothing. */
static bool read_tag(struct lexer *lexer) {
    bool prints = lexer->at[1] == '{';
    unsigned braces = 0;
    if (!add(lexer, prints ? TOKEN_PRINT : TOKEN_BLOCK, lexer->at, 2, 0))
        return false;
    lexer->at += 2;
    lexer->at += *lexer->at == '-' || (*lexer->at == '+' && !prints);
    while (lexer->at < lexer->end) {
        if (is_blank(*lexer->at)) {
            lexer->at++;
            continue;
        }
        if (!braces && is_tag_end(lexer->at, prints ? '}' : '%')) {
            const char *end = lexer->at;
            leave_tag(lexer, !prints);
            return add(lexer, prints ? TOKEN_PRINT_END : TOKEN_BLOCK_END, end, 2, 0);
        }
        braces += *lexer->at == '{';
        braces -= *lexer->at == '}' && braces;
        if (!read_token(lexer))
            return false;
    }
    return error_set(lexer->err, ERROR_FAILED, "the chat template has a tag without an end");
}

static const char *find_tag(const char *at, const char *end) {
    for (; at < end; at++)
        if (at[0] == '{' && (at[1] == '{' || at[1] == '%' || at[1] == '#'))
            return at;
    return end;
}

struct template_token *template_tokens(const char *source, struct arena *arena, size_t *count, struct error *err) {
    struct lexer lexer = { .line_starts = true, .arena = arena, .err = err };
    if (!normalize_lines(&lexer, source))
        return NULL;
    while (lexer.at < lexer.end) {
        const char *tag = find_tag(lexer.at, lexer.end);
        if (!add_text(&lexer, tag))
            return NULL;
        lexer.at = tag;
        if (tag < lexer.end && !(tag[1] == '#' ? skip_comment(&lexer) : read_tag(&lexer)))
            return NULL;
    }
    if (!add(&lexer, TOKEN_END, lexer.end, 0, 0))
        return NULL;
    *count = lexer.count;
    return lexer.tokens;
}
