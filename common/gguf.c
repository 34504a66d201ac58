#include "common/gguf.h"

#include "common/file_map.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The file, little endian:
 *   "GGUF", uint32 version, uint64 tensor_count, uint64 entry_count
 *   entries   string key, uint32 kind, value
 *   tensors   string name, uint32 rank, uint64 shape[rank], uint32 ggml_type, uint64 offset
 *   data      from the next multiple of the alignment; offsets count from there
 * A string is uint64 length, bytes; an array uint32 kind, uint64 length, values. */
enum kind {
    KIND_U8, KIND_I8, KIND_U16, KIND_I16, KIND_U32, KIND_I32, KIND_F32, KIND_BOOL, KIND_STRING,
    KIND_ARRAY, KIND_U64, KIND_I64, KIND_F64, KIND_COUNT
};

static const uint8_t kind_bytes[KIND_COUNT] = {
    [KIND_U8] = 1, [KIND_I8] = 1, [KIND_U16] = 2, [KIND_I16] = 2, [KIND_U32] = 4, [KIND_I32] = 4,
    [KIND_F32] = 4, [KIND_BOOL] = 1, [KIND_U64] = 8, [KIND_I64] = 8, [KIND_F64] = 8,
};

/* Ceilings for the head, several times what the largest vocabularies and models
 * in use need. With them, memory stays within a small multiple of what the file
 * really holds, however long it is and whatever it claims. */
enum {
    HEAD_LIMIT = 128 << 20,
    ENTRY_LIMIT = 1 << 16,
    TENSOR_LIMIT = 1 << 18,
    NESTING_LIMIT = 4,
    BUFFER_SIZE = 64 << 10,
    ARENA_BLOCK_SIZE = 256 << 10
};

struct entry {
    struct gguf_string key;
    enum kind kind;             /* of the value, or of the array's elements */
    bool is_array;
    uint64_t length;            /* 1 for a scalar */
    /* length values, unaligned little endian; for KIND_STRING an index of
     * struct gguf_string; NULL for arrays of arrays, which nobody reads */
    const void *values;
};

/* Memory that is given back all at once; what it hands out never moves. */
struct arena_block {
    struct arena_block *next;
    size_t used, size;
    max_align_t bytes[];
};

struct gguf {
    uint64_t file_size;
    uint32_t entry_count, tensor_count;
    struct entry *entries;      /* sorted by key */
    struct gguf_tensor *tensors;
    struct arena_block *arena;
};

struct reader {
    struct gguf *gguf;
    const char *path;
    struct error *err;
    int descriptor;
    uint64_t end;               /* of what may be read */
    uint64_t position;          /* in the file, of the next byte */
    uint64_t buffer_offset;     /* in the file, of buffer[0] */
    size_t buffer_filled;
    uint8_t *buffer;            /* [BUFFER_SIZE] */
};

static void *take_memory(struct reader *reader, size_t size) {
    size_t step = sizeof(max_align_t);
    size = (size + step - 1) / step * step;
    struct arena_block *block = reader->gguf->arena;
    if (!block || block->size - block->used < size) {
        size_t block_size = size > ARENA_BLOCK_SIZE / 4 ? size : ARENA_BLOCK_SIZE;
        struct arena_block *fresh = malloc(sizeof *fresh + block_size);
        if (!fresh) {
            error_set(reader->err, ERROR_FAILED, "cannot read '%s': out of memory", reader->path);
            return NULL;
        }
        *fresh = (struct arena_block){ .next = block, .size = block_size };
        /* A block of its own for something large must not hide the room left in the open one. */
        if (block && block_size == size) {
            fresh->next = block->next;
            block->next = fresh;
        } else {
            reader->gguf->arena = fresh;
        }
        block = fresh;
    }
    void *memory = (char *)block->bytes + block->used;
    block->used += size;
    return memory;
}

static uint64_t remaining(const struct reader *reader) {
    return reader->end - reader->position;
}

