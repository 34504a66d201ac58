/* phiplan MODEL: the way from the options to a stored plan. */
#include "common/host_memory.h"
#include "common/progress_bar.h"
#include "planner/plan_commands.h"

#include "planner/build_programs.h"
#include "planner/machine.h"
#include "planner/pack_units.h"
#include "planner/plan_make.h"
#include "planner/rates_note.h"
#include "planner/simulate.h"
#include "planner/stream_rate.h"
#include "planner/weights_option.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct plan_store *command_open_store(const struct command *command, enum store_mode mode, struct error *err) {
    if (command->options->database)
        return plan_store_open(command->options->database, mode, err);
    char *path = plan_store_default_path(err);
    struct plan_store *store = path ? plan_store_open(path, mode, err) : NULL;
    free(path);
    return store;
}

struct model *command_open_model(const struct command *command, const char *argument, struct error *err) {
    struct model_source source = { 0 };
    struct model_options options = { .headers_optional = command->options->dry_run };
    struct model *model = NULL;
    if (command->options->request.dtype[0])
        options.has_assumed_type = tensor_type_from_name(command->options->request.dtype, &options.assumed_type);
    if (model_source_resolve(&source, argument, err)) {
        if (source.from_hub)
            command_say("'%s' is %s", argument, source.path);
        model = model_open(&source, &options, err);
    }
    model_source_release(&source);
    return model;
}

/* ---- hashes ---- */

struct hashing { const struct command *command; struct progress_bar bar; };

static bool show_hash(void *context, uint64_t done, uint64_t total) {
    struct hashing *progress = context;
    progress_bar_show(&progress->bar, done, total);
    return !*progress->command->interrupted;
}

static bool find_nothing(void *context, const char *path, char hex[65]) {
    (void)context, (void)path, (void)hex;
    return false;
}

bool command_hash_model(const struct command *command, const struct model *model, struct plan_store *store,
                        struct model_hashes *hashes, struct error *err) {
    struct hashing progress = { command, progress_bar_of("phiplan", "hashing the weights") };
    struct hash_cache cache = plan_store_hash_cache(store);
    if (command->options->verify)
        cache.find = find_nothing;
    bool ok = model_hash(model, &cache, show_hash, &progress, hashes, err);
    progress_bar_clear(&progress.bar);
    if (!ok && *command->interrupted)
        error_set(err, ERROR_INTERRUPTED, "interrupted while hashing '%s'; no plan was changed", model->name);
    return ok;
}

bool command_print(struct text *text, struct error *err) {
    if (text->failed)
        return error_set(err, ERROR_FAILED, "cannot print the result: out of memory");
    text_defuse(text->bytes, true);
    errno = 0;
    if (fwrite(text->bytes, 1, text->length, stdout) != text->length || fflush(stdout) != 0)
        return error_set(err, ERROR_FAILED, "cannot write to standard output: %s",
                         errno ? strerror(errno) : "it was closed");
    return true;
}

void command_say(const char *format, ...) {
    char sentence[8192];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    text_defuse(sentence, false);
    fprintf(stderr, "phiplan: %s\n", sentence);
}

void command_say_lines(const struct text *lines) {
    for (const char *line = lines->bytes; *line;) {
        const size_t length = strcspn(line, "\n");
        command_say("%.*s", (int)length, line);
        line += length + (line[length] == '\n');
    }
}

/* ---- the plan ---- */

/* Only the devices that hold something count. */
static bool set_hardware_key(struct plan *plan, struct error *err) {
    const struct device *used[PLAN_MAX_DEVICES];
    uint32_t count = 0;
    for (uint32_t d = 0; d < plan->device_count; d++)
        if (plan_device_holds(plan, (int32_t)d))
            used[count++] = &plan->devices[d].device;
    return device_hardware_key(used, count, plan->hardware_key, err);
}

