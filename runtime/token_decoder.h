/* token_decoder: pieces back to text, one at a time: the "decoder" of a
 * tokenizer.json.
 *
 * What decode_piece() writes never changes later: bytes that may still become
 * part of a character, or of a run of byte pieces that turns out to be no UTF-8,
 * wait. So decoding at once and decoding as tokens arrive give the same text. */
#ifndef RUNTIME_TOKEN_DECODER_H
#define RUNTIME_TOKEN_DECODER_H

#include "common/json.h"
#include "common/text.h"

struct token_decoder;

/* From its JSON; null puts a space between pieces. `file` is for the sentences. */
struct token_decoder *token_decoder_new(const json_t *json, const char *file, struct error *err);
void token_decoder_free(struct token_decoder *decoder);   /* NULL is fine */

/* One text that is being decoded. */
struct decode_state {
    const struct token_decoder *decoder;
    struct text waiting;       /* bytes that are not certain yet */
    struct text piece;         /* the piece, as the steps rewrite it */
    struct text spare;
    size_t valid;              /* how much of `waiting` is whole characters */
    size_t strip_left;         /* characters that may still be cut from the start */
    bool has_begun;            /* a piece came before */
    bool run_is_broken;        /* this run of byte pieces is no UTF-8 */
};

void decode_begin(struct decode_state *state, const struct token_decoder *decoder);
void decode_release(struct decode_state *state);
void decode_piece(struct decode_state *state, const char *piece, size_t size, struct text *out);
/* What is whole so far is text of its own: a run of byte pieces ends here. */
void decode_cut(struct decode_state *state, struct text *out);
/* Append the bytes that a piece stands for in the middle of a text; false where a text is not
 * its pieces' bytes one after the other. */
bool decode_bytes(const struct token_decoder *decoder, const char *piece, size_t size, struct text *out);
/* Whether the first character of the next piece may be dropped: nothing was decoded yet. */
bool decode_is_at_start(const struct decode_state *state);
void decode_end(struct decode_state *state, struct text *out);

#endif
