#include "runtime/prompt_lanes.h"

#include "common/clock.h"

#include <stdlib.h>
#include <string.h>

#define MEASURED_ALONE 4u      /* steps, before a second one joins */
#define MEASURED_TOGETHER 12u  /* steps, before it is judged */
#define TRIED_AGAIN 300u       /* steps alone after which it is tried again */
#define GAIN 1.05              /* less is not worth it */

struct prompt_lane {
    struct session *session;
    struct generation_task *task;   /* NULL: idle; its timeline may still serve as a beginning */
    void *owner;
    int32_t next;                   /* token to run */
    bool is_waiting;                /* for pages */
    bool is_done;
    uint64_t since;                 /* in the order of use */
};

struct rate { double seconds, tokens; uint32_t steps; };

struct prompt_lanes {
    struct engine *engine;          /* borrowed */
    struct prompt_lane lanes[PROMPT_LANES_MOST];
    uint32_t count;
    float *logits;                  /* [count][vocab] */
    uint64_t clock;
    struct rate alone, together;
    double seconds;
    uint32_t widest;
};

struct prompt_lanes *prompt_lanes_new(struct engine *engine, enum rope_policy policy, uint32_t count,
                                      struct error *err) {
    struct prompt_lanes *lanes = calloc(1, sizeof *lanes);
    if (!lanes) {
        error_set(err, ERROR_FAILED, "cannot run several prompts: out of memory");
        return NULL;
    }
    lanes->engine = engine;
    lanes->logits = malloc((size_t)count * engine_model(engine)->vocab_size * sizeof *lanes->logits);
    bool ok = lanes->logits || error_set(err, ERROR_FAILED, "cannot run several prompts: out of memory");
    for (uint32_t i = 0; ok && i < count; i++, lanes->count++) {
        lanes->lanes[i].session = session_new(engine, i, policy, err);
        ok = lanes->lanes[i].session != NULL;
    }
    if (ok)
        return lanes;
    prompt_lanes_free(lanes);
    return NULL;
}

void prompt_lanes_free(struct prompt_lanes *lanes) {
    if (!lanes)
        return;
    for (uint32_t i = 0; i < lanes->count; i++) {
        generation_task_free(lanes->lanes[i].task);
        session_free(lanes->lanes[i].session);
    }
    free(lanes->logits);
    free(lanes);
}

uint32_t prompt_lanes_running(const struct prompt_lanes *lanes) {
    uint32_t running = 0;
    for (uint32_t i = 0; i < lanes->count; i++)
        running += lanes->lanes[i].task && !lanes->lanes[i].is_done;
    return running;
}

double prompt_lanes_seconds(const struct prompt_lanes *lanes) {
    return lanes->seconds;
}

uint32_t prompt_lanes_widest(const struct prompt_lanes *lanes) {
    return lanes->widest;
}

/* ---- whether it pays ---- */

static void note(struct prompt_lanes *lanes, uint32_t width, double seconds) {
    struct rate *rate = width == 1 ? &lanes->alone : &lanes->together;
    rate->seconds += seconds;
    rate->tokens += width;
    rate->steps++;
    lanes->seconds += seconds;
    lanes->widest = width > lanes->widest ? width : lanes->widest;
    /* What was long ago counts for less; and a verdict may have been a busy moment's. */
    if (rate->steps == 2 * TRIED_AGAIN)
        *rate = (struct rate){ rate->seconds / 2, rate->tokens / 2, rate->steps / 2 };
    if (width == 1 && rate->steps % TRIED_AGAIN == 0)
        lanes->together = (struct rate){ 0 };
}

static uint32_t wanted_width(const struct prompt_lanes *lanes) {
    const struct rate *alone = &lanes->alone, *together = &lanes->together;
    if (alone->steps < MEASURED_ALONE)
        return 1;
    if (together->steps < MEASURED_TOGETHER)
        return lanes->count;
    return together->tokens * alone->seconds > GAIN * alone->tokens * together->seconds ? lanes->count : 1;
}

/* ---- pages ---- */

