#include "runtime/beam_search.h"

#include "common/clock.h"
#include "runtime/answer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct candidate {
    float key;               /* what they are ranked by: the score, or with noise */
    float score;             /* sum of log-probabilities, this token's included */
    uint32_t beam;           /* that it continues */
    int32_t id;
    bool ends;
    enum finish_reason finish;
};

struct search {
    const struct generate_request *request;
    const struct generation_settings *settings;
    struct sampler *sampler;
    struct constraint *constraint;   /* NULL: no grammar */
    bool drops_space;
    double grammar_s;
    uint32_t *states;            /* [width] of the beams, in the grammar */
    uint32_t vocab, width, most;
    double started;
    struct session **beams;      /* [width] the running ones; owned */
    uint32_t *sequences;         /* [width] of the engine, of each session */
    float *scores;               /* [width] */
    int32_t *tokens;             /* [width] the last of each, on its way into the session */
    uint32_t running;
    float *logits;               /* [width][vocab]; becomes scores */
    struct candidate *heap;      /* [heap_size] */
    uint32_t heap_size, heap_count;
    struct generated *ended;     /* [width] best first, ended_count of them */
    uint32_t ended_count;
};

static bool goes_before(const struct candidate *a, const struct candidate *b) {
    if (a->key != b->key)
        return a->key > b->key;
    return a->beam != b->beam ? a->beam < b->beam : a->id < b->id;
}

static int compare_keys(const void *left, const void *right) {
    return goes_before(right, left) - goes_before(left, right);
}

static int compare_scores(const void *left, const void *right) {
    const struct candidate *a = left, *b = right;
    if (a->score != b->score)
        return a->score < b->score ? 1 : -1;
    return compare_keys(left, right);
}

/* The worst of the best is on top of the heap. */
static void offer(struct search *search, const struct candidate *candidate) {
    struct candidate *heap = search->heap;
    uint32_t at;
    if (search->heap_count < search->heap_size) {
        for (at = search->heap_count++; at && goes_before(&heap[(at - 1) / 2], candidate); at = (at - 1) / 2)
            heap[at] = heap[(at - 1) / 2];
    } else if (goes_before(candidate, &heap[0])) {
        at = 0;
        for (uint32_t child; (child = 2 * at + 1) < search->heap_count; at = child) {
            child += child + 1 < search->heap_count && goes_before(&heap[child], &heap[child + 1]);
            if (!goes_before(candidate, &heap[child]))
                break;
            heap[at] = heap[child];
        }
    } else {
        return;
    }
    heap[at] = *candidate;
}

static void log_softmax(float *row, uint32_t count) {
    float largest = row[0];
    for (uint32_t i = 1; i < count; i++)
        largest = fmaxf(largest, row[i]);
    double sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += (double)expf(row[i] - largest);
    float log_sum = (float)log(sum);
    for (uint32_t i = 0; i < count; i++)
        row[i] = row[i] - largest - log_sum;
}

/* Let only those tokens come that the grammar allows. */
static bool restrict_beam(struct search *search, uint32_t beam, uint32_t length, struct error *err) {
    const struct generation_settings *settings = search->settings;
    if (!search->constraint)
        return true;
    double started = seconds_now();
    if (!constraint_trim(search->constraint, search->states, search->running, err))
        return false;
    const uint32_t *allowed = constraint_allowed(search->constraint, search->states[beam],
                                                 search->drops_space && length == 1, settings->eos_ids,
                                                 settings->eos_count, err);
    sampler_allow(search->sampler, allowed);
    search->grammar_s += seconds_now() - started;
    return allowed;
}

/* Whether the grammar allows nothing after the candidate. */
static bool completes(const struct search *search, const struct candidate *candidate, bool *result,
                      struct error *err) {
    *result = false;
    if (!search->constraint)
        return true;
    uint32_t state = search->states[candidate->beam];
    if (!constraint_accept(search->constraint, &state, candidate->id, err))
        return false;
    *result = constraint_is_complete(search->constraint, state);
    return true;
}

/* The best continuations of all beams into the heap, then in their order. */
static bool rank(struct search *search, uint32_t length, struct error *err) {
    bool samples = !search->settings->sampling.greedy;
    search->heap_count = 0;
    for (uint32_t beam = 0; beam < search->running; beam++) {
        float *row = search->logits + (size_t)beam * search->vocab;
        uint32_t count;
        const int32_t *history = session_tokens(search->beams[beam], &count);
        log_softmax(row, search->vocab);
        if (!restrict_beam(search, beam, length, err))
            return false;
        if (!sampler_filter(search->sampler, history, count, length - 1, row))
            return error_set(err, ERROR_FAILED, "no next token can be chosen: the logits are no numbers; "
                             "check the model's files with --verify");
        for (uint32_t id = 0; id < search->vocab; id++) {
            float score = row[id] + search->scores[beam];
            if (!(score > -INFINITY))
                continue;
            struct candidate candidate = { .key = score, .score = score, .beam = beam, .id = (int32_t)id };
            /* The K largest of score + Gumbel noise are K draws without replacement. */
            if (samples)
                candidate.key = (float)((double)score - log(-log(fmax(sampler_random(search->sampler), 0x1p-60))));
            if (search->heap_count < search->heap_size || candidate.key >= search->heap[0].key)
                offer(search, &candidate);
        }
    }
    qsort(search->heap, search->heap_count, sizeof *search->heap, compare_keys);
    return search->heap_count
           || error_set(err, ERROR_FAILED, "no next token can be chosen: every one of them is banned");
}

