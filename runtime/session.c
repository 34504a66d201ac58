/* session: a timeline is its tokens; the KV of their first kv_length positions is a
 * cache of it that can be dropped at any time and is then made again by the next
 * append. That is how crossings of LongRoPE and failed appends are handled. */
#include "runtime/session.h"

#include <stdlib.h>
#include <string.h>

struct session {
    struct engine *engine;      /* borrowed */
    uint32_t sequence;
    enum rope_policy policy;
    int32_t *tokens;            /* [engine_context] */
    uint32_t length;
    uint32_t kv_length;         /* <= length */
    bool kv_long;               /* the factors that the KV was made with */
    uint32_t last_pass;
};

bool rope_policy_from_name(const char *name, enum rope_policy *policy) {
    static const char *const names[] = { "auto", "short", "long" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) {
            *policy = (enum rope_policy)i;
            return true;
        }
    return false;
}

struct session *session_new(struct engine *engine, uint32_t sequence, enum rope_policy policy,
                            struct error *err) {
    if (!engine_sequence_truncate(engine, sequence, 0, err))
        return NULL;
    struct session *session = calloc(1, sizeof *session);
    int32_t *tokens = malloc((size_t)engine_context(engine) * sizeof *tokens);
    if (!session || !tokens) {
        free(session);
        free(tokens);
        error_set(err, ERROR_FAILED, "cannot keep a timeline of %u tokens: out of memory",
                  engine_context(engine));
        return NULL;
    }
    *session = (struct session){ .engine = engine, .sequence = sequence, .policy = policy,
                                 .tokens = tokens };
    return session;
}

void session_free(struct session *session) {
    if (!session)
        return;
    engine_sequence_truncate(session->engine, session->sequence, 0, NULL);
    free(session->tokens);
    free(session);
}

/* As transformers: the factors depend on the length of the whole sequence, and are
 * the same for all of its positions. */
bool session_wants_long(const struct session *session, uint32_t length) {
    const struct rope_parameters *rope = &engine_model(session->engine)->rope;
    if (rope->scaling != ROPE_LONGROPE || session->policy == ROPE_SHORT)
        return false;
    return session->policy == ROPE_LONG || length > rope->original_context;
}

/* After a pass that failed: the engine has put its sequence back, or, where a sliding window had
 * given pages back meanwhile, emptied it. */
static void follow_engine(struct session *session) {
    uint32_t there = engine_sequence_length(session->engine, session->sequence);
    session->kv_length = session->kv_length < there ? session->kv_length : there;
}

/* What was run with the other factors has to be run again. */
static bool drop_stale(struct session *const *sessions, uint32_t count, bool long_rope, struct error *err) {
    for (uint32_t i = 0; i < count; i++) {
        struct session *session = sessions[i];
        if (!session->kv_length || session->kv_long == long_rope)
            continue;
        if (!engine_sequence_truncate(session->engine, session->sequence, 0, err))
            return false;
        session->kv_length = 0;
    }
    return true;
}

/* Run what each session has beyond its KV, in one batch; logits of each one's last `rows` tokens. */
static bool run_rests(struct session *const *sessions, uint32_t count, bool long_rope, uint32_t rows, float *logits,
                      struct error *err) {
    size_t total = 0, used = 0;
    for (uint32_t i = 0; i < count; i++)
        total += sessions[i]->length - sessions[i]->kv_length;
    int32_t *arrays = malloc((3 * total + 1) * sizeof *arrays);
    bool *wanted = calloc(total + 1, sizeof *wanted);
    bool ok = arrays && wanted && total <= INT32_MAX;
    if (!ok)
        error_set(err, ERROR_FAILED, "cannot run %zu tokens: out of memory", total);
    for (uint32_t i = 0; ok && i < count; i++) {
        const struct session *session = sessions[i];
        for (uint32_t at = session->kv_length; at < session->length; at++, used++) {
            arrays[used] = session->tokens[at];
            arrays[total + used] = (int32_t)at;
            arrays[2 * total + used] = (int32_t)session->sequence;
            wanted[used] = logits && session->length - at <= rows;
        }
    }
    struct engine_batch batch = {
        .token_count = (uint32_t)total, .tokens = arrays, .positions = arrays + total,
        .sequences = arrays + 2 * total, .long_rope = long_rope, .is_prefill = total > count, .wants_logits = wanted,
    };
    ok = ok && engine_forward(sessions[0]->engine, &batch, logits, err);
    for (uint32_t i = 0; ok && i < count; i++) {
        sessions[i]->last_pass = sessions[i]->length - sessions[i]->kv_length;
        sessions[i]->kv_length = sessions[i]->length;
        sessions[i]->kv_long = long_rope;
    }
    free(arrays);
    free(wanted);
    return ok;
}