static bool ends_early(struct reader *reader) {
    return error_set(reader->err, ERROR_FAILED,
                     "'%s' is truncated or damaged: its head does not end within its first %" PRIu64 " bytes",
                     reader->path, reader->end);
}

static bool read_bytes(struct reader *reader, void *target, uint64_t size) {
    if (size > remaining(reader))
        return ends_early(reader);
    uint8_t *out = target;
    while (size > 0) {
        uint64_t at = reader->position - reader->buffer_offset;
        if (at >= reader->buffer_filled) {
            uint64_t wanted = remaining(reader) < BUFFER_SIZE ? remaining(reader) : BUFFER_SIZE;
            if (!file_read_at(reader->descriptor, reader->path, reader->position, reader->buffer,
                              (size_t)wanted, reader->err))
                return false;
            reader->buffer_offset = reader->position;
            reader->buffer_filled = (size_t)wanted;
            at = 0;
        }
        size_t count = reader->buffer_filled - (size_t)at;
        if (count > size)
            count = (size_t)size;
        memcpy(out, reader->buffer + at, count);
        out += count;
        size -= count;
        reader->position += count;
    }
    return true;
}

static bool read_u32(struct reader *reader, uint32_t *value) {
    return read_bytes(reader, value, sizeof *value);
}

static bool read_u64(struct reader *reader, uint64_t *value) {
    return read_bytes(reader, value, sizeof *value);
}

static bool read_string(struct reader *reader, struct gguf_string *string) {
    if (!read_u64(reader, &string->length))
        return false;
    if (string->length > remaining(reader))
        return ends_early(reader);
    char *bytes = take_memory(reader, (size_t)string->length);
    string->bytes = bytes;
    return bytes && read_bytes(reader, bytes, string->length);
}

/* For sentences: "%.*s" with names of any length. */
static int shown(const struct gguf_string *string) {
    return string->length > 120 ? 120 : (int)string->length;
}

static bool damaged(struct reader *reader, const struct gguf_string *key, const char *reason) {
    return error_set(reader->err, ERROR_FAILED, "'%s' is damaged: key '%.*s' %s", reader->path, shown(key),
                     key->bytes, reason);
}

static bool read_kind(struct reader *reader, const struct gguf_string *key, enum kind *kind) {
    uint32_t number;
    if (!read_u32(reader, &number))
        return false;
    if (number >= KIND_COUNT)
        return damaged(reader, key, "has a value of an unknown kind");
    *kind = (enum kind)number;
    return true;
}

/* `length` values of one kind; the smallest string and array take 8 and 12 bytes. */
static bool check_length(struct reader *reader, const struct gguf_string *key, enum kind kind,
                         uint64_t length) {
    uint64_t least = kind == KIND_STRING ? 8 : kind == KIND_ARRAY ? 12 : kind_bytes[kind];
    if (length <= remaining(reader) / least)
        return true;
    return error_set(reader->err, ERROR_FAILED,
                     "'%s' is truncated or damaged: key '%.*s' claims %" PRIu64
                     " values, more than the file can hold", reader->path, shown(key), key->bytes, length);
}

static bool read_values(struct reader *reader, struct entry *entry) {
    if (!check_length(reader, &entry->key, entry->kind, entry->length))
        return false;
    if (entry->kind == KIND_STRING) {
        struct gguf_string *strings = take_memory(reader, (size_t)entry->length * sizeof *strings);
        entry->values = strings;
        if (!strings)
            return false;
        for (uint64_t i = 0; i < entry->length; i++)
            if (!read_string(reader, &strings[i]))
                return false;
        return true;
    }
    uint64_t size = entry->length * kind_bytes[entry->kind];
    uint8_t *values = take_memory(reader, (size_t)size);
    entry->values = values;
    if (!values || !read_bytes(reader, values, size))
        return false;
    for (uint64_t i = 0; entry->kind == KIND_BOOL && i < size; i++)
        if (values[i] > 1)
            return damaged(reader, &entry->key, "has a truth value that is neither 0 nor 1");
    return true;
}

