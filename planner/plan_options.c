#include "planner/plan_options.h"

#include "common/option_rules.h"
#include "planner/accelerate_map.h"
#include "planner/fixed_placement.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

const char plan_options_version[] = "phiplan 0.1";

const char plan_options_help[] =
    "usage: phiplan [plan] MODEL [options]   plan a model onto OpenCL devices\n"
    "       phiplan devices [--json]         the devices of this machine, probed\n"
    "       phiplan list [--json]            the stored plans, newest first\n"
    "       phiplan show [PLAN] [--json]     one plan: id, name, MODEL, or the newest\n"
    "       phiplan rm PLAN                  forget a plan\n"
    "       phiplan why [PLAN] DEVICE        what it needs and has, what using it (or\n"
    "                                        doing without it) would change\n"
    "       phiplan diff A B                 what two plans do differently\n"
    "       phiplan check [PLAN]             compare predictions with the recorded\n"
    "                                        runs; next plans learn (--dry-run: no)\n"
    "       phiplan export [PLAN] --format json|accelerate|dot|svg\n"
    "       phiplan import FILE MODEL        plan by a device map of Accelerate, or\n"
    "                                        by what export --format json wrote\n"
    "       phiplan gc                       remove superseded plans and packed\n"
    "                                        weights that no plan of any --db uses\n"
    "\n"
    "MODEL is a directory with config.json and *.safetensors, a .gguf file, or\n"
    "org/name[@revision] in the local Hugging Face cache. Nothing is downloaded.\n"
    "\n"
    "workload\n"
    "  --ctx N             tokens of context (the model's, at most 4096)\n"
    "  --prompt N          prompt of the workload to be fast at (512)\n"
    "  --new N             new tokens of that workload (256)\n"
    "  --kv TYPE           keys and values: f32, f16 or q8_0 (f16)\n"
    "  --weights W         keep: the values of the files (default); q8_0, q4_0 or\n"
    "                      f16: matrices converted once, which loses some precision\n"
    "                      (phirun compare measures it); auto: chosen by speed\n"
    "  --rope auto|short|long   LongRoPE factors (auto: by length)\n"
    "  --micro-batch N     most tokens in one pass (256)\n"
    "  --dtype T           type of weights where there is only a config.json, and\n"
    "                      what the hf- policies count with: float16, q4_0 ...\n"
    "devices\n"
    "  --devices L         use just these, in this order: gpu0,cpu0\n"
    "  --exclude L         leave these out\n"
    "  --max-memory L      gpu0=8GiB,cpu=24GiB: a name is one device, a number the\n"
    "                      n-th that is no CPU, cpu the host's RAM; 80% also works\n"
    "  --max-buffer S      largest single buffer: 1GiB, or gpu0=1GiB,cpu0=2GiB\n"
    "  --policy P          fastest: least time for the workload (default)\n"
    "                      fill: each device in turn as full as it goes\n"
    "                      balanced: the same share of each device's memory\n"
    "                      hf-sequential, hf-balanced, hf-balanced-low-0: where\n"
    "                      Accelerate puts it; hf-auto: where transformers does\n"
    "  --pin PATTERN=DEVICE     put units there: 'ffn.*=cpu1', 'embed=gpu0'\n"
    "  --forbid PATTERN=DEVICE  keep units away: 'head=gpu0'\n"
    "  --slices auto|off   cut units into slices that devices run at the same time,\n"
    "                      where they do not fit whole or that is faster (auto)\n"
    "  --stream            units that fit nowhere may be read from the disk for\n"
    "                      every token; the plan says what that takes\n"
    "  --probe             measure the devices again\n"
    "  --simulate FILE     plan for the devices that a JSON file describes (see\n"
    "                      docs/simulate.md); stores nothing\n"
    "result\n"
    "  --name NAME         name of the plan (default)\n"
    "  --dry-run           only show; store nothing, read no weights\n"
    "  --verify            compute the file hashes again\n"
    "  --format table|json|accelerate|dot|svg, --json   (table). A --dry-run of\n"
    "                      an hf- policy as accelerate wants no devices here\n"
    "  --db FILE           the store ($PHI_STORE, else ~/.local/share/phi/plans.db)\n"
    "  --help, --version\n"
    "\n"
    "example: phiplan models/SmolLM2-135M-Instruct.gguf --ctx 2048\n"
    "exit: 0 done, 1 failed, 2 wrong usage, 3 no such plan, 4 plan stale (its\n"
    "      model's files changed), 130/143 interrupted\n";

