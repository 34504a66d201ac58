#include "runtime/run_options.h"

#include "common/file_map.h"
#include "runtime/sampler_settings.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TYPED_FILE_LIMIT ((size_t)4 << 20)

enum option_id {
    OPTION_HELP = 'h', OPTION_VERSION = 1000, OPTION_PLAN, OPTION_DB, OPTION_EXACT, OPTION_JSON,
    OPTION_VERIFY, OPTION_REPLAN, OPTION_IDS, OPTION_SYSTEM, OPTION_TEMPLATE, OPTION_RAW, OPTION_FULL_TEXT,
    OPTION_IGNORE_EOS, OPTION_EOS, OPTION_ROPE, OPTION_DECODE, OPTION_NO_SPECIAL,
    OPTION_MESSAGES, OPTION_PROMPT_CACHE, OPTION_NO_GENERATION_PROMPT, OPTION_OUT, OPTION_LAST, OPTION_WINDOW, OPTION_WHOLE,
    OPTION_TYPED    /* and on: typed_rows[id - OPTION_TYPED] */
};

/* One table for parsing and for --help: which commands take the option (a bit
 * each), its value's name and what it does. Short options have `id` < 128. */
#define IN(command) (1u << (command))
#define COUNT(array) (sizeof(array) / sizeof *(array))
#define GENERATE IN(COMMAND_GENERATE)
#define BENCH IN(COMMAND_BENCH)
#define TOKENIZE IN(COMMAND_TOKENIZE)
#define TEMPLATE IN(COMMAND_TEMPLATE)
#define LOGITS IN(COMMAND_LOGITS)
#define CHAT IN(COMMAND_CHAT)
#define BATCH IN(COMMAND_BATCH)
#define SETTINGS (GENERATE | CHAT | BATCH)   /* the commands that generate */
#define SCORES (IN(COMMAND_PERPLEXITY) | IN(COMMAND_COMPARE))
#define DEVICES (SETTINGS | BENCH | LOGITS | SCORES)
#define ALL (DEVICES | TOKENIZE | TEMPLATE)

struct option_row {
    int id;
    const char *name;    /* long name; NULL where there is only a letter */
    const char *value;   /* NULL: takes none */
    unsigned commands;
    const char *help;
};

static const struct option_row rows[] = {
    { 'p', "prompt", "TEXT", GENERATE, "the prompt: one user turn of the chat template" },
    { 'f', "file", "FILE", GENERATE | TOKENIZE | SCORES, "the prompt from a file; - is standard input" },
    { OPTION_IDS, "ids", "1,2,3", GENERATE | LOGITS | SCORES, "the prompt as token ids; no tokenizer, no BOS" },
    { OPTION_SYSTEM, "system", "TEXT", GENERATE | CHAT | BATCH, "a system message before the user's turn" },
    { OPTION_TEMPLATE, "template", "NAME|FILE", GENERATE | CHAT | BATCH | TEMPLATE,
      "phi3, chatml, llama2, a chat template file, or a file with {prompt}" },
    { OPTION_RAW, "raw", NULL, GENERATE | BATCH, "take the prompt as it is, without a chat template" },
    { OPTION_EOS, "eos", "IDS", SETTINGS, "end at these ids instead of the model's" },
    { OPTION_IGNORE_EOS, "ignore-eos", NULL, SETTINGS, "go on after an end token" },
    { OPTION_PROMPT_CACHE, "prompt-cache", "FILE", GENERATE | CHAT,
      "keep what the prompt became in FILE, and start from it" },
    { OPTION_FULL_TEXT, "full-text", NULL, GENERATE, "print the prompt before the answer" },
    { OPTION_DECODE, "decode", "IDS", TOKENIZE, "print the text of these ids" },
    { OPTION_NO_SPECIAL, "no-special", NULL, TOKENIZE,
      "special tokens in the text are text; with --decode: left out" },
    { OPTION_MESSAGES, "messages", "FILE", TEMPLATE, "JSON array of {role, content}" },
    { OPTION_NO_GENERATION_PROMPT, "no-generation-prompt", NULL, TEMPLATE,
      "do not open the assistant's turn" },
    { 'o', "output", "FILE", BATCH, "the results, one JSON object a line; goes on where it ends" },
    { OPTION_OUT, "out", "FILE", LOGITS, "raw float32 [positions][vocab]" },
    { OPTION_LAST, "last", NULL, LOGITS, "only the last position" },
    { OPTION_WINDOW, "window", "N", SCORES, "tokens in a window (default: 512, at most the context)" },
    { OPTION_WHOLE, "whole", NULL, SCORES, "count the first half of each window, too" },
    { OPTION_EXACT, "exact", NULL, DEVICES, "float arithmetic and float32 KV cache" },
    { OPTION_ROPE, "rope", "auto|short|long", DEVICES, "LongRoPE factors (default: the plan's)" },
    { OPTION_PLAN, "plan", "NAME", DEVICES & ~IN(COMMAND_COMPARE), "which plan of the model (default: default)" },
    { OPTION_DB, "db", "FILE", DEVICES, "the store (default: $PHI_STORE, else per user)" },
    { OPTION_VERIFY, "verify", NULL, DEVICES, "hash the model's files again" },
    { OPTION_REPLAN, "replan", NULL, DEVICES, "where no plan fits, run phiplan first" },
    { OPTION_JSON, "json", NULL, GENERATE | TOKENIZE | SCORES, "one JSON object on standard output" },
    { 'v', "verbose", NULL, DEVICES, "settings, bytes and times, on standard error" },
    { OPTION_HELP, "help", NULL, ALL, "this text" },
    { OPTION_VERSION, "version", NULL, ALL, "the version" },
};

