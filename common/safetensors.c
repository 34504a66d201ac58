#include "common/safetensors.h"

#include "common/file_map.h"
#include "common/json.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The file:  uint64 header_size, JSON header[header_size], tensor data
 * The header maps names to {"dtype", "shape", "data_offsets": [begin, end]},
 * where offsets count from the first byte after the header. */
enum { HEADER_LIMIT = 100000000 };   /* the reference library's own */

struct dtype {
    const char *name;
    uint32_t bits;
    int type;            /* enum tensor_type, or -1: not a weight that we can use */
};

static const struct dtype dtypes[] = {
    { "F32", 32, TENSOR_F32 }, { "F16", 16, TENSOR_F16 }, { "BF16", 16, TENSOR_BF16 },
    { "F64", 64, -1 }, { "I64", 64, -1 }, { "U64", 64, -1 }, { "C64", 64, -1 }, { "I32", 32, -1 },
    { "U32", 32, -1 }, { "I16", 16, -1 }, { "U16", 16, -1 }, { "I8", 8, -1 }, { "U8", 8, -1 },
    { "BOOL", 8, -1 }, { "F8_E4M3", 8, -1 }, { "F8_E5M2", 8, -1 }, { "F8_E8M0", 8, -1 },
    { "F8_E4M3FNUZ", 8, -1 }, { "F8_E5M2FNUZ", 8, -1 },
    { "F6_E2M3", 6, -1 }, { "F6_E3M2", 6, -1 }, { "F4", 4, -1 },
};

static const struct dtype *find_dtype(const char *name) {
    for (size_t i = 0; name && i < sizeof dtypes / sizeof *dtypes; i++)
        if (strcmp(dtypes[i].name, name) == 0)
            return &dtypes[i];
    return NULL;
}

static bool whole_number(const json_t *value, uint64_t *number) {
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *number = (uint64_t)json_integer_value(value);
    return true;
}

/* Check one entry of the header. Entries that we cannot use (other dtypes, more
 * than four dimensions) are range-checked all the same and leave *usable false;
 * *has_other_type is for matrices whose dtype is the reason. */
static bool read_entry(struct safetensors_tensor *tensor, const json_t *entry, uint64_t data_size,
                       bool *usable, bool *has_other_type, struct error *err) {
    const char *dtype_name = json_string_value(json_object_get(entry, "dtype"));
    const json_t *shape = json_object_get(entry, "shape");
    const json_t *offsets = json_object_get(entry, "data_offsets");
    uint64_t begin, end;
    if (!dtype_name || !json_is_array(shape) || json_array_size(offsets) != 2
        || !whole_number(json_array_get(offsets, 0), &begin)
        || !whole_number(json_array_get(offsets, 1), &end))
        return error_set(err, ERROR_FAILED, "it has no proper dtype, shape and data_offsets");
    if (begin > end || end > data_size)
        return error_set(err, ERROR_FAILED,
                         "its bytes %" PRIu64 " to %" PRIu64 " are not within the %" PRIu64
                         " bytes of data that the file has; fetch it again", begin, end, data_size);

    size_t rank = json_array_size(shape);
    uint64_t values = 1, bits;
    for (size_t i = 0; i < rank; i++) {
        uint64_t length;
        if (!whole_number(json_array_get(shape, i), &length) || __builtin_mul_overflow(values, length, &values))
            return error_set(err, ERROR_FAILED, "its shape is not a list of possible lengths");
        if (i < 4)
            tensor->shape[i] = length;
    }
    const struct dtype *dtype = find_dtype(dtype_name);
    if (dtype && (__builtin_mul_overflow(values, (uint64_t)dtype->bits, &bits) || bits % 8
                  || bits / 8 != end - begin))
        return error_set(err, ERROR_FAILED, "its shape does not make the %" PRIu64 " bytes that it has",
                         end - begin);
    *usable = dtype && dtype->type >= 0 && rank <= 4;
    *has_other_type = rank > 1 && (!dtype || dtype->type < 0);
    if (*usable) {
        tensor->type = (enum tensor_type)dtype->type;
        tensor->rank = (uint32_t)rank;
        tensor->offset = begin;
        tensor->size_bytes = end - begin;
    }
    return true;
}

static bool read_entries(struct safetensors *head, json_t *header, const char *path, uint64_t data_offset,
                         struct error *err) {
    head->tensors = calloc(json_object_size(header) + 1, sizeof *head->tensors);
    if (!head->tensors)
        return error_set(err, ERROR_FAILED, "cannot read '%s': out of memory", path);
    const char *name;
    json_t *entry;
    json_object_foreach(header, name, entry) {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        struct safetensors_tensor tensor = { .shape = { 1, 1, 1, 1 } };
        bool usable = false, has_other_type = false;
        if (!read_entry(&tensor, entry, head->file_size - data_offset, &usable, &has_other_type, err))
            return error_prefix(err, "'%s' is damaged: tensor '%.200s'", path, name);
        if (has_other_type && !head->unusable_name[0]) {
            snprintf(head->unusable_name, sizeof head->unusable_name, "%s", name);
            snprintf(head->unusable_type, sizeof head->unusable_type, "%s",
                     json_string_value(json_object_get(entry, "dtype")));
        }
        if (!usable)
            continue;
        tensor.offset += data_offset;
        tensor.name = strdup(name);
        if (!tensor.name)
            return error_set(err, ERROR_FAILED, "cannot read '%s': out of memory", path);
        head->tensors[head->tensor_count++] = tensor;
    }
    return true;
}

bool safetensors_open(struct safetensors *head, const char *path, struct error *err) {
    *head = (struct safetensors){ 0 };
    char *text = NULL;
    json_t *header = NULL;
    bool read = false;
    struct stat status;
    int descriptor = file_open(path, &status, err);
    if (descriptor < 0)
        return false;
    head->file_size = (uint64_t)status.st_size;
    /* Readahead would bring weights into memory behind the header. */
    posix_fadvise(descriptor, 0, 0, POSIX_FADV_RANDOM);

    uint64_t header_size;
    if (!file_read_at(descriptor, path, 0, &header_size, sizeof header_size, err))
        goto cleanup;
    if (header_size > HEADER_LIMIT || header_size > head->file_size - sizeof header_size) {
        error_set(err, ERROR_FAILED,
                  "'%s' is no safetensors file or is truncated: it claims a header of %" PRIu64
                  " bytes and has %" PRIu64 " bytes in all", path, header_size, head->file_size);
        goto cleanup;
    }
    text = malloc((size_t)header_size + 1);
    if (!text) {
        error_set(err, ERROR_FAILED, "cannot read '%s': out of memory", path);
        goto cleanup;
    }
    if (!file_read_at(descriptor, path, sizeof header_size, text, (size_t)header_size, err))
        goto cleanup;
    header = json_read_text(text, (size_t)header_size, path, err);
    if (!header)
        goto cleanup;
    if (!json_is_object(header)) {
        error_set(err, ERROR_FAILED, "'%s' is no safetensors file: its header is no JSON object", path);
        goto cleanup;
    }
    read = read_entries(head, header, path, sizeof header_size + header_size, err);

cleanup:
    close(descriptor);
    free(text);
    json_decref(header);
    if (!read)
        safetensors_release(head);
    return read;
}

void safetensors_release(struct safetensors *head) {
    for (uint32_t i = 0; i < head->tensor_count; i++)
        free(head->tensors[i].name);
    free(head->tensors);
    *head = (struct safetensors){ 0 };
}
