/* The main job: a prompt in, streamed text or one JSON object out. */
#include "common/json.h"
#include "runtime/commands.h"
#include "runtime/generate.h"
#include "runtime/loaded_model.h"
#include "runtime/prompt.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What on_token() needs; `text` collects the answer where it is not streamed. */
struct output {
    struct token_stream *stream;    /* NULL: no tokenizer, ids are printed */
    bool streaming;                 /* to standard output as it comes */
    uint32_t printed;
    struct text text;
};

static bool emit(struct output *output, struct text *piece, struct error *err) {
    if (piece->failed)
        return error_set(err, ERROR_FAILED, "cannot keep the answer: out of memory");
    text_append_bytes(&output->text, piece->bytes, piece->length);
    if (output->streaming && piece->length)
        fwrite(piece->bytes, 1, piece->length, stdout);
    return !output->streaming || finish_output(err);
}

static bool on_token(void *context, int32_t id, bool is_end, struct error *err) {
    struct output *output = context;
    if (!output->stream) {
        if (output->streaming)
            printf("%s%d", output->printed++ ? "," : "", id);
        return !output->streaming || finish_output(err);
    }
    if (is_end)
        return true;   /* `text` is without the end token */
    struct text piece;
    text_init(&piece);
    bool ok = token_stream_feed(output->stream, id, &piece, err) && emit(output, &piece, err);
    text_release(&piece);
    return ok;
}

static bool end_stream(struct output *output, struct error *err) {
    struct text piece;
    text_init(&piece);
    bool ok = !output->stream
              || (token_stream_end(output->stream, &piece, err) && emit(output, &piece, err));
    text_release(&piece);
    return ok;
}

static double rate(double count, double seconds) {
    return seconds > 0 ? count / seconds : 0;
}

static json_t *device_list(const struct loaded_model *loaded) {
    struct engine_device_report reports[PLAN_MAX_DEVICES + 1];
    uint32_t count = engine_report(loaded->engine, reports, PLAN_MAX_DEVICES + 1);
    json_t *list = json_array();
    for (uint32_t i = 0; i < count; i++)
        json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:f}", "device", reports[i].device,
            "bytes_planned", (json_int_t)reports[i].bytes_planned,
            "bytes_loaded", (json_int_t)reports[i].bytes_loaded,
            "seconds", reports[i].prefill_seconds + reports[i].decode_seconds));
    return list;
}

