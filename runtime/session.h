/* session: one timeline of tokens over an engine's sequence.
 *
 * Keeps the tokens, runs new ones, and hides what LongRoPE asks for: the short
 * factors while the sequence fits original_context, and on crossing it (or on
 * going back) the whole sequence is run again, as transformers does. */
#ifndef RUNTIME_SESSION_H
#define RUNTIME_SESSION_H

#include "runtime/engine.h"

enum rope_policy { ROPE_AUTO, ROPE_SHORT, ROPE_LONG };
bool rope_policy_from_name(const char *name, enum rope_policy *policy);   /* "auto", "short", "long" */

struct session;

/* The engine is borrowed. `sequence` < the engine's sequence_count. */
struct session *session_new(struct engine *engine, uint32_t sequence, enum rope_policy policy,
                            struct error *err);
void session_free(struct session *session);   /* gives the pages back; NULL is fine */

/* Append tokens and run them. `logits` ([vocab], may be NULL) are those after the
 * last one. ERROR_USAGE where the context is full, ERROR_INTERRUPTED on a signal;
 * then the session is as before the call. */
bool session_append(struct session *session, const int32_t *tokens, uint32_t count, float *logits,
                    struct error *err);

/* The same with logits of every new token: [count][vocab]. */
bool session_append_all(struct session *session, const int32_t *tokens, uint32_t count,
                        float *logits, struct error *err);

/* Make the timeline exactly these tokens: what it has in common with them is kept, the
 * rest dropped, and what is new is run; at least the last one, for its logits. Failure
 * leaves the common part. */
bool session_replay(struct session *session, const int32_t *tokens, uint32_t count, float *logits,
                    struct error *err);

/* One token for each of several sessions of one engine, in one batch: they may share pages. They
 * have one length, or at least want the same factors (session_wants_long()) with that token.
 * logits: [count][vocab], may be NULL. After a failure all are as before. */
bool session_append_each(struct session *const *sessions, uint32_t count, const int32_t *tokens,
                         float *logits, struct error *err);

uint32_t session_room(const struct session *session);   /* how many more tokens the context takes */
/* How many more without running everything again (LongRoPE). */
uint32_t session_steady_room(const struct session *session);

bool session_truncate(struct session *session, uint32_t length, struct error *err);

/* A new session on another sequence that shares what this one has. */
struct session *session_fork(struct session *session, uint32_t sequence, struct error *err);

/* Make the timeline what `source` has in common with tokens[0 .. count), all but the last of
 * them, where its KV can serve them; its pages are shared. Returns how many tokens that are; 0:
 * none, and the session is as before or empty. */
uint32_t session_share(struct session *session, struct session *source, const int32_t *tokens, uint32_t count);
/* How many of the tokens session_share() would find, in its own timeline too. */
uint32_t session_common(const struct session *session, const int32_t *tokens, uint32_t count);

/* Give the pages back but keep the tokens: the next append runs them again. */
void session_rest(struct session *session);
/* How many free pages it takes to append `count` tokens. */
uint32_t session_pages_for(const struct session *session, uint32_t count);

const int32_t *session_tokens(const struct session *session, uint32_t *count);   /* borrowed */

/* ---- the KV as bytes: see engine_page_bytes() ---- */

/* How many tokens have their KV now, and whether by the long factors of LongRoPE. */
uint32_t session_kv_length(const struct session *session, bool *long_rope);
/* The factors that a sequence of this length is run with. */
bool session_wants_long(const struct session *session, uint32_t length);
bool session_read_page(const struct session *session, uint32_t page, uint8_t *bytes, struct error *err);

/* Make the timeline these tokens, with KV that comes page by page from `source` (false with
 * `err` stops it). After a failure the timeline is empty. */
typedef bool session_page_source(void *context, uint32_t page, uint8_t *bytes, struct error *err);
bool session_restore(struct session *session, const int32_t *tokens, uint32_t count, bool long_rope,
                     session_page_source *source, void *context, struct error *err);

/* How many tokens each engine pass of the last append got (a re-run after a
 * crossing shows as the whole length); for tests and -v. */
uint32_t session_last_pass(const struct session *session);

#endif
