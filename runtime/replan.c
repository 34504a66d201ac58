#include "runtime/replan.h"

#include "common/interruption.h"
#include "common/model_source.h"
#include "common/plan_request.h"
#include "common/typed_command.h"
#include "db/plan_store.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* A command line with room for every option of a request. */
struct arguments {
    const char *list[8 + 2 * PLAN_REQUEST_FIELDS];   /* ends with NULL */
    unsigned count;
    struct request_field fields[PLAN_REQUEST_FIELDS];
    char options[PLAN_REQUEST_FIELDS][24];
};

static void add(struct arguments *arguments, const char *option, const char *value) {
    if (value && value[0]) {
        arguments->list[arguments->count++] = option;
        arguments->list[arguments->count++] = value;
    }
}

static void add_request(struct arguments *arguments, const struct plan_request *request) {
    plan_request_options(request, 0, arguments->fields);
    for (uint32_t i = 0; i < PLAN_REQUEST_FIELDS; i++) {
        const struct request_field *field = &arguments->fields[i];
        snprintf(arguments->options[i], sizeof arguments->options[i], "--%s", field->option);
        if (field->is_flag && field->value[0])
            arguments->list[arguments->count++] = arguments->options[i];
        else if (!field->is_flag)
            add(arguments, arguments->options[i], field->value);
    }
}

/* The phiplan in this program's own folder. */
static bool find_phiplan(char path[PATH_MAX + 16], struct error *err) {
    ssize_t length = readlink("/proc/self/exe", path, PATH_MAX);
    if (length <= 0 || length >= PATH_MAX)
        return error_set(err, ERROR_FAILED, "cannot find the phiplan beside this program: %s", strerror(errno));
    path[length] = '\0';
    char *slash = strrchr(path, '/');
    snprintf(slash ? slash + 1 : path, 16, "phiplan");
    return access(path, X_OK) == 0 ||
           error_set(err, ERROR_FAILED, "cannot plan again: there is no program '%s'", path);
}

/* In the child, between fork() and exec: only what is safe there. Its results are talk here. The
 * signals are blocked, until this program's handlers are gone. */
static _Noreturn void become(char *const *arguments, pid_t parent, const sigset_t *mask) {
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    sigprocmask(SIG_SETMASK, mask, NULL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);   /* it cleans up and ends; it must not outlive a killed phirun */
    if (getppid() == parent && dup2(STDERR_FILENO, STDOUT_FILENO) >= 0)
        execv(arguments[0], arguments);
    _exit(127);
}

/* Run a program to its end and hand on signals, of which it may not have heard. */
static bool run_child(char *const *arguments, int *status, struct error *err) {
    const pid_t parent = getpid();
    pid_t ended;
    int told = 0;
    sigset_t all, before;
    fflush(stdout);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    pid_t child = fork();
    if (child == 0)
        become(arguments, parent, &before);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (child < 0)
        return error_set(err, ERROR_FAILED, "cannot start '%s': %s", arguments[0], strerror(errno));
    while ((ended = waitpid(child, status, WNOHANG)) == 0 || (ended < 0 && errno == EINTR)) {
        if (interrupted_by && !told) {
            told = interrupted_by;
            kill(child, told);
        }
        poll(NULL, 0, 20);
    }
    return ended == child ||
           error_set(err, ERROR_FAILED, "cannot wait for '%s': %s", arguments[0], strerror(errno));
}

static bool replan(const struct run_options *options, const struct plan *old, struct error *err) {
    char path[PATH_MAX + 16];
    struct arguments arguments = { .list = { path, "plan", options->model }, .count = 3 };
    int status = 0;
    if (old && strcmp(old->request.policy, POLICY_IMPORT) == 0) {
        char command[TYPED_COMMAND_SIZE];
        return error_set(err, ERROR_STALE, "plan %lld was made from a device map and no longer fits; import it again: "
                         "%s", (long long)old->id,
                         typed_phiplan(command, options->model, &old->request, 0, old->name, options->db));
    }
    if (!find_phiplan(path, err))
        return false;
    add(&arguments, "--name", old ? old->name : options->plan_name);
    add(&arguments, "--db", options->db);
    if (old)
        add_request(&arguments, &old->request);
    arguments.list[arguments.count] = NULL;
    fprintf(stderr, "phirun: planning '%s' again\n", options->model);
    if (!run_child((char *const *)arguments.list, &status, err))
        return false;
    if (interrupted_by)
        return error_set(err, ERROR_INTERRUPTED, "interrupted while '%s' was planned again", options->model);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    return error_set(err, ERROR_FAILED, "phiplan could not plan '%s' again; its reason is above", options->model);
}

/* The newest plan of that name, or the one of that number, for the files that MODEL stands for; NULL:
 * none is known. */
static struct plan *find_old_plan(const struct run_options *options) {
    struct model_source source = { 0 };
    struct plan **plans = NULL, *old = NULL;
    uint32_t count = 0;
    int64_t id;
    char *path = options->db ? strdup(options->db) : plan_store_default_path(NULL);
    struct plan_store *store = path ? plan_store_open(path, STORE_EXISTING, NULL) : NULL;
    const bool is_there = store && model_source_resolve(&source, options->model, NULL);
    if (is_there && plan_store_list_plans(store, false, &plans, &count, NULL))
        for (uint32_t i = 0; i < count && !old; i++)
            if (strcmp(plans[i]->name, options->plan_name) == 0 && strcmp(plans[i]->model_path, source.path) == 0)
                old = plan_store_load_plan(store, plans[i]->id, NULL);
    if (is_there && !old && plan_id_read(options->plan_name, &id))
        old = plan_store_load_plan(store, id, NULL);
    if (old && strcmp(old->model_path, source.path) != 0) {
        plan_free(old);
        old = NULL;
    }
    plan_store_free_plans(plans, count);
    model_source_release(&source);
    plan_store_close(store);
    free(path);
    return old;
}

/* The plan that takes the place of a numbered one has another number: from here on it is asked for by
 * its name. What is put into `argv` is owned by nobody; false: out of memory. */
static bool ask_by_name(char **argv, const struct run_options *options, const char *name) {
    for (size_t i = 0; argv[i]; i++) {
        const char *value = strchr(argv[i], '=');   /* "--plan=3" is one argument */
        const bool is_joined = value && value + 1 == options->plan_name;
        if (!is_joined && argv[i] != options->plan_name)
            continue;
        const int before = is_joined ? (int)(value + 1 - argv[i]) : 0;
        char *named = malloc((size_t)before + strlen(name) + 1);
        if (!named)
            return false;
        memcpy(named, argv[i], (size_t)before);
        memcpy(named + before, name, strlen(name) + 1);
        argv[i] = named;
    }
    return true;
}

bool replan_and_restart(const struct run_options *options, char **argv, struct error *err) {
    struct plan *old = find_old_plan(options);
    struct error why = { 0 };
    fprintf(stderr, "phirun: %s\n", err->text);
    bool ok = replan(options, old, &why);
    if (ok && old && strcmp(old->name, options->plan_name) != 0 && !ask_by_name(argv, options, old->name))
        ok = error_set(&why, ERROR_FAILED, "cannot start again after planning: out of memory");
    plan_free(old);
    if (ok) {
        size_t kept = 0;
        for (size_t i = 0; argv[i]; i++)
            if (strcmp(argv[i], "--replan") != 0)
                argv[kept++] = argv[i];
        argv[kept] = NULL;
        execv("/proc/self/exe", argv);
        error_set(&why, ERROR_FAILED, "cannot start again after planning: %s", strerror(errno));
    }
    *err = why;
    return false;
}
