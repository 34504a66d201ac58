#include "runtime/tokenizer_bpe.h"

#include "runtime/unicode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A linked list in an array; merging makes the left symbol wider and drops the
 * right one. */
struct bpe_symbol {
    int32_t id;               /* -1: dropped */
    int32_t previous, next;   /* -1: none */
};

struct bpe_candidate {
    uint64_t order;           /* rank << 32 | index of the left symbol */
    int32_t id;               /* what the pair would become */
};

bool bpe_init(struct bpe *bpe) {
    *bpe = (struct bpe){ .unknown_id = -1, .seed = piece_seed() };
    memset(bpe->direct, 0xff, sizeof bpe->direct);
    memset(bpe->byte_ids, 0xff, sizeof bpe->byte_ids);
    return piece_table_init(&bpe->vocabulary);
}

void bpe_release(struct bpe *bpe) {
    piece_table_release(&bpe->vocabulary);
    if (!bpe->is_borrowed) {
        free(bpe->merges);
        free(bpe->joins);
    }
    bpe->merges = NULL;
    bpe->joins = NULL;
}

bool bpe_reserve_merges(struct bpe *bpe, uint32_t count) {
    uint32_t slots = 16;
    while (slots / 2 < count) {
        if (slots > UINT32_MAX / 4)
            return false;
        slots *= 2;
    }
    bpe->merges = malloc(slots * sizeof *bpe->merges);
    if (!bpe->merges)
        return false;
    bpe->merge_mask = slots - 1;
    for (uint32_t i = 0; i < slots; i++)
        bpe->merges[i].pair = UINT64_MAX;
    return true;
}

