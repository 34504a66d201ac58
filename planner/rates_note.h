/* rates_note: how far the speeds behind a plan were measured, in a clause. Pure. */
#ifndef PLANNER_RATES_NOTE_H
#define PLANNER_RATES_NOTE_H

#include "planner/machine.h"

#define RATES_NOTE_SIZE 256

/* NULL where all of them were. `model` has the types that the plan gives it; `weighed`
 * [weighed_count] are others that its matrices might have become (--weights auto), whose
 * speeds were shown or had a say. */
const char *rates_note(const struct machine *machine, const struct model *model, const struct plan *plan,
                       const enum tensor_type *weighed, uint32_t weighed_count, char note[RATES_NOTE_SIZE]);

#endif
