#include "runtime/prompt.h"

#include "common/interruption.h"
#include "runtime/chat_template.h"
#include "runtime/option_values.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool prompt_read_file(const char *path, struct text *text, struct error *err) {
    bool is_stdin = strcmp(path, "-") == 0;
    int file = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return error_set(err, ERROR_FAILED, "cannot read '%s': %s", path, strerror(errno));
    if (is_stdin && isatty(STDIN_FILENO) && isatty(STDERR_FILENO))
        fprintf(stderr, "phirun: reading from standard input; end it with Ctrl-D\n");
    char block[65536];
    ssize_t count = 0;
    while (!text->failed && ((count = interruptible_read(file, block, sizeof block, &interrupted_by)) > 0 ||
                             (count < 0 && errno == EINTR && !interrupted_by)))
        if (count > 0)
            text_append_bytes(text, block, (size_t)count);
    int cause = errno;
    if (!is_stdin)
        close(file);
    if (count < 0)
        return error_set(err, interrupted_by ? ERROR_INTERRUPTED : ERROR_FAILED, "cannot read '%s': %s", path,
                         strerror(cause));
    return !text->failed || error_set(err, ERROR_FAILED, "cannot read '%s': it is too large", path);
}

/* A file with {prompt} or {command} in it: the prompt takes that place. */
static bool fill_placeholder(const char *file, const char *form, const struct text *typed,
                             struct text *out, struct error *err) {
    static const char *const places[] = { "{prompt}", "{command}" };
    for (size_t i = 0; i < 2; i++) {
        const char *at = strstr(form, places[i]);
        if (!at)
            continue;
        text_append_bytes(out, form, (size_t)(at - form));
        text_append_bytes(out, typed->bytes, typed->length);
        text_append(out, at + strlen(places[i]));
        return true;
    }
    return error_set(err, ERROR_USAGE,
                     "template file '%s' holds neither {{, {%% nor {prompt}; put {prompt} where "
                     "the prompt belongs", file);
}

static bool render(const char *source, const char *name, const struct run_options *options,
                   const struct tokenizer *tokenizer, const struct text *typed, struct text *out,
                   struct error *err) {
    struct chat_message messages[2];
    size_t count = 0;
    if (strlen(typed->bytes) != typed->length)
        return error_set(err, ERROR_USAGE,
                         "the prompt holds a NUL byte, which a chat template cannot take; use --raw");
    if (options->system)
        messages[count++] = (struct chat_message){ "system", options->system };
    messages[count++] = (struct chat_message){ "user", typed->bytes };
    const struct chat_context context = chat_context_of(tokenizer);
    return chat_template_render(source, name, messages, count, &context, out, err);
}

/* Sets *raw where the result is to be tokenized as ordinary text with BOS. */
static bool apply_template(const struct run_options *options, const struct tokenizer *tokenizer,
                           const char *model_name, const struct text *typed, struct text *out,
                           bool *raw, struct error *err) {
    *raw = options->raw;
    if (options->raw) {
        text_append_bytes(out, typed->bytes, typed->length);
        return true;
    }
    if (options->template_name) {
        char *form = chat_template_read(options->template_name, err);
        if (!form)
            return false;
        bool is_chat = chat_template_has_tags(form);
        *raw = !is_chat;
        bool ok = is_chat ? render(form, options->template_name, options, tokenizer, typed, out, err)
                          : fill_placeholder(options->template_name, form, typed, out, err);
        free(form);
        return ok;
    }
    const char *source = tokenizer_chat_template(tokenizer);
    if (source)
        return render(source, model_name, options, tokenizer, typed, out, err);
    if (options->system)
        return error_set(err, ERROR_USAGE,
                         "model '%s' has no chat template for --system; name one with --template",
                         model_name);
    fprintf(stderr, "phirun: model '%s' has no chat template: the prompt is taken as it is\n", model_name);
    *raw = true;
    text_append_bytes(out, typed->bytes, typed->length);
    return true;
}

static bool empty_prompt(struct error *err) {
    return error_set(err, ERROR_USAGE, "the prompt is empty; give text with -p, -f or on standard input");
}

/* A user's turn with nothing in it is a mistake: a file that is empty, a variable that is not set. With a system
 * message or a template of one's own there is something to answer, and --raw may start from BOS alone. */
static bool check_typed(const struct run_options *options, const struct text *typed, struct error *err) {
    return typed->length || options->raw || options->system || options->template_name || empty_prompt(err);
}

bool prompt_make(struct prompt *prompt, const struct run_options *options,
                 const struct tokenizer *tokenizer, const char *model_name, uint32_t vocab,
                 struct error *err) {
    *prompt = (struct prompt){ 0 };
    text_init(&prompt->text);
    struct text typed;
    text_init(&typed);
    bool raw = false, ok;
    if (options->ids) {
        ok = parse_ids("--ids", options->ids, &prompt->ids, &prompt->count, err);
    } else {
        if (options->text)
            text_append(&typed, options->text);
        ok = (options->text || prompt_read_file(options->file ? options->file : "-", &typed, err))
             && check_typed(options, &typed, err)
             && apply_template(options, tokenizer, model_name, &typed, &prompt->text, &raw, err);
        if (ok && prompt->text.failed)
            ok = error_set(err, ERROR_FAILED, "cannot make the prompt: out of memory");
        ok = ok && tokenizer_encode(tokenizer, prompt->text.bytes, prompt->text.length,
                                    raw ? TOKENIZE_ADD_SPECIAL : TOKENIZE_DEFAULT, &prompt->ids,
                                    &prompt->count, err);
    }
    text_release(&typed);
    if (ok && !prompt->count)
        return empty_prompt(err);
    for (uint32_t i = 0; ok && i < prompt->count; i++)
        if ((uint32_t)prompt->ids[i] >= vocab)
            return error_set(err, ERROR_USAGE, "token id %d is outside the vocabulary of %u of model '%s'",
                             prompt->ids[i], vocab, model_name);
    return ok;
}

void prompt_release(struct prompt *prompt) {
    text_release(&prompt->text);
    free(prompt->ids);
    *prompt = (struct prompt){ 0 };
    text_init(&prompt->text);
}
