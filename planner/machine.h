/* machine: the devices of this machine with what is known of their speed: surveyed by
 * the probe's children, remembered by the store, or assumed. */
#ifndef PLANNER_MACHINE_H
#define PLANNER_MACHINE_H

#include "planner/cost.h"
#include "planner/device_choice.h"

#include <signal.h>

struct machine {
    struct device_list devices;
    struct device_rates *rates;    /* [devices.count] */
    uint64_t *memory_bytes;        /* [devices.count]: what can be had, at most reported */
    bool is_assumed;               /* no device was looked at: one CPU of ordinary speed */
    const char *simulated_from;    /* borrowed: the file that describes the devices; NULL: they are here */
};

struct machine_request {
    const struct model *model;           /* NULL: nothing is measured */
    const struct plan_request *plan;     /* KV type and devices; NULL with model */
    struct plan_store *store;            /* NULL: nothing is remembered */
    const struct host_memory *host;
    const enum tensor_type *also_types;  /* [also_count] that matrices may become: measured, too */
    uint32_t also_count;
    bool measure_again;                  /* even what the store remembers */
    bool is_dry_run;                     /* start no driver where that can be helped, write nothing */
    bool names_devices;                  /* an assumed device will not do; the plan's request may say so, too */
    const volatile sig_atomic_t *interrupted;
};

/* A plan surveys the machine with quick probes, and measures where the store has no
 * figures for device, driver and weight formats. A dry run takes the devices of the
 * last survey (planner/survey_cache.h); where there was none it assumes one CPU
 * device, unless the request names devices or asks to measure: then it surveys. */
bool machine_survey(const struct machine_request *request, struct machine *machine, struct error *err);
/* The machine as a stored plan saw it, with the store's figures: no driver is asked. The
 * devices are in the order of a survey. */
bool machine_of_plan(struct plan_store *store, const struct model *model, const struct plan *plan,
                     struct machine *machine, struct error *err);
void machine_release(struct machine *machine);

#endif
