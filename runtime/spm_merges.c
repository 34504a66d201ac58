#include "runtime/spm_merges.h"

#include <math.h>
#include <stdlib.h>

/* Pieces of SentencePiece vocabularies have at most 16 characters by default; the
 * limit keeps the search for their halves linear in the size of the file. */
enum { SPM_PIECE_LIMIT = 256 };

/* A way to make a piece from two others. */
struct spm_merge {
    float score;              /* of the piece: higher goes first */
    int32_t id, left, right;  /* and of equals, the smaller ids */
};

struct spm_merges {
    struct spm_merge *list;
    uint32_t count, capacity;
};

static int compare_merges(const void *left, const void *right) {
    const struct spm_merge *a = left, *b = right;
    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    if (a->id != b->id)
        return a->id < b->id ? -1 : 1;
    if (a->left != b->left)
        return a->left < b->left ? -1 : 1;
    return (a->right > b->right) - (a->right < b->right);
}

static bool add_halves(struct spm_merges *merges, const struct piece_table *vocabulary, float score, int32_t id,
                       const char *piece, size_t length) {
    for (size_t cut = 1; cut < length; cut++) {
        if (((unsigned char)piece[cut] & 0xc0) == 0x80)
            continue;
        int32_t left = piece_table_find(vocabulary, piece, cut);
        int32_t right = left < 0 ? -1 : piece_table_find(vocabulary, piece + cut, length - cut);
        if (right < 0)
            continue;
        if (merges->count == merges->capacity) {
            uint32_t capacity = merges->capacity ? merges->capacity * 2 : 4096;
            struct spm_merge *list = realloc(merges->list, capacity * sizeof *list);
            if (!list)
                return false;
            merges->list = list;
            merges->capacity = capacity;
        }
        merges->list[merges->count++] = (struct spm_merge){ score, id, left, right };
    }
    return true;
}

bool spm_make_merges(struct bpe *bpe, spm_score *score_of, const void *context, const char *file,
                     struct error *err) {
    struct spm_merges merges = { 0 };
    bool ok = true, has_memory = true;
    for (uint32_t id = 0; ok && has_memory && id < bpe->vocabulary.id_end; id++) {
        size_t length;
        float score = 0;
        const char *piece = piece_table_piece(&bpe->vocabulary, (int32_t)id, &length);
        if (!piece || !score_of(context, (int32_t)id, &score))
            continue;
        if (isnan(score))
            ok = error_set(err, ERROR_FAILED, "a score that is not a number in '%s'", file);
        else if (length > SPM_PIECE_LIMIT)
            ok = error_set(err, ERROR_FAILED, "token %u in '%s' has %zu bytes; at most %d are supported", id, file,
                           length, SPM_PIECE_LIMIT);
        else
            has_memory = add_halves(&merges, &bpe->vocabulary, score, (int32_t)id, piece, length);
    }
    if (ok && merges.count)
        qsort(merges.list, merges.count, sizeof *merges.list, compare_merges);
    has_memory = has_memory && (!ok || bpe_reserve_merges(bpe, merges.count));
    for (uint32_t rank = 0; ok && has_memory && rank < merges.count; rank++)
        bpe_add_merge(bpe, merges.list[rank].left, merges.list[rank].right, rank, merges.list[rank].id);
    free(merges.list);
    return ok && (has_memory || error_set(err, ERROR_FAILED, "no memory for the merges in '%s'", file));
}

#define WHITE "\xe2\x96\x81"   /* U+2581, SentencePiece's space */
#define TO_WHITE "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" WHITE "\"}"
#define FROM_WHITE "{\"type\":\"Replace\",\"pattern\":{\"String\":\"" WHITE "\"},\"content\":\" \"}"
#define BYTE_RUNS FROM_WHITE ",{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}"
#define DECODER "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[" BYTE_RUNS "]}"
#define STRIPPING_DECODER "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[" BYTE_RUNS "," \
    "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}"

const char *spm_stages(enum spm_prefix prefix) {
    static const char *const stages[] = {
        [SPM_NO_SPACE] = "{\"normalizer\":" TO_WHITE "," DECODER "}",
        [SPM_SPACE_EACH] = "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":["
            "{\"type\":\"Prepend\",\"prepend\":\"" WHITE "\"}," TO_WHITE "]}," STRIPPING_DECODER "}",
        [SPM_SPACE_FIRST] = "{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"" WHITE "\","
            "\"prepend_scheme\":\"first\",\"split\":false}," STRIPPING_DECODER "}",
    };
    return stages[prefix];
}
