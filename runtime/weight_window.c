#include "runtime/weight_window.h"

#include "common/clock.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum pane_state {
    PANE_FREE,      /* mapped, or to be mapped when `mapped` is complete */
    PANE_FILLING,   /* the reader's */
    PANE_FULL,
    PANE_TAKEN      /* unmapped; the device's thread enqueues kernels that read it */
};

struct pane {
    cl_mem buffer;          /* borrowed */
    void *bytes;            /* where it is mapped */
    cl_event mapped;        /* owned; NULL: nothing to wait for */
    enum pane_state state;
    size_t piece;           /* where FILLING, FULL or TAKEN */
};

struct weight_window {
    struct window_request request;
    size_t *pieces;         /* [piece_count] indexes of the list */
    size_t piece_count;
    uint64_t most_bytes;    /* of a piece */
    pthread_t reader;
    bool has_reader;
    pthread_mutex_t lock;   /* of all that follows */
    pthread_cond_t changed;
    struct pane panes[2];
    size_t next;            /* the piece to read next */
    struct pane *taken;
    bool is_closing, has_failed;
    struct error failure;
    struct window_report report;
};

/* Map a pane behind all that is enqueued; the pointer is good once `mapped` is complete. */
static bool map_pane(struct weight_window *window, struct pane *pane, struct error *err) {
    cl_int code;
    pane->bytes = clEnqueueMapBuffer(window->request.queue, pane->buffer, CL_FALSE, CL_MAP_WRITE_INVALIDATE_REGION, 0,
                                     window->most_bytes, 0, NULL, &pane->mapped, &code);
    if (pane->bytes)
        code = clFlush(window->request.queue);
    return code == CL_SUCCESS ||
           opencl_failed(err, code, "cannot map a window of %llu bytes on '%s'", (unsigned long long)window->most_bytes,
                         window->request.device);
}

/* ---- the reader's thread ---- */

static struct pane *free_pane(struct weight_window *window) {
    for (int i = 0; i < 2; i++)
        if (window->panes[i].state == PANE_FREE)
            return &window->panes[i];
    return NULL;
}

/* Wait until the kernels are through with the pane, and fill it; without the lock. */
static bool fill_pane(const struct weight_window *window, struct pane *pane, struct error *err) {
    const struct buffer_spec *spec = &window->request.list->specs[window->pieces[pane->piece]];
    if (pane->mapped) {
        cl_int code = clWaitForEvents(1, &pane->mapped);
        clReleaseEvent(pane->mapped);
        pane->mapped = NULL;
        if (code != CL_SUCCESS)
            return opencl_failed(err, code, "cannot use a window of '%s'", window->request.device);
    }
    return weight_loader_read(window->request.loader, spec, pane->bytes, err);
}

static void *read_ahead(void *argument) {
    struct weight_window *window = argument;
    pthread_mutex_lock(&window->lock);
    while (!window->is_closing && !window->has_failed) {
        struct pane *pane = free_pane(window);
        if (!pane) {
            pthread_cond_wait(&window->changed, &window->lock);
            continue;
        }
        struct error reason = { 0 };
        pane->piece = window->next;
        pane->state = PANE_FILLING;
        window->next = (window->next + 1) % window->piece_count;
        pthread_mutex_unlock(&window->lock);
        bool ok = fill_pane(window, pane, &reason);
        pthread_mutex_lock(&window->lock);
        pane->state = PANE_FULL;
        window->report.bytes += window->request.list->specs[window->pieces[pane->piece]].used_bytes;
        if (!ok) {
            window->has_failed = true;
            window->failure = reason;
        }
        pthread_cond_broadcast(&window->changed);
    }
    pthread_mutex_unlock(&window->lock);
    return NULL;
}

/* ---- the device's thread ---- */

/* The pane that has the piece, or will have; NULL: none. */
static struct pane *pane_of(struct weight_window *window, size_t piece) {
    for (int i = 0; i < 2; i++) {
        struct pane *pane = &window->panes[i];
        if ((pane->state == PANE_FULL || pane->state == PANE_FILLING) && pane->piece == piece)
            return pane;
    }
    return NULL;
}

/* Under the lock: wait until the piece is there. Pieces that were read for nothing, since the
 * pass leaves them out, make room. */
static struct pane *await_piece(struct weight_window *window, size_t piece) {
    double started = seconds_now();
    bool is_late = false;
    for (;;) {
        struct pane *pane = pane_of(window, piece);
        if (window->has_failed)
            return NULL;
        for (int i = 0; i < 2; i++)
            if (window->panes[i].state == PANE_FULL && window->panes[i].piece != piece &&
                (!pane || window->panes[i].piece != (piece + 1) % window->piece_count))
                window->panes[i].state = PANE_FREE;
        if (!pane)
            window->next = piece;
        if (pane && pane->state == PANE_FULL) {
            window->report.piece_count++;
            window->report.late_count += is_late;
            window->report.wait_seconds += is_late ? seconds_now() - started : 0;
            return pane;
        }
        is_late = true;
        pthread_cond_broadcast(&window->changed);
        pthread_cond_wait(&window->changed, &window->lock);
    }
}

