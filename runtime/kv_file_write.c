/* kv_file_write: the writer's half of kv_file. */
#include "runtime/kv_file_format.h"

#include "common/compress.h"
#include "common/model.h"
#include "common/temporary_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define SUFFIX ".phi-part"

struct kv_file_writer {
    struct kv_file_key key;
    char *path, *part;
    int descriptor;
    char *index;                /* as in the file */
    size_t index_bytes;
    uint32_t page_count, done;  /* pages */
    uint64_t at;                /* where the next page goes */
    uint8_t *planes, *stored;   /* room for a page each */
};

static char *part_path(const char *path) {
    char *part = malloc(strlen(path) + sizeof SUFFIX);
    if (part)
        sprintf(part, "%s" SUFFIX, path);
    return part;
}

/* The lock, on what still has that name. */
static bool lock(int descriptor, const char *part) {
    struct stat mine, named;
    return flock(descriptor, LOCK_EX | LOCK_NB) == 0 && fstat(descriptor, &mine) == 0 && S_ISREG(mine.st_mode) &&
           lstat(part, &named) == 0 && mine.st_ino == named.st_ino && mine.st_dev == named.st_dev;
}

void kv_file_clear(const char *path) {
    char *part = part_path(path);
    int descriptor = part ? open(part, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) : -1;
    if (descriptor >= 0) {
        if (lock(descriptor, part))
            unlink(part);
        close(descriptor);
    }
    free(part);
}

static bool cannot(const char *path, struct error *err) {
    return error_set(err, ERROR_FAILED, "cannot write '%s': %s", path, strerror(errno));
}

/* Only a file of this kind, or an empty one, is ever replaced: the caller has looked. */
static bool open_part(struct kv_file_writer *writer, struct error *err) {
    struct stat status;
    if (stat(writer->path, &status) == 0 && !S_ISREG(status.st_mode))
        return error_set(err, ERROR_FAILED, "cannot write '%s': it is not a regular file", writer->path);
    if (access(writer->path, F_OK) == 0 && access(writer->path, W_OK) != 0)
        return cannot(writer->path, err);
    /* What was in a prompt is nobody else's business. */
    writer->descriptor = open(writer->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (writer->descriptor < 0)
        return cannot(writer->path, err);
    if (!lock(writer->descriptor, writer->part)) {
        close(writer->descriptor);
        writer->descriptor = -1;
        return error_set(err, ERROR_FAILED, "cannot write '%s': another run does just now", writer->path);
    }
    temporary_file_note(writer->part);
    return ftruncate(writer->descriptor, 0) == 0 || cannot(writer->part, err);
}

static void fill_header(struct kv_file_writer *writer, const int32_t *tokens, uint32_t token_count, bool long_rope) {
    struct kv_file_header *header = (struct kv_file_header *)writer->index;
    const struct kv_file_key *key = &writer->key;
    *header = (struct kv_file_header){
        .magic = KV_FILE_MAGIC, .version = KV_FILE_VERSION, .long_rope = long_rope, .kv_type = key->kv_type,
        .block_count = key->block_count, .kv_head_count = key->kv_head_count, .vector_bytes = key->vector_bytes,
        .page_tokens = KV_PAGE_TOKENS, .token_count = token_count,
    };
    memcpy(header->weights_hash, key->weights_hash, 64);
    memcpy(header->arithmetic, key->arithmetic, 64);
    memcpy(writer->index + sizeof *header, tokens, token_count * sizeof *tokens);
}

struct kv_file_writer *kv_file_create(const char *path, const struct kv_file_key *key, const int32_t *tokens,
                                      uint32_t token_count, bool long_rope, struct error *err) {
    struct kv_file_writer *writer = calloc(1, sizeof *writer);
    if (!writer || token_count == 0 || token_count > KV_FILE_MOST_TOKENS) {
        error_set(err, ERROR_FAILED, "cannot keep %u tokens in '%s'", token_count, path);
        free(writer);
        return NULL;
    }
    uint64_t page_bytes = kv_file_page_bytes(key);
    *writer = (struct kv_file_writer){
        .key = *key, .path = strdup(path), .part = part_path(path), .descriptor = -1,
        .index_bytes = kv_file_index_bytes(token_count), .page_count = kv_pages_of(token_count),
        .planes = malloc(page_bytes), .stored = malloc(page_bytes),
    };
    writer->index = calloc(1, writer->index_bytes);
    writer->at = writer->index_bytes;
    bool ok = (writer->path && writer->part && writer->index && writer->planes && writer->stored) ||
              error_set(err, ERROR_FAILED, "cannot write '%s': out of memory", path);
    if (ok && open_part(writer, err)) {
        fill_header(writer, tokens, token_count, long_rope);
        return writer;
    }
    kv_file_abandon(writer);
    return NULL;
}

/* planes [width][count], the highest first, of values [count] of `width` bytes. */
static void split_planes(const uint8_t *bytes, unsigned width, uint64_t count, uint8_t *planes) {
    for (unsigned plane = 0; plane < width; plane++)
        for (uint64_t i = 0; i < count; i++)
            planes[plane * count + i] = bytes[i * width + width - 1 - plane];
}

static bool write_at(const struct kv_file_writer *writer, uint64_t at, const void *bytes, uint64_t size,
                     struct error *err) {
    for (uint64_t done = 0; done < size;) {
        ssize_t written = pwrite(writer->descriptor, (const uint8_t *)bytes + done, size - done, (off_t)(at + done));
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) {
            errno = written < 0 ? errno : ENOSPC;
            return cannot(writer->path, err);
        }
        done += (uint64_t)written;
    }
    return true;
}

