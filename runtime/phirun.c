/* phirun: generate text with a plan that phiplan made. It decides no placement. */
#include "common/opencl.h"
#include "runtime/commands.h"
#include "runtime/loaded_model.h"
#include "runtime/replan.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

volatile sig_atomic_t interrupted_by;

static sem_t second_signal;
static volatile sig_atomic_t second_number;

/* The first signal asks for a clean end; a second one of any kind ends at once, though a
 * driver may keep the other threads. */
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
    opencl_abandon();
    _exit(128 + second_number);
}

static void catch_signals(void) {
    struct sigaction action = { .sa_handler = on_signal };
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    /* A closed pipe shows as a write error, which ends the run cleanly. */
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
    /* Signals are for the main thread. */
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    if (sem_init(&second_signal, 0, 0) == 0 && pthread_create(&thread, NULL, end_at_once, NULL) == 0)
        pthread_detach(thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

bool finish_output(struct error *err) {
    if (fflush(stdout) == 0 && !ferror(stdout))
        return true;
    return error_set(err, ERROR_FAILED, "cannot write to standard output: %s", strerror(errno));
}

bool write_output(const char *bytes, size_t size, struct error *err) {
    if (!finish_output(err))
        return false;
    while (size) {
        ssize_t written = write(STDOUT_FILENO, bytes, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return error_set(err, ERROR_FAILED, "cannot write to standard output: %s", strerror(errno));
        bytes += written;
        size -= (size_t)written;
    }
    return true;
}

int main(int argc, char **argv) {
    static bool (*const commands[])(const struct run_options *, struct error *) = {
        [COMMAND_GENERATE] = command_generate, [COMMAND_BENCH] = command_bench,
        [COMMAND_TOKENIZE] = command_tokenize, [COMMAND_TEMPLATE] = command_template,
        [COMMAND_LOGITS] = command_logits, [COMMAND_CHAT] = command_chat,
        [COMMAND_PERPLEXITY] = command_perplexity, [COMMAND_COMPARE] = command_compare,
        [COMMAND_BATCH] = command_batch,
    };
    struct run_options options;
    struct error err = { 0 };
    catch_signals();
    bool ok = run_options_parse(&options, argc, argv, &err);
    if (ok && options.help) {
        run_options_help(options.command, options.command == COMMAND_GENERATE);
        ok = finish_output(&err);
    } else if (ok && options.version) {
        puts("phirun 0.1");
        ok = finish_output(&err);
    } else if (ok) {
        ok = commands[options.command](&options, &err);
        if (!ok && options.replan && !interrupted_by && (err.kind == ERROR_STALE || err.kind == ERROR_NO_PLAN))
            ok = replan_and_restart(&options, argv, &err);
    }
    run_options_release(&options);
    if (interrupted_by)
        return 128 + interrupted_by;
    if (!ok)
        fprintf(stderr, "phirun: %s\n", err.text);
    return ok ? 0 : error_exit_code(err.kind);
}
