#include "runtime/sampler_settings.h"

#include <math.h>

const char *const sampling_keys[SAMPLING_KEYS] = { "do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p",
                                                   "epsilon_cutoff", "eta_cutoff" };

struct sampler_settings sampler_defaults(void) {
    return (struct sampler_settings){ .greedy = true, .temperature = 1, .top_p = 1, .typical_p = 1,
                                      .repetition_penalty = 1 };
}

static bool check_share(const char *name, float value, struct error *err) {
    return (value >= 0 && value <= 1)
           || error_set(err, ERROR_USAGE, "%s '%g' is not a share; give 0 to 1", name, (double)value);
}

bool sampler_check(const struct sampler_settings *settings, struct error *err) {
    if (!(settings->temperature >= 0) || !isfinite(settings->temperature))
        return error_set(err, ERROR_USAGE, "temperature '%g' makes no sense; give 0 (greedy) or more",
                         (double)settings->temperature);
    if (!(settings->repetition_penalty > 0) || !isfinite(settings->repetition_penalty))
        return error_set(err, ERROR_USAGE, "repetition penalty '%g' makes no sense; give more than 0 (1: none)",
                         (double)settings->repetition_penalty);
    if (!(settings->typical_p > 0 && settings->typical_p <= 1))
        return error_set(err, ERROR_USAGE, "typical-p '%g' makes no sense; give more than 0, up to 1 (all)",
                         (double)settings->typical_p);
    return check_share("top-p", settings->top_p, err) && check_share("min-p", settings->min_p, err)
           && check_share("epsilon-cutoff", settings->epsilon_cutoff, err)
           && check_share("eta-cutoff", settings->eta_cutoff, err);
}

bool sampler_settings_read(struct sampler_settings *settings, const json_t *object, const char *what,
                           struct error *err) {
    return json_get_f32(object, "temperature", what, &settings->temperature, err)
           && json_get_u32(object, "top_k", what, &settings->top_k, err)
           && json_get_f32(object, "top_p", what, &settings->top_p, err)
           && json_get_f32(object, "min_p", what, &settings->min_p, err)
           && json_get_f32(object, "typical_p", what, &settings->typical_p, err)
           && json_get_f32(object, "epsilon_cutoff", what, &settings->epsilon_cutoff, err)
           && json_get_f32(object, "eta_cutoff", what, &settings->eta_cutoff, err)
           && json_get_f32(object, "repetition_penalty", what, &settings->repetition_penalty, err)
           && json_get_u32(object, "no_repeat_ngram_size", what, &settings->no_repeat_ngram, err)
           && json_get_u32(object, "min_new_tokens", what, &settings->min_new_tokens, err)
           && sampler_check(settings, err);
}
