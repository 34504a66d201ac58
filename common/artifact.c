#include "common/artifact.h"

#include "common/temporary_file.h"
#include "common/unit_weights.h"
#include "common/user_folder.h"
#include "common/weight_choice.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* As in the file, in this machine's byte order: no field straddles its size. */
struct stored_entry {
    uint32_t role, type, layout, reserved;
    uint64_t row_begin, row_count, column_count, offset, bytes;
};

struct stored_header {
    char magic[8];
    uint32_t version, entry_count;
    uint64_t file_bytes;
    uint32_t part_begin, part_end, layout, reserved;
    char weights_hash[64], unit[24], format[16];
    char contents_hash[64];        /* SHA-256 of what follows the header's page, in hex */
    char header_hash[64];          /* SHA-256 of the header with this field zero, and the entries */
    struct stored_entry entries[ARTIFACT_MOST_ENTRIES];
};

static const char magic[8] = { 'p', 'h', 'i', '-', 'a', 'r', 't', '\n' };

_Static_assert(sizeof (struct stored_header) <= ARTIFACT_ALIGNMENT, "the header takes one page");

static uint64_t round_up(uint64_t bytes) {
    return (bytes + ARTIFACT_ALIGNMENT - 1) / ARTIFACT_ALIGNMENT * ARTIFACT_ALIGNMENT;
}

/* ---- names ---- */

void artifact_set_format(struct artifact_key *key, const struct model *model, struct unit unit) {
    enum tensor_type type;
    bool is_converted = model_unit_conversion(model, unit, &type);
    snprintf(key->format, sizeof key->format, "%s", is_converted ? tensor_type_info(type)->name : "keep");
}

char *artifact_root(struct error *err) {
    struct text text;
    text_init(&text);
    if (!user_folder_append(&text, USER_CACHE, "artifacts")) {
        error_set(err, ERROR_FAILED, "there is no folder for packed weights: neither XDG_CACHE_HOME nor HOME is set");
        return NULL;
    }
    char *path = text_take(&text);
    if (!path)
        error_set(err, ERROR_FAILED, "cannot name a folder for packed weights: out of memory");
    return path;
}

char *artifact_path(const struct artifact_key *key, struct error *err) {
    char *root = artifact_root(err);
    if (!root)
        return NULL;
    size_t size = strlen(root) + 256;
    char *path = malloc(size);
    if (path)
        snprintf(path, size, "%s/%.64s/%.23s_%u-%u_%.15s_%s_v%u", root, key->weights_hash, key->unit, key->part_begin,
                 key->part_end, key->format, weight_layout_name(key->layout), ARTIFACT_VERSION);
    else
        error_set(err, ERROR_FAILED, "cannot name a packed unit: out of memory");
    free(root);
    return path;
}

/* ---- writing ---- */

static void seal(struct stored_header *header) {
    char hex[65];
    memset(header->header_hash, 0, sizeof header->header_hash);
    sha256_hex(header, sizeof *header, hex);
    memcpy(header->header_hash, hex, 64);
}

/* Unsplit, and at this file's alignment: that of any device that is no larger. */
static bool list_entries(const struct artifact_key *key, const struct model *model, struct buffer_list *list,
                         struct error *err) {
    struct buffer_options options = { .context = 1, .micro_batch = 1, .sequence_count = 1, .logit_rows = 1,
                                      .layout = key->layout, .alignment = ARTIFACT_ALIGNMENT,
                                      .max_buffer_bytes = UINT64_MAX };
    struct unit unit;
    if (!unit_from_name(model, key->unit, &unit))
        return error_set(err, ERROR_FAILED, "'%s' cannot be packed: the model has no such unit", key->unit);
    struct artifact_key made;
    artifact_set_format(&made, model, unit);
    if (strcmp(made.format, key->format) != 0)
        return error_set(err, ERROR_FAILED, "'%s' cannot be packed as '%s': the model has it as '%s'", key->unit,
                         key->format, made.format);
    return unit_part_buffers(model, unit, (struct part_range){ key->part_begin, key->part_end }, &options, list,
                             err);
}

