/* generation_settings: how to choose tokens and where to stop, from three places.
 *
 * What was typed wins; then the model's generation_config.json; then the defaults of
 * transformers (greedy, and top_k 50 once sampling is on). All three have one form: a JSON
 * object with the keys of transformers' generate(). */
#ifndef RUNTIME_GENERATION_SETTINGS_H
#define RUNTIME_GENERATION_SETTINGS_H

#include "common/model.h"
#include "runtime/run_options.h"
#include "runtime/sampler_settings.h"
#include "runtime/tokenizer.h"

#define GENERATION_MOST_SEQUENCES 256u   /* beams, or sequences of one prompt */

/* When a beam search may end before its length: with num_beams continuations ended (true),
 * once no better one is likely (false), or possible ("never"). */
enum early_stopping { EARLY_STOPPING_FALSE, EARLY_STOPPING_TRUE, EARLY_STOPPING_NEVER };

/* Token sequences that are made likelier or banned; owned. */
struct token_rules {
    struct token_rule *rules;     /* [count]; their ids are owned, too */
    uint32_t count;
};

struct generation_settings {
    struct sampler_settings sampling;   /* numbers only: the lists are below */
    struct token_rules biases, bans;
    int32_t eos_ids[2 * MODEL_MAX_EOS];
    uint32_t eos_count;
    uint32_t new_tokens;          /* UINT32_MAX: until eos or the context is full */
    uint32_t max_length, min_length;    /* the prompt included; 0: not given */
    float max_time;               /* seconds; 0: no limit */
    char **stop_strings;          /* owned [stop_count] */
    uint32_t stop_count;
    bool keep_stop;               /* the text keeps the string that stopped it */
    uint32_t num_beams;           /* 1: no beam search */
    uint32_t num_return_sequences;
    enum early_stopping early_stopping;
    float length_penalty;
    bool speculate;               /* draft tokens from repetitions in the text */
    char *grammar;                /* owned; GBNF that the text follows; NULL: none */
    bool is_schema;               /* it was made from a JSON schema */
};

/* `tokenizer` may be NULL. Release after a failure, too. */
bool generation_settings_make(struct generation_settings *settings, const struct model *model,
                              const struct tokenizer *tokenizer, const struct run_options *options,
                              struct error *err);
void generation_settings_release(struct generation_settings *settings);

/* Apply one more JSON object over what is there, as if its keys had been typed: generate()'s
 * names, and greedy, seed, stop, keep_stop, bad_words, logit_bias, speculate, grammar (GBNF),
 * json_schema. Other keys are left to the caller. `what` names the object in sentences. */
bool generation_settings_read(struct generation_settings *settings, const json_t *object,
                              const struct tokenizer *tokenizer, const char *what, struct error *err);

/* Whether generation_settings_read() knows a key. */
bool generation_settings_knows(const char *key);

bool generation_settings_is_end(const struct generation_settings *settings, int64_t id);   /* of eos_ids */

/* How many sequences the engine needs at a time: beams run beside the prompt. */
uint32_t generation_settings_sequences(const struct generation_settings *settings);

/* "greedy" or "temperature 0.7, top-k 50, seed 3", whatever else is not neutral, and the end
 * tokens: for -v and the run's row. */
void generation_settings_text(const struct generation_settings *settings, char *text, size_t size);

#endif
