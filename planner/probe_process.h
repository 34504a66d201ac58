/* probe_process: one child of the probe, from its start to its end, whatever a
 * driver does in it. It is a new start of this program ("__probe", see
 * planner/probe_child.h) in its own process group, with an environment in which the
 * loader finds one .icd file, and it dies with its parent. */
#ifndef PLANNER_PROBE_PROCESS_H
#define PLANNER_PROBE_PROCESS_H

#include "planner/probe_protocol.h"

struct probe_process {
    const char *icd;             /* path; borrowed, as are the others */
    const char *request;         /* see probe_request_text() */
    uint32_t first;              /* index of the first device to try */
    double timeout_s;            /* until devices are tried; then twice that for each message */
    const volatile sig_atomic_t *interrupted;   /* may be NULL */

    /* Each message as it comes; false ends the child for saying nonsense. */
    bool (*listen)(void *context, const struct probe_message *message);
    void *context;
};

enum probe_ending {
    PROBE_ENDED_WELL,            /* said "done" */
    PROBE_ENDED_BADLY,           /* crashed, hung or talked nonsense: reason */
    PROBE_INTERRUPTED,
    PROBE_NOT_STARTED            /* err */
};

/* Returns when the child is dead and reaped and its folder removed. `reason` of at
 * least 256 bytes, such as "its driver crashed (SIGSEGV)". */
enum probe_ending probe_process_run(const struct probe_process *process, char *reason,
                                    struct error *err);

#endif
