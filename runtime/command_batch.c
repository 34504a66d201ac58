/* Many prompts from a file, one JSON object a line; the results in a file of the same kind.
 *
 * A result line is written with one call and synced, in the order of the input, so that a
 * killed run loses no more than the lines that were under way: what the output file holds is
 * done, and a torn last line is dropped. Results name their input line and a hash of it, and of
 * the options, so that a changed input or command is noticed. Prompts run together
 * (prompt_lanes.h), a few lines ahead of the oldest that is not done; what they have in common is
 * not run again. */
#include "common/file_map.h"
#include "common/json.h"
#include "runtime/chat_session.h"
#include "runtime/commands.h"
#include "runtime/json_text.h"
#include "runtime/prompt.h"
#include "runtime/prompt_lanes.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define MOST_SEQUENCES 64u
#define JOBS 32u                /* lines that may be under way or done before the oldest of them */
#define RESULT_START "{\"line\":"

struct batch {
    const struct run_options *options;
    struct loaded_model loaded;
    struct generation_settings settings;     /* without a line's own */
    struct prompt_lanes *lanes;
    uint32_t lane_count;
    struct constraint_store constraints;
    char *source;                            /* of the chat template, once it was needed */
    const char *source_name;
    struct text input;
    char settings_hash[20];                  /* a hash of what the answers hang on beside their lines */
    int output;                              /* descriptor; -1: not open */
    bool to_standard_output;                 /* -o -: nothing to go on from */
    uint32_t line_count, done, first; /* lines with something in them; of this run: from `first` on */
    uint32_t failed;                  /* of those done, whose result is an error */
    double started, told;
    struct run_record total;
};

/* A line from its reading to its writing. */
struct job {
    json_t *out;                 /* the result so far; NULL: a free place */
    json_t *id;                  /* the line's, for the end of the result; may be NULL */
    bool is_done;
    struct generation_settings settings;
    struct prompt prompt;
    struct generate_request request;
    struct generation result;
};

/* ---- lines ---- */

/* FNV-1a in hex: notices an input that was edited, nothing more. */
static void hash_text(const char *bytes, size_t size, char hash[20]) {
    uint64_t sum = 14695981039346656037u;
    for (size_t i = 0; i < size; i++)
        sum = (sum ^ (unsigned char)bytes[i]) * 1099511628211u;
    snprintf(hash, 20, "%016" PRIx64, sum);
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

/* The settings' hash. A model's folder counts, not how it was spelled; of a template its text. */
static bool hash_settings(struct batch *batch, struct error *err) {
    const struct run_options *options = batch->options;
    struct text text;
    text_init(&text);
    char *template = NULL, *typed = json_dumps(options->typed, JSON_COMPACT | JSON_SORT_KEYS);
    char *model = realpath(options->model, NULL);
    bool ok = !options->template_name || (template = chat_template_read(options->template_name, err));
    const char *const parts[] = { model ? model : options->model, options->plan_name, options->system, options->eos,
                                  template, typed };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        text_append_char(&text, parts[i] ? '1' : '0');
        text_append_bytes(&text, parts[i] ? parts[i] : "", parts[i] ? strlen(parts[i]) + 1 : 0);
    }
    text_append_format(&text, "%d %d %d %d", options->raw, options->ignore_eos, options->exact,
                       options->has_rope ? (int)options->rope : -1);
    if (ok && (text.failed || !typed))
        ok = error_set(err, ERROR_FAILED, "cannot keep the options: out of memory");
    hash_text(text.bytes, text.length, batch->settings_hash);
    free(model);
    free(typed);
    free(template);
    text_release(&text);
    return ok;
}

static bool not_results(const char *path, struct error *err) {
    return error_set(err, ERROR_USAGE, "'%s' holds something else than the results of this input; give another -o, "
                     "or remove it", path);
}

