/* progress_bar: how far a long step is, on a terminal; nothing elsewhere, nor for a short step. */
#ifndef COMMON_PROGRESS_BAR_H
#define COMMON_PROGRESS_BAR_H

#include <stdbool.h>
#include <stdint.h>

struct progress_bar {
    const char *program, *what;   /* borrowed; "phiplan", "hashing the weights" */
    bool is_terminal, is_drawn;
    double from;                  /* seconds_now() when the step counts as long */
    unsigned percent;
};

struct progress_bar progress_bar_of(const char *program, const char *what);
void progress_bar_show(struct progress_bar *bar, uint64_t done, uint64_t total);
void progress_bar_clear(struct progress_bar *bar);

#endif
