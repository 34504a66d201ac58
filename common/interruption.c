#include "common/interruption.h"

#include "common/opencl.h"
#include "common/temporary_file.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <unistd.h>

volatile sig_atomic_t interrupted_by;

static sem_t second_signal;
static volatile sig_atomic_t second_number;

static void on_signal(int number) {
    if (!interrupted_by) {
        interrupted_by = number;
        return;
    }
    second_number = number;
    sem_post(&second_signal);
}

static void *end_at_once(void *unused) {
    (void)unused;
    while (sem_wait(&second_signal) != 0)
        continue;
    interruption_end(128 + second_number);
}

void interruption_catch(void) {
    /* Signals are for the main thread. */
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    if (sem_init(&second_signal, 0, 0) == 0 && pthread_create(&thread, NULL, end_at_once, NULL) == 0)
        pthread_detach(thread);
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* A signal between the look and poll(), or one that another thread handled, shows after this. */
enum { TICK_MS = 250 };

ssize_t interruptible_read(int descriptor, void *bytes, size_t size, const volatile sig_atomic_t *interrupted) {
    struct pollfd ready = { .fd = descriptor, .events = POLLIN };
    int count = 0;
    while (count == 0) {
        if (*interrupted) {
            errno = EINTR;
            return -1;
        }
        count = poll(&ready, 1, TICK_MS);
    }
    return count < 0 ? -1 : read(descriptor, bytes, size);
}

_Noreturn void interruption_end(int status) {
    opencl_abandon();
    temporary_file_abandon();
    _exit(status);
}
