/* sampler_settings: everything that changes a row of logits before a token is chosen,
 * with the names and meanings of transformers' generate(). */
#ifndef RUNTIME_SAMPLER_SETTINGS_H
#define RUNTIME_SAMPLER_SETTINGS_H

#include "common/error.h"
#include "common/json.h"

#include <stdbool.h>
#include <stdint.h>

/* Where the last tokens are ids[0 .. count - 2], `bias` is added to the score of
 * ids[count - 1]; -INFINITY bans it. count is at least 1. */
struct token_rule {
    const int32_t *ids;           /* borrowed */
    uint32_t count;
    float bias;
};

struct sampler_settings {
    /* processors: act on greedy decoding and on beams, too */
    const struct token_rule *biases;   /* borrowed [bias_count] */
    uint32_t bias_count;
    float repetition_penalty;     /* neutral: 1; each distinct id once, the prompt's too */
    uint32_t no_repeat_ngram;     /* neutral: 0; no n tokens in a row twice, the prompt's too */
    const struct token_rule *bans;     /* borrowed [ban_count]; their bias is -INFINITY */
    uint32_t ban_count;
    uint32_t min_new_tokens;      /* neutral: 0; until then no end token */
    const int32_t *eos_ids;       /* borrowed [eos_count]; for min_new_tokens */
    uint32_t eos_count;

    /* the rest only where tokens are sampled */
    bool greedy;                  /* the arg max after the processors */
    float temperature;            /* neutral: 1; 0 means greedy */
    uint32_t top_k;               /* neutral: 0; ties with the k-th are all kept */
    float top_p;                  /* neutral: 1 */
    float min_p;                  /* neutral: 0 */
    float typical_p;              /* neutral: 1 */
    float epsilon_cutoff;         /* neutral: 0 */
    float eta_cutoff;             /* neutral: 0 */
    uint32_t keep_least;          /* none of these leaves fewer; 0 means 1 */
    uint64_t seed;
};

/* The keys that ask for sampling. */
enum { SAMPLING_KEYS = 8 };
extern const char *const sampling_keys[SAMPLING_KEYS];

struct sampler_settings sampler_defaults(void);   /* greedy, everything neutral, seed 0 */
bool sampler_check(const struct sampler_settings *settings, struct error *err);

/* The keys that are there, under generate()'s names; checks the result. */
bool sampler_settings_read(struct sampler_settings *settings, const json_t *object, const char *what,
                           struct error *err);

#endif