static bool report(const struct command *command, const struct made_plan *made, const struct model *model,
                   const struct machine *machine, const struct weights_figures *weights, struct error *err) {
    char note[RATES_NOTE_SIZE];
    uint64_t stored[TENSOR_TYPE_COUNT];
    model_stored_bytes(model, stored);
    const uint32_t weighed_count = weights ? sizeof weights_auto_types / sizeof *weights_auto_types : 0;
    struct plan_extra extra = { .alternatives = made->alternatives, .alternative_count = made->alternative_count,
                                .weight_type = main_weight_type(made->plan, stored),
                                .is_dry_run = command->options->dry_run,
                                .is_simulated = command->options->simulate != NULL,
                                .rates_note = rates_note(machine, model, made->plan, weights_auto_types, weighed_count,
                                                         note),
                                .weights = weights, .weights_count = weights ? WEIGHTS_CANDIDATES : 0 };
    if (model_chosen_bytes(model) != model_weight_bytes(model))
        extra.stored_bytes = model_weight_bytes(model);
    struct text text;
    text_init(&text);
    bool ok = true;
    if (command->options->format == FORMAT_ACCELERATE)
        ok = command_accelerate_text(made->plan, &text, err);
    else if (command->options->format == FORMAT_DOT || command->options->format == FORMAT_SVG)
        command_picture_text(made->plan, model, machine, command->options->format == FORMAT_DOT, &text);
    else if (command->options->json)
        ok = plan_report_json(made->plan, &extra, &text, err);
    else
        plan_report_table(made->plan, &extra, &text);
    ok = ok && command_print(&text, err);
    text_release(&text);
    return ok;
}

/* What phirun is to multiply passes with, by device and type. */
static bool save_tuning(struct plan_store *store, const struct machine *machine, const struct plan *plan,
                        struct error *err) {
    for (uint32_t d = 0; d < machine->devices.count; d++) {
        const struct device *device = &machine->devices.devices[d];
        const struct device_rates *rates = &machine->rates[d];
        bool is_used = false;
        for (uint32_t i = 0; i < plan->device_count; i++)
            is_used = is_used || (plan->devices[i].weight_bytes &&
                                  strcmp(plan->devices[i].device.short_name, device->short_name) == 0);
        for (int t = 0; is_used && t < TENSOR_TYPE_COUNT; t++) {
            struct tuning_choice choice = { .operation = "matmul", .unordered = true };
            if (!(rates->gemm_prefill_ops_per_s[t] > 0))
                continue;
            snprintf(choice.format, sizeof choice.format, "%s", tensor_type_info((enum tensor_type)t)->name);
            choice.seconds = 1e9 / rates->gemm_prefill_ops_per_s[t];
            if (device_rates_prefer_gemm(rates, (enum tensor_type)t)) {
                snprintf(choice.variant, sizeof choice.variant, "clblast");
                command_say("'%s' multiplies passes of %s weights by CLBlast, %.1f times as fast; its sums are in an "
                            "order of their own, so that results there may differ in their last bits",
                            device->short_name, choice.format,
                            rates->gemm_prefill_ops_per_s[t] / rates->prefill_ops_per_s[t]);
            }
            if (!plan_store_save_tuning(store, device, &choice, err))
                return false;
        }
    }
    return true;
}

static bool save(const struct command *command, struct made_plan *made, const struct model *model,
                 const struct machine *machine, struct plan_store *store, const struct model_hashes *hashes,
                 struct error *err) {
    struct plan *plan = made->plan;
    int64_t row;
    if (*command->interrupted)
        return error_set(err, ERROR_INTERRUPTED, "interrupted; no plan was changed");
    snprintf(plan->weights_hash, sizeof plan->weights_hash, "%s", hashes->weights);
    snprintf(plan->text_hash, sizeof plan->text_hash, "%s", hashes->text);
    return plan_store_save_model(store, model, hashes, &row, err) && save_tuning(store, machine, plan, err) &&
           pack_units(command, model, store, plan, err) && build_programs(command, model, store, plan, err) &&
           plan_store_save_plan(store, row, plan, err);
}

/* What was asked for may be more than the files hold. */
static void say_kept(const struct model *model, const char *weights) {
    uint64_t stored[TENSOR_TYPE_COUNT];
    enum tensor_type type;
    for (uint32_t u = 0; u < unit_count(model); u++)
        if (model_unit_conversion(model, unit_at(model, u), &type))
            return;
    model_stored_bytes(model, stored);
    command_say("--weights %s changes nothing: the weights are %s already and kept as they are", weights,
                main_weight_type(NULL, stored));
}

