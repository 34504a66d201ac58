/* other_time: a library for LD_PRELOAD in which time passes otherwise, so that tests need not wait
 * for minutes, nor meet an instant.
 *
 *   OTHER_TIME_WAITS=N      pthread_cond_clockwait() gives up after an N-th of its time
 *   OTHER_TIME_FILES=S      posix_fallocate() takes S seconds more, or until a signal comes */
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

static double number(const char *variable) {
    const char *text = getenv(variable);
    return text ? strtod(text, NULL) : 0;
}

int pthread_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex, clockid_t clock,
                           const struct timespec *until) {
    __typeof__(&pthread_cond_clockwait) real =
        (__typeof__(&pthread_cond_clockwait))(uintptr_t)dlsym(RTLD_NEXT, "pthread_cond_clockwait");
    struct timespec time;
    double times = number("OTHER_TIME_WAITS");
    if (times > 1) {
        clock_gettime(clock, &time);
        double left = (double)(until->tv_sec - time.tv_sec) + 1e-9 * (double)(until->tv_nsec - time.tv_nsec);
        double end = (double)time.tv_nsec * 1e-9 + (left > 0 ? left / times : 0);
        time.tv_sec += (time_t)end;
        time.tv_nsec = (long)((end - (double)(time_t)end) * 1e9);
        until = &time;
    }
    return real(condition, mutex, clock, until);
}

int posix_fallocate(int file, off_t offset, off_t length) {
    __typeof__(&posix_fallocate) real = (__typeof__(&posix_fallocate))(uintptr_t)dlsym(RTLD_NEXT, "posix_fallocate");
    double seconds = number("OTHER_TIME_FILES");
    struct timespec left = { .tv_sec = (time_t)seconds,
                             .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9) };
    int code = real(file, offset, length);
    if (seconds > 0)
        nanosleep(&left, NULL);
    return code;
}
