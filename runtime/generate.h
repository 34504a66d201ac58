/* generate: from the ids of a prompt to one or several continuations, as transformers'
 * generate() makes them: greedy, sampled or by beam search. */
#ifndef RUNTIME_GENERATE_H
#define RUNTIME_GENERATE_H

#include "common/text.h"
#include "runtime/constraint.h"
#include "runtime/generation_settings.h"
#include "runtime/session.h"

enum finish_reason { FINISH_EOS, FINISH_LENGTH, FINISH_STOP, FINISH_TIME, FINISH_INTERRUPTED };
const char *finish_reason_name(enum finish_reason reason);   /* "eos", "length", "stop", ... */

struct generated {
    int32_t *ids;             /* [count] the new tokens, the end token included; owned */
    uint32_t count;
    struct text text;         /* without the end token and what a stop string cuts off */
    enum finish_reason finish;    /* FINISH_EOS also where the grammar allows nothing more */
    bool is_cut;              /* the grammar wanted more: the text is not whole */
    bool has_score;           /* of a beam search */
    float score;
};

struct generation {
    struct generated *sequences;   /* [sequence_count]; of beams: best first; owned */
    uint32_t sequence_count;
    uint32_t token_count;     /* new tokens of all of them */
    uint32_t reused;          /* tokens of the prompt that the session had already */
    uint32_t guessed, accepted;    /* by speculation */
    double first_token_at;    /* seconds_now() when it was known; 0: there was none */
    double prefill_s, decode_s;
    double grammar_s;         /* of decode_s; to find out what the grammar allows */
};

/* Called while one sequence is generated (not with several: their texts come with the
 * result). False with `err` stops with that error. */
typedef bool generate_token(void *context, int32_t id, struct error *err);   /* the end token, too */
typedef bool generate_text(void *context, const char *bytes, size_t length, struct error *err);

struct generate_request {
    struct session *session;  /* may hold anything: what it has in common with the prompt is not run again */
    struct engine *engine;    /* the session's; several sequences use its sequences from 1 on: it has to be
                               * opened for generation_settings_sequences() */
    const struct tokenizer *tokenizer;   /* NULL: ids only */
    const struct generation_settings *settings;
    struct constraint_store *constraints;   /* of the settings' grammar, for several calls; may be NULL */
    const int32_t *prompt;
    uint32_t count;           /* at least 1 */
    void (*on_prompt)(void *context);   /* may be NULL; the session has the prompt, nothing is chosen yet */
    generate_token *on_token; /* may be NULL */
    generate_text *on_text;   /* may be NULL; what is certain, never half a character */
    void *context;
};

/* A signal ends it with FINISH_INTERRUPTED and true: what was generated stays. A prompt that
 * does not fit: ERROR_USAGE. Afterwards the session holds the prompt and all new tokens but
 * the last (after beams: the prompt at most). Release the result after a failure, too. */
bool generate(const struct generate_request *request, struct generation *result, struct error *err);

/* The same in steps, for who decodes several requests as one batch. One sequence, no beams, no
 * grammar, no guesses; the callbacks are not called. The request and what it points to stay
 * until the end. */
struct generation_task;
bool generation_can_step(const struct generation_settings *settings);
/* Runs the prompt. NULL on failure; release the result all the same. */
struct generation_task *generation_task_new(const struct generate_request *request, struct generation *result,
                                            struct error *err);
/* Choose from `logits` [vocab], NULL the first time: *id is to be run in the request's session,
 * and its logits brought back, unless it *is_done. */
bool generation_task_choose(struct generation_task *task, const float *logits, int32_t *id, bool *is_done,
                            struct error *err);
/* What is held back into the result; frees the task, after a failure too. */
bool generation_task_end(struct generation_task *task, struct error *err);
void generation_task_free(struct generation_task *task);   /* half-way; NULL is fine */
void generation_release(struct generation *result);

#endif
