/* beam_search: transformers' beam search, and its sampling from beams.
 *
 * In each step every running beam's log-softmax goes through the processors (and, where
 * tokens are sampled, the rest of the chain), and the K = max(2, 1 + end tokens) * B best
 * continuations of all B beams are looked at, by the sum of log-probabilities. Those that
 * end are kept where they are among the best B of the K, under the score
 * sum / length^length_penalty; the best B that do not end run on. It stops when no running
 * beam can better the worst of B that ended; early_stopping says how that is judged.
 *
 * Under a grammar a beam ends, too, where nothing more is allowed.
 *
 * The beams' sessions share the pages of what they have in common. */
#ifndef RUNTIME_BEAM_SEARCH_H
#define RUNTIME_BEAM_SEARCH_H

#include "runtime/generate.h"
#include "runtime/sampler.h"

/* The request's session has run the prompt, `logits` [vocab] are those after it; `most` new
 * tokens at most. `constraint` may be NULL; see constraint_allowed(). Fills result->sequences but their texts. */
bool beam_search(const struct generate_request *request, struct sampler *sampler, struct constraint *constraint,
                 bool drops_space, const float *logits, uint32_t most, double started, struct generation *result,
                 struct error *err);

#endif
