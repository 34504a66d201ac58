/* speculation: guess the next tokens from what the text repeats (prompt lookup).
 *
 * The guesses are run as one batch with the token before them; each is kept while the
 * sampler, asked in order, chooses just that token. So the text and the random numbers
 * used are those of decoding one by one, greedy or sampled. It pauses itself while a
 * token costs more with it than without. */
#ifndef RUNTIME_SPECULATION_H
#define RUNTIME_SPECULATION_H

#include <stdbool.h>
#include <stdint.h>

#define SPECULATION_MOST 15u      /* guesses in a batch */

struct speculation {
    uint32_t next_count;          /* how many to guess */
    uint32_t pause;               /* tokens to wait before guessing again */
    uint32_t pauses;              /* in a row without paying; doubles the wait */
    double plain_s;               /* moving average of a token without; 0: not known yet */
    double drafted_s, drafted_tokens;    /* decaying sums of the steps with guesses */
    uint32_t guessed, accepted;   /* totals */
};

void speculation_init(struct speculation *speculation);

/* Up to `most` guesses of what follows `history`; 0 where there is nothing to guess from or
 * it does not pay now. */
uint32_t speculation_draft(struct speculation *speculation, const int32_t *history, uint32_t count,
                           uint32_t most, int32_t *draft);

/* A step with `drafted` guesses (0: a plain one), of which `accepted` were right, took `seconds`. */
void speculation_note(struct speculation *speculation, uint32_t drafted, uint32_t accepted, double seconds);

#endif
