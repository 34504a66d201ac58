/* gguf: the head of a GGUF file as a whole, and its tensors. */
#include "common/gguf_parts.h"

#include "common/file_map.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

static bool set_tensor_type(struct gguf_reader *reader, struct gguf_tensor *tensor, uint32_t number) {
    const struct ggml_type *found = number < sizeof ggml_types / sizeof *ggml_types ? &ggml_types[number] : NULL;
    if (found && found->name && found->type >= 0) {
        tensor->type = (enum tensor_type)found->type;
        return true;
    }
    char unnamed[24];
    snprintf(unnamed, sizeof unnamed, "type %" PRIu32, number);
    return error_set(reader->err, ERROR_FAILED,
                     "tensor '%.*s' in '%s' is stored as %s, which is not supported; take a file of F32, F16, "
                     "BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K or Q6_K", gguf_shown(&tensor->name),
                     tensor->name.bytes, reader->path, found && found->name ? found->name : unnamed);
}

static bool bad_tensor(struct gguf_reader *reader, const struct gguf_tensor *tensor, const char *reason) {
    return error_set(reader->err, ERROR_FAILED, "'%s' is damaged: tensor '%.*s' %s", reader->path,
                     gguf_shown(&tensor->name), tensor->name.bytes, reason);
}

/* tensor->offset still counts from the start of the data. */
static bool read_tensor(struct gguf_reader *reader, struct gguf_tensor *tensor) {
    *tensor = (struct gguf_tensor){ .shape = { 1, 1, 1, 1 } };
    uint32_t type;
    if (!gguf_read_string(reader, &tensor->name) || !gguf_read_u32(reader, &tensor->rank))
        return false;
    if (tensor->rank > 4)
        return bad_tensor(reader, tensor, "has more than four dimensions");
    uint64_t rows = 1;
    for (uint32_t i = 0; i < tensor->rank; i++) {
        if (!gguf_read_u64(reader, &tensor->shape[i]))
            return false;
        if (tensor->shape[i] == 0)
            return bad_tensor(reader, tensor, "has a dimension of length 0");
        if (i > 0 && __builtin_mul_overflow(rows, tensor->shape[i], &rows))
            return bad_tensor(reader, tensor, "has more values than can be counted");
    }
    if (!gguf_read_u32(reader, &type) || !gguf_read_u64(reader, &tensor->offset)
        || !set_tensor_type(reader, tensor, type))
        return false;
    if (!tensor_bytes(tensor->type, rows, tensor->shape[0], &tensor->size_bytes))
        return bad_tensor(reader, tensor, "has a shape that its type cannot have");
    return true;
}

static int compare_names(const void *a, const void *b) {
    return gguf_compare_strings(*(const struct gguf_string *const *)a, *(const struct gguf_string *const *)b);
}

static bool check_names(struct gguf_reader *reader) {
    struct gguf *gguf = reader->gguf;
    const struct gguf_string **names = malloc((gguf->tensor_count + (size_t)1) * sizeof *names);
    if (!names)
        return error_set(reader->err, ERROR_FAILED, "cannot read '%s': out of memory", reader->path);
    bool distinct = true;
    for (uint32_t i = 0; i < gguf->tensor_count; i++)
        names[i] = &gguf->tensors[i].name;
    qsort(names, gguf->tensor_count, sizeof *names, compare_names);
    for (uint32_t i = 1; i < gguf->tensor_count && distinct; i++)
        if (gguf_compare_strings(names[i - 1], names[i]) == 0)
            distinct = error_set(reader->err, ERROR_FAILED, "'%s' is damaged: tensor '%.*s' is there twice",
                                 reader->path, gguf_shown(names[i]), names[i]->bytes);
    free(names);
    return distinct;
}

static bool place_tensors(struct gguf_reader *reader) {
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
                             ", the file has %" PRIu64 "; fetch it again", reader->path, gguf_shown(&tensor->name),
                             tensor->name.bytes, tensor->size_bytes, tensor->offset, gguf->file_size);
    }
    return true;
}

static bool read_tensors(struct gguf_reader *reader, uint64_t count) {
    struct gguf *gguf = reader->gguf;
    while (gguf->tensor_count < count) {
        struct gguf_tensor *grown = gguf_grow(reader, gguf->tensors, gguf->tensor_count, sizeof *grown);
        if (!grown)
            return false;
        gguf->tensors = grown;
        if (!read_tensor(reader, &grown[gguf->tensor_count]))
            return false;
        gguf->tensor_count++;
    }
    return check_names(reader) && place_tensors(reader);
}

static bool read_head(struct gguf_reader *reader) {
    char magic[4];
    uint32_t version;
    uint64_t tensor_count, entry_count;
    if (!gguf_read_bytes(reader, magic, sizeof magic) || memcmp(magic, "GGUF", 4) != 0)
        return error_set(reader->err, ERROR_FAILED, "'%s' is no GGUF file", reader->path);
    if (!gguf_read_u32(reader, &version))
        return false;
    if (version == 2u << 24 || version == 3u << 24)
        return error_set(reader->err, ERROR_FAILED, "'%s' is big-endian; take a little-endian GGUF file",
                         reader->path);
    if (version != 2 && version != 3)
        return error_set(reader->err, ERROR_FAILED,
                         "'%s' has GGUF version %" PRIu32 ", but 2 and 3 can be read; convert the model again",
                         reader->path, version);
    if (!gguf_read_u64(reader, &tensor_count) || !gguf_read_u64(reader, &entry_count))
        return false;
    if (tensor_count > TENSOR_LIMIT || entry_count > ENTRY_LIMIT)
        return error_set(reader->err, ERROR_FAILED,
                         "'%s' is damaged: it claims %" PRIu64 " tensors and %" PRIu64 " keys", reader->path,
                         tensor_count, entry_count);
    return gguf_read_entries(reader, entry_count) && read_tensors(reader, tensor_count);
}

static struct gguf *open_head(const char *path, bool is_brief, struct error *err) {
    struct stat status;
    struct gguf_reader reader = { .path = path, .err = err, .is_brief = is_brief,
                                  .descriptor = file_open(path, &status, err) };
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

struct gguf *gguf_open(const char *path, struct error *err) {
    return open_head(path, false, err);
}

struct gguf *gguf_open_brief(const char *path, struct error *err) {
    return open_head(path, true, err);
}

void gguf_close(struct gguf *gguf) {
    if (!gguf)
        return;
    gguf_free_arena(gguf);
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
