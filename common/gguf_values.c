/* gguf_values: the keys of a GGUF file, and what they are set to. */
#include "common/gguf_parts.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum kind {
    KIND_U8, KIND_I8, KIND_U16, KIND_I16, KIND_U32, KIND_I32, KIND_F32, KIND_BOOL, KIND_STRING,
    KIND_ARRAY, KIND_U64, KIND_I64, KIND_F64, KIND_COUNT
};

static const uint8_t kind_bytes[KIND_COUNT] = {
    [KIND_U8] = 1, [KIND_I8] = 1, [KIND_U16] = 2, [KIND_I16] = 2, [KIND_U32] = 4, [KIND_I32] = 4,
    [KIND_F32] = 4, [KIND_BOOL] = 1, [KIND_U64] = 8, [KIND_I64] = 8, [KIND_F64] = 8,
};

struct gguf_entry {
    struct gguf_string key;
    enum kind kind;             /* of the value, or of the array's elements */
    bool is_array;
    uint64_t length;            /* 1 for a scalar */
    /* length values, unaligned little endian; for KIND_STRING an index of
     * struct gguf_string; NULL for arrays of arrays, which nobody reads, and for
     * those that a brief reader passed over */
    const void *values;
};

static bool damaged(struct gguf_reader *reader, const struct gguf_string *key, const char *reason) {
    return error_set(reader->err, ERROR_FAILED, "'%s' is damaged: key '%.*s' %s", reader->path, gguf_shown(key),
                     key->bytes, reason);
}

static bool read_kind(struct gguf_reader *reader, const struct gguf_string *key, enum kind *kind) {
    uint32_t number;
    if (!gguf_read_u32(reader, &number))
        return false;
    if (number >= KIND_COUNT)
        return damaged(reader, key, "has a value of an unknown kind");
    *kind = (enum kind)number;
    return true;
}

/* `length` values of one kind; the smallest string and array take 8 and 12 bytes. */
static bool check_length(struct gguf_reader *reader, const struct gguf_string *key, enum kind kind,
                         uint64_t length) {
    uint64_t least = kind == KIND_STRING ? 8 : kind == KIND_ARRAY ? 12 : kind_bytes[kind];
    if (length <= gguf_remaining(reader) / least)
        return true;
    return error_set(reader->err, ERROR_FAILED,
                     "'%s' is truncated or damaged: key '%.*s' claims %" PRIu64
                     " values, more than the file can hold", reader->path, gguf_shown(key), key->bytes, length);
}

static bool read_values(struct gguf_reader *reader, struct gguf_entry *entry) {
    if (!check_length(reader, &entry->key, entry->kind, entry->length))
        return false;
    if (entry->kind == KIND_STRING) {
        struct gguf_string *strings = gguf_take_memory(reader, (size_t)entry->length * sizeof *strings);
        entry->values = strings;
        if (!strings)
            return false;
        for (uint64_t i = 0; i < entry->length; i++)
            if (!gguf_read_string(reader, &strings[i]))
                return false;
        return true;
    }
    uint64_t size = entry->length * kind_bytes[entry->kind];
    uint8_t *values = gguf_take_memory(reader, (size_t)size);
    entry->values = values;
    if (!values || !gguf_read_bytes(reader, values, size))
        return false;
    for (uint64_t i = 0; entry->kind == KIND_BOOL && i < size; i++)
        if (values[i] > 1)
            return damaged(reader, &entry->key, "has a truth value that is neither 0 nor 1");
    return true;
}

/* Check and pass over the values of an array that is none of arrays. */
static bool skip_values(struct gguf_reader *reader, const struct gguf_string *key, enum kind kind, uint64_t length) {
    if (!check_length(reader, key, kind, length))
        return false;
    if (kind != KIND_STRING)
        return gguf_skip(reader, length * kind_bytes[kind]);
    for (uint64_t i = 0; i < length; i++) {
        uint64_t string_length;
        if (!gguf_read_u64(reader, &string_length) || !gguf_skip(reader, string_length))
            return false;
    }
    return true;
}

/* The same for an array of arrays. */
static bool skip_arrays(struct gguf_reader *reader, const struct gguf_string *key, uint64_t length, int depth) {
    if (depth > NESTING_LIMIT)
        return damaged(reader, key, "has arrays nested too deeply");
    if (!check_length(reader, key, KIND_ARRAY, length))
        return false;
    for (uint64_t i = 0; i < length; i++) {
        enum kind kind = KIND_U8;
        uint64_t inner;
        if (!read_kind(reader, key, &kind) || !gguf_read_u64(reader, &inner))
            return false;
        if (kind == KIND_ARRAY) {
            if (!skip_arrays(reader, key, inner, depth + 1))
                return false;
            continue;
        }
        if (!skip_values(reader, key, kind, inner))
            return false;
    }
    return true;
}

static bool read_entry(struct gguf_reader *reader, struct gguf_entry *entry) {
    *entry = (struct gguf_entry){ .length = 1 };
    if (!gguf_read_string(reader, &entry->key) || !read_kind(reader, &entry->key, &entry->kind))
        return false;
    if (entry->kind == KIND_ARRAY) {
        entry->is_array = true;
        if (!read_kind(reader, &entry->key, &entry->kind) || !gguf_read_u64(reader, &entry->length))
            return false;
        if (entry->kind == KIND_ARRAY)
            return skip_arrays(reader, &entry->key, entry->length, 1);
        if (reader->is_brief)
            return skip_values(reader, &entry->key, entry->kind, entry->length);
    }
    return read_values(reader, entry);
}

static int compare_entries(const void *a, const void *b) {
    return gguf_compare_strings(&((const struct gguf_entry *)a)->key, &((const struct gguf_entry *)b)->key);
}

