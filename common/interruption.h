/* interruption: what signals do to both programs, and how they end when they must end at once.
 *
 * The first SIGINT or SIGTERM asks for a clean end, the second one of any kind ends at once,
 * though a driver may keep the other threads. Handlers let system calls go on (SA_RESTART), so
 * that no signal cuts off what is being written; what waits for input has interruptible_read(). */
#ifndef COMMON_INTERRUPTION_H
#define COMMON_INTERRUPTION_H

#include <signal.h>
#include <sys/types.h>

/* The number of the first signal; 0 while none came. */
extern volatile sig_atomic_t interrupted_by;

/* For main(), before it starts threads. A closed pipe shows as a write error from here on. */
void interruption_catch(void);

/* read(), which also fails, with EINTR, when a signal was handled meanwhile; and at once where
 * `interrupted` (usually &interrupted_by) is set. */
ssize_t interruptible_read(int descriptor, void *bytes, size_t size, const volatile sig_atomic_t *interrupted);

/* The way out where a driver keeps threads that can be neither joined nor cancelled, while exit()
 * would run the driver's own clean-up: remove what lies in temporary folders and files, and end
 * the process. From any thread. */
_Noreturn void interruption_end(int status);

#endif
