/* prompt_lanes: several requests of one engine decoded as one batch, each on a timeline of its
 * own. A token of several timelines costs little more than a token of one: the weights are read
 * once for all.
 *
 * A new prompt starts from the timeline that has most in common with it, also one that came to
 * its end. Where pages run out, first what ended is forgotten, then the timeline that came last
 * waits and is run again later: the results do not depend on any of it. How many run at a time
 * follows from what one and several together were measured to take. */
#ifndef RUNTIME_PROMPT_LANES_H
#define RUNTIME_PROMPT_LANES_H

#include "runtime/generate.h"

#define PROMPT_LANES_MOST 8u

struct prompt_lanes;

/* Uses the engine's sequences 0 .. count - 1; count is 1 to PROMPT_LANES_MOST. The engine is
 * borrowed. */
struct prompt_lanes *prompt_lanes_new(struct engine *engine, enum rope_policy policy, uint32_t count,
                                      struct error *err);
void prompt_lanes_free(struct prompt_lanes *lanes);   /* NULL is fine */

/* Whether a prompt of so many tokens should be added now. It always should where none runs. */
bool prompt_lanes_has_room(struct prompt_lanes *lanes, uint32_t prompt_tokens);
uint32_t prompt_lanes_running(const struct prompt_lanes *lanes);

/* Take a request in, for which generation_can_step(), and run its prompt; its session is set
 * here. It, and the result, stay with `owner` until prompt_lanes_done() names him. False: it was
 * not taken (ERROR_USAGE: for what it asks). */
bool prompt_lanes_add(struct prompt_lanes *lanes, struct generate_request *request, struct generation *result,
                      void *owner, struct error *err);

/* A token for each of them. False ends all. */
bool prompt_lanes_step(struct prompt_lanes *lanes, struct error *err);

/* The owner of a request that is done, each once; NULL: no more. */
void *prompt_lanes_done(struct prompt_lanes *lanes);

/* A timeline for generate(), which may use all other sequences; only where none runs. It starts
 * from what there is of the prompt. */
struct session *prompt_lanes_alone(struct prompt_lanes *lanes, const int32_t *prompt, uint32_t count);

/* Seconds that the steps took so far, and the most timelines that one had. */
double prompt_lanes_seconds(const struct prompt_lanes *lanes);
uint32_t prompt_lanes_widest(const struct prompt_lanes *lanes);

#endif
