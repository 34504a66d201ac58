#include "runtime/token_trie.h"

#include <stdlib.h>
#include <string.h>

/* Sorting needs the bytes, and mostly no more than the first eight of them. */
struct spelled {
    uint64_t head;           /* the first bytes, as a number; zeros after the end */
    const uint8_t *bytes;
    uint32_t size;
    int32_t id;
};

static int compare_spelled(const void *left, const void *right) {
    const struct spelled *a = left, *b = right;
    if (a->head != b->head)
        return a->head < b->head ? -1 : 1;
    int order = memcmp(a->bytes, b->bytes, a->size < b->size ? a->size : b->size);
    if (order)
        return order;
    if (a->size != b->size)
        return a->size < b->size ? -1 : 1;
    return (a->id > b->id) - (a->id < b->id);
}

static uint64_t head_of(const uint8_t *bytes, size_t size) {
    uint64_t head = 0;
    for (size_t i = 0; i < 8; i++)
        head = head << 8 | (i < size ? bytes[i] : 0);
    return head;
}

/* The bytes of all tokens, one after the other. */
static bool spell_tokens(struct token_trie *trie, const struct tokenizer *tokenizer, struct error *err) {
    struct text all;
    text_init(&all);
    trie->offsets = calloc((size_t)trie->vocab + 1, sizeof *trie->offsets);
    bool ok = trie->offsets != NULL;
    for (uint32_t id = 0; ok && id < trie->vocab; id++) {
        trie->offsets[id] = (uint32_t)all.length;
        if (!tokenizer_token_bytes(tokenizer, (int32_t)id, &all)) {
            text_release(&all);
            return error_set(err, ERROR_USAGE, "this model's tokenizer puts spaces between its tokens, which no "
                             "grammar can follow");
        }
    }
    ok = ok && !all.failed;
    if (ok) {
        trie->offsets[trie->vocab] = (uint32_t)all.length;
        ok = (trie->bytes = (uint8_t *)text_take(&all)) != NULL;
    }
    text_release(&all);
    return ok;
}

/* The open nodes below `until` have all their children. */
static void close_nodes(struct token_trie *trie, const uint32_t *open, uint32_t *depth, uint32_t until) {
    while (*depth > until) {
        struct trie_node *node = &trie->nodes[open[--*depth]];
        node->skip = trie->node_count;
        if (*depth && trie->nodes[open[*depth - 1]].below <= node->below)
            trie->nodes[open[*depth - 1]].below = (uint8_t)(node->below + 1);
    }
}

static void make_nodes(struct token_trie *trie, const struct spelled *tokens, uint32_t count) {
    uint32_t open[TRIE_MOST_DEPTH + 1], depth = 0;   /* the nodes of the token before */
    for (uint32_t i = 0; i < count; i++) {
        uint32_t same = 0;
        while (i && same < depth && same < tokens[i].size && tokens[i].bytes[same] == tokens[i - 1].bytes[same])
            same++;
        close_nodes(trie, open, &depth, same);
        for (; depth < tokens[i].size; depth++) {
            open[depth] = trie->node_count;
            trie->nodes[trie->node_count++] = (struct trie_node){ .first = i, .byte = tokens[i].bytes[depth],
                                                                  .depth = (uint8_t)depth };
        }
        struct trie_node *node = &trie->nodes[open[depth - 1]];
        if (!node->count)
            node->first = i;
        node->count += node->count < UINT16_MAX;
        trie->ids[trie->id_count++] = tokens[i].id;
    }
    close_nodes(trie, open, &depth, 0);
}

struct token_trie *token_trie_new(const struct tokenizer *tokenizer, uint32_t vocab, struct error *err) {
    struct token_trie *trie = calloc(1, sizeof *trie);
    struct spelled *tokens = calloc((size_t)vocab + 1, sizeof *tokens);
    uint32_t count = 0;
    size_t total = 0;
    if (trie)
        trie->vocab = vocab;
    *err = (struct error){ 0 };
    bool ok = trie && tokens && spell_tokens(trie, tokenizer, err);
    for (uint32_t id = 0; ok && id < vocab; id++) {
        size_t size;
        const uint8_t *bytes = token_trie_bytes(trie, (int32_t)id, &size);
        if (!size || size > TRIE_MOST_DEPTH)
            continue;
        tokens[count++] = (struct spelled){ head_of(bytes, size), bytes, (uint32_t)size, (int32_t)id };
        total += size;
    }
    if (ok) {
        qsort(tokens, count, sizeof *tokens, compare_spelled);
        trie->nodes = calloc(total + 1, sizeof *trie->nodes);
        trie->ids = calloc((size_t)count + 1, sizeof *trie->ids);
        ok = trie->nodes && trie->ids;
    }
    if (ok) {
        make_nodes(trie, tokens, count);
        struct trie_node *nodes = realloc(trie->nodes, ((size_t)trie->node_count + 1) * sizeof *nodes);
        trie->nodes = nodes ? nodes : trie->nodes;
    }
    free(tokens);
    if (ok)
        return trie;
    if (err->kind == ERROR_NONE)
        error_set(err, ERROR_FAILED, "cannot sort a vocabulary of %u tokens: out of memory", vocab);
    token_trie_free(trie);
    return NULL;
}

void token_trie_free(struct token_trie *trie) {
    if (!trie)
        return;
    free(trie->nodes);
    free(trie->ids);
    free(trie->offsets);
    free(trie->bytes);
    free(trie);
}

const uint8_t *token_trie_bytes(const struct token_trie *trie, int32_t id, size_t *size) {
    *size = 0;
    if (id < 0 || (uint32_t)id >= trie->vocab)
        return trie->bytes;
    *size = trie->offsets[id + 1] - trie->offsets[id];
    return trie->bytes + trie->offsets[id];
}
