/* kv_file: the keys and values of a timeline in a file.
 *
 *   header     magic "phi-kv\n\0", version, what the bytes depend on (struct kv_file_key), the
 *              LongRoPE factors, how many tokens and bytes, SHA-256 of header, tokens and table
 *   tokens     [token_count] int32
 *   table      an entry a page: how many bytes, how they are stored, their SHA-256
 *   pages      each KV_PAGE_TOKENS tokens, the last one with zeros after its tokens: see
 *              engine_page_bytes()
 *
 * A page is stored as it is, or in planes of equal significance of its values' bytes: the
 * highest first and deflated (signs and exponents, which repeat), the others as they are
 * (mantissas, which are noise). Nothing depends on where the units are, so that every plan
 * with the same arithmetic can use it; whatever prefix is wanted can be read without the rest.
 * A file is hostile until checked: nothing is allocated by what it claims beyond its size. */
#ifndef RUNTIME_KV_FILE_H
#define RUNTIME_KV_FILE_H

#include "common/unit_buffers.h"

struct kv_file_key {
    char weights_hash[65];      /* 64 hex digits */
    char arithmetic[65];        /* the same: of the types that the weights are computed with, and the class */
    enum kv_type kv_type;
    uint32_t block_count, kv_head_count, vector_bytes;
};
uint64_t kv_file_page_bytes(const struct kv_file_key *key);

struct kv_file_entry { uint64_t offset, bytes; uint32_t is_deflated; char hash[64]; };

struct kv_file {
    struct kv_file_key key;
    int descriptor;             /* -1: not open */
    char *path;
    bool long_rope;             /* LongRoPE: made with the long factors */
    int32_t *tokens;            /* [token_count] */
    uint32_t token_count, page_count;
    struct kv_file_entry *pages;
    uint8_t *stored, *planes;   /* room for a page each */
};

enum kv_file_state {
    KV_FILE_OPEN,
    KV_FILE_NONE,               /* missing or empty: no error */
    KV_FILE_UNUSABLE,           /* ours, but damaged or of something else: may be replaced */
    KV_FILE_FOREIGN             /* no such file at all: must not be replaced */
};
/* `err` says why it is not open. Close it where it is. */
enum kv_file_state kv_file_open(struct kv_file *file, const char *path, const struct kv_file_key *key,
                                struct error *err);
void kv_file_close(struct kv_file *file);

/* Page `page` into kv_file_page_bytes() bytes. Damage, and values that are not finite, are errors. */
bool kv_file_read_page(struct kv_file *file, uint32_t page, uint8_t *bytes, struct error *err);

/* Writing: into PATH.phi-part, which is locked; renamed when all is there. A file that a killed
 * program left there is taken over; where another one is writing, creating fails. */
struct kv_file_writer;
struct kv_file_writer *kv_file_create(const char *path, const struct kv_file_key *key, const int32_t *tokens,
                                      uint32_t token_count, bool long_rope, struct error *err);
bool kv_file_write_page(struct kv_file_writer *writer, const uint8_t *bytes, struct error *err);   /* in order */
bool kv_file_finish(struct kv_file_writer *writer, struct error *err);   /* frees it, after a failure too */
void kv_file_abandon(struct kv_file_writer *writer);                     /* NULL is fine */

/* Remove the PATH.phi-part of a program that was killed, if there is one. */
void kv_file_clear(const char *path);

#endif