/* Check and pass over the elements of an array of arrays. */
static bool skip_arrays(struct reader *reader, const struct gguf_string *key, uint64_t length, int depth) {
    if (depth > NESTING_LIMIT)
        return damaged(reader, key, "has arrays nested too deeply");
    if (!check_length(reader, key, KIND_ARRAY, length))
        return false;
    for (uint64_t i = 0; i < length; i++) {
        enum kind kind;
        uint64_t inner;
        if (!read_kind(reader, key, &kind) || !read_u64(reader, &inner))
            return false;
        if (kind == KIND_ARRAY) {
            if (!skip_arrays(reader, key, inner, depth + 1))
                return false;
            continue;
        }
        if (!check_length(reader, key, kind, inner))
            return false;
        if (kind != KIND_STRING) {
            reader->position += inner * kind_bytes[kind];
            continue;
        }
        for (uint64_t j = 0; j < inner; j++) {
            uint64_t string_length;
            if (!read_u64(reader, &string_length))
                return false;
            if (string_length > remaining(reader))
                return ends_early(reader);
            reader->position += string_length;
        }
    }
    return true;
}

static bool read_entry(struct reader *reader, struct entry *entry) {
    *entry = (struct entry){ .length = 1 };
    if (!read_string(reader, &entry->key) || !read_kind(reader, &entry->key, &entry->kind))
        return false;
    if (entry->kind == KIND_ARRAY) {
        entry->is_array = true;
        if (!read_kind(reader, &entry->key, &entry->kind) || !read_u64(reader, &entry->length))
            return false;
        if (entry->kind == KIND_ARRAY)
            return skip_arrays(reader, &entry->key, entry->length, 1);
    }
    return read_values(reader, entry);
}

