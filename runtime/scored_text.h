/* scored_text: a text run through a model in windows, with the logits of each counted position.
 *
 * As llama.cpp counts perplexity: the text is cut into windows, each is run on its own, and
 * the positions of its second half count, which have seen at least half a window. */
#ifndef RUNTIME_SCORED_TEXT_H
#define RUNTIME_SCORED_TEXT_H

#include "runtime/loaded_model.h"
#include "runtime/prompt.h"

struct scored_text {
    const int32_t *ids;       /* borrowed */
    uint32_t count;
    uint32_t window;          /* at least 2; at most the plan's context */
    bool whole;               /* the first half counts, too */
    int32_t bos;              /* replaces the first token of every window; -1: none */
};

/* Called for every counted position with its logits [vocab], which may be changed, and the
 * token that came next. False with `err` stops. */
typedef bool scored_row(void *context, float *logits, int32_t next, struct error *err);

/* Without a whole window in the text, all of it is one. Shows progress on a terminal. */
bool scored_text_run(const struct scored_text *text, const struct loaded_model *loaded, enum rope_policy policy,
                     scored_row *on_row, void *context, struct error *err);

/* Logits to log-probabilities, in place. */
void log_probabilities(float *logits, uint32_t vocab);

bool scored_text_read(struct scored_text *text, struct prompt *prompt, const struct loaded_model *loaded,
                      const struct run_options *options, struct error *err);

#endif
