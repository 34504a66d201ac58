/* clock: for measuring how long something takes. */
#ifndef COMMON_CLOCK_H
#define COMMON_CLOCK_H

double seconds_now(void);   /* on the monotonic clock */

#endif
