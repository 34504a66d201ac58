#include "tests/support_mutate.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

uint64_t mutate_random(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

uint64_t mutate_below(uint64_t *state, uint64_t end) {
    return mutate_random(state) % end;
}

/* Three of four places lie in the head, half of those in its first kilobyte. */
static size_t place(const struct text *bytes, size_t head, uint64_t *state) {
    size_t end = bytes->length;
    if (head < end && mutate_below(state, 4))
        end = head;
    if (end > 1024 && mutate_below(state, 2))
        end = 1024;
    return end ? (size_t)mutate_below(state, end) : 0;
}

static void splice(struct text *bytes, size_t at, size_t drop, const char *put, size_t put_size) {
    size_t length = bytes->length;
    char *old = text_take(bytes);
    text_append_bytes(bytes, old, at);
    text_append_bytes(bytes, put, put_size);
    text_append_bytes(bytes, old + at + drop, length - at - drop);
    free(old);
}

static const char *flip_bits(struct text *bytes, size_t head, uint64_t *state) {
    for (uint64_t n = 1 + mutate_below(state, 8); n; n--)
        bytes->bytes[place(bytes, head, state)] ^= (char)(1 << mutate_below(state, 8));
    return "bits";
}

static const char *cut(struct text *bytes, size_t head, uint64_t *state) {
    bytes->length = place(bytes, head, state);
    bytes->bytes[bytes->length] = '\0';
    return "cut";
}

static const char *change_count(struct text *bytes, size_t head, uint64_t *state) {
    static const uint64_t values[] = {
        0, 1, 2, 255, 65536, INT32_MAX, (uint64_t)INT32_MAX + 1, UINT32_MAX, (uint64_t)1 << 32, (uint64_t)1 << 40,
        INT64_MAX, (uint64_t)1 << 63, UINT64_MAX, UINT64_MAX - 7, UINT64_MAX / 34 + 1,
    };
    size_t width = mutate_below(state, 2) ? 8 : 4, at = place(bytes, head, state);
    if (bytes->length < width)
        return flip_bits(bytes, head, state);
    at = at > bytes->length - width ? bytes->length - width : at;
    uint64_t value = 0;
    memcpy(&value, bytes->bytes + at, width);
    switch (mutate_below(state, 4)) {
    case 0: value += 1; break;
    case 1: value *= 2 + mutate_below(state, 1000); break;
    default: value = values[mutate_below(state, sizeof values / sizeof *values)];
    }
    memcpy(bytes->bytes + at, &value, width);
    return "count";
}

static const char *swap_chunks(struct text *bytes, size_t head, uint64_t *state) {
    size_t a = place(bytes, head, state), b = place(bytes, head, state), size = 1 + mutate_below(state, 256);
    size_t last = a > b ? a : b, gap = a > b ? a - b : b - a;
    size = size > bytes->length - last ? bytes->length - last : size;
    size = size > gap ? gap : size;
    for (size_t i = 0; i < size; i++) {
        char kept = bytes->bytes[a + i];
        bytes->bytes[a + i] = bytes->bytes[b + i];
        bytes->bytes[b + i] = kept;
    }
    return "swap";
}

static const char *insert(struct text *bytes, size_t head, uint64_t *state) {
    char chunk[256];
    size_t from = place(bytes, head, state), at = place(bytes, head, state), size = 1 + mutate_below(state, 256);
    size = size > bytes->length - from ? bytes->length - from : size;
    memcpy(chunk, bytes->bytes + from, size);
    splice(bytes, at, 0, chunk, size);
    return "insert";
}

static const char *drop(struct text *bytes, size_t head, uint64_t *state) {
    size_t at = place(bytes, head, state), size = 1 + mutate_below(state, 256);
    splice(bytes, at, size > bytes->length - at ? bytes->length - at : size, "", 0);
    return "remove";
}

static bool is_token(char c) {
    return isalnum((unsigned char)c) || strchr("+-._\"", c);
}

/* The number, word or quoted string at a random place becomes something else. */
static const char *replace_token(struct text *bytes, size_t head, uint64_t *state) {
    static const char *const values[] = {
        "0", "-1", "1", "3", "256", "4294967295", "4294967296", "9223372036854775807", "18446744073709551616",
        "1e308", "-1e-400", "1e999", "0.5", "NaN", "null", "true", "false", "\"\"", "\"x\"", "[]", "{}", "[[[[[[[[0",
        "{\"type\":\"Sequence\"}", "\"\\u0000\"", "\"\\ud800\"", "\"\xff\"", "\"\\n\\u001b[31m\"", "[1,2,3]", "\"BPE\"",
        "\"(a+)+$\"", "1e-30", "2147483648", "7", "-0", "\"f64\"", "\"../../etc/passwd\"",
    };
    size_t begin = place(bytes, head, state), end;
    while (begin < bytes->length && !is_token(bytes->bytes[begin]))
        begin++;
    while (begin && is_token(bytes->bytes[begin - 1]))
        begin--;
    for (end = begin; end < bytes->length && is_token(bytes->bytes[end]); end++)
        ;
    const char *value = values[mutate_below(state, sizeof values / sizeof *values)];
    splice(bytes, begin, end - begin, value, strlen(value));
    return "token";
}

const char *mutate(struct text *bytes, size_t head, enum mutation_style style, uint64_t *state) {
    typedef const char *change(struct text *, size_t, uint64_t *);
    static change *const changes[] = { flip_bits, cut, change_count, swap_chunks, insert, drop };
    const char *first = NULL;
    uint64_t count = mutate_below(state, 2) ? 1 : 1 + mutate_below(state, 4);
    for (uint64_t i = 0; i < count && bytes->length; i++) {
        change *chosen = style == MUTATE_JSON && mutate_below(state, 2) ? replace_token
            : changes[mutate_below(state, sizeof changes / sizeof *changes)];
        const char *name = chosen(bytes, head, state);
        first = first ? first : name;
    }
    return first ? first : "nothing";
}
