#include "tests/support_engine.h"

#include "common/unit_weights.h"
#include "common/weight_choice.h"
#include "tests/support.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Only PoCL's driver: others take their time to start, and sanitizers see leaks in them. */
static bool choose_pocl(struct error *err) {
    char **paths, pocl[PATH_MAX] = "";
    uint32_t count;
    if (!opencl_list_icds(&paths, &count, err))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        if (strstr(paths[i], "pocl"))
            snprintf(pocl, sizeof pocl, "%s", paths[i]);
        free(paths[i]);
    }
    free(paths);
    const char *chosen = pocl;
    return opencl_choose_icds(&chosen, pocl[0] != '\0', err);
}

static const char *chosen_devices = "pthread basic";

void support_choose_devices(const char *names) {
    chosen_devices = names;
}

const struct opencl_devices *support_devices(void) {
    static struct opencl_devices pocl;
    static bool is_known;
    if (!is_known) {
        struct error err = { 0 };
        is_known = true;
        setenv("POCL_DEVICES", chosen_devices, 1);
        ASSERT_OK(choose_pocl(&err), err);
        atexit(opencl_shutdown);
        if (!opencl_enumerate(&pocl, NULL, &err)) {
            print_message("# %s\n", err.text);
            return NULL;
        }
        uint32_t kept = 0;
        for (uint32_t i = 0; i < pocl.count; i++)
            if (strcmp(pocl.devices[i].info.platform, "Portable Computing Language") == 0)
                pocl.devices[kept++] = pocl.devices[i];
        pocl.count = kept;
        /* The order of enumeration is PoCL's own: the one with several threads first. */
        for (uint32_t i = 1; i < kept; i++)
            if (strncmp(pocl.devices[i].info.name, "pthread", 7) == 0) {
                struct opencl_device first = pocl.devices[0];
                pocl.devices[0] = pocl.devices[i];
                pocl.devices[i] = first;
            }
    }
    return pocl.count ? &pocl : NULL;
}

static int32_t device_of(const struct model *model, uint32_t unit, const struct rig_options *options) {
    if (unit == 0 && !options->embed_on_device)
        return PLAN_HOST;
    if (options->alternates)
        return unit_at(model, unit).kind == UNIT_FFN;
    return options->split && unit >= options->split;
}

static bool place_units(struct rig *rig, const struct rig_options *options, struct error *err) {
    const struct opencl_devices *devices = support_devices();
    struct plan *plan = rig->plan;
    plan->device_count = devices->count < PLAN_MAX_DEVICES ? devices->count : PLAN_MAX_DEVICES;
    for (uint32_t i = 0; i < plan->device_count; i++)
        plan->devices[i].device = devices->devices[i].info;
    plan->unit_count = unit_count(rig->model);
    for (uint32_t unit = 0; unit < plan->unit_count; unit++) {
        struct unit place = unit_at(rig->model, unit);
        struct shard shard = { .unit = unit, .device = device_of(rig->model, unit, options),
                               .part_end = unit_part_count(rig->model, place),
                               .weight_bytes = unit_part_stored_bytes(rig->model, place,
                                                                      unit_all_parts(rig->model, place)) };
        shard_format_write(rig->model, place, options->packed ? LAYOUT_R16 : LAYOUT_ROWS, shard.format);
        if (!plan_add_shard(plan, &shard, err))
            return false;
    }
    return true;
}

bool rig_prepare(struct rig *rig, const char *path, const struct rig_options *options, struct error *err) {
    *rig = (struct rig){ 0 };
    struct model_source source;
    if (!model_source_resolve(&source, path, err))
        return false;
    rig->model = model_open(&source, options->model, err);
    model_source_release(&source);
    rig->plan = plan_new();
    if (!rig->model || !rig->plan) {
        rig_close(rig);
        return false;
    }
    for (uint32_t unit = 0; options->converts && unit < unit_count(rig->model); unit++)
        model_convert_unit(rig->model, unit_at(rig->model, unit), options->converted_type);
    struct plan *plan = rig->plan;
    snprintf(plan->name, sizeof plan->name, "default");
    plan_record_environment(plan);
    plan->numeric = model_numeric_class(rig->model, false);
    plan->request.context = options->context ? options->context : 384;
    plan->request.micro_batch = options->micro_batch;
    plan->request.kv_type = options->kv_type;
    if (place_units(rig, options, err))
        return true;
    rig_close(rig);
    return false;
}

bool rig_start(struct rig *rig, const struct rig_options *options, struct error *err) {
    struct engine_options how = { .exact = options->exact, .sequence_count = options->sequence_count,
                                  .logit_rows = options->logit_rows, .interrupted = options->interrupted,
                                  .watchdog_seconds = options->watchdog_seconds,
                                  .artifact_paths = options->artifact_paths, .gemm_types = options->gemm_types,
                                  .discrete = options->discrete, .apart = options->apart,
                                  .keep_pages = options->keep_pages, .measure_hops = options->measure_hops };
    rig->engine = engine_open(rig->model, rig->plan, &how, err);
    return rig->engine != NULL;
}