/* `all`: logits of every new token, else of the last one; `logits` may be NULL. */
static bool append(struct session *session, const int32_t *tokens, uint32_t count, bool all, float *logits,
                   struct error *err) {
    if (count == 0)
        return logits ? error_set(err, ERROR_USAGE, "there is no token to run: give at least one") : true;
    uint32_t context = engine_context(session->engine);
    char advice[ENGINE_ADVICE_SIZE];
    const uint64_t length = (uint64_t)session->length + count;
    if (length > context)
        return error_set(err, ERROR_USAGE, "%u tokens after the first %u exceed the plan's context of %u; %s", count,
                         session->length, context,
                         engine_context_advice(session->engine, length, length, "shorten the text", advice));
    bool long_rope = session_wants_long(session, session->length + count);
    if (!drop_stale(&session, 1, long_rope, err))
        return false;
    memcpy(session->tokens + session->length, tokens, count * sizeof *tokens);
    session->length += count;
    if (run_rests(&session, 1, long_rope, all ? count : 1, logits, err))
        return true;
    session->length -= count;
    follow_engine(session);
    return false;
}

bool session_append(struct session *session, const int32_t *tokens, uint32_t count, float *logits,
                    struct error *err) {
    return append(session, tokens, count, false, logits, err);
}

bool session_append_all(struct session *session, const int32_t *tokens, uint32_t count, float *logits,
                        struct error *err) {
    return append(session, tokens, count, true, logits, err);
}

/* Everything that the sessions have in common but their last tokens, run again for all of
 * them: the first one runs it, the others share its pages. Leaves each with a rest to run. */
static bool run_common(struct session *const *sessions, uint32_t count, bool long_rope, struct error *err) {
    struct session *first = sessions[0];
    uint32_t common = first->length - 1;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t same = 0;
        while (same < common && sessions[i]->tokens[same] == first->tokens[same])
            same++;
        common = same;
        if (!engine_sequence_truncate(sessions[i]->engine, sessions[i]->sequence, 0, err))
            return false;
        sessions[i]->kv_length = 0;
    }
    if (!common)
        return true;
    const uint32_t length = first->length;
    first->length = common;
    bool ok = run_rests(sessions, 1, long_rope, 0, NULL, err);
    first->length = length;
    for (uint32_t i = 1; ok && i < count; i++) {
        ok = engine_sequence_fork(first->engine, first->sequence, sessions[i]->sequence, common, err);
        if (ok) {
            sessions[i]->kv_length = common;
            sessions[i]->kv_long = long_rope;
        }
    }
    return ok;
}

bool session_append_each(struct session *const *sessions, uint32_t count, const int32_t *tokens,
                         float *logits, struct error *err) {
    if (!count)
        return true;
    char advice[ENGINE_ADVICE_SIZE];
    uint32_t length = sessions[0]->length, context = engine_context(sessions[0]->engine);
    bool long_rope = session_wants_long(sessions[0], length + 1), is_steady = true, is_even = true;
    for (uint32_t i = 0; i < count; i++) {
        if (sessions[i]->length >= context)
            return error_set(err, ERROR_USAGE, "the plan's context of %u tokens is full; %s", context,
                             engine_context_advice(sessions[0]->engine, (uint64_t)context + 1, (uint64_t)context + 1,
                                                   "shorten the text", advice));
        if (session_wants_long(sessions[i], sessions[i]->length + 1) != long_rope
            || sessions[i]->engine != sessions[0]->engine)
            return error_set(err, ERROR_FAILED, "sessions of %u and %u tokens cannot run as one batch", length,
                             sessions[i]->length);
        is_even = is_even && sessions[i]->length == length;
    }
    for (uint32_t i = 0; i < count; i++) {
        sessions[i]->tokens[sessions[i]->length++] = tokens[i];
        is_steady = is_steady && (!sessions[i]->kv_length || sessions[i]->kv_long == long_rope);
    }
    /* Of one length they are likely one timeline's forks. */
    bool ok = is_steady || (is_even ? run_common(sessions, count, long_rope, err)
                                    : drop_stale(sessions, count, long_rope, err));
    ok = ok && run_rests(sessions, count, long_rope, 1, logits, err);
    for (uint32_t i = 0; !ok && i < count; i++) {
        struct session *session = sessions[i];
        session->length--;
        if (session->kv_length > session->length)
            engine_sequence_truncate(session->engine, session->sequence, session->length, NULL);
        follow_engine(session);
    }
    return ok;
}

uint32_t session_room(const struct session *session) {
    return engine_context(session->engine) - session->length;
}

