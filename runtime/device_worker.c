#include "runtime/device_worker.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct device_worker {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct worker_message *first, *last;   /* under lock, as is_closing */
    bool is_closing;
};

static void *work(void *argument) {
    struct device_worker *worker = argument;
    pthread_mutex_lock(&worker->lock);
    for (;;) {
        while (!worker->first && !worker->is_closing)
            pthread_cond_wait(&worker->changed, &worker->lock);
        struct worker_message *message = worker->first;
        if (!message)
            break;
        worker->first = message->next;
        pthread_mutex_unlock(&worker->lock);
        message->run(message);   /* may be gone when this returns */
        pthread_mutex_lock(&worker->lock);
    }
    pthread_mutex_unlock(&worker->lock);
    return NULL;
}

struct device_worker *device_worker_new(const char *name, struct error *err) {
    struct device_worker *worker = calloc(1, sizeof *worker);
    if (!worker) {
        error_set(err, ERROR_FAILED, "cannot start the thread of '%s': out of memory", name);
        return NULL;
    }
    pthread_mutex_init(&worker->lock, NULL);
    pthread_cond_init(&worker->changed, NULL);

    /* Requests to end are for the main thread; drivers' own threads inherit this mask too. */
    sigset_t requests, before;
    sigemptyset(&requests);
    sigaddset(&requests, SIGINT);
    sigaddset(&requests, SIGTERM);
    sigaddset(&requests, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &requests, &before);
    int failed = pthread_create(&worker->thread, NULL, work, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        error_set(err, ERROR_FAILED, "cannot start the thread of '%s': %s", name, strerror(failed));
        pthread_cond_destroy(&worker->changed);
        pthread_mutex_destroy(&worker->lock);
        free(worker);
        return NULL;
    }
    pthread_setname_np(worker->thread, name);   /* fails for long names: then it has none */
    return worker;
}

void device_worker_free(struct device_worker *worker) {
    if (!worker)
        return;
    pthread_mutex_lock(&worker->lock);
    worker->is_closing = true;
    pthread_cond_signal(&worker->changed);
    pthread_mutex_unlock(&worker->lock);
    pthread_join(worker->thread, NULL);
    pthread_cond_destroy(&worker->changed);
    pthread_mutex_destroy(&worker->lock);
    free(worker);
}

void device_worker_post(struct device_worker *worker, struct worker_message *message) {
    message->next = NULL;
    pthread_mutex_lock(&worker->lock);
    if (worker->first)
        worker->last->next = message;
    else
        worker->first = message;
    worker->last = message;
    pthread_cond_signal(&worker->changed);
    pthread_mutex_unlock(&worker->lock);
}
