#include "runtime/kv_file_format.h"

#include "common/compress.h"
#include "common/file_map.h"
#include "common/model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Static_assert(sizeof(struct kv_file_header) == 240 && sizeof(struct kv_file_row) == 80, "no padding");

uint64_t kv_file_page_bytes(const struct kv_file_key *key) {
    return 2ull * key->block_count * key->kv_head_count * KV_PAGE_TOKENS * key->vector_bytes;
}

static bool damaged(const struct kv_file *file, const char *what, struct error *err) {
    return error_set(err, ERROR_FAILED, "'%s' is damaged: %s", file->path, what);
}

/* ---- the index ---- */

static bool check_key(const struct kv_file *file, const struct kv_file_header *header, struct error *err) {
    const struct kv_file_key *key = &file->key;
    if (memcmp(header->weights_hash, key->weights_hash, 64) != 0)
        return error_set(err, ERROR_FAILED, "'%s' was made with another model", file->path);
    if (header->kv_type != (uint32_t)key->kv_type)
        return error_set(err, ERROR_FAILED, "'%s' holds keys and values in another format than this plan's %s", file->path,
                         kv_type_name(key->kv_type));
    if (memcmp(header->arithmetic, key->arithmetic, 64) != 0)
        return error_set(err, ERROR_FAILED, "'%s' was made with weights in other formats", file->path);
    return (header->block_count == key->block_count && header->kv_head_count == key->kv_head_count &&
            header->vector_bytes == key->vector_bytes && header->page_tokens == KV_PAGE_TOKENS) ||
           damaged(file, "it has another shape than its model", err);
}

/* Where each page lies; together they end where the file does. */
static bool take_table(struct kv_file *file, const struct kv_file_row *rows, uint64_t at, uint64_t file_bytes,
                       struct error *err) {
    uint64_t page_bytes = kv_file_page_bytes(&file->key);
    for (uint32_t i = 0; i < file->page_count; i++) {
        const struct kv_file_row *row = &rows[i];
        bool fits = row->is_deflated == 1 ? row->bytes > 0 && row->bytes < page_bytes
                                          : row->is_deflated == 0 && row->bytes == page_bytes;
        if (!fits || row->bytes > file_bytes - at)
            return damaged(file, "a page lies outside of it", err);
        file->pages[i] = (struct kv_file_entry){ .offset = at, .bytes = row->bytes, .is_deflated = row->is_deflated };
        memcpy(file->pages[i].hash, row->hash, sizeof row->hash);
        at += row->bytes;
    }
    return at == file_bytes || damaged(file, "it is longer than its pages", err);
}

static bool read_index(struct kv_file *file, struct kv_file_header *header, uint64_t size, struct error *err) {
    uint32_t count = header->token_count;
    if (header->version != KV_FILE_VERSION)
        return error_set(err, ERROR_FAILED, "'%s' has version %u and this program needs %u", file->path,
                         header->version, KV_FILE_VERSION);
    if (header->file_bytes != size || count == 0 || count > KV_FILE_MOST_TOKENS || header->long_rope > 1 ||
        kv_file_index_bytes(count) > size)
        return damaged(file, "it does not have the length that it says", err);
    size_t index_bytes = kv_file_index_bytes(count);
    char *index = malloc(index_bytes), hex[65];
    file->page_count = kv_pages_of(count);
    file->tokens = malloc(count * sizeof *file->tokens);
    file->pages = calloc(file->page_count, sizeof *file->pages);
    bool ok = (index && file->tokens && file->pages) ||
              error_set(err, ERROR_FAILED, "cannot read '%s': out of memory", file->path);
    ok = ok && file_read_at(file->descriptor, file->path, 0, index, index_bytes, err);
    if (ok) {
        memset(index + offsetof(struct kv_file_header, index_hash), 0, sizeof header->index_hash);
        sha256_hex(index, index_bytes, hex);
        ok = memcmp(hex, header->index_hash, 64) == 0 ||
             damaged(file, "its first part does not have its checksum", err);
    }
    if (ok) {
        file->token_count = count;
        file->long_rope = header->long_rope;
        memcpy(file->tokens, index + sizeof *header, count * sizeof *file->tokens);
        ok = check_key(file, header, err) &&
             take_table(file, (const struct kv_file_row *)(index + kv_file_table_at(count)), index_bytes, size, err);
    }
    free(index);
    return ok;
}

