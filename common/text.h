/* text: a growable byte string with a ceiling.
 *
 * Invariants: `bytes` is never NULL after text_init() and always ends with a
 * NUL that `length` does not count. Running out of memory or past TEXT_LIMIT
 * sets `failed`, keeps what was there and ignores later appends: check once,
 * at the end. */
#ifndef COMMON_TEXT_H
#define COMMON_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#define TEXT_LIMIT ((size_t)1 << 30)

struct text {
    char *bytes;
    size_t length;
    size_t capacity;  /* 0 while bytes points at a static empty string */
    bool failed;
};

void text_init(struct text *text);
void text_release(struct text *text);          /* then as after text_init() */
void text_clear(struct text *text);            /* keeps the memory */
void text_append(struct text *text, const char *string);
void text_append_bytes(struct text *text, const void *bytes, size_t count);
void text_append_char(struct text *text, char c);
void text_append_format(struct text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void text_append_utf8(struct text *text, unsigned codepoint);  /* U+FFFD where invalid */

/* Names from files are part of what is printed: no control character, in ASCII or as UTF-8 of
 * U+0080 to U+009F, may reach a terminal, nor, unless it `keeps_lines`, a second line. Each byte of what is no
 * UTF-8 becomes '?', too. In place. */
void text_defuse(char *string, bool keeps_lines);

/* Hand the string over: the caller owns it and must free() it; `text` is empty
 * again. NULL if anything failed. */
char *text_take(struct text *text);

#endif
