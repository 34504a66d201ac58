/* Both programs on damaged model files: whatever the bytes, they end by themselves,
 * within 10 seconds of CPU time and a bound on memory, with an exit code of theirs and,
 * where they fail, exactly one printable line on standard error.
 *
 * MUTATIONS=N       how many (default 150)
 * MUTATION_FIRST=K  begin with number K: each is made from its number alone
 * The bounds: 1 GiB of address space for phiplan --dry-run and phirun tokenize, 8 GiB
 * for planning and phirun logits, where OpenCL's compiler is in the process. A sanitizer
 * takes terabytes of addresses, so there resident memory is held to 2 GiB instead. */
#include "tests/support.h"
#include "tests/support_checkpoint.h"
#include "tests/support_mutate.h"

#include "common/clock.h"
#include "common/file_map.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define SHORT_RUN 150
#define CPU_SECONDS 10
#define WALL_SECONDS 120           /* other work on the machine is not what is tested */
#define SMALL_BYTES ((uint64_t)1 << 30)
#define LARGE_BYTES ((uint64_t)8 << 30)
#define LOGITS_EVERY 4             /* of the mutants that a dry run accepts */
#ifdef __SANITIZE_ADDRESS__
#define IS_SANITIZED 1
#else
#define IS_SANITIZED 0
#endif

struct subject {
    const char *model;             /* a folder, or a .gguf file */
    const char *file;              /* in the folder; NULL for a .gguf */
    enum mutation_style style;
    size_t head;
};

static const struct subject subjects[] = {
    { "models/gguf/quantizable-tiny-Q4_1.gguf", NULL, MUTATE_BINARY, 40000 },
    { "models/gguf/quantizable-tiny-Q8_0.gguf", NULL, MUTATE_BINARY, 40000 },
    { "models/gguf/quantizable-tiny-Q4_K_M.gguf", NULL, MUTATE_BINARY, 40000 },
    { "models/gguf/llama-tiny-BF16.gguf", NULL, MUTATE_BINARY, 40000 },
    { "models/llama-tiny", "config.json", MUTATE_JSON, 4096 },
    { "models/llama-tiny", "model.safetensors", MUTATE_BINARY, 5000 },
    { "models/llama-tiny", "tokenizer.json", MUTATE_JSON, 60000 },
    { "models/llama-tiny", "tokenizer_config.json", MUTATE_JSON, 4096 },
    { "models/phi3-tiny", "config.json", MUTATE_JSON, 4096 },
    { "models/phi3-tiny", "model.safetensors", MUTATE_BINARY, 4096 },
    { "models/phi3-tiny", "tokenizer.json", MUTATE_JSON, 60000 },
    { "models/phi3-tiny", "generation_config.json", MUTATE_JSON, 4096 },
    { "models/phi3-tiny-longrope", "config.json", MUTATE_JSON, 4096 },
    { "models/phi3-tiny-longrope", "model.safetensors.index.json", MUTATE_JSON, 4096 },
    { "models/phi3-tiny-longrope", "model-00001-of-00003.safetensors", MUTATE_BINARY, 2048 },
    { "models/phi4mini-tiny", "tokenizer.json", MUTATE_JSON, 60000 },
};
enum { SUBJECT_COUNT = sizeof subjects / sizeof *subjects };

/* ---- one run of a program ---- */

struct outcome {
    int status;                    /* of waitpid() */
    bool timed_out;
    double seconds;                /* on the clock */
    long resident_kib;
    char talk[4096];               /* the first of its standard error */
};

/* build/tests/test_mutations -> build/NAME */
static const char *program(const char *name) {
    static char path[PATH_MAX + 32];
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(length > 0);
    self[length] = '\0';
    for (int i = 0; i < 2; i++)
        *strrchr(self, '/') = '\0';
    snprintf(path, sizeof path, "%s/%s", self, name);
    return path;
}

static void limit(int resource, uint64_t bytes) {
    struct rlimit bound = { bytes, bytes };
    setrlimit(resource, &bound);
}

