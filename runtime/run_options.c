#include "runtime/run_options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum option_id {
    OPTION_HELP = 'h', OPTION_VERSION = 1000, OPTION_PLAN, OPTION_DB, OPTION_EXACT, OPTION_JSON,
    OPTION_VERIFY, OPTION_IDS, OPTION_SYSTEM, OPTION_TEMPLATE, OPTION_RAW, OPTION_FULL_TEXT,
    OPTION_TEMPERATURE, OPTION_TOP_K, OPTION_TOP_P, OPTION_MIN_P, OPTION_PENALTY, OPTION_SEED,
    OPTION_GREEDY, OPTION_IGNORE_EOS, OPTION_EOS, OPTION_ROPE, OPTION_DECODE, OPTION_NO_SPECIAL,
    OPTION_MESSAGES, OPTION_NO_GENERATION_PROMPT, OPTION_OUT, OPTION_LAST
};

/* One table for parsing and for --help: which commands take the option (a bit
 * each), its value's name and what it does. Short options have `id` < 128. */
#define IN(command) (1u << (command))
#define GENERATE IN(COMMAND_GENERATE)
#define BENCH IN(COMMAND_BENCH)
#define TOKENIZE IN(COMMAND_TOKENIZE)
#define TEMPLATE IN(COMMAND_TEMPLATE)
#define LOGITS IN(COMMAND_LOGITS)
#define DEVICES (GENERATE | BENCH | LOGITS)
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
    { 'f', "file", "FILE", GENERATE | TOKENIZE, "the prompt from a file; - is standard input" },
    { OPTION_IDS, "ids", "1,2,3", GENERATE | LOGITS, "the prompt as token ids; no tokenizer, no BOS" },
    { OPTION_SYSTEM, "system", "TEXT", GENERATE, "a system message before the user's turn" },
    { OPTION_TEMPLATE, "template", "NAME|FILE", GENERATE | TEMPLATE,
      "phi3, chatml, llama2, a chat template file, or a file with {prompt}" },
    { OPTION_RAW, "raw", NULL, GENERATE, "take the prompt as it is, without a chat template" },
    { 'n', "max-new-tokens", "N", GENERATE, "stop after N tokens (default: eos or context)" },
    { OPTION_TEMPERATURE, "temperature", "T", GENERATE, "sample at this temperature; 0 is greedy" },
    { OPTION_TOP_K, "top-k", "K", GENERATE, "keep the K likeliest tokens; 0 keeps all" },
    { OPTION_TOP_P, "top-p", "P", GENERATE, "keep the likeliest tokens of mass P" },
    { OPTION_MIN_P, "min-p", "P", GENERATE, "drop tokens below P times the likeliest" },
    { OPTION_PENALTY, "repetition-penalty", "R", GENERATE, "make seen tokens less likely (1: off)" },
    { OPTION_SEED, "seed", "S", GENERATE, "same seed, same text" },
    { OPTION_GREEDY, "greedy", NULL, GENERATE, "always the likeliest token" },
    { OPTION_EOS, "eos", "IDS", GENERATE, "end at these ids instead of the model's" },
    { OPTION_IGNORE_EOS, "ignore-eos", NULL, GENERATE, "go on after an end token" },
    { OPTION_FULL_TEXT, "full-text", NULL, GENERATE, "print the prompt before the answer" },
    { OPTION_DECODE, "decode", "IDS", TOKENIZE, "print the text of these ids" },
    { OPTION_NO_SPECIAL, "no-special", NULL, TOKENIZE,
      "special tokens in the text are text; with --decode: left out" },
    { OPTION_MESSAGES, "messages", "FILE", TEMPLATE, "JSON array of {role, content}" },
    { OPTION_NO_GENERATION_PROMPT, "no-generation-prompt", NULL, TEMPLATE,
      "do not open the assistant's turn" },
    { OPTION_OUT, "out", "FILE", LOGITS, "raw float32 [positions][vocab]" },
    { OPTION_LAST, "last", NULL, LOGITS, "only the last position" },
    { OPTION_EXACT, "exact", NULL, DEVICES, "float arithmetic and float32 KV cache" },
    { OPTION_ROPE, "rope", "auto|short|long", DEVICES, "LongRoPE factors (default: the plan's)" },
    { OPTION_PLAN, "plan", "NAME", DEVICES, "which plan of the model (default: default)" },
    { OPTION_DB, "db", "FILE", DEVICES, "the store (default: $PHI_STORE, else per user)" },
    { OPTION_VERIFY, "verify", NULL, DEVICES, "hash the model's files again" },
    { OPTION_JSON, "json", NULL, GENERATE | TOKENIZE, "one JSON object on standard output" },
    { 'v', "verbose", NULL, DEVICES, "settings, bytes and times, on standard error" },
    { OPTION_HELP, "help", NULL, ALL, "this text" },
    { OPTION_VERSION, "version", NULL, ALL, "the version" },
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
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

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

