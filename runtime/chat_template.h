/* chat_template: a conversation as the prompt that the model was trained on.
 *
 * The template that comes with the model is run, by the interpreter in jinja.h: what
 * it cannot run is refused by name, and time and memory are bounded. */
#ifndef RUNTIME_CHAT_TEMPLATE_H
#define RUNTIME_CHAT_TEMPLATE_H

#include "common/error.h"
#include "common/json.h"
#include "common/text.h"
#include "runtime/tokenizer.h"

#include <stddef.h>

struct chat_message {
    const char *role;      /* "system", "user", "assistant", ... */
    const char *content;
};

struct chat_context {
    const char *bos_token, *eos_token;   /* never NULL */
    bool add_generation_prompt;
    const json_t *named_tokens;          /* other special tokens by name; NULL: none. Borrowed */
};

/* Render with a template's source. `name` (the model's, or the --template file's)
 * is for the sentences. Appends to `prompt`; nothing on failure. A conversation
 * that the template itself refuses is ERROR_USAGE. */
bool chat_template_render(const char *source, const char *name,
                          const struct chat_message *messages, size_t count,
                          const struct chat_context *context, struct text *prompt,
                          struct error *err);

/* The same for an array of messages that keep whatever members they have (role, content,
 * tool_calls, ...). The object `variables` (may be NULL) adds to the template's variables
 * or replaces them: tools, documents, enable_thinking, ... */
bool chat_template_render_json(const char *source, const char *name, const json_t *messages,
                               const json_t *variables, const struct chat_context *context,
                               struct text *prompt, struct error *err);

/* The source of a built-in template: "phi3", "chatml", "llama2"; NULL where none
 * has that name. */
const char *chat_template_builtin(const char *name);

/* The source that --template names: of a built-in one, or the text of a file. The caller frees it;
 * the sentence of a failure says what the option takes. */
char *chat_template_read(const char *name, struct error *err);

/* Whether a source has anything for the interpreter to do. */
bool chat_template_has_tags(const char *source);

/* What a tokenizer has for templates, which are to open the assistant's turn. Borrowed from it. */
struct chat_context chat_context_of(const struct tokenizer *tokenizer);

#endif
