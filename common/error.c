#include "common/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Bytes of the UTF-8 character at `c`; 0: none that may be shown. */
static int shown_bytes(const unsigned char *c) {
    int length = *c < 0x80 ? 1 : *c >= 0xc2 && *c < 0xe0 ? 2 : *c >= 0xe0 && *c < 0xf0 ? 3
        : *c >= 0xf0 && *c < 0xf5 ? 4 : 0;
    if (*c < ' ' || *c == 0x7f || (*c == 0xc2 && c[1] < 0xa0))
        return 0;
    for (int i = 1; i < length; i++)
        if ((c[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

/* Names from files are part of sentences: no control character, in ASCII or as
 * UTF-8 of U+0080 to U+009F, may reach a terminal, and no second line. */
static void defuse(char *sentence) {
    for (unsigned char *c = (unsigned char *)sentence; *c;) {
        int length = shown_bytes(c);
        if (!length)
            *c = *c == '\n' || *c == '\t' ? ' ' : '?';
        c += length ? length : 1;
    }
}

bool error_set(struct error *err, enum error_kind kind, const char *format, ...) {
    if (!err)
        return false;
    /* A part of the new sentence may be the old one: format before overwriting. */
    char sentence[sizeof err->text];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    defuse(sentence);
    err->kind = kind;
    memcpy(err->text, sentence, sizeof sentence);
    return false;
}

bool error_prefix(struct error *err, const char *format, ...) {
    if (!err)
        return false;
    char context[sizeof err->text];
    va_list args;
    va_start(args, format);
    vsnprintf(context, sizeof context, format, args);
    va_end(args);
    defuse(context);
    size_t used = strlen(context);
    snprintf(context + used, sizeof context - used, ": %s", err->text);
    memcpy(err->text, context, sizeof context);
    return false;
}

int error_exit_code(enum error_kind kind) {
    switch (kind) {
    case ERROR_NONE: return 0;
    case ERROR_USAGE: return 2;
    case ERROR_NO_PLAN: return 3;
    case ERROR_STALE: return 4;
    case ERROR_FAILED:
    case ERROR_INTERRUPTED: break;
    }
    return 1;
}
