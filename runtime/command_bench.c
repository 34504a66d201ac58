/* Measure prefill and decode. Timed: the passes over the devices, logits back on
 * the host included. Not timed: loading, tokenization, sampling, printing. */
#include "common/json.h"
#include "runtime/commands.h"
#include "runtime/loaded_model.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_REPEATS 1000u

struct bench_test {
    char name[32];         /* "pp512", "tg128", with "@d1024" at a depth */
    uint32_t tokens;
    double mean, deviation;/* tokens/s */
};

struct bench {
    const struct run_options *options;
    struct loaded_model *loaded;
    struct session *session;
    int32_t *tokens;       /* room for depth + the larger test */
    float *logits;
};

/* A fixed sequence of ordinary ids: speed does not depend on their values. */
static void fill_tokens(int32_t *tokens, uint32_t count, uint32_t vocab) {
    uint32_t state = 1;
    for (uint32_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        tokens[i] = (int32_t)((state >> 8) % vocab);
    }
}

/* One repetition, in seconds; the session is left at the depth. */
static bool measure(struct bench *bench, bool is_prefill, uint32_t count, double *seconds,
                    struct error *err) {
    uint32_t depth = bench->options->bench_depth;
    double started = seconds_now();
    bool ok = true;
    if (is_prefill)
        ok = session_append(bench->session, bench->tokens + depth, count, bench->logits, err);
    for (uint32_t i = 0; ok && !is_prefill && i < count; i++)
        ok = session_append(bench->session, bench->tokens + depth + i, 1, bench->logits, err);
    *seconds = seconds_now() - started;
    return ok && session_truncate(bench->session, depth, err);
}

/* What the devices did since `before`. */
static void subtract(struct run_record *run, const struct run_record *before) {
    for (uint32_t i = 0; i < run->device_count; i++)
        if (strcmp(run->devices[i].phase, "load") != 0)
            run->devices[i].seconds -= before->devices[i].seconds;
}

/* Each repetition is a run of its own, so that `phiplan check` sees how they spread. A depth
 * counts as a prompt that was not timed. */
static bool record(const struct bench *bench, bool is_prefill, uint32_t count, double seconds, const char *name,
                   uint32_t number, const struct run_record *before, struct error *err) {
    struct run_record run = { .kind = "bench", .load_s = bench->loaded->load_seconds };
    run.prompt_tokens = bench->options->bench_depth + (is_prefill ? count : 0);
    run.new_tokens = is_prefill ? 0 : count;
    *(is_prefill ? &run.prefill_s : &run.decode_s) = seconds;
    snprintf(run.finish_reason, sizeof run.finish_reason, "length");
    snprintf(run.settings, sizeof run.settings, "%s, repetition %u of %u%s", name, number + 1,
             bench->options->bench_repeats, bench->options->exact ? ", exact" : "");
    if (bench->options->exact || (is_prefill && bench->options->bench_depth))
        snprintf(run.kind, sizeof run.kind, "%s", bench->options->exact ? "exact" : "bench-depth");
    loaded_model_record(bench->loaded, &run);
    subtract(&run, before);
    return plan_store_add_run(bench->loaded->store, &run, err);
}

static bool run_test(struct bench *bench, bool is_prefill, uint32_t count, struct bench_test *test,
                     struct error *err) {
    const struct run_options *options = bench->options;
    double rates[MOST_REPEATS], sum = 0, squares = 0, seconds;
    test->tokens = count;
    snprintf(test->name, sizeof test->name, "%s%u", is_prefill ? "pp" : "tg", count);
    if (options->bench_depth)
        snprintf(test->name + strlen(test->name), sizeof test->name - strlen(test->name), "@d%u",
                 options->bench_depth);
    /* One unmeasured pass: first launches specialise kernels, pages are touched. */
    uint32_t warm = is_prefill ? count : count < 4 ? count : 4;
    if (!measure(bench, is_prefill, warm, &seconds, err))
        return false;
    for (uint32_t i = 0; i < options->bench_repeats; i++) {
        struct run_record before = { 0 };
        loaded_model_record(bench->loaded, &before);
        if (!measure(bench, is_prefill, count, &seconds, err) ||
            !record(bench, is_prefill, count, seconds, test->name, i, &before, err))
            return false;
        rates[i] = count / seconds;
        sum += rates[i];
    }
    test->mean = sum / options->bench_repeats;
    for (uint32_t i = 0; i < options->bench_repeats; i++)
        squares += (rates[i] - test->mean) * (rates[i] - test->mean);
    test->deviation = options->bench_repeats > 1 ? sqrt(squares / (options->bench_repeats - 1)) : 0;
    return true;
}

