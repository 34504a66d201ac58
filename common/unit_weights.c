#include "common/unit_weights.h"

#include <stdlib.h>
#include <string.h>

/* Rows read at a time where they are packed: a few MB, whole groups. */
#define PACKED_PORTION 256u

static uint32_t refs_of(const struct model *model, const struct buffer_spec *spec, const struct weight_ref *refs[3]) {
    return unit_matrix_refs(model, unit_at(model, spec->unit), spec->role, refs);
}

static bool wrong_shape(const struct model_tensor *tensor, struct error *err) {
    return error_set(err, ERROR_FAILED, "tensor '%s' does not have the shape of its buffer", tensor->name);
}

/* One portion of rows of one ref to where it belongs in the buffer. */
static bool read_packed(const struct model *model, const struct weight_ref *ref, const struct r16_shape *shape,
                        uint64_t first, uint64_t rows, uint64_t to, void *target, uint64_t *bytes_read,
                        struct error *err) {
    uint64_t bytes;
    if (!tensor_bytes(shape->type, PACKED_PORTION, shape->columns, &bytes) || bytes > SIZE_MAX)
        return wrong_shape(&model->tensors[ref->tensor], err);
    void *portion = malloc((size_t)bytes);
    bool ok = portion || error_set(err, ERROR_FAILED, "cannot pack '%s': out of memory",
                                   model->tensors[ref->tensor].name);
    for (uint64_t done = 0, count; ok && done < rows; done += count) {
        count = rows - done < PACKED_PORTION ? rows - done : PACKED_PORTION;
        ok = weight_read_rows(model, ref, first + done, count, portion, bytes_read, err) &&
             (r16_pack(shape, to + done, count, portion, target) ||
              wrong_shape(&model->tensors[ref->tensor], err));
    }
    free(portion);
    return ok;
}

/* Rows [row_begin, row_begin + row_count) of the refs laid one after the other. */
static bool read_matrix(const struct model *model, const struct buffer_spec *spec, uint8_t *target,
                        uint64_t *bytes_read, struct error *err) {
    const struct weight_ref *refs[3];
    uint32_t ref_count = refs_of(model, spec, refs);
    uint64_t begin = spec->row_begin, left = spec->row_count, ref_begin = 0, done = 0;
    struct r16_shape shape;
    if (spec->layout == LAYOUT_R16) {
        if (!r16_shape_init(&shape, spec->type, spec->row_count, spec->column_count) ||
            shape.bytes != spec->used_bytes)
            return error_set(err, ERROR_FAILED, "a matrix of %llu x %llu values cannot be packed",
                             (unsigned long long)spec->row_count, (unsigned long long)spec->column_count);
        memset(target, 0, shape.bytes);
    }
    for (uint32_t i = 0; i < ref_count && left > 0; ref_begin += refs[i++]->row_count) {
        const struct weight_ref *ref = refs[i];
        if (begin >= ref_begin + ref->row_count)
            continue;
        uint64_t skip = begin - ref_begin, rows = ref->row_count - skip < left ? ref->row_count - skip : left;
        const struct model_tensor *tensor = &model->tensors[ref->tensor];
        uint64_t at;
        if (weight_ref_type(model, ref) != spec->type || ref->column_count != spec->column_count ||
            !tensor_bytes(spec->type, done, ref->column_count, &at))
            return wrong_shape(tensor, err);
        bool ok = spec->layout == LAYOUT_R16
            ? read_packed(model, ref, &shape, skip, rows, done, target, bytes_read, err)
            : weight_read_rows(model, ref, skip, rows, target + at, bytes_read, err);
        if (!ok)
            return false;
        done += rows;
        begin += rows;
        left -= rows;
    }
    return left == 0 || error_set(err, ERROR_FAILED, "a matrix of the model lacks %llu rows",
                                  (unsigned long long)left);
}

/* Norms and biases, one after the other, as float32; of a bias what belongs to the parts. */
static bool read_vectors(const struct model *model, const struct buffer_spec *spec, float *target,
                         uint64_t *bytes_read, struct error *err) {
    const struct weight_ref *refs[3];
    uint32_t ref_count = refs_of(model, spec, refs);
    uint64_t room = spec->used_bytes / sizeof *target;
    for (uint32_t i = 0; i < ref_count; i++) {
        const struct model_tensor *tensor = &model->tensors[refs[i]->tensor];
        uint64_t all = refs[i]->row_count * refs[i]->column_count, begin, values;
        unit_part_rows(model, unit_at(model, spec->unit), spec->parts, spec->role, i, &begin, &values);
        if (values > room || begin > all || values > all - begin)
            return wrong_shape(tensor, err);
        /* A vector is small, and its blocks need not end where the parts do. */
        void *stored = malloc(model_ref_bytes(model, refs[i]) + 1);
        float *whole = values < all ? malloc(all * sizeof *whole) : target;
        bool ok = stored && whole
                      ? weight_read_rows(model, refs[i], 0, refs[i]->row_count, stored, bytes_read, err)
                      : error_set(err, ERROR_FAILED, "cannot read tensor '%s': out of memory", tensor->name);
        if (ok)
            dequantise(tensor->type, stored, whole, all);
        if (ok && whole != target)
            memcpy(target, whole + begin, values * sizeof *whole);
        if (whole != target)
            free(whole);
        free(stored);
        if (!ok)
            return false;
        target += values;
        room -= values;
    }
    return room == 0 || error_set(err, ERROR_FAILED, "a vector of the model lacks %llu values",
                                  (unsigned long long)room);
}

