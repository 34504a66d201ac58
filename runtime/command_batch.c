/* Many prompts from a file, one JSON object a line; the results in a file of the same kind.
 *
 * A result line is written with one call and synced before the next prompt is run, so that
 * a killed run loses at most the line it was at: what the output file holds is done, and a
 * torn last line is dropped. Results name their input line and a hash of it, so that a
 * changed input is noticed. One timeline serves all: what a prompt has in common with the
 * one before is not run again. */
#include "common/file_map.h"
#include "common/json.h"
#include "runtime/chat_session.h"
#include "runtime/commands.h"
#include "runtime/prompt.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define MOST_SEQUENCES 64u
#define RESULT_START "{\"line\":"

struct batch {
    const struct run_options *options;
    struct loaded_model loaded;
    struct generation_settings settings;     /* without a line's own */
    struct session *session;
    struct constraint_store constraints;
    char *source;                            /* of the chat template, once it was needed */
    const char *source_name;
    struct text input;
    int output;                              /* descriptor; -1: not open */
    uint32_t line_count, done, first; /* lines with something in them; of this run: from `first` on */
    double started, told;
    struct run_record total;
};

/* ---- lines ---- */

/* FNV-1a: notices an input that was edited, nothing more. */
static uint64_t hash_line(const char *bytes, size_t size) {
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 1099511628211u;
    return hash;
}

/* The next line that holds something, from *at on; *number counts all. False at the end. */
static bool next_line(const struct text *text, size_t *at, uint32_t *number, const char **line, size_t *size) {
    while (*at < text->length) {
        *line = text->bytes + *at;
        const char *end = memchr(*line, '\n', text->length - *at);
        *size = end ? (size_t)(end - *line) : text->length - *at;
        *at += *size + 1;
        ++*number;
        for (size_t i = 0; i < *size; i++)
            if (!strchr(" \t\r", (*line)[i]))
                return true;
    }
    return false;
}

/* Lines in all, and the most sequences that one of them asks for. */
static uint32_t survey(struct batch *batch) {
    size_t at = 0, size;
    uint32_t number = 0, most = 1;
    const char *line;
    json_t *typed = batch->options->typed;
    const char *const keys[] = { "num_beams", "num_return_sequences" };
    while (next_line(&batch->input, &at, &number, &line, &size))
        batch->line_count++;
    at = number = 0;
    for (bool more = true; more;) {
        more = next_line(&batch->input, &at, &number, &line, &size);
        json_t *object = more ? json_loadb(line, size, 0, NULL) : json_incref(typed);
        for (size_t i = 0; i < 2; i++) {
            json_int_t wanted = json_integer_value(json_object_get(object, keys[i]));
            wanted += i == 0 && wanted > 1;   /* beams run beside the prompt */
            if (wanted > most)
                most = wanted < MOST_SEQUENCES ? (uint32_t)wanted : MOST_SEQUENCES;
        }
        json_decref(object);
    }
    return most;
}

/* ---- the output file ---- */

static bool not_results(const char *path, struct error *err) {
    return error_set(err, ERROR_USAGE, "'%s' holds something else than the results of this input; give another -o, "
                     "or remove it", path);
}

/* What an earlier run has done: sets done, drops a torn last line. */
static bool resume(struct batch *batch, struct error *err) {
    const char *path = batch->options->out;
    batch->output = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (batch->output < 0)
        return error_set(err, ERROR_FAILED, "cannot open '%s': %s", path, strerror(errno));
    if (flock(batch->output, LOCK_EX | LOCK_NB) != 0)
        return error_set(err, ERROR_FAILED, "another run writes '%s' just now", path);
    struct text results;
    text_init(&results);
    bool ok = prompt_read_file(path, &results, err);
    size_t input_at = 0, at = 0, size, result_size;
    uint32_t number = 0, result_number = 0;
    const char *line, *result, *last = ok ? memrchr(results.bytes, '\n', results.length) : NULL;
    size_t whole = last ? (size_t)(last - results.bytes) + 1 : 0, torn = results.length - whole;
    size_t start = torn < strlen(RESULT_START) ? torn : strlen(RESULT_START);
    if (ok && torn && memcmp(results.bytes + whole, RESULT_START, start))
        ok = not_results(path, err);
    if (ok && torn && ftruncate(batch->output, (off_t)whole) != 0)
        ok = error_set(err, ERROR_FAILED, "cannot shorten '%s': %s", path, strerror(errno));
    if (ok)
        results.length = whole;
    while (ok && next_line(&results, &at, &result_number, &result, &result_size)) {
        json_t *object = json_loadb(result, result_size, 0, NULL);
        const char *hash = json_string_value(json_object_get(object, "input"));
        char expected[20] = "";
        if (next_line(&batch->input, &input_at, &number, &line, &size))
            snprintf(expected, sizeof expected, "%016" PRIx64, hash_line(line, size));
        if (!hash || strcmp(hash, expected) || json_integer_value(json_object_get(object, "line")) != number)
            ok = not_results(path, err);
        batch->done++;
        json_decref(object);
    }
    text_release(&results);
    batch->first = batch->done;
    return ok;
}