static bool print_tests(const struct bench *bench, const struct bench_test *tests, uint32_t count,
                        struct error *err) {
    const struct run_options *options = bench->options;
    const char *format = options->bench_format, *model = bench->loaded->model->name;
    if (strcmp(format, "json") == 0) {
        json_t *list = json_array();
        for (uint32_t i = 0; i < count; i++)
            json_array_append_new(list, json_pack("{s:s, s:f, s:f, s:i}", "test", tests[i].name,
                "tokens_per_s", tests[i].mean, "stddev", tests[i].deviation,
                "runs", (int)options->bench_repeats));
        json_dumpf(list, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(list);
    } else if (strcmp(format, "csv") == 0) {
        printf("model,plan,test,tokens_per_s,stddev,runs\n");
        for (uint32_t i = 0; i < count; i++)
            printf("%s,%" PRId64 ",%s,%.2f,%.2f,%u\n", model, bench->loaded->plan->id, tests[i].name,
                   tests[i].mean, tests[i].deviation, options->bench_repeats);
    } else {
        printf("| model | plan | test | tok/s |\n|---|--:|---|--:|\n");
        for (uint32_t i = 0; i < count; i++)
            printf("| %s | %" PRId64 " | %s | %.2f ± %.2f |\n", model, bench->loaded->plan->id,
                   tests[i].name, tests[i].mean, tests[i].deviation);
    }
    return finish_output(err);
}

static bool prepare(struct bench *bench, uint32_t longest, struct error *err) {
    const struct run_options *options = bench->options;
    uint32_t vocab = bench->loaded->model->vocab_size, room = engine_context(bench->loaded->engine);
    if (options->bench_repeats > MOST_REPEATS)
        return error_set(err, ERROR_USAGE, "-r takes at most %u repetitions, not %u", MOST_REPEATS,
                         options->bench_repeats);
    if (!longest)
        return error_set(err, ERROR_USAGE, "nothing to measure: give -p or -n above 0");
    const uint64_t need = (uint64_t)longest + options->bench_depth;
    char advice[ENGINE_ADVICE_SIZE];
    if (need > room)
        return error_set(err, ERROR_USAGE, "the bench needs a context of %" PRIu64 " tokens and the plan has %u; %s",
                         need, room, engine_context_advice(bench->loaded->engine, need, need, "ask for fewer", advice));
    bench->tokens = malloc(((size_t)longest + options->bench_depth) * sizeof *bench->tokens);
    bench->logits = malloc(vocab * sizeof *bench->logits);
    if (!bench->tokens || !bench->logits)
        return error_set(err, ERROR_FAILED, "cannot bench: out of memory");
    fill_tokens(bench->tokens, longest + options->bench_depth, vocab);
    bench->session = session_new(bench->loaded->engine, 0,
                                 loaded_model_rope(bench->loaded, options), err);
    return bench->session
           && (!options->bench_depth
               || session_append(bench->session, bench->tokens, options->bench_depth, NULL, err));
}

bool command_bench(const struct run_options *options, struct error *err) {
    struct loaded_model loaded;
    struct load_request request = { 0 };
    struct bench bench = { .options = options, .loaded = &loaded };
    struct bench_test tests[2];
    uint32_t count = 0, prompt = options->bench_prompt, decode = options->bench_new;
    bool ok = loaded_model_open(&loaded, options, &request, err)
              && prepare(&bench, prompt > decode ? prompt : decode, err);
    if (ok && prompt)
        ok = run_test(&bench, true, prompt, &tests[count++], err);
    if (ok && decode)
        ok = run_test(&bench, false, decode, &tests[count++], err);
    ok = ok && print_tests(&bench, tests, count, err);
    if (ok && options->verbose)
        loaded_model_report(&loaded);
    session_free(bench.session);
    free(bench.tokens);
    free(bench.logits);
    loaded_model_close(&loaded);
    return ok;
}
