#include "runtime/typed_options.h"

#include "common/file_map.h"
#include "runtime/option_values.h"
#include "runtime/sampler_settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_LIMIT ((size_t)4 << 20)

/* In the order of generate()'s chain, which is that of --help. */
const struct typed_option typed_options[TYPED_OPTIONS] = {
    { TYPED_COUNT, 'n', "max-new-tokens", NULL, "N", "stop after N tokens (default: eos or context)" },
    { TYPED_COUNT, 0, "min-new-tokens", NULL, "N", "no end token before N tokens" },
    { TYPED_NUMBER, 0, "max-time", NULL, "SECONDS", "stop after this time" },
    { TYPED_ESCAPED, 0, "stop", "stop_strings", "TEXT",
      "stop where TEXT (\\n, \\t, \\r, \\\\ as in C) comes out, and leave it out; again for more" },
    { TYPED_ESCAPED, 0, "stop-strings", NULL, "TEXT", "the same" },
    { TYPED_FLAG, 0, "keep-stop", NULL, NULL, "leave the text that stopped in" },
    { TYPED_BIAS, 0, "logit-bias", "sequence_bias", "IDS=BIAS", "add BIAS to the last of IDS after the others; again for more" },
    { TYPED_NUMBER, 0, "repetition-penalty", NULL, "R", "make seen tokens less likely (1: off)" },
    { TYPED_COUNT, 0, "no-repeat-ngram-size", NULL, "N", "never the same N tokens in a row again" },
    { TYPED_STRINGS, 0, "bad-words", NULL, "TEXT", "never TEXT, as tokenized on its own; again for more" },
    { TYPED_IDS, 0, "bad-words-ids", NULL, "IDS", "never these ids in a row; again for more" },
    { TYPED_FLAG, 0, "do-sample", NULL, NULL, "sample; any of the next seven says so, too" },
    { TYPED_NUMBER, 0, "temperature", NULL, "T", "sample at this temperature; 0 is greedy" },
    { TYPED_COUNT, 0, "top-k", NULL, "K", "keep the K likeliest tokens; 0 keeps all" },
    { TYPED_NUMBER, 0, "top-p", NULL, "P", "keep the likeliest tokens of mass P" },
    { TYPED_NUMBER, 0, "min-p", NULL, "P", "drop tokens below P times the likeliest" },
    { TYPED_NUMBER, 0, "typical-p", NULL, "P", "keep the most typical tokens of mass P" },
    { TYPED_NUMBER, 0, "epsilon-cutoff", NULL, "E", "drop tokens less likely than E" },
    { TYPED_NUMBER, 0, "eta-cutoff", NULL, "E", "the same, less where the choice is wide" },
    { TYPED_SEED, 0, "seed", NULL, "S", "same seed, same text" },
    { TYPED_FLAG, 0, "greedy", NULL, NULL, "always the likeliest token" },
    { TYPED_COUNT, 0, "num-beams", NULL, "B", "search with B beams" },
    { TYPED_CHOICE, 0, "early-stopping", NULL, "true|false|never", "when a beam search ends (default: false)" },
    { TYPED_NUMBER, 0, "length-penalty", NULL, "P", "beams: score is sum / length^P (default: 1)" },
    { TYPED_COUNT, 0, "num-return-sequences", NULL, "N", "N answers to one prompt" },
    { TYPED_TEXT_FILE, 0, "grammar", NULL, "FILE", "only text that the GBNF grammar in FILE allows" },
    { TYPED_JSON_FILE, 0, "json-schema", NULL, "FILE", "only JSON that the JSON Schema in FILE accepts" },
    { TYPED_CHOICE, 0, "speculate", NULL, "ngram|off", "guess from repetitions; same text, faster where it pays" },
};

/* ---- values ---- */

static bool no_memory(struct error *err) {
    return error_set(err, ERROR_FAILED, "cannot keep the options: out of memory");
}

static bool read_choice(const char *option, const char *choices, const char *text, json_t **value,
                        struct error *err) {
    size_t length = strlen(text);
    for (const char *at = choices; at; at = strchr(at, '|'), at += at != NULL)
        if (length && strncmp(at, text, length) == 0 && (at[length] == '|' || !at[length])) {
            *value = strcmp(text, "true") == 0 ? json_true() : strcmp(text, "false") == 0 ? json_false()
                                                                                        : json_string(text);
            return true;
        }
    return error_set(err, ERROR_USAGE, "%s takes %s, not '%s'", option, choices, text);
}

static bool read_id_list(const char *option, const char *text, json_t **value, struct error *err) {
    int32_t *ids;
    uint32_t count;
    if (!parse_ids(option, text, &ids, &count, err))
        return false;
    *value = json_array();
    for (uint32_t i = 0; i < count; i++)
        json_array_append_new(*value, json_integer(ids[i]));
    free(ids);
    return count ? true : error_set(err, ERROR_USAGE, "%s takes token ids, not '%s'", option, text);
}

/* 1,2,3=BIAS; a single id also as llama.cpp spells it: 5+1.5, 5-1.5, 5-inf, 5=false. JSON has no
 * infinity: null stands for the bias that bans. */
static bool read_bias(const char *option, const char *text, json_t **value, struct error *err) {
    size_t split = strcspn(text, "=+-");
    char *ids = strndup(text, split);
    if (!ids)
        return no_memory(err);
    const char *number = text + split + (text[split] == '=');
    bool bans = strcmp(number, "false") == 0 || strcmp(number, "-inf") == 0;
    float bias = 0;
    bool ok = text[split] ? bans || option_number(option, number, &bias, err)
                          : error_set(err, ERROR_USAGE, "%s takes IDS=BIAS, not '%s'", option, text);
    ok = ok && read_id_list(option, ids, value, err);
    free(ids);
    if (ok)
        *value = bans ? json_pack("[o, n]", *value) : json_pack("[o, f]", *value, (double)bias);
    return ok;
}