enum option_code {
    OPTION_CTX = 256, OPTION_PROMPT, OPTION_NEW, OPTION_KV, OPTION_WEIGHTS, OPTION_DEVICES, OPTION_EXCLUDE,
    OPTION_MAX_MEMORY, OPTION_MAX_BUFFER, OPTION_POLICY, OPTION_PIN, OPTION_FORBID, OPTION_ROPE,
    OPTION_MICRO_BATCH, OPTION_DTYPE, OPTION_PROBE, OPTION_VERIFY, OPTION_NAME, OPTION_DRY_RUN, OPTION_JSON,
    OPTION_FORMAT, OPTION_DB, OPTION_SLICES, OPTION_STREAM, OPTION_SIMULATE, OPTION_VERSION, OPTION_HELP = 'h'
};

static const struct option long_options[] = {
    { "ctx", required_argument, NULL, OPTION_CTX },
    { "prompt", required_argument, NULL, OPTION_PROMPT },
    { "new", required_argument, NULL, OPTION_NEW },
    { "kv", required_argument, NULL, OPTION_KV },
    { "weights", required_argument, NULL, OPTION_WEIGHTS },
    { "devices", required_argument, NULL, OPTION_DEVICES },
    { "exclude", required_argument, NULL, OPTION_EXCLUDE },
    { "max-memory", required_argument, NULL, OPTION_MAX_MEMORY },
    { "max-buffer", required_argument, NULL, OPTION_MAX_BUFFER },
    { "policy", required_argument, NULL, OPTION_POLICY },
    { "pin", required_argument, NULL, OPTION_PIN },
    { "forbid", required_argument, NULL, OPTION_FORBID },
    { "rope", required_argument, NULL, OPTION_ROPE },
    { "micro-batch", required_argument, NULL, OPTION_MICRO_BATCH },
    { "dtype", required_argument, NULL, OPTION_DTYPE },
    { "probe", no_argument, NULL, OPTION_PROBE },
    { "verify", no_argument, NULL, OPTION_VERIFY },
    { "name", required_argument, NULL, OPTION_NAME },
    { "dry-run", no_argument, NULL, OPTION_DRY_RUN },
    { "json", no_argument, NULL, OPTION_JSON },
    { "format", required_argument, NULL, OPTION_FORMAT },
    { "db", required_argument, NULL, OPTION_DB },
    { "slices", required_argument, NULL, OPTION_SLICES },
    { "stream", no_argument, NULL, OPTION_STREAM },
    { "simulate", required_argument, NULL, OPTION_SIMULATE },
    { "help", no_argument, NULL, OPTION_HELP },
    { "version", no_argument, NULL, OPTION_VERSION },
    { NULL, 0, NULL, 0 },
};

static const struct option_rules rules = { ":h", long_options, "phiplan" };

static bool parse_count(const char *option, const char *text, uint32_t *count, struct error *err) {
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || value < 1 || value > INT32_MAX)
        return error_set(err, ERROR_USAGE, "--%s takes a whole number from 1 on, not '%s'", option, text);
    *count = (uint32_t)value;
    return true;
}

