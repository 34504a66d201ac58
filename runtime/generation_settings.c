#include "runtime/generation_settings.h"

#include "common/json.h"
#include "runtime/grammar.h"
#include "runtime/json_schema.h"
#include "runtime/option_values.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define CONFIG_LIMIT ((size_t)1 << 20)
#define MOST_RULES 100000u

static bool no_memory(const char *what, struct error *err) {
    return error_set(err, ERROR_FAILED, "cannot keep the settings of %s: out of memory", what);
}

static bool wrong(const char *what, const char *key, const char *expected, struct error *err) {
    return error_set(err, ERROR_USAGE, "'%s' in %s is not %s", key, what, expected);
}

bool generation_settings_is_end(const struct generation_settings *settings, int64_t id) {
    for (uint32_t i = 0; i < settings->eos_count; i++)
        if (settings->eos_ids[i] == id)
            return true;
    return false;
}

static void add_eos(struct generation_settings *settings, int64_t id) {
    if (id >= 0 && id <= INT32_MAX && settings->eos_count < 2 * MODEL_MAX_EOS
        && !generation_settings_is_end(settings, id))
        settings->eos_ids[settings->eos_count++] = (int32_t)id;
}

/* ---- token rules ---- */

static void release_rules(struct token_rules *rules) {
    for (uint32_t i = 0; i < rules->count; i++)
        free((void *)rules->rules[i].ids);
    free(rules->rules);
    *rules = (struct token_rules){ 0 };
}

/* Takes `ids`, which may be NULL after a failed allocation. */
static bool add_rule(struct token_rules *rules, int32_t *ids, uint32_t count, float bias, const char *what,
                     struct error *err) {
    struct token_rule *longer = NULL;
    if (ids && rules->count < MOST_RULES)
        longer = realloc(rules->rules, (rules->count + 1) * sizeof *longer);
    if (!longer) {
        free(ids);
        return ids && rules->count >= MOST_RULES
               ? error_set(err, ERROR_USAGE, "%s holds more than %u biases or bad words", what, MOST_RULES)
               : no_memory(what, err);
    }
    rules->rules = longer;
    rules->rules[rules->count++] = (struct token_rule){ ids, count, bias };
    return true;
}

/* A number or an array of numbers. */
static bool add_rule_of(struct token_rules *rules, const json_t *value, float bias, const char *key,
                        const char *what, struct error *err) {
    size_t count = json_is_array(value) ? json_array_size(value) : 1;
    if (!count || count > UINT16_MAX)
        return wrong(what, key, "a list of token ids", err);
    int32_t *ids = malloc(count * sizeof *ids);
    for (size_t i = 0; ids && i < count; i++) {
        const json_t *id = json_is_array(value) ? json_array_get(value, i) : value;
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX) {
            free(ids);
            return wrong(what, key, "a list of token ids", err);
        }
        ids[i] = (int32_t)json_integer_value(id);
    }
    return add_rule(rules, ids, (uint32_t)count, bias, what, err);
}

/* As transformers does it, bad words that are just an end token do not count. */
static bool is_end(const struct generation_settings *settings, const json_t *value) {
    const json_t *id = json_is_array(value) && json_array_size(value) == 1 ? json_array_get(value, 0) : value;
    return json_is_integer(id) && generation_settings_is_end(settings, json_integer_value(id));
}

static bool read_bans(struct generation_settings *settings, const json_t *object, const char *key,
                      const char *what, struct error *err) {
    const json_t *list = json_object_get(object, key);
    if (!list || json_is_null(list))
        return true;
    if (!json_is_array(list))
        return wrong(what, key, "a list of token ids", err);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!is_end(settings, json_array_get(list, i))
            && !add_rule_of(&settings->bans, json_array_get(list, i), -INFINITY, key, what, err))
            return false;
    return true;
}

/* [[[ids], bias], ...] as in generation_config.json; what was typed has null for a bias that bans. */
static bool read_sequence_bias(struct generation_settings *settings, const json_t *object, const char *what,
                               struct error *err) {
    const json_t *list = json_object_get(object, "sequence_bias");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *pair = json_array_get(list, i), *bias = json_array_get(pair, 1);
        if (json_array_size(pair) != 2 || !(json_is_number(bias) || json_is_null(bias)))
            return wrong(what, "sequence_bias", "a list of [[ids], bias]", err);
        if (!add_rule_of(&settings->biases, json_array_get(pair, 0),
                         json_is_null(bias) ? -INFINITY : (float)json_number_value(bias), "sequence_bias", what, err))
            return false;
    }
    return !list || json_is_null(list) || json_is_array(list)
           || wrong(what, "sequence_bias", "a list of [[ids], bias]", err);
}

