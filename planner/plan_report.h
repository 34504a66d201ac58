/* plan_report: a plan for people (a table) and for programs (JSON). Pure. */
#ifndef PLANNER_PLAN_REPORT_H
#define PLANNER_PLAN_REPORT_H

#include "common/plan.h"
#include "common/text.h"

/* Another placement that was considered. */
struct plan_alternative {
    char devices[256];            /* "gpu0 + cpu0", in the order of their units */
    double prefill_tokens_per_s, decode_tokens_per_s, first_token_s, total_s;
};

/* What --weights auto had to choose from. */
struct weights_figures {
    char name[32];                /* "keep", "q8_0", "q8_0, feed-forward q4_0" */
    bool fits, is_chosen;
    uint64_t weight_bytes;
    double prefill_tokens_per_s, decode_tokens_per_s, first_token_s, total_s;   /* predicted; 0: does not fit */
};

/* What a plan does not hold itself. Most of it only the run that made it knows: absent (zeroed) for stored ones. */
struct plan_extra {
    const struct plan_alternative *alternatives;
    uint32_t alternative_count;
    const char *weight_type;      /* "q4_1": the type of most weight bytes; NULL: unknown */
    bool is_dry_run, is_simulated;
    bool is_superseded;           /* a newer plan took its place: */
    int64_t superseded_by;        /*   this one; 0: it is gone as well */
    const char *rates_note;       /* why the predicted speeds are weak; NULL: measured */
    uint64_t stored_bytes;        /* of the weights in the model's files, where the plan converts them; 0: it does not */
    const struct weights_figures *weights;
    uint32_t weights_count;       /* 0: nothing was to be chosen */
};

/* "11800", "306", "12.4", "0.36", and the same of seconds with their unit: three digits are all that a
 * prediction has. Return `text`. */
const char *plan_rate_text(double rate, char text[24]);
const char *plan_seconds_text(double seconds, char text[24]);

/* The units of a device (or PLAN_HOST) in words: "embed, blocks 0-29, attn 30, head". */
void plan_report_units(const struct plan *plan, int32_t device, struct text *text);

/* Of them, those that it streams. */
void plan_report_streamed(const struct plan *plan, int32_t device, struct text *text);

void plan_report_table(const struct plan *plan, const struct plan_extra *extra, struct text *text);

/* One object with the keys that DESIGN section 9 names; NULL hashes and ids in a dry
 * run. Ends with a newline. False when out of memory. */
bool plan_report_json(const struct plan *plan, const struct plan_extra *extra, struct text *text,
                      struct error *err);

/* `phiplan devices`: table and JSON. */
void device_report_table(const struct device_list *list, struct text *text);
bool device_report_json(const struct device_list *list, struct text *text, struct error *err);

/* `phiplan list`. */
void plan_list_table(struct plan *const *plans, uint32_t count, struct text *text);
bool plan_list_json(struct plan *const *plans, uint32_t count, struct text *text, struct error *err);

#endif
