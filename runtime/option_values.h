/* option_values: values as they are typed. A sentence names the option that has them, and is
 * ERROR_USAGE. */
#ifndef RUNTIME_OPTION_VALUES_H
#define RUNTIME_OPTION_VALUES_H

#include "common/error.h"

#include <stdint.h>

/* "1,2,3" (white space allowed) as ids; the caller frees *ids. */
bool parse_ids(const char *what, const char *text, int32_t **ids, uint32_t *count, struct error *err);

/* A whole number up to `most`; and one of things that are counted, with which a sum cannot overflow. */
bool option_whole(const char *option, const char *text, uint64_t most, uint64_t *value, struct error *err);
bool option_count(const char *option, const char *text, uint32_t *value, struct error *err);

/* A copy of a text in which \n, \t, \r and \\ are spelled as in C; other backslashes are themselves. The
 * caller frees it; NULL: out of memory. */
char *option_unescape(const char *text);

bool option_number(const char *option, const char *text, float *value, struct error *err);     /* finite */

#endif