static bool read_text(const char *option, const char *path, json_t **value, struct error *err) {
    size_t size;
    char *text = file_read_all(path, FILE_LIMIT, &size, err);
    if (!text)
        return error_prefix(err, "%s", option);
    *value = json_stringn(text, size);
    free(text);
    return *value || error_set(err, ERROR_USAGE, "'%s' of %s is no text in UTF-8", path, option);
}

/* ---- the object ---- */

/* The key under which an option's value is kept. */
static void key_of(const struct typed_option *option, char key[40]) {
    snprintf(key, 40, "%s", option->key ? option->key : option->name);
    for (char *at = key; (at = strchr(at, '-'));)
        *at = '_';
}

/* Takes `value`, which may be NULL after a failed allocation. */
static bool keep(json_t *typed, const char *key, json_t *value, bool is_list, struct error *err) {
    if (!is_list)
        return json_object_set_new(typed, key, value) == 0 || no_memory(err);
    json_t *list = json_object_get(typed, key);
    if (!list && json_object_set_new(typed, key, list = json_array()) != 0)
        list = NULL;
    return json_array_append_new(list, value) == 0 || no_memory(err);
}

bool typed_option_apply(json_t *typed, const struct typed_option *option, const char *text, struct error *err) {
    char shown[40], key[40];
    key_of(option, key);
    if (option->letter)
        snprintf(shown, sizeof shown, "-%c", option->letter);
    else
        snprintf(shown, sizeof shown, "--%s", option->name);
    json_t *value = NULL;
    uint32_t count;
    uint64_t seed;
    float number;
    bool ok = true, is_list = option->kind == TYPED_STRINGS || option->kind == TYPED_ESCAPED || option->kind == TYPED_IDS
                              || option->kind == TYPED_BIAS;
    char *meant;
    switch (option->kind) {
    case TYPED_COUNT:
        if ((ok = option_count(shown, text, &count, err)))
            value = json_integer(count);
        break;
    case TYPED_NUMBER:
        if ((ok = option_number(shown, text, &number, err)))
            value = json_real((double)number);
        break;
    case TYPED_SEED:   /* JSON's integers have a sign: the same 64 bits */
        if ((ok = option_whole(shown, text, UINT64_MAX, &seed, err)))
            value = json_integer((json_int_t)seed);
        break;
    case TYPED_FLAG: value = json_true(); break;
    case TYPED_CHOICE: ok = read_choice(shown, option->value, text, &value, err); break;
    case TYPED_STRINGS: case TYPED_ESCAPED:
        if (!(meant = option->kind == TYPED_ESCAPED ? option_unescape(text) : strdup(text)))
            return no_memory(err);
        value = json_string(meant);
        if (!value || !*meant)
            ok = error_set(err, ERROR_USAGE, "%s takes text in UTF-8, not '%s'", shown, text);
        free(meant);
        break;
    case TYPED_IDS: ok = read_id_list(shown, text, &value, err); break;
    case TYPED_BIAS: ok = read_bias(shown, text, &value, err); break;
    case TYPED_TEXT_FILE: ok = read_text(shown, text, &value, err); break;
    case TYPED_JSON_FILE:
        value = json_read_file(text, FILE_LIMIT, err);
        ok = value || error_prefix(err, "%s", shown);
        break;
    }
    if (ok)
        return keep(typed, key, value, is_list, err);
    json_decref(value);
    return false;
}

bool typed_options_check(const json_t *typed, struct error *err) {
    struct sampler_settings settings = sampler_defaults();
    for (size_t i = 0; i < SAMPLING_KEYS; i++)
        if (json_object_get(typed, "greedy") && json_object_get(typed, sampling_keys[i]))
            return error_set(err, ERROR_USAGE, "--greedy and sampling options exclude each other; drop one");
    return sampler_settings_read(&settings, typed, "the options", err);
}

/* Whether the two are one name, dashes being underscores. */
static bool same_name(const char *a, const char *b) {
    while (*a && (*a == *b || (*a == '-' && *b == '_') || (*a == '_' && *b == '-')))
        a++, b++;
    return *a == *b;
}

bool typed_options_set(json_t *typed, const char *name, const char *value, struct error *err) {
    const struct typed_option *option = NULL;
    for (size_t i = 0; i < TYPED_OPTIONS && !option; i++)
        if (same_name(typed_options[i].name, name) || (name[0] && typed_options[i].letter == name[0] && !name[1]))
            option = &typed_options[i];
    if (!option)
        return error_set(err, ERROR_USAGE, "'%s' is no setting of generation; see phirun chat --help", name);
    bool drops = value && strcmp(value, "default") == 0;
    if (option->value && !value)
        return error_set(err, ERROR_USAGE, "'%s' needs a value: %s, or default", option->name, option->value);
    if (!option->value && value && !drops)
        return error_set(err, ERROR_USAGE, "'%s' takes no value but default", option->name);
    char key[40];
    key_of(option, key);
    json_object_del(typed, key);
    for (size_t i = 0; i < SAMPLING_KEYS && !drops; i++)
        if (strcmp(key, "greedy") == 0)
            json_object_del(typed, sampling_keys[i]);
        else if (strcmp(key, sampling_keys[i]) == 0)
            json_object_del(typed, "greedy");
    return (drops || typed_option_apply(typed, option, value, err)) && typed_options_check(typed, err);
}
