/* sampler: the next token from a row of logits, as transformers' processors do it,
 * in their order: repetition_penalty, temperature, top_k, top_p, min_p. */
#ifndef RUNTIME_SAMPLER_H
#define RUNTIME_SAMPLER_H

#include "common/error.h"

#include <stdbool.h>
#include <stdint.h>

struct sampler_settings {
    bool greedy;                  /* the arg max after the penalties */
    float temperature;            /* neutral: 1; 0 means greedy */
    uint32_t top_k;               /* neutral: 0; ties with the k-th are all kept */
    float top_p;                  /* neutral: 1 */
    float min_p;                  /* neutral: 0 */
    float repetition_penalty;     /* neutral: 1; each distinct id once, the prompt's too */
    uint64_t seed;
};

struct sampler_settings sampler_defaults(void);   /* greedy, everything neutral, seed 0 */
bool sampler_check(const struct sampler_settings *settings, struct error *err);

struct sampler;
struct sampler *sampler_new(const struct sampler_settings *settings, uint32_t vocab,
                            struct error *err);
void sampler_free(struct sampler *sampler);   /* NULL is fine */

/* A token that was seen (prompt or output). */
void sampler_accept(struct sampler *sampler, int32_t id);

/* Choose. `logits` [vocab] is left as it was. -1 where no token is left or a logit is NaN. */
int32_t sampler_choose(struct sampler *sampler, const float *logits);

/* For tests: the survivors in ascending id with their probabilities; returns how
 * many. ids and probabilities have room for vocab. */
uint32_t sampler_survivors(struct sampler *sampler, const float *logits, int32_t *ids,
                           float *probabilities);

#endif
