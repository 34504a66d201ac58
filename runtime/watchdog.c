/* watchdog: waiting for the devices, but not for ever. */
#include "common/interruption.h"
#include "runtime/engine_parts.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

/* At least a minute, and 20 times what the plan predicts for the slowest thing waited
 * for: a micro-batch of the prompt or one token. Loading may compile kernels, and some
 * drivers compile at the first launch. */
enum { FIRST_PASSES = 8 };

static double patience(const struct engine *engine) {
    const struct plan *plan = engine->plan;
    double slowest = 3;
    if (engine->watchdog_seconds > 0)
        return engine->watchdog_seconds;
    if (!engine->is_loaded)
        return 1800;
    if (plan->predicted_prefill_tokens_per_s > 0 && engine->micro_batch / plan->predicted_prefill_tokens_per_s > slowest)
        slowest = engine->micro_batch / plan->predicted_prefill_tokens_per_s;
    if (plan->predicted_decode_tokens_per_s_end > 0 && 1 / plan->predicted_decode_tokens_per_s_end > slowest)
        slowest = 1 / plan->predicted_decode_tokens_per_s_end;
    if (engine->pass_number <= FIRST_PASSES && slowest < 30)
        slowest = 30;
    return 20 * slowest < 86400 ? 20 * slowest : 86400;
}

static _Noreturn void give_up(double seconds) {
    fprintf(stderr, "the devices made no progress for %.0f s: a driver hangs; try again, or plan without the device "
            "with phiplan --exclude\n", seconds);
    interruption_end(1);
}

void engine_wait(struct engine *engine) {
    double seconds = patience(engine);
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)seconds;
    until.tv_nsec += (long)((seconds - (double)(time_t)seconds) * 1e9);
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    if (pthread_cond_clockwait(&engine->changed, &engine->lock, CLOCK_MONOTONIC, &until) == ETIMEDOUT)
        give_up(seconds);
}
