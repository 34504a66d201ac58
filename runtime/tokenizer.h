/* tokenizer: text to token ids and back, equal to the Hugging Face tokenizer's.
 *
 * From tokenizer.json (BPE, byte-level or SentencePiece-style with byte fallback,
 * and its normalizers, pre-tokenizers, post-processor and decoders), from a
 * SentencePiece tokenizer.model where there is none, or from a GGUF's metadata. A Phi-3 GGUF does not record that its added tokens swallow
 * the white space after them; that is restored here. */
#ifndef RUNTIME_TOKENIZER_H
#define RUNTIME_TOKENIZER_H

#include "common/error.h"
#include "common/json.h"
#include "common/model_source.h"
#include "common/text.h"

#include <stddef.h>
#include <stdint.h>

struct tokenizer;

struct tokenizer *tokenizer_open(const struct model_source *source, struct error *err);
void tokenizer_close(struct tokenizer *tokenizer);   /* NULL is fine */

enum tokenizer_flags {
    TOKENIZE_DEFAULT = 0,
    TOKENIZE_ADD_SPECIAL = 1,      /* add BOS and the like, as the tokenizer's own configuration says */
    TOKENIZE_SPLIT_SPECIAL = 2     /* special tokens in the text are ordinary text */
};

/* Any bytes; invalid UTF-8 counts as U+FFFD, one for each maximal invalid subpart.
 * *ids: the caller frees it. */
bool tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t size,
                      unsigned flags, int32_t **ids, uint32_t *count, struct error *err);

/* Appends to `text`. Ids out of range are errors; the padding rows of the model's
 * vocabulary (up to vocab_size of its config.json) decode to nothing. */
bool tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, uint32_t count,
                      bool skip_special, struct text *text, struct error *err);

/* Incremental decoding: feed one id at a time; what is certain comes out, never
 * half a UTF-8 character, and all of it together is what tokenizer_decode() gives.
 * A run of byte pieces (<0x0A> of SentencePiece vocabularies) is certain only when
 * it ends, because one bad byte makes the whole run U+FFFD. `prompt` ids give the
 * context (the first new token keeps its leading space). Special tokens are left out. */
struct token_stream;
struct token_stream *token_stream_new(const struct tokenizer *tokenizer, const int32_t *prompt,
                                      uint32_t prompt_count);
void token_stream_free(struct token_stream *stream);
bool token_stream_feed(struct token_stream *stream, int32_t id, struct text *out, struct error *err);
bool token_stream_end(struct token_stream *stream, struct text *out, struct error *err);  /* flush the rest */

/* Whether the stream is at a place where tokenizers drop a space. */
bool token_stream_at_start(const struct token_stream *stream);

/* Append the bytes that a token adds to a text that has begun: nothing for special tokens and
 * unknown ids. False where the tokenizer does not simply join its tokens' bytes. */
bool tokenizer_token_bytes(const struct tokenizer *tokenizer, int32_t id, struct text *out);

uint32_t tokenizer_size(const struct tokenizer *tokenizer);   /* largest id + 1 */
int32_t tokenizer_id(const struct tokenizer *tokenizer, const char *piece);   /* exact piece; -1: none */
/* The piece as the vocabulary spells it; NULL where the id is unknown. Borrowed. */
const char *tokenizer_piece(const struct tokenizer *tokenizer, int32_t id);
bool tokenizer_is_special(const struct tokenizer *tokenizer, int32_t id);

/* End-of-text ids that the tokenizer itself knows (eos_token, and the end-of-turn
 * tokens of the known chat formats: <|end|>, <|im_end|>, <|eot_id|>). */
uint32_t tokenizer_eos_ids(const struct tokenizer *tokenizer, int32_t *ids, uint32_t capacity);
int32_t tokenizer_bos_id(const struct tokenizer *tokenizer);  /* -1: none */
const char *tokenizer_bos_text(const struct tokenizer *tokenizer);   /* "" where none; borrowed */
const char *tokenizer_eos_text(const struct tokenizer *tokenizer);
/* The spellings of the other special tokens that the model names ("pad_token", "unk_token", ...),
 * as an object; NULL: none. Borrowed. */
const json_t *tokenizer_named_texts(const struct tokenizer *tokenizer);

/* The chat template's source (tokenizer_config.json, chat_template.jinja, GGUF);
 * NULL where the model has none. Borrowed. */
const char *tokenizer_chat_template(const struct tokenizer *tokenizer);

#endif
