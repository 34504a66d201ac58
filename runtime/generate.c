#include "runtime/generate.h"

#include "common/clock.h"
#include "runtime/answer.h"
#include "runtime/beam_search.h"
#include "runtime/sampler.h"
#include "runtime/speculation.h"

#include <stdlib.h>
#include <string.h>

/* One sequence on its way. */
struct lane {
    struct session *session;     /* the first lane's is the caller's */
    struct sampler *sampler;
    struct answer answer;
    size_t told;                 /* bytes of the answer that on_text() got */
    struct generated *result;
    bool is_done;
};

struct run {
    const struct generate_request *request;
    struct generation *result;
    struct lane *lanes;          /* [lane_count] */
    uint32_t lane_count;
    uint32_t most;               /* new tokens of each */
    float *logits;               /* [max(lane_count, 1 + SPECULATION_MOST where it is on)][vocab] */
    double started;
    struct constraint *constraint;     /* what the grammar allows; NULL: all */
    struct constraint_store own_store; /* where the request brings none */
    uint32_t *states;            /* [lane_count] in the grammar */
    bool drops_space;            /* before the first token */
};

const char *finish_reason_name(enum finish_reason reason) {
    static const char *const names[] = { "eos", "length", "stop", "time", "interrupted" };
    return names[reason];
}

/* ---- how much fits ---- */

/* Pages that `sequences` continuations of `new_tokens` each take at most, with what they share;
 * the last token needs no place. */