bool kv_file_write_page(struct kv_file_writer *writer, const uint8_t *bytes, struct error *err) {
    if (writer->done == writer->page_count)
        return error_set(err, ERROR_FAILED, "cannot write '%s': it has all of its pages", writer->path);
    uint64_t size = kv_file_page_bytes(&writer->key);
    unsigned width = kv_file_planes(writer->key.kv_type);
    uint64_t count = size / width, plain = size - count;
    split_planes(bytes, width, count, writer->planes);
    /* Not worth inflating for less than a sixteenth of the page. */
    size_t used = size / 16 < count ? compress_bytes(writer->planes, (size_t)count, COMPRESS_NUMBERS,
                                                     writer->stored, (size_t)(count - size / 16)) : 0;
    struct kv_file_row *row =
        (struct kv_file_row *)(writer->index + writer->index_bytes) - writer->page_count + writer->done;
    *row = (struct kv_file_row){ .bytes = used ? used + plain : size, .is_deflated = used > 0 };
    const uint8_t *stored = bytes;
    if (used) {
        memcpy(writer->stored + used, writer->planes + count, (size_t)plain);
        stored = writer->stored;
    }
    char hex[65];
    sha256_hex(stored, (size_t)row->bytes, hex);
    memcpy(row->hash, hex, sizeof row->hash);
    if (!write_at(writer, writer->at, stored, row->bytes, err))
        return false;
    writer->at += row->bytes;
    writer->done++;
    return true;
}

bool kv_file_finish(struct kv_file_writer *writer, struct error *err) {
    struct kv_file_header *header = (struct kv_file_header *)writer->index;
    char hex[65];
    header->file_bytes = writer->at;
    sha256_hex(writer->index, writer->index_bytes, hex);
    memcpy(header->index_hash, hex, sizeof header->index_hash);
    bool ok = writer->done == writer->page_count ||
              error_set(err, ERROR_FAILED, "cannot write '%s': pages are missing", writer->path);
    ok = ok && write_at(writer, 0, writer->index, writer->index_bytes, err);
    ok = ok && (rename(writer->part, writer->path) == 0 || cannot(writer->path, err));
    if (ok) {
        temporary_file_forget(writer->part);
        close(writer->descriptor);
        writer->descriptor = -1;
    }
    kv_file_abandon(writer);
    return ok;
}

void kv_file_abandon(struct kv_file_writer *writer) {
    if (!writer)
        return;
    if (writer->descriptor >= 0) {
        unlink(writer->part);
        temporary_file_forget(writer->part);
        close(writer->descriptor);
    }
    free(writer->path);
    free(writer->part);
    free(writer->index);
    free(writer->planes);
    free(writer->stored);
    free(writer);
}