/* The idle timeline that was used longest ago gives its pages back, but not the one to keep. */
static bool forget_one(struct prompt_lanes *lanes, const struct prompt_lane *keep) {
    struct prompt_lane *oldest = NULL;
    for (uint32_t i = 0; i < lanes->count; i++) {
        struct prompt_lane *lane = &lanes->lanes[i];
        bool long_rope;
        if (!lane->task && lane != keep && session_kv_length(lane->session, &long_rope)
            && (!oldest || lane->since < oldest->since))
            oldest = lane;
    }
    if (oldest)
        session_rest(oldest->session);
    return oldest;
}

/* The running one that came last waits; not the only one. */
static bool hold_one(struct prompt_lanes *lanes) {
    struct prompt_lane *last = NULL;
    uint32_t running = 0;
    for (uint32_t i = 0; i < lanes->count; i++) {
        struct prompt_lane *lane = &lanes->lanes[i];
        if (!lane->task || lane->is_done || lane->is_waiting)
            continue;
        running++;
        if (!last || lane->since > last->since)
            last = lane;
    }
    if (running < 2)
        return false;
    session_rest(last->session);
    last->is_waiting = true;
    return true;
}

/* That many free pages, at the cost of idle timelines. */
static bool make_free(struct prompt_lanes *lanes, uint64_t pages, const struct prompt_lane *keep) {
    while (engine_free_pages(lanes->engine) < pages)
        if (!forget_one(lanes, keep))
            return false;
    return true;
}

bool prompt_lanes_has_room(struct prompt_lanes *lanes, uint32_t prompt_tokens) {
    uint32_t running = prompt_lanes_running(lanes), idle = 0;
    for (uint32_t i = 0; i < lanes->count; i++) {
        idle += !lanes->lanes[i].task;
        if (lanes->lanes[i].is_waiting)
            return false;
    }
    if (!running)
        return idle;
    /* A page for each to go on with; what can be shared is not counted. */
    return idle && running < wanted_width(lanes)
           && make_free(lanes, (uint64_t)kv_pages_of(prompt_tokens) + running + 1, NULL);
}

/* ---- in and out ---- */

/* The idle lane to use: the one that has most of the prompt; then that of any other. */
static struct prompt_lane *choose_lane(struct prompt_lanes *lanes, const int32_t *prompt, uint32_t count) {
    struct prompt_lane *best = NULL, *source = NULL;
    uint32_t own = 0, most = 0;
    for (uint32_t i = 0; i < lanes->count; i++) {
        struct prompt_lane *lane = &lanes->lanes[i];
        uint32_t common = session_common(lane->session, prompt, count);
        if (common > most) {
            most = common;
            source = lane;
        }
        if (lane->task)
            continue;
        /* Where they have nothing, the one that was used longest ago. */
        if (!best || common > own || (common == own && lane->since < best->since)) {
            best = lane;
            own = common;
        }
    }
    if (best && most > own)
        session_share(best->session, source->session, prompt, count);
    return best;
}

static void finish(struct prompt_lane *lane) {
    lane->is_done = true;
    lane->is_waiting = false;
}

bool prompt_lanes_add(struct prompt_lanes *lanes, struct generate_request *request, struct generation *result,
                      void *owner, struct error *err) {
    struct prompt_lane *lane = choose_lane(lanes, request->prompt, request->count);
    *result = (struct generation){ 0 };
    if (!lane)
        return error_set(err, ERROR_FAILED, "there is no room for another prompt");
    request->session = lane->session;
    lane->since = ++lanes->clock;
    /* What ended may hold pages that the prompt needs; what cannot be had is an error later. */
    make_free(lanes, kv_pages_of(request->count) + 1, lane);
    struct generation_task *task = generation_task_new(request, result, err);
    bool is_done = false;
    if (!task)
        return false;
    if (!generation_task_choose(task, NULL, &lane->next, &is_done, err)) {
        generation_task_free(task);
        return false;
    }
    lane->task = task;
    lane->owner = owner;
    lane->is_done = lane->is_waiting = false;
    if (is_done)
        finish(lane);
    return true;
}

void *prompt_lanes_done(struct prompt_lanes *lanes) {
    for (uint32_t i = 0; i < lanes->count; i++) {
        struct prompt_lane *lane = &lanes->lanes[i];
        if (!lane->task || !lane->is_done)
            continue;
        struct error lost = { 0 };   /* of memory for the last letters */
        generation_task_end(lane->task, &lost);
        lane->task = NULL;
        return lane->owner;
    }
    return NULL;
}

