#include "common/model.h"

#include "common/file_map.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Stored bytes that are converted at a time. */
#define CONVERTED_PORTION (1u << 20)

/* Where the rows of a ref lie. */
struct row_place {
    const char *path;
    int descriptor;
    uint64_t offset;      /* of row 0 of the ref */
    size_t row_bytes;
};

/* Rows of a head are stored as pairs: row 2i + j of the file is row
 * j * head_dim / 2 + i of ours. Reads one head at a time. */
static bool read_interleaved(const struct row_place *place, uint32_t head_dim, uint64_t row_begin,
                             uint64_t row_count, uint8_t *target, struct error *err) {
    const uint64_t half = head_dim / 2;
    uint8_t *head_rows = malloc(head_dim * place->row_bytes);
    bool ok = head_rows != NULL;
    if (!ok)
        error_set(err, ERROR_FAILED, "cannot read '%s': out of memory for the rows of a head", place->path);
    uint64_t loaded = UINT64_MAX;
    for (uint64_t i = 0; ok && i < row_count; i++) {
        uint64_t head = (row_begin + i) / head_dim, row = (row_begin + i) % head_dim;
        if (head != loaded) {
            ok = file_read_at(place->descriptor, place->path, place->offset + head * head_dim * place->row_bytes,
                              head_rows, head_dim * place->row_bytes, err);
            loaded = head;
        }
        if (ok)
            memcpy(target + i * place->row_bytes, head_rows + (2 * (row % half) + row / half) * place->row_bytes,
                   place->row_bytes);
    }
    free(head_rows);
    return ok;
}

/* Rows as the file stores them. */
static bool read_stored(const struct model *model, const struct weight_ref *ref, uint64_t row_begin,
                        uint64_t row_count, void *target, uint64_t *bytes_read, struct error *err) {
    if (!model->has_weights || ref->tensor == MODEL_NO_TENSOR)
        return error_set(err, ERROR_FAILED, "'%s' has no such weights to read", model->name);
    const struct model_tensor *tensor = &model->tensors[ref->tensor];
    uint64_t row_bytes, bytes;
    if (row_begin > ref->row_count || row_count > ref->row_count - row_begin
        || !tensor_bytes(tensor->type, 1, ref->column_count, &row_bytes)
        || __builtin_mul_overflow(row_bytes, row_count, &bytes) || bytes > SIZE_MAX)
        return error_set(err, ERROR_FAILED, "rows %llu to %llu of '%s' do not exist",
                         (unsigned long long)row_begin, (unsigned long long)(row_begin + row_count), tensor->name);
    if (!row_count)
        return true;

    struct row_place place = { .path = model->files[tensor->file].path, .row_bytes = (size_t)row_bytes,
                               .offset = tensor->offset + ref->row_begin * row_bytes };
    place.descriptor = file_open(place.path, NULL, err);
    if (place.descriptor < 0)
        return false;
    bool ok;
    if (ref->interleaved_rope)
        ok = read_interleaved(&place, model->head_dim, row_begin, row_count, target, err);
    else
        ok = file_read_at(place.descriptor, place.path, place.offset + row_begin * row_bytes, target,
                          (size_t)bytes, err);
    close(place.descriptor);
    if (ok && bytes_read)
        *bytes_read += bytes;
    return ok;
}

/* Rows of a converted ref, a portion at a time. */
static bool read_converted(const struct model *model, const struct weight_ref *ref, uint64_t row_begin,
                           uint64_t row_count, uint8_t *target, uint64_t *bytes_read, struct error *err) {
    const struct model_tensor *tensor = &model->tensors[ref->tensor];
    uint64_t stored_bytes, row_bytes, float_bytes;
    if (!tensor_bytes(tensor->type, 1, ref->column_count, &stored_bytes) ||
        !tensor_bytes(ref->converted_type, 1, ref->column_count, &row_bytes) ||
        !tensor_bytes(TENSOR_F32, 1, ref->column_count, &float_bytes) || !stored_bytes)
        return error_set(err, ERROR_FAILED, "rows of %llu values of '%s' cannot be converted",
                         (unsigned long long)ref->column_count, tensor->name);
    uint64_t portion = CONVERTED_PORTION / stored_bytes + 1;
    portion = portion < row_count ? portion : row_count;
    uint64_t portion_bytes;
    bool ok = !__builtin_mul_overflow(portion, stored_bytes, &portion_bytes) && portion_bytes <= SIZE_MAX / 2;
    void *stored = ok ? malloc((size_t)portion_bytes) : NULL;
    float *values = ok ? malloc((size_t)float_bytes) : NULL;
    ok = (stored && values) ||
         error_set(err, ERROR_FAILED, "cannot convert '%s': out of memory", tensor->name);
    for (uint64_t done = 0, rows; ok && done < row_count; done += rows) {
        rows = row_count - done < portion ? row_count - done : portion;
        ok = read_stored(model, ref, row_begin + done, rows, stored, bytes_read, err);
        for (uint64_t r = 0; ok && r < rows; r++) {
            dequantise(tensor->type, (uint8_t *)stored + r * stored_bytes, values, ref->column_count);
            ok = quantise(ref->converted_type, values, target + (done + r) * row_bytes, ref->column_count) ||
                 error_set(err, ERROR_FAILED, "'%s' cannot be converted to %s", tensor->name,
                           tensor_type_info(ref->converted_type)->name);
        }
    }
    free(stored);
    free(values);
    return ok;
}

bool weight_read_rows(const struct model *model, const struct weight_ref *ref, uint64_t row_begin,
                      uint64_t row_count, void *target, uint64_t *bytes_read, struct error *err) {
    if (!model->has_weights || ref->tensor == MODEL_NO_TENSOR || !ref->is_converted || !row_count)
        return read_stored(model, ref, row_begin, row_count, target, bytes_read, err);
    return read_converted(model, ref, row_begin, row_count, target, bytes_read, err);
}
