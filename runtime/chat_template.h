/* chat_template: a conversation as the prompt that the model was trained on. */
#ifndef RUNTIME_CHAT_TEMPLATE_H
#define RUNTIME_CHAT_TEMPLATE_H

#include "common/error.h"
#include "common/text.h"

#include <stddef.h>

struct chat_message {
    const char *role;      /* "system", "user", "assistant", ... */
    const char *content;
};

struct chat_context {
    const char *bos_token, *eos_token;   /* never NULL */
    bool add_generation_prompt;
};

/* Render with a template's source, recognised by what it contains. `name` (the
 * model's, or the --template file's) is for the sentence where it is not one
 * that we know. Appends to `prompt`. */
bool chat_template_render(const char *source, const char *name,
                          const struct chat_message *messages, size_t count,
                          const struct chat_context *context, struct text *prompt,
                          struct error *err);

/* The source of a built-in template: "phi3", "chatml", "llama2"; NULL where none
 * has that name. */
const char *chat_template_builtin(const char *name);

#endif
