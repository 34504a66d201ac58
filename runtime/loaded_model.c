#include "runtime/loaded_model.h"

#include "common/opencl.h"
#include "common/progress_bar.h"
#include "runtime/device_worker.h"
#include "common/typed_command.h"
#include "runtime/tokenizer_image.h"
#include "common/weight_choice.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool show_hash(void *bar, uint64_t done, uint64_t total) {
    progress_bar_show(bar, done, total);
    return !interrupted_by;
}

static bool find_hashes(struct loaded_model *loaded, const struct run_options *options, struct error *err) {
    struct hash_cache cache = plan_store_hash_cache(loaded->store);
    struct progress_bar bar = progress_bar_of("phirun", "hashing the weights");
    if (options->verify)
        cache.find = NULL;
    bool ok = model_hash(loaded->model, &cache, show_hash, &bar, &loaded->hashes, err);
    progress_bar_clear(&bar);
    if (!ok && interrupted_by)
        error_set(err, ERROR_INTERRUPTED, "interrupted while hashing");
    return ok;
}

/* The command that makes a plan again as it was asked for, or (NULL) one where there is none. */
static void repair_command(const struct run_options *options, const struct plan *plan,
                           char command[TYPED_COMMAND_SIZE]) {
    typed_phiplan(command, options->model, plan ? &plan->request : NULL, 0, plan ? plan->name : options->plan_name,
                  options->db);
}

static bool say_changed(const struct loaded_model *loaded, const struct run_options *options,
                        const struct plan *plan, struct error *err) {
    char command[TYPED_COMMAND_SIZE];
    repair_command(options, plan, command);
    return error_set(err, ERROR_STALE, "the files of model '%s' changed since plan %" PRId64
                     ": weights hash was '%.12s...' and is '%.12s...'; run: %s", options->model, plan->id,
                     plan->weights_hash, loaded->hashes.weights, command);
}

/* No plan under these weights: if the same path was planned before, its files
 * have changed. */
static bool explain_no_plan(const struct loaded_model *loaded, const struct run_options *options, struct error *err) {
    struct plan **plans = NULL;
    uint32_t count = 0;
    char command[TYPED_COMMAND_SIZE];
    repair_command(options, NULL, command);
    if (!plan_store_list_plans(loaded->store, false, &plans, &count, err))
        return false;
    error_set(err, ERROR_NO_PLAN, "no plan '%s' for model '%s' on this machine; run: %s",
              options->plan_name, options->model, command);
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(plans[i]->model_path, loaded->source.path) == 0
            && strcmp(plans[i]->name, options->plan_name) == 0) {
            say_changed(loaded, options, plans[i], err);
            break;
        }
    plan_store_free_plans(plans, count);
    return false;
}

/* Where no plan of the model has the name, it may be the number of one, current or superseded. */
static bool find_numbered(const struct loaded_model *loaded, const struct run_options *options,
                          struct plan ***plans, uint32_t *count, struct error *err) {
    int64_t id;
    if (*count || !plan_id_read(options->plan_name, &id))
        return true;
    struct plan *plan = plan_store_load_plan(loaded->store, id, err);
    if (!plan)
        return false;
    struct plan **list = NULL;
    if (strcmp(plan->weights_hash, loaded->hashes.weights) == 0) {
        list = malloc(sizeof *list);
        if (!list)
            error_set(err, ERROR_FAILED, "cannot take plan %" PRId64 ": out of memory", id);
    } else if (strcmp(plan->model_path, loaded->source.path) == 0) {
        say_changed(loaded, options, plan, err);
    } else {
        error_set(err, ERROR_NO_PLAN, "plan %" PRId64 " is of model '%s', not of '%s'; phiplan list shows all", id,
                  plan->model_name, options->model);
    }
    if (!list) {
        plan_free(plan);
        return false;
    }
    free(*plans);
    list[0] = plan;
    *plans = list;
    *count = 1;
    return true;
}

static bool devices_are_present(const struct plan *plan, const struct opencl_devices *present) {
    for (uint32_t i = 0; i < plan->device_count; i++)
        if (plan_device_holds(plan, (int32_t)i) && !opencl_find(present, &plan->devices[i].device))
            return false;
    return true;
}

