#include "runtime/generate.h"

#include "runtime/loaded_model.h"

#include <stdlib.h>

const char *finish_reason_name(enum finish_reason reason) {
    switch (reason) {
    case FINISH_EOS: return "eos";
    case FINISH_LENGTH: return "length";
    case FINISH_INTERRUPTED: break;
    }
    return "interrupted";
}

static bool is_end_token(const struct generation_settings *settings, int32_t id) {
    for (uint32_t i = 0; i < settings->eos_count; i++)
        if (settings->eos_ids[i] == id)
            return true;
    return false;
}

/* The next token into the result; the caller has made room. */
static bool choose(struct sampler *sampler, const float *logits, struct generation *result,
                   struct error *err) {
    int32_t id = sampler_choose(sampler, logits);
    if (id < 0)
        return error_set(err, ERROR_FAILED,
                         "no next token can be chosen: the logits hold NaN or nothing but -infinity; "
                         "check the model's files with --verify");
    sampler_accept(sampler, id);
    result->ids[result->count++] = id;
    return true;
}

bool generate(struct session *session, struct engine *engine,
              const struct generation_settings *settings, const int32_t *prompt, uint32_t count,
              generate_token *on_token, void *context, struct generation *result,
              struct error *err) {
    uint32_t room = engine_context(engine), vocab = engine_model(engine)->vocab_size;
    *result = (struct generation){ .finish = FINISH_LENGTH };
    if (count > room)
        return error_set(err, ERROR_USAGE,
                         "the prompt has %u tokens and the plan's context %u; plan again with --ctx %u",
                         count, room, count + (settings->new_tokens < room ? settings->new_tokens : 256));
    /* The last token is chosen but needs no place in the KV cache. */
    uint32_t most = room - count + 1;
    if (settings->new_tokens < most)
        most = settings->new_tokens;
    if (!most)
        return true;
    float *logits = malloc(vocab * sizeof *logits);
    struct sampler *sampler = sampler_new(&settings->sampling, vocab, err);
    result->ids = malloc(most * sizeof *result->ids);
    bool ok = logits && sampler && result->ids;
    if (!ok && sampler)
        error_set(err, ERROR_FAILED, "cannot generate: out of memory");

    double started = seconds_now();
    for (uint32_t i = 0; ok && i < count; i++)
        sampler_accept(sampler, prompt[i]);
    ok = ok && session_replay(session, prompt, count, logits, err);
    result->prefill_s = seconds_now() - started;
    started = seconds_now();
    while (ok) {
        if (!(ok = choose(sampler, logits, result, err)))
            break;
        if (result->count == 1)
            result->first_token_at = seconds_now();
        int32_t id = result->ids[result->count - 1];
        bool ends = is_end_token(settings, id);
        if (ends)
            result->finish = FINISH_EOS;
        ok = on_token(context, id, ends, err);
        if (!ok || ends || result->count == most)
            break;
        ok = session_append(session, &id, 1, logits, err);
    }
    result->decode_s = seconds_now() - started;
    if (!ok && err->kind == ERROR_INTERRUPTED) {
        result->finish = FINISH_INTERRUPTED;
        ok = true;
    }
    sampler_free(sampler);
    free(logits);
    return ok;
}
