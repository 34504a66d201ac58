/* The main job: a prompt in, streamed text or one JSON object out. */
#include "common/json.h"
#include "runtime/commands.h"
#include "runtime/generate.h"
#include "runtime/json_text.h"
#include "runtime/loaded_model.h"
#include "runtime/prompt.h"
#include "runtime/prompt_cache.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the callbacks of a run need. */
struct output {
    uint32_t printed;            /* ids */
    struct prompt_cache cache;
    struct session *session;
    const struct prompt *prompt;
};

static bool print_text(void *context, const char *bytes, size_t length, struct error *err) {
    (void)context;
    return write_output(bytes, length, err);
}

/* Without a tokenizer the ids are all there is to show. */
static bool print_id(void *context, int32_t id, struct error *err) {
    struct output *output = context;
    char text[16];
    int length = snprintf(text, sizeof text, "%s%d", output->printed++ ? "," : "", id);
    return write_output(text, (size_t)length, err);
}

/* Where the answer may cross LongRoPE's switch, the prompt's KV is not there any more at its end. */
static void keep_prompt(void *context) {
    struct output *output = context;
    if (session_steady_room(output->session) < session_room(output->session))
        prompt_cache_save(&output->cache, output->session, output->prompt->ids, output->prompt->count);
}

/* Several answers, each on lines of its own, with a line of dashes between them. */
static void print_all(const struct generation *result, const struct prompt *prompt, bool has_text, bool full_text) {
    for (uint32_t i = 0; i < result->sequence_count; i++) {
        const struct generated *sequence = &result->sequences[i];
        if (i)
            puts("---");
        if (full_text)
            fwrite(prompt->text.bytes, 1, prompt->text.length, stdout);
        fwrite(sequence->text.bytes, 1, sequence->text.length, stdout);
        for (uint32_t j = 0; j < sequence->count && !has_text; j++)
            printf("%s%d", j ? "," : "", sequence->ids[j]);
        putchar('\n');
    }
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

static json_t *sequence_list(const struct generation *result, const struct prompt *prompt, bool full_text) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < result->sequence_count; i++) {
        const struct generated *sequence = &result->sequences[i];
        json_t *ids = json_array();
        for (uint32_t j = 0; j < sequence->count; j++)
            json_array_append_new(ids, json_integer(sequence->ids[j]));
        struct text text;
        text_init(&text);
        if (full_text)
            text_append_bytes(&text, prompt->text.bytes, prompt->text.length);
        text_append_bytes(&text, sequence->text.bytes, sequence->text.length);
        json_array_append_new(list, json_pack("{s:o, s:o, s:s, s:o}", "ids", ids, "text",
            json_text(text.bytes, text.length), "finish_reason", finish_reason_name(sequence->finish), "score",
            sequence->has_score ? json_real((double)sequence->score) : json_null()));
        if (sequence->is_cut)
            json_object_set_new(json_array_get(list, i), "complete", json_false());
        text_release(&text);
    }
    return list;
}

/* Tokens a second after the first one of each sequence. */
static double decode_rate(const struct generation *result) {
    uint32_t decoded = result->token_count > result->sequence_count ? result->token_count - result->sequence_count : 0;
    return rate(decoded, result->decode_s);
}

