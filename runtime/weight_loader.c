#include "runtime/weight_loader.h"

#include "common/unit_weights.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

cl_mem device_buffer_new(cl_context context, cl_mem_flags flags, const struct buffer_spec *spec, const char *device,
                         struct error *err) {
    cl_int code;
    cl_mem buffer = clCreateBuffer(context, flags, spec->bytes, NULL, &code);
    if (!buffer)
        opencl_failed(err, code, "cannot allocate %.1f MB (%s) on '%s'; plan it with a lower --max-memory",
                      1e-6 * (double)spec->bytes, buffer_role_name(spec->role), device);
    return buffer;
}

/* Bytes that are as the buffer wants them and stay where they are. */
struct place {
    const uint8_t *bytes;   /* NULL: nowhere */
    uint64_t size;          /* that may be read from there: at least the entry's used_bytes */
};

static cl_mem use_in_place(const struct weight_loader *loader, const struct buffer_spec *spec, struct place place) {
    cl_int code;
    uint64_t bytes = place.size < spec->bytes ? spec->used_bytes : spec->bytes;
    /* The API takes a pointer to non-const; a buffer that kernels only read is not written. */
    return clCreateBuffer(loader->context, CL_MEM_READ_ONLY | CL_MEM_USE_HOST_PTR, bytes,
                          (void *)(uintptr_t)place.bytes, &code);   /* NULL: a driver that cannot; it gets a copy */
}

static struct place in_artifact(const struct artifact *artifact, const struct artifact_entry *entry,
                                const struct buffer_spec *spec) {
    const uint8_t *bytes = artifact->map.bytes + entry->offset;
    uint64_t row_bytes;
    if (entry->row_begin == spec->row_begin && entry->row_count == spec->row_count)
        return (struct place){ bytes, artifact->map.size - entry->offset };
    if (spec->layout != LAYOUT_ROWS || !tensor_bytes(spec->type, 1, spec->column_count, &row_bytes))
        return (struct place){ NULL, 0 };
    return (struct place){ bytes + (spec->row_begin - entry->row_begin) * row_bytes, spec->used_bytes };
}

static struct place in_model(struct weight_loader *loader, const struct buffer_spec *spec) {
    const struct place nowhere = { NULL, 0 };
    uint32_t file;
    uint64_t offset;
    if (!unit_stored_in_one_piece(loader->model, spec, &file, &offset))
        return nowhere;
    if (loader->map_count == loader->map_capacity) {
        size_t capacity = loader->map_capacity ? 2 * loader->map_capacity : 16;
        struct file_map *grown = realloc(loader->maps, capacity * sizeof *grown);
        if (!grown)
            return nowhere;
        loader->maps = grown;
        loader->map_capacity = capacity;
    }
    struct file_map *map = &loader->maps[loader->map_count];
    if (!file_map_range(map, loader->model->files[file].path, offset, spec->used_bytes, NULL))
        return nowhere;   /* reading it says why */
    loader->map_count++;
    return (struct place){ map->bytes, map->size };
}

/* Rows that begin or end within a group of 16, as a slice's may, are packed again. */
static bool has_whole_groups(const struct artifact_entry *entry, const struct buffer_spec *spec) {
    const uint64_t first = spec->row_begin - entry->row_begin, end = first + spec->row_count;
    return first % 16 == 0 && (end % 16 == 0 || end == entry->row_count);
}

/* The entry's bytes into memory of the device. */
static bool fill(const struct weight_loader *loader, const struct buffer_spec *spec, const struct artifact *artifact,
                 const struct artifact_entry *entry, void *target, struct error *err) {
    if (!entry)
        return unit_read_buffer(loader->model, spec, target, NULL, err);
    struct place place = in_artifact(artifact, entry, spec);
    if (place.bytes) {
        memcpy(target, place.bytes, spec->used_bytes);
        return true;
    }
    struct r16_shape whole, part;
    if (!r16_shape_init(&whole, entry->type, entry->row_count, entry->column_count) ||
        !r16_shape_init(&part, spec->type, spec->row_count, spec->column_count) || part.bytes != spec->used_bytes)
        return error_set(err, ERROR_FAILED, "packed weights do not have the rows of their buffer");
    const uint64_t first = spec->row_begin - entry->row_begin;
    return (has_whole_groups(entry, spec) && r16_cut(&whole, artifact->map.bytes + entry->offset, first, &part, target)) ||
           unit_read_buffer(loader->model, spec, target, NULL, err);
}

