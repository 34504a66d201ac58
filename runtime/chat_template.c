#include "runtime/chat_template.h"

#include "runtime/template_run.h"

#include <string.h>

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

const char *chat_template_builtin(const char *name) {
    for (size_t i = 0; i < sizeof builtins / sizeof *builtins; i++)
        if (strcmp(name, builtins[i].name) == 0)
            return builtins[i].source;
    return NULL;
}

static bool set(struct template_run *run, const char *name, struct value value) {
    return variable_set(&run->variables, 0, name, strlen(name), &value, run->err);
}

/* An empty token is one that the model does not have. */
static struct value token_value(const char *text) {
    return *text ? value_string(text, strlen(text)) : (struct value){ .kind = VALUE_UNDEFINED };
}

static bool set_variables(struct template_run *run, const struct chat_message *messages, size_t count,
                          const struct chat_context *context) {
    struct value *items = arena_take(run->arena, count * sizeof *items, run->err);
    if (!items)
        return false;
    for (size_t i = 0; i < count; i++)
        items[i] = (struct value){ .kind = VALUE_MESSAGE, .message = &messages[i] };
    return set(run, "messages", (struct value){ .kind = VALUE_LIST, .number = (int64_t)count, .items = items })
        && set(run, "bos_token", token_value(context->bos_token))
        && set(run, "eos_token", token_value(context->eos_token))
        && set(run, "add_generation_prompt", value_bool(context->add_generation_prompt))
        && set(run, "tools", (struct value){ .kind = VALUE_NONE })
        && set(run, "documents", (struct value){ .kind = VALUE_NONE });
}

bool chat_template_render(const char *source, const char *name,
                          const struct chat_message *messages, size_t count,
                          const struct chat_context *context, struct text *prompt,
                          struct error *err) {
    struct arena arena = { 0 };
    struct error problem = { 0 };
    struct text out;
    text_init(&out);
    struct template_run run = { .live = true, .arena = &arena, .out = &out, .err = &problem };
    size_t token_count;
    bool ok = count <= SIZE_MAX / sizeof(struct value) || error_set(&problem, ERROR_USAGE, "too many messages");
    if (ok)
        run.tokens = template_tokens(source, &arena, &token_count, &problem);
    ok = run.tokens && set_variables(&run, messages, count, context) && template_run_all(&run);
    if (ok) {   /* nothing is appended on failure */
        text_append_bytes(prompt, out.bytes, out.length);
        ok = !prompt->failed || error_set(&problem, ERROR_FAILED, "the prompt is too long or memory is short");
    }
    if (!ok && problem.kind == ERROR_USAGE)
        error_set(err, problem.kind, "'%s': %s", name, problem.text);
    else if (!ok)
        error_set(err, problem.kind, "'%s': %s; choose a built-in one: --template phi3, chatml or llama2", name,
                  problem.text);
    text_release(&out);
    arena_release(&arena);
    return ok;
}