static void become(const char *talk, const char *const *arguments, uint64_t bytes) {
    int silent = open("/dev/null", O_RDWR), errors = open(talk, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(silent, 0);
    dup2(silent, 1);
    dup2(errors, 2);
    if (!IS_SANITIZED)
        limit(RLIMIT_AS, bytes);
    limit(RLIMIT_CPU, CPU_SECONDS);
    limit(RLIMIT_CORE, 0);
    execv(arguments[0], (char *const *)arguments);
    _exit(127);
}

static void read_talk(const char *path, struct outcome *outcome) {
    FILE *file = fopen(path, "rb");
    size_t length = file ? fread(outcome->talk, 1, sizeof outcome->talk - 1, file) : 0;
    outcome->talk[length] = '\0';
    if (strlen(outcome->talk) < length)
        outcome->talk[0] = '\0';   /* a NUL is no sentence */
    if (file)
        fclose(file);
}

static struct outcome run(const char *const *arguments, uint64_t bytes) {
    struct outcome outcome = { .status = -1 };
    struct rusage usage;
    const char *talk = support_path(test_folder(), "talk");
    double start = seconds_now();
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child)
        become(talk, arguments, bytes);
    while (wait4(child, &outcome.status, WNOHANG, &usage) == 0) {
        if (seconds_now() - start > WALL_SECONDS && !outcome.timed_out) {
            kill(child, SIGKILL);
            outcome.timed_out = true;
        }
        usleep(2000);
    }
    outcome.seconds = seconds_now() - start;
    outcome.resident_kib = usage.ru_maxrss;
    read_talk(talk, &outcome);
    return outcome;
}

/* NULL where all is well, else what is not. */
static const char *complaint(const struct outcome *outcome) {
    const char *talk = outcome->talk;
    if (outcome->timed_out)
        return "it did not end";
    if (WIFSIGNALED(outcome->status))
        return "it was ended by a signal";
    if (WEXITSTATUS(outcome->status) > 4)
        return "its exit code is none of ours";
    if (IS_SANITIZED && (uint64_t)outcome->resident_kib * 1024 > 2 * SMALL_BYTES)
        return "it used too much memory";
    if (strstr(talk, "Sanitizer") || strstr(talk, "runtime error:"))
        return "a sanitizer spoke";
    if (WEXITSTATUS(outcome->status) == 0)
        return NULL;
    if (strncmp(talk, "phiplan: ", 9) != 0 && strncmp(talk, "phirun: ", 8) != 0)
        return "no sentence";
    if (strchr(talk, '\n') != talk + strlen(talk) - 1)
        return "not one line";
    for (const unsigned char *c = (const unsigned char *)talk; c[1]; c++)
        if (*c < ' ' || *c == 0x7f)
            return "a control character";
    return NULL;
}

/* ---- the mutants ---- */

struct totals {
    unsigned mutants, runs, opened, computed, failed;
    double slowest;
    long resident_kib[2];          /* the most: without and with OpenCL */
};

static bool try(struct totals *totals, unsigned number, const struct subject *subject, const char *change,
                const char *const *arguments, bool is_large) {
    struct outcome outcome = run(arguments, is_large ? LARGE_BYTES : SMALL_BYTES);
    const char *wrong = complaint(&outcome);
    totals->runs++;
    totals->slowest = outcome.seconds > totals->slowest ? outcome.seconds : totals->slowest;
    if (outcome.resident_kib > totals->resident_kib[is_large])
        totals->resident_kib[is_large] = outcome.resident_kib;
    if (wrong) {
        totals->failed++;
        print_message("# mutation %u (%s in %s%s%s), %s %s: %s (status %#x, %.1f s)\n# %.1500s\n", number, change,
                      subject->model, subject->file ? "/" : "", subject->file ? subject->file : "",
                      strrchr(arguments[0], '/') + 1, arguments[1], wrong, (unsigned)outcome.status, outcome.seconds,
                      outcome.talk);
    }
    return !wrong && WIFEXITED(outcome.status) && WEXITSTATUS(outcome.status) == 0;
}

/* A folder with links to the model's files but for `file`. */
static void link_others(const char *model, const char *folder, const char *file) {
    DIR *stream = opendir(model);
    assert_non_null(stream);
    for (struct dirent *entry; (entry = readdir(stream));)
        if (entry->d_name[0] != '.' && strcmp(entry->d_name, file) != 0)
            support_link(support_path(model, entry->d_name), support_path(folder, entry->d_name));
    closedir(stream);
}

struct source {
    char *bytes;                   /* NULL: not on this machine */
    size_t size;
    char path[PATH_MAX];           /* where the mutant is written */
    char model[PATH_MAX];          /* the MODEL to name */
};

