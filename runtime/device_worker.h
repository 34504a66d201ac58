/* device_worker: a thread that runs messages one after the other, in the order of
 * posting.
 *
 * One a device: everything that is enqueued on the device's queue is enqueued by its
 * worker, so that drivers which execute inside the enqueue call (PoCL's basic) keep
 * only their own device busy. Messages are part of what they are about (no memory is
 * allocated): the poster keeps one alive, and does not post it again, until it has run. */
#ifndef RUNTIME_DEVICE_WORKER_H
#define RUNTIME_DEVICE_WORKER_H

#include "common/error.h"

struct device_worker;

struct worker_message {
    void (*run)(struct worker_message *message);   /* called on the worker's thread */
    struct worker_message *next;                   /* the queue's, while posted */
};

/* NULL on failure. `name`: for the thread and sentences. */
struct device_worker *device_worker_new(const char *name, struct error *err);

/* Runs what has been posted, then joins the thread. NULL is fine. */
void device_worker_free(struct device_worker *worker);

/* From any thread, a worker's own included. */
void device_worker_post(struct device_worker *worker, struct worker_message *message);

#endif