static bool fill_header(struct stored_header *header, const struct artifact_key *key,
                        const struct buffer_list *list, struct error *err) {
    uint64_t at = ARTIFACT_ALIGNMENT;
    memcpy(header->magic, magic, sizeof magic);
    header->version = ARTIFACT_VERSION;
    header->part_begin = key->part_begin;
    header->part_end = key->part_end;
    header->layout = key->layout;
    memcpy(header->weights_hash, key->weights_hash, sizeof header->weights_hash);
    snprintf(header->unit, sizeof header->unit, "%s", key->unit);
    snprintf(header->format, sizeof header->format, "%s", key->format);
    for (size_t i = 0; i < list->count; i++) {
        const struct buffer_spec *spec = &list->specs[i];
        if (spec->kind != BUFFER_WEIGHTS)
            continue;
        if (header->entry_count == ARTIFACT_MOST_ENTRIES || spec->bytes > INT64_MAX - at)
            return error_set(err, ERROR_FAILED, "'%s' is too large to be packed", key->unit);
        header->entries[header->entry_count++] = (struct stored_entry){
            .role = spec->role, .type = spec->type, .layout = spec->layout, .row_begin = spec->row_begin,
            .row_count = spec->row_count, .column_count = spec->column_count, .offset = at,
            .bytes = spec->used_bytes };
        at += round_up(spec->used_bytes);
    }
    header->file_bytes = at;
    return true;
}

/* Write into the mapped file: its blocks are reserved, so that a full disk is an error
 * here and no signal. */
static bool write_contents(int descriptor, const char *path, struct stored_header *header,
                           const struct buffer_list *list, const struct model *model,
                           artifact_progress *progress, void *context, struct error *err) {
    uint64_t size = header->file_bytes, written = 0;
    int code = size <= SIZE_MAX ? posix_fallocate(descriptor, 0, (off_t)size) : EFBIG;
    if (code)
        return error_set(err, ERROR_FAILED, "cannot write %.1f MB to '%s': %s; free some space or set "
                         "XDG_CACHE_HOME to another disk", 1e-6 * (double)size, path, strerror(code));
    uint8_t *bytes = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (bytes == MAP_FAILED)
        return error_set(err, ERROR_FAILED, "cannot map '%s': %s", path, strerror(errno));
    bool ok = true;
    uint32_t entry = 0;
    for (size_t i = 0; ok && i < list->count; i++) {
        const struct buffer_spec *spec = &list->specs[i];
        if (spec->kind != BUFFER_WEIGHTS)
            continue;
        ok = unit_read_buffer(model, spec, bytes + header->entries[entry++].offset, NULL, err);
        written += spec->used_bytes;
        if (ok && progress && !progress(context, written))
            ok = error_set(err, ERROR_INTERRUPTED, "interrupted while packing weights");
    }
    if (ok) {
        char hex[65];
        sha256_hex(bytes + ARTIFACT_ALIGNMENT, (size_t)(size - ARTIFACT_ALIGNMENT), hex);
        memcpy(header->contents_hash, hex, 64);
        seal(header);
        memcpy(bytes, header, sizeof *header);
    }
    munmap(bytes, (size_t)size);
    if (ok && fsync(descriptor) != 0)
        ok = error_set(err, ERROR_FAILED, "cannot write '%s': %s", path, strerror(errno));
    return ok;
}

bool artifact_write(const char *path, const struct artifact_key *key, const struct model *model,
                    artifact_progress *progress, void *context, struct error *err) {
    struct buffer_list list = { 0 };
    struct stored_header *header = calloc(1, sizeof *header);
    char *temporary = NULL;
    int descriptor = -1;
    bool ok = false;
    if (!header) {
        error_set(err, ERROR_FAILED, "cannot pack '%s': out of memory", key->unit);
        goto cleanup;
    }
    if (!list_entries(key, model, &list, err) || !fill_header(header, key, &list, err) ||
        !user_folder_make(path, "packed weights", err))
        goto cleanup;
    descriptor = temporary_file_create(path, &temporary, err);
    if (descriptor < 0)
        goto cleanup;
    ok = write_contents(descriptor, temporary, header, &list, model, progress, context, err);
    if (ok) {
        ok = temporary_file_finish(descriptor, temporary, path, TAKE_ANY) ||
             error_set(err, ERROR_FAILED, "cannot write '%s': %s", path, strerror(errno));
        descriptor = -1;
        temporary = NULL;
    }
cleanup:
    temporary_file_drop(descriptor, temporary);
    buffer_list_release(&list);
    free(header);
    return ok;
}

/* ---- reading ---- */

static bool damaged(const char *path, const char *what, struct error *err) {
    return error_set(err, ERROR_FAILED, "packed weights '%s' are damaged: %s", path, what);
}

static bool has_room(const struct stored_header *header, const struct stored_entry *entry) {
    return entry->offset >= ARTIFACT_ALIGNMENT && entry->offset % ARTIFACT_ALIGNMENT == 0 &&
           entry->bytes > 0 && entry->offset < header->file_bytes &&
           entry->bytes <= header->file_bytes - entry->offset;
}

