/* error: a failure as one sentence.
 *
 * Fallible functions return bool (or NULL) and take `struct error *` last. The
 * callee writes the sentence; only main() prints it and turns the kind into an
 * exit code. Wording: cause, subject in single quotes, next step; lower case
 * at the start, no full stop at the end. */
#ifndef COMMON_ERROR_H
#define COMMON_ERROR_H

#include <stdbool.h>

enum error_kind {
    ERROR_NONE = 0,
    ERROR_FAILED,      /* files, devices, memory: exit 1 */
    ERROR_USAGE,       /* what was asked for makes no sense: exit 2 */
    ERROR_NO_PLAN,     /* no plan of that name for model and devices: exit 3 */
    ERROR_STALE,       /* there is a plan, but a precondition changed: exit 4 */
    ERROR_INTERRUPTED  /* by a signal: exit 128 + its number, which main() knows */
};

struct error {
    enum error_kind kind;
    char text[1024];
};

/* Write the sentence and the kind. `err` may be NULL. Always returns false, so
 * that `return error_set(...)` ends a function that failed. */
bool error_set(struct error *err, enum error_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Put "context: " before the sentence that is there. Always returns false. */
bool error_prefix(struct error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The exit code for a kind; 1 for ERROR_INTERRUPTED. */
int error_exit_code(enum error_kind kind);

#endif
