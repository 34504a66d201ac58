#include "planner/probe_hop.h"

#include "common/clock.h"
#include "planner/probe_process.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- in the child ---- */

/* A residual vector of ordinary length, of which each device writes a part, so that it must have the
 * other's. */
enum { RESIDUAL_BYTES = 16 << 10, PART_BYTES = 1 << 10, WARM_UP = 16, ROUNDS = 256, BATCHES = 3 };

struct relay {
    cl_context context;
    cl_command_queue queues[2];
    cl_mem residual;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t turn, left;         /* under lock: whose turn it is; hops until the end */
    cl_int code;                 /* under lock: of the first failure */
};

struct runner { struct relay *relay; uint32_t side; };

/* Little work, as a launch is. */
static cl_int work(const struct relay *relay, uint32_t side) {
    const cl_uint word = side;
    return clEnqueueFillBuffer(relay->queues[side], relay->residual, &word, sizeof word, side * PART_BYTES, PART_BYTES,
                               0, NULL, NULL);
}

static void *run(void *argument) {
    const struct runner *runner = argument;
    struct relay *relay = runner->relay;
    pthread_mutex_lock(&relay->lock);
    for (;;) {
        while (relay->left && relay->turn != runner->side)
            pthread_cond_wait(&relay->changed, &relay->lock);
        if (!relay->left)
            break;
        pthread_mutex_unlock(&relay->lock);
        cl_int code = work(relay, runner->side);
        if (code == CL_SUCCESS)
            code = clFinish(relay->queues[runner->side]);
        pthread_mutex_lock(&relay->lock);
        if (code != CL_SUCCESS && relay->code == CL_SUCCESS)
            relay->code = code;
        relay->turn = 1 - runner->side;
        relay->left = relay->code == CL_SUCCESS ? relay->left - 1 : 0;
        pthread_cond_broadcast(&relay->changed);
    }
    pthread_mutex_unlock(&relay->lock);
    return NULL;
}

static bool run_hops(struct relay *relay, uint32_t hops, double *seconds, struct error *err) {
    struct runner runners[2] = { { relay, 0 }, { relay, 1 } };
    pthread_t other;
    relay->turn = 0;
    relay->left = hops;
    double start = seconds_now();
    if (pthread_create(&other, NULL, run, &runners[1]) != 0)
        return error_set(err, ERROR_FAILED, "cannot measure a hop: no thread can be started");
    run(&runners[0]);
    pthread_join(other, NULL);
    *seconds = seconds_now() - start;
    return relay->code == CL_SUCCESS || opencl_failed(err, relay->code, "cannot hand a buffer over");
}

/* The same work without a hop, from a queue that is full of it. */
static bool run_alone(struct relay *relay, double *seconds, struct error *err) {
    double start = seconds_now();
    cl_int code = CL_SUCCESS;
    for (uint32_t side = 0; side < 2 && code == CL_SUCCESS; side++) {
        for (uint32_t i = 0; i < ROUNDS && code == CL_SUCCESS; i++)
            code = work(relay, side);
        if (code == CL_SUCCESS)
            code = clFinish(relay->queues[side]);
    }
    *seconds = seconds_now() - start;
    return code == CL_SUCCESS || opencl_failed(err, code, "cannot fill a buffer");
}

bool probe_hop_measure(const struct opencl_device *const pair[2], double *seconds, struct error *err) {
    const cl_device_id ids[2] = { pair[0]->id, pair[1]->id };
    struct relay relay = { .context = opencl_context(ids, 2, err) };
    double hops, alone, best = 0;
    bool ok = false;
    pthread_mutex_init(&relay.lock, NULL);
    pthread_cond_init(&relay.changed, NULL);
    if (!relay.context)
        goto cleanup;
    for (uint32_t side = 0; side < 2; side++)
        if (!(relay.queues[side] = opencl_queue(relay.context, ids[side], err)))
            goto cleanup;
    relay.residual = clCreateBuffer(relay.context, CL_MEM_READ_WRITE, RESIDUAL_BYTES, NULL, &relay.code);
    if (!relay.residual) {
        opencl_failed(err, relay.code, "cannot allocate %d bytes", RESIDUAL_BYTES);
        goto cleanup;
    }
    ok = run_hops(&relay, WARM_UP, &hops, err);
    for (int i = 0; ok && i < BATCHES; i++) {
        ok = run_hops(&relay, 2 * ROUNDS, &hops, err) && run_alone(&relay, &alone, err);
        if (ok) {
            double hop = (hops - alone) / (2 * ROUNDS);
            best = i == 0 || hop < best ? hop : best;
        }
    }
    *seconds = best > 1e-9 ? best : 1e-9;

cleanup:
    if (relay.residual)
        clReleaseMemObject(relay.residual);
    for (uint32_t side = 0; side < 2; side++)
        if (relay.queues[side])
            clReleaseCommandQueue(relay.queues[side]);
    if (relay.context)
        clReleaseContext(relay.context);
    pthread_cond_destroy(&relay.changed);
    pthread_mutex_destroy(&relay.lock);
    return ok;
}

/* ---- in the parent ---- */

bool probe_hop_shares(const struct device *a, const struct device *b) {
    return strcmp(a->platform, b->platform) == 0 && strcmp(a->icd, b->icd) == 0;
}

static bool hear(void *context, const struct probe_message *message) {
    double *seconds = context;
    if (message->event == PROBE_VALUE && strcmp(message->value.what, "handover") == 0)
        *seconds = message->value.value;
    return true;
}

bool probe_hop(const struct probe_request *request, const struct device *const pair[2], double *seconds,
               struct error *err) {
    struct probe_request own = { .quick = true, .timeout_s = request->timeout_s };
    char reason[256];
    *seconds = 0;
    for (uint32_t i = 0; i < 2; i++)
        device_identity(pair[i], own.hop.identities[i], sizeof own.hop.identities[i]);
    char *text = probe_request_text(&own);
    if (!text)
        return error_set(err, ERROR_FAILED, "cannot probe two devices together: out of memory");
    struct probe_process process = {
        .icd = pair[0]->icd, .request = text, .timeout_s = own.timeout_s > 0 ? own.timeout_s : 30,
        .interrupted = request->interrupted, .listen = hear, .context = seconds,
    };
    enum probe_ending ending = probe_process_run(&process, reason, err);
    free(text);
    if (ending == PROBE_INTERRUPTED)
        return error_set(err, ERROR_INTERRUPTED, "interrupted while the devices were probed");
    return ending != PROBE_NOT_STARTED;
}
