#include "runtime/speculation.h"

#include <string.h>

#define LONGEST_MATCH 4u
#define SHORTEST_MATCH 2u
#define FIRST_PAUSE 16u
#define MOST_PAUSES 5u
/* A step that took longer than this many times its tokens one by one was held up by something
 * else: it counts as no more, lest one such step end what pays. */
#define SLOWEST 1.5

void speculation_init(struct speculation *speculation) {
    *speculation = (struct speculation){ .next_count = 4 };
}

/* Where the last `size` tokens occurred before, most recently: the place after them; 0: nowhere. */
static uint32_t find_before(const int32_t *history, uint32_t count, uint32_t size) {
    const int32_t *last = history + count - size;
    for (uint32_t end = count - 1; end >= size; end--)
        if (history[end - 1] == last[size - 1]
            && memcmp(history + end - size, last, size * sizeof *history) == 0)
            return end;
    return 0;
}

uint32_t speculation_draft(struct speculation *speculation, const int32_t *history, uint32_t count,
                           uint32_t most, int32_t *draft) {
    if (speculation->pause) {
        speculation->pause--;
        return 0;
    }
    /* What a plain token costs must be known first, or nothing could be compared. */
    if (speculation->plain_s == 0)
        return 0;
    uint32_t wanted = speculation->next_count < most ? speculation->next_count : most;
    for (uint32_t size = LONGEST_MATCH; size >= SHORTEST_MATCH; size--) {
        uint32_t from = count > size ? find_before(history, count, size) : 0;
        if (!from)
            continue;
        /* Where the text repeats itself right now, the guess runs on into the guess. */
        for (uint32_t i = 0; i < wanted; i++)
            draft[i] = from + i < count ? history[from + i] : draft[from + i - count];
        return wanted;
    }
    return 0;
}

void speculation_note(struct speculation *speculation, uint32_t drafted, uint32_t accepted, double seconds) {
    if (!drafted) {
        speculation->plain_s = speculation->plain_s > 0 ? 0.8 * speculation->plain_s + 0.2 * seconds : seconds;
        return;
    }
    speculation->guessed += drafted;
    speculation->accepted += accepted;
    if (accepted == drafted)
        speculation->next_count = 2 * drafted < SPECULATION_MOST ? 2 * drafted : SPECULATION_MOST;
    else
        speculation->next_count = accepted + 1 < 2 ? 2 : accepted + 1;
    double slowest = SLOWEST * (drafted + 1) * speculation->plain_s;
    seconds = seconds < slowest ? seconds : slowest;
    speculation->drafted_s = 0.7 * speculation->drafted_s + seconds;
    speculation->drafted_tokens = 0.7 * speculation->drafted_tokens + accepted + 1;
    if (speculation->drafted_s > speculation->drafted_tokens * speculation->plain_s) {
        speculation->pause = FIRST_PAUSE << speculation->pauses;
        speculation->pauses += speculation->pauses < MOST_PAUSES;
        speculation->drafted_s = speculation->drafted_tokens = 0;
        speculation->next_count = 4;
    } else {
        speculation->pauses = 0;
    }
}