static uint64_t pair_of(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static uint32_t hash_pair(const struct bpe *bpe, uint64_t pair) {
    uint64_t hash = (pair ^ bpe->seed) * 0x9e3779b97f4a7c15u;
    hash = (hash ^ hash >> 32 ^ bpe->seed) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(hash >> 32);
}

static struct merge *find_merge(const struct bpe *bpe, int32_t left, int32_t right) {
    uint64_t pair = pair_of(left, right);
    uint32_t slot = hash_pair(bpe, pair) & bpe->merge_mask;
    while (bpe->merges[slot].pair != pair && bpe->merges[slot].pair != UINT64_MAX)
        slot = (slot + 1) & bpe->merge_mask;
    return &bpe->merges[slot];
}

void bpe_add_merge(struct bpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t id) {
    struct merge *merge = find_merge(bpe, left, right);
    *merge = (struct merge){ pair_of(left, right), rank, id };
}

bool bpe_add_named_merge(struct bpe *bpe, const char *left, size_t left_size, const char *right,
                         size_t right_size, uint32_t rank, struct text *joined) {
    text_clear(joined);
    text_append_bytes(joined, left, left_size);
    text_append_bytes(joined, right, right_size);
    int32_t left_id = piece_table_find(&bpe->vocabulary, left, left_size);
    int32_t right_id = piece_table_find(&bpe->vocabulary, right, right_size);
    int32_t id = piece_table_find(&bpe->vocabulary, joined->bytes, joined->length);
    if (joined->failed || left_id < 0 || right_id < 0 || id < 0)
        return false;
    bpe_add_merge(bpe, left_id, right_id, rank, id);
    return true;
}

/* The symbol that a character begins as; -1: it has none of its own. */
static int32_t symbol_of(const struct bpe *bpe, const char *bytes, struct utf8_unit unit) {
    return unit.codepoint < BPE_DIRECT_END ? bpe->direct[unit.codepoint]
        : piece_table_find(&bpe->vocabulary, bytes, unit.length);
}

static uint32_t join_bit(const struct bpe *bpe, int32_t left, int32_t right) {
    return hash_pair(bpe, pair_of(left, right)) & (BPE_JOIN_BITS - 1);
}

static void note_joins(struct bpe *bpe, const char *piece, size_t size) {
    int32_t left = -1;
    for (size_t i = 0; i < size;) {
        struct utf8_unit unit = utf8_next(piece + i, size - i);
        int32_t right = symbol_of(bpe, piece + i, unit);
        if (left >= 0 && right >= 0) {
            uint32_t bit = join_bit(bpe, left, right);
            bpe->joins[bit / 64] |= (uint64_t)1 << bit % 64;
        }
        left = right;
        i += unit.length;
    }
}

/* Pieces are made of their characters' symbols only as long as no merge has the
 * unknown piece or a byte's piece in it. */
static bool merges_are_plain(const struct bpe *bpe) {
    for (uint32_t slot = 0; slot <= bpe->merge_mask; slot++) {
        if (bpe->merges[slot].pair == UINT64_MAX)
            continue;
        int32_t halves[2] = { (int32_t)(bpe->merges[slot].pair >> 32), (int32_t)(uint32_t)bpe->merges[slot].pair };
        for (int i = 0; i < 2; i++) {
            size_t length;
            const char *piece = piece_table_piece(&bpe->vocabulary, halves[i], &length);
            bool is_byte = length == 6 && memcmp(piece, "<0x", 3) == 0 && piece[5] == '>';
            if (is_byte || halves[i] == bpe->unknown_id)
                return false;
        }
    }
    return true;
}

static bool make_joins(struct bpe *bpe) {
    if (!bpe->byte_fallback || !merges_are_plain(bpe))
        return true;
    bpe->joins = calloc(BPE_JOIN_BITS / 64, sizeof *bpe->joins);
    if (!bpe->joins)
        return false;
    for (uint32_t id = 0; id < bpe->vocabulary.id_end; id++) {
        size_t length;
        const char *piece = piece_table_piece(&bpe->vocabulary, (int32_t)id, &length);
        if (piece)
            note_joins(bpe, piece, length);
    }
    return true;
}

bool bpe_finish(struct bpe *bpe) {
    for (unsigned codepoint = 0; codepoint < BPE_DIRECT_END; codepoint++) {
        char utf8[2] = { (char)codepoint, 0 };
        size_t length = 1;
        if (codepoint >= 0x80) {
            utf8[0] = (char)(0xc0 | codepoint >> 6);
            utf8[1] = (char)(0x80 | (codepoint & 0x3f));
            length = 2;
        }
        bpe->direct[codepoint] = piece_table_find(&bpe->vocabulary, utf8, length);
    }
    for (unsigned byte = 0; byte < 256; byte++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", byte);
        bpe->byte_ids[byte] = piece_table_find(&bpe->vocabulary, name, 6);
    }
    return make_joins(bpe);
}

bool id_list_add(struct id_list *list, int32_t id) {
    if (list->count == list->capacity) {
        uint32_t capacity = list->capacity ? list->capacity : 64;
        if (capacity > UINT32_MAX / 2)
            return false;
        capacity *= list->capacity ? 2 : 1;
        int32_t *ids = realloc(list->ids, capacity * sizeof *ids);
        if (!ids)
            return false;
        list->ids = ids;
        list->capacity = capacity;
    }
    list->ids[list->count++] = id;
    return true;
}

void bpe_scratch_release(struct bpe_scratch *scratch) {
    free(scratch->symbols);
    free(scratch->heap);
    *scratch = (struct bpe_scratch){ 0 };
}

/* A byte makes one symbol at most. */
static bool reserve_symbols(struct bpe_scratch *scratch, size_t bytes) {
    if (bytes <= scratch->symbol_capacity)
        return true;
    if (bytes > INT32_MAX / 2)
        return false;
    size_t capacity = bytes < 256 ? 256 : bytes + bytes / 2;
    struct bpe_symbol *symbols = realloc(scratch->symbols, capacity * sizeof *symbols);
    if (!symbols)
        return false;
    scratch->symbols = symbols;
    scratch->symbol_capacity = (uint32_t)capacity;
    return true;
}

/* The first heap has a candidate for each pair; a merge takes one out and puts two
 * in at most, and there are fewer merges than symbols. */
static bool reserve_heap(struct bpe_scratch *scratch, uint32_t symbols) {
    uint32_t need = symbols * 2;
    if (need <= scratch->heap_capacity)
        return true;
    size_t capacity = (size_t)need + need / 2;
    struct bpe_candidate *heap = realloc(scratch->heap, capacity * sizeof *heap);
    if (!heap)
        return false;
    scratch->heap = heap;
    scratch->heap_capacity = (uint32_t)capacity;
    return true;
}

static void add_symbol(struct bpe_scratch *scratch, int32_t id) {
    scratch->symbols[scratch->symbol_count++].id = id;
}

static bool add_bytes(const struct bpe *bpe, struct bpe_scratch *scratch, const char *bytes, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        if (bpe->byte_ids[(unsigned char)bytes[i]] < 0)
            return false;
    for (unsigned i = 0; i < count; i++)
        add_symbol(scratch, bpe->byte_ids[(unsigned char)bytes[i]]);
    return true;
}

/* One symbol a character. Characters that have none become their bytes, or the
 * unknown piece; a run of those is one where they are fused. */
static void split_characters(const struct bpe *bpe, struct bpe_scratch *scratch, const char *bytes,
                             size_t size) {
    bool unknown_waits = false;
    scratch->symbol_count = 0;
    for (size_t i = 0; i < size;) {
        struct utf8_unit unit = utf8_next(bytes + i, size - i);
        int32_t id = symbol_of(bpe, bytes + i, unit);
        if (id >= 0) {
            if (unknown_waits)
                add_symbol(scratch, bpe->unknown_id);
            unknown_waits = false;
            add_symbol(scratch, id);
        } else if (!(bpe->byte_fallback && add_bytes(bpe, scratch, bytes + i, unit.length))
                   && bpe->unknown_id >= 0) {
            if (unknown_waits && !bpe->fuse_unknown)
                add_symbol(scratch, bpe->unknown_id);
            unknown_waits = true;
        }
        i += unit.length;
    }
    if (unknown_waits)
        add_symbol(scratch, bpe->unknown_id);
}

/* Link the symbols from `start` up to where no merge can happen, which is returned. */
static uint32_t link_part(const struct bpe *bpe, struct bpe_scratch *scratch, uint32_t start) {
    struct bpe_symbol *symbols = scratch->symbols;
    uint32_t end = start + 1;
    while (end < scratch->symbol_count) {
        if (bpe->joins) {
            uint32_t bit = join_bit(bpe, symbols[end - 1].id, symbols[end].id);
            if (!(bpe->joins[bit / 64] >> bit % 64 & 1))
                break;
        }
        end++;
    }
    for (uint32_t i = start; i < end; i++) {
        symbols[i].previous = i > start ? (int32_t)i - 1 : -1;
        symbols[i].next = i + 1 < end ? (int32_t)i + 1 : -1;
    }
    return end;
}

static void sift_down(struct bpe_candidate *heap, uint32_t count, uint32_t hole, struct bpe_candidate item) {
    for (;;) {
        uint32_t child = hole * 2 + 1;
        if (child >= count)
            break;
        if (child + 1 < count && heap[child + 1].order < heap[child].order)
            child++;
        if (heap[child].order >= item.order)
            break;
        heap[hole] = heap[child];
        hole = child;
    }
    heap[hole] = item;
}

static void push(struct bpe_scratch *scratch, struct bpe_candidate item) {
    struct bpe_candidate *heap = scratch->heap;
    uint32_t hole = scratch->heap_count++;
    while (hole && heap[(hole - 1) / 2].order > item.order) {
        heap[hole] = heap[(hole - 1) / 2];
        hole = (hole - 1) / 2;
    }
    heap[hole] = item;
}

static bool candidate_at(const struct bpe *bpe, const struct bpe_scratch *scratch, int32_t left,
                         struct bpe_candidate *candidate) {
    int32_t right = scratch->symbols[left].next;
    if (right < 0)
        return false;
    const struct merge *merge = find_merge(bpe, scratch->symbols[left].id, scratch->symbols[right].id);
    if (merge->pair == UINT64_MAX)
        return false;
    *candidate = (struct bpe_candidate){ (uint64_t)merge->rank << 32 | (uint32_t)left, merge->id };
    return true;
}

static void merge_part(const struct bpe *bpe, struct bpe_scratch *scratch, uint32_t start, uint32_t end) {
    struct bpe_symbol *symbols = scratch->symbols;
    struct bpe_candidate candidate;
    scratch->heap_count = 0;
    for (uint32_t i = start; i + 1 < end; i++)
        if (candidate_at(bpe, scratch, (int32_t)i, &candidate))
            scratch->heap[scratch->heap_count++] = candidate;
    for (uint32_t i = scratch->heap_count / 2; i-- > 0;)
        sift_down(scratch->heap, scratch->heap_count, i, scratch->heap[i]);

    while (scratch->heap_count) {
        struct bpe_candidate top = scratch->heap[0];
        scratch->heap_count--;
        if (scratch->heap_count)
            sift_down(scratch->heap, scratch->heap_count, 0, scratch->heap[scratch->heap_count]);
        int32_t left = (int32_t)(uint32_t)top.order;
        /* The neighbours may have changed since. As in the reference, a pair that
         * would become the same piece still counts, whatever its rank is now. */
        if (symbols[left].id < 0 || !candidate_at(bpe, scratch, left, &candidate) || candidate.id != top.id)
            continue;
        int32_t right = symbols[left].next;
        symbols[left].id = top.id;
        symbols[left].next = symbols[right].next;
        symbols[right].id = -1;
        if (symbols[left].next >= 0)
            symbols[symbols[left].next].previous = left;
        if (symbols[left].previous >= 0 && candidate_at(bpe, scratch, symbols[left].previous, &candidate))
            push(scratch, candidate);
        if (candidate_at(bpe, scratch, left, &candidate))
            push(scratch, candidate);
    }
}

static bool out_of_memory(size_t size, struct error *err) {
    return error_set(err, ERROR_FAILED, "cannot encode a text of %zu bytes: out of memory", size);
}

bool bpe_encode(const struct bpe *bpe, struct bpe_scratch *scratch, const char *bytes, size_t size,
                struct id_list *out, struct error *err) {
    if (bpe->ignore_merges) {
        int32_t whole = piece_table_find(&bpe->vocabulary, bytes, size);
        if (whole >= 0)
            return id_list_add(out, whole) || out_of_memory(size, err);
    }
    if (!reserve_symbols(scratch, size))
        return out_of_memory(size, err);
    split_characters(bpe, scratch, bytes, size);
    for (uint32_t start = 0, end; start < scratch->symbol_count; start = end) {
        end = link_part(bpe, scratch, start);
        if (!reserve_heap(scratch, end - start))
            return out_of_memory(size, err);
        if (end - start > 1)
            merge_part(bpe, scratch, start, end);
        for (int32_t i = (int32_t)start; i >= 0; i = scratch->symbols[i].next)
            if (!id_list_add(out, scratch->symbols[i].id))
                return out_of_memory(size, err);
    }
    return true;
}
