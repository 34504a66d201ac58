#include "runtime/answer.h"

bool answer_begin(struct answer *answer, const struct tokenizer *tokenizer,
                  const struct generation_settings *settings, const int32_t *prompt, uint32_t count,
                  struct error *err) {
    *answer = (struct answer){ 0 };
    text_init(&answer->text);
    stop_matcher_init(&answer->matcher, settings->stop_strings, settings->stop_count, settings->keep_stop);
    if (!tokenizer)
        return !settings->stop_count
               || error_set(err, ERROR_USAGE, "stop strings need a tokenizer, which the model has not; give --eos IDS");
    answer->stream = token_stream_new(tokenizer, prompt, count);
    return answer->stream || error_set(err, ERROR_FAILED, "cannot start the answer: out of memory");
}

void answer_release(struct answer *answer) {
    token_stream_free(answer->stream);
    stop_matcher_release(&answer->matcher);
    text_release(&answer->text);
}

static bool match(struct answer *answer, const struct text *piece, bool *stopped, struct error *err) {
    *stopped = stop_matcher_feed(&answer->matcher, piece->bytes, piece->length, &answer->text);
    return !(piece->failed || answer->text.failed)
           || error_set(err, ERROR_FAILED, "cannot keep the answer: out of memory");
}

bool answer_token(struct answer *answer, int32_t id, bool *stopped, struct error *err) {
    *stopped = false;
    if (!answer->stream)
        return true;
    struct text piece;
    text_init(&piece);
    bool ok = token_stream_feed(answer->stream, id, &piece, err) && match(answer, &piece, stopped, err);
    text_release(&piece);
    return ok;
}

bool answer_end(struct answer *answer, bool *stopped, struct error *err) {
    *stopped = false;
    if (!answer->stream)
        return true;
    struct text piece;
    text_init(&piece);
    bool ok = token_stream_end(answer->stream, &piece, err) && match(answer, &piece, stopped, err);
    stop_matcher_end(&answer->matcher, &answer->text);
    text_release(&piece);
    return ok;
}
