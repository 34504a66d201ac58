#include "runtime/stop_strings.h"

#include <string.h>

void stop_matcher_init(struct stop_matcher *matcher, char *const *strings, uint32_t count, bool keeps) {
    *matcher = (struct stop_matcher){ .strings = strings, .count = count, .keeps = keeps };
    text_init(&matcher->pending);
}

void stop_matcher_release(struct stop_matcher *matcher) {
    text_release(&matcher->pending);
}

/* Length of the longest end of `text` that begins one of the strings. */
static size_t held_back(const struct stop_matcher *matcher, const struct text *text) {
    size_t longest = 0;
    for (uint32_t i = 0; i < matcher->count; i++) {
        size_t length = strlen(matcher->strings[i]) - 1;
        for (length = length < text->length ? length : text->length; length > longest; length--)
            if (memcmp(text->bytes + text->length - length, matcher->strings[i], length) == 0)
                longest = length;
    }
    return longest;
}

bool stop_matcher_feed(struct stop_matcher *matcher, const char *bytes, size_t length, struct text *out) {
    struct text *pending = &matcher->pending;
    text_append_bytes(pending, bytes, length);
    const char *first = NULL;
    for (uint32_t i = 0; i < matcher->count; i++) {
        const char *found = memmem(pending->bytes, pending->length, matcher->strings[i],
                                   strlen(matcher->strings[i]));
        if (found && (!first || found < first))
            first = found;
    }
    size_t certain = pending->length - held_back(matcher, pending);
    if (first)
        certain = matcher->keeps ? pending->length : (size_t)(first - pending->bytes);
    text_append_bytes(out, pending->bytes, certain);
    out->failed |= pending->failed;
    if (first) {
        text_clear(pending);
        return true;
    }
    memmove(pending->bytes, pending->bytes + certain, pending->length - certain);
    pending->length -= certain;
    if (pending->capacity)
        pending->bytes[pending->length] = '\0';
    return false;
}

void stop_matcher_end(struct stop_matcher *matcher, struct text *out) {
    text_append_bytes(out, matcher->pending.bytes, matcher->pending.length);
    text_clear(&matcher->pending);
}
