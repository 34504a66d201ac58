#include "planner/probe_together.h"

#include "common/clock.h"
#include "planner/probe_process.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Seconds that a child has to get ready; it may have to compile. */
static const double leads[] = { 1.2, 4, 16 };

struct part {
    struct probe_process process;
    char *request;
    double alone, together;
    enum probe_ending ending;
    struct error error;
};

static bool hear(void *context, const struct probe_message *message) {
    struct part *part = context;
    if (message->event == PROBE_VALUE && strcmp(message->value.what, "alone") == 0)
        part->alone = message->value.value;
    if (message->event == PROBE_VALUE && strcmp(message->value.what, "together") == 0)
        part->together = message->value.value;
    return true;
}

static void *run(void *argument) {
    struct part *part = argument;
    char reason[256];
    part->ending = probe_process_run(&part->process, reason, &part->error);
    return NULL;
}

static bool prepare(struct part *part, const struct probe_request *request, const struct device *device, uint32_t turn,
                    double start) {
    struct probe_request own = *request;
    own.quick = false;
    own.together = (struct probe_together){ .start_s = start, .turn = turn };
    device_identity(device, own.together.identity, sizeof own.together.identity);
    part->request = probe_request_text(&own);
    part->process = (struct probe_process){
        .icd = device->icd, .request = part->request, .timeout_s = request->timeout_s > 0 ? request->timeout_s : 30,
        .interrupted = request->interrupted, .listen = hear, .context = part,
    };
    return part->request != NULL;
}

static bool attempt(const struct probe_request *request, const struct device *const pair[2], double lead,
                    struct part parts[2], struct error *err) {
    pthread_t other;
    double start = seconds_now() + lead;
    for (uint32_t i = 0; i < 2; i++)
        if (!prepare(&parts[i], request, pair[i], i, start))
            return error_set(err, ERROR_FAILED, "cannot probe two devices together: out of memory");
    if (pthread_create(&other, NULL, run, &parts[1]) != 0)
        return error_set(err, ERROR_FAILED, "cannot probe two devices together: no thread can be started");
    run(&parts[0]);
    pthread_join(other, NULL);
    for (uint32_t i = 0; i < 2; i++) {
        if (parts[i].ending == PROBE_INTERRUPTED)
            return error_set(err, ERROR_INTERRUPTED, "interrupted while the devices were probed");
        if (parts[i].ending == PROBE_NOT_STARTED) {
            *err = parts[i].error;
            return false;
        }
    }
    return true;
}

bool probe_together(const struct probe_request *request, const struct device *const pair[2],
                    struct together_rates *rates, struct error *err) {
    *rates = (struct together_rates){ 0 };
    for (size_t i = 0; i < sizeof leads / sizeof *leads && !rates->is_known; i++) {
        struct part parts[2] = { 0 };
        struct error why = { 0 };
        bool ok = attempt(request, pair, leads[i], parts, &why);
        for (uint32_t d = 0; d < 2; d++) {
            rates->alone[d] = parts[d].alone;
            rates->together[d] = parts[d].together;
            free(parts[d].request);
        }
        if (!ok) {
            if (err)
                *err = why;
            return false;
        }
        rates->is_known = rates->alone[0] > 0 && rates->alone[1] > 0 && rates->together[0] > 0 && rates->together[1] > 0;
        if (parts[0].ending != PROBE_ENDED_WELL || parts[1].ending != PROBE_ENDED_WELL)
            break;   /* a driver that dies over it will do so again */
    }
    return true;
}