enum kv_file_state kv_file_open(struct kv_file *file, const char *path, const struct kv_file_key *key,
                                struct error *err) {
    struct stat status;
    struct kv_file_header header;
    enum kv_file_state state = KV_FILE_FOREIGN;
    *file = (struct kv_file){ .key = *key, .descriptor = -1 };
    if (stat(path, &status) != 0 && errno == ENOENT)
        return KV_FILE_NONE;
    file->descriptor = file_open(path, &status, err);
    file->path = strdup(path);
    if (file->descriptor < 0 || !file->path)
        goto closed;
    uint64_t size = (uint64_t)status.st_size;
    if (size == 0) {
        state = KV_FILE_NONE;
        goto closed;
    }
    size_t start = size < sizeof header.magic ? (size_t)size : sizeof header.magic;
    if (!file_read_at(file->descriptor, path, 0, header.magic, start, err))
        goto closed;
    if (memcmp(header.magic, KV_FILE_MAGIC, start) != 0) {
        error_set(err, ERROR_FAILED, "'%s' is no prompt cache, and stays as it is", path);
        goto closed;
    }
    state = KV_FILE_UNUSABLE;
    uint64_t page_bytes = kv_file_page_bytes(key);
    if (size < sizeof header) {
        damaged(file, "it is cut off", err);
    } else if (file_read_at(file->descriptor, path, 0, &header, sizeof header, err) &&
               read_index(file, &header, size, err)) {
        file->stored = malloc(page_bytes);
        file->planes = malloc(page_bytes);
        if (file->stored && file->planes)
            return KV_FILE_OPEN;
        error_set(err, ERROR_FAILED, "cannot read '%s': out of memory", path);
    }
closed:
    kv_file_close(file);
    return state;
}

void kv_file_close(struct kv_file *file) {
    if (file->descriptor >= 0)
        close(file->descriptor);
    free(file->path);
    free(file->tokens);
    free(file->pages);
    free(file->stored);
    free(file->planes);
    *file = (struct kv_file){ .descriptor = -1 };
}

/* ---- a page ---- */

/* values [count] of `width` bytes from planes [width][count], the highest first. */
static void join_planes(const uint8_t *planes, unsigned width, uint64_t count, uint8_t *bytes) {
    if (width == 2) {
        for (uint64_t i = 0; i < count; i++) {
            bytes[2 * i] = planes[count + i];
            bytes[2 * i + 1] = planes[i];
        }
        return;
    }
    for (unsigned plane = 0; plane < width; plane++)
        for (uint64_t i = 0; i < count; i++)
            bytes[i * width + width - 1 - plane] = planes[plane * count + i];
}

/* NaN and infinity cannot come from a good run, and would make a bad one of this. */
static bool is_finite(const struct kv_file_key *key, const uint8_t *bytes, uint64_t size) {
    uint32_t bad = 0;
    if (key->kv_type == KV_F32) {
        for (uint64_t i = 0; i < size; i += 4) {
            uint32_t value;
            memcpy(&value, bytes + i, 4);
            bad |= (value & 0x7f800000u) == 0x7f800000u;
        }
        return !bad;
    }
    /* Of int8 blocks the scales, which follow each vector's values. */
    uint64_t skip = key->kv_type == KV_Q8_0 ? key->vector_bytes / 34u * 32u : 0;
    for (uint64_t at = 0; at < size; at += key->vector_bytes)
        for (uint64_t i = skip; i < key->vector_bytes; i += 2) {
            uint16_t value;
            memcpy(&value, bytes + at + i, 2);
            bad |= (value & 0x7c00u) == 0x7c00u;
        }
    return !bad;
}

bool kv_file_read_page(struct kv_file *file, uint32_t page, uint8_t *bytes, struct error *err) {
    if (page >= file->page_count)
        return damaged(file, "it has fewer pages", err);
    const struct kv_file_entry *entry = &file->pages[page];
    uint64_t page_bytes = kv_file_page_bytes(&file->key);
    unsigned width = kv_file_planes(file->key.kv_type);
    uint64_t count = page_bytes / width, plain = page_bytes - count;
    char hex[65];
    if (!file_read_at(file->descriptor, file->path, entry->offset, file->stored, (size_t)entry->bytes, err))
        return false;
    sha256_hex(file->stored, (size_t)entry->bytes, hex);
    if (memcmp(hex, entry->hash, 64) != 0)
        return damaged(file, "a page does not have its checksum", err);
    if (!entry->is_deflated) {
        memcpy(bytes, file->stored, (size_t)page_bytes);
    } else {
        /* The deflated plane first; the others end with the page. */
        uint8_t *top = width == 1 ? bytes : file->planes;
        if (entry->bytes <= plain)
            return damaged(file, "a page is too short", err);
        if (!decompress_bytes(file->stored, (size_t)(entry->bytes - plain), top, (size_t)count, "a page", err))
            return error_prefix(err, "'%s'", file->path);
        if (width > 1) {
            memcpy(file->planes + count, file->stored + (entry->bytes - plain), (size_t)plain);
            join_planes(file->planes, width, count, bytes);
        }
    }
    return is_finite(&file->key, bytes, page_bytes) || damaged(file, "it holds values that are not numbers", err);
}