/* Whether all the drivers are among those that the user's variables select. */
static bool are_selected(const char *const *icds, uint32_t count, bool *selected, struct error *err) {
    char **listed;
    uint32_t listed_count;
    *selected = true;
    if (!opencl_selecting_variable())
        return true;
    if (!opencl_list_icds(&listed, &listed_count, err))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        bool found = false;
        for (uint32_t j = 0; j < listed_count && !found; j++)
            found = strcmp(icds[i], listed[j]) == 0;
        *selected = *selected && found;
    }
    opencl_free_icds(listed, listed_count);
    return true;
}

/* Show the loader just the plans' drivers: enumerating others costs time and may crash. Where the user
 * selects drivers, and one of these is not among them, it sees what the user selects. */
static bool choose_icds(struct plan *const *plans, uint32_t count, struct error *err) {
    const char *paths[64];
    uint32_t used = 0;
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < plans[i]->device_count; j++) {
            const char *icd = plans[i]->devices[j].device.icd;
            bool known = !plan_device_holds(plans[i], (int32_t)j) || !icd[0] || access(icd, R_OK) != 0;
            for (uint32_t k = 0; k < used && !known; k++)
                known = strcmp(paths[k], icd) == 0;
            if (!known && used < 64)
                paths[used++] = icd;
        }
    bool selected;
    return are_selected(paths, used, &selected, err) && opencl_choose_icds(paths, selected ? used : 0, err);
}

/* In time for the settings, which need it for end tokens, bad words and grammars. */
static bool open_tokenizer(struct loaded_model *loaded, const struct run_options *options,
                           const struct load_request *request, const char *image_path, struct error *err) {
    struct error no_tokenizer = { 0 };
    bool from_image;
    if (!request->needs_tokenizer && !request->wants_tokenizer)
        return true;
    loaded->tokenizer = tokenizer_open_image(&loaded->source, &loaded->hashes, image_path, &from_image,
                                             &no_tokenizer);
    if (loaded->tokenizer && !from_image && options->verbose)
        fprintf(stderr, "phirun: the tokenizer had to be read from the model's files\n");
    if (loaded->tokenizer)
        return true;
    if (request->needs_tokenizer) {
        *err = no_tokenizer;
        return false;
    }
    fprintf(stderr, "phirun: no text will be shown: %s\n", no_tokenizer.text);
    return true;
}

/* Loading drivers takes longer than all else of a start. */
struct enumeration {
    struct worker_message message;
    struct opencl_devices present;
    struct error err;
    bool ok;
};

static void enumerate(struct worker_message *message) {
    struct enumeration *enumeration = (struct enumeration *)((char *)message - offsetof(struct enumeration, message));
    enumeration->ok = opencl_enumerate(&enumeration->present, NULL, &enumeration->err);
}

/* The devices that are here; meanwhile the tokenizer, which is read from files alone. */
static bool enumerate_beside(struct enumeration *enumeration, struct loaded_model *loaded,
                             const struct run_options *options, const struct load_request *request,
                             struct error *err) {
    struct device_worker *worker = device_worker_new("drivers", err);
    struct error no_tokenizer = { 0 };
    if (!worker)
        return false;
    char *image_path = tokenizer_image_path(&loaded->hashes);   /* while nothing changes the environment */
    enumeration->message.run = enumerate;
    device_worker_post(worker, &enumeration->message);
    bool has_tokenizer = open_tokenizer(loaded, options, request, image_path, &no_tokenizer);
    device_worker_free(worker);
    free(image_path);
    *err = enumeration->ok ? no_tokenizer : enumeration->err;
    return enumeration->ok && has_tokenizer;
}

static bool find_plan(struct loaded_model *loaded, const struct run_options *options,
                      const struct load_request *request, struct error *err) {
    struct plan **plans = NULL;
    uint32_t count = 0, chosen = 0;
    struct enumeration enumeration = { 0 };
    bool ok = false;
    if (!find_hashes(loaded, options, err)
        || !plan_store_find_plans(loaded->store, loaded->hashes.weights, options->plan_name, &plans, &count, err)
        || !find_numbered(loaded, options, &plans, &count, err)) {
        plan_store_free_plans(plans, count);
        return false;
    }
    if (!count) {
        explain_no_plan(loaded, options, err);
        goto cleanup;
    }
    if (!choose_icds(plans, count, err) || !enumerate_beside(&enumeration, loaded, options, request, err))
        goto cleanup;
    while (chosen < count && !devices_are_present(plans[chosen], &enumeration.present))
        chosen++;
    if (chosen == count)
        chosen = 0;   /* none fits: the engine says what the newest one misses */
    ok = plan_validate(plans[chosen], err) && model_take_formats(loaded->model, plans[chosen], err);
    if (!ok) {
        char command[TYPED_COMMAND_SIZE];
        repair_command(options, plans[chosen], command);
        error_set(err, err->kind, "%s; run: %s", err->text, command);
        goto cleanup;
    }
    loaded->plan = plans[chosen];
    plans[chosen] = plans[--count];
cleanup:
    opencl_devices_release(&enumeration.present);
    plan_store_free_plans(plans, count);
    return ok;
}