static bool print_json(const struct loaded_model *loaded, const struct run_options *options,
                       const struct generation *result, const struct prompt *prompt,
                       const struct run_record *run, struct error *err) {
    json_t *object = json_pack("{s:s, s:I, s:i, s:i, s:o, s:{s:f, s:f, s:f, s:f, s:f, s:f}, s:o, s:s}",
        "model", loaded->model->name, "plan", (json_int_t)loaded->plan->id,
        "prompt_tokens", (int)prompt->count, "cached_tokens", (int)result->reused,
        "sequences", sequence_list(result, prompt, options->full_text),
        "timings", "load_s", run->load_s, "first_token_s", run->first_token_s,
        "prefill_s", run->prefill_s, "decode_s", run->decode_s,
        "prefill_tokens_per_s", rate(run->prompt_tokens, run->prefill_s),
        "decode_tokens_per_s", decode_rate(result),
        "devices", device_list(loaded), "settings", run->settings);
    if (!object)
        return error_set(err, ERROR_FAILED, "cannot print the answer as JSON: out of memory");
    json_dumpf(object, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(object);
    return finish_output(err);
}

static void print_timings(const struct loaded_model *loaded, const struct run_record *run,
                          const struct generation *result) {
    fprintf(stderr, "plan %" PRId64 " '%s', %s\n", loaded->plan->id, loaded->plan->name, run->settings);
    fprintf(stderr, "load %.3f s, first token after %.3f s; prefill %u tokens, %.1f tok/s; "
            "decode %u tokens, %.1f tok/s; %s\n", run->load_s, run->first_token_s,
            run->prompt_tokens, rate(run->prompt_tokens, run->prefill_s), run->new_tokens,
            decode_rate(result), run->finish_reason);
    if (result->reused)
        fprintf(stderr, "prompt cache: %u more tokens of the prompt were there\n", result->reused);
    if (result->grammar_s > 0 && result->decode_s > 0)
        fprintf(stderr, "grammar: %.2f ms a token, %.1f %% of decoding\n",
                1e3 * result->grammar_s / (result->token_count ? result->token_count : 1),
                100 * result->grammar_s / result->decode_s);
    if (result->guessed)
        fprintf(stderr, "speculation: %u of %u guesses were right\n", result->accepted, result->guessed);
    loaded_model_report(loaded);
}

/* Whether there was no room for what else was wanted. */
static bool is_full(const struct generation_settings *settings, const struct prompt *prompt,
                    const struct generated *sequence) {
    return sequence->finish == FINISH_LENGTH && sequence->count < settings->new_tokens
           && (!settings->max_length || prompt->count + sequence->count < settings->max_length);
}

/* That -n was reached is no news; that the context is full is. */
static void tell_full(const struct loaded_model *loaded, const struct generation_settings *settings,
                      const struct prompt *prompt, const struct generation *result) {
    uint32_t full = 0, context = engine_context(loaded->engine);
    char advice[ENGINE_ADVICE_SIZE];
    for (uint32_t i = 0; i < result->sequence_count; i++)
        full += is_full(settings, prompt, &result->sequences[i]);
    if (!full)
        return;
    if (result->sequence_count == 1)
        fprintf(stderr, "phirun: the answer ends here: the context of %u tokens is full", context);
    else
        fprintf(stderr, "phirun: %u of %u answers end early: the context of %u tokens is full", full,
                result->sequence_count, context);
    fprintf(stderr, "; %s\n", engine_context_advice(loaded->engine, (uint64_t)context + 1, 2 * (uint64_t)context,
                                                    "ask for less", advice));
}

/* What else would have let a grammar come to its end; of a full context tell_full() says it. */
static const char *remedy(const struct generation_settings *settings, const struct prompt *prompt,
                          const struct generated *sequence) {
    switch (sequence->finish) {
    case FINISH_LENGTH: return is_full(settings, prompt, sequence) ? "" : "; allow more with -n";
    case FINISH_TIME: return "; allow more with --max-time";
    case FINISH_STOP: return "; a stop string came out";
    case FINISH_EOS: case FINISH_INTERRUPTED: break;
    }
    return "";
}

/* The text of a grammar that had to end too early does not parse. */
static void tell_cut(const struct generation_settings *settings, const struct prompt *prompt,
                     const struct generation *result) {
    uint32_t cut = 0;
    const struct generated *first = NULL;
    for (uint32_t i = result->sequence_count; i-- > 0;)
        if (result->sequences[i].is_cut) {
            first = &result->sequences[i];
            cut++;
        }
    if (cut && result->sequence_count == 1)
        fprintf(stderr, "phirun: the answer ends (%s) before its grammar does: it is not whole%s\n",
                finish_reason_name(first->finish), remedy(settings, prompt, first));
    else if (cut)
        fprintf(stderr, "phirun: %u of %u answers end before their grammar does: they are not whole%s\n", cut,
                result->sequence_count, remedy(settings, prompt, first));
}

bool command_generate(const struct run_options *options, struct error *err) {
    double started = seconds_now();
    struct loaded_model loaded;
    struct generation_settings settings = { 0 };
    struct load_request load = { .needs_tokenizer = !options->ids, .wants_tokenizer = true, .settings = &settings };
    struct generation result = { 0 };
    struct prompt prompt = { 0 };
    struct session *session = NULL;
    struct output output = { .prompt = &prompt };
    text_init(&prompt.text);

    bool ok = loaded_model_open(&loaded, options, &load, err)
              && prompt_make(&prompt, options, loaded.tokenizer, loaded.model->name,
                             loaded.model->vocab_size, err)
              && (session = session_new(loaded.engine, 0, loaded_model_rope(&loaded, options), err));
    output.session = session;
    if (ok) {
        prompt_cache_init(&output.cache, options->prompt_cache, &loaded);
        prompt_cache_restore(&output.cache, session, prompt.ids, prompt.count);
    }
    bool has_text = loaded.tokenizer != NULL;
    bool streams = !options->json && settings.num_return_sequences == 1 && settings.num_beams == 1;
    if (ok && streams && options->full_text)
        fwrite(prompt.text.bytes, 1, prompt.text.length, stdout);
    if (ok) {
        struct generate_request request = {
            .session = session, .engine = loaded.engine, .tokenizer = loaded.tokenizer, .settings = &settings,
            .prompt = prompt.ids, .count = prompt.count, .context = &output,
            .on_prompt = keep_prompt,
            .on_text = streams ? print_text : NULL, .on_token = streams && !has_text ? print_id : NULL,
        };
        ok = generate(&request, &result, err);
        if (!ok && err->kind == ERROR_USAGE)
            error_prefix(err, "model '%s'", options->model);
        if (streams && result.token_count)
            putchar('\n');
        else if (ok && !options->json && !streams)
            print_all(&result, &prompt, has_text, options->full_text);
        ok = finish_output(ok ? err : NULL) && ok;
        if (ok) {
            tell_full(&loaded, &settings, &prompt, &result);
            tell_cut(&settings, &prompt, &result);
        }
    }
    if (ok) {
        const char *finish = result.sequence_count ? finish_reason_name(result.sequences[0].finish)
                                                   : finish_reason_name(FINISH_INTERRUPTED);
        struct run_record run = { .kind = "generate", .prompt_tokens = prompt.count - result.reused,
            .new_tokens = result.token_count, .load_s = loaded.load_seconds,
            .first_token_s = result.first_token_at > 0 ? result.first_token_at - started : 0,
            .prefill_s = result.prefill_s, .decode_s = result.decode_s };
        if (options->exact)   /* another arithmetic: no measure of the plan */
            snprintf(run.kind, sizeof run.kind, "exact");
        else if (result.reused)
            snprintf(run.kind, sizeof run.kind, "cached");   /* few tokens after many: none either */
        snprintf(run.finish_reason, sizeof run.finish_reason, "%s", finish);
        generation_settings_text(&settings, run.settings, sizeof run.settings);
        if (options->json)
            ok = print_json(&loaded, options, &result, &prompt, &run, err);
        if (options->verbose)
            print_timings(&loaded, &run, &result);
        loaded_model_add_run(&loaded, &run);
    }
    if (ok)
        prompt_cache_save(&output.cache, session, prompt.ids, prompt.count);
    generation_release(&result);
    session_free(session);
    prompt_release(&prompt);
    generation_settings_release(&settings);
    loaded_model_close(&loaded);
    return ok;
}
