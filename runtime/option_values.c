#include "runtime/option_values.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool parse_ids(const char *what, const char *text, int32_t **ids, uint32_t *count,
               struct error *err) {
    size_t capacity = strlen(text) / 2 + 1, used = 0;
    int32_t *parsed = malloc(capacity * sizeof *parsed);
    if (!parsed)
        return error_set(err, ERROR_FAILED, "cannot read the ids of %s: out of memory", what);
    const char *at = text;
    while (at += strspn(at, " \t\r\n,"), *at) {
        char *end;
        errno = 0;
        long value = strtol(at, &end, 10);
        if (end == at || errno || value < 0 || value > INT32_MAX || !strchr(", \t\r\n", *end)) {
            error_set(err, ERROR_USAGE,
                      "%s holds '%.20s', which is no token id; give ids as 1,2,3", what, at);
            free(parsed);
            return false;
        }
        parsed[used++] = (int32_t)value;
        at = end;
    }
    *ids = parsed;
    *count = (uint32_t)used;
    return true;
}

bool option_whole(const char *option, const char *text, uint64_t most, uint64_t *value, struct error *err) {
    char *end;
    errno = 0;
    unsigned long long parsed = strtoull(text, &end, 10);
    if (end == text || *end || errno || strchr(text, '-') || parsed > most)
        return error_set(err, ERROR_USAGE, "%s takes a whole number, not '%s'", option, text);
    *value = parsed;
    return true;
}

bool option_count(const char *option, const char *text, uint32_t *value, struct error *err) {
    uint64_t whole;
    if (!option_whole(option, text, UINT32_MAX / 2, &whole, err))
        return false;
    *value = (uint32_t)whole;
    return true;
}

char *option_unescape(const char *text) {
    static const char letters[] = "ntr\\", meant[] = "\n\t\r\\";
    char *copy = strdup(text), *to = copy;
    for (const char *at = copy; copy && *at; at++) {
        const char *letter = *at == '\\' && at[1] ? strchr(letters, at[1]) : NULL;
        *to++ = letter ? meant[letter - letters] : *at;
        at += letter != NULL;
    }
    if (copy)
        *to = '\0';
    return copy;
}

bool option_number(const char *option, const char *text, float *value, struct error *err) {
    char *end;
    errno = 0;
    float parsed = strtof(text, &end);
    if (end == text || *end || errno == ERANGE || !isfinite(parsed))
        return error_set(err, ERROR_USAGE, "%s takes a number, not '%s'", option, text);
    *value = parsed;
    return true;
}
