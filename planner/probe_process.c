#include "planner/probe_process.h"

#include "common/clock.h"
#include "common/opencl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    REASON_SIZE = 256,
    LINE_LIMIT = 16 << 10,       /* bytes of one message */
    TALK_LIMIT = 4 << 20,        /* bytes of all of them */
    TICK_MS = 100,               /* how often a silent child is looked after */
    BURIAL_TICKS = 50            /* how long a killed one may take to die: the kernel may hold it */
};

struct child {
    pid_t pid;
    bool is_dead;
    int status;                  /* of waitpid(), where dead */
    int answers, complaints;     /* its stdout and stderr; -1: closed */
    char line[LINE_LIMIT];
    size_t line_length, talked;
    char complaint[160];         /* the last line that is not empty, as far as it fits */
    size_t complaint_length;
    bool complaint_ended;
    bool is_done;
    double patience, deadline;   /* seconds; a time of seconds_now() */
};

/* ---- birth ---- */

/* This process's environment, but with the loader pointed at `folder`. The strings
 * are borrowed except the first, which is `vendors`. */
static char **child_environment(char *vendors) {
    size_t count = 0, used = 0;
    while (environ[count])
        count++;
    char **list = calloc(count + 2, sizeof *list);
    if (!list)
        return NULL;
    list[used++] = vendors;
    for (size_t i = 0; i < count; i++)
        if (strncmp(environ[i], "OCL_ICD_VENDORS=", 16) && strncmp(environ[i], "OCL_ICD_FILENAMES=", 18))
            list[used++] = environ[i];
    return list;
}

static bool spawn(struct child *child, const struct probe_process *process, const char *folder,
                  struct error *err) {
    int answers[2] = { -1, -1 }, complaints[2] = { -1, -1 };
    char vendors[PATH_MAX + 32], parent[24], first[16];
    char mode[] = "__probe", program[] = "phiplan";
    snprintf(vendors, sizeof vendors, "OCL_ICD_VENDORS=%s", folder);
    snprintf(parent, sizeof parent, "%ld", (long)getpid());
    snprintf(first, sizeof first, "%u", process->first);
    char *icd = strdup(process->icd), *request = strdup(process->request);
    char *const arguments[] = { program, mode, parent, first, icd, request, NULL };
    char **environment = child_environment(vendors);
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none, defaults;
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGINT);
    sigaddset(&defaults, SIGTERM);
    sigaddset(&defaults, SIGPIPE);

    int code = 0;
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attributes);
    if (!icd || !request || !environment) {
        code = ENOMEM;
        goto cleanup;
    }
    if (pipe2(answers, O_CLOEXEC) || pipe2(complaints, O_CLOEXEC)) {
        code = errno;
        goto cleanup;
    }
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, answers[1], 1);
    posix_spawn_file_actions_adddup2(&files, complaints[1], 2);
    code = posix_spawn(&child->pid, "/proc/self/exe", &files, &attributes, arguments, environment);

cleanup:
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    free(icd);
    free(request);
    free(environment);
    if (answers[1] >= 0)
        close(answers[1]);
    if (complaints[1] >= 0)
        close(complaints[1]);
    child->answers = answers[0];
    child->complaints = complaints[0];
    if (!code)
        return true;
    child->is_dead = true;
    return error_set(err, ERROR_FAILED, "cannot start a process to probe '%s': %s", process->icd, strerror(code));
}

/* ---- life ---- */

static void close_end(int *end) {
    if (*end >= 0)
        close(*end);
    *end = -1;
}

static void hear_complaint(struct child *child, const char *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c == '\n') {
            child->complaint_ended = true;
        } else if (c > 0x20 || !child->complaint_ended) {
            if (child->complaint_ended)
                child->complaint_length = 0;
            child->complaint_ended = false;
            if (child->complaint_length + 1 < sizeof child->complaint)
                child->complaint[child->complaint_length++] = c < 0x20 || c > 0x7e ? '?' : (char)c;
            child->complaint[child->complaint_length] = '\0';
        }
    }
}

static bool hear_line(struct child *child, const struct probe_process *process) {
    struct probe_message message;
    if (!probe_message_read(child->line, child->line_length, &message, NULL))
        return false;
    if (message.event != PROBE_DEVICE) {
        child->patience = 2 * process->timeout_s;
        child->deadline = seconds_now() + child->patience;
    }
    child->is_done |= message.event == PROBE_DONE;
    return process->listen(process->context, &message);
}