bool gguf_read_entries(struct gguf_reader *reader, uint64_t count) {
    struct gguf *gguf = reader->gguf;
    while (gguf->entry_count < count) {
        struct gguf_entry *grown = gguf_grow(reader, gguf->entries, gguf->entry_count, sizeof *grown);
        if (!grown)
            return false;
        gguf->entries = grown;
        if (!read_entry(reader, &grown[gguf->entry_count]))
            return false;
        gguf->entry_count++;
    }
    if (count)
        qsort(gguf->entries, gguf->entry_count, sizeof *gguf->entries, compare_entries);
    for (uint32_t i = 1; i < gguf->entry_count; i++)
        if (compare_entries(&gguf->entries[i - 1], &gguf->entries[i]) == 0)
            return damaged(reader, &gguf->entries[i].key, "is there twice");
    return true;
}

/* ---- looking up ---- */

static const struct gguf_entry *find_entry(const struct gguf *gguf, const char *key) {
    struct gguf_entry wanted = { .key = { key, strlen(key) } };
    if (gguf->entry_count == 0)
        return NULL;
    return bsearch(&wanted, gguf->entries, gguf->entry_count, sizeof wanted, compare_entries);
}

static const struct gguf_entry *find_scalar(const struct gguf *gguf, const char *key) {
    const struct gguf_entry *entry = find_entry(gguf, key);
    return entry && !entry->is_array ? entry : NULL;
}

static const struct gguf_entry *find_element(const struct gguf *gguf, const char *key, uint64_t index) {
    const struct gguf_entry *entry = find_entry(gguf, key);
    return entry && entry->is_array && entry->values && index < entry->length ? entry : NULL;
}

/* Value `index` as a whole number of 65 bits: *magnitude and *negative. */
static bool integer_value(const struct gguf_entry *entry, uint64_t index, uint64_t *magnitude, bool *negative) {
    size_t width = kind_bytes[entry->kind];
    bool is_signed = false;
    switch (entry->kind) {
    case KIND_I8: case KIND_I16: case KIND_I32: case KIND_I64: is_signed = true; break;
    case KIND_U8: case KIND_U16: case KIND_U32: case KIND_U64: case KIND_BOOL: break;
    default: return false;
    }
    uint64_t bits = 0;
    memcpy(&bits, (const uint8_t *)entry->values + index * width, width);
    *negative = is_signed && bits >> (width * 8 - 1);
    if (*negative) {
        uint64_t extension = width == 8 ? 0 : UINT64_MAX << width * 8;
        bits = ~(bits | extension) + 1;
    }
    *magnitude = bits;
    return true;
}

static bool number_value(const struct gguf_entry *entry, uint64_t index, float *value) {
    uint64_t magnitude;
    bool negative;
    if (entry->kind == KIND_F32) {
        memcpy(value, (const uint8_t *)entry->values + index * 4, 4);
        return true;
    }
    if (entry->kind == KIND_F64) {
        double wide;
        memcpy(&wide, (const uint8_t *)entry->values + index * 8, 8);
        *value = (float)wide;
        return true;
    }
    if (entry->kind == KIND_BOOL || !integer_value(entry, index, &magnitude, &negative))
        return false;
    *value = negative ? -(float)magnitude : (float)magnitude;
    return true;
}

bool gguf_has(const struct gguf *gguf, const char *key) {
    return find_entry(gguf, key) != NULL;
}

bool gguf_u64(const struct gguf *gguf, const char *key, uint64_t *value) {
    const struct gguf_entry *entry = find_scalar(gguf, key);
    uint64_t magnitude;
    bool negative;
    if (!entry || entry->kind == KIND_BOOL || !integer_value(entry, 0, &magnitude, &negative) || negative)
        return false;
    *value = magnitude;
    return true;
}

bool gguf_f32(const struct gguf *gguf, const char *key, float *value) {
    const struct gguf_entry *entry = find_scalar(gguf, key);
    return entry && number_value(entry, 0, value);
}

bool gguf_bool(const struct gguf *gguf, const char *key, bool *value) {
    const struct gguf_entry *entry = find_scalar(gguf, key);
    if (!entry || entry->kind != KIND_BOOL)
        return false;
    *value = *(const uint8_t *)entry->values != 0;
    return true;
}

bool gguf_str(const struct gguf *gguf, const char *key, struct gguf_string *value) {
    const struct gguf_entry *entry = find_scalar(gguf, key);
    if (!entry || entry->kind != KIND_STRING)
        return false;
    *value = *(const struct gguf_string *)entry->values;
    return true;
}

uint64_t gguf_array_length(const struct gguf *gguf, const char *key) {
    const struct gguf_entry *entry = find_entry(gguf, key);
    return entry && entry->is_array ? entry->length : 0;
}

const struct gguf_string *gguf_array_strings(const struct gguf *gguf, const char *key) {
    const struct gguf_entry *entry = find_element(gguf, key, 0);
    return entry && entry->kind == KIND_STRING ? entry->values : NULL;
}

bool gguf_array_f32(const struct gguf *gguf, const char *key, uint64_t index, float *value) {
    const struct gguf_entry *entry = find_element(gguf, key, index);
    return entry && number_value(entry, index, value);
}

bool gguf_array_i64(const struct gguf *gguf, const char *key, uint64_t index, int64_t *value) {
    const struct gguf_entry *entry = find_element(gguf, key, index);
    uint64_t magnitude;
    bool negative;
    if (!entry || !integer_value(entry, index, &magnitude, &negative)
        || magnitude > (uint64_t)INT64_MAX + negative)
        return false;
    *value = negative ? (int64_t)(~magnitude + 1) : (int64_t)magnitude;
    return true;
}
