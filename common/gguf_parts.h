/* gguf_parts: what the files of the GGUF reader share. Private to gguf*.c.
 *
 * The file, little endian:
 *   "GGUF", uint32 version, uint64 tensor_count, uint64 entry_count
 *   entries   string key, uint32 kind, value
 *   tensors   string name, uint32 rank, uint64 shape[rank], uint32 ggml_type, uint64 offset
 *   data      from the next multiple of the alignment; offsets count from there
 * A string is uint64 length, bytes; an array uint32 kind, uint64 length, values. */
#ifndef COMMON_GGUF_PARTS_H
#define COMMON_GGUF_PARTS_H

#include "common/gguf.h"

/* Ceilings for the head, several times what the largest vocabularies and models
 * in use need. With them, memory stays within a small multiple of what the file
 * really holds, however long it is and whatever it claims. */
enum {
    HEAD_LIMIT = 128 << 20,
    ENTRY_LIMIT = 1 << 16,
    TENSOR_LIMIT = 1 << 18,
    NESTING_LIMIT = 4,
    BUFFER_SIZE = 64 << 10
};

struct gguf_entry;
struct arena_block;

struct gguf {
    uint64_t file_size;
    uint32_t entry_count, tensor_count;
    struct gguf_entry *entries;   /* sorted by key */
    struct gguf_tensor *tensors;
    struct arena_block *arena;
};

/* ---- gguf_read.c ---- */

struct gguf_reader {
    struct gguf *gguf;
    const char *path;
    struct error *err;
    bool is_brief;              /* arrays are passed over */
    int descriptor;
    uint64_t end;               /* of what may be read */
    uint64_t position;          /* in the file, of the next byte */
    uint64_t buffer_offset;     /* in the file, of buffer[0] */
    size_t buffer_filled;
    uint8_t *buffer;            /* [BUFFER_SIZE] */
};

/* Memory of the arena: it is given back all at once, and what is handed out never moves. */
void *gguf_take_memory(struct gguf_reader *reader, size_t size);
void gguf_free_arena(struct gguf *gguf);

/* Room for one more element in an array that grows with what has been read, not with what
 * the counts claim. NULL, the array as it was: no memory. */
void *gguf_grow(struct gguf_reader *reader, void *array, uint32_t count, size_t element_size);

static inline uint64_t gguf_remaining(const struct gguf_reader *reader) {
    return reader->end - reader->position;
}

/* False, with a sentence, where the head ends before that. */
bool gguf_read_bytes(struct gguf_reader *reader, void *target, uint64_t size);
bool gguf_read_u32(struct gguf_reader *reader, uint32_t *value);
bool gguf_read_u64(struct gguf_reader *reader, uint64_t *value);
bool gguf_read_string(struct gguf_reader *reader, struct gguf_string *string);
/* Pass over bytes of the head without reading them. */
bool gguf_skip(struct gguf_reader *reader, uint64_t size);

/* For sentences: "%.*s" with names of any length. */
static inline int gguf_shown(const struct gguf_string *string) {
    return string->length > 120 ? 120 : (int)string->length;
}

int gguf_compare_strings(const struct gguf_string *a, const struct gguf_string *b);

/* ---- gguf_values.c ---- */

/* The keys and their values, sorted. */
bool gguf_read_entries(struct gguf_reader *reader, uint64_t count);

#endif
