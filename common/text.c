#include "common/text.h"

#include "common/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char empty[1];

void text_init(struct text *text) {
    *text = (struct text){ .bytes = empty };
}

void text_release(struct text *text) {
    if (text->capacity)
        free(text->bytes);
    text_init(text);
}

void text_clear(struct text *text) {
    text->length = 0;
    text->failed = false;
    if (text->capacity)
        text->bytes[0] = '\0';
}

static bool reserve(struct text *text, size_t more) {
    if (text->failed || more > TEXT_LIMIT - text->length - 1) {
        text->failed = true;
        return false;
    }
    size_t need = text->length + more + 1;
    if (need <= text->capacity)
        return true;
    size_t capacity = text->capacity ? text->capacity : 64;
    while (capacity < need)
        capacity *= 2;
    char *grown = realloc(text->capacity ? text->bytes : NULL, capacity);
    if (!grown) {
        text->failed = true;
        return false;
    }
    if (!text->capacity)
        grown[0] = '\0';
    text->bytes = grown;
    text->capacity = capacity;
    return true;
}

void text_append_bytes(struct text *text, const void *bytes, size_t count) {
    if (!reserve(text, count))
        return;
    if (count)
        memcpy(text->bytes + text->length, bytes, count);
    text->length += count;
    text->bytes[text->length] = '\0';
}

void text_append(struct text *text, const char *string) {
    text_append_bytes(text, string, strlen(string));
}

void text_append_char(struct text *text, char c) {
    text_append_bytes(text, &c, 1);
}

void text_append_format(struct text *text, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int count = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (count < 0)
        text->failed = true;
    else if (reserve(text, (size_t)count)) {
        vsnprintf(text->bytes + text->length, (size_t)count + 1, format, again);
        text->length += (size_t)count;
    }
    va_end(again);
}

void text_append_utf8(struct text *text, unsigned codepoint) {
    if (codepoint > 0x10ffff || (codepoint >= 0xd800 && codepoint <= 0xdfff))
        codepoint = 0xfffd;
    char out[4];
    size_t count;
    if (codepoint < 0x80) {
        out[0] = (char)codepoint;
        count = 1;
    } else if (codepoint < 0x800) {
        out[0] = (char)(0xc0 | codepoint >> 6);
        out[1] = (char)(0x80 | (codepoint & 0x3f));
        count = 2;
    } else if (codepoint < 0x10000) {
        out[0] = (char)(0xe0 | codepoint >> 12);
        out[1] = (char)(0x80 | (codepoint >> 6 & 0x3f));
        out[2] = (char)(0x80 | (codepoint & 0x3f));
        count = 3;
    } else {
        out[0] = (char)(0xf0 | codepoint >> 18);
        out[1] = (char)(0x80 | (codepoint >> 12 & 0x3f));
        out[2] = (char)(0x80 | (codepoint >> 6 & 0x3f));
        out[3] = (char)(0x80 | (codepoint & 0x3f));
        count = 4;
    }
    text_append_bytes(text, out, count);
}

char *text_take(struct text *text) {
    char *taken = NULL;
    if (!text->failed && reserve(text, 0))
        taken = text->bytes;
    else
        text_release(text);
    text_init(text);
    return taken;
}

/* Bytes of the UTF-8 character at `c`; 0: none that may be shown. */
static unsigned shown_bytes(const char *c, size_t size) {
    struct utf8_unit unit = utf8_next(c, size);
    bool is_control = unit.codepoint < ' ' || (unit.codepoint >= 0x7f && unit.codepoint < 0xa0);
    return unit.state == UTF8_VALID && !is_control ? unit.length : 0;
}

void text_defuse(char *string, bool keeps_lines) {
    for (char *c = string, *end = string + strlen(string); c < end;) {
        unsigned length = shown_bytes(c, (size_t)(end - c));
        if (!length && !(keeps_lines && *c == '\n'))
            *c = *c == '\n' || *c == '\t' ? ' ' : '?';
        c += length ? length : 1;
    }
}