static bool open_store(struct loaded_model *loaded, const struct run_options *options,
                       struct error *err) {
    char *path = options->db ? strdup(options->db) : plan_store_default_path(err);
    if (!path)
        return options->db ? error_set(err, ERROR_FAILED, "cannot open the store: out of memory") : false;
    loaded->store = plan_store_open(path, STORE_EXISTING, err);
    free(path);
    if (!loaded->store && err->kind == ERROR_NO_PLAN) {
        char command[TYPED_COMMAND_SIZE];
        repair_command(options, NULL, command);
        error_set(err, ERROR_NO_PLAN, "no plan for model '%s' yet; run: %s", options->model, command);
    }
    if (loaded->store && plan_store_is_read_only(loaded->store))
        fprintf(stderr, "phirun: the store is read-only: this run is not recorded\n");
    return loaded->store != NULL;
}

/* Works all the same, only slower: not worth refusing to start. */
static void say_unpacked(const struct loaded_model *loaded, const struct run_options *options) {
    const struct engine_unpacked *unpacked = engine_unpacked(loaded->engine);
    char command[TYPED_COMMAND_SIZE];
    if (!unpacked->count)
        return;
    repair_command(options, loaded->plan, command);
    text_defuse(command, false);   /* the store may be somebody else's */
    fprintf(stderr, "phirun: %u units had to be packed in memory: %s; for a faster start run: %s\n",
            unpacked->count, unpacked->reason, command);
}

/* The plan's kernels lie in the store, unless something came between. */
static void say_compiled(const struct loaded_model *loaded, const struct run_options *options) {
    struct engine_compiled compiled = engine_compiled(loaded->engine);
    if (options->verbose && compiled.count)
        fprintf(stderr, "phirun: %u program%s had to be compiled, %u of them kept for the next start%s%s\n",
                compiled.count, compiled.count == 1 ? "" : "s", compiled.kept, compiled.reason[0] ? ": " : "",
                compiled.reason);
}

bool loaded_model_open(struct loaded_model *loaded, const struct run_options *options,
                       const struct load_request *request, struct error *err) {
    double started = seconds_now();
    *loaded = (struct loaded_model){ 0 };
    if (!model_source_resolve(&loaded->source, options->model, err))
        return false;
    if (loaded->source.from_hub)
        fprintf(stderr, "phirun: %s is %s\n", options->model, loaded->source.path);
    loaded->model = model_open(&loaded->source, NULL, err);
    if (!loaded->model || !open_store(loaded, options, err) || !find_plan(loaded, options, request, err))
        return false;
    uint32_t sequences = request->sequence_count, rows = request->logit_rows;
    if (request->settings) {
        if (!generation_settings_make(request->settings, loaded->model, loaded->tokenizer, options, err))
            return false;
        sequences = sequences ? sequences : generation_settings_sequences(request->settings);
        rows = rows ? rows : request->settings->speculate ? 8 : sequences < 8 ? sequences : 8;
    }
    char **artifact_paths;
    bool gemm_types[PLAN_MAX_DEVICES][TENSOR_TYPE_COUNT] = { 0 };
    for (uint32_t d = 0; d < loaded->plan->device_count; d++)
        if (plan_device_holds(loaded->plan, (int32_t)d) &&
            !plan_store_gemm_types(loaded->store, &loaded->plan->devices[d].device, gemm_types[d], err))
            return false;
    if (!plan_store_artifact_paths(loaded->store, loaded->plan, &artifact_paths, err))
        return false;
    const struct kernel_store kernels = plan_store_kernels(loaded->store);
    struct engine_options engine_options = { .exact = options->exact, .logit_rows = rows,
                                             .sequence_count = sequences,
                                             .keep_pages = options->prompt_cache != NULL,
                                             .measure_hops = options->verbose,
                                             .kernels = &kernels, .store_path = options->db,
                                             .artifact_paths = (const char *const *)artifact_paths,
                                             .gemm_types = (const bool (*)[TENSOR_TYPE_COUNT])gemm_types,
                                             .interrupted = &interrupted_by };
    loaded->engine = engine_open(loaded->model, loaded->plan, &engine_options, err);
    for (uint32_t i = 0; i < loaded->plan->shard_count; i++)
        free(artifact_paths[i]);
    free(artifact_paths);
    if (!loaded->engine)
        return false;
    say_unpacked(loaded, options);
    say_compiled(loaded, options);
    loaded->load_seconds = seconds_now() - started;
    return true;
}

