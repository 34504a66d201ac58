#include "common/progress_bar.h"

#include "common/clock.h"

#include <stdio.h>
#include <unistd.h>

enum { WIDTH = 30 };

#define SHORT_S 0.3

struct progress_bar progress_bar_of(const char *program, const char *what) {
    return (struct progress_bar){ .program = program, .what = what, .is_terminal = isatty(STDERR_FILENO),
                                  .from = seconds_now() + SHORT_S };
}

void progress_bar_show(struct progress_bar *bar, uint64_t done, uint64_t total) {
    unsigned percent = done < total ? (unsigned)(100.0 * (double)done / (double)total) : 100;
    char filled[WIDTH + 1];
    if (!bar->is_terminal || (bar->is_drawn ? percent == bar->percent : seconds_now() < bar->from))
        return;
    for (unsigned i = 0; i < WIDTH; i++)
        filled[i] = i * 100 < percent * WIDTH ? '#' : '.';
    filled[WIDTH] = '\0';
    fprintf(stderr, "\r\033[K%s: %s [%s] %3u %%", bar->program, bar->what, filled, percent);
    bar->is_drawn = true;
    bar->percent = percent;
}

void progress_bar_clear(struct progress_bar *bar) {
    if (bar->is_drawn)
        fputs("\r\033[K", stderr);
    bar->is_drawn = false;
}