static bool take_entries(struct artifact *artifact, const char *path, const struct stored_header *header,
                         struct error *err) {
    for (uint32_t i = 0; i < header->entry_count; i++) {
        const struct stored_entry *entry = &header->entries[i];
        if (entry->role > BUFFER_GATHER || entry->type >= TENSOR_TYPE_COUNT || entry->layout >= LAYOUT_COUNT ||
            !has_room(header, entry))
            return damaged(path, "an entry lies outside of the file", err);
        artifact->entries[artifact->entry_count++] = (struct artifact_entry){
            .role = (enum buffer_role)entry->role, .type = (enum tensor_type)entry->type,
            .layout = (enum weight_layout)entry->layout, .row_begin = entry->row_begin,
            .row_count = entry->row_count, .column_count = entry->column_count, .offset = entry->offset,
            .bytes = entry->bytes };
    }
    return true;
}

static bool check_header(const struct artifact *artifact, const char *path, struct stored_header *header,
                         const struct artifact_key *key, struct error *err) {
    char stored[64];
    memcpy(stored, header->header_hash, sizeof stored);
    if (memcmp(header->magic, magic, sizeof magic) != 0)
        return damaged(path, "it has another beginning", err);
    if (header->version != ARTIFACT_VERSION)
        return error_set(err, ERROR_FAILED, "packed weights '%s' have version %u and this program needs %u", path,
                         header->version, ARTIFACT_VERSION);
    seal(header);
    if (memcmp(stored, header->header_hash, sizeof stored) != 0)
        return damaged(path, "its header does not have its checksum", err);
    if (header->file_bytes != artifact->map.size || header->entry_count > ARTIFACT_MOST_ENTRIES)
        return damaged(path, "it has another length than its header says", err);
    if (memcmp(header->weights_hash, key->weights_hash, 64) != 0 ||
        strncmp(header->unit, key->unit, sizeof header->unit) != 0 ||
        strncmp(header->format, key->format, sizeof header->format) != 0 || header->layout != key->layout ||
        header->part_begin != key->part_begin || header->part_end != key->part_end)
        return error_set(err, ERROR_FAILED, "packed weights '%s' are of another unit or model", path);
    return true;
}

bool artifact_open(struct artifact *artifact, const char *path, const struct artifact_key *key,
                   struct error *err) {
    *artifact = (struct artifact){ 0 };
    struct stat status;
    int descriptor = file_open(path, &status, err);
    if (descriptor < 0)
        return false;
    bool is_mapped = (uint64_t)status.st_size < ARTIFACT_ALIGNMENT
        ? damaged(path, "it is too short", err)
        : file_map_open(&artifact->map, descriptor, path, (uint64_t)status.st_size, 0, (uint64_t)status.st_size, err);
    if (!is_mapped) {
        close(descriptor);
        return false;
    }
    artifact->descriptor = descriptor;
    struct stored_header *header = malloc(sizeof *header);
    bool ok = header || error_set(err, ERROR_FAILED, "cannot open '%s': out of memory", path);
    if (ok) {
        memcpy(header, artifact->map.bytes, sizeof *header);
        memcpy(artifact->checksum, header->contents_hash, 64);
        ok = check_header(artifact, path, header, key, err) && take_entries(artifact, path, header, err);
    }
    free(header);
    if (!ok)
        artifact_release(artifact);
    return ok;
}

void artifact_release(struct artifact *artifact) {
    if (artifact->map.bytes)
        close(artifact->descriptor);
    file_map_release(&artifact->map);
    artifact->entry_count = 0;
}

bool artifact_verify(const struct artifact *artifact, const char *path, struct error *err) {
    char hex[65];
    sha256_hex(artifact->map.bytes + ARTIFACT_ALIGNMENT, (size_t)(artifact->map.size - ARTIFACT_ALIGNMENT), hex);
    return strcmp(hex, artifact->checksum) == 0 || damaged(path, "its contents do not have their checksum", err);
}

const struct artifact_entry *artifact_find(const struct artifact *artifact, const struct buffer_spec *spec) {
    for (uint32_t i = 0; i < artifact->entry_count; i++) {
        const struct artifact_entry *entry = &artifact->entries[i];
        uint64_t bytes = 0;
        struct r16_shape shape;
        if (entry->role != spec->role || entry->type != spec->type || entry->layout != spec->layout ||
            entry->column_count != spec->column_count || spec->row_begin < entry->row_begin ||
            spec->row_begin - entry->row_begin > entry->row_count ||
            spec->row_count > entry->row_count - (spec->row_begin - entry->row_begin))
            continue;
        /* What the shape needs must be there, whatever the header says. */
        bool sized = entry->layout == LAYOUT_R16
            ? r16_shape_init(&shape, entry->type, entry->row_count, entry->column_count)
            : tensor_bytes(entry->type, entry->row_count, entry->column_count, &bytes);
        if (entry->layout == LAYOUT_R16 && sized)
            bytes = shape.bytes;
        if (sized && bytes == entry->bytes)
            return entry;
    }
    return NULL;
}
