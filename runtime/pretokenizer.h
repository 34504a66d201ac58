/* pretokenizer: cuts a normalized text into the pieces that are encoded one by
 * one: the "pre_tokenizer" of a tokenizer.json. */
#ifndef RUNTIME_PRETOKENIZER_H
#define RUNTIME_PRETOKENIZER_H

#include "common/json.h"
#include "runtime/text_pattern.h"

struct pretokenizer;
struct pretokenizer_scratch;   /* one for each thread */

/* From its JSON, which may be null (one piece). `file` is for the sentences. */
struct pretokenizer *pretokenizer_new(const json_t *json, const char *file, struct error *err);
void pretokenizer_free(struct pretokenizer *pretokenizer);   /* NULL is fine */

struct pretokenizer_scratch *pretokenizer_scratch_new(struct pattern_scratch *patterns,  /* borrowed */
                                                      struct error *err);
void pretokenizer_scratch_free(struct pretokenizer_scratch *scratch);   /* NULL is fine */

/* Gets the pieces from left to right; never an empty one. */
typedef bool piece_visitor(void *context, const char *bytes, size_t size, struct error *err);

/* `at_start`: whether `bytes` begin the whole text. */
bool pretokenizer_run(const struct pretokenizer *pretokenizer, struct pretokenizer_scratch *scratch,
                      const char *bytes, size_t size, bool at_start, piece_visitor *visit,
                      void *context, struct error *err);

#endif