/* Takes the object, which already has line and input. */
static bool write_result(const struct batch *batch, json_t *object, struct error *err) {
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    size_t size = text ? strlen(text) : 0;
    if (!text)
        return error_set(err, ERROR_FAILED, "cannot write a result: out of memory");
    text[size] = '\n';   /* in place of the NUL: one line, one write */
    ssize_t written = write(batch->output, text, size + 1);
    int cause = written < 0 ? errno : ENOSPC;
    free(text);
    if (written != (ssize_t)size + 1 || (fsync(batch->output) != 0 && errno != EINVAL && (cause = errno)))
        return error_set(err, ERROR_FAILED, "cannot write '%s': %s", batch->options->out, strerror(cause));
    return true;
}

/* ---- one line ---- */

/* Ids of a line's prompt or messages. */
static bool line_prompt(struct batch *batch, const json_t *object, const char *what, struct prompt *prompt,
                        struct error *err) {
    const char *text = NULL, *system = NULL;
    const json_t *messages = json_object_get(object, "messages");
    if (!json_get_str(object, "prompt", what, &text, err) || !json_get_str(object, "system", what, &system, err))
        return false;
    if (!text == !messages)
        return error_set(err, ERROR_USAGE, "%s needs either a prompt or messages", what);
    if (text) {
        struct run_options options = *batch->options;
        options.text = text;
        options.file = NULL;
        options.system = system ? system : options.system;
        if (strlen(text) != json_string_length(json_object_get(object, "prompt")))
            return error_set(err, ERROR_USAGE, "%s: the prompt holds a NUL byte", what);
        return prompt_make(prompt, &options, batch->loaded.tokenizer, batch->loaded.model->name,
                           batch->loaded.model->vocab_size, err);
    }
    struct chat_message *list;
    uint32_t count;
    if (!batch->source && !(batch->source = chat_source(&batch->loaded, batch->options, &batch->source_name, err)))
        return false;
    if (!chat_messages_read(messages, what, &list, &count, err))
        return false;
    bool ok = chat_encode(&batch->loaded, batch->source, batch->source_name, list, count, &prompt->ids,
                          &prompt->count, err);
    if (!ok)
        prompt->ids = NULL;
    chat_messages_free(list, count);
    return ok;
}

static void add_results(json_t *object, const struct prompt *prompt, const struct generation *result) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < result->sequence_count; i++) {
        const struct generated *sequence = &result->sequences[i];
        json_t *text = json_stringn(sequence->text.bytes, sequence->text.length);
        json_array_append_new(list, json_pack("{s:o, s:s, s:i, s:o}", "text", text ? text : json_string(""),
            "finish_reason", finish_reason_name(sequence->finish), "new_tokens", (int)sequence->count, "score",
            sequence->has_score ? json_real((double)sequence->score) : json_null()));
        if (sequence->is_cut)
            json_object_set_new(json_array_get(list, i), "complete", json_false());
    }
    if (json_array_size(list) == 1) {
        json_object_update(object, json_array_get(list, 0));
        json_object_del(object, "score");
        json_decref(list);
    } else {
        json_object_set_new(object, "sequences", list);
    }
    json_object_set_new(object, "prompt_tokens", json_integer(prompt->count));
}

/* A key that nobody reads is a mistake that would go unnoticed. */
static bool check_keys(json_t *object, const char *what, struct error *err) {
    static const char *const own[] = { "prompt", "messages", "system", "id" };
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        bool is_known = generation_settings_knows(key);
        for (size_t i = 0; i < sizeof own / sizeof *own && !is_known; i++)
            is_known = strcmp(key, own[i]) == 0;
        if (!is_known)
            return error_set(err, ERROR_USAGE, "%s has the unknown key '%.100s'; a line takes prompt or messages, "
                             "system, id, and the options of 'phirun batch --help' with underscores", what, key);
    }
    return true;
}