/* What an earlier run has done: sets done, drops a torn last line. */
static bool resume(struct batch *batch, struct error *err) {
    const char *path = batch->options->out;
    batch->to_standard_output = strcmp(path, "-") == 0;
    if (batch->to_standard_output) {
        batch->output = STDOUT_FILENO;
        return true;
    }
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
    if (ok)
        results.length = whole;
    while (ok && next_line(&results, &at, &result_number, &result, &result_size)) {
        json_t *object = json_loadb(result, result_size, 0, NULL);
        const char *hash = json_string_value(json_object_get(object, "input"));
        const char *settings = json_string_value(json_object_get(object, "settings"));
        char expected[20] = "";
        if (next_line(&batch->input, &input_at, &number, &line, &size))
            hash_text(line, size, expected);
        if (!hash || strcmp(hash, expected) || json_integer_value(json_object_get(object, "line")) != number)
            ok = not_results(path, err);
        else if (!settings || strcmp(settings, batch->settings_hash))
            ok = error_set(err, ERROR_USAGE, "the results in '%s' were made with another model, plan or options; give "
                           "those again, or another -o", path);
        batch->done++;
        batch->failed += json_object_get(object, "error") != NULL;
        json_decref(object);
    }
    text_release(&results);
    /* Not before it is known that the file is ours. */
    if (ok && torn && ftruncate(batch->output, (off_t)whole) != 0)
        ok = error_set(err, ERROR_FAILED, "cannot shorten '%s': %s", path, strerror(errno));
    batch->first = batch->done;
    return ok;
}