void loaded_model_close(struct loaded_model *loaded) {
    engine_close(loaded->engine);
    tokenizer_close(loaded->tokenizer);
    plan_free(loaded->plan);
    plan_store_close(loaded->store);
    model_close(loaded->model);
    model_source_release(&loaded->source);
    opencl_shutdown();
    *loaded = (struct loaded_model){ 0 };
}

enum rope_policy loaded_model_rope(const struct loaded_model *loaded,
                                   const struct run_options *options) {
    enum rope_policy policy = ROPE_AUTO;
    if (options->has_rope)
        return options->rope;
    rope_policy_from_name(loaded->plan->request.rope, &policy);
    return policy;
}

#define REPORT_CAPACITY (PLAN_MAX_DEVICES + 1)

void loaded_model_report(const struct loaded_model *loaded) {
    struct engine_device_report reports[REPORT_CAPACITY];
    uint32_t count = engine_report(loaded->engine, reports, REPORT_CAPACITY);
    fprintf(stderr, "%-8s %15s %15s %15s %9s %9s %9s\n", "device", "bytes planned", "bytes loaded",
            "allocated", "load s", "prefill s", "decode s");
    for (uint32_t i = 0; i < count; i++)
        fprintf(stderr, "%-8s %15" PRIu64 " %15" PRIu64 " %15" PRIu64 " %9.3f %9.3f %9.3f\n",
                reports[i].device, reports[i].bytes_planned, reports[i].bytes_loaded,
                reports[i].bytes_allocated, reports[i].load_seconds, reports[i].prefill_seconds,
                reports[i].decode_seconds);
    for (uint32_t i = 0; i < count; i++)
        for (int way = 0; way < HOP_WAYS; way++) {
            const struct hop_times *hops = &reports[i].hops[way];
            if (hops->count)
                fprintf(stderr, "%s got %" PRIu64 " tokens from other devices %s, %.3f ms a hop\n", reports[i].device,
                        hops->count, hop_way_phrase((enum hop_way)way), 1e3 * hops->seconds / (double)hops->count);
        }
    for (uint32_t i = 0; i < count; i++)
        if (reports[i].bytes_streamed)
            fprintf(stderr, "%s streamed %.1f MB; %" PRIu64 " of %" PRIu64 " portions were late, %.3f s in all\n",
                    reports[i].device, 1e-6 * (double)reports[i].bytes_streamed, reports[i].pieces_late,
                    reports[i].pieces_streamed, reports[i].stream_wait_seconds);
}

void loaded_model_record(const struct loaded_model *loaded, struct run_record *run) {
    struct engine_device_report reports[REPORT_CAPACITY];
    uint32_t count = engine_report(loaded->engine, reports, REPORT_CAPACITY);
    run->plan = loaded->plan->id;
    for (uint32_t i = 0; i < count; i++) {
        const struct { const char *phase; double seconds; uint64_t bytes; } phases[] = {
            { "load", reports[i].load_seconds, reports[i].bytes_loaded },
            { "prefill", reports[i].prefill_seconds, 0 },
            { "decode", reports[i].decode_seconds, 0 },
        };
        for (size_t j = 0; j < 3; j++) {
            struct run_device_record *row = &run->devices[run->device_count++];
            snprintf(row->device, sizeof row->device, "%s", reports[i].device);
            snprintf(row->phase, sizeof row->phase, "%s", phases[j].phase);
            row->seconds = phases[j].seconds;
            row->bytes = phases[j].bytes;
        }
    }
}

void loaded_model_add_run(const struct loaded_model *loaded, struct run_record *run) {
    struct error not_kept = { 0 };
    loaded_model_record(loaded, run);
    if (!plan_store_add_run(loaded->store, run, &not_kept))
        fprintf(stderr, "phirun: this run was not recorded: %s\n", not_kept.text);
}
