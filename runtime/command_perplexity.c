/* How well a model predicts a text, and how far two plans of it are apart. */
#include "runtime/commands.h"
#include "runtime/scored_text.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sums {
    uint32_t vocab, count;
    double log_sum, square_sum;    /* of the log-probabilities */
};

static bool add_row(void *context, float *logits, int32_t next, struct error *err) {
    (void)err;
    struct sums *sums = context;
    log_probabilities(logits, sums->vocab);
    double value = (double)logits[next];
    sums->log_sum += value;
    sums->square_sum += value * value;
    sums->count++;
    return true;
}

bool command_perplexity(const struct run_options *options, struct error *err) {
    struct loaded_model loaded;
    struct load_request request = { .needs_tokenizer = !options->ids, .logit_rows = 8 };
    struct prompt prompt = { 0 };
    struct scored_text text;
    struct sums sums = { 0 };
    bool ok = loaded_model_open(&loaded, options, &request, err)
              && scored_text_read(&text, &prompt, &loaded, options, err);
    if (ok) {
        sums.vocab = loaded.model->vocab_size;
        ok = scored_text_run(&text, &loaded, loaded_model_rope(&loaded, options), add_row, &sums, err);
    }
    if (ok) {
        double mean = sums.log_sum / sums.count, perplexity = exp(-mean);
        double variance = sums.square_sum / sums.count - mean * mean;
        double error = sums.count > 1 && variance > 0 ? perplexity * sqrt(variance / (sums.count - 1)) : 0;
        if (options->json)
            printf("{\"perplexity\":%.6f,\"stderr\":%.6f,\"tokens\":%u,\"sum_logprob\":%.6f}\n", perplexity, error,
                   sums.count, sums.log_sum);
        else
            printf("perplexity %.4f +- %.4f over %u tokens (windows of %u%s)\n", perplexity, error, sums.count,
                   text.window < text.count ? text.window : text.count, text.whole ? "" : ", second halves");
        ok = finish_output(err);
    }
    prompt_release(&prompt);
    loaded_model_close(&loaded);
    return ok;
}

/* What the first plan said waits in a file: two plans need not fit at a time. */
struct comparison {
    uint32_t vocab, count, agreed;
    FILE *file;
    float *row;            /* [vocab] of the first plan */
    double divergence, most;
};

static bool keep_row(void *context, float *logits, int32_t next, struct error *err) {
    (void)next;
    struct comparison *comparison = context;
    log_probabilities(logits, comparison->vocab);
    return fwrite(logits, sizeof *logits, comparison->vocab, comparison->file) == comparison->vocab
           || error_set(err, ERROR_FAILED, "cannot keep the first plan's results: %s; give a shorter text",
                        strerror(errno));
}

static uint32_t arg_max(const float *values, uint32_t count) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < count; i++)
        if (values[i] > values[best])
            best = i;
    return best;
}

static bool compare_row(void *context, float *logits, int32_t next, struct error *err) {
    (void)next;
    struct comparison *comparison = context;
    uint32_t vocab = comparison->vocab;
    const float *first = comparison->row;
    log_probabilities(logits, vocab);
    if (fread(comparison->row, sizeof *comparison->row, vocab, comparison->file) != vocab)
        return error_set(err, ERROR_FAILED, "cannot read the first plan's results again");
    double divergence = 0;
    for (uint32_t i = 0; i < vocab; i++)
        divergence += exp((double)first[i]) * ((double)first[i] - (double)logits[i]);
    comparison->divergence += divergence;
    comparison->most = fmax(comparison->most, divergence);
    comparison->agreed += arg_max(first, vocab) == arg_max(logits, vocab);
    comparison->count++;
    return true;
}

static bool run_plan(struct comparison *comparison, const struct run_options *options, const char *plan,
                     scored_row *on_row, uint32_t window, uint32_t *window_used, struct error *err) {
    struct run_options its = *options;
    struct load_request request = { .needs_tokenizer = !options->ids, .logit_rows = 8 };
    struct loaded_model loaded;
    struct prompt prompt = { 0 };
    struct scored_text text;
    its.plan_name = plan;
    its.window = window;
    bool ok = loaded_model_open(&loaded, &its, &request, err) && scored_text_read(&text, &prompt, &loaded, &its, err);
    if (ok && !comparison->row) {
        comparison->vocab = loaded.model->vocab_size;
        comparison->row = malloc(comparison->vocab * sizeof *comparison->row);
        ok = comparison->row || error_set(err, ERROR_FAILED, "cannot compare: out of memory");
    }
    ok = ok && scored_text_run(&text, &loaded, loaded_model_rope(&loaded, &its), on_row, comparison, err);
    *window_used = ok ? text.window : 0;
    prompt_release(&prompt);
    loaded_model_close(&loaded);
    return ok || error_prefix(err, "plan '%s'", plan);
}

bool command_compare(const struct run_options *options, struct error *err) {
    struct comparison comparison = { .file = tmpfile() };
    uint32_t window = 0;
    bool ok = comparison.file || error_set(err, ERROR_FAILED, "cannot make a temporary file: %s", strerror(errno));
    ok = ok && run_plan(&comparison, options, options->plan_a, keep_row, options->window, &window, err);
    if (ok && fseek(comparison.file, 0, SEEK_SET) != 0)
        ok = error_set(err, ERROR_FAILED, "cannot read the first plan's results again: %s", strerror(errno));
    ok = ok && run_plan(&comparison, options, options->plan_b, compare_row, window, &window, err);
    if (ok) {
        double mean = comparison.divergence / comparison.count;
        double agreement = (double)comparison.agreed / comparison.count;
        if (options->json)
            printf("{\"kl_divergence\":%.8f,\"kl_largest\":%.8f,\"top1_agreement\":%.6f,\"tokens\":%u}\n", mean,
                   comparison.most, agreement, comparison.count);
        else
            printf("KL(%s || %s) %.6f on average, %.6f at most; the likeliest token agrees at %.2f %% of %u positions\n",
                   options->plan_a, options->plan_b, mean, comparison.most, 100 * agreement, comparison.count);
        ok = finish_output(err);
    }
    if (comparison.file)
        fclose(comparison.file);
    free(comparison.row);
    return ok;
}
