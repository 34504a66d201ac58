#include "runtime/tokenizer.h"

#include "runtime/tokenizer_parts.h"

#include <stdlib.h>

/* Decode one id into `out`; padding rows of the vocabulary are nothing. */
static bool feed(const struct tokenizer *tokenizer, struct decode_state *state, int32_t id, bool skip_special,
                 struct text *out, struct error *err) {
    if (id < 0 || (uint32_t)id >= tokenizer->ids.end)
        return error_set(err, ERROR_USAGE, "token id %d is out of range; the vocabulary has %u", id,
                         tokenizer->ids.end);
    size_t length;
    const char *piece = tokenizer_spelling(tokenizer, id, &length);
    if (piece && !(skip_special && tokenizer_is_special(tokenizer, id)))
        decode_piece(state, piece, length, out);
    return true;
}

static bool check(const struct decode_state *state, const struct text *out, struct error *err) {
    return !(out->failed || state->waiting.failed || state->piece.failed || state->spare.failed)
        || error_set(err, ERROR_FAILED, "cannot decode: out of memory");
}

bool tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, uint32_t count,
                      bool skip_special, struct text *text, struct error *err) {
    struct decode_state state;
    decode_begin(&state, tokenizer->decoder);
    bool ok = true;
    for (uint32_t i = 0; ok && i < count; i++)
        ok = feed(tokenizer, &state, ids[i], skip_special, text, err);
    if (ok)
        decode_end(&state, text);
    ok = ok && check(&state, text, err);
    decode_release(&state);
    return ok;
}

struct token_stream {
    const struct tokenizer *tokenizer;   /* borrowed */
    struct decode_state state;
};

struct token_stream *token_stream_new(const struct tokenizer *tokenizer, const int32_t *prompt,
                                      uint32_t prompt_count) {
    struct token_stream *stream = calloc(1, sizeof *stream);
    if (!stream)
        return NULL;
    stream->tokenizer = tokenizer;
    decode_begin(&stream->state, tokenizer->decoder);
    /* The prompt sets the state as if it had been decoded; its text is not wanted,
     * nor are ids that cannot be decoded. */
    struct text discarded;
    text_init(&discarded);
    for (uint32_t i = 0; i < prompt_count; i++) {
        feed(tokenizer, &stream->state, prompt[i], true, &discarded, NULL);
        text_clear(&discarded);
    }
    decode_cut(&stream->state, &discarded);
    text_release(&discarded);
    return stream;
}

void token_stream_free(struct token_stream *stream) {
    if (!stream)
        return;
    decode_release(&stream->state);
    free(stream);
}

bool token_stream_feed(struct token_stream *stream, int32_t id, struct text *out, struct error *err) {
    return feed(stream->tokenizer, &stream->state, id, true, out, err)
        && check(&stream->state, out, err);
}

bool token_stream_end(struct token_stream *stream, struct text *out, struct error *err) {
    decode_end(&stream->state, out);
    return check(&stream->state, out, err);
}

bool token_stream_at_start(const struct token_stream *stream) {
    return decode_is_at_start(&stream->state);
}

bool tokenizer_token_bytes(const struct tokenizer *tokenizer, int32_t id, struct text *out) {
    size_t length;
    const char *piece = id < 0 || tokenizer_is_special(tokenizer, id) ? NULL
                                                                      : tokenizer_spelling(tokenizer, id, &length);
    return !piece || decode_bytes(tokenizer->decoder, piece, length, out);
}