/* What is no model may have been meant as a command. */
static void mention_commands(const struct plan_options *options, struct error *err) {
    const char *nearest = plan_options_nearest_verb(options->subject);
    struct error reason = *err;
    if (options->has_verb || strpbrk(options->subject, "/.") || access(options->subject, F_OK) == 0)
        return;
    if (nearest)
        error_set(err, reason.kind, "%s; or the command '%s', see phiplan --help", reason.text, nearest);
    else
        error_set(err, reason.kind, "%s; or a command, see phiplan --help", reason.text);
}

bool command_make_plan(const struct command *command, const struct plan_request *wanted,
                       const struct device_map *map, struct error *err) {
    const struct plan_options *options = command->options;
    struct plan_request request = *wanted;
    struct model_hashes hashes;
    struct host_memory host;
    struct machine machine = { 0 };
    struct made_plan made = { 0 };
    struct plan_store *store = NULL;
    struct text notes;
    bool ok = false;
    text_init(&notes);
    struct model *model = command_open_model(command, options->subject, err);
    if (!model)
        mention_commands(options, err);
    if (!model || !host_memory_read(&host, err) || !request_complete(&request, model, err))
        goto cleanup;
    /* A dry run only reads, and does without a store that it cannot read. */
    store = command_open_store(command, options->dry_run ? STORE_EXISTING : STORE_CREATE,
                               options->dry_run ? NULL : err);
    if (!store && !options->dry_run)
        goto cleanup;
    const bool chooses = strcmp(request.weights, "auto") == 0;
    struct weights_figures figures[WEIGHTS_CANDIDATES];
    if (!weights_apply(model, chooses ? "keep" : request.weights)) {
        error_set(err, ERROR_USAGE, "--weights '%s' is not known; see phiplan --help", request.weights);
        goto cleanup;
    }
    if (!chooses && strcmp(request.weights, "keep") != 0)
        say_kept(model, request.weights);
    struct machine_request survey = { .model = model, .plan = &request, .store = store, .host = &host,
                                      .measure_again = options->probe, .is_dry_run = options->dry_run,
                                      .also_types = weights_auto_types,
                                      .also_count = chooses ? sizeof weights_auto_types / sizeof *weights_auto_types : 0,
                                      .names_devices = map != NULL, .interrupted = command->interrupted };
    if (options->simulate ? !machine_simulate(options->simulate, &machine, &host, err)
                          : !machine_survey(&survey, &machine, err))
        goto cleanup;

    struct sizing_source source = { .model = model, .devices = &machine.devices, .rates = machine.rates,
                                    .memory_bytes = machine.memory_bytes, .host = &host, .map = map };
    if (request.stream && !options->dry_run)
        source.stream_bytes_per_s = stream_rate_measure(model, &host);
    bool planned = chooses ? weights_choose(model, &source, &request, &made, figures, &notes, err)
                           : plan_make(&source, &request, &made, &notes, err);
    command_say_lines(&notes);
    if (!planned)
        goto cleanup;
    snprintf(made.plan->name, sizeof made.plan->name, "%s", options->name ? options->name : "default");
    if (!machine.is_assumed && !machine.simulated_from && !set_hardware_key(made.plan, err))
        goto cleanup;
    if (!options->dry_run && (!command_hash_model(command, model, store, &hashes, err) ||
                              !save(command, &made, model, &machine, store, &hashes, err)))
        goto cleanup;
    ok = report(command, &made, model, &machine, chooses ? figures : NULL, err);

cleanup:
    made_plan_release(&made);
    machine_release(&machine);
    plan_store_close(store);
    model_close(model);
    text_release(&notes);
    return ok;
}

bool plan_command_devices(const struct command *command, struct error *err) {
    struct host_memory host;
    struct machine machine = { 0 };
    struct text text;
    text_init(&text);
    struct machine_request survey = { .host = &host, .interrupted = command->interrupted };
    bool ok = host_memory_read(&host, err) && machine_survey(&survey, &machine, err);
    if (ok && command->options->json)
        ok = device_report_json(&machine.devices, &text, err);
    else if (ok)
        device_report_table(&machine.devices, &text);
    if (ok && !machine.devices.count && !command->options->json)
        command_say("this machine has no OpenCL driver; install one such as pocl-opencl-icd");
    ok = ok && command_print(&text, err);
    text_release(&text);
    machine_release(&machine);
    return ok;
}