bool unit_read_buffer(const struct model *model, const struct buffer_spec *spec, void *target,
                      uint64_t *bytes_read, struct error *err) {
    return buffer_role_is_matrix(spec->role) ? read_matrix(model, spec, target, bytes_read, err)
                                             : read_vectors(model, spec, target, bytes_read, err);
}

uint64_t unit_stored_bytes(const struct model *model, const struct buffer_spec *spec) {
    uint64_t bytes = 0;
    if (buffer_role_is_matrix(spec->role))
        return tensor_bytes(spec->type, spec->row_count, spec->column_count, &bytes) ? bytes : 0;
    return unit_vector_bytes(model, unit_at(model, spec->unit), spec->parts, spec->role);
}

uint64_t unit_vector_bytes(const struct model *model, struct unit unit, struct part_range parts,
                           enum buffer_role role) {
    const struct weight_ref *refs[3];
    uint32_t ref_count = unit_matrix_refs(model, unit, role, refs);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < ref_count; i++) {
        uint64_t begin, values, all = refs[i]->row_count * refs[i]->column_count;
        unit_part_rows(model, unit, parts, role, i, &begin, &values);
        if (role == BUFFER_QKV_BIAS && all)
            bytes += model_ref_bytes(model, refs[i]) / all * values;
        else if (parts.begin == 0)
            bytes += model_ref_bytes(model, refs[i]);
    }
    return bytes;
}

uint64_t unit_part_stored_bytes(const struct model *model, struct unit unit, struct part_range parts) {
    static const enum buffer_role roles[] = {
        BUFFER_NORM, BUFFER_QKV, BUFFER_QKV_BIAS, BUFFER_QK_NORM, BUFFER_O, BUFFER_GATE_UP, BUFFER_DOWN,
        BUFFER_TABLE, BUFFER_HEAD,
    };
    uint64_t total = 0;
    for (unsigned r = 0; r < sizeof roles / sizeof *roles; r++) {
        const struct weight_ref *refs[3];
        uint32_t count = unit_matrix_refs(model, unit, roles[r], refs);
        if (!buffer_role_is_matrix(roles[r])) {
            total += unit_vector_bytes(model, unit, parts, roles[r]);
            continue;
        }
        for (uint32_t i = 0; i < count; i++) {
            uint64_t begin, rows, bytes;
            unit_part_rows(model, unit, parts, roles[r], i, &begin, &rows);
            if (tensor_bytes(weight_ref_type(model, refs[i]), rows, refs[i]->column_count, &bytes))
                total += bytes;
        }
    }
    return total;
}

bool unit_stored_in_one_piece(const struct model *model, const struct buffer_spec *spec, uint32_t *file,
                              uint64_t *offset) {
    const struct weight_ref *refs[3];
    uint32_t ref_count = refs_of(model, spec, refs);
    uint64_t begin = spec->row_begin, left = spec->row_count, ref_begin = 0, end = 0, row_bytes;
    bool any = false;
    if (!buffer_role_is_matrix(spec->role) || spec->layout != LAYOUT_ROWS || !model->has_weights ||
        !tensor_bytes(spec->type, 1, spec->column_count, &row_bytes))
        return false;
    for (uint32_t i = 0; i < ref_count && left > 0; ref_begin += refs[i++]->row_count) {
        const struct weight_ref *ref = refs[i];
        const struct model_tensor *tensor = &model->tensors[ref->tensor];
        if (begin >= ref_begin + ref->row_count)
            continue;
        uint64_t skip = begin - ref_begin, rows = ref->row_count - skip < left ? ref->row_count - skip : left;
        uint64_t at = tensor->offset + (ref->row_begin + skip) * row_bytes;
        if (ref->interleaved_rope || ref->is_converted || tensor->type != spec->type || ref->column_count != spec->column_count ||
            (any && (tensor->file != *file || at != end)))
            return false;
        if (!any) {
            *file = tensor->file;
            *offset = at;
        }
        any = true;
        end = at + rows * row_bytes;
        begin += rows;
        left -= rows;
    }
    /* Kernels read the fields of a block as they are: no field may straddle its size. */
    const uint64_t field = spec->type == TENSOR_F16 || spec->type == TENSOR_BF16 ? 2 : 4;
    return any && left == 0 && *offset % field == 0;
}
