/* gguf_read: bytes, numbers and strings of a GGUF file's head, and memory for them. */
#include "common/gguf_parts.h"

#include "common/file_map.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_BLOCK_SIZE = 256 << 10 };

struct arena_block {
    struct arena_block *next;
    size_t used, size;
    max_align_t bytes[];
};

void *gguf_take_memory(struct gguf_reader *reader, size_t size) {
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

void gguf_free_arena(struct gguf *gguf) {
    while (gguf->arena) {
        struct arena_block *next = gguf->arena->next;
        free(gguf->arena);
        gguf->arena = next;
    }
}

void *gguf_grow(struct gguf_reader *reader, void *array, uint32_t count, size_t element_size) {
    if (count & (count - 1) || (count && count < 32))
        return array;
    void *grown = realloc(array, (count ? (size_t)count * 2 : 32) * element_size);
    if (!grown)
        error_set(reader->err, ERROR_FAILED, "cannot read '%s': out of memory", reader->path);
    return grown;
}

static bool ends_early(struct gguf_reader *reader) {
    return error_set(reader->err, ERROR_FAILED,
                     "'%s' is truncated or damaged: its head does not end within its first %" PRIu64 " bytes",
                     reader->path, reader->end);
}

bool gguf_read_bytes(struct gguf_reader *reader, void *target, uint64_t size) {
    if (size > gguf_remaining(reader))
        return ends_early(reader);
    uint8_t *out = target;
    while (size > 0) {
        uint64_t at = reader->position - reader->buffer_offset;
        if (at >= reader->buffer_filled) {
            uint64_t wanted = gguf_remaining(reader) < BUFFER_SIZE ? gguf_remaining(reader) : BUFFER_SIZE;
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

bool gguf_read_u32(struct gguf_reader *reader, uint32_t *value) {
    return gguf_read_bytes(reader, value, sizeof *value);
}

bool gguf_read_u64(struct gguf_reader *reader, uint64_t *value) {
    return gguf_read_bytes(reader, value, sizeof *value);
}

bool gguf_read_string(struct gguf_reader *reader, struct gguf_string *string) {
    if (!gguf_read_u64(reader, &string->length))
        return false;
    if (string->length > gguf_remaining(reader))
        return ends_early(reader);
    char *bytes = gguf_take_memory(reader, (size_t)string->length);
    string->bytes = bytes;
    return bytes && gguf_read_bytes(reader, bytes, string->length);
}

bool gguf_skip(struct gguf_reader *reader, uint64_t size) {
    if (size > gguf_remaining(reader))
        return ends_early(reader);
    reader->position += size;
    return true;
}

int gguf_compare_strings(const struct gguf_string *a, const struct gguf_string *b) {
    uint64_t common = a->length < b->length ? a->length : b->length;
    int order = common ? memcmp(a->bytes, b->bytes, (size_t)common) : 0;
    return order ? order : (a->length > b->length) - (a->length < b->length);
}
