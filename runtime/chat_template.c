#include "runtime/chat_template.h"

#include "common/file_map.h"
#include "runtime/jinja.h"
#include "runtime/json_text.h"

#include <string.h>

#define SOURCE_LIMIT ((size_t)1 << 20)

/* The formats that are built in, written for this project. */
static const struct {
    const char *name, *source;
} builtins[] = {
    { "phi3",
      "{% for message in messages %}"
      "{% if message.role in ['system', 'user', 'assistant'] %}"
      "{{ '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' }}"
      "{% endif %}"
      "{% endfor %}"
      "{{ '<|assistant|>\\n' if add_generation_prompt else eos_token }}" },
    { "chatml",
      "{% for message in messages %}"
      "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
      "{% endfor %}"
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}" },
    { "llama2",
      "{% set system = '' %}{% set turns = messages %}"
      "{% if messages[0].role == 'system' %}"
      "{% set system = '<<SYS>>\\n' + messages[0].content + '\\n<</SYS>>\\n\\n' %}{% set turns = messages[1:] %}"
      "{% endif %}"
      "{% for message in turns %}"
      "{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
      "{{ raise_exception('user and assistant must take turns, the user first') }}"
      "{% elif message.role == 'user' %}"
      "{{ bos_token ~ '[INST] ' ~ ((system if loop.first else '') + message.content).strip() ~ ' [/INST]' }}"
      "{% elif message.role == 'assistant' %}"
      "{{ ' ' + message.content.strip() + ' ' ~ eos_token }}"
      "{% endif %}"
      "{% endfor %}" },
};

enum { BUILTINS = sizeof builtins / sizeof *builtins };

const char *chat_template_builtin(const char *name) {
    for (size_t i = 0; i < BUILTINS; i++)
        if (strcmp(name, builtins[i].name) == 0)
            return builtins[i].source;
    return NULL;
}

char *chat_template_read(const char *name, struct error *err) {
    const char *builtin = chat_template_builtin(name);
    char *source = builtin ? strdup(builtin) : file_read_all(name, SOURCE_LIMIT, NULL, err);
    if (builtin && !source) {
        error_set(err, ERROR_FAILED, "cannot keep the chat template: out of memory");
    } else if (!source) {
        struct text names;
        text_init(&names);
        for (size_t i = 0; i < BUILTINS; i++)
            text_append_format(&names, "%s%s", i ? ", " : "", builtins[i].name);
        error_prefix(err, "--template takes %s or a file", names.bytes);
        text_release(&names);
    }
    return source;
}

bool chat_template_has_tags(const char *source) {
    return strstr(source, "{{") || strstr(source, "{%");
}

struct chat_context chat_context_of(const struct tokenizer *tokenizer) {
    return (struct chat_context){ .bos_token = tokenizer_bos_text(tokenizer), .eos_token = tokenizer_eos_text(tokenizer),
                                  .named_tokens = tokenizer_named_texts(tokenizer), .add_generation_prompt = true };
}

/* False where memory is short. Takes over `value`, which may be NULL for the same reason. */
static bool set(json_t *object, const char *name, json_t *value) {
    return value && json_object_set_new(object, name, value) == 0;
}

/* A token that the model does not have stays undefined. */
static bool set_token(json_t *object, const char *name, const char *token) {
    return !*token || set(object, name, json_text(token, strlen(token)));
}

bool chat_template_render_json(const char *source, const char *name, const json_t *messages,
                               const json_t *variables, const struct chat_context *context,
                               struct text *prompt, struct error *err) {
    json_t *all = json_object();
    bool ok = all && (!context->named_tokens || json_object_update(all, (json_t *)context->named_tokens) == 0)
        && set_token(all, "bos_token", context->bos_token)
        && set_token(all, "eos_token", context->eos_token) && set(all, "tools", json_null())
        && set(all, "documents", json_null())
        && set(all, "add_generation_prompt", json_boolean(context->add_generation_prompt))
        && (!variables || json_object_update(all, (json_t *)variables) == 0)
        && json_object_set(all, "messages", (json_t *)messages) == 0;
    if (!ok)
        error_set(err, ERROR_FAILED, "cannot render the messages with the chat template of '%s': out of memory", name);
    ok = ok && jinja_render(source, strlen(source), name, all, prompt, err);
    json_decref(all);
    return ok;
}

bool chat_template_render(const char *source, const char *name,
                          const struct chat_message *messages, size_t count,
                          const struct chat_context *context, struct text *prompt,
                          struct error *err) {
    json_t *list = json_array();
    bool ok = list != NULL;
    for (size_t i = 0; i < count && ok; i++) {
        json_t *message = json_object();
        ok = message && set(message, "role", json_text(messages[i].role, strlen(messages[i].role)))
            && set(message, "content", json_text(messages[i].content, strlen(messages[i].content)))
            && json_array_append(list, message) == 0;
        json_decref(message);
    }
    if (!ok)
        error_set(err, ERROR_FAILED, "cannot render the messages with the chat template of '%s': out of memory", name);
    ok = ok && chat_template_render_json(source, name, list, NULL, context, prompt, err);
    json_decref(list);
    return ok;
}
