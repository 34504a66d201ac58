#include "runtime/added_tokens.h"

#include "runtime/unicode.h"

#include <stdlib.h>
#include <string.h>

enum { CONTENT_LIMIT = 4096 };

void added_tokens_release(struct added_tokens *set) {
    for (uint32_t i = 0; i < set->count; i++)
        free(set->tokens[i].content);
    free(set->tokens);
    *set = (struct added_tokens){ 0 };
}

bool added_tokens_add(struct added_tokens *set, const char *content, size_t length, int32_t id,
                      unsigned flags, struct error *err) {
    if (!length || length > CONTENT_LIMIT)
        return error_set(err, ERROR_FAILED, "the added token %d has %zu bytes; it can have 1 to %d", id, length,
                         CONTENT_LIMIT);
    if (set->count == set->capacity) {
        uint32_t capacity = set->capacity ? set->capacity * 2 : 16;
        struct added_token *tokens = realloc(set->tokens, capacity * sizeof *tokens);
        if (!tokens)
            return error_set(err, ERROR_FAILED, "cannot keep the added tokens: out of memory");
        set->tokens = tokens;
        set->capacity = capacity;
    }
    char *copy = malloc(length);
    if (!copy)
        return error_set(err, ERROR_FAILED, "cannot keep the added tokens: out of memory");
    memcpy(copy, content, length);
    set->tokens[set->count++] = (struct added_token){ copy, (uint32_t)length, id, flags };
    return true;
}

static int compare_tokens(const void *left, const void *right) {
    const struct added_token *a = left, *b = right;
    int order = memcmp(a->content, b->content, a->length < b->length ? a->length : b->length);
    if (order)
        return order;
    if (a->length != b->length)
        return a->length < b->length ? -1 : 1;
    return (a->id > b->id) - (a->id < b->id);
}

void added_tokens_finish(struct added_tokens *set) {
    if (set->count)
        qsort(set->tokens, set->count, sizeof *set->tokens, compare_tokens);
    for (unsigned byte = 0, i = 0; byte <= 256; byte++) {
        while (i < set->count && (unsigned char)set->tokens[i].content[0] < byte)
            i++;
        set->first[byte] = i;
    }
}

/* The first token in [low, high) whose byte at `depth` is at least `byte`. All of
 * them are longer than `depth` and equal before it. */
static uint32_t lower_bound(const struct added_tokens *set, uint32_t low, uint32_t high, size_t depth,
                            unsigned byte) {
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if ((unsigned char)set->tokens[middle].content[depth] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The longest token that `bytes` begin with; NULL: none. */
static const struct added_token *match_at(const struct added_tokens *set, const char *bytes, size_t size) {
    const struct added_token *best = NULL;
    uint32_t low = set->first[(unsigned char)bytes[0]], high = set->first[(unsigned char)bytes[0] + 1];
    for (size_t depth = 1; low < high; depth++) {
        while (low < high && set->tokens[low].length == depth)   /* the shorter sort first */
            best = &set->tokens[low++];
        if (depth == size || low == high)
            break;
        unsigned byte = (unsigned char)bytes[depth];
        low = lower_bound(set, low, high, depth, byte);
        high = lower_bound(set, low, high, depth, byte + 1);
    }
    return best;
}

static size_t spaces_before(const char *bytes, size_t end) {
    while (end) {
        size_t at = utf8_last(bytes, end);
        if (!unicode_is_space(utf8_next(bytes + at, end - at).codepoint))
            break;
        end = at;
    }
    return end;
}

static size_t spaces_after(const char *bytes, size_t start, size_t size) {
    while (start < size) {
        struct utf8_unit unit = utf8_next(bytes + start, size - start);
        if (!unicode_is_space(unit.codepoint))
            break;
        start += unit.length;
    }
    return start;
}

static bool is_inside_word(const char *bytes, size_t size, size_t start, size_t end) {
    if (end < size && unicode_is_word(utf8_next(bytes + end, size - end).codepoint))
        return true;
    if (!start)
        return false;
    size_t at = utf8_last(bytes, start);
    return unicode_is_word(utf8_next(bytes + at, start - at).codepoint);
}

bool added_tokens_split(const struct added_tokens *set, const char *bytes, size_t size, bool skip_special,
                        part_visitor *visit, void *context, struct error *err) {
    /* Where the last part ended. After a right strip that is past `at`, and white
     * space that is a token itself still matches there, as in the reference; only
     * a token that has nothing left is dropped. */
    size_t done = 0;
    for (size_t at = 0; at < size;) {
        const struct added_token *token = match_at(set, bytes + at, size - at);
        if (!token) {
            at++;
            continue;
        }
        size_t start = at, end = at + token->length;
        at = end;
        if ((skip_special && (token->flags & ADDED_SPECIAL))
            || ((token->flags & ADDED_SINGLE_WORD) && is_inside_word(bytes, size, start, end)))
            continue;
        if (token->flags & ADDED_LSTRIP) {
            start = spaces_before(bytes, start);
            start = start < done ? done : start;
        }
        if (token->flags & ADDED_RSTRIP)
            end = spaces_after(bytes, end, size);
        if (start > done && !visit(context, -1, bytes + done, start - done, done, err))
            return false;
        if (start < end && !visit(context, token->id, bytes + start, end - start, start, err))
            return false;
        done = end;
    }
    return done >= size ? size > 0 || visit(context, -1, bytes, 0, 0, err)
        : visit(context, -1, bytes + done, size - done, done, err);
}
