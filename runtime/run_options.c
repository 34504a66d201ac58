#include "runtime/run_options.h"

#include "common/option_rules.h"
#include "runtime/option_values.h"
#include "runtime/typed_options.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum option_id {
    OPTION_HELP = 'h', OPTION_VERSION = 1000, OPTION_PLAN, OPTION_DB, OPTION_EXACT, OPTION_JSON,
    OPTION_VERIFY, OPTION_REPLAN, OPTION_IDS, OPTION_SYSTEM, OPTION_TEMPLATE, OPTION_RAW, OPTION_FULL_TEXT,
    OPTION_IGNORE_EOS, OPTION_EOS, OPTION_ROPE, OPTION_DECODE, OPTION_NO_SPECIAL,
    OPTION_MESSAGES, OPTION_PROMPT_CACHE, OPTION_NO_GENERATION_PROMPT, OPTION_OUT, OPTION_LAST, OPTION_WINDOW, OPTION_WHOLE,
    OPTION_TYPED    /* and on: typed_options[id - OPTION_TYPED] */
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
    { 'f', "file", "FILE", GENERATE, "the prompt from a file (default: standard input, which is -)" },
    { 'f', "file", "FILE", TOKENIZE, "the text from a file (default: standard input, which is -)" },
    { 'f', "file", "FILE", SCORES, "the text from a file; - is standard input" },
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
    { 'o', "output", "FILE", BATCH, "the results, one JSON object a line; goes on where it ends; - is standard output" },
    { OPTION_OUT, "out", "FILE", LOGITS, "raw float32 [positions][vocab]" },
    { OPTION_LAST, "last", NULL, LOGITS, "only the last position" },
    { OPTION_WINDOW, "window", "N", SCORES, "tokens in a window (default: 512, at most the context)" },
    { OPTION_WHOLE, "whole", NULL, SCORES, "count the first half of each window, too" },
    { OPTION_EXACT, "exact", NULL, DEVICES, "float arithmetic and float32 KV cache" },
    { OPTION_ROPE, "rope", "auto|short|long", DEVICES, "LongRoPE factors (default: the plan's)" },
    { OPTION_PLAN, "plan", "NAME|ID", DEVICES & ~IN(COMMAND_COMPARE), "which plan of the model (default: default)" },
    { OPTION_DB, "db", "FILE", DEVICES, "the store (default: $PHI_STORE, else per user)" },
    { OPTION_VERIFY, "verify", NULL, DEVICES, "hash the model's files again" },
    { OPTION_REPLAN, "replan", NULL, DEVICES & ~IN(COMMAND_COMPARE), "where no plan fits, run phiplan first" },
    { OPTION_JSON, "json", NULL, GENERATE | TOKENIZE | SCORES, "one JSON object on standard output" },
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

/* `about` stands in front of MODEL's sentence, and ends its own line. */
static const struct { const char *name; enum run_command command; const char *usage, *about, *example; } commands[] = {
    { NULL, COMMAND_GENERATE, "MODEL [-p TEXT | -f FILE | --ids 1,2,3] [options]",
      "Generates text; without -p, -f and --ids the prompt is standard input.",
      "phirun ./model.gguf -p 'Why is the sky blue?' -n 100" },
    { "bench", COMMAND_BENCH, "bench MODEL [-p N] [-n N] [-d N] [-r N] [-o md|json|csv]",
      "Measures how many tokens a second a prompt and its answer take.",
      "phirun bench ./model.gguf -p 512 -n 128" },
    { "tokenize", COMMAND_TOKENIZE, "tokenize MODEL [TEXT | -f FILE | --decode IDS]",
      "Prints the token ids of a text, or the text of ids; needs no plan.",
      "phirun tokenize ./model.gguf 'Hello' --json" },
    { "template", COMMAND_TEMPLATE, "template MODEL --messages FILE.json",
      "Prints what the model's chat template makes of a conversation; needs no plan.",
      "phirun template ./model --messages talk.json" },
    { "logits", COMMAND_LOGITS, "logits MODEL --ids 1,2,3 --out FILE",
      "Writes the logits of the tokens that may follow each of the ids.",
      "phirun logits ./model --ids 1,2,3 --out logits.f32 --exact" },
    { "chat", COMMAND_CHAT, "chat MODEL [--system TEXT] [options]",
      "Holds a conversation in the terminal; /help there lists what it can do.",
      "phirun chat ./model.gguf --system 'Answer in one sentence.'" },
    { "perplexity", COMMAND_PERPLEXITY, "perplexity MODEL -f FILE [--window N] [--json]",
      "Measures how well the model predicts a text: lower is better.",
      "phirun perplexity ./model.gguf -f text.txt" },
    { "compare", COMMAND_COMPARE, "compare MODEL PLAN_A PLAN_B -f FILE [--json]",
      "Measures how far two plans of the model are apart in predicting a text.",
      "phirun compare ./model default q4 -f text.txt" },
    { "batch", COMMAND_BATCH, "batch MODEL IN.jsonl -o OUT.jsonl [options]",
      "Answers the prompts in a file, several at a time; a killed run goes on where it was.",
      "phirun batch ./model.gguf prompts.jsonl -o answers.jsonl   (lines: {\"prompt\": \"Hi\", \"top_k\": 5})" },
};