static bool print_json(const struct loaded_model *loaded, const struct run_options *options,
                       const struct generation *result, const struct prompt *prompt,
                       const struct output *output, const struct run_record *run,
                       struct error *err) {
    json_t *ids = json_array();
    for (uint32_t i = 0; i < result->count; i++)
        json_array_append_new(ids, json_integer(result->ids[i]));
    struct text text;
    text_init(&text);
    if (options->full_text)
        text_append_bytes(&text, prompt->text.bytes, prompt->text.length);
    text_append_bytes(&text, output->text.bytes, output->text.length);
    json_t *string = json_stringn(text.bytes, text.length);
    if (!string)
        string = json_string("");
    json_t *object = json_pack("{s:s, s:I, s:i, s:[{s:o, s:o, s:s, s:n}], s:{s:f, s:f, s:f, s:f, s:f, s:f}, s:o}",
        "model", loaded->model->name, "plan", (json_int_t)loaded->plan->id,
        "prompt_tokens", (int)prompt->count,
        "sequences", "ids", ids, "text", string, "finish_reason", finish_reason_name(result->finish),
        "score",
        "timings", "load_s", run->load_s, "first_token_s", run->first_token_s,
        "prefill_s", run->prefill_s, "decode_s", run->decode_s,
        "prefill_tokens_per_s", rate(prompt->count, run->prefill_s),
        "decode_tokens_per_s", rate(result->count ? result->count - 1 : 0, run->decode_s),
        "devices", device_list(loaded));
    text_release(&text);
    if (!object)
        return error_set(err, ERROR_FAILED, "cannot print the answer as JSON: out of memory");
    json_dumpf(object, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(object);
    return finish_output(err);
}

static void print_timings(const struct loaded_model *loaded, const struct run_record *run,
                          const char *settings) {
    fprintf(stderr, "plan %" PRId64 " '%s', %s\n", loaded->plan->id, loaded->plan->name, settings);
    fprintf(stderr, "load %.3f s, first token after %.3f s; prefill %u tokens, %.1f tok/s; "
            "decode %u tokens, %.1f tok/s; %s\n", run->load_s, run->first_token_s,
            run->prompt_tokens, rate(run->prompt_tokens, run->prefill_s), run->new_tokens,
            rate(run->new_tokens ? run->new_tokens - 1 : 0, run->decode_s), run->finish_reason);
    loaded_model_report(loaded);
}

bool command_generate(const struct run_options *options, struct error *err) {
    double started = seconds_now();
    struct loaded_model loaded;
    struct load_request request = { .needs_tokenizer = !options->ids, .wants_tokenizer = true };
    struct generation_settings settings;
    struct generation result = { 0 };
    struct prompt prompt = { 0 };
    struct output output = { .streaming = !options->json };
    struct session *session = NULL;
    text_init(&output.text);
    text_init(&prompt.text);

    bool ok = loaded_model_open(&loaded, options, &request, err)
              && generation_settings_make(&settings, loaded.model, loaded.tokenizer, options, err)
              && prompt_make(&prompt, options, loaded.tokenizer, loaded.model->name,
                             loaded.model->vocab_size, err)
              && (session = session_new(loaded.engine, 0, loaded_model_rope(&loaded, options), err));
    if (ok && loaded.tokenizer) {
        output.stream = token_stream_new(loaded.tokenizer, prompt.ids, prompt.count, true);
        if (!output.stream)
            ok = error_set(err, ERROR_FAILED, "cannot start the answer: out of memory");
    }
    if (ok && output.streaming && options->full_text)
        fwrite(prompt.text.bytes, 1, prompt.text.length, stdout);
    bool generated = ok;
    ok = ok && generate(session, loaded.engine, &settings, prompt.ids, prompt.count, on_token, &output,
                        &result, err);
    if (!ok && generated && err->kind == ERROR_USAGE)
        error_prefix(err, "model '%s'", options->model);
    if (generated) {
        ok = end_stream(&output, ok ? err : NULL) && ok;
        if (output.streaming && result.count)
            putchar('\n');
        ok = finish_output(ok ? err : NULL) && ok;
    }
    if (ok) {
        struct run_record run = { .kind = "generate", .prompt_tokens = prompt.count,
            .new_tokens = result.count, .load_s = loaded.load_seconds,
            .first_token_s = result.first_token_at ? result.first_token_at - started : 0,
            .prefill_s = result.prefill_s, .decode_s = result.decode_s };
        if (options->exact)   /* another arithmetic: no measure of the plan */
            snprintf(run.kind, sizeof run.kind, "exact");
        snprintf(run.finish_reason, sizeof run.finish_reason, "%s", finish_reason_name(result.finish));
        generation_settings_text(&settings, run.settings, sizeof run.settings);
        loaded_model_record(&loaded, &run);
        if (options->json)
            ok = print_json(&loaded, options, &result, &prompt, &output, &run, err);
        if (options->verbose)
            print_timings(&loaded, &run, run.settings);
        struct error not_kept = { 0 };
        if (!plan_store_add_run(loaded.store, &run, &not_kept))
            fprintf(stderr, "phirun: this run was not recorded: %s\n", not_kept.text);
    }
    token_stream_free(output.stream);
    text_release(&output.text);
    free(result.ids);
    session_free(session);
    prompt_release(&prompt);
    loaded_model_close(&loaded);
    return ok;
}
