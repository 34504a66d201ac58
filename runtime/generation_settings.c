#include "runtime/generation_settings.h"

#include "common/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define CONFIG_LIMIT ((size_t)1 << 20)

static void add_eos(struct generation_settings *settings, int64_t id) {
    for (uint32_t i = 0; i < settings->eos_count; i++)
        if (settings->eos_ids[i] == id)
            return;
    if (id >= 0 && id <= INT32_MAX && settings->eos_count < 2 * MODEL_MAX_EOS)
        settings->eos_ids[settings->eos_count++] = (int32_t)id;
}

static bool read_config(struct sampler_settings *sampling, bool *do_sample,
                        const struct model *model, unsigned given, struct error *err) {
    char *path = model_source_file(&model->source, "generation_config.json");
    if (!path)
        return error_set(err, ERROR_FAILED, "cannot read the generation settings: out of memory");
    bool ok = true;
    /* Beside a GGUF lie other models' files: only a directory has a config of its own. */
    if (model->source.kind == SOURCE_DIRECTORY && access(path, F_OK) == 0) {
        json_t *config = json_read_file(path, CONFIG_LIMIT, err);
        struct sampler_settings stored = *sampling;
        ok = config && json_get_bool(config, "do_sample", path, do_sample, err)
             && json_get_f32(config, "temperature", path, &stored.temperature, err)
             && json_get_u32(config, "top_k", path, &stored.top_k, err)
             && json_get_f32(config, "top_p", path, &stored.top_p, err)
             && json_get_f32(config, "min_p", path, &stored.min_p, err)
             && json_get_f32(config, "repetition_penalty", path, &stored.repetition_penalty, err)
             && sampler_check(&stored, err);
        if (!ok)
            error_prefix(err, "'%s'", path);
        json_decref(config);
        if (!(given & GIVEN_TEMPERATURE)) sampling->temperature = stored.temperature;
        if (!(given & GIVEN_TOP_K)) sampling->top_k = stored.top_k;
        if (!(given & GIVEN_TOP_P)) sampling->top_p = stored.top_p;
        if (!(given & GIVEN_MIN_P)) sampling->min_p = stored.min_p;
        if (!(given & GIVEN_PENALTY)) sampling->repetition_penalty = stored.repetition_penalty;
    }
    free(path);
    return ok;
}

bool generation_settings_make(struct generation_settings *settings, const struct model *model,
                              const struct tokenizer *tokenizer, const struct run_options *options,
                              struct error *err) {
    *settings = (struct generation_settings){ .sampling = options->sampling };
    struct sampler_settings *sampling = &settings->sampling;
    unsigned given = options->given;
    bool do_sample = false;
    if (!(given & GIVEN_TOP_K))
        sampling->top_k = 50;
    if (!read_config(sampling, &do_sample, model, given, err))
        return false;
    do_sample |= (given & (GIVEN_TEMPERATURE | GIVEN_TOP_K | GIVEN_TOP_P | GIVEN_MIN_P)) != 0;
    sampling->greedy = !do_sample || (given & GIVEN_GREEDY) || sampling->temperature == 0;
    if (!(given & GIVEN_SEED)
        && getrandom(&sampling->seed, sizeof sampling->seed, 0) != sizeof sampling->seed)
        sampling->seed = (uint64_t)time(NULL);
    settings->new_tokens = options->has_new_tokens ? options->new_tokens : UINT32_MAX;

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
    return true;
}

void generation_settings_text(const struct generation_settings *settings, char *text, size_t size) {
    const struct sampler_settings *sampling = &settings->sampling;
    int used;
    if (sampling->greedy)
        used = snprintf(text, size, "greedy");
    else
        used = snprintf(text, size, "temperature %g, top-k %u, top-p %g, min-p %g, seed %" PRIu64,
                        (double)sampling->temperature, sampling->top_k, (double)sampling->top_p,
                        (double)sampling->min_p, sampling->seed);
    if (sampling->repetition_penalty != 1 && used > 0 && (size_t)used < size)
        used += snprintf(text + used, size - (size_t)used, ", repetition-penalty %g",
                         (double)sampling->repetition_penalty);
    for (uint32_t i = 0; i < settings->eos_count && used > 0 && (size_t)used < size; i++)
        used += snprintf(text + used, size - (size_t)used, "%s%d", i ? " " : ", eos ",
                         settings->eos_ids[i]);
}
