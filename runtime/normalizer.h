/* normalizer: what is done to a text before it is split: the "normalizer" of a
 * tokenizer.json. */
#ifndef RUNTIME_NORMALIZER_H
#define RUNTIME_NORMALIZER_H

#include "common/json.h"
#include "common/text.h"
#include "runtime/text_pattern.h"

struct normalizer;

/* From its JSON, which may be null (no change). `file` is for the sentences. */
struct normalizer *normalizer_new(const json_t *json, const char *file, struct error *err);
void normalizer_free(struct normalizer *normalizer);   /* NULL is fine */

bool normalizer_is_identity(const struct normalizer *normalizer);

/* Replace `out` by the normal form of valid UTF-8. */
bool normalizer_run(const struct normalizer *normalizer, struct pattern_scratch *scratch,
                    const char *bytes, size_t size, struct text *out, struct error *err);

#endif
