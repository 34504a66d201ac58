/* turns: work-items that share the steps of a launch by asking for the next ones. Compiled as
 * OpenCL C and, for its arithmetic, as C11.
 *
 * Shares that are dealt before anyone runs wait for the slowest: a driver may give its first
 * thread of two more than half of the work-items, as PoCL does, and a core may be busy with
 * something else. So whoever is done takes the next turn. Of the steps that are left, each round of
 * turns gives half to the work-items that run at once: the last turns are short.
 *
 * `turns` is TURN_INTS ints of zeros, of launches that do not overlap; the last to leave puts the
 * zeros back. No work-item waits for another. */
#ifndef KERNELS_TURNS_H
#define KERNELS_TURNS_H

#ifndef __OPENCL_VERSION__
#include <stdbool.h>
#endif

#define TURN_INTS 32          /* two cache lines: who leaves does not disturb who asks */
#define TURN_LEFT 16
#define TURN_ITEMS_OF_UNIT 2  /* work-items to launch for each that can run at once */
/* Of weights, for one token: rows are asked for ahead, also past the end of a turn, which in
 * shorter turns costs more than it brings. */
#define TURN_BYTES 16384

/* Turn 0, 1, ... of `units` that run at once: the steps from *begin to before *end of `steps`,
 * `least` of them or more but for the last turn. False: none are left. */
static inline bool turn_range(int turn, int units, int steps, int least, int *begin, int *end) {
    int first = 0, size = steps / (2 * units);
    size = size > least ? size : least;
    for (; turn >= units && first < steps; turn -= units) {
        first += units * size;
        size = (steps - first) / (2 * units);
        size = size > least ? size : least;
    }
    *begin = first + turn * size;
    *end = *begin + size < steps ? *begin + size : steps;
    return *begin < steps;
}

#ifdef __OPENCL_VERSION__

static inline bool take_turn(global int *turns, int steps, int least, int *begin, int *end) {
    const int units = max((int)get_global_size(0) / TURN_ITEMS_OF_UNIT, 1);
    return turn_range(atomic_inc(&turns[0]), units, steps, least, begin, end);
}

/* Each work-item calls it once, after its last turn. */
static inline void leave_turns(global int *turns) {
    if (atomic_inc(&turns[TURN_LEFT]) == (int)get_global_size(0) - 1) {
        atomic_xchg(&turns[0], 0);
        atomic_xchg(&turns[TURN_LEFT], 0);
    }
}

#endif
#endif