static bool copy_text(const char *option, char *field, size_t size, const char *text, struct error *err) {
    if (strlen(text) >= size)
        return error_set(err, ERROR_USAGE, "--%s is longer than %zu characters", option, size - 1);
    if (!*text)
        return error_set(err, ERROR_USAGE, "--%s is empty; see phiplan --help", option);
    memcpy(field, text, strlen(text) + 1);
    return true;
}

/* Options that may be given more than once add up to one list. */
static bool add_text(const char *option, char *field, size_t size, const char *text, struct error *err) {
    size_t used = strlen(field);
    if (!used)
        return copy_text(option, field, size, text, err);
    if (used + 1 + strlen(text) >= size)
        return error_set(err, ERROR_USAGE, "all --%s together are longer than %zu characters", option, size - 1);
    snprintf(field + used, size - used, ",%s", text);
    return true;
}

/* One of `allowed`; what is in `later` is planned for, and anything else a mistake. */
static bool parse_word(const char *option, char *field, size_t size, const char *text,
                       const char *const *allowed, struct error *err) {
    char known[128] = "";
    for (size_t i = 0; allowed[i]; i++) {
        if (strcmp(text, allowed[i]) == 0)
            return copy_text(option, field, size, text, err);
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "", allowed[i]);
    }
    return error_set(err, ERROR_USAGE, "--%s takes %s, not '%s'", option, known, text);
}

static const char *const policies[] = {
    "fastest", "fill", "balanced", "hf-sequential", "hf-balanced", "hf-balanced-low-0", "hf-auto", NULL
};
static const char *const kv_types[] = { "f16", "f32", "q8_0", NULL };
static const char *const weights[] = { "keep", "f16", "q8_0", "q4_0", "auto", NULL };
static const char *const ropes[] = { "auto", "short", "long", NULL };
static const char *const slices[] = { "auto", "off", NULL };
static const char *const formats[] = { "table", "json", "accelerate", "dot", "svg", NULL };   /* as enum plan_format */

static void set_format(struct plan_options *options, enum plan_format format) {
    options->format = format;
    options->json = format == FORMAT_JSON;
}

/* Also as torch spells it: float16, bfloat16, float32; int8 to count with. */
static bool parse_dtype(char field[16], const char *text, struct error *err) {
    static const struct { const char *torch, *ours; } names[] = {
        { "float16", "f16" }, { "half", "f16" }, { "bfloat16", "bf16" }, { "float32", "f32" }, { "float", "f32" },
    };
    enum tensor_type type;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcasecmp(text, names[i].torch) == 0)
            text = names[i].ours;
    if (!tensor_type_from_name(text, &type) && !accelerate_dtype_bytes(text))
        return error_set(err, ERROR_USAGE, "--dtype takes float32, float16, bfloat16, q8_0, q4_0 ..., not '%s'", text);
    return copy_text("dtype", field, 16, text, err);
}

