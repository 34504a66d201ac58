/* byte_level: the alphabet of byte-level vocabularies: each of the 256 bytes as
 * one printable character. Printable Latin-1 stands for itself; the others
 * count from U+0100 upwards (a space is U+0120). */
#ifndef RUNTIME_BYTE_LEVEL_H
#define RUNTIME_BYTE_LEVEL_H

#include "common/text.h"

#include <stdbool.h>
#include <stddef.h>

void byte_level_append(struct text *text, const char *bytes, size_t size);

/* Append the bytes that `piece` stands for; false (and nothing is appended)
 * where it has a character outside of the alphabet. */
bool byte_level_append_decoded(struct text *text, const char *piece, size_t size);

#endif