static void load(struct source *source, const struct subject *subject, unsigned index) {
    struct error err = { 0 };
    const char *model = test_data(subject->model);
    char folder[32];
    if (!model)
        return;
    snprintf(folder, sizeof folder, "subject-%u", index);
    const char *place = support_directory(folder);
    const char *from = subject->file ? support_path(model, subject->file) : model;
    source->bytes = file_read_all(from, 16 << 20, &source->size, &err);
    ASSERT_OK(source->bytes, err);
    snprintf(source->path, sizeof source->path, "%s/%s", place, subject->file ? subject->file : "mutant.gguf");
    snprintf(source->model, sizeof source->model, "%s", subject->file ? place : source->path);
    if (subject->file)
        link_others(model, place, subject->file);
}

static void try_mutant(struct totals *totals, unsigned number, const struct subject *subject,
                       const struct source *source) {
    uint64_t state = number;
    struct text bytes;
    char phiplan[PATH_MAX], phirun[PATH_MAX];
    snprintf(phiplan, sizeof phiplan, "%s", program("phiplan"));
    snprintf(phirun, sizeof phirun, "%s", program("phirun"));
    text_init(&bytes);
    text_append_bytes(&bytes, source->bytes, source->size);
    const char *change = mutate(&bytes, subject->head, subject->style, &state);
    support_write(source->path, bytes.bytes, bytes.length);
    text_release(&bytes);
    totals->mutants++;
    const char *const dry[] = { phiplan, source->model, "--dry-run", "--ctx", "64", NULL };
    const char *const tokens[] = { phirun, "tokenize", source->model, "Hello, w\xc3\xb6rld<|end|> 123\n\n x", NULL };
    const char *const plan[] = { phiplan, source->model, "--ctx", "64", NULL };
    const char *const logits[] = { phirun, "logits", source->model, "--ids", "1,2,3", "--out", "/dev/null", NULL };
    bool opens = try(totals, number, subject, change, dry, false);
    try(totals, number, subject, change, tokens, false);
    totals->opened += opens;
    if (!opens || totals->opened % LOGITS_EVERY)
        return;
    try(totals, number, subject, change, plan, true);
    totals->computed += try(totals, number, subject, change, logits, true);
}

static unsigned number_of(const char *variable, unsigned otherwise) {
    const char *value = getenv(variable);
    return value && *value ? (unsigned)strtoul(value, NULL, 10) : otherwise;
}

static void damaged_models_make_one_sentence(void **state) {
    (void)state;
    static struct source sources[SUBJECT_COUNT];
    struct totals totals = { 0 };
    unsigned present[SUBJECT_COUNT], count = 0;
    if (access(program("phiplan"), X_OK) != 0 || access(program("phirun"), X_OK) != 0)
        SKIP_BECAUSE("phiplan and phirun are not built beside this test");
    setenv("HOME", support_directory("home"), 1);
    setenv("XDG_CACHE_HOME", support_directory("cache"), 1);
    setenv("PHI_STORE", support_path(test_folder(), "plans.db"), 1);
    setenv("POCL_DEVICES", "pthread", 1);
    for (unsigned i = 0; i < SUBJECT_COUNT; i++) {
        load(&sources[i], &subjects[i], i);
        if (sources[i].bytes)
            present[count++] = i;
    }
    if (!count)
        SKIP_BECAUSE("no models");
    unsigned first = number_of("MUTATION_FIRST", 1), end = first + number_of("MUTATIONS", SHORT_RUN);
    for (unsigned number = first; number < end; number++) {
        unsigned subject = present[number % count];
        try_mutant(&totals, number, &subjects[subject], &sources[subject]);
    }
    print_message("# %u mutants of %u files, %u runs: %u models opened, %u computed; slowest %.1f s, most memory %ld MiB "
                  "(with OpenCL %ld MiB)\n", totals.mutants, count, totals.runs, totals.opened, totals.computed,
                  totals.slowest, totals.resident_kib[0] / 1024, totals.resident_kib[1] / 1024);
    for (unsigned i = 0; i < SUBJECT_COUNT; i++)
        free(sources[i].bytes);
    assert_int_equal(totals.failed, 0);
    assert_true(totals.opened < totals.mutants);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(damaged_models_make_one_sentence) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