static uint64_t pages_of(uint64_t prompt, uint64_t new_tokens, uint64_t sequences) {
    uint64_t own = prompt % KV_PAGE_TOKENS + new_tokens - 1;
    return prompt / KV_PAGE_TOKENS + sequences * ((own + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS);
}

static bool find_most(const struct generate_request *request, uint32_t sequences, uint32_t *most,
                      struct error *err) {
    const struct generation_settings *settings = request->settings;
    uint32_t context = engine_context(request->engine), count = request->count;
    char advice[ENGINE_ADVICE_SIZE];
    if (count > context) {
        uint64_t wanted = (uint64_t)count + (settings->new_tokens < context ? settings->new_tokens : 256);
        return error_set(err, ERROR_USAGE, "the prompt has %u tokens and the plan's context %u; %s", count, context,
                         engine_context_advice(request->engine, count, wanted, "shorten the text", advice));
    }
    if (settings->max_length && count >= settings->max_length)
        return error_set(err, ERROR_USAGE, "the prompt has %u tokens and max-length allows %u in all; raise it", count,
                         settings->max_length);
    uint32_t wanted = settings->new_tokens;
    if (settings->max_length && settings->max_length - count < wanted)
        wanted = settings->max_length - count;
    /* The last token is chosen but needs no place in the KV cache. */
    *most = context - count + 1 < wanted ? context - count + 1 : wanted;
    uint64_t pages = (uint64_t)kv_pages_of(context) + sequences - 1;
    if (sequences > 1 && *most && pages_of(count, *most, sequences) > pages) {
        if (wanted <= context) {
            /* Each sequence but the first brings one page of its own. */
            uint64_t need = pages_of(count, wanted, sequences);
            return error_set(err, ERROR_USAGE, "%u sequences of %u tokens after a prompt of %u need more than the plan's "
                             "context of %u; %s", sequences, wanted, count, context,
                             engine_context_advice(request->engine, (need - (sequences - 1)) * KV_PAGE_TOKENS,
                                                   need * KV_PAGE_TOKENS, "ask for fewer tokens or sequences", advice));
        }
        while (*most > 1 && pages_of(count, *most, sequences) > pages)
            --*most;
    }
    return true;
}

/* ---- one token ---- */

static bool tell(const struct run *run, struct lane *lane, struct error *err) {
    const struct generate_request *request = run->request;
    size_t length = lane->answer.text.length - lane->told;
    if (run->lane_count > 1 || !request->on_text || !length)
        return true;
    const char *bytes = lane->answer.text.bytes + lane->told;
    lane->told = lane->answer.text.length;
    return request->on_text(request->context, bytes, length, err);
}

static void finish(struct lane *lane, enum finish_reason reason) {
    if (!lane->is_done)
        lane->result->finish = reason;
    lane->is_done = true;
}

/* Let only those tokens come that the grammar allows. */
static bool restrict_lane(struct run *run, struct lane *lane, struct error *err) {
    const struct generation_settings *settings = run->request->settings;
    if (!run->constraint)
        return true;
    double started = seconds_now();
    if (!constraint_trim(run->constraint, run->states, run->lane_count, err))
        return false;
    const uint32_t *allowed = constraint_allowed(run->constraint, run->states[lane - run->lanes],
                                                 run->drops_space && !lane->result->count, settings->eos_ids,
                                                 settings->eos_count, err);
    sampler_allow(lane->sampler, allowed);
    run->result->grammar_s += seconds_now() - started;
    return allowed;
}

/* Take a token into the grammar; the text may be complete then. */
static bool follow(struct run *run, struct lane *lane, int32_t id, struct error *err) {
    uint32_t *state = &run->states[lane - run->lanes];
    if (!run->constraint)
        return true;
    if (!constraint_accept(run->constraint, state, id, err))
        return false;
    if (constraint_is_complete(run->constraint, *state))
        finish(lane, FINISH_EOS);
    return true;
}

/* Choose the next token and take it in; the lane may be done then. */
static bool choose(struct run *run, struct lane *lane, const float *logits, int32_t *id, struct error *err) {
    const struct generate_request *request = run->request;
    const struct generation_settings *settings = request->settings;
    struct generated *result = lane->result;
    if (!restrict_lane(run, lane, err))
        return false;
    *id = sampler_choose(lane->sampler, logits);
    if (*id < 0)
        return error_set(err, ERROR_FAILED, "no next token can be chosen: %s", run->constraint
                         ? "what the grammar allows is banned by other options, or the logits hold NaN"
                         : "the logits hold NaN or nothing but -infinity; check the model's files with --verify");
    sampler_accept(lane->sampler, *id);
    result->ids[result->count++] = *id;
    run->result->token_count++;
    double now = seconds_now();
    if (run->result->first_token_at == 0)
        run->result->first_token_at = now;
    bool stopped = false;
    if (generation_settings_is_end(settings, *id))
        finish(lane, FINISH_EOS);
    else if (!answer_token(&lane->answer, *id, &stopped, err) || !follow(run, lane, *id, err))
        return false;
    if (stopped)
        finish(lane, FINISH_STOP);
    if (result->count == run->most)
        finish(lane, FINISH_LENGTH);
    if (settings->max_time > 0 && now - run->started > (double)settings->max_time)
        finish(lane, FINISH_TIME);
    return (run->lane_count > 1 || !request->on_token || request->on_token(request->context, *id, err))
           && tell(run, lane, err);
}

/* ---- decoding ---- */

/* All lanes that are not done, one token each a batch. The first logits are all lanes'. */
static bool decode_together(struct run *run, struct error *err) {
    uint32_t vocab = engine_model(run->request->engine)->vocab_size;
    struct session *sessions[GENERATION_MOST_SEQUENCES];
    int32_t ids[GENERATION_MOST_SEQUENCES];
    for (bool is_first = true;; is_first = false) {
        uint32_t row = 0, left = 0;
        for (uint32_t i = 0; i < run->lane_count; i++) {
            struct lane *lane = &run->lanes[i];
            if (lane->is_done)
                continue;
            const float *logits = run->logits + (is_first ? 0 : (size_t)row++ * vocab);
            if (!choose(run, lane, logits, &ids[left], err))
                return false;
            if (!lane->is_done)
                sessions[left++] = lane->session;
            else if (i > 0 && !session_truncate(lane->session, 0, err))
                return false;
        }
        if (!left)
            return true;
        if (!session_append_each(sessions, left, ids, run->logits, err))
            return false;
    }
}

/* One lane, with guesses where the text repeats itself. */
static bool decode_guessing(struct run *run, struct speculation *speculation, struct error *err) {
    struct lane *lane = &run->lanes[0];
    uint32_t vocab = engine_model(run->request->engine)->vocab_size;
    int32_t tokens[1 + SPECULATION_MOST];   /* the last one chosen, and what may follow it */
    if (!choose(run, lane, run->logits, &tokens[0], err))
        return false;
    while (!lane->is_done) {
        uint32_t before, room = session_steady_room(lane->session), count;
        session_tokens(lane->session, &before);
        const int32_t *history = sampler_history(lane->sampler, &count);
        uint32_t allowed = room > 1 ? room - 1 : 0, wanted = run->most - lane->result->count - 1;
        allowed = allowed < wanted ? allowed : wanted;
        uint32_t drafted = speculation_draft(speculation, history, count,
                                             allowed < SPECULATION_MOST ? allowed : SPECULATION_MOST, tokens + 1);
        double started = seconds_now();
        if (!session_append_all(lane->session, tokens, 1 + drafted, run->logits, err))
            return false;
        double seconds = seconds_now() - started;
        uint32_t right = 0;
        int32_t id;
        for (;; right++) {
            if (!choose(run, lane, run->logits + (size_t)right * vocab, &id, err))
                return false;
            if (lane->is_done || right == drafted || id != tokens[1 + right])
                break;
        }
        speculation_note(speculation, drafted, right, seconds);
        if (right < drafted && !session_truncate(lane->session, before + 1 + right, err))
            return false;
        tokens[0] = id;
    }
    return true;
}

/* ---- from the prompt to the result ---- */

static bool prefill(struct run *run, struct error *err) {
    const struct generate_request *request = run->request;
    if (!session_replay(request->session, request->prompt, request->count, run->logits, err))
        return false;
    run->result->reused = request->count - session_last_pass(request->session);
    if (request->on_prompt)
        request->on_prompt(request->context);
    return true;
}

static bool start_lane(struct run *run, uint32_t index, struct sampler_settings sampling, struct error *err) {
    const struct generate_request *request = run->request;
    struct lane *lane = &run->lanes[index];
    sampling.seed += index;
    lane->result = &run->result->sequences[index];
    run->result->sequence_count = index + 1;
    text_init(&lane->result->text);
    lane->session = index == 0 ? request->session : NULL;
    lane->result->ids = malloc((size_t)run->most * sizeof *lane->result->ids);
    if (!answer_begin(&lane->answer, request->tokenizer, request->settings, request->prompt, request->count, err))
        return false;
    lane->sampler = sampler_new(&sampling, engine_model(request->engine)->vocab_size, err);
    if (!lane->sampler)
        return false;
    if (!lane->result->ids)
        return error_set(err, ERROR_FAILED, "cannot generate %u tokens: out of memory", run->most);
    sampler_prompt(lane->sampler, request->prompt, request->count);
    return true;
}

/* Whether a sequence ended before its grammar did. */
static void judge_end(struct run *run, struct generated *sequence) {
    const struct generation_settings *settings = run->request->settings;
    sequence->is_cut = run->constraint && ((sequence->finish == FINISH_STOP && !settings->keep_stop)
        || !constraint_accepts(run->constraint, sequence->ids, sequence->count, settings->eos_ids,
                               settings->eos_count));
}

/* Flush what is held back, hand the text over. */
static bool end_lane(struct run *run, struct lane *lane, struct error *err) {
    bool stopped = false;
    bool ok = answer_end(&lane->answer, &stopped, err) && tell(run, lane, err);
    if (stopped && lane->result->finish == FINISH_LENGTH)
        lane->result->finish = FINISH_STOP;
    judge_end(run, lane->result);
    lane->result->text = lane->answer.text;
    text_init(&lane->answer.text);
    return ok;
}

static bool run_lanes(struct run *run, const struct sampler_settings *sampling, struct error *err) {
    const struct generate_request *request = run->request;
    struct speculation speculation;
    speculation_init(&speculation);
    bool ok = true, is_started = false;
    for (uint32_t i = 0; ok && i < run->lane_count; i++)
        ok = start_lane(run, i, *sampling, err);
    ok = ok && prefill(run, err);
    run->result->prefill_s = seconds_now() - run->started;
    double decoding = seconds_now();
    for (uint32_t i = 1; ok && i < run->lane_count; i++) {
        run->lanes[i].session = session_fork(request->session, i, err);
        ok = run->lanes[i].session != NULL;
    }
    is_started = ok;
    if (ok)
        ok = request->settings->speculate && run->lane_count == 1 ? decode_guessing(run, &speculation, err)
                                                                  : decode_together(run, err);
    run->result->decode_s = seconds_now() - decoding;
    run->result->guessed = speculation.guessed;
    run->result->accepted = speculation.accepted;
    if (!ok && err->kind == ERROR_INTERRUPTED) {
        for (uint32_t i = 0; i < run->result->sequence_count; i++)
            finish(&run->lanes[i], FINISH_INTERRUPTED);
        ok = true;
    }
    /* After a failure the text so far still comes out; its reason is not overwritten. */
    struct error later = { 0 };
    for (uint32_t i = 0; is_started && i < run->lane_count; i++)
        if (!end_lane(run, &run->lanes[i], &later) && ok) {
            *err = later;
            ok = false;
        }
    for (uint32_t i = 0; i < run->lane_count; i++) {
        if (i > 0)
            session_free(run->lanes[i].session);
        sampler_free(run->lanes[i].sampler);
        answer_release(&run->lanes[i].answer);
    }
    return ok;
}

static bool run_beams(struct run *run, const struct sampler_settings *sampling, struct error *err) {
    const struct generate_request *request = run->request;
    struct generation *result = run->result;
    struct sampler *sampler = sampler_new(sampling, engine_model(request->engine)->vocab_size, err);
    bool ok = sampler && prefill(run, err);
    result->prefill_s = seconds_now() - run->started;
    double decoding = seconds_now();
    ok = ok && beam_search(request, sampler, run->constraint, run->drops_space, run->logits, run->most, run->started,
                           result, err);
    result->decode_s = seconds_now() - decoding;
    for (uint32_t i = 0; ok && i < result->sequence_count; i++) {
        struct generated *sequence = &result->sequences[i];
        struct answer answer;
        bool stopped = false;
        ok = answer_begin(&answer, request->tokenizer, request->settings, request->prompt, request->count, err);
        for (uint32_t j = 0; ok && !stopped && j < sequence->count; j++)
            if (!generation_settings_is_end(request->settings, sequence->ids[j]))
                ok = answer_token(&answer, sequence->ids[j], &stopped, err);
        if (ok && !stopped)
            ok = answer_end(&answer, &stopped, err);
        judge_end(run, sequence);
        sequence->text = answer.text;
        text_init(&answer.text);
        answer_release(&answer);
    }
    sampler_free(sampler);
    return ok || (err->kind == ERROR_INTERRUPTED && !result->sequence_count);
}

static bool start_grammar(struct run *run, struct error *err) {
    const struct generate_request *request = run->request;
    const char *grammar = request->settings->grammar;
    if (!grammar)
        return true;
    if (!request->tokenizer)
        return error_set(err, ERROR_USAGE, "a grammar needs a tokenizer, which the model has not");
    struct token_stream *stream = token_stream_new(request->tokenizer, request->prompt, request->count);
    run->states = calloc(run->lane_count, sizeof *run->states);
    run->drops_space = stream && token_stream_at_start(stream);
    token_stream_free(stream);
    if (!stream || !run->states)
        return error_set(err, ERROR_FAILED, "cannot follow the grammar: out of memory");
    run->constraint = constraint_open(request->constraints ? request->constraints : &run->own_store, grammar,
                                      request->tokenizer, engine_model(request->engine)->vocab_size, err);
    for (uint32_t i = 0; run->constraint && i < run->lane_count; i++)
        run->states[i] = constraint_start(run->constraint);
    return run->constraint;
}

/* The settings' numbers with their lists. */
static struct sampler_settings sampling_of(const struct generate_request *request) {
    const struct generation_settings *settings = request->settings;
    struct sampler_settings sampling = settings->sampling;
    sampling.biases = settings->biases.rules;
    sampling.bias_count = settings->biases.count;
    sampling.bans = settings->bans.rules;
    sampling.ban_count = settings->bans.count;
    sampling.eos_ids = settings->eos_ids;
    sampling.eos_count = settings->eos_count;
    sampling.keep_least = settings->num_beams > 1 ? 1 + settings->eos_count : 1;
    if (settings->min_length > request->count && settings->min_length - request->count > sampling.min_new_tokens)
        sampling.min_new_tokens = settings->min_length - request->count;
    return sampling;
}

bool generate(const struct generate_request *request, struct generation *result, struct error *err) {
    const struct generation_settings *settings = request->settings;
    bool has_beams = settings->num_beams > 1;
    uint32_t vocab = engine_model(request->engine)->vocab_size;
    struct run run = { .request = request, .result = result, .started = seconds_now(),
                       .lane_count = has_beams ? 1 : settings->num_return_sequences };
    *result = (struct generation){ 0 };
    if (!find_most(request, has_beams ? generation_settings_sequences(settings) : run.lane_count, &run.most, err))
        return false;
    struct sampler_settings sampling = sampling_of(request);

    uint32_t rows = settings->speculate && run.lane_count == 1 ? 1 + SPECULATION_MOST : run.lane_count;
    run.logits = malloc((size_t)rows * vocab * sizeof *run.logits);
    run.lanes = calloc(run.lane_count, sizeof *run.lanes);
    result->sequences = calloc(settings->num_return_sequences, sizeof *result->sequences);
    bool ok = run.logits && run.lanes && result->sequences;
    if (!ok)
        error_set(err, ERROR_FAILED, "cannot generate: out of memory");
    else if (!run.most)
        for (uint32_t i = 0; i < settings->num_return_sequences; i++) {
            text_init(&result->sequences[i].text);
            result->sequences[i].finish = FINISH_LENGTH;
            result->sequences[i].is_cut = settings->grammar;
            result->sequence_count++;
        }
    else
        ok = start_grammar(&run, err)
             && (has_beams ? run_beams(&run, &sampling, err) : run_lanes(&run, &sampling, err));
    constraint_store_release(&run.own_store);
    free(run.states);
    free(run.logits);
    free(run.lanes);
    return ok;
}

/* ---- in steps ---- */

struct generation_task {
    struct run run;
    struct lane lane;
};

bool generation_can_step(const struct generation_settings *settings) {
    return settings->num_beams == 1 && settings->num_return_sequences == 1 && !settings->grammar;
}

struct generation_task *generation_task_new(const struct generate_request *request, struct generation *result,
                                            struct error *err) {
    struct generation_task *task = calloc(1, sizeof *task);
    *result = (struct generation){ .sequences = calloc(1, sizeof *result->sequences) };
    bool ok = (task && result->sequences) || error_set(err, ERROR_FAILED, "cannot generate: out of memory");
    if (ok) {
        task->run = (struct run){ .request = request, .result = result, .lanes = &task->lane, .lane_count = 1,
                                  .started = seconds_now() };
        task->run.logits = malloc(engine_model(request->engine)->vocab_size * sizeof *task->run.logits);
        ok = task->run.logits || error_set(err, ERROR_FAILED, "cannot generate: out of memory");
    }
    ok = ok && find_most(request, 1, &task->run.most, err) && start_lane(&task->run, 0, sampling_of(request), err);
    if (ok && !task->run.most)
        finish(&task->lane, FINISH_LENGTH);
    else
        ok = ok && prefill(&task->run, err);
    if (ok) {
        result->prefill_s = seconds_now() - task->run.started;
        return task;
    }
    generation_task_free(task);
    return NULL;
}

bool generation_task_choose(struct generation_task *task, const float *logits, int32_t *id, bool *is_done,
                            struct error *err) {
    bool ok = task->lane.is_done || choose(&task->run, &task->lane, logits ? logits : task->run.logits, id, err);
    *is_done = task->lane.is_done;
    return ok;
}

void generation_task_free(struct generation_task *task) {
    if (!task)
        return;
    sampler_free(task->lane.sampler);
    answer_release(&task->lane.answer);
    free(task->run.logits);
    free(task);
}

bool generation_task_end(struct generation_task *task, struct error *err) {
    bool ok = end_lane(&task->run, &task->lane, err);
    task->run.result->decode_s = seconds_now() - task->run.started - task->run.result->prefill_s;
    generation_task_free(task);
    return ok;
}

void generation_release(struct generation *result) {
    for (uint32_t i = 0; i < result->sequence_count; i++) {
        free(result->sequences[i].ids);
        text_release(&result->sequences[i].text);
    }
    free(result->sequences);
    *result = (struct generation){ 0 };
}