static int compare_strings(const struct gguf_string *a, const struct gguf_string *b) {
    uint64_t common = a->length < b->length ? a->length : b->length;
    int order = common ? memcmp(a->bytes, b->bytes, (size_t)common) : 0;
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

static int compare_entries(const void *a, const void *b) {
    return compare_strings(&((const struct entry *)a)->key, &((const struct entry *)b)->key);
}

static int compare_names(const void *a, const void *b) {
    return compare_strings(*(const struct gguf_string *const *)a, *(const struct gguf_string *const *)b);
}

/* The arrays grow with what has been read, not with what the counts claim. */
static void *grow(struct reader *reader, void *array, uint32_t count, size_t element_size) {
    if (count & (count - 1) || (count && count < 32))
        return array;
    void *grown = realloc(array, (count ? (size_t)count * 2 : 32) * element_size);
    if (!grown)
        error_set(reader->err, ERROR_FAILED, "cannot read '%s': out of memory", reader->path);
    return grown;
}

static bool read_entries(struct reader *reader, uint64_t count) {
    struct gguf *gguf = reader->gguf;
    while (gguf->entry_count < count) {
        struct entry *grown = grow(reader, gguf->entries, gguf->entry_count, sizeof *grown);
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

struct ggml_type {
    const char *name;
    int type;            /* enum tensor_type, or -1: not supported */
};

static const struct ggml_type ggml_types[] = {
    [0] = { "F32", TENSOR_F32 }, [1] = { "F16", TENSOR_F16 }, [2] = { "Q4_0", TENSOR_Q4_0 },
    [3] = { "Q4_1", TENSOR_Q4_1 }, [6] = { "Q5_0", TENSOR_Q5_0 }, [7] = { "Q5_1", TENSOR_Q5_1 },
    [8] = { "Q8_0", TENSOR_Q8_0 }, [9] = { "Q8_1", -1 }, [10] = { "Q2_K", -1 }, [11] = { "Q3_K", -1 },
    [12] = { "Q4_K", TENSOR_Q4_K }, [13] = { "Q5_K", TENSOR_Q5_K }, [14] = { "Q6_K", TENSOR_Q6_K },
    [15] = { "Q8_K", -1 }, [16] = { "IQ2_XXS", -1 }, [17] = { "IQ2_XS", -1 }, [18] = { "IQ3_XXS", -1 },
    [19] = { "IQ1_S", -1 }, [20] = { "IQ4_NL", -1 }, [21] = { "IQ3_S", -1 }, [22] = { "IQ2_S", -1 },
    [23] = { "IQ4_XS", -1 }, [24] = { "I8", -1 }, [25] = { "I16", -1 }, [26] = { "I32", -1 },
    [27] = { "I64", -1 }, [28] = { "F64", -1 }, [29] = { "IQ1_M", -1 }, [30] = { "BF16", TENSOR_BF16 },
    [34] = { "TQ1_0", -1 }, [35] = { "TQ2_0", -1 }, [39] = { "MXFP4", -1 }, [40] = { "NVFP4", -1 },
    [41] = { "Q1_0", -1 },
};

static bool set_tensor_type(struct reader *reader, struct gguf_tensor *tensor, uint32_t number) {
    const struct ggml_type *found = number < sizeof ggml_types / sizeof *ggml_types ? &ggml_types[number] : NULL;
    if (found && found->name && found->type >= 0) {
        tensor->type = (enum tensor_type)found->type;
        return true;
    }
    char unnamed[24];
    snprintf(unnamed, sizeof unnamed, "type %" PRIu32, number);
    return error_set(reader->err, ERROR_FAILED,
                     "tensor '%.*s' in '%s' is stored as %s, which is not supported; take a file of F32, F16, "
                     "BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K or Q6_K", shown(&tensor->name),
                     tensor->name.bytes, reader->path, found && found->name ? found->name : unnamed);
}

static bool bad_tensor(struct reader *reader, const struct gguf_tensor *tensor, const char *reason) {
    return error_set(reader->err, ERROR_FAILED, "'%s' is damaged: tensor '%.*s' %s", reader->path,
                     shown(&tensor->name), tensor->name.bytes, reason);
}

/* tensor->offset still counts from the start of the data. */
static bool read_tensor(struct reader *reader, struct gguf_tensor *tensor) {
    *tensor = (struct gguf_tensor){ .shape = { 1, 1, 1, 1 } };
    uint32_t type;
    if (!read_string(reader, &tensor->name) || !read_u32(reader, &tensor->rank))
        return false;
    if (tensor->rank > 4)
        return bad_tensor(reader, tensor, "has more than four dimensions");
    uint64_t rows = 1;
    for (uint32_t i = 0; i < tensor->rank; i++) {
        if (!read_u64(reader, &tensor->shape[i]))
            return false;
        if (tensor->shape[i] == 0)
            return bad_tensor(reader, tensor, "has a dimension of length 0");
        if (i > 0 && __builtin_mul_overflow(rows, tensor->shape[i], &rows))
            return bad_tensor(reader, tensor, "has more values than can be counted");
    }
    if (!read_u32(reader, &type) || !read_u64(reader, &tensor->offset)
        || !set_tensor_type(reader, tensor, type))
        return false;
    if (!tensor_bytes(tensor->type, rows, tensor->shape[0], &tensor->size_bytes))
        return bad_tensor(reader, tensor, "has a shape that its type cannot have");
    return true;
}

static bool check_names(struct reader *reader) {
    struct gguf *gguf = reader->gguf;
    const struct gguf_string **names = malloc((gguf->tensor_count + (size_t)1) * sizeof *names);
    if (!names)
        return error_set(reader->err, ERROR_FAILED, "cannot read '%s': out of memory", reader->path);
    bool distinct = true;
    for (uint32_t i = 0; i < gguf->tensor_count; i++)
        names[i] = &gguf->tensors[i].name;
    qsort(names, gguf->tensor_count, sizeof *names, compare_names);
    for (uint32_t i = 1; i < gguf->tensor_count && distinct; i++)
        if (compare_strings(names[i - 1], names[i]) == 0)
            distinct = error_set(reader->err, ERROR_FAILED, "'%s' is damaged: tensor '%.*s' is there twice",
                                 reader->path, shown(names[i]), names[i]->bytes);
    free(names);
    return distinct;
}

static bool place_tensors(struct reader *reader) {
    struct gguf *gguf = reader->gguf;
    uint64_t alignment = 32;
    if (gguf_has(gguf, "general.alignment")
        && (!gguf_u64(gguf, "general.alignment", &alignment) || alignment == 0 || alignment > 1u << 30
            || alignment & (alignment - 1)))
        return error_set(reader->err, ERROR_FAILED,
                         "'%s' is damaged: its general.alignment is not a power of two", reader->path);
    uint64_t data_offset = (reader->position + alignment - 1) / alignment * alignment;
    for (uint32_t i = 0; i < gguf->tensor_count; i++) {
        struct gguf_tensor *tensor = &gguf->tensors[i];
        if (tensor->offset % alignment)
            return bad_tensor(reader, tensor, "does not start at a multiple of general.alignment");
        if (__builtin_add_overflow(tensor->offset, data_offset, &tensor->offset)
            || tensor->offset > gguf->file_size || tensor->size_bytes > gguf->file_size - tensor->offset)
            return error_set(reader->err, ERROR_FAILED,
                             "'%s' is truncated: tensor '%.*s' needs %" PRIu64 " bytes at offset %" PRIu64
                             ", the file has %" PRIu64 "; fetch it again", reader->path, shown(&tensor->name),
                             tensor->name.bytes, tensor->size_bytes, tensor->offset, gguf->file_size);
    }
    return true;
}

static bool read_tensors(struct reader *reader, uint64_t count) {
    struct gguf *gguf = reader->gguf;
    while (gguf->tensor_count < count) {
        struct gguf_tensor *grown = grow(reader, gguf->tensors, gguf->tensor_count, sizeof *grown);
        if (!grown)
            return false;
        gguf->tensors = grown;
        if (!read_tensor(reader, &grown[gguf->tensor_count]))
            return false;
        gguf->tensor_count++;
    }
    return check_names(reader) && place_tensors(reader);
}

static bool read_head(struct reader *reader) {
    char magic[4];
    uint32_t version;
    uint64_t tensor_count, entry_count;
    if (!read_bytes(reader, magic, sizeof magic) || memcmp(magic, "GGUF", 4) != 0)
        return error_set(reader->err, ERROR_FAILED, "'%s' is no GGUF file", reader->path);
    if (!read_u32(reader, &version))
        return false;
    if (version == 2u << 24 || version == 3u << 24)
        return error_set(reader->err, ERROR_FAILED, "'%s' is big-endian; take a little-endian GGUF file",
                         reader->path);
    if (version != 2 && version != 3)
        return error_set(reader->err, ERROR_FAILED,
                         "'%s' has GGUF version %" PRIu32 ", but 2 and 3 can be read; convert the model again",
                         reader->path, version);
    if (!read_u64(reader, &tensor_count) || !read_u64(reader, &entry_count))
        return false;
    if (tensor_count > TENSOR_LIMIT || entry_count > ENTRY_LIMIT)
        return error_set(reader->err, ERROR_FAILED,
                         "'%s' is damaged: it claims %" PRIu64 " tensors and %" PRIu64 " keys", reader->path,
                         tensor_count, entry_count);
    return read_entries(reader, entry_count) && read_tensors(reader, tensor_count);
}

struct gguf *gguf_open(const char *path, struct error *err) {
    struct stat status;
    struct reader reader = { .path = path, .err = err, .descriptor = file_open(path, &status, err) };
    if (reader.descriptor < 0)
        return NULL;
    bool read = false;
    struct gguf *gguf = calloc(1, sizeof *gguf);
    reader.buffer = malloc(BUFFER_SIZE);
    reader.gguf = gguf;
    if (!gguf || !reader.buffer) {
        error_set(err, ERROR_FAILED, "cannot read '%s': out of memory", path);
    } else {
        gguf->file_size = (uint64_t)status.st_size;
        reader.end = gguf->file_size < HEAD_LIMIT ? gguf->file_size : HEAD_LIMIT;
        /* Readahead would bring weights into memory behind the head. */
        posix_fadvise(reader.descriptor, 0, 0, POSIX_FADV_RANDOM);
        read = read_head(&reader);
    }
    free(reader.buffer);
    close(reader.descriptor);
    if (read)
        return gguf;
    gguf_close(gguf);
    return NULL;
}

void gguf_close(struct gguf *gguf) {
    if (!gguf)
        return;
    while (gguf->arena) {
        struct arena_block *next = gguf->arena->next;
        free(gguf->arena);
        gguf->arena = next;
    }
    free(gguf->entries);
    free(gguf->tensors);
    free(gguf);
}

uint64_t gguf_file_size(const struct gguf *gguf) {
    return gguf->file_size;
}

uint32_t gguf_tensor_count(const struct gguf *gguf) {
    return gguf->tensor_count;
}

const struct gguf_tensor *gguf_tensor(const struct gguf *gguf, uint32_t index) {
    return index < gguf->tensor_count ? &gguf->tensors[index] : NULL;
}

static const struct entry *find_entry(const struct gguf *gguf, const char *key) {
    struct entry wanted = { .key = { key, strlen(key) } };
    if (gguf->entry_count == 0)
        return NULL;
    return bsearch(&wanted, gguf->entries, gguf->entry_count, sizeof wanted, compare_entries);
}

static const struct entry *find_scalar(const struct gguf *gguf, const char *key) {
    const struct entry *entry = find_entry(gguf, key);
    return entry && !entry->is_array ? entry : NULL;
}

static const struct entry *find_element(const struct gguf *gguf, const char *key, uint64_t index) {
    const struct entry *entry = find_entry(gguf, key);
    return entry && entry->is_array && entry->values && index < entry->length ? entry : NULL;
}

/* Value `index` as a whole number of 65 bits: *magnitude and *negative. */
static bool integer_value(const struct entry *entry, uint64_t index, uint64_t *magnitude, bool *negative) {
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

static bool number_value(const struct entry *entry, uint64_t index, float *value) {
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
    const struct entry *entry = find_scalar(gguf, key);
    uint64_t magnitude;
    bool negative;
    if (!entry || entry->kind == KIND_BOOL || !integer_value(entry, 0, &magnitude, &negative) || negative)
        return false;
    *value = magnitude;
    return true;
}

bool gguf_f32(const struct gguf *gguf, const char *key, float *value) {
    const struct entry *entry = find_scalar(gguf, key);
    return entry && number_value(entry, 0, value);
}

bool gguf_bool(const struct gguf *gguf, const char *key, bool *value) {
    const struct entry *entry = find_scalar(gguf, key);
    if (!entry || entry->kind != KIND_BOOL)
        return false;
    *value = *(const uint8_t *)entry->values != 0;
    return true;
}

bool gguf_str(const struct gguf *gguf, const char *key, struct gguf_string *value) {
    const struct entry *entry = find_scalar(gguf, key);
    if (!entry || entry->kind != KIND_STRING)
        return false;
    *value = *(const struct gguf_string *)entry->values;
    return true;
}

uint64_t gguf_array_length(const struct gguf *gguf, const char *key) {
    const struct entry *entry = find_entry(gguf, key);
    return entry && entry->is_array ? entry->length : 0;
}

const struct gguf_string *gguf_array_strings(const struct gguf *gguf, const char *key) {
    const struct entry *entry = find_element(gguf, key, 0);
    return entry && entry->kind == KIND_STRING ? entry->values : NULL;
}

bool gguf_array_f32(const struct gguf *gguf, const char *key, uint64_t index, float *value) {
    const struct entry *entry = find_element(gguf, key, index);
    return entry && number_value(entry, index, value);
}

bool gguf_array_i64(const struct gguf *gguf, const char *key, uint64_t index, int64_t *value) {
    const struct entry *entry = find_element(gguf, key, index);
    uint64_t magnitude;
    bool negative;
    if (!entry || !integer_value(entry, index, &magnitude, &negative)
        || magnitude > (uint64_t)INT64_MAX + negative)
        return false;
    *value = negative ? (int64_t)(~magnitude + 1) : (int64_t)magnitude;
    return true;
}
