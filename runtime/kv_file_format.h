/* kv_file_format: the bytes of a kv_file, for its reader and its writer. In this machine's byte
 * order: no field straddles its size. */
#ifndef RUNTIME_KV_FILE_FORMAT_H
#define RUNTIME_KV_FILE_FORMAT_H

#include "runtime/kv_file.h"

#include <stddef.h>

#define KV_FILE_VERSION 1u
#define KV_FILE_MOST_TOKENS (1u << 22)
#define KV_FILE_MAGIC "phi-kv\n"      /* and its NUL */

struct kv_file_header {
    char magic[8];
    uint32_t version, long_rope;
    char weights_hash[64], arithmetic[64];
    uint32_t kv_type, block_count, kv_head_count, vector_bytes;
    uint32_t page_tokens, token_count;
    uint64_t file_bytes;
    char index_hash[64];              /* SHA-256, in hex, of header with this field zero, tokens and table */
};

struct kv_file_row {
    uint64_t bytes;                   /* in the file, right after the page before */
    uint32_t is_deflated, reserved;
    char hash[64];                    /* SHA-256 of those bytes, in hex */
};

/* The index: header, tokens (a multiple of 8 bytes), table. */
static inline size_t kv_file_table_at(uint32_t token_count) {
    return sizeof(struct kv_file_header) + ((size_t)token_count + 1) / 2 * 8;
}

static inline size_t kv_file_index_bytes(uint32_t token_count) {
    return kv_file_table_at(token_count) + kv_pages_of(token_count) * sizeof(struct kv_file_row);
}

/* Bytes of one value, whose planes are stored apart; blocks of int8 have one plane. */
static inline unsigned kv_file_planes(enum kv_type type) {
    return type == KV_F32 ? 4 : type == KV_F16 ? 2 : 1;
}

#endif