/* How a value of generate()'s options is spelled, and what becomes of it. */
enum typed_kind {
    TYPED_COUNT, TYPED_NUMBER, TYPED_SEED, TYPED_FLAG,
    TYPED_CHOICE,      /* one of the words in `value`; true and false are no strings */
    TYPED_STRINGS,     /* may be given again: a list */
    TYPED_IDS,         /* 1,2,3; may be given again: a list of lists */
    TYPED_BIAS,        /* 1,2,3=BIAS; may be given again */
    TYPED_TEXT_FILE,   /* a file's text */
    TYPED_JSON_FILE    /* a file's value */
};

struct typed_row {
    enum typed_kind kind;
    char letter;         /* 0: none */
    const char *name;
    const char *key;     /* generate()'s keyword; NULL: the name with underscores */
    const char *value;
    const char *help;
};

/* In the order of generate()'s chain, which is that of --help. */
static const struct typed_row typed_rows[] = {
    { TYPED_COUNT, 'n', "max-new-tokens", NULL, "N", "stop after N tokens (default: eos or context)" },
    { TYPED_COUNT, 0, "min-new-tokens", NULL, "N", "no end token before N tokens" },
    { TYPED_NUMBER, 0, "max-time", NULL, "SECONDS", "stop after this time" },
    { TYPED_STRINGS, 0, "stop", "stop_strings", "TEXT", "stop where TEXT comes out, and leave it out; again for more" },
    { TYPED_STRINGS, 0, "stop-strings", NULL, "TEXT", "the same" },
    { TYPED_FLAG, 0, "keep-stop", NULL, NULL, "leave the text that stopped in" },
    { TYPED_BIAS, 0, "logit-bias", NULL, "IDS=BIAS", "add BIAS to the last of IDS after the others; again for more" },
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

/* bench spells sizes as its peers do. */
static const struct option_row bench_rows[] = {
    { 'p', NULL, "N", BENCH, "prompt tokens to prefill (default: 512; 0: skip)" },
    { 'n', NULL, "N", BENCH, "tokens to decode (default: 128; 0: skip)" },
    { 'd', NULL, "N", BENCH, "context depth before the measured part (default: 0)" },
    { 'r', NULL, "N", BENCH, "repetitions (default: 5)" },
    { 'o', NULL, "md|json|csv", BENCH, "format (default: md)" },
};

static const struct { const char *name; enum run_command command; const char *usage, *example; } commands[] = {
    { NULL, COMMAND_GENERATE, "MODEL [-p TEXT | -f FILE | --ids 1,2,3] [options]",
      "phirun ./model.gguf -p 'Why is the sky blue?' -n 100" },
    { "bench", COMMAND_BENCH, "bench MODEL [-p N] [-n N] [-d N] [-r N] [-o md|json|csv]",
      "phirun bench ./model.gguf -p 512 -n 128" },
    { "tokenize", COMMAND_TOKENIZE, "tokenize MODEL [TEXT | -f FILE | --decode IDS]",
      "phirun tokenize ./model.gguf 'Hello' --json" },
    { "template", COMMAND_TEMPLATE, "template MODEL --messages FILE.json",
      "phirun template ./model --messages talk.json" },
    { "logits", COMMAND_LOGITS, "logits MODEL --ids 1,2,3 --out FILE",
      "phirun logits ./model --ids 1,2,3 --out logits.f32 --exact" },
    { "chat", COMMAND_CHAT, "chat MODEL [--system TEXT] [options]",
      "phirun chat ./model.gguf --system 'Answer in one sentence.'" },
    { "perplexity", COMMAND_PERPLEXITY, "perplexity MODEL -f FILE [--window N] [--json]",
      "phirun perplexity ./model.gguf -f text.txt" },
    { "compare", COMMAND_COMPARE, "compare MODEL PLAN_A PLAN_B -f FILE [--json]",
      "phirun compare ./model default q4 -f text.txt" },
    { "batch", COMMAND_BATCH, "batch MODEL IN.jsonl -o OUT.jsonl [options]",
      "phirun batch ./model.gguf prompts.jsonl -o answers.jsonl   (lines: {\"prompt\": \"Hi\", \"top_k\": 5})" },
};

#define MOST_OPTIONS (COUNT(rows) + COUNT(bench_rows) + COUNT(typed_rows))

static struct option_row row_of_typed(size_t i) {
    const struct typed_row *typed = &typed_rows[i];
    return (struct option_row){ typed->letter ? typed->letter : OPTION_TYPED + (int)i, typed->name, typed->value,
                                SETTINGS, typed->help };
}

static void print_row(const struct option_row *row) {
    char left[48];
    int used = 0;
    if (row->id < 128 && row->name)
        used = snprintf(left, sizeof left, "-%c, --%s", row->id, row->name);
    else if (row->id < 128)
        used = snprintf(left, sizeof left, "-%c", row->id);
    else
        used = snprintf(left, sizeof left, "    --%s", row->name);
    if (row->value)
        snprintf(left + used, sizeof left - (size_t)used, " %s", row->value);
    if (strlen(left) > 26)
        printf("  %s\n  %-26s %s\n", left, "", row->help);
    else
        printf("  %-26s %s\n", left, row->help);
}

void run_options_help(enum run_command command, bool all) {
    for (size_t i = 0; i < COUNT(commands); i++)
        if (all || commands[i].command == command)
            printf("%s phirun %s\n", i == 0 || !all ? "usage:" : "      ", commands[i].usage);
    printf("\nGenerates text with the plan that phiplan made for MODEL: a directory, a .gguf\n"
           "file, or org/name[@rev] in the local Hugging Face cache. Results go to standard\n"
           "output, everything else to standard error.\n\n");
    for (size_t i = 0; i < COUNT(bench_rows); i++)
        if (command == COMMAND_BENCH)
            print_row(&bench_rows[i]);
    for (size_t i = 0; i < COUNT(rows); i++)
        if ((rows[i].commands & IN(command)) && rows[i].help[0])
            print_row(&rows[i]);
    if (SETTINGS & IN(command))
        printf("\nHow to generate, by the names of transformers' generate(). Defaults come from the\n"
               "model's generation_config.json.\n\n");
    for (size_t i = 0; i < COUNT(typed_rows); i++) {
        struct option_row row = row_of_typed(i);
        if (row.commands & IN(command))
            print_row(&row);
    }
    printf("\nexample: %s\n", commands[command].example);
    printf("exit: 0 done, 1 failed, 2 wrong usage, 3 no plan, 4 plan stale, 130/143 interrupted\n");
}

bool parse_ids(const char *what, const char *text, int32_t **ids, uint32_t *count,
               struct error *err) {
    size_t capacity = strlen(text) / 2 + 1, used = 0;
    int32_t *parsed = malloc(capacity * sizeof *parsed);
    if (!parsed)
        return error_set(err, ERROR_FAILED, "cannot read the ids of %s: out of memory", what);
    const char *at = text;
    while (at += strspn(at, " \t\r\n,"), *at) {
        char *end;
        errno = 0;
        long value = strtol(at, &end, 10);
        if (end == at || errno || value < 0 || value > INT32_MAX || !strchr(", \t\r\n", *end)) {
            error_set(err, ERROR_USAGE,
                      "%s holds '%.20s', which is no token id; give ids as 1,2,3", what, at);
            free(parsed);
            return false;
        }
        parsed[used++] = (int32_t)value;
        at = end;
    }
    *ids = parsed;
    *count = (uint32_t)used;
    return true;
}

static bool read_u32(const char *option, const char *text, uint32_t *value, struct error *err) {
    char *end;
    errno = 0;
    unsigned long long parsed = strtoull(text, &end, 10);
    if (end == text || *end || errno || text[0] == '-' || parsed > UINT32_MAX / 2)
        return error_set(err, ERROR_USAGE, "%s takes a whole number, not '%s'", option, text);
    *value = (uint32_t)parsed;
    return true;
}

static bool read_float(const char *option, const char *text, float *value, struct error *err) {
    char *end;
    errno = 0;
    float parsed = strtof(text, &end);
    if (end == text || *end || errno == ERANGE || !isfinite(parsed))
        return error_set(err, ERROR_USAGE, "%s takes a number, not '%s'", option, text);
    *value = parsed;
    return true;
}

static bool read_seed(const char *option, const char *text, json_t **value, struct error *err) {
    char *end;
    errno = 0;
    uint64_t seed = strtoull(text, &end, 10);
    if (end == text || *end || errno || text[0] == '-')
        return error_set(err, ERROR_USAGE, "%s takes a whole number, not '%s'", option, text);
    *value = json_integer((json_int_t)seed);
    return true;
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

/* 1,2,3=BIAS; a single id also as llama.cpp spells it: 5+1.5, 5-1.5, 5-inf, 5=false. */
static bool read_bias(const char *option, const char *text, const char **key, json_t **value, struct error *err) {
    size_t split = strcspn(text, "=+-");
    char *ids = strndup(text, split);
    if (!ids)
        return error_set(err, ERROR_FAILED, "cannot keep the options: out of memory");
    const char *number = text + split + (text[split] == '=');
    bool bans = strcmp(number, "false") == 0 || strcmp(number, "-inf") == 0;
    float bias = 0;
    bool ok = text[split] ? bans || read_float(option, number, &bias, err)
                          : error_set(err, ERROR_USAGE, "%s takes IDS=BIAS, not '%s'", option, text);
    ok = ok && read_id_list(option, ids, value, err);
    free(ids);
    if (ok && bans)
        *key = "bad_words_ids";
    else if (ok)
        *value = json_pack("[o, f]", *value, (double)bias);
    return ok;
}

static bool read_text(const char *option, const char *path, json_t **value, struct error *err) {
    size_t size;
    char *text = file_read_all(path, TYPED_FILE_LIMIT, &size, err);
    if (!text)
        return error_prefix(err, "%s", option);
    *value = json_stringn(text, size);
    free(text);
    return *value || error_set(err, ERROR_USAGE, "'%s' of %s is no text in UTF-8", path, option);
}

/* One of generate()'s options into the object of what was typed. */
static bool apply_typed(struct run_options *options, const struct typed_row *row, const char *text,
                        struct error *err) {
    char option[40], name[40];
    if (row->letter)
        snprintf(option, sizeof option, "-%c", row->letter);
    else
        snprintf(option, sizeof option, "--%s", row->name);
    snprintf(name, sizeof name, "%s", row->key ? row->key : row->name);
    for (char *at = name; (at = strchr(at, '-'));)
        *at = '_';
    const char *key = name;
    json_t *value = NULL;
    uint32_t count;
    float number;
    bool ok = true, is_list = row->kind == TYPED_STRINGS || row->kind == TYPED_IDS || row->kind == TYPED_BIAS;
    switch (row->kind) {
    case TYPED_COUNT:
        if ((ok = read_u32(option, text, &count, err)))
            value = json_integer(count);
        break;
    case TYPED_NUMBER:
        if ((ok = read_float(option, text, &number, err)))
            value = json_real((double)number);
        break;
    case TYPED_SEED: ok = read_seed(option, text, &value, err); break;
    case TYPED_FLAG: value = json_true(); break;
    case TYPED_CHOICE: ok = read_choice(option, row->value, text, &value, err); break;
    case TYPED_STRINGS:
        value = json_string(text);
        if (!value || !*text)
            ok = error_set(err, ERROR_USAGE, "%s takes text in UTF-8, not '%s'", option, text);
        break;
    case TYPED_IDS: ok = read_id_list(option, text, &value, err); break;
    case TYPED_TEXT_FILE: ok = read_text(option, text, &value, err); break;
    case TYPED_JSON_FILE:
        value = json_read_file(text, TYPED_FILE_LIMIT, err);
        ok = value || error_prefix(err, "%s", option);
        break;
    case TYPED_BIAS:
        key = "sequence_bias";
        ok = read_bias(option, text, &key, &value, err);
        break;
    }
    if (ok && is_list) {
        json_t *list = json_object_get(options->typed, key);
        if (!list && json_object_set_new(options->typed, key, list = json_array()) != 0)
            list = NULL;
        if (json_array_append(list, value) != 0)
            ok = error_set(err, ERROR_FAILED, "cannot keep the options: out of memory");
    } else if (ok && json_object_set(options->typed, key, value) != 0) {
        ok = error_set(err, ERROR_FAILED, "cannot keep the options: out of memory");
    }
    json_decref(value);
    return ok;
}

static bool apply(struct run_options *options, int id, const char *value, struct error *err) {
    bool bench = options->command == COMMAND_BENCH;
    switch (id) {
    case 'p':
        if (bench)
            return read_u32("-p", value, &options->bench_prompt, err);
        options->text = value;
        return true;
    case 'n':
        if (bench)
            return read_u32("-n", value, &options->bench_new, err);
        return apply_typed(options, &typed_rows[0], value, err);
    case 'd': return read_u32("-d", value, &options->bench_depth, err);
    case 'r':
        if (!read_u32("-r", value, &options->bench_repeats, err))
            return false;
        return options->bench_repeats ? true
               : error_set(err, ERROR_USAGE, "-r takes at least one repetition, not '%s'", value);
    case 'o':
        if (options->command == COMMAND_BATCH) {
            options->out = value;
            return true;
        }
        options->bench_format = value;
        if (strcmp(value, "md") && strcmp(value, "json") && strcmp(value, "csv"))
            return error_set(err, ERROR_USAGE, "-o takes md, json or csv, not '%s'", value);
        return true;
    case 'f': options->file = value; return true;
    case 'v': options->verbose = true; return true;
    case OPTION_HELP: options->help = true; return true;
    case OPTION_VERSION: options->version = true; return true;
    case OPTION_PLAN: options->plan_name = value; return true;
    case OPTION_DB: options->db = value; return true;
    case OPTION_EXACT: options->exact = true; return true;
    case OPTION_JSON: options->json = true; return true;
    case OPTION_VERIFY: options->verify = true; return true;
    case OPTION_REPLAN: options->replan = true; return true;
    case OPTION_IDS: options->ids = value; return true;
    case OPTION_SYSTEM: options->system = value; return true;
    case OPTION_TEMPLATE: options->template_name = value; return true;
    case OPTION_PROMPT_CACHE: options->prompt_cache = value; return true;
    case OPTION_RAW: options->raw = true; return true;
    case OPTION_FULL_TEXT: options->full_text = true; return true;
    case OPTION_IGNORE_EOS: options->ignore_eos = true; return true;
    case OPTION_EOS: options->eos = value; return true;
    case OPTION_ROPE:
        options->has_rope = true;
        if (!rope_policy_from_name(value, &options->rope))
            return error_set(err, ERROR_USAGE, "--rope takes auto, short or long, not '%s'", value);
        return true;
    case OPTION_DECODE: options->decode_ids = value; return true;
    case OPTION_NO_SPECIAL: options->no_special = true; return true;
    case OPTION_MESSAGES: options->messages = value; return true;
    case OPTION_NO_GENERATION_PROMPT: options->no_generation_prompt = true; return true;
    case OPTION_OUT: options->out = value; return true;
    case OPTION_LAST: options->last_only = true; return true;
    case OPTION_WHOLE: options->whole = true; return true;
    case OPTION_WINDOW:
        return read_u32("--window", value, &options->window, err)
               && (options->window >= 2
                   || error_set(err, ERROR_USAGE, "--window takes at least 2 tokens, not '%s'", value));
    default: break;
    }
    if (id >= OPTION_TYPED && id < OPTION_TYPED + (int)COUNT(typed_rows))
        return apply_typed(options, &typed_rows[id - OPTION_TYPED], value, err);
    return error_set(err, ERROR_USAGE, "unknown option; try phirun --help");
}

/* Fill getopt's tables from the rows of one command. */
static void make_tables(enum run_command command, char *letters, struct option *longs) {
    size_t used = 0, count = 0;
    letters[used++] = ':';
    for (size_t i = 0; i < MOST_OPTIONS; i++) {
        struct option_row row = i < COUNT(rows) ? rows[i]
            : i < COUNT(rows) + COUNT(bench_rows) ? bench_rows[i - COUNT(rows)]
            : row_of_typed(i - COUNT(rows) - COUNT(bench_rows));
        if (!(row.commands & IN(command)) || !row.help[0])
            continue;
        if (row.id < 128) {
            letters[used++] = (char)row.id;
            if (row.value)
                letters[used++] = ':';
        }
        if (row.name)
            longs[count++] = (struct option){ row.name, row.value ? required_argument : no_argument, NULL, row.id };
    }
    letters[used] = '\0';
    longs[count] = (struct option){ 0 };
}

static const char *const sampling_keys[] = { "do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p",
                                             "epsilon_cutoff", "eta_cutoff" };

/* Mistakes in numbers are better told before a model is opened. */
static bool check_typed(const struct run_options *options, struct error *err) {
    struct sampler_settings settings = sampler_defaults();
    for (size_t i = 0; i < COUNT(sampling_keys); i++)
        if (json_object_get(options->typed, "greedy") && json_object_get(options->typed, sampling_keys[i]))
            return error_set(err, ERROR_USAGE, "--greedy and sampling options exclude each other; drop one");
    return sampler_settings_read(&settings, options->typed, "the options", err);
}

/* Whether the two are one name, dashes being underscores. */
static bool same_name(const char *a, const char *b) {
    while (*a && (*a == *b || (*a == '-' && *b == '_') || (*a == '_' && *b == '-')))
        a++, b++;
    return *a == *b;
}

bool run_options_set(struct run_options *options, const char *name, const char *value, struct error *err) {
    const struct typed_row *row = NULL;
    for (size_t i = 0; i < COUNT(typed_rows) && !row; i++)
        if (same_name(typed_rows[i].name, name))
            row = &typed_rows[i];
    if (!row)
        return error_set(err, ERROR_USAGE, "'%s' is no setting of generation; see phirun chat --help", name);
    bool drops = value && strcmp(value, "default") == 0;
    if (row->value && !value)
        return error_set(err, ERROR_USAGE, "'%s' needs a value: %s, or default", row->name, row->value);
    if (!row->value && value && !drops)
        return error_set(err, ERROR_USAGE, "'%s' takes no value but default", row->name);
    char key[40];
    snprintf(key, sizeof key, "%s", row->kind == TYPED_BIAS ? "sequence_bias" : row->key ? row->key : row->name);
    for (char *at = key; (at = strchr(at, '-'));)
        *at = '_';
    struct run_options changed = *options;
    changed.typed = json_deep_copy(options->typed);
    if (!changed.typed)
        return error_set(err, ERROR_FAILED, "cannot keep the options: out of memory");
    json_object_del(changed.typed, key);
    for (size_t i = 0; i < COUNT(sampling_keys) && !drops; i++)
        if (strcmp(key, "greedy") == 0)
            json_object_del(changed.typed, sampling_keys[i]);
        else if (strcmp(key, sampling_keys[i]) == 0)
            json_object_del(changed.typed, "greedy");
    if ((!drops && !apply_typed(&changed, row, value, err)) || !check_typed(&changed, err)) {
        json_decref(changed.typed);
        return false;
    }
    json_decref(options->typed);
    options->typed = changed.typed;
    return true;
}

static bool check(const struct run_options *options, int extra, char **extras, struct error *err) {
    const char *program = options->command == COMMAND_GENERATE ? "" : commands[options->command].name;
    if (!options->model)
        return error_set(err, ERROR_USAGE, "no model given; usage: phirun %s",
                         commands[options->command].usage);
    if (extra)
        return error_set(err, ERROR_USAGE, "unexpected argument '%s'; %s", extras[0],
                         options->command == COMMAND_GENERATE ? "give the prompt with -p"
                                                              : "see phirun --help");
    int sources = (options->text != NULL) + (options->file != NULL) + (options->ids != NULL);
    if (sources > 1)
        return error_set(err, ERROR_USAGE, "give one of -p, -f and --ids, not several");
    if (options->command == COMMAND_LOGITS && (!options->ids || !options->out))
        return error_set(err, ERROR_USAGE, "phirun %s needs --ids and --out", program);
    if ((SCORES & IN(options->command)) && !options->ids && !options->file)
        return error_set(err, ERROR_USAGE, "phirun %s needs a text: -f FILE", program);
    if (options->command == COMMAND_COMPARE && !options->plan_b)
        return error_set(err, ERROR_USAGE, "phirun compare needs two plans by name; usage: phirun %s",
                         commands[COMMAND_COMPARE].usage);
    if (options->command == COMMAND_BATCH && (!options->file || !options->out))
        return error_set(err, ERROR_USAGE, "phirun %s needs a file of prompts and -o FILE", program);
    if (options->command == COMMAND_TEMPLATE && !options->messages)
        return error_set(err, ERROR_USAGE, "phirun %s needs --messages FILE", program);
    if (options->ids && (options->raw || options->template_name || options->system))
        return error_set(err, ERROR_USAGE,
                         "--ids bypasses the text: it goes without --raw, --template and --system");
    if (options->raw && (options->system || options->template_name))
        return error_set(err, ERROR_USAGE, "--raw takes no --system and no --template");
    if (options->ignore_eos && options->eos)
        return error_set(err, ERROR_USAGE, "--eos and --ignore-eos exclude each other; drop one");
    return check_typed(options, err);
}

bool run_options_parse(struct run_options *options, int argc, char **argv, struct error *err) {
    *options = (struct run_options){ .plan_name = "default", .bench_prompt = 512, .bench_new = 128,
                                     .bench_repeats = 5, .bench_format = "md",
                                     .typed = json_object() };
    if (!options->typed)
        return error_set(err, ERROR_FAILED, "cannot keep the options: out of memory");
    int first = 1;
    for (size_t i = 1; i < COUNT(commands) && argc > 1; i++)
        if (strcmp(argv[1], commands[i].name) == 0) {
            options->command = commands[i].command;
            first = 2;
        }
    char letters[2 * MOST_OPTIONS + 2];
    struct option longs[MOST_OPTIONS + 1];
    make_tables(options->command, letters, longs);
    for (int i = first; i < argc && strcmp(argv[i], "--"); i++) {
        options->help |= strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0;
        options->version |= strcmp(argv[i], "--version") == 0;
    }
    if (options->help || options->version)
        return true;
    optind = first;
    opterr = 0;
    int id;
    while ((id = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
        if (id == ':')
            return error_set(err, ERROR_USAGE, "option '%s' needs a value", argv[optind - 1]);
        if (id == '?')
            return error_set(err, ERROR_USAGE, "unknown option '%s'; try phirun%s%s --help",
                             argv[optind - 1], first == 2 ? " " : "", first == 2 ? argv[1] : "");
        if (!apply(options, id, optarg, err))
            return false;
    }
    if (optind < argc)
        options->model = argv[optind++];
    if (options->command == COMMAND_TOKENIZE && optind < argc)
        options->text = argv[optind++];
    if (options->command == COMMAND_COMPARE) {
        options->plan_a = optind < argc ? argv[optind++] : NULL;
        options->plan_b = optind < argc ? argv[optind++] : NULL;
    }
    if (options->command == COMMAND_BATCH && optind < argc)
        options->file = argv[optind++];
    return check(options, argc - optind, argv + optind, err);
}

void run_options_release(struct run_options *options) {
    json_decref(options->typed);
    options->typed = NULL;
}