/* {"id": bias} as in servers' requests */
static bool read_logit_bias(struct generation_settings *settings, const json_t *object, const char *what,
                            struct error *err) {
    json_t *map = json_object_get(object, "logit_bias"), *value;
    const char *key;
    json_object_foreach(map, key, value) {
        int32_t *ids = NULL;
        uint32_t count = 0;
        if (!json_is_number(value) || !parse_ids("logit_bias", key, &ids, &count, err) || !count) {
            free(ids);
            return wrong(what, "logit_bias", "a map from token ids to numbers", err);
        }
        if (!add_rule(&settings->biases, ids, count, (float)json_number_value(value), what, err))
            return false;
    }
    return !map || json_is_null(map) || json_is_object(map)
           || wrong(what, "logit_bias", "a map from token ids to numbers", err);
}

/* A word is banned as it stands and after a space. */
static bool read_bad_words(struct generation_settings *settings, const json_t *object,
                           const struct tokenizer *tokenizer, const char *what, struct error *err) {
    const json_t *list = json_object_get(object, "bad_words");
    if (!list || json_is_null(list))
        return true;
    if (!json_is_array(list))
        return wrong(what, "bad_words", "a list of strings", err);
    if (!tokenizer)
        return error_set(err, ERROR_USAGE, "bad words need a tokenizer, which the model has not; give bad-words-ids");
    for (size_t i = 0; i < 2 * json_array_size(list); i++) {
        const char *word = json_string_value(json_array_get(list, i / 2));
        if (!word || !*word)
            return wrong(what, "bad_words", "a list of strings", err);
        struct text text;
        text_init(&text);
        text_append(&text, i % 2 ? " " : "");
        text_append(&text, word);
        int32_t *ids = NULL;
        uint32_t count = 0;
        bool ok = !text.failed && tokenizer_encode(tokenizer, text.bytes, text.length, TOKENIZE_SPLIT_SPECIAL,
                                                   &ids, &count, err);
        text_release(&text);
        if (ok && count)
            ok = add_rule(&settings->bans, ids, count, -INFINITY, what, err);
        else
            free(ids);
        if (!ok)
            return false;
    }
    return true;
}

/* ---- strings and names ---- */

static void release_stops(struct generation_settings *settings) {
    for (uint32_t i = 0; i < settings->stop_count; i++)
        free(settings->stop_strings[i]);
    free(settings->stop_strings);
    settings->stop_strings = NULL;
    settings->stop_count = 0;
}

/* A string or a list of strings; replaces what was there. */
static bool read_stops(struct generation_settings *settings, const json_t *object, const char *key,
                       const char *what, struct error *err) {
    const json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value))
        return true;
    size_t count = json_is_array(value) ? json_array_size(value) : 1;
    release_stops(settings);
    settings->stop_strings = calloc(count + 1, sizeof *settings->stop_strings);
    if (!settings->stop_strings)
        return no_memory(what, err);
    for (size_t i = 0; i < count; i++) {
        const char *string = json_string_value(json_is_array(value) ? json_array_get(value, i) : value);
        if (!string || !*string)
            return wrong(what, key, "a string or a list of strings, none of them empty", err);
        char *copy = strdup(string);
        if (!copy)
            return no_memory(what, err);
        settings->stop_strings[settings->stop_count++] = copy;
    }
    return true;
}

static bool read_early_stopping(struct generation_settings *settings, const json_t *object, const char *what,
                                struct error *err) {
    const json_t *value = json_object_get(object, "early_stopping");
    const char *name = json_string_value(value);
    if (json_is_boolean(value))
        settings->early_stopping = json_is_true(value) ? EARLY_STOPPING_TRUE : EARLY_STOPPING_FALSE;
    else if (name && strcmp(name, "never") == 0)
        settings->early_stopping = EARLY_STOPPING_NEVER;
    else if (value && !json_is_null(value))
        return wrong(what, "early_stopping", "true, false or \"never\"", err);
    return true;
}

