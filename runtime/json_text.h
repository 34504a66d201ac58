/* json_text: text of any origin as a JSON string. */
#ifndef RUNTIME_JSON_TEXT_H
#define RUNTIME_JSON_TEXT_H

#include <jansson.h>
#include <stddef.h>

/* What is not UTF-8 in it becomes U+FFFD, as it would among the tokens. NULL: out of memory. */
json_t *json_text(const char *bytes, size_t size);

#endif