static bool apply(struct plan_options *options, int code, const char *value, struct error *err) {
    struct plan_request *request = &options->request;
    char word[32] = "";
    switch (code) {
    case OPTION_CTX: return parse_count("ctx", value, &request->context, err);
    case OPTION_PROMPT: return parse_count("prompt", value, &request->prompt_tokens, err);
    case OPTION_NEW: return parse_count("new", value, &request->new_tokens, err);
    case OPTION_MICRO_BATCH: return parse_count("micro-batch", value, &request->micro_batch, err);
    case OPTION_KV:
        options->kv_given = true;
        return parse_word("kv", word, sizeof word, value, kv_types, err) &&
               kv_type_from_name(word, &request->kv_type);
    case OPTION_WEIGHTS:
        return parse_word("weights", request->weights, sizeof request->weights, value, weights, err);
    case OPTION_DEVICES: return add_text("devices", request->devices, sizeof request->devices, value, err);
    case OPTION_EXCLUDE: return add_text("exclude", request->exclude, sizeof request->exclude, value, err);
    case OPTION_MAX_MEMORY:
        return add_text("max-memory", request->max_memory, sizeof request->max_memory, value, err);
    case OPTION_MAX_BUFFER:
        return add_text("max-buffer", request->max_buffer, sizeof request->max_buffer, value, err);
    case OPTION_POLICY:
        if (strcmp(value, POLICY_IMPORT) == 0)
            return error_set(err, ERROR_USAGE, "a plan by a map is made from the map: phiplan import FILE MODEL");
        return parse_word("policy", request->policy, sizeof request->policy, value, policies, err);
    case OPTION_PIN: return add_text("pin", request->pins, sizeof request->pins, value, err);
    case OPTION_FORBID: return add_text("forbid", request->forbids, sizeof request->forbids, value, err);
    case OPTION_ROPE:
        return parse_word("rope", request->rope, sizeof request->rope, value, ropes, err);
    case OPTION_DTYPE: return parse_dtype(request->dtype, value, err);
    case OPTION_SLICES:
        return parse_word("slices", request->slices, sizeof request->slices, value, slices, err);
    case OPTION_FORMAT:
        if (!parse_word("format", word, sizeof word, value, formats, err))
            return false;
        for (enum plan_format format = FORMAT_TABLE; format <= FORMAT_SVG; format++)
            if (strcmp(word, formats[format]) == 0)
                set_format(options, format);
        return true;
    case OPTION_NAME:
        if (!*value || strlen(value) >= sizeof ((struct plan *)NULL)->name)
            return error_set(err, ERROR_USAGE, "--name takes 1 to %zu characters",
                             sizeof ((struct plan *)NULL)->name - 1);
        options->name = value;
        return true;
    case OPTION_DB:
        options->database = value;
        return *value || error_set(err, ERROR_USAGE, "--db is empty; give the path of the store");
    case OPTION_PROBE: options->probe = true; return true;
    case OPTION_VERIFY: options->verify = true; return true;
    case OPTION_DRY_RUN: options->dry_run = true; return true;
    case OPTION_JSON: set_format(options, FORMAT_JSON); return true;
    case OPTION_STREAM: request->stream = true; return true;
    case OPTION_SIMULATE:
        options->simulate = value;
        return *value || error_set(err, ERROR_USAGE, "--simulate is empty; give a file that describes devices");
    case OPTION_HELP: options->verb = VERB_HELP; return true;
    case OPTION_VERSION: options->verb = VERB_VERSION; return true;
    default: break;
    }
    return error_set(err, ERROR_USAGE, "unknown option; see phiplan --help");
}

static const struct { const char *word; enum plan_verb verb; } verbs[] = {
    { "plan", VERB_PLAN }, { "devices", VERB_DEVICES }, { "list", VERB_LIST }, { "show", VERB_SHOW },
    { "rm", VERB_REMOVE }, { "export", VERB_EXPORT }, { "import", VERB_IMPORT }, { "check", VERB_CHECK },
    { "gc", VERB_COLLECT }, { "why", VERB_WHY }, { "diff", VERB_DIFF }, { "help", VERB_HELP },
};

static void parse_verb(const char *word, enum plan_verb *verb, bool *is_verb) {
    *is_verb = false;
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(word, verbs[i].word) == 0) {
            *verb = verbs[i].verb;
            *is_verb = true;
        }
    }
}

const char *plan_options_nearest_verb(const char *word) {
    const char *nearest = NULL;
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (strlen(verbs[i].word) > 2 && typing_distance(word, verbs[i].word) == 1)
            nearest = verbs[i].word;
    return nearest;
}

