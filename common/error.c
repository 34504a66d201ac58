#include "common/error.h"

#include "common/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool error_set(struct error *err, enum error_kind kind, const char *format, ...) {
    if (!err)
        return false;
    /* A part of the new sentence may be the old one: format before overwriting. */
    char sentence[sizeof err->text];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    text_defuse(sentence, false);
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
    text_defuse(context, false);
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
