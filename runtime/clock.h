/* clock: for measuring how long something takes. */
#ifndef RUNTIME_CLOCK_H
#define RUNTIME_CLOCK_H

double seconds_now(void);   /* on the monotonic clock */

#endif
