#include "planner/weights_option.h"

#include <stdio.h>
#include <string.h>

const enum tensor_type weights_auto_types[2] = { TENSOR_Q8_0, TENSOR_Q4_0 };

/* How much less than its share of bytes a candidate must take to be worth its loss. */
#define ENOUGH_TO_QUANTISE 0.9   /* q8_0 loses next to nothing: any gain will do */
#define ENOUGH_TO_LOSE 0.75      /* of what the fewer bytes alone save */

static const struct {
    const char *name;
    enum tensor_type feed_forward, others;
    bool keeps;
} candidates[WEIGHTS_CANDIDATES] = {
    { "keep", TENSOR_F32, TENSOR_F32, true },
    { "q8_0", TENSOR_Q8_0, TENSOR_Q8_0, false },
    { "q8_0, feed-forward q4_0", TENSOR_Q4_0, TENSOR_Q8_0, false },
    { "q4_0", TENSOR_Q4_0, TENSOR_Q4_0, false },
};

static void convert(struct model *model, struct unit unit, enum tensor_type type) {
    model_convert_unit(model, unit, unit.kind == UNIT_HEAD && type == TENSOR_Q4_0 ? TENSOR_Q8_0 : type);
}

static void apply(struct model *model, uint32_t candidate) {
    model_keep_all(model);
    for (uint32_t u = 0; !candidates[candidate].keeps && u < unit_count(model); u++) {
        struct unit unit = unit_at(model, u);
        convert(model, unit, unit.kind == UNIT_FFN ? candidates[candidate].feed_forward
                                                   : candidates[candidate].others);
    }
}

bool weights_apply(struct model *model, const char *word) {
    enum tensor_type type;
    model_keep_all(model);
    if (strcmp(word, "keep") == 0)
        return true;
    if (!tensor_type_from_name(word, &type) || !weight_choice_can_make(type))
        return false;
    for (uint32_t u = 0; u < unit_count(model); u++)
        convert(model, unit_at(model, u), type);
    return true;
}

uint32_t weights_best(const struct weights_figures figures[WEIGHTS_CANDIDATES]) {
    uint32_t best = WEIGHTS_CANDIDATES;
    for (uint32_t i = 0; i < WEIGHTS_CANDIDATES; i++) {
        if (!figures[i].fits)
            continue;
        if (best == WEIGHTS_CANDIDATES) {
            best = i;
            continue;
        }
        double share = (double)figures[i].weight_bytes / (double)figures[best].weight_bytes;
        double enough = i == 1 ? ENOUGH_TO_QUANTISE : ENOUGH_TO_LOSE * share;
        if (share < 1 && figures[i].total_s < enough * figures[best].total_s)
            best = i;
    }
    return best;
}

static void fill(struct weights_figures *figures, uint32_t candidate, const struct model *model,
                 const struct made_plan *made) {
    snprintf(figures->name, sizeof figures->name, "%s", candidates[candidate].name);
    figures->weight_bytes = model_chosen_bytes(model);
    figures->fits = made->plan != NULL;
    if (!made->plan)
        return;
    figures->prefill_tokens_per_s = made->plan->predicted_prefill_tokens_per_s;
    figures->decode_tokens_per_s = made->plan->predicted_decode_tokens_per_s;
    figures->first_token_s = made->plan->predicted_first_token_s;
    figures->total_s = made->plan->predicted_total_s;
}

bool weights_choose(struct model *model, const struct sizing_source *source, struct plan_request *request,
                    struct made_plan *made, struct weights_figures figures[WEIGHTS_CANDIDATES],
                    struct text *notes, struct error *err) {
    for (uint32_t i = 0; i < WEIGHTS_CANDIDATES; i++) {
        struct plan_request copy = *request;
        struct error reason = { 0 };
        struct text unread;
        text_init(&unread);
        figures[i] = (struct weights_figures){ 0 };
        apply(model, i);
        plan_make(source, &copy, made, &unread, &reason);
        fill(&figures[i], i, model, made);
        made_plan_release(made);
        text_release(&unread);
    }
    uint32_t best = weights_best(figures);
    /* Where nothing fits, the smallest says what is missing. */
    apply(model, best < WEIGHTS_CANDIDATES ? best : WEIGHTS_CANDIDATES - 1);
    if (best < WEIGHTS_CANDIDATES)
        figures[best].is_chosen = true;
    return plan_make(source, request, made, notes, err);
}
