/* run_options: phirun's command line as data. */
#ifndef RUNTIME_RUN_OPTIONS_H
#define RUNTIME_RUN_OPTIONS_H

#include "common/error.h"
#include "common/json.h"
#include "runtime/session.h"

#include <stdint.h>

enum run_command {
    COMMAND_GENERATE, COMMAND_BENCH, COMMAND_TOKENIZE, COMMAND_TEMPLATE, COMMAND_LOGITS,
    COMMAND_CHAT, COMMAND_PERPLEXITY, COMMAND_COMPARE, COMMAND_BATCH
};

struct run_options {
    enum run_command command;
    bool help, version;
    const char *model;             /* all strings are borrowed from argv; NULL: not given */
    const char *plan_name;         /* "default" */
    const char *db;
    bool exact, verbose, json, verify, replan;

    const char *text;              /* -p, or tokenize's TEXT */
    const char *file;              /* -f; "-" is standard input */
    const char *ids;               /* --ids, as typed */
    const char *system;
    const char *template_name;     /* --template: built-in name or file */
    const char *prompt_cache;      /* --prompt-cache FILE */
    bool raw, full_text;

    json_t *typed;                 /* owned; how to generate, as generate()'s keywords:
                                      see generation_settings_read() */
    bool ignore_eos;
    const char *eos;               /* --eos IDS */
    bool has_rope;
    enum rope_policy rope;

    const char *decode_ids;        /* tokenize --decode */
    bool no_special;
    const char *messages;          /* template --messages FILE */
    bool no_generation_prompt;
    const char *out;               /* logits --out FILE */
    bool last_only;
    uint32_t window;               /* perplexity --window; 0: not given */
    bool whole;                    /* perplexity --whole */
    const char *plan_a, *plan_b;   /* compare */

    uint32_t bench_prompt, bench_new, bench_depth, bench_repeats;
    const char *bench_format;      /* "md", "json", "csv" */
};

/* False with ERROR_USAGE (common/option_rules.h has the rule for options); release after a failure, too. --help
 * and --version anywhere win over mistakes. */
bool run_options_parse(struct run_options *options, int argc, char **argv, struct error *err);
void run_options_release(struct run_options *options);
void run_options_help(enum run_command command, bool all);   /* to stdout */

#endif
