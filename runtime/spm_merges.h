/* spm_merges: merges for SentencePiece vocabularies, which keep none: every split of
 * a piece into two pieces is one, ranked by the score of what it makes. */
#ifndef RUNTIME_SPM_MERGES_H
#define RUNTIME_SPM_MERGES_H

#include "runtime/tokenizer_bpe.h"

/* The score of a piece; false where no merge makes it (a byte's piece). */
typedef bool spm_score(const void *context, int32_t id, float *score);

/* From the vocabulary of `bpe`, which has no merges yet. `file` is for sentences. */
bool spm_make_merges(struct bpe *bpe, spm_score *score_of, const void *context, const char *file,
                     struct error *err);

/* The JSON of normalizer, pre-tokenizer and decoder; static. */
enum spm_prefix {
    SPM_NO_SPACE,        /* no space in front of a text */
    SPM_SPACE_EACH,      /* in front of each stretch of text between added tokens */
    SPM_SPACE_FIRST      /* in front of the text only */
};
const char *spm_stages(enum spm_prefix prefix);

#endif
