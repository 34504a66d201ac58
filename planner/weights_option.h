/* weights_option: what --weights asks for, put on a model.
 *
 *   keep                  the files' values
 *   f16, q8_0, q4_0       that type for every matrix which it makes smaller; with q4_0 the
 *                         head is q8_0, as it is the matrix that 4 bits hurt most
 *   auto                  one of WEIGHTS_CANDIDATES, from exact to small: the next one is
 *                         taken only where it saves more of the declared workload than
 *                         its fewer bytes explain (it fits a faster device), or where
 *                         the one before does not fit */
#ifndef PLANNER_WEIGHTS_OPTION_H
#define PLANNER_WEIGHTS_OPTION_H

#include "common/weight_choice.h"
#include "planner/plan_make.h"

#define WEIGHTS_CANDIDATES 4u

/* Have the model as the word, which is not "auto", says. False: it is none of the above. */
bool weights_apply(struct model *model, const char *word);

/* The types that "auto" may need rates of. */
extern const enum tensor_type weights_auto_types[2];

/* Plan every candidate, leave the model in the best one's types and `made` as its plan.
 * The figures of all go to `figures`. Otherwise as plan_make(). */
bool weights_choose(struct model *model, const struct sizing_source *source, struct plan_request *request,
                    struct made_plan *made, struct weights_figures figures[WEIGHTS_CANDIDATES],
                    struct text *notes, struct error *err);

/* One candidate's figures (bytes, seconds) and whether it fits are there: which is taken;
 * WEIGHTS_CANDIDATES where none fits. Pure. */
uint32_t weights_best(const struct weights_figures figures[WEIGHTS_CANDIDATES]);

#endif