/* Whether the last token completes a stop string: only the end of the text can hold it. */
static bool stops(const struct search *search, const struct candidate *candidate, uint32_t length, bool *result,
                  struct error *err) {
    *result = false;
    if (!search->settings->stop_count)
        return true;
    uint32_t count;
    const int32_t *tokens = session_tokens(search->beams[candidate->beam], &count);
    struct answer answer;
    bool ok = answer_begin(&answer, search->request->tokenizer, search->settings, tokens, count - (length - 1), err);
    for (uint32_t i = count - (length - 1); ok && !*result && i < count; i++)
        ok = answer_token(&answer, tokens[i], result, err);
    ok = ok && (*result || answer_token(&answer, candidate->id, result, err));
    answer_release(&answer);
    return ok;
}

static bool judge(struct search *search, uint32_t length, struct error *err) {
    const struct generation_settings *settings = search->settings;
    bool is_late = settings->max_time > 0 && seconds_now() - search->started > (double)settings->max_time;
    for (uint32_t i = 0; i < search->heap_count; i++) {
        struct candidate *candidate = &search->heap[i];
        bool is_stop, is_end = generation_settings_is_end(settings, candidate->id);
        candidate->ends = true;
        if (!stops(search, candidate, length, &is_stop, err))
            return false;
        if (!is_end && !completes(search, candidate, &is_end, err))
            return false;
        if (is_end)
            candidate->finish = FINISH_EOS;
        else if (is_stop)
            candidate->finish = FINISH_STOP;
        else if (length == search->most)
            candidate->finish = FINISH_LENGTH;
        else if (is_late)
            candidate->finish = FINISH_TIME;
        else
            candidate->ends = false;
    }
    return true;
}

static float final_score(const struct search *search, float sum, uint32_t length) {
    return sum / powf((float)length, search->settings->length_penalty);
}

/* Keep a beam with one more token if it is among the best that ended. */
static bool keep_ended(struct search *search, uint32_t beam, int32_t id, float sum, enum finish_reason finish,
                       struct error *err) {
    uint32_t count;
    const int32_t *tokens = session_tokens(search->beams[beam], &count);
    uint32_t old = count - search->request->count, length = old + 1;
    float score = final_score(search, sum, length);
    uint32_t at = search->ended_count;
    while (at && search->ended[at - 1].score < score)
        at--;
    if (at == search->width)
        return true;
    int32_t *ids = malloc(length * sizeof *ids);
    if (!ids)
        return error_set(err, ERROR_FAILED, "cannot keep a beam of %u tokens: out of memory", length);
    memcpy(ids, tokens + search->request->count, old * sizeof *ids);
    ids[old] = id;
    if (search->ended_count == search->width)
        free(search->ended[--search->ended_count].ids);
    memmove(search->ended + at + 1, search->ended + at, (search->ended_count - at) * sizeof *search->ended);
    search->ended_count++;
    search->ended[at] = (struct generated){ .ids = ids, .count = length, .finish = finish, .has_score = true,
                                            .score = score };
    text_init(&search->ended[at].text);
    return true;
}

/* Let the beams of `next` run: a beam that several continue is forked into the sessions of
 * those that none does. */
static bool branch(struct search *search, const struct candidate *next, uint32_t count, struct error *err) {
    struct session *beams[GENERATION_MOST_SEQUENCES];
    uint32_t states[GENERATION_MOST_SEQUENCES] = { 0 }, sequences[GENERATION_MOST_SEQUENCES];
    uint32_t free_sequences[GENERATION_MOST_SEQUENCES], free_count = 0;
    bool is_used[GENERATION_MOST_SEQUENCES] = { false };
    for (uint32_t i = 0; i < count; i++) {
        beams[i] = NULL;
        if (is_used[next[i].beam])
            continue;
        is_used[next[i].beam] = true;
        beams[i] = search->beams[next[i].beam];
        sequences[i] = search->sequences[next[i].beam];
    }
    for (uint32_t i = 0; i < search->width; i++)
        if (!is_used[i]) {
            session_free(search->beams[i]);
            search->beams[i] = NULL;
            free_sequences[free_count++] = search->sequences[i];
        }
    bool ok = true;
    for (uint32_t i = 0; i < count; i++) {
        search->tokens[i] = next[i].id;
        states[i] = search->states[next[i].beam];
        ok = ok && (!search->constraint || constraint_accept(search->constraint, &states[i], next[i].id, err));
        if (beams[i] || !ok)
            continue;
        sequences[i] = free_sequences[--free_count];
        beams[i] = session_fork(search->beams[next[i].beam], sequences[i], err);
        ok = beams[i] != NULL;
    }
    for (uint32_t i = 0; i < search->width; i++) {
        search->beams[i] = i < count ? beams[i] : NULL;
        search->sequences[i] = i < count ? sequences[i] : free_sequences[--free_count];
        if (i < count)
            search->scores[i] = next[i].score;
        search->states[i] = states[i];
    }
    search->running = count;
    return ok;
}

