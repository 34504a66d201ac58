/* sampler: the next token from a row of logits, as transformers' processors do it,
 * in their order: the processors of logits_processors.h, then temperature, top_k, top_p,
 * min_p, typical_p, epsilon_cutoff, eta_cutoff. */
#ifndef RUNTIME_SAMPLER_H
#define RUNTIME_SAMPLER_H

#include "runtime/sampler_settings.h"

struct sampler;
/* What the settings point at is borrowed. */
struct sampler *sampler_new(const struct sampler_settings *settings, uint32_t vocab,
                            struct error *err);
void sampler_free(struct sampler *sampler);   /* NULL is fine */

/* The tokens that were there at first; then each one that was chosen. */
void sampler_prompt(struct sampler *sampler, const int32_t *ids, uint32_t count);
void sampler_accept(struct sampler *sampler, int32_t id);

/* Only tokens whose bit is set [vocab / 32, rounded up] can come, until the next call; NULL: all. Borrowed. */
void sampler_allow(struct sampler *sampler, const uint32_t *allowed);

const int32_t *sampler_history(const struct sampler *sampler, uint32_t *count);   /* all of them; borrowed */

/* Choose. `logits` [vocab] is left as it was. -1 where no token is left or a logit is NaN. */
int32_t sampler_choose(struct sampler *sampler, const float *logits);

/* For beams: the chain on scores of one's own [vocab] and a history of one's own, whose last
 * `new_count` tokens are new: what is dropped becomes -INFINITY. False where a score is NaN. */
bool sampler_filter(struct sampler *sampler, const int32_t *history, uint32_t count, uint32_t new_count,
                    float *scores);
double sampler_random(struct sampler *sampler);   /* uniform in [0, 1), from the seed */

/* For tests: the survivors in ascending id with their probabilities; returns how
 * many. ids and probabilities have room for vocab. */
uint32_t sampler_survivors(struct sampler *sampler, const float *logits, int32_t *ids,
                           float *probabilities);

#endif