/* Sets *problem where the line gets an error for a result. False: end of the run. */
static bool run_line(struct batch *batch, json_t *object, const char *what, json_t *out,
                     struct error *problem, struct error *err) {
    struct generation_settings settings = { 0 };
    struct prompt prompt = { 0 };
    struct generation result = { 0 };
    text_init(&prompt.text);
    bool is_ready = check_keys(object, what, problem)
                    && generation_settings_make(&settings, batch->loaded.model, batch->loaded.tokenizer, batch->options,
                                             problem)
                    && generation_settings_read(&settings, object, batch->loaded.tokenizer, what, problem)
                    && line_prompt(batch, object, what, &prompt, problem);
    if (is_ready && generation_settings_sequences(&settings) > MOST_SEQUENCES)
        is_ready = error_set(problem, ERROR_USAGE, "%s wants more than %u sequences", what, MOST_SEQUENCES);
    bool ok = true;
    if (is_ready) {
        struct generate_request request = {
            .session = batch->session, .engine = batch->loaded.engine, .tokenizer = batch->loaded.tokenizer,
            .settings = &settings, .prompt = prompt.ids, .count = prompt.count,
            .constraints = &batch->constraints,
        };
        ok = generate(&request, &result, problem);
        batch->total.prompt_tokens += prompt.count - result.reused;
        batch->total.new_tokens += result.token_count;
        batch->total.prefill_s += result.prefill_s;
        batch->total.decode_s += result.decode_s;
        if (ok)
            add_results(out, &prompt, &result);
        else if (problem->kind != ERROR_USAGE)
            *err = *problem;
        ok = ok || problem->kind == ERROR_USAGE;
    }
    generation_release(&result);
    prompt_release(&prompt);
    generation_settings_release(&settings);
    return ok;
}

static void show_progress(struct batch *batch, bool is_last) {
    double now = seconds_now(), seconds = now - batch->started;
    uint32_t here = batch->done - batch->first, left = batch->line_count - batch->done;
    if (!isatty(STDERR_FILENO) || (now - batch->told < 0.2 && !is_last))
        return;
    batch->told = now;
    unsigned filled = batch->line_count ? (unsigned)(20ull * batch->done / batch->line_count) : 20;
    fprintf(stderr, "\r\033[K[%.*s%*s] %u of %u, %.1f tok/s", (int)filled, "####################", 20 - (int)filled, "",
            batch->done, batch->line_count, seconds > 0 ? batch->total.new_tokens / seconds : 0);
    if (here && left)
        fprintf(stderr, ", about %.0f s left", seconds / here * left);
    if (is_last)
        fputc('\n', stderr);
}

static bool run_lines(struct batch *batch, struct error *err) {
    size_t at = 0, size;
    uint32_t number = 0, index = 0;
    const char *line;
    bool ok = true;
    batch->started = seconds_now();
    show_progress(batch, false);
    while (ok && !interrupted_by && next_line(&batch->input, &at, &number, &line, &size)) {
        if (index++ < batch->first)
            continue;
        char what[40], hash[20];
        snprintf(what, sizeof what, "line %u", number);
        snprintf(hash, sizeof hash, "%016" PRIx64, hash_line(line, size));
        struct error problem = { 0 };
        json_t *out = json_pack("{s:i, s:s}", "line", (int)number, "input", hash);
        json_t *object = json_read_text(line, size, what, &problem);
        if (object && !json_is_object(object))
            error_set(&problem, ERROR_USAGE, "%s is no JSON object", what);
        else if (object)
            ok = run_line(batch, object, what, out, &problem, err);
        json_t *id = json_object_get(object, "id");
        if (id)
            json_object_set(out, "id", id);
        json_decref(object);
        /* What a signal cut short is not a result: the next run makes it. */
        if (!ok || interrupted_by) {
            json_decref(out);
            break;
        }
        if (problem.kind != ERROR_NONE)
            json_object_set_new(out, "error", json_string(problem.text));
        ok = write_result(batch, out, err);
        batch->done += ok;
        show_progress(batch, false);
    }
    show_progress(batch, true);
    return ok;
}

bool command_batch(const struct run_options *options, struct error *err) {
    struct batch batch = { .options = options, .output = -1, .total = { .kind = "batch" } };
    text_init(&batch.input);
    bool ok = prompt_read_file(options->file, &batch.input, err) && resume(&batch, err);
    if (ok) {
        struct load_request request = { .needs_tokenizer = true, .settings = &batch.settings,
                                        .sequence_count = survey(&batch) };
        if (batch.first)
            fprintf(stderr, "phirun: '%s' has %u of %u results; going on\n", options->out, batch.first,
                    batch.line_count);
        if (batch.first < batch.line_count) {
            ok = loaded_model_open(&batch.loaded, options, &request, err)
                 && (batch.session = session_new(batch.loaded.engine, 0, loaded_model_rope(&batch.loaded, options),
                                                 err))
                 && run_lines(&batch, err);
            if (batch.done > batch.first) {
                batch.total.load_s = batch.loaded.load_seconds;
                generation_settings_text(&batch.settings, batch.total.settings, sizeof batch.total.settings);
                loaded_model_record(&batch.loaded, &batch.total);
                struct error not_kept = { 0 };
                if (!plan_store_add_run(batch.loaded.store, &batch.total, &not_kept))
                    fprintf(stderr, "phirun: this run was not recorded: %s\n", not_kept.text);
                if (options->verbose)
                    loaded_model_report(&batch.loaded);
            }
            session_free(batch.session);
            constraint_store_release(&batch.constraints);
            generation_settings_release(&batch.settings);
            loaded_model_close(&batch.loaded);
        }
    }
    if (batch.output >= 0)
        close(batch.output);
    free(batch.source);
    text_release(&batch.input);
    return ok;
}