/* Takes the object, which already has line, input and settings. */
static bool write_result(const struct batch *batch, json_t *object, struct error *err) {
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    size_t size = text ? strlen(text) : 0;
    if (!text)
        return error_set(err, ERROR_FAILED, "cannot write a result: out of memory");
    text[size++] = '\n';   /* in place of the NUL: one line, one write, where it is not a pipe */
    bool ok = file_write_all(batch->output, text, size);
    if (ok && !batch->to_standard_output)
        ok = fsync(batch->output) == 0 || errno == EINVAL;
    if (!ok && batch->to_standard_output)
        output_failed(err);
    else if (!ok)
        error_set(err, ERROR_FAILED, "cannot write '%s': %s", batch->options->out, strerror(errno));
    free(text);
    return ok;
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
        json_array_append_new(list, json_pack("{s:o, s:s, s:i, s:o}", "text",
            json_text(sequence->text.bytes, sequence->text.length), "finish_reason",
            finish_reason_name(sequence->finish), "new_tokens", (int)sequence->count, "score",
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

static void job_release(struct job *job) {
    json_decref(job->out);
    json_decref(job->id);
    generation_release(&job->result);
    prompt_release(&job->prompt);
    generation_settings_release(&job->settings);
    *job = (struct job){ 0 };
}

static void fail_job(struct job *job, const struct error *problem) {
    json_object_set_new(job->out, "error", json_string(problem->text));
    job->is_done = true;
}

/* A line as a job; what is wrong with it is its result. False: out of memory. */
static bool read_line(struct batch *batch, struct job *job, uint32_t number, const char *line, size_t size,
                      struct error *err) {
    char what[40], hash[20];
    struct error problem = { 0 };
    snprintf(what, sizeof what, "line %u", number);
    hash_text(line, size, hash);
    *job = (struct job){ .out = json_pack("{s:i, s:s, s:s}", "line", (int)number, "input", hash, "settings",
                                          batch->settings_hash) };
    if (!job->out)
        return error_set(err, ERROR_FAILED, "cannot read %s: out of memory", what);
    text_init(&job->prompt.text);
    json_t *object = json_read_line(line, size, batch->options->file, number, &problem);
    bool ok = object && (json_is_object(object) || error_set(&problem, ERROR_USAGE, "%s is no JSON object", what));
    job->id = json_incref(json_object_get(object, "id"));
    ok = ok && check_keys(object, what, &problem)
         && generation_settings_make(&job->settings, batch->loaded.model, batch->loaded.tokenizer, batch->options,
                                     &problem)
         && generation_settings_read(&job->settings, object, batch->loaded.tokenizer, what, &problem)
         && line_prompt(batch, object, what, &job->prompt, &problem);
    if (ok && generation_settings_sequences(&job->settings) > MOST_SEQUENCES)
        ok = error_set(&problem, ERROR_USAGE, "%s wants more than %u sequences", what, MOST_SEQUENCES);
    json_decref(object);
    if (!ok)
        fail_job(job, &problem);
    job->request = (struct generate_request){
        .engine = batch->loaded.engine, .tokenizer = batch->loaded.tokenizer, .settings = &job->settings,
        .constraints = &batch->constraints, .prompt = job->prompt.ids, .count = job->prompt.count,
    };
    return true;
}

static void finish_job(struct batch *batch, struct job *job) {
    batch->total.prompt_tokens += job->prompt.count - job->result.reused;
    batch->total.new_tokens += job->result.token_count;
    batch->total.prefill_s += job->result.prefill_s;
    add_results(job->out, &job->prompt, &job->result);
    job->is_done = true;
}

/* What a line asks wrongly is its result; anything else ends the run. */
static bool judge_failure(struct job *job, const struct error *problem, struct error *err) {
    if (problem->kind == ERROR_USAGE) {
        fail_job(job, problem);
        return true;
    }
    *err = *problem;
    return false;
}

/* Begin a job, or do all of it. Sets *is_taken unless it has to wait for others. */
static bool start_job(struct batch *batch, struct job *job, bool *is_taken, struct error *err) {
    struct error problem = { 0 };
    bool runs_along = generation_can_step(&job->settings) && (!job->settings.speculate || batch->lane_count > 1);
    *is_taken = job->is_done || (runs_along ? prompt_lanes_has_room(batch->lanes, job->prompt.count)
                                            : !prompt_lanes_running(batch->lanes));
    if (job->is_done || !*is_taken)
        return true;
    if (runs_along)
        return prompt_lanes_add(batch->lanes, &job->request, &job->result, job, &problem)
               || judge_failure(job, &problem, err);
    job->request.session = prompt_lanes_alone(batch->lanes, job->prompt.ids, job->prompt.count);
    if (!generate(&job->request, &job->result, &problem))
        return judge_failure(job, &problem, err);
    batch->total.decode_s += job->result.decode_s;
    /* What a signal cut short is not a result: the next run makes it. */
    if (!interrupted_by)
        finish_job(batch, job);
    return true;
}

static void show_progress(struct batch *batch, bool is_last) {
    double now = seconds_now(), seconds = now - batch->started;
    uint32_t here = batch->done - batch->first, left = batch->line_count - batch->done;
    bool is_shared = batch->to_standard_output && isatty(STDOUT_FILENO);
    if (!isatty(STDERR_FILENO) || is_shared || (now - batch->told < 0.2 && !is_last))
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

/* Write what is done, up to the oldest that is not. */
static bool write_done(struct batch *batch, struct job *jobs, uint32_t *oldest, struct error *err) {
    for (struct job *job; (job = &jobs[*oldest % JOBS])->out && job->is_done; ++*oldest) {
        json_t *out = job->out;
        job->out = NULL;
        if (job->id)
            json_object_set(out, "id", job->id);
        job_release(job);
        bool is_error = json_object_get(out, "error") != NULL;
        if (!write_result(batch, out, err))
            return false;
        batch->done++;
        batch->failed += is_error;
        show_progress(batch, false);
    }
    return true;
}

static bool run_lines(struct batch *batch, struct error *err) {
    struct job *jobs = calloc(JOBS, sizeof *jobs);
    size_t at = 0, size;
    uint32_t number = 0, read = 0, oldest = batch->first;   /* lines, counted where they hold something */
    const char *line;
    bool ok = jobs || error_set(err, ERROR_FAILED, "cannot run the lines: out of memory"), is_taken = true;
    batch->started = seconds_now();
    show_progress(batch, false);
    for (; ok && read < batch->first; read++)
        next_line(&batch->input, &at, &number, &line, &size);
    while (ok && !interrupted_by && oldest < batch->line_count) {
        /* jobs[read - 1] is the one that waits where it was not taken. */
        while (ok && !interrupted_by) {
            if (is_taken) {
                if (read - oldest == JOBS || !next_line(&batch->input, &at, &number, &line, &size))
                    break;
                ok = read_line(batch, &jobs[read++ % JOBS], number, line, size, err);
            }
            ok = ok && start_job(batch, &jobs[(read - 1) % JOBS], &is_taken, err);
            if (!is_taken)
                break;
            ok = ok && write_done(batch, jobs, &oldest, err);
        }
        if (ok && !interrupted_by && prompt_lanes_running(batch->lanes))
            ok = prompt_lanes_step(batch->lanes, err);
        for (struct job *job; ok && (job = prompt_lanes_done(batch->lanes));)
            finish_job(batch, job);
        ok = ok && write_done(batch, jobs, &oldest, err);
    }
    show_progress(batch, true);
    /* Signals are told by main(). */
    if (!ok && err->kind == ERROR_INTERRUPTED)
        ok = true;
    batch->total.decode_s += prompt_lanes_seconds(batch->lanes);
    if (batch->options->verbose)
        fprintf(stderr, "prompts at a time: up to %u\n", prompt_lanes_widest(batch->lanes));
    prompt_lanes_free(batch->lanes);
    batch->lanes = NULL;
    for (uint32_t i = 0; jobs && i < JOBS; i++)
        if (jobs[i].out)
            job_release(&jobs[i]);
    free(jobs);
    return ok;
}

/* The model, and as many timelines as are of use. Each takes a page more: where the plan's
 * memory does not have them, one has to do. */
static bool open_lanes(struct batch *batch, struct load_request *request, struct error *err) {
    uint32_t left = batch->line_count - batch->first, most = request->sequence_count;
    uint32_t count = left < PROMPT_LANES_MOST ? left : PROMPT_LANES_MOST;
    request->sequence_count = count > most ? count : most;
    bool ok = loaded_model_open(&batch->loaded, batch->options, request, err);
    if (!ok && err->kind == ERROR_STALE && request->sequence_count > most) {
        generation_settings_release(&batch->settings);
        batch->settings = (struct generation_settings){ 0 };
        loaded_model_close(&batch->loaded);
        *err = (struct error){ 0 };
        count = 1;
        request->sequence_count = most;
        ok = loaded_model_open(&batch->loaded, batch->options, request, err);
    }
    batch->lane_count = count;
    return ok && (batch->lanes = prompt_lanes_new(batch->loaded.engine,
                                                  loaded_model_rope(&batch->loaded, batch->options), count, err));
}

/* What is there already. */
static void tell_going_on(const struct batch *batch) {
    bool is_done = batch->first == batch->line_count;
    fprintf(stderr, "phirun: '%s' has %u of %u results", batch->options->out, batch->first, batch->line_count);
    if (batch->failed)
        fprintf(stderr, ", %u of them failed", batch->failed);
    fputs(is_done ? "; nothing is left to do\n" : "; going on\n", stderr);
}

bool command_batch(const struct run_options *options, struct error *err) {
    struct batch batch = { .options = options, .output = -1, .total = { .kind = "batch" } };
    text_init(&batch.input);
    bool ok = prompt_read_file(options->file, &batch.input, err) && hash_settings(&batch, err) && resume(&batch, err);
    if (ok) {
        struct load_request request = { .needs_tokenizer = true, .settings = &batch.settings,
                                        .sequence_count = survey(&batch) };
        if (batch.first)
            tell_going_on(&batch);
        if (batch.first < batch.line_count) {
            ok = open_lanes(&batch, &request, err) && run_lines(&batch, err);
            if (batch.done > batch.first) {
                batch.total.load_s = batch.loaded.load_seconds;
                generation_settings_text(&batch.settings, batch.total.settings, sizeof batch.total.settings);
                loaded_model_add_run(&batch.loaded, &batch.total);
                if (options->verbose)
                    loaded_model_report(&batch.loaded);
            }
            constraint_store_release(&batch.constraints);
            generation_settings_release(&batch.settings);
            loaded_model_close(&batch.loaded);
        }
        if (ok && batch.failed && !interrupted_by)
            ok = batch.to_standard_output
                 ? error_set(err, ERROR_FAILED, "%u of %u lines failed; see their results", batch.failed, batch.line_count)
                 : error_set(err, ERROR_FAILED, "%u of %u lines failed; see '%s'", batch.failed, batch.line_count,
                             options->out);
    }
    if (batch.output >= 0 && !batch.to_standard_output)
        close(batch.output);
    free(batch.source);
    text_release(&batch.input);
    return ok;
}
