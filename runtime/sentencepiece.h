/* sentencepiece: a tokenizer.model file as a list of pieces; knows no tokenizer.
 *
 * The file is a protocol buffer. Of its messages only what BPE needs is kept:
 *   model       1: piece (repeated)   2: trainer   3: normalizer
 *   piece       1: string   2: float32 score   3: type
 *   trainer     3: model type   35: byte fallback   40, 41, 42: ids of <unk>, <s>, </s>
 *   normalizer  1: name   2: character map   3: space in front   4: spaces removed */
#ifndef RUNTIME_SENTENCEPIECE_H
#define RUNTIME_SENTENCEPIECE_H

#include "common/error.h"

#include <stddef.h>
#include <stdint.h>

/* GGUF's tokenizer.ggml.token_type has the same numbers. */
enum piece_type {
    PIECE_NORMAL = 1, PIECE_UNKNOWN = 2, PIECE_CONTROL = 3, PIECE_USER_DEFINED = 4, PIECE_UNUSED = 5, PIECE_BYTE = 6
};

struct sentencepiece_piece {
    const char *bytes;       /* borrowed from the file's bytes; not NUL-terminated, any byte */
    uint32_t length;
    float score;
    enum piece_type type;    /* numbers that are none of these: PIECE_UNUSED */
};

enum sentencepiece_kind { SENTENCEPIECE_UNIGRAM = 1, SENTENCEPIECE_BPE = 2 };

struct sentencepiece {
    struct sentencepiece_piece *pieces;   /* [count]; the index is the id */
    uint32_t count;
    uint64_t kind;                        /* enum sentencepiece_kind, or another number */
    bool byte_fallback, space_prefix, removes_spaces, has_character_map;
    int64_t unknown_id, bos_id, eos_id;   /* -1: none */
};

/* `bytes` must outlive the object; `file` is for sentences. False where they are no
 * sound protocol buffer of this kind or hold no piece. */
bool sentencepiece_read(struct sentencepiece *model, const void *bytes, size_t size, const char *file,
                        struct error *err);
void sentencepiece_release(struct sentencepiece *model);

#endif