static bool read_speculate(struct generation_settings *settings, const json_t *object, const char *what,
                           struct error *err) {
    const char *name = NULL;
    if (!json_get_str(object, "speculate", what, &name, err))
        return false;
    if (name && strcmp(name, "ngram") && strcmp(name, "off"))
        return wrong(what, "speculate", "\"ngram\" or \"off\"", err);
    if (name)
        settings->speculate = strcmp(name, "ngram") == 0;
    return true;
}

/* Read it here to refuse it before the weights are loaded. */
static bool keep_grammar(struct generation_settings *settings, const char *text, size_t size, const char *name,
                         struct error *err) {
    struct grammar *grammar = grammar_parse(text, size, name, err);
    char *copy = grammar ? strdup(text) : NULL;
    if (grammar && !copy)
        no_memory(name, err);
    grammar_free(grammar);
    if (!copy)
        return false;
    free(settings->grammar);
    settings->grammar = copy;
    return true;
}

static bool read_grammar(struct generation_settings *settings, const json_t *object,
                         const struct tokenizer *tokenizer, const char *what, struct error *err) {
    const char *text = NULL;
    const json_t *schema = json_object_get(object, "json_schema");
    if (!json_get_str(object, "grammar", what, &text, err))
        return false;
    bool has_schema = schema && !json_is_null(schema);
    if (!text && !has_schema)
        return true;
    if (text && has_schema)
        return error_set(err, ERROR_USAGE, "%s has a grammar and a JSON schema; a text can follow one of them", what);
    if (!tokenizer)
        return error_set(err, ERROR_USAGE, "a grammar needs a tokenizer, which the model has not");
    settings->is_schema = has_schema;
    if (text)
        return keep_grammar(settings, text, strlen(text), "the grammar", err);
    struct text grammar;
    text_init(&grammar);
    bool ok = json_schema_to_grammar(schema, "the JSON schema", &grammar, err)
              && keep_grammar(settings, grammar.bytes, grammar.length, "the JSON schema's grammar", err);
    text_release(&grammar);
    return ok;
}

/* ---- all of it ---- */

static bool read_any(struct generation_settings *settings, const json_t *object,
                     const struct tokenizer *tokenizer, const char *what, struct error *err) {
    struct sampler_settings *sampling = &settings->sampling;
    const json_t *seed = json_object_get(object, "seed");
    if (seed && !json_is_null(seed) && !json_is_integer(seed))
        return wrong(what, "seed", "a whole number", err);
    if (json_is_integer(seed))
        sampling->seed = (uint64_t)json_integer_value(seed);
    bool ok = sampler_settings_read(sampling, object, what, err)
              && json_get_u32(object, "max_new_tokens", what, &settings->new_tokens, err)
              && json_get_u32(object, "max_length", what, &settings->max_length, err)
              && json_get_u32(object, "min_length", what, &settings->min_length, err)
              && json_get_f32(object, "max_time", what, &settings->max_time, err)
              && json_get_u32(object, "num_beams", what, &settings->num_beams, err)
              && json_get_u32(object, "num_return_sequences", what, &settings->num_return_sequences, err)
              && json_get_f32(object, "length_penalty", what, &settings->length_penalty, err)
              && json_get_bool(object, "keep_stop", what, &settings->keep_stop, err)
              && read_early_stopping(settings, object, what, err)
              && read_speculate(settings, object, what, err)
              && read_stops(settings, object, "stop_strings", what, err)
              && read_stops(settings, object, "stop", what, err)
              && read_sequence_bias(settings, object, what, err)
              && read_logit_bias(settings, object, what, err)
              && read_bans(settings, object, "bad_words_ids", what, err)
              && read_bans(settings, object, "suppress_tokens", what, err)
              && read_bad_words(settings, object, tokenizer, what, err)
              && read_grammar(settings, object, tokenizer, what, err);
    if (!ok)
        return false;
    /* Only that one of the two that came last counts; together, max_new_tokens does. */
    if (json_is_integer(json_object_get(object, "max_new_tokens")))
        settings->max_length = 0;
    else if (json_is_integer(json_object_get(object, "max_length")))
        settings->new_tokens = UINT32_MAX;
    if (!(settings->max_time >= 0))
        return error_set(err, ERROR_USAGE, "max-time '%g' makes no sense; give seconds", (double)settings->max_time);
    if (!settings->num_beams || settings->num_beams > GENERATION_MOST_SEQUENCES)
        return error_set(err, ERROR_USAGE, "num-beams '%u' is out of range; give 1 to %u", settings->num_beams,
                         GENERATION_MOST_SEQUENCES);
    if (!settings->num_return_sequences || settings->num_return_sequences > GENERATION_MOST_SEQUENCES)
        return error_set(err, ERROR_USAGE, "num-return-sequences '%u' is out of range; give 1 to %u",
                         settings->num_return_sequences, GENERATION_MOST_SEQUENCES);
    return true;
}