bool rig_open(struct rig *rig, const char *path, const struct rig_options *options, struct error *err) {
    if (!rig_prepare(rig, path, options, err))
        return false;
    if (rig_start(rig, options, err))
        return true;
    rig_close(rig);
    return false;
}

void rig_close(struct rig *rig) {
    engine_close(rig->engine);
    plan_free(rig->plan);
    model_close(rig->model);
    *rig = (struct rig){ 0 };
}

uint32_t support_slice_plan(struct rig *rig, uint32_t seed) {
    struct plan *plan = rig->plan;
    uint32_t sliced = 0;
    struct error err = { 0 };
    struct shard *whole = calloc(plan->shard_count, sizeof *whole);
    assert_non_null(whole);
    memcpy(whole, plan->shards, plan->shard_count * sizeof *whole);
    assert_int_equal(plan->shard_count, plan->unit_count);
    plan->shard_count = 1;
    for (uint32_t unit = 1; unit < plan->unit_count; unit++) {
        const struct unit place = unit_at(rig->model, unit);
        const uint32_t parts = unit_part_count(rig->model, place);
        uint32_t used = 0, device = 0;
        for (uint32_t begin = 0, end; begin < parts; begin = end) {
            seed = seed * 1664525u + 1013904223u;
            end = begin + 1 + (seed >> 8) % parts;
            bool is_last = used + 1 >= plan->device_count || end > parts;
            /* Another device for each slice: the first is any, the others follow it. */
            device = used ? (device + 1) % plan->device_count : (seed >> 4) % plan->device_count;
            end = is_last ? parts : end;
            struct shard shard = whole[unit];
            shard.device = (int32_t)device;
            shard.part_begin = begin;
            shard.part_end = end;
            shard.weight_bytes = unit_part_stored_bytes(rig->model, place, (struct part_range){ begin, end });
            ASSERT_OK(plan_add_shard(plan, &shard, &err), err);
            used++;
        }
        sliced += used > 1;
    }
    free(whole);
    return sliced;
}

int32_t support_token(uint32_t position, uint32_t vocab) {
    return (int32_t)((position * 193 + 7) % (vocab - 1));
}

float *support_logits(struct engine *engine, const struct support_passes *passes) {
    struct error err = { 0 };
    const uint32_t vocab = engine_model(engine)->vocab_size, all = passes->tokens;
    float *logits = calloc((size_t)all * vocab, sizeof *logits);
    int32_t *tokens = calloc(all, sizeof *tokens), *positions = calloc(all, sizeof *positions);
    int32_t *sequences = calloc(all, sizeof *sequences);
    bool *wanted = calloc(all, sizeof *wanted);
    if (!logits || !tokens || !positions || !sequences || !wanted)
        fail_msg("out of memory");
    for (uint32_t i = 0; i < all; i++) {
        tokens[i] = support_token(i, vocab);
        positions[i] = (int32_t)i;
        sequences[i] = passes->sequence;
        wanted[i] = true;
    }
    for (uint32_t done = 0, count; done < all; done += count) {
        const uint32_t left = all - done, most = passes->next ? passes->next(left) : passes->chunk;
        count = most && most < left ? most : left;
        struct engine_batch batch = { .token_count = count, .tokens = tokens + done, .sequences = sequences + done,
                                      .positions = positions + done, .long_rope = passes->long_rope,
                                      .is_prefill = count > 1, .wants_logits = wanted };
        ASSERT_OK(engine_forward(engine, &batch, logits + (size_t)done * vocab, &err), err);
    }
    free(tokens);
    free(positions);
    free(sequences);
    free(wanted);
    return logits;
}

const char *support_relinked(const char *model, const char *instead, const char *target) {
    static char folder[PATH_MAX];
    static unsigned made;
    char from[PATH_MAX], to[2 * PATH_MAX], whole[PATH_MAX];
    snprintf(folder, sizeof folder, "%s/relinked-%u", test_folder(), made++);
    DIR *stream = opendir(model);
    if (!stream || mkdir(folder, 0700) != 0 || !realpath(model, whole))
        fail_msg("cannot link the files of '%s' in '%s'", model, folder);
    for (struct dirent *entry; (entry = readdir(stream));) {
        if (entry->d_name[0] == '.')
            continue;
        const char *name = strcmp(entry->d_name, instead) == 0 ? target : entry->d_name;
        snprintf(to, sizeof to, "%s/%s", folder, entry->d_name);
        if (snprintf(from, sizeof from, "%s/%s", whole, name) < 0 || symlink(from, to) != 0)
            fail_msg("cannot link '%s'", to);
    }
    closedir(stream);
    return folder;
}
