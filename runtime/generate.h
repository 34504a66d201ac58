/* generate: one continuation of a prompt, token by token. */
#ifndef RUNTIME_GENERATE_H
#define RUNTIME_GENERATE_H

#include "runtime/generation_settings.h"
#include "runtime/session.h"

enum finish_reason { FINISH_EOS, FINISH_LENGTH, FINISH_INTERRUPTED };
const char *finish_reason_name(enum finish_reason reason);   /* "eos", "length", "interrupted" */

struct generation {
    int32_t *ids;             /* the new tokens, the end token included; owned, free() */
    uint32_t count;
    enum finish_reason finish;
    double first_token_at;    /* seconds_now() when it was known; 0: there was none */
    double prefill_s, decode_s;
};

/* Called with each new token, the end token too. False with `err` stops with that error. */
typedef bool generate_token(void *context, int32_t id, bool is_end, struct error *err);

/* Continue `prompt`; what the session has in common with it is not run again. A signal ends it with FINISH_INTERRUPTED
 * and true: what was generated stays. A prompt that does not fit: ERROR_USAGE. */
bool generate(struct session *session, struct engine *engine,
              const struct generation_settings *settings, const int32_t *prompt, uint32_t count,
              generate_token *on_token, void *context, struct generation *result,
              struct error *err);

#endif