static bool read_eos(struct generation_settings *settings, const json_t *object, const char *what,
                     struct error *err) {
    const json_t *value = json_object_get(object, "eos_token_id");
    if (!value || json_is_null(value))
        return true;
    size_t count = json_is_array(value) ? json_array_size(value) : 1;
    settings->eos_count = 0;
    for (size_t i = 0; i < count; i++) {
        const json_t *id = json_is_array(value) ? json_array_get(value, i) : value;
        if (!json_is_integer(id))
            return wrong(what, "eos_token_id", "a token id or a list of them", err);
        add_eos(settings, json_integer_value(id));
    }
    return true;
}

/* What only makes sense with something else. */
static bool check_together(const struct generation_settings *settings, struct error *err) {
    uint32_t beams = settings->num_beams, sequences = settings->num_return_sequences;
    if (beams > 1 && sequences > beams)
        return error_set(err, ERROR_USAGE, "%u sequences cannot come from %u beams; give --num-beams %u", sequences,
                         beams, sequences);
    if (beams == 1 && sequences > 1 && settings->sampling.greedy)
        return error_set(err, ERROR_USAGE, "greedy decoding gives one sequence, not %u; add --do-sample or --num-beams %u",
                         sequences, sequences);
    return true;
}

bool generation_settings_read(struct generation_settings *settings, const json_t *object,
                              const struct tokenizer *tokenizer, const char *what, struct error *err) {
    bool do_sample = !settings->sampling.greedy, greedy = false;
    for (size_t i = 0; i < SAMPLING_KEYS; i++)
        do_sample |= json_is_number(json_object_get(object, sampling_keys[i]));
    if (!read_eos(settings, object, what, err) || !read_any(settings, object, tokenizer, what, err)
        || !json_get_bool(object, "do_sample", what, &do_sample, err)
        || !json_get_bool(object, "greedy", what, &greedy, err))
        return false;
    settings->sampling.greedy = greedy || !do_sample || settings->sampling.temperature == 0;
    return check_together(settings, err);
}

bool generation_settings_knows(const char *key) {
    static const char *const keys[] = {
        "bad_words", "bad_words_ids", "do_sample", "early_stopping", "eos_token_id", "epsilon_cutoff", "eta_cutoff",
        "grammar", "greedy", "json_schema", "keep_stop", "length_penalty", "logit_bias", "max_length",
        "max_new_tokens", "max_time", "min_length", "min_new_tokens", "min_p", "no_repeat_ngram_size", "num_beams",
        "num_return_sequences", "repetition_penalty", "seed", "sequence_bias", "speculate", "stop", "stop_strings",
        "suppress_tokens", "temperature", "top_k", "top_p", "typical_p",
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(key, keys[i]) == 0)
            return true;
    return false;
}

static bool read_config(struct generation_settings *settings, const struct model *model,
                        const struct tokenizer *tokenizer, struct error *err) {
    char *path = model_source_file(&model->source, "generation_config.json");
    if (!path)
        return no_memory("the model", err);
    bool ok = true, do_sample = false;
    /* Beside a GGUF lie other models' files: only a directory has a config of its own. */
    if (model->source.kind == SOURCE_DIRECTORY && access(path, F_OK) == 0) {
        json_t *config = json_read_file(path, CONFIG_LIMIT, err);
        ok = config && json_get_bool(config, "do_sample", path, &do_sample, err)
             && read_any(settings, config, tokenizer, path, err);
        settings->sampling.greedy = !do_sample;
        if (!ok)
            error_prefix(err, "'%s'", path);
        json_decref(config);
    }
    free(path);
    return ok;
}