struct session *prompt_lanes_alone(struct prompt_lanes *lanes, const int32_t *prompt, uint32_t count) {
    struct session *session = lanes->lanes[0].session;
    struct prompt_lane *source = &lanes->lanes[0];
    for (uint32_t i = 1; i < lanes->count; i++)
        if (session_common(lanes->lanes[i].session, prompt, count) > session_common(source->session, prompt, count))
            source = &lanes->lanes[i];
    session_share(session, source->session, prompt, count);
    for (uint32_t i = 1; i < lanes->count; i++)
        session_rest(lanes->lanes[i].session);
    lanes->lanes[0].since = ++lanes->clock;
    return session;
}

/* ---- a step ---- */

/* Those that wait go on, the oldest first, while there are pages. */
static void resume(struct prompt_lanes *lanes) {
    for (;;) {
        struct prompt_lane *first = NULL;
        uint32_t active = 0;
        for (uint32_t i = 0; i < lanes->count; i++) {
            struct prompt_lane *lane = &lanes->lanes[i];
            active += lane->task && !lane->is_done && !lane->is_waiting;
            if (lane->is_waiting && (!first || lane->since < first->since))
                first = lane;
        }
        if (!first || (!make_free(lanes, (uint64_t)session_pages_for(first->session, 1) + active, NULL) && active))
            return;
        first->is_waiting = false;
    }
}

/* Pages for a token of each that runs; who cannot have one waits. */
static void find_pages(struct prompt_lanes *lanes) {
    for (;;) {
        uint64_t needed = 0;
        for (uint32_t i = 0; i < lanes->count; i++) {
            const struct prompt_lane *lane = &lanes->lanes[i];
            if (lane->task && !lane->is_done && !lane->is_waiting)
                needed += session_pages_for(lane->session, 1);
        }
        if (make_free(lanes, needed, NULL) || !hold_one(lanes))
            return;
    }
}

/* One batch has one kind of LongRoPE's factors. */
static bool step_of(struct prompt_lanes *lanes, const bool *takes_part, struct error *err) {
    struct prompt_lane *parts[PROMPT_LANES_MOST];
    struct session *sessions[PROMPT_LANES_MOST];
    int32_t ids[PROMPT_LANES_MOST];
    uint32_t width = 0, vocab = engine_model(lanes->engine)->vocab_size;
    bool is_plain = true;
    for (uint32_t i = 0; i < lanes->count; i++)
        if (takes_part[i]) {
            bool unused;
            uint32_t length;
            parts[width] = &lanes->lanes[i];
            sessions[width] = lanes->lanes[i].session;
            ids[width++] = lanes->lanes[i].next;
            session_tokens(lanes->lanes[i].session, &length);
            is_plain = is_plain && session_kv_length(lanes->lanes[i].session, &unused) == length;
        }
    if (!width)
        return true;
    double started = seconds_now();
    if (!session_append_each(sessions, width, ids, lanes->logits, err))
        return false;
    if (is_plain)
        note(lanes, width, seconds_now() - started);
    for (uint32_t i = 0; i < width; i++) {
        bool is_done;
        if (!generation_task_choose(parts[i]->task, lanes->logits + (size_t)i * vocab, &parts[i]->next, &is_done, err))
            return false;
        if (is_done)
            finish(parts[i]);
    }
    return true;
}

bool prompt_lanes_step(struct prompt_lanes *lanes, struct error *err) {
    bool takes_part[2][PROMPT_LANES_MOST] = { { false } };
    resume(lanes);
    find_pages(lanes);
    for (uint32_t i = 0; i < lanes->count; i++) {
        const struct prompt_lane *lane = &lanes->lanes[i];
        uint32_t length;
        if (!lane->task || lane->is_done || lane->is_waiting)
            continue;
        session_tokens(lane->session, &length);
        takes_part[session_wants_long(lane->session, length + 1)][i] = true;
    }
    return step_of(lanes, takes_part[0], err) && step_of(lanes, takes_part[1], err);
}
