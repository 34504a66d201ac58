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
static bool wants_long(const struct session *session, uint32_t length) {
    const struct rope_parameters *rope = &engine_model(session->engine)->rope;
    if (rope->scaling != ROPE_LONGROPE || session->policy == ROPE_SHORT)
        return false;
    return session->policy == ROPE_LONG || length > rope->original_context;
}

/* `all`: logits of every new token, else of the last one; `logits` may be NULL. */
static bool append(struct session *session, const int32_t *tokens, uint32_t count, bool all, float *logits,
                   struct error *err) {
    if (count == 0)
        return logits ? error_set(err, ERROR_USAGE, "there is no token to run: give at least one") : true;
    uint32_t context = engine_context(session->engine);
    if (count > context - session->length)
        return error_set(err, ERROR_USAGE, "%u tokens after the first %u exceed the plan's context of %u; "
                         "make a larger plan: phiplan '%s' --ctx %llu", count, session->length, context,
                         engine_model(session->engine)->source.argument,
                         (unsigned long long)session->length + count);
    uint32_t total = session->length + count;
    bool long_rope = wants_long(session, total);
    if (session->kv_length > 0 && session->kv_long != long_rope) {
        if (!engine_sequence_truncate(session->engine, session->sequence, 0, err))
            return false;
        session->kv_length = 0;
    }
    memcpy(session->tokens + session->length, tokens, count * sizeof *tokens);

    uint32_t first = session->kv_length, pass = total - first;
    bool ok = false;
    int32_t *positions = malloc(2 * (size_t)pass * sizeof *positions);
    bool *wanted = calloc(pass, sizeof *wanted);
    if (!positions || !wanted) {
        error_set(err, ERROR_FAILED, "cannot run %u tokens: out of memory", pass);
        goto cleanup;
    }
    int32_t *sequences = positions + pass;
    for (uint32_t i = 0; i < pass; i++) {
        positions[i] = (int32_t)(first + i);
        sequences[i] = (int32_t)session->sequence;
        wanted[i] = logits && (all ? first + i >= session->length : i == pass - 1);
    }
    struct engine_batch batch = {
        .token_count = pass, .tokens = session->tokens + first, .sequences = sequences,
        .positions = positions, .long_rope = long_rope, .is_prefill = pass > 1, .wants_logits = wanted,
    };
    /* On failure the engine has put its sequence back, and this length stays. */
    if (!engine_forward(session->engine, &batch, logits, err))
        goto cleanup;
    session->length = session->kv_length = total;
    session->kv_long = long_rope;
    session->last_pass = pass;
    ok = true;

cleanup:
    free(positions);
    free(wanted);
    return ok;
}

bool session_append(struct session *session, const int32_t *tokens, uint32_t count, float *logits,
                    struct error *err) {
    return append(session, tokens, count, false, logits, err);
}

bool session_append_all(struct session *session, const int32_t *tokens, uint32_t count, float *logits,
                        struct error *err) {
    return append(session, tokens, count, true, logits, err);
}

bool session_truncate(struct session *session, uint32_t length, struct error *err) {
    if (length > session->length)
        return error_set(err, ERROR_USAGE, "cannot go back to %u tokens: there are only %u", length,
                         session->length);
    if (length < session->kv_length) {
        if (!engine_sequence_truncate(session->engine, session->sequence, length, err))
            return false;
        session->kv_length = length;
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