static bool apply(struct run_options *options, int id, const char *value, struct error *err) {
    struct sampler_settings *sampling = &options->sampling;
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
        options->has_new_tokens = true;
        return read_u32("-n", value, &options->new_tokens, err);
    case 'd': return read_u32("-d", value, &options->bench_depth, err);
    case 'r':
        if (!read_u32("-r", value, &options->bench_repeats, err))
            return false;
        return options->bench_repeats ? true
               : error_set(err, ERROR_USAGE, "-r takes at least one repetition, not '%s'", value);
    case 'o':
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
    case OPTION_IDS: options->ids = value; return true;
    case OPTION_SYSTEM: options->system = value; return true;
    case OPTION_TEMPLATE: options->template_name = value; return true;
    case OPTION_RAW: options->raw = true; return true;
    case OPTION_FULL_TEXT: options->full_text = true; return true;
    case OPTION_TEMPERATURE:
        options->given |= GIVEN_TEMPERATURE;
        return read_float("--temperature", value, &sampling->temperature, err);
    case OPTION_TOP_K:
        options->given |= GIVEN_TOP_K;
        return read_u32("--top-k", value, &sampling->top_k, err);
    case OPTION_TOP_P:
        options->given |= GIVEN_TOP_P;
        return read_float("--top-p", value, &sampling->top_p, err);
    case OPTION_MIN_P:
        options->given |= GIVEN_MIN_P;
        return read_float("--min-p", value, &sampling->min_p, err);
    case OPTION_PENALTY:
        options->given |= GIVEN_PENALTY;
        return read_float("--repetition-penalty", value, &sampling->repetition_penalty, err);
    case OPTION_SEED: {
        char *end;
        errno = 0;
        options->given |= GIVEN_SEED;
        sampling->seed = strtoull(value, &end, 10);
        if (end == value || *end || errno || value[0] == '-')
            return error_set(err, ERROR_USAGE, "--seed takes a whole number, not '%s'", value);
        return true;
    }
    case OPTION_GREEDY: options->given |= GIVEN_GREEDY; return true;
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
    default: break;
    }
    return error_set(err, ERROR_USAGE, "unknown option; try phirun --help");
}

/* Fill getopt's tables from the rows of one command. */
static void make_tables(enum run_command command, char *letters, struct option *longs) {
    size_t used = 0, count = 0;
    letters[used++] = ':';
    const struct option_row *sets[] = { rows, bench_rows };
    size_t sizes[] = { COUNT(rows), COUNT(bench_rows) };
    for (size_t set = 0; set < 2; set++)
        for (size_t i = 0; i < sizes[set]; i++) {
            const struct option_row *row = &sets[set][i];
            if (!(row->commands & IN(command)) || !row->help[0])
                continue;
            if (row->id < 128) {
                letters[used++] = (char)row->id;
                if (row->value)
                    letters[used++] = ':';
            }
            if (row->name)
                longs[count++] = (struct option){ row->name, row->value ? required_argument : no_argument,
                                                  NULL, row->id };
        }
    letters[used] = '\0';
    longs[count] = (struct option){ 0 };
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
    if (options->command == COMMAND_TEMPLATE && !options->messages)
        return error_set(err, ERROR_USAGE, "phirun %s needs --messages FILE", program);
    if (options->ids && (options->raw || options->template_name || options->system))
        return error_set(err, ERROR_USAGE,
                         "--ids bypasses the text: it goes without --raw, --template and --system");
    if (options->raw && (options->system || options->template_name))
        return error_set(err, ERROR_USAGE, "--raw takes no --system and no --template");
    if ((options->given & GIVEN_GREEDY)
        && (options->given & (GIVEN_TEMPERATURE | GIVEN_TOP_K | GIVEN_TOP_P | GIVEN_MIN_P)))
        return error_set(err, ERROR_USAGE,
                         "--greedy and sampling options exclude each other; drop one");
    if (options->ignore_eos && options->eos)
        return error_set(err, ERROR_USAGE, "--eos and --ignore-eos exclude each other; drop one");
    return sampler_check(&options->sampling, err);
}

bool run_options_parse(struct run_options *options, int argc, char **argv, struct error *err) {
    *options = (struct run_options){ .plan_name = "default", .bench_prompt = 512, .bench_new = 128,
                                     .bench_repeats = 5, .bench_format = "md",
                                     .sampling = sampler_defaults() };
    int first = 1;
    for (size_t i = 1; i < COUNT(commands) && argc > 1; i++)
        if (strcmp(argv[1], commands[i].name) == 0) {
            options->command = commands[i].command;
            first = 2;
        }
    char letters[2 * (COUNT(rows) + COUNT(bench_rows)) + 2];
    struct option longs[COUNT(rows) + COUNT(bench_rows) + 1];
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
    return check(options, argc - optind, argv + optind, err);
}
