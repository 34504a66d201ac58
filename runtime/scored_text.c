#include "runtime/scored_text.h"

#include "runtime/option_values.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROWS 32u               /* of logits at a time */
#define DEFAULT_WINDOW 512u    /* llama.cpp's */

void log_probabilities(float *logits, uint32_t vocab) {
    float largest = logits[0];
    for (uint32_t i = 1; i < vocab; i++)
        largest = fmaxf(largest, logits[i]);
    double sum = 0;
    for (uint32_t i = 0; i < vocab; i++)
        sum += exp((double)logits[i] - (double)largest);
    double log_sum = (double)largest + log(sum);
    for (uint32_t i = 0; i < vocab; i++)
        logits[i] = (float)((double)logits[i] - log_sum);
}

/* One window: its tokens up to the first that counts without logits, the rest in steps. */
static bool run_window(const struct scored_text *text, struct session *session, const int32_t *ids, uint32_t count,
                       float *rows, uint32_t vocab, scored_row *on_row, void *context, struct error *err) {
    uint32_t first = text->whole ? 0 : count / 2;
    if (!session_truncate(session, 0, err) || (first && !session_append(session, ids, first, NULL, err)))
        return false;
    for (uint32_t at = first, step; at + 1 < count; at += step) {
        step = count - 1 - at < ROWS ? count - 1 - at : ROWS;
        if (!session_append_all(session, ids + at, step, rows, err))
            return false;
        for (uint32_t i = 0; i < step; i++)
            if (!on_row(context, rows + (size_t)i * vocab, ids[at + i + 1], err))
                return false;
    }
    return true;
}

bool scored_text_run(const struct scored_text *text, const struct loaded_model *loaded, enum rope_policy policy,
                     scored_row *on_row, void *context, struct error *err) {
    const struct rope_parameters *rope = &loaded->model->rope;
    uint32_t vocab = loaded->model->vocab_size, window = text->window < text->count ? text->window : text->count;
    if (window < 2)
        return error_set(err, ERROR_USAGE, "a text of %u tokens cannot be scored; give a longer one", text->count);
    /* A window is one sequence: its length decides for all of its positions. */
    if (policy == ROPE_AUTO && rope->scaling == ROPE_LONGROPE && window > rope->original_context)
        policy = ROPE_LONG;
    float *rows = malloc((size_t)ROWS * vocab * sizeof *rows);
    int32_t *ids = malloc(window * sizeof *ids);
    struct session *session = rows && ids ? session_new(loaded->engine, 0, policy, err) : NULL;
    bool ok = session || (rows && ids) || error_set(err, ERROR_FAILED, "cannot hold logits: out of memory");
    uint32_t windows = text->count / window;
    for (uint32_t i = 0; ok && session && i < windows; i++) {
        memcpy(ids, text->ids + (size_t)i * window, window * sizeof *ids);
        if (text->bos >= 0)
            ids[0] = text->bos;
        ok = run_window(text, session, ids, window, rows, vocab, on_row, context, err);
        if (isatty(STDERR_FILENO))
            fprintf(stderr, "\rwindow %u of %u%s", i + 1, windows, i + 1 == windows ? "\r\033[K" : "");
    }
    ok = ok && session;
    session_free(session);
    free(rows);
    free(ids);
    return ok;
}

bool scored_text_read(struct scored_text *text, struct prompt *prompt, const struct loaded_model *loaded,
                      const struct run_options *options, struct error *err) {
    struct text bytes;
    text_init(&bytes);
    text_init(&prompt->text);
    bool ok;
    if (options->ids) {
        ok = parse_ids("--ids", options->ids, &prompt->ids, &prompt->count, err);
    } else {
        ok = prompt_read_file(options->file, &bytes, err)
             && tokenizer_encode(loaded->tokenizer, bytes.bytes, bytes.length, TOKENIZE_ADD_SPECIAL, &prompt->ids,
                                 &prompt->count, err);
    }
    text_release(&bytes);
    for (uint32_t i = 0; ok && i < prompt->count; i++)
        if ((uint32_t)prompt->ids[i] >= loaded->model->vocab_size)
            ok = error_set(err, ERROR_USAGE, "token id %d is outside the vocabulary of %u", prompt->ids[i],
                           loaded->model->vocab_size);
    uint32_t context = engine_context(loaded->engine), window = options->window ? options->window : DEFAULT_WINDOW;
    char advice[ENGINE_ADVICE_SIZE];
    if (ok && options->window > context)
        ok = error_set(err, ERROR_USAGE, "a window of %u tokens exceeds the plan's context of %u; %s", window, context,
                       engine_context_advice(loaded->engine, window, window, "take a smaller --window", advice));
    *text = (struct scored_text){ .ids = prompt->ids, .count = prompt->count, .whole = options->whole, .bos = -1,
                                  .window = window < context ? window : context };
    /* As the text began with it, so does every window. */
    int32_t bos = loaded->tokenizer && !options->ids ? tokenizer_bos_id(loaded->tokenizer) : -1;
    if (ok && prompt->count && bos >= 0 && prompt->ids[0] == bos)
        text->bos = bos;
    return ok;
}
