/* The commands that need no device: tokenize and template. */
#include "common/json.h"
#include "runtime/chat_template.h"
#include "runtime/commands.h"
#include "runtime/json_text.h"
#include "runtime/option_values.h"
#include "runtime/prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGES_LIMIT ((size_t)64 << 20)

static bool print_tokens(const struct tokenizer *tokenizer, const int32_t *ids, uint32_t count,
                         bool as_json, struct error *err) {
    if (as_json) {
        json_t *id_list = json_array(), *pieces = json_array();
        for (uint32_t i = 0; i < count; i++) {
            const char *piece = tokenizer_piece(tokenizer, ids[i]);
            json_array_append_new(id_list, json_integer(ids[i]));
            json_array_append_new(pieces, json_text(piece ? piece : "", piece ? strlen(piece) : 0));
        }
        json_t *object = json_pack("{s:o, s:o}", "ids", id_list, "pieces", pieces);
        if (!object)
            return error_set(err, ERROR_FAILED, "cannot print the tokens: out of memory");
        json_dumpf(object, stdout, JSON_COMPACT);
        json_decref(object);
    } else {
        for (uint32_t i = 0; i < count; i++)
            printf("%s%d", i ? "," : "", ids[i]);
    }
    putchar('\n');
    return true;
}

static bool print_decoded(const struct tokenizer *tokenizer, const struct run_options *options,
                          struct error *err) {
    int32_t *ids;
    uint32_t count;
    struct text text;
    text_init(&text);
    if (!parse_ids("--decode", options->decode_ids, &ids, &count, err))
        return false;
    bool ok = tokenizer_decode(tokenizer, ids, count, options->no_special, &text, err);
    if (ok && options->json) {
        json_t *object = json_pack("{s:o}", "text", json_text(text.bytes, text.length));
        json_dumpf(object, stdout, JSON_COMPACT);
        json_decref(object);
        putchar('\n');
    } else if (ok) {
        fwrite(text.bytes, 1, text.length, stdout);
        putchar('\n');
    }
    free(ids);
    text_release(&text);
    return ok;
}

bool command_tokenize(const struct run_options *options, struct error *err) {
    struct model_source source = { 0 };
    struct tokenizer *tokenizer = NULL;
    struct text text;
    int32_t *ids = NULL;
    uint32_t count = 0;
    text_init(&text);
    bool ok = model_source_resolve(&source, options->model, err);
    if (ok)
        tokenizer = tokenizer_open(&source, err);
    ok = tokenizer != NULL;
    if (ok && options->decode_ids) {
        ok = print_decoded(tokenizer, options, err);
    } else if (ok) {
        if (options->text)
            text_append(&text, options->text);
        else
            ok = prompt_read_file(options->file ? options->file : "-", &text, err);
        ok = ok && tokenizer_encode(tokenizer, text.bytes, text.length,
                                    options->no_special ? TOKENIZE_SPLIT_SPECIAL : TOKENIZE_DEFAULT,
                                    &ids, &count, err)
             && print_tokens(tokenizer, ids, count, options->json, err);
    }
    free(ids);
    text_release(&text);
    tokenizer_close(tokenizer);
    model_source_release(&source);
    return ok && finish_output(err);
}

/* The messages in a file: an array of them, or an object with `messages` and whatever else
 * the template asks for (tools, ...), which is then *variables. Both are borrowed. */
static bool find_messages(const json_t *root, const char *path, const json_t **messages,
                          const json_t **variables, struct error *err) {
    *variables = json_is_object(root) ? root : NULL;
    *messages = json_is_object(root) ? json_object_get(root, "messages") : root;
    if (!json_is_array(*messages))
        return error_set(err, ERROR_USAGE, "'%s' is not an array of messages {role, content}", path);
    size_t i;
    const json_t *message;
    json_array_foreach(*messages, i, message)
        if (!json_is_string(json_object_get(message, "role")))
            return error_set(err, ERROR_USAGE, "message %zu of '%s' lacks a role", i + 1, path);
    return true;
}

bool command_template(const struct run_options *options, struct error *err) {
    struct model_source source = { 0 };
    struct tokenizer *tokenizer = NULL;
    const json_t *messages, *variables;
    struct text prompt;
    json_t *root = NULL;
    char *file = NULL;
    text_init(&prompt);
    bool ok = model_source_resolve(&source, options->model, err)
              && (tokenizer = tokenizer_open(&source, err))
              && (root = json_read_file(options->messages, MESSAGES_LIMIT, err))
              && find_messages(root, options->messages, &messages, &variables, err);
    if (ok) {
        const char *template_source = tokenizer_chat_template(tokenizer), *name = options->model;
        if (options->template_name) {
            name = options->template_name;
            template_source = file = chat_template_read(name, err);
            ok = template_source != NULL;
        } else if (!template_source) {
            ok = error_set(err, ERROR_FAILED,
                           "model '%s' has no chat template; name one with --template", name);
        }
        struct chat_context context = chat_context_of(tokenizer);
        context.add_generation_prompt = !options->no_generation_prompt;
        ok = ok && chat_template_render_json(template_source, name, messages, variables, &context, &prompt, err);
        if (ok)
            fwrite(prompt.bytes, 1, prompt.length, stdout);
    }
    free(file);
    json_decref(root);
    text_release(&prompt);
    tokenizer_close(tokenizer);
    model_source_release(&source);
    return ok && finish_output(err);
}
