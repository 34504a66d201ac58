/* tokenizer_bpe: byte-pair encoding of one piece of text.
 *
 * The piece begins as one symbol a character; then, again and again, the pair of
 * neighbours whose merge ranks lowest (the leftmost of equals) becomes one symbol.
 * With a heap of candidates this takes n log n steps, however long the piece.
 *
 * SentencePiece vocabularies get the whole text as one piece. There `joins` knows
 * which symbols are neighbours in some piece of the vocabulary: between two that
 * never are no merge can happen, so the text falls apart into short parts that
 * are encoded one by one, with the same result. */
#ifndef RUNTIME_TOKENIZER_BPE_H
#define RUNTIME_TOKENIZER_BPE_H

#include "common/error.h"
#include "common/text.h"
#include "runtime/piece_table.h"

struct merge {
    uint64_t pair;      /* left id << 32 | right id; UINT64_MAX: empty slot */
    uint32_t rank;
    int32_t id;         /* what the two become */
};

/* Symbols below this code point, all of a byte-level alphabet, need no hashing. */
enum { BPE_DIRECT_END = 0x180 };
enum { BPE_JOIN_BITS = 1 << 20, BPE_JOIN_BYTES = BPE_JOIN_BITS / 8 };   /* some 30,000 are set */

struct bpe {
    struct piece_table vocabulary;
    struct merge *merges;         /* [merge_mask + 1] open addressing */
    uint32_t merge_mask;
    uint64_t seed;
    int32_t direct[BPE_DIRECT_END];
    int32_t byte_ids[256];        /* ids of <0x00> to <0xFF>; -1: none */
    int32_t unknown_id;           /* -1: characters without a symbol are dropped */
    uint64_t *joins;              /* a bit for each hash of a pair; NULL: any two may join */
    bool byte_fallback, fuse_unknown;
    bool is_borrowed;             /* merges and joins lie in an image */
    bool ignore_merges;           /* a piece that is in the vocabulary is taken whole */
};

bool bpe_init(struct bpe *bpe);            /* false: out of memory; release all the same */
void bpe_release(struct bpe *bpe);

/* Room for `count` merges, then the merges themselves; a pair that comes again
 * gets the later rank. Then, when vocabulary and merges are complete, finish. */
bool bpe_reserve_merges(struct bpe *bpe, uint32_t count);
void bpe_add_merge(struct bpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t id);
/* The same by name; false where a half or the whole is not in the vocabulary. */
bool bpe_add_named_merge(struct bpe *bpe, const char *left, size_t left_size, const char *right,
                         size_t right_size, uint32_t rank, struct text *joined);
bool bpe_finish(struct bpe *bpe);   /* false: out of memory */

/* A growing array of ids, and of what encoding needs in between. */
struct id_list {
    int32_t *ids;       /* owned */
    uint32_t count, capacity;
};
bool id_list_add(struct id_list *list, int32_t id);   /* false: out of memory */

struct bpe_scratch {
    struct bpe_symbol *symbols;
    struct bpe_candidate *heap;
    uint32_t symbol_count, symbol_capacity;
    uint32_t heap_count, heap_capacity;
};
void bpe_scratch_release(struct bpe_scratch *scratch);

/* Append the ids of one piece of valid UTF-8. */
bool bpe_encode(const struct bpe *bpe, struct bpe_scratch *scratch, const char *bytes, size_t size,
                struct id_list *out, struct error *err);

#endif