static cl_mem copy(struct weight_loader *loader, const struct buffer_spec *spec, const struct artifact *artifact,
                   const struct artifact_entry *entry, struct error *err) {
    cl_int code;
    cl_mem buffer = device_buffer_new(loader->context, CL_MEM_READ_ONLY, spec, loader->device, err);
    if (!buffer)
        return NULL;
    void *bytes = clEnqueueMapBuffer(loader->queue, buffer, CL_TRUE, CL_MAP_WRITE_INVALIDATE_REGION, 0,
                                     spec->used_bytes, 0, NULL, NULL, &code);
    bool ok = bytes || opencl_failed(err, code, "cannot map %llu bytes of weights on '%s'",
                                     (unsigned long long)spec->used_bytes, loader->device);
    if (bytes) {
        ok = fill(loader, spec, artifact, entry, bytes, err);
        code = clEnqueueUnmapMemObject(loader->queue, buffer, bytes, 0, NULL, NULL);
        if (ok && code != CL_SUCCESS)
            ok = opencl_failed(err, code, "cannot upload weights to '%s'", loader->device);
    }
    if (ok)
        return buffer;
    clReleaseMemObject(buffer);
    return NULL;
}

cl_mem weight_loader_buffer(struct weight_loader *loader, const struct buffer_spec *spec, struct error *err) {
    const struct artifact *artifact = loader->artifacts ? loader->artifacts[spec->unit] : NULL;
    const struct artifact_entry *entry = artifact ? artifact_find(artifact, spec) : NULL;
    cl_mem buffer = NULL;
    if (loader->in_place) {
        struct place place = entry ? in_artifact(artifact, entry, spec) : in_model(loader, spec);
        if (place.bytes)
            buffer = use_in_place(loader, spec, place);
    }
    if (!buffer)
        buffer = copy(loader, spec, artifact, entry, err);
    if (buffer)
        loader->stored_bytes += unit_stored_bytes(loader->model, spec);
    return buffer;
}

/* Bytes of an entry by reading: mapped pages would pile up in this process. */
struct entry_reader {
    const struct artifact *artifact;
    const struct artifact_entry *entry;
    struct error *err;
};

static bool read_entry(void *context, uint64_t offset, void *target, uint64_t bytes) {
    const struct entry_reader *reader = context;
    return file_read_at(reader->artifact->descriptor, "packed weights", reader->entry->offset + offset, target, bytes,
                        reader->err);
}

static bool read_packed(const struct entry_reader *reader, const struct buffer_spec *spec, void *target) {
    const struct artifact_entry *entry = reader->entry;
    struct r16_shape whole, part;
    uint64_t row_bytes, row_begin = spec->row_begin - entry->row_begin;
    /* The kernel's read-ahead would stop at the end of each plane. */
    if (row_begin == 0)
        posix_fadvise(reader->artifact->descriptor, (off_t)entry->offset, (off_t)entry->bytes, POSIX_FADV_WILLNEED);
    if (spec->layout == LAYOUT_R16)
        return r16_shape_init(&whole, entry->type, entry->row_count, entry->column_count) &&
               r16_shape_init(&part, spec->type, spec->row_count, spec->column_count) &&
               part.bytes == spec->used_bytes &&
               r16_cut_by(&whole, read_entry, (void *)(uintptr_t)reader, row_begin, &part, target);
    return tensor_bytes(spec->type, 1, spec->column_count, &row_bytes) &&
           read_entry((void *)(uintptr_t)reader, row_begin * row_bytes, target, spec->used_bytes);
}

bool weight_loader_read(const struct weight_loader *loader, const struct buffer_spec *spec, void *target,
                        struct error *err) {
    const struct artifact *artifact = loader->artifacts ? loader->artifacts[spec->unit] : NULL;
    const struct artifact_entry *entry = artifact ? artifact_find(artifact, spec) : NULL;
    struct error reason = { 0 };
    if (!entry || (spec->layout == LAYOUT_R16 && !has_whole_groups(entry, spec)))
        return unit_read_buffer(loader->model, spec, target, NULL, err);
    struct entry_reader reader = { artifact, entry, &reason };
    if (read_packed(&reader, spec, target))
        return true;
    return error_set(err, ERROR_FAILED, "cannot stream weights to '%s': %s", loader->device,
                     reason.text[0] ? reason.text : "packed weights do not have the rows of their buffer");
}

void weight_loader_release(struct weight_loader *loader) {
    for (size_t i = 0; i < loader->map_count; i++)
        file_map_release(&loader->maps[i]);
    free(loader->maps);
    *loader = (struct weight_loader){ 0 };
}
