/* logits_processors: the part of generate()'s chain that looks at the tokens so far, in
 * transformers' order: biases, repetition_penalty, no_repeat_ngram, bans, min_new_tokens. */
#ifndef RUNTIME_LOGITS_PROCESSORS_H
#define RUNTIME_LOGITS_PROCESSORS_H

#include "runtime/sampler_settings.h"

struct logits_processors;

/* What the settings point at is borrowed. NULL where memory runs out. */
struct logits_processors *logits_processors_new(const struct sampler_settings *settings, uint32_t vocab);
void logits_processors_free(struct logits_processors *processors);   /* NULL is fine */

/* Change `scores` [vocab] in place. `history` is the prompt and what came after it, of which
 * the last `new_count` tokens are new; ids that cannot be are ignored. */
void logits_process(struct logits_processors *processors, const int32_t *history, uint32_t count,
                    uint32_t new_count, float *scores);

#endif
