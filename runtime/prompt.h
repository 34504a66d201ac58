/* prompt: from what the user typed to token ids. */
#ifndef RUNTIME_PROMPT_H
#define RUNTIME_PROMPT_H

#include "common/text.h"
#include "runtime/run_options.h"
#include "runtime/tokenizer.h"

struct prompt {
    struct text text;      /* as the model sees it; "" with --ids */
    int32_t *ids;
    uint32_t count;        /* at least 1 */
};

/* `tokenizer` may be NULL with --ids only. Release after a failure too. Reads
 * standard input where nothing was given. */
bool prompt_make(struct prompt *prompt, const struct run_options *options,
                 const struct tokenizer *tokenizer, const char *model_name, uint32_t vocab,
                 struct error *err);
void prompt_release(struct prompt *prompt);

/* Everything of a file, "-" for standard input; appends to `text`. */
bool prompt_read_file(const char *path, struct text *text, struct error *err);

#endif
