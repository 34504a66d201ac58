/* plan_options: phiplan's command line as data. */
#ifndef PLANNER_PLAN_OPTIONS_H
#define PLANNER_PLAN_OPTIONS_H

#include "common/plan.h"

enum plan_verb {
    VERB_PLAN, VERB_DEVICES, VERB_LIST, VERB_SHOW, VERB_REMOVE, VERB_EXPORT, VERB_IMPORT,
    VERB_CHECK, VERB_COLLECT, VERB_WHY, VERB_DIFF, VERB_HELP, VERB_VERSION
};

enum plan_format { FORMAT_TABLE, FORMAT_JSON, FORMAT_ACCELERATE, FORMAT_DOT, FORMAT_SVG };

struct plan_options {
    enum plan_verb verb;
    bool has_verb;                /* it was typed; else VERB_PLAN is understood */
    const char *subject;          /* MODEL or PLAN; NULL: not given. Borrowed from argv, as all strings */
    const char *second;           /* DEVICE of why behind a PLAN, B of diff; NULL: not given */
    const char *file;             /* of import */
    const char *simulate;         /* a file that describes devices; NULL: this machine's */
    struct plan_request request;  /* as typed: what was not given is 0 or "" */
    const char *name;             /* NULL: "default" */
    const char *database;         /* NULL: the default path */
    enum plan_format format;
    bool json;                    /* the format is FORMAT_JSON */
    bool dry_run, probe, verify, kv_given;
};

/* ERROR_USAGE for what makes no sense (common/option_rules.h has the rule for options). Permutes
 * argv as getopt_long does. */
bool plan_options_parse(int argc, char **argv, struct plan_options *options, struct error *err);

/* The command that differs in one letter, for who mistyped it; NULL: none. */
const char *plan_options_nearest_verb(const char *word);

/* The text of --help, and the version that --version prints. */
extern const char plan_options_help[];
extern const char plan_options_version[];

#endif