static size_t piece_of(const struct weight_window *window, size_t index) {
    size_t low = 0, high = window->piece_count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        *(window->pieces[middle] <= index ? &low : &high) = middle;
    }
    return low;
}

cl_mem weight_window_take(struct weight_window *window, size_t index, struct error *err) {
    size_t piece = piece_of(window, index);
    if (window->pieces[piece] != index || window->taken) {
        error_set(err, ERROR_FAILED, "'%s' does not stream its buffer %zu", window->request.device, index);
        return NULL;
    }
    pthread_mutex_lock(&window->lock);
    struct pane *pane = await_piece(window, piece);
    if (pane) {
        pane->state = PANE_TAKEN;
        window->taken = pane;
    } else if (err) {
        *err = window->failure;
    }
    pthread_mutex_unlock(&window->lock);
    if (!pane)
        return NULL;
    cl_int code = clEnqueueUnmapMemObject(window->request.queue, pane->buffer, pane->bytes, 0, NULL, NULL);
    if (code == CL_SUCCESS) {
        pane->bytes = NULL;
        return pane->buffer;
    }
    window->taken = NULL;   /* the pane stays out of use */
    opencl_failed(err, code, "cannot upload weights to '%s'", window->request.device);
    return NULL;
}

bool weight_window_return(struct weight_window *window, struct error *err) {
    struct pane *pane = window->taken;
    window->taken = NULL;
    bool ok = map_pane(window, pane, err);
    pthread_mutex_lock(&window->lock);
    if (ok) {
        pane->state = PANE_FREE;
    } else if (!window->has_failed) {
        window->has_failed = true;
        error_set(&window->failure, ERROR_FAILED, "the window of '%s' cannot be used any more", window->request.device);
    }
    pthread_cond_broadcast(&window->changed);
    pthread_mutex_unlock(&window->lock);
    return ok;
}

struct window_report weight_window_report(struct weight_window *window) {
    pthread_mutex_lock(&window->lock);
    struct window_report report = window->report;
    pthread_mutex_unlock(&window->lock);
    return report;
}

/* ---- life ---- */

struct weight_window *weight_window_open(const struct window_request *request, struct error *err) {
    struct weight_window *window = calloc(1, sizeof *window);
    if (!window) {
        error_set(err, ERROR_FAILED, "cannot stream weights to '%s': out of memory", request->device);
        return NULL;
    }
    window->request = *request;
    pthread_mutex_init(&window->lock, NULL);
    pthread_cond_init(&window->changed, NULL);
    bool ok = true;
    window->pieces = calloc(request->list->count + 1, sizeof *window->pieces);
    for (size_t i = 0; window->pieces && i < request->list->count; i++)
        if (request->list->specs[i].kind == BUFFER_STREAMED) {
            uint64_t bytes = request->list->specs[i].used_bytes;
            window->most_bytes = bytes > window->most_bytes ? bytes : window->most_bytes;
            window->pieces[window->piece_count++] = i;
        }
    if (!window->piece_count)
        ok = error_set(err, ERROR_FAILED, "cannot stream weights to '%s': %s", request->device,
                       window->pieces ? "there are none" : "out of memory");
    for (int i = 0; ok && i < 2; i++) {
        window->panes[i].buffer = request->buffers[i];
        ok = map_pane(window, &window->panes[i], err);
    }
    /* Requests to end are for the main thread. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    bool is_started = ok && pthread_create(&window->reader, NULL, read_ahead, window) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (ok && !is_started)
        ok = error_set(err, ERROR_FAILED, "cannot start a thread that reads weights for '%s'", request->device);
    window->has_reader = ok;
    if (ok)
        return window;
    weight_window_close(window);
    return NULL;
}

void weight_window_close(struct weight_window *window) {
    if (!window)
        return;
    pthread_mutex_lock(&window->lock);
    window->is_closing = true;
    pthread_cond_broadcast(&window->changed);
    pthread_mutex_unlock(&window->lock);
    if (window->has_reader)
        pthread_join(window->reader, NULL);
    for (int i = 0; i < 2; i++) {
        struct pane *pane = &window->panes[i];
        if (pane->mapped) {
            clWaitForEvents(1, &pane->mapped);
            clReleaseEvent(pane->mapped);
        }
        if (pane->bytes)
            clEnqueueUnmapMemObject(window->request.queue, pane->buffer, pane->bytes, 0, NULL, NULL);
    }
    pthread_cond_destroy(&window->changed);
    pthread_mutex_destroy(&window->lock);
    free(window->pieces);
    free(window);
}
