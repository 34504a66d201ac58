/* unicode: strings of UTF-8 and the properties of characters; the door to utf8proc. */
#ifndef RUNTIME_UNICODE_H
#define RUNTIME_UNICODE_H

#include "common/error.h"
#include "common/text.h"
#include "common/utf8.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where the last character of `size` bytes of UTF-8 begins; size must not be 0. */
size_t utf8_last(const char *bytes, size_t size);

/* The length of the longest prefix that is valid UTF-8. */
size_t utf8_valid_prefix(const char *bytes, size_t size);

/* Append `bytes` with U+FFFD in place of each maximal invalid subpart. */
void utf8_append_repaired(struct text *text, const char *bytes, size_t size);

bool unicode_is_space(uint32_t codepoint);   /* White_Space */
bool unicode_is_word(uint32_t codepoint);    /* letters, marks, digits, connectors */
bool unicode_is_printable(uint32_t codepoint);   /* no control, format, private or unassigned one, no
                                                    separator but the space */
int hex_digit(char c);                       /* its value; -1: none */
uint32_t unicode_lower(uint32_t codepoint);      /* the simple mappings: one for one */
uint32_t unicode_upper(uint32_t codepoint);

enum unicode_form { UNICODE_NFC, UNICODE_NFD, UNICODE_NFKC, UNICODE_NFKD };

/* Append valid UTF-8 in a normal form. */
bool unicode_append_normalized(struct text *text, enum unicode_form form, const char *bytes,
                               size_t size, struct error *err);

#endif