bool generation_settings_make(struct generation_settings *settings, const struct model *model,
                              const struct tokenizer *tokenizer, const struct run_options *options,
                              struct error *err) {
    *settings = (struct generation_settings){ .sampling = sampler_defaults(), .new_tokens = UINT32_MAX,
                                              .num_beams = 1, .num_return_sequences = 1, .length_penalty = 1 };
    struct sampler_settings *sampling = &settings->sampling;
    sampling->top_k = 50;
    if (getrandom(&sampling->seed, sizeof sampling->seed, 0) != sizeof sampling->seed)
        sampling->seed = (uint64_t)time(NULL);
    if (options->eos) {
        int32_t *ids;
        uint32_t count;
        if (!parse_ids("--eos", options->eos, &ids, &count, err))
            return false;
        for (uint32_t i = 0; i < count; i++)
            add_eos(settings, ids[i]);
        free(ids);
    } else if (!options->ignore_eos) {
        for (uint32_t i = 0; i < model->eos_count; i++)
            add_eos(settings, model->eos_ids[i]);
        int32_t known[MODEL_MAX_EOS];
        uint32_t count = tokenizer ? tokenizer_eos_ids(tokenizer, known, MODEL_MAX_EOS) : 0;
        for (uint32_t i = 0; i < count; i++)
            add_eos(settings, known[i]);
    }
    return read_config(settings, model, tokenizer, err)
           && generation_settings_read(settings, options->typed, tokenizer, "the options", err);
}

void generation_settings_release(struct generation_settings *settings) {
    release_rules(&settings->biases);
    release_rules(&settings->bans);
    release_stops(settings);
    free(settings->grammar);
    settings->grammar = NULL;
}

uint32_t generation_settings_sequences(const struct generation_settings *settings) {
    return settings->num_beams > 1 ? settings->num_beams + 1 : settings->num_return_sequences;
}

static void add(struct text *text, const char *format, ...) {
    char part[160];
    va_list args;
    va_start(args, format);
    vsnprintf(part, sizeof part, format, args);
    va_end(args);
    text_append(text, text->length ? ", " : "");
    text_append(text, part);
}

static void add_number(struct text *text, const char *name, float value, float neutral) {
    if (value != neutral)
        add(text, "%s %g", name, (double)value);
}

static void add_count(struct text *text, const char *name, uint32_t value, uint32_t neutral) {
    if (value != neutral)
        add(text, "%s %u", name, value);
}

void generation_settings_text(const struct generation_settings *settings, char *out, size_t size) {
    const struct sampler_settings *sampling = &settings->sampling;
    static const char *const early[] = { "false", "true", "never" };
    struct text text;
    text_init(&text);
    if (settings->num_beams > 1)
        add(&text, "num-beams %u, early-stopping %s, length-penalty %g", settings->num_beams,
            early[settings->early_stopping], (double)settings->length_penalty);
    if (sampling->greedy) {
        if (settings->num_beams == 1)
            add(&text, "greedy");
    } else {
        add(&text, "temperature %g, top-k %u, top-p %g, min-p %g", (double)sampling->temperature,
            sampling->top_k, (double)sampling->top_p, (double)sampling->min_p);
        add_number(&text, "typical-p", sampling->typical_p, 1);
        add_number(&text, "epsilon-cutoff", sampling->epsilon_cutoff, 0);
        add_number(&text, "eta-cutoff", sampling->eta_cutoff, 0);
        add(&text, "seed %" PRIu64, sampling->seed);
    }
    add_count(&text, "num-return-sequences", settings->num_return_sequences, 1);
    add_number(&text, "repetition-penalty", sampling->repetition_penalty, 1);
    add_count(&text, "no-repeat-ngram-size", sampling->no_repeat_ngram, 0);
    add_count(&text, "bad words", settings->bans.count, 0);
    add_count(&text, "biases", settings->biases.count, 0);
    add_count(&text, "max-new-tokens", settings->new_tokens, UINT32_MAX);
    add_count(&text, "max-length", settings->max_length, 0);
    add_count(&text, "min-new-tokens", sampling->min_new_tokens, 0);
    add_count(&text, "min-length", settings->min_length, 0);
    add_number(&text, "max-time", settings->max_time, 0);
    add_count(&text, "stop strings", settings->stop_count, 0);
    if (settings->speculate)
        add(&text, "speculate ngram");
    if (settings->grammar)
        add(&text, settings->is_schema ? "json-schema" : "grammar");
    for (uint32_t i = 0; i < settings->eos_count; i++)
        text_append_format(&text, "%s%d", i ? " " : ", eos ", settings->eos_ids[i]);
    snprintf(out, size, "%s", text.bytes);
    text_release(&text);
}
