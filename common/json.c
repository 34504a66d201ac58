#include "common/json.h"

#include "common/file_map.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a value costs in memory is up to forty times what it costs in the file
 * ("[]," against an empty array): so values are counted, not only bytes. The
 * largest tokenizer files in use have less than two million. */
enum { VALUE_LIMIT = 4 << 20 };

struct scan {
    const char *bytes;
    size_t size;
    size_t position;
};

/* Move past the string whose opening quote was just read. */
static void skip_string(struct scan *scan) {
    while (scan->position < scan->size) {
        char c = scan->bytes[scan->position++];
        if (c == '\\')
            scan->position++;
        else if (c == '"')
            return;
    }
}

static bool too_many_values(const char *bytes, size_t size) {
    struct scan scan = { bytes, size, 0 };
    size_t values = 1;
    while (scan.position < size) {
        char c = bytes[scan.position++];
        if (c == '"')
            skip_string(&scan);
        else if (c == ',' || c == '[' || c == '{')
            values++;
    }
    return values > VALUE_LIMIT;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* Tokenizer configurations carry integers like 10^30 for "no limit", which do
 * not fit jansson's 64 bits and would make the whole file unreadable. Turn such
 * integers into reals of the same length: the last two digits become "e2". */
static void shorten_huge_integers(char *bytes, size_t size) {
    struct scan scan = { bytes, size, 0 };
    while (scan.position < size) {
        char c = bytes[scan.position++];
        if (c == '"') {
            skip_string(&scan);
            continue;
        }
        if (!is_digit(c))
            continue;
        size_t first = scan.position - 1;
        bool is_integer = true;
        size_t end = scan.position;
        for (; end < size; end++) {
            char d = bytes[end];
            if (d == '.' || d == 'e' || d == 'E' || d == '+' || d == '-')
                is_integer = false;
            else if (!is_digit(d))
                break;
        }
        if (is_integer && end - first >= 19)
            memcpy(bytes + end - 2, "e2", 2);
        scan.position = end;
    }
}

/* Line `number` of the file; 0: all of it. */
static json_t *read_value(const char *bytes, size_t size, const char *file, unsigned number, struct error *err) {
    json_error_t problem;
    char line_of[32] = "", line[32] = "";
    if (number)
        snprintf(line_of, sizeof line_of, "line %u of ", number);
    if (too_many_values(bytes, size)) {
        error_set(err, ERROR_FAILED, "%s'%s' holds more than %d JSON values; it is not read", line_of, file, VALUE_LIMIT);
        return NULL;
    }
    json_t *value = json_loadb(bytes, size, JSON_ALLOW_NUL, &problem);
    if (!value && json_error_code(&problem) == json_error_numeric_overflow) {
        char *copy = malloc(size);
        if (copy) {
            memcpy(copy, bytes, size);
            shorten_huge_integers(copy, size);
            value = json_loadb(copy, size, JSON_ALLOW_NUL, &problem);
            free(copy);
        }
    }
    if (value)
        return value;
    if (!number)
        snprintf(line, sizeof line, "line %d, ", problem.line);
    error_set(err, ERROR_FAILED, "%s'%s' is not valid JSON: %scolumn %d: %s", line_of, file, line, problem.column,
              problem.text);
    return NULL;
}

json_t *json_read_text(const char *bytes, size_t size, const char *name, struct error *err) {
    return read_value(bytes, size, name, 0, err);
}

json_t *json_read_line(const char *bytes, size_t size, const char *file, unsigned number, struct error *err) {
    return read_value(bytes, size, file, number, err);
}

json_t *json_read_file(const char *path, size_t limit, struct error *err) {
    size_t size;
    char *bytes = file_read_all(path, limit, &size, err);
    if (!bytes)
        return NULL;
    json_t *value = json_read_text(bytes, size, path, err);
    free(bytes);
    return value;
}

/* The value to read; NULL where there is nothing to do. */
static const json_t *find(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

static bool get_integer(const json_t *object, const char *key, const char *file, uint64_t limit,
                        uint64_t *value, struct error *err) {
    const json_t *found = find(object, key);
    if (!found)
        return true;
    if (json_is_integer(found) && json_integer_value(found) >= 0
        && (uint64_t)json_integer_value(found) <= limit) {
        *value = (uint64_t)json_integer_value(found);
        return true;
    }
    return error_set(err, ERROR_FAILED, "'%s' in '%s' is not a whole number from 0 to %llu", key, file,
                     (unsigned long long)limit);
}

bool json_get_u64(const json_t *object, const char *key, const char *file, uint64_t *value,
                  struct error *err) {
    return get_integer(object, key, file, INT64_MAX, value, err);
}

bool json_get_u32(const json_t *object, const char *key, const char *file, uint32_t *value,
                  struct error *err) {
    uint64_t wide = *value;
    if (!get_integer(object, key, file, UINT32_MAX, &wide, err))
        return false;
    *value = (uint32_t)wide;
    return true;
}

bool json_get_f32(const json_t *object, const char *key, const char *file, float *value,
                  struct error *err) {
    const json_t *found = find(object, key);
    if (!found)
        return true;
    double number = json_number_value(found);
    if (!json_is_number(found) || !(fabs(number) <= FLT_MAX))
        return error_set(err, ERROR_FAILED, "'%s' in '%s' is not a number within the range of a float32", key,
                         file);
    *value = (float)number;
    return true;
}

bool json_get_bool(const json_t *object, const char *key, const char *file, bool *value,
                   struct error *err) {
    const json_t *found = find(object, key);
    if (!found)
        return true;
    if (!json_is_boolean(found))
        return error_set(err, ERROR_FAILED, "'%s' in '%s' is neither true nor false", key, file);
    *value = json_is_true(found);
    return true;
}

bool json_get_str(const json_t *object, const char *key, const char *file, const char **value,
                  struct error *err) {
    const json_t *found = find(object, key);
    if (!found)
        return true;
    const char *string = json_string_value(found);
    if (!string || strlen(string) != json_string_length(found))
        return error_set(err, ERROR_FAILED, "'%s' in '%s' is not a string without NUL bytes", key, file);
    *value = string;
    return true;
}

void json_print_string(const char *string, struct text *text) {
    json_t *value = json_string(string);
    if (!value) {
        struct text ascii;
        text_init(&ascii);
        for (const char *c = string; *c; c++)
            if ((unsigned char)*c < 0x80)
                text_append_char(&ascii, *c);
            else
                text_append_utf8(&ascii, 0xfffd);
        value = ascii.failed ? NULL : json_string(ascii.bytes);
        text_release(&ascii);
    }
    char *printed = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_ENSURE_ASCII) : NULL;
    if (printed)
        text_append(text, printed);
    else
        text->failed = true;
    free(printed);
    json_decref(value);
}