static bool hear_answer(struct child *child, const struct probe_process *process, const char *bytes,
                        size_t count) {
    child->talked += count;
    if (child->talked > TALK_LIMIT || child->is_done)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] != '\n') {
            if (child->line_length == sizeof child->line)
                return false;
            child->line[child->line_length++] = bytes[i];
            continue;
        }
        if (!hear_line(child, process))
            return false;
        child->line_length = 0;
    }
    return true;
}

/* Read what is there without waiting. False: nonsense. */
static bool drain(struct child *child, const struct probe_process *process) {
    int *const ends[] = { &child->answers, &child->complaints };
    bool fine = true;
    for (int i = 0; i < 2 && fine; i++) {
        struct pollfd ready = { .fd = *ends[i], .events = POLLIN };
        while (fine && *ends[i] >= 0 && poll(&ready, 1, 0) > 0) {
            char bytes[4096];
            ssize_t count = read(*ends[i], bytes, sizeof bytes);
            if (count < 0 && errno == EINTR)
                continue;
            if (count <= 0)
                close_end(ends[i]);
            else if (i == 0)
                fine = hear_answer(child, process, bytes, (size_t)count);
            else
                hear_complaint(child, bytes, (size_t)count);
            /* A child that complains without end must not keep us here. */
            if (i == 1 && seconds_now() > child->deadline)
                break;
        }
    }
    return fine;
}

static void look_after(struct child *child) {
    if (!child->is_dead)
        child->is_dead = waitpid(child->pid, &child->status, WNOHANG) == child->pid;
}

/* What it started may outlive it: the group is killed in any case. */
static void bury(struct child *child) {
    if (child->pid > 0)
        kill(-child->pid, SIGKILL);
    for (int tick = 0; !child->is_dead && tick < BURIAL_TICKS; tick++) {
        look_after(child);
        if (!child->is_dead)
            poll(NULL, 0, tick < 10 ? 1 : TICK_MS);
    }
}

/* ---- death ---- */

static void explain(const struct child *child, bool is_nonsense, bool is_late, char *reason) {
    char words[200] = "";
    if (child->complaint_length)
        snprintf(words, sizeof words, "; its last words: %s", child->complaint);
    if (is_nonsense)
        snprintf(reason, REASON_SIZE, "its probe answered nonsense%s", words);
    else if (is_late)
        snprintf(reason, REASON_SIZE, "its driver hung: no answer within %g s%s", child->patience, words);
    else if (WIFSIGNALED(child->status))
        snprintf(reason, REASON_SIZE, "its driver crashed (SIG%s)%s",
                 sigabbrev_np(WTERMSIG(child->status)) ? sigabbrev_np(WTERMSIG(child->status)) : "?", words);
    else
        snprintf(reason, REASON_SIZE, "its driver ended the process (exit code %d)%s",
                 WEXITSTATUS(child->status), words);
}

enum probe_ending probe_process_run(const struct probe_process *process, char *reason,
                                    struct error *err) {
    enum probe_ending ending = PROBE_NOT_STARTED;
    char folder[PATH_MAX] = "";
    struct child *child = calloc(1, sizeof *child);
    reason[0] = '\0';
    if (!child) {
        error_set(err, ERROR_FAILED, "cannot probe '%s': out of memory", process->icd);
        return PROBE_NOT_STARTED;
    }
    child->answers = child->complaints = -1;
    if (!opencl_make_icd_folder(&process->icd, 1, folder, err) || !spawn(child, process, folder, err))
        goto cleanup;

    child->patience = process->timeout_s;
    child->deadline = seconds_now() + child->patience;
    bool is_nonsense = false, is_late = false, is_interrupted = false;
    while (!child->is_dead && !child->is_done && !is_nonsense && !is_late && !is_interrupted) {
        struct pollfd ends[] = { { .fd = child->answers, .events = POLLIN },
                                 { .fd = child->complaints, .events = POLLIN } };
        bool both_closed = child->answers < 0 && child->complaints < 0;
        poll(ends, 2, both_closed ? 1 : TICK_MS);   /* a negative descriptor is skipped */
        is_interrupted = process->interrupted && *process->interrupted;
        look_after(child);                          /* before the last reading, or words would be lost */
        is_nonsense = !drain(child, process);
        is_late = !child->is_dead && seconds_now() > child->deadline;
    }
    bury(child);
    if (is_interrupted) {
        ending = PROBE_INTERRUPTED;
    } else if (child->is_done && !is_nonsense) {
        ending = PROBE_ENDED_WELL;   /* however it died after that */
    } else {
        ending = PROBE_ENDED_BADLY;
        explain(child, is_nonsense, is_late, reason);
    }

cleanup:
    close_end(&child->answers);
    close_end(&child->complaints);
    opencl_remove_icd_folder(folder);
    free(child);
    return ending;
}
