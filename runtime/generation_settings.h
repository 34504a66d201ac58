/* generation_settings: how to sample and where to stop, from three places.
 *
 * What was typed wins; then the model's generation_config.json; then the
 * defaults of transformers (greedy, and top_k 50 once sampling is on). */
#ifndef RUNTIME_GENERATION_SETTINGS_H
#define RUNTIME_GENERATION_SETTINGS_H

#include "common/model.h"
#include "runtime/run_options.h"
#include "runtime/tokenizer.h"

struct generation_settings {
    struct sampler_settings sampling;
    int32_t eos_ids[2 * MODEL_MAX_EOS];
    uint32_t eos_count;
    uint32_t new_tokens;          /* UINT32_MAX: until eos or the context is full */
};

/* `tokenizer` may be NULL. */
bool generation_settings_make(struct generation_settings *settings, const struct model *model,
                              const struct tokenizer *tokenizer, const struct run_options *options,
                              struct error *err);

/* "greedy" or "temperature 0.7, top-k 50, seed 3", and the end tokens: for -v and
 * the run's row. */
void generation_settings_text(const struct generation_settings *settings, char *text, size_t size);

#endif
