/* answer: the text of new tokens, up to a stop string. */
#ifndef RUNTIME_ANSWER_H
#define RUNTIME_ANSWER_H

#include "runtime/generation_settings.h"
#include "runtime/stop_strings.h"
#include "runtime/tokenizer.h"

struct answer {
    struct token_stream *stream;   /* NULL: no tokenizer, no text */
    struct stop_matcher matcher;
    struct text text;              /* what is certain so far */
};

/* What `settings` points at and the tokenizer (may be NULL) are borrowed. Release after a
 * failure, too. */
bool answer_begin(struct answer *answer, const struct tokenizer *tokenizer,
                  const struct generation_settings *settings, const int32_t *prompt, uint32_t count,
                  struct error *err);
void answer_release(struct answer *answer);

/* Any token but an end token. Sets *stopped where a stop string is complete. */
bool answer_token(struct answer *answer, int32_t id, bool *stopped, struct error *err);
bool answer_end(struct answer *answer, bool *stopped, struct error *err);   /* no more tokens */

#endif
