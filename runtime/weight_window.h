/* weight_window: the matrices of streamed units, read for every pass through two buffers.
 *
 * The entries of kind BUFFER_STREAMED in the list of a device's buffers are its pieces, in the
 * order in which a pass uses them. A thread of its own fills one window while the
 * kernels read the other; after the last piece it goes on with the first one, for the next
 * pass. A window belongs to the reader while it is mapped: it is mapped again on the
 * device's queue, behind the kernels that read it. */
#ifndef RUNTIME_WEIGHT_WINDOW_H
#define RUNTIME_WEIGHT_WINDOW_H

#include "runtime/weight_loader.h"

struct weight_window;

struct window_request {
    const struct buffer_list *list;         /* all borrowed, for the window's life */
    const struct weight_loader *loader;
    cl_mem buffers[2];
    cl_command_queue queue;
    const char *device;                     /* name, for sentences */
};

struct window_report {
    uint64_t bytes;             /* read so far */
    uint64_t piece_count;       /* that were used */
    uint64_t late_count;        /* of them, not there when they were wanted */
    double wait_seconds;        /* that the device's thread waited for it */
};

/* Starts reading. NULL on failure. */
struct weight_window *weight_window_open(const struct window_request *request, struct error *err);

/* From the device's thread: the buffer that holds list entry `index`, for kernels that are
 * enqueued next; then weight_window_return(). Entries may be left out; the next one is
 * expected to be the following one. NULL on failure. */
cl_mem weight_window_take(struct weight_window *window, size_t index, struct error *err);
bool weight_window_return(struct weight_window *window, struct error *err);

struct window_report weight_window_report(struct weight_window *window);

/* Joins the reader; the queue must be able to finish. Before the buffers are released. NULL
 * is fine. */
void weight_window_close(struct weight_window *window);

#endif