/* Whether a running beam can still better the worst of those that ended. */
static bool can_improve(const struct search *search, float best, uint32_t length) {
    const struct generation_settings *settings = search->settings;
    if (search->ended_count < search->width)
        return true;
    if (settings->early_stopping == EARLY_STOPPING_TRUE)
        return false;
    bool to_the_end = settings->early_stopping == EARLY_STOPPING_NEVER && settings->length_penalty > 0;
    return final_score(search, best, to_the_end ? search->most : length) > search->ended[search->width - 1].score;
}

static bool step(struct search *search, uint32_t length, bool *goes_on, struct error *err) {
    struct candidate next[GENERATION_MOST_SEQUENCES];
    uint32_t count = 0;
    if (!rank(search, length, err) || !judge(search, length, err))
        return false;
    for (uint32_t i = 0; i < search->heap_count && i < search->width; i++)
        if (search->heap[i].ends
            && !keep_ended(search, search->heap[i].beam, search->heap[i].id, search->heap[i].score,
                           search->heap[i].finish, err))
            return false;
    qsort(search->heap, search->heap_count, sizeof *search->heap, compare_scores);
    for (uint32_t i = 0; i < search->heap_count && count < search->width; i++)
        if (!search->heap[i].ends)
            next[count++] = search->heap[i];
    *goes_on = count && can_improve(search, next[0].score, length);
    return !*goes_on
           || (branch(search, next, count, err)
               && session_append_each(search->beams, count, search->tokens, search->logits, err));
}

/* Every beam starts as a fork of the prompt; one is enough until they differ. */
static bool start(struct search *search, const float *logits, struct error *err) {
    const struct generate_request *request = search->request;
    uint32_t ends = search->settings->eos_count;
    search->heap_size = (ends > 1 ? 1 + ends : 2) * search->width;
    search->beams = calloc(search->width, sizeof *search->beams);
    search->sequences = calloc(search->width, sizeof *search->sequences);
    search->scores = calloc(search->width, sizeof *search->scores);
    search->tokens = calloc(search->width, sizeof *search->tokens);
    search->states = calloc(search->width, sizeof *search->states);
    search->ended = calloc(search->width + 1, sizeof *search->ended);
    search->heap = calloc(search->heap_size, sizeof *search->heap);
    search->logits = malloc((size_t)search->width * search->vocab * sizeof *search->logits);
    if (!search->beams || !search->sequences || !search->scores || !search->tokens || !search->states || !search->ended
        || !search->heap || !search->logits)
        return error_set(err, ERROR_FAILED, "cannot search with %u beams: out of memory", search->width);
    for (uint32_t i = 0; i < search->width; i++)
        search->sequences[i] = 1 + i;
    memcpy(search->logits, logits, search->vocab * sizeof *logits);
    search->running = 1;
    if (search->constraint)
        search->states[0] = constraint_start(search->constraint);
    search->beams[0] = session_fork(request->session, search->sequences[0], err);
    /* Pages of a prompt that will have to be run again must not be kept. */
    return search->beams[0]
           && (session_steady_room(request->session) >= search->most
               || session_truncate(request->session, 0, err));
}

bool beam_search(const struct generate_request *request, struct sampler *sampler, struct constraint *constraint,
                 bool drops_space, const float *logits, uint32_t most, double started, struct generation *result,
                 struct error *err) {
    struct search search = {
        .request = request, .settings = request->settings, .sampler = sampler,
        .vocab = engine_model(request->engine)->vocab_size, .width = request->settings->num_beams, .most = most,
        .started = started, .constraint = constraint, .drops_space = drops_space,
    };
    bool ok = start(&search, logits, err), goes_on = true;
    for (uint32_t length = 1; ok && goes_on; length++) {
        ok = step(&search, length, &goes_on, err);
        if (length == 1)
            result->first_token_at = seconds_now();
    }
    if (!ok && err->kind == ERROR_INTERRUPTED) {
        ok = true;
        for (uint32_t i = 0; ok && i < search.running; i++)
            if (search.beams[i])
                ok = keep_ended(&search, i, search.tokens[i], search.scores[i], FINISH_INTERRUPTED, err);
    }
    result->grammar_s = search.grammar_s;
    uint32_t wanted = request->settings->num_return_sequences;
    for (uint32_t i = 0; search.ended && i < search.ended_count; i++)
        if (ok && i < wanted) {
            result->sequences[result->sequence_count++] = search.ended[i];
            result->token_count += search.ended[i].count;
        } else {
            free(search.ended[i].ids);
        }
    for (uint32_t i = 0; search.beams && i < search.width; i++)
        session_free(search.beams[i]);
    free(search.beams);
    free(search.sequences);
    free(search.scores);
    free(search.tokens);
    free(search.states);
    free(search.ended);
    free(search.heap);
    free(search.logits);
    return ok;
}