uint32_t session_steady_room(const struct session *session) {
    uint32_t room = session_room(session);
    uint32_t original = engine_model(session->engine)->rope.original_context;
    if (session->length <= original && session_wants_long(session, original + 1) && !session_wants_long(session, session->length)
        && original - session->length < room)
        return original - session->length;
    return room;
}

bool session_truncate(struct session *session, uint32_t length, struct error *err) {
    if (length > session->length)
        return error_set(err, ERROR_USAGE, "cannot go back to %u tokens: there are only %u", length,
                         session->length);
    if (length < session->kv_length) {
        if (!engine_sequence_truncate(session->engine, session->sequence, length, err))
            return false;
        session->kv_length = engine_sequence_length(session->engine, session->sequence);
    }
    session->length = length;
    return true;
}

bool session_replay(struct session *session, const int32_t *tokens, uint32_t count, float *logits,
                    struct error *err) {
    uint32_t common = 0, most = count ? count - 1 : 0;
    while (common < most && common < session->length && session->tokens[common] == tokens[common])
        common++;
    return session_truncate(session, common, err)
           && session_append(session, tokens + common, count - common, logits, err);
}

uint32_t session_common(const struct session *session, const int32_t *tokens, uint32_t count) {
    uint32_t common = 0, most = count ? count - 1 : 0;
    most = most < session->kv_length ? most : session->kv_length;
    if (most && session->kv_long != session_wants_long(session, count))
        return 0;
    while (common < most && session->tokens[common] == tokens[common])
        common++;
    return common;
}

uint32_t session_share(struct session *session, struct session *source, const int32_t *tokens, uint32_t count) {
    uint32_t common = session_common(source, tokens, count);
    if (!common || session == source || session->engine != source->engine
        || !engine_sequence_truncate(session->engine, session->sequence, 0, NULL))
        return 0;
    session->length = session->kv_length = 0;
    if (!engine_sequence_fork(session->engine, source->sequence, session->sequence, common, NULL))
        return 0;
    memcpy(session->tokens, tokens, common * sizeof *tokens);
    session->length = session->kv_length = common;
    session->kv_long = source->kv_long;
    return common;
}

void session_rest(struct session *session) {
    engine_sequence_truncate(session->engine, session->sequence, 0, NULL);
    session->kv_length = 0;
}

uint32_t session_pages_for(const struct session *session, uint32_t count) {
    uint32_t length = session->length + count;
    /* Run anew, where pages that others share are not given back. */
    if (session->kv_length && session->kv_long != session_wants_long(session, length))
        return length / KV_PAGE_TOKENS + 1;
    return engine_pages_for(session->engine, session->sequence, length);
}

uint32_t session_kv_length(const struct session *session, bool *long_rope) {
    *long_rope = session->kv_long;
    return session->kv_length;
}

bool session_read_page(const struct session *session, uint32_t page, uint8_t *bytes, struct error *err) {
    return engine_sequence_read_page(session->engine, session->sequence, page, bytes, err);
}

bool session_restore(struct session *session, const int32_t *tokens, uint32_t count, bool long_rope,
                     session_page_source *source, void *context, struct error *err) {
    uint8_t *bytes = malloc(engine_page_bytes(session->engine));
    bool ok = bytes || error_set(err, ERROR_FAILED, "cannot restore %u tokens: out of memory", count);
    session->length = session->kv_length = 0;
    ok = ok && engine_sequence_truncate(session->engine, session->sequence, 0, err)
         && engine_sequence_extend(session->engine, session->sequence, count, err);
    for (uint32_t page = 0; ok && page * KV_PAGE_TOKENS < count; page++)
        ok = source(context, page, bytes, err)
             && engine_sequence_write_page(session->engine, session->sequence, page, bytes, err);
    free(bytes);
    if (!ok) {
        engine_sequence_truncate(session->engine, session->sequence, 0, NULL);
        return false;
    }
    memcpy(session->tokens, tokens, count * sizeof *tokens);
    session->length = session->kv_length = count;
    session->kv_long = long_rope;
    return true;
}

struct session *session_fork(struct session *session, uint32_t sequence, struct error *err) {
    struct session *fork = session_new(session->engine, sequence, session->policy, err);
    if (!fork)
        return NULL;
    if (!engine_sequence_fork(session->engine, session->sequence, sequence, session->kv_length, err)) {
        session_free(fork);
        return NULL;
    }
    memcpy(fork->tokens, session->tokens, session->length * sizeof *fork->tokens);
    fork->length = session->length;
    fork->kv_length = session->kv_length;
    fork->kv_long = session->kv_long;
    return fork;
}

const int32_t *session_tokens(const struct session *session, uint32_t *count) {
    *count = session->length;
    return session->tokens;
}

uint32_t session_last_pass(const struct session *session) {
    return session->last_pass;
}
