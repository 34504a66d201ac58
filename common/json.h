/* json: the door to jansson, with the checks that hostile files need.
 *
 * Readers take the file's name for their sentences. A key that is missing or
 * null leaves *value untouched and returns true; a value of another kind or out
 * of range is an error that names the key. */
#ifndef COMMON_JSON_H
#define COMMON_JSON_H

#include "common/error.h"
#include "common/text.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

/* Whole-file reader with a size ceiling; NULs inside strings are allowed. The
 * caller owns the value: json_decref(). Missing file: NULL with ERROR_FAILED. */
json_t *json_read_file(const char *path, size_t limit, struct error *err);
json_t *json_read_text(const char *bytes, size_t size, const char *name, struct error *err);
/* One line of a file that has a value on each; they count from 1. */
json_t *json_read_line(const char *bytes, size_t size, const char *file, unsigned number, struct error *err);

bool json_get_u64(const json_t *object, const char *key, const char *file, uint64_t *value,
                  struct error *err);
bool json_get_u32(const json_t *object, const char *key, const char *file, uint32_t *value,
                  struct error *err);
bool json_get_f32(const json_t *object, const char *key, const char *file, float *value,
                  struct error *err);   /* finite */
bool json_get_bool(const json_t *object, const char *key, const char *file, bool *value,
                   struct error *err);
/* Borrowed from the object. */
bool json_get_str(const json_t *object, const char *key, const char *file, const char **value,
                  struct error *err);

/* Append a string in quotes, all of it ASCII. Bytes that are no UTF-8 have no spelling in
 * JSON: each is printed as U+FFFD. */
void json_print_string(const char *string, struct text *text);

#endif