/* What only shows once everything is read. */
static bool check_together(struct plan_options *options, bool format_given, struct error *err) {
    const enum plan_verb verb = options->verb;
    const struct plan_request *request = &options->request;
    bool makes_plan = verb == VERB_PLAN || verb == VERB_IMPORT;
    if (verb == VERB_EXPORT && !format_given)
        set_format(options, FORMAT_JSON);
    if (verb == VERB_EXPORT && options->format == FORMAT_TABLE)
        return error_set(err, ERROR_USAGE, "export writes json, accelerate, dot or svg; a table comes from phiplan show");
    if (options->format >= FORMAT_ACCELERATE && !makes_plan && verb != VERB_EXPORT)
        return error_set(err, ERROR_USAGE, "--format %s is for plans: phiplan MODEL, import and export",
                         formats[options->format]);
    if (strcmp(request->dtype, "int8") == 0 && !accelerate_is_policy(request->policy))
        return error_set(err, ERROR_USAGE, "--dtype int8 is only what the hf- policies count with; here it takes f32, f16, "
                         "bf16, q8_0, q4_0 ...");
    if (options->simulate && (!makes_plan || options->probe))
        return error_set(err, ERROR_USAGE, "--simulate is for phiplan MODEL and import, and nothing can be measured with it");
    options->dry_run = options->dry_run || options->simulate;
    if (request->stream && (verb == VERB_IMPORT || accelerate_is_policy(request->policy)))
        return error_set(err, ERROR_USAGE, "--stream goes with the policies fastest, fill and balanced, which choose what is "
                         "streamed; a map does not");
    if (verb == VERB_IMPORT && request->policy[0])
        return error_set(err, ERROR_USAGE, "--policy '%s' and the map both say where units go; leave one out",
                         request->policy);
    return true;
}

bool plan_options_parse(int argc, char **argv, struct plan_options *options, struct error *err) {
    *options = (struct plan_options){ .verb = VERB_PLAN, .request = { .kv_type = KV_F16 } };
    bool format_given = false;
    optind = 0;   /* GNU: start afresh, whatever was parsed before */
    for (int code; (code = option_rules_next(&rules, argc, argv, err)) != -1;) {
        if (code == '?' || !apply(options, code, optarg, err))
            return false;
        format_given = format_given || code == OPTION_FORMAT || code == OPTION_JSON;
        if (options->verb == VERB_HELP || options->verb == VERB_VERSION)
            return true;
    }
    bool is_verb = false;
    if (optind < argc)
        parse_verb(argv[optind], &options->verb, &is_verb);
    optind += is_verb;
    options->has_verb = is_verb;
    if (options->verb == VERB_HELP)
        return true;
    if (options->verb == VERB_IMPORT && argc - optind < 2)
        return error_set(err, ERROR_USAGE, "import wants a FILE with the map and a MODEL; see phiplan --help");
    if (options->verb == VERB_IMPORT)
        options->file = argv[optind++];
    if (optind < argc)
        options->subject = argv[optind++];
    if (optind < argc && (options->verb == VERB_WHY || options->verb == VERB_DIFF))
        options->second = argv[optind++];
    if (optind < argc)
        return error_set(err, ERROR_USAGE, "'%s' is one argument too many; see phiplan --help", argv[optind]);
    bool wants_subject = options->verb == VERB_PLAN || options->verb == VERB_REMOVE;
    if (wants_subject && !options->subject)
        return error_set(err, ERROR_USAGE, options->verb == VERB_PLAN
                             ? "no MODEL given: a directory, a .gguf file or org/name; see phiplan --help"
                             : "no PLAN given: an id from phiplan list, or a MODEL");
    if ((options->verb == VERB_DEVICES || options->verb == VERB_LIST || options->verb == VERB_COLLECT) && options->subject)
        return error_set(err, ERROR_USAGE, "'%s' is one argument too many; see phiplan --help", options->subject);
    if (options->verb == VERB_WHY && !options->subject)
        return error_set(err, ERROR_USAGE, "no DEVICE given: phiplan why gpu0, or phiplan why PLAN gpu0");
    if (options->verb == VERB_DIFF && !options->second)
        return error_set(err, ERROR_USAGE, "diff wants two plans: phiplan diff 1 2; phiplan list shows them");
    return check_together(options, format_given, err);
}
