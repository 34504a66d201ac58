/* What lies beside tokenizer.json: the names of special tokens, the chat
 * template, the number of rows of the model's vocabulary. */
#include "runtime/tokenizer_parts.h"

#include "common/file_map.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONFIG_LIMIT ((size_t)16 << 20)
#define TEMPLATE_LIMIT ((size_t)1 << 20)

json_t *tokenizer_read_beside(const struct model_source *source, const char *name, bool *ok, struct error *err) {
    char *path = model_source_file(source, name);
    if (!path) {
        *ok = error_set(err, ERROR_FAILED, "cannot read '%s': out of memory", name);
        return NULL;
    }
    json_t *root = NULL;
    if (access(path, F_OK) == 0) {
        root = json_read_file(path, CONFIG_LIMIT, err);
        *ok = root != NULL;
    }
    free(path);
    return root;
}

static bool keep(char **place, const json_t *string, struct error *err) {
    if (*place || !json_is_string(string))
        return true;
    *place = strdup(json_string_value(string));
    return *place || error_set(err, ERROR_FAILED, "cannot read the tokenizer's configuration: out of memory");
}

/* A token is a string or an object that describes it. */
static bool keep_token(char **place, const json_t *root, const char *key, struct error *err) {
    const json_t *value = json_object_get(root, key);
    return keep(place, json_is_object(value) ? json_object_get(value, "content") : value, err);
}

/* Special tokens that only templates ask for. */
static bool keep_named(struct tokenizer *tokenizer, const json_t *root, struct error *err) {
    static const char *const names[] = { "unk_token", "pad_token", "sep_token", "cls_token", "mask_token" };
    if (!tokenizer->named_texts)
        tokenizer->named_texts = json_object();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        json_t *value = json_object_get(root, names[i]);
        value = json_is_object(value) ? json_object_get(value, "content") : value;
        if (json_is_string(value) && !json_object_get(tokenizer->named_texts, names[i])
            && json_object_set(tokenizer->named_texts, names[i], value) != 0)
            return error_set(err, ERROR_FAILED, "cannot read the tokenizer's configuration: out of memory");
    }
    return true;
}

/* One template, or a list of named ones of which 'default' counts. */
static bool keep_template(char **place, const json_t *value, struct error *err) {
    const json_t *item;
    size_t i;
    json_array_foreach(value, i, item) {
        const json_t *name = json_object_get(item, "name");
        if (json_is_string(name) && strcmp(json_string_value(name), "default") == 0)
            return keep(place, json_object_get(item, "template"), err);
    }
    return keep(place, value, err);
}

static bool read_template_file(struct tokenizer *tokenizer, const struct model_source *source,
                               struct error *err) {
    char *path = model_source_file(source, "chat_template.jinja");
    if (!path)
        return error_set(err, ERROR_FAILED, "cannot read the chat template: out of memory");
    bool ok = true;
    if (access(path, F_OK) == 0) {
        size_t size;
        tokenizer->chat_template = file_read_all(path, TEMPLATE_LIMIT, &size, err);
        ok = tokenizer->chat_template != NULL;
    }
    free(path);
    return ok;
}

bool tokenizer_read_config(struct tokenizer *tokenizer, const struct model_source *source, struct error *err) {
    static const char *const files[] = { "tokenizer_config.json", "special_tokens_map.json" };
    bool ok = read_template_file(tokenizer, source, err);
    for (size_t i = 0; ok && i < 2; i++) {   /* the first that names a token wins */
        json_t *root = tokenizer_read_beside(source, files[i], &ok, err);
        ok = ok && keep_token(&tokenizer->bos_text, root, "bos_token", err)
            && keep_token(&tokenizer->eos_text, root, "eos_token", err) && keep_named(tokenizer, root, err)
            && keep_template(&tokenizer->chat_template, json_object_get(root, "chat_template"), err);
        json_decref(root);
    }
    if (!ok)
        return false;
    json_t *config = tokenizer_read_beside(source, "config.json", &ok, err);
    uint32_t rows = 0;
    ok = ok && json_get_u32(config, "vocab_size", "config.json", &rows, err);
    tokenizer->ids.end = rows < PIECE_ID_LIMIT ? rows : PIECE_ID_LIMIT;
    json_decref(config);
    return ok;
}
