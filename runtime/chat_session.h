/* chat_session: a conversation, and the KV cache that follows it.
 *
 * The messages are the truth. Each answer renders all of them anew and replays the
 * result over the session, so that only what differs from the last time is run.
 * Where they no longer fit the plan's context, the oldest turns go; the system
 * message stays. */
#ifndef RUNTIME_CHAT_SESSION_H
#define RUNTIME_CHAT_SESSION_H

#include "runtime/chat_template.h"
#include "runtime/generate.h"
#include "runtime/loaded_model.h"

struct chat_session;

/* What comes while an answer is made. `text` gets pieces of the answer, never half a
 * character; `dropped`, before them, how many messages were left behind. */
struct chat_listener {
    bool (*text)(void *context, const char *bytes, size_t size, struct error *err);
    void (*dropped)(void *context, uint32_t messages);
    void *context;
};

struct chat_answer {
    uint32_t prompt_tokens;      /* of the rendered conversation */
    uint32_t run_tokens;         /* those of it that were not in the KV cache */
    uint32_t new_tokens;
    enum finish_reason finish;
    bool is_cut;                 /* the grammar wanted more */
    bool context_full;           /* it ended because nothing more fits */
    bool taken_back;             /* interrupted before any text: the conversation is as before */
    double prefill_s, decode_s;
};

/* The model is borrowed and needs its tokenizer. `options`: --system, --template, --rope. */
struct chat_session *chat_session_new(const struct loaded_model *loaded, const struct run_options *options,
                                      struct error *err);
void chat_session_free(struct chat_session *chat);   /* NULL is fine */

/* Add the user's turn and generate the answer: one, whatever the settings say. A failure
 * leaves the conversation as it was but for turns that were left behind; ERROR_USAGE (the message does not fit, the template refuses it) may be gone on from. */
bool chat_session_ask(struct chat_session *chat, const char *text, const struct generation_settings *settings,
                      const struct chat_listener *listener, struct chat_answer *answer, struct error *err);
/* Answer the last user's turn once more. */
bool chat_session_regenerate(struct chat_session *chat, const struct generation_settings *settings,
                             const struct chat_listener *listener, struct chat_answer *answer,
                             struct error *err);

bool chat_session_undo(struct chat_session *chat, struct error *err);   /* the last user's turn and its answer */
void chat_session_reset(struct chat_session *chat);                     /* all but the system message */
bool chat_session_set_system(struct chat_session *chat, const char *text, struct error *err);   /* "": none */
const char *chat_session_system(const struct chat_session *chat);       /* NULL: none; borrowed */

/* {"model": ..., "messages": [{"role": ..., "content": ...}]}; a bare array can be loaded too.
 * A file that cannot be used leaves the conversation as it was. */
bool chat_session_save(const struct chat_session *chat, const char *path, struct error *err);
bool chat_session_load(struct chat_session *chat, const char *path, struct error *err);

uint32_t chat_session_message_count(const struct chat_session *chat);
uint32_t chat_session_tokens(const struct chat_session *chat);   /* in the KV cache */
struct session *chat_session_timeline(struct chat_session *chat);   /* borrowed: for --prompt-cache */

/* ---- what batch shares ---- */

/* The source of --template, else of the model; ERROR_USAGE where there is none. The caller
 * frees it; *name (borrowed) is for sentences. */
char *chat_source(const struct loaded_model *loaded, const struct run_options *options, const char **name,
                  struct error *err);

/* Messages as token ids, ready for the answer; the caller frees *ids. */
bool chat_encode(const struct loaded_model *loaded, const char *source, const char *name,
                 const struct chat_message *messages, size_t count, int32_t **ids, uint32_t *id_count,
                 struct error *err);

/* Messages of a JSON array, copied; the caller frees them with chat_messages_free(). */
bool chat_messages_read(const json_t *list, const char *file, struct chat_message **messages, uint32_t *count,
                        struct error *err);
void chat_messages_free(struct chat_message *messages, uint32_t count);

#endif
