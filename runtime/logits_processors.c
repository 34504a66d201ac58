#include "runtime/logits_processors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct logits_processors {
    struct sampler_settings settings;
    uint32_t vocab;
    uint32_t call;        /* number of the present one */
    uint32_t *seen_in;    /* [vocab] the call that met this id last */
};

struct logits_processors *logits_processors_new(const struct sampler_settings *settings, uint32_t vocab) {
    struct logits_processors *processors = calloc(1, sizeof *processors);
    uint32_t *seen_in = calloc(vocab, sizeof *seen_in);
    if (!processors || !seen_in) {
        free(processors);
        free(seen_in);
        return NULL;
    }
    *processors = (struct logits_processors){ .settings = *settings, .vocab = vocab, .seen_in = seen_in };
    return processors;
}

void logits_processors_free(struct logits_processors *processors) {
    if (!processors)
        return;
    free(processors->seen_in);
    free(processors);
}

static bool is_token(const struct logits_processors *processors, int32_t id) {
    return id >= 0 && (uint32_t)id < processors->vocab;
}

static void apply_rules(const struct logits_processors *processors, const struct token_rule *rules, uint32_t rule_count,
                        const int32_t *history, uint32_t count, float *scores) {
    for (uint32_t i = 0; i < rule_count; i++) {
        const struct token_rule *rule = &rules[i];
        uint32_t before = rule->count - 1;
        if (is_token(processors, rule->ids[before]) && before <= count
            && memcmp(history + count - before, rule->ids, before * sizeof *history) == 0)
            scores[rule->ids[before]] += rule->bias;
    }
}

static void penalise(struct logits_processors *processors, const int32_t *history, uint32_t count,
                     float *scores) {
    float penalty = processors->settings.repetition_penalty;
    if (++processors->call == 0) {   /* the numbers are used up: start again */
        memset(processors->seen_in, 0, processors->vocab * sizeof *processors->seen_in);
        processors->call = 1;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!is_token(processors, history[i]) || processors->seen_in[history[i]] == processors->call)
            continue;
        processors->seen_in[history[i]] = processors->call;
        float *score = &scores[history[i]];
        *score = *score < 0 ? *score * penalty : *score / penalty;
    }
}

/* Ban what would make the last n - 1 tokens into n that were there before. */
static void ban_repeats(const struct logits_processors *processors, const int32_t *history, uint32_t count,
                        float *scores) {
    uint32_t before = processors->settings.no_repeat_ngram - 1;
    if (count < before)
        return;
    const int32_t *last = history + count - before;
    for (uint32_t i = 0; i + before < count; i++)
        if (memcmp(history + i, last, before * sizeof *history) == 0 && is_token(processors, history[i + before]))
            scores[history[i + before]] = -INFINITY;
}

void logits_process(struct logits_processors *processors, const int32_t *history, uint32_t count,
                    uint32_t new_count, float *scores) {
    const struct sampler_settings *settings = &processors->settings;
    static const int32_t none[1];
    if (!count)
        history = none;
    apply_rules(processors, settings->biases, settings->bias_count, history, count, scores);
    if (settings->repetition_penalty != 1)
        penalise(processors, history, count, scores);
    if (settings->no_repeat_ngram)
        ban_repeats(processors, history, count, scores);
    apply_rules(processors, settings->bans, settings->ban_count, history, count, scores);
    for (uint32_t i = 0; i < settings->eos_count && new_count < settings->min_new_tokens; i++)
        if (is_token(processors, settings->eos_ids[i]))
            scores[settings->eos_ids[i]] = -INFINITY;
}
