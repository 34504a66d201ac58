/* utf8: one character of UTF-8 as the standard has it: no overlong forms, no surrogates, nothing
 * above U+10FFFF. */
#ifndef COMMON_UTF8_H
#define COMMON_UTF8_H

#include <stddef.h>
#include <stdint.h>

enum utf8_state {
    UTF8_VALID,
    UTF8_INVALID,   /* `length` bytes are one maximal invalid subpart */
    UTF8_CUT        /* the bytes that are left begin a character but do not finish it */
};

struct utf8_unit {
    enum utf8_state state;
    unsigned length;      /* 1 to 4 */
    uint32_t codepoint;   /* U+FFFD unless valid */
};

/* The first character of `bytes`; size must not be 0. */
struct utf8_unit utf8_next(const char *bytes, size_t size);

#endif