#define MOST_OPTIONS (COUNT(rows) + COUNT(bench_rows) + TYPED_OPTIONS)

static struct option_row row_of_typed(size_t i) {
    const struct typed_option *typed = &typed_options[i];
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
    printf("\n%s\nMODEL, for which phiplan makes the plan, is a directory, a .gguf file, or\n"
           "org/name[@rev] in the local Hugging Face cache. Results go to standard output,\n"
           "everything else to standard error.\n\n", commands[command].about);
    for (size_t i = 0; i < COUNT(bench_rows); i++)
        if (command == COMMAND_BENCH)
            print_row(&bench_rows[i]);
    for (size_t i = 0; i < COUNT(rows); i++)
        if (rows[i].commands & IN(command))
            print_row(&rows[i]);
    if (SETTINGS & IN(command))
        printf("\nHow to generate, by the names of transformers' generate(). Defaults come from the\n"
               "model's generation_config.json.\n\n");
    for (size_t i = 0; i < TYPED_OPTIONS; i++) {
        struct option_row row = row_of_typed(i);
        if (row.commands & IN(command))
            print_row(&row);
    }
    printf("\nexample: %s\n", commands[command].example);
    printf("exit: 0 done, 1 failed, 2 wrong usage, 3 no plan, 4 plan stale, 130/143 interrupted\n");
}

static bool apply(struct run_options *options, int id, const char *value, struct error *err) {
    bool bench = options->command == COMMAND_BENCH;
    switch (id) {
    case 'p':
        if (bench)
            return option_count("-p", value, &options->bench_prompt, err);
        options->text = value;
        return true;
    case 'n':
        if (bench)
            return option_count("-n", value, &options->bench_new, err);
        return typed_option_apply(options->typed, &typed_options[0], value, err);
    case 'd': return option_count("-d", value, &options->bench_depth, err);
    case 'r':
        if (!option_count("-r", value, &options->bench_repeats, err))
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
        return option_count("--window", value, &options->window, err)
               && (options->window >= 2
                   || error_set(err, ERROR_USAGE, "--window takes at least 2 tokens, not '%s'", value));
    default: break;
    }
    if (id >= OPTION_TYPED && id < OPTION_TYPED + TYPED_OPTIONS)
        return typed_option_apply(options->typed, &typed_options[id - OPTION_TYPED], value, err);
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
        if (!(row.commands & IN(command)))
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

static bool check(const struct run_options *options, int extra, char **extras, struct error *err) {
    const char *program = options->command == COMMAND_GENERATE ? "" : commands[options->command].name;
    if (!options->model)
        return error_set(err, ERROR_USAGE, "no model given; usage: phirun %s",
                         commands[options->command].usage);
    bool is_path = strchr(options->model, '/') || access(options->model, F_OK) == 0;
    if (extra && options->command == COMMAND_GENERATE && !is_path)
        return error_set(err, ERROR_USAGE, "'%s' is neither a command nor a model; see phirun --help", options->model);
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
        return error_set(err, ERROR_USAGE, "phirun compare needs two plans, by name or number; usage: phirun %s",
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
    return typed_options_check(options->typed, err);
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
    char command[32];
    snprintf(command, sizeof command, "phirun%s%s", first == 2 ? " " : "", first == 2 ? argv[1] : "");
    const struct option_rules rules = { letters, longs, command };
    /* The command's name in place of the program's. 0 makes getopt forget where it was. */
    argc -= first - 1;
    argv += first - 1;
    optind = 0;
    for (int id; (id = option_rules_next(&rules, argc, argv, err)) != -1;) {
        if (id == '?' || !apply(options, id, optarg, err))
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
