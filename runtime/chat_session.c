#include "runtime/chat_session.h"

#include "common/json.h"
#include "common/temporary_file.h"
#include "runtime/json_text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_LIMIT ((size_t)64 << 20)

struct chat_session {
    const struct loaded_model *loaded;      /* borrowed */
    struct session *session;
    struct constraint_store constraints;
    char *source;                           /* of the template */
    const char *name;                       /* borrowed */
    struct chat_message *messages;          /* strings owned; a system message is the first */
    uint32_t count, capacity;
};

/* ---- messages ---- */

static void message_release(struct chat_message *message) {
    free((char *)message->role);
    free((char *)message->content);
}

void chat_messages_free(struct chat_message *messages, uint32_t count) {
    for (uint32_t i = 0; messages && i < count; i++)
        message_release(&messages[i]);
    free(messages);
}

/* Insert copies of role and content. */
static bool insert(struct chat_session *chat, uint32_t at, const char *role, const char *content,
                   struct error *err) {
    if (chat->count == chat->capacity) {
        uint32_t capacity = chat->capacity ? 2 * chat->capacity : 16;
        struct chat_message *grown = realloc(chat->messages, capacity * sizeof *grown);
        if (!grown)
            return error_set(err, ERROR_FAILED, "cannot keep the conversation: out of memory");
        chat->messages = grown;
        chat->capacity = capacity;
    }
    struct chat_message message = { strdup(role), strdup(content) };
    if (!message.role || !message.content) {
        message_release(&message);
        return error_set(err, ERROR_FAILED, "cannot keep the conversation: out of memory");
    }
    memmove(chat->messages + at + 1, chat->messages + at, (chat->count - at) * sizeof message);
    chat->messages[at] = message;
    chat->count++;
    return true;
}

static void remove_messages(struct chat_session *chat, uint32_t at, uint32_t count) {
    for (uint32_t i = at; i < at + count; i++)
        message_release(&chat->messages[i]);
    memmove(chat->messages + at, chat->messages + at + count,
            (chat->count - at - count) * sizeof *chat->messages);
    chat->count -= count;
}

static bool has_role(const struct chat_session *chat, uint32_t i, const char *role) {
    return i < chat->count && strcmp(chat->messages[i].role, role) == 0;
}

/* Where the turns begin. */
static uint32_t first_turn(const struct chat_session *chat) {
    return has_role(chat, 0, "system") ? 1 : 0;
}

bool chat_messages_read(const json_t *list, const char *file, struct chat_message **messages, uint32_t *count,
                        struct error *err) {
    size_t size = json_array_size(list);
    if (!json_is_array(list) || size > UINT32_MAX / 2)
        return error_set(err, ERROR_USAGE, "'%s' holds no array of messages with role and content", file);
    struct chat_message *read = calloc(size ? size : 1, sizeof *read);
    bool ok = read || error_set(err, ERROR_FAILED, "cannot read '%s': out of memory", file);
    for (size_t i = 0; ok && i < size; i++) {
        const char *role = NULL, *content = NULL;
        const json_t *item = json_array_get(list, i);
        ok = json_is_object(item) && json_get_str(item, "role", file, &role, err)
             && json_get_str(item, "content", file, &content, err);
        if (!ok || !role || !content)
            ok = error_set(err, ERROR_USAGE, "message %zu of '%s' needs a role and a content, both strings", i + 1,
                           file);
        else if (strlen(role) != json_string_length(json_object_get(item, "role"))
                 || strlen(content) != json_string_length(json_object_get(item, "content")))
            ok = error_set(err, ERROR_USAGE, "message %zu of '%s' holds a NUL byte, which a chat template "
                           "cannot take", i + 1, file);
        else if (strcmp(role, "system") == 0 && i > 0)
            ok = error_set(err, ERROR_USAGE, "message %zu of '%s' is a system message: only the first can be",
                           i + 1, file);
        if (ok) {
            read[i] = (struct chat_message){ strdup(role), strdup(content) };
            ok = (read[i].role && read[i].content)
                 || error_set(err, ERROR_FAILED, "cannot read '%s': out of memory", file);
        }
    }
    if (!ok) {
        chat_messages_free(read, (uint32_t)size);
        return false;
    }
    *messages = read;
    *count = (uint32_t)size;
    return true;
}

/* ---- the template ---- */

char *chat_source(const struct loaded_model *loaded, const struct run_options *options, const char **name,
                  struct error *err) {
    char *source;
    if (!options->template_name) {
        const char *own = tokenizer_chat_template(loaded->tokenizer);
        *name = loaded->model->name;
        source = own ? strdup(own) : NULL;
        if (!own)
            error_set(err, ERROR_USAGE, "model '%s' has no chat template; name one with --template", *name);
        else if (!source)
            error_set(err, ERROR_FAILED, "cannot keep the chat template: out of memory");
        return source;
    }
    *name = options->template_name;
    source = chat_template_read(*name, err);
    if (source && !chat_template_has_tags(source)) {
        error_set(err, ERROR_USAGE, "'%s' is no chat template: it holds neither {{ nor {%%; a conversation needs one",
                  *name);
        free(source);
        source = NULL;
    }
    return source;
}

bool chat_encode(const struct loaded_model *loaded, const char *source, const char *name,
                 const struct chat_message *messages, size_t count, int32_t **ids, uint32_t *id_count,
                 struct error *err) {
    const struct chat_context context = chat_context_of(loaded->tokenizer);
    struct text text;
    text_init(&text);
    bool ok = chat_template_render(source, name, messages, count, &context, &text, err);
    if (ok && text.failed)
        ok = error_set(err, ERROR_FAILED, "cannot render the conversation: out of memory");
    ok = ok && tokenizer_encode(loaded->tokenizer, text.bytes, text.length, TOKENIZE_DEFAULT, ids, id_count, err);
    text_release(&text);
    if (!ok)
        return false;
    for (uint32_t i = 0; i < *id_count; i++)
        if ((*ids)[i] < 0 || (uint32_t)(*ids)[i] >= loaded->model->vocab_size) {
            error_set(err, ERROR_FAILED, "the tokenizer of model '%s' made token %d, but its vocabulary has %u",
                      loaded->model->name, (int)(*ids)[i], loaded->model->vocab_size);
            free(*ids);
            return false;
        }
    if (*id_count)
        return true;
    free(*ids);
    return error_set(err, ERROR_USAGE, "the conversation is empty: the template made no token of it");
}

/* ---- answers ---- */

/* What should be left for the answer: a quarter of the context, unless fewer tokens are
 * wanted. */
static uint32_t reserve_of(uint32_t context, const struct generation_settings *settings) {
    uint32_t reserve = context / 4;
    return settings->new_tokens < reserve ? settings->new_tokens : reserve;
}

/* The conversation's ids; *dropped: how many messages after the system message had to be
 * left out so that they, and an answer, fit. */
static bool fit(struct chat_session *chat, const struct generation_settings *settings, int32_t **ids,
                uint32_t *count, uint32_t *dropped, struct error *err) {
    uint32_t context = engine_context(chat->loaded->engine), first = first_turn(chat);
    uint32_t target = context - reserve_of(context, settings);
    struct chat_message *kept = malloc(chat->count * sizeof *kept);
    if (!kept)
        return error_set(err, ERROR_FAILED, "cannot render the conversation: out of memory");
    bool ok;
    *dropped = 0;
    for (;;) {
        memcpy(kept, chat->messages, first * sizeof *kept);
        memcpy(kept + first, chat->messages + first + *dropped,
               (chat->count - first - *dropped) * sizeof *kept);
        ok = chat_encode(chat->loaded, chat->source, chat->name, kept, chat->count - *dropped, ids, count, err);
        if (!ok || *count <= target)
            break;
        /* Up to the next user's turn; the last one has to stay. */
        uint32_t next = first + *dropped + 1;
        while (next < chat->count && !has_role(chat, next, "user"))
            next++;
        if (next >= chat->count) {
            if (*count <= context)
                break;   /* less than wanted is left for the answer, but something */
            uint32_t needed = *count;
            char advice[ENGINE_ADVICE_SIZE];
            free(*ids);
            ok = error_set(err, ERROR_USAGE, "this message needs %u tokens and the plan's context has %u; %s", needed,
                           context, engine_context_advice(chat->loaded->engine, needed, 2 * (uint64_t)needed,
                                                          "make it shorter", advice));
            break;
        }
        *dropped = next - first;
        free(*ids);
    }
    free(kept);
    return ok;
}

/* Answer the last message. On failure, and where nothing came, no message is added. */
static bool answer_last(struct chat_session *chat, const struct generation_settings *settings,
                        const struct chat_listener *listener, struct chat_answer *answer, struct error *err) {
    int32_t *ids = NULL;
    uint32_t count, dropped = 0;
    struct generation result = { 0 };
    *answer = (struct chat_answer){ 0 };
    if (!fit(chat, settings, &ids, &count, &dropped, err))
        return false;
    if (dropped) {
        remove_messages(chat, first_turn(chat), dropped);
        listener->dropped(listener->context, dropped);
    }
    struct generate_request request = {
        .session = chat->session, .engine = chat->loaded->engine, .tokenizer = chat->loaded->tokenizer,
        .settings = settings, .prompt = ids, .count = count, .on_text = listener->text,
        .context = listener->context, .constraints = &chat->constraints,
    };
    bool ok = generate(&request, &result, err);
    const struct generated *best = result.sequence_count ? &result.sequences[0] : NULL;
    bool has_text = best && best->text.length;
    /* Of beams the text comes when the best one is known. */
    if (ok && settings->num_beams > 1 && has_text)
        ok = listener->text(listener->context, best->text.bytes, best->text.length, err);
    if (ok) {
        *answer = (struct chat_answer){
            .prompt_tokens = count, .run_tokens = count - result.reused, .new_tokens = result.token_count,
            .finish = best ? best->finish : FINISH_INTERRUPTED, .prefill_s = result.prefill_s,
            .decode_s = result.decode_s, .is_cut = best && best->is_cut,
        };
        answer->context_full = answer->finish == FINISH_LENGTH
                               && count + best->count > engine_context(chat->loaded->engine);
        answer->taken_back = answer->finish == FINISH_INTERRUPTED && !has_text;
        ok = answer->taken_back || insert(chat, chat->count, "assistant", has_text ? best->text.bytes : "", err);
    }
    generation_release(&result);
    free(ids);
    return ok;
}

bool chat_session_ask(struct chat_session *chat, const char *text, const struct generation_settings *settings,
                      const struct chat_listener *listener, struct chat_answer *answer, struct error *err) {
    if (!insert(chat, chat->count, "user", text, err))
        return false;
    bool ok = answer_last(chat, settings, listener, answer, err);
    if (!ok || answer->taken_back)
        remove_messages(chat, chat->count - 1, 1);
    return ok;
}

bool chat_session_regenerate(struct chat_session *chat, const struct generation_settings *settings,
                             const struct chat_listener *listener, struct chat_answer *answer,
                             struct error *err) {
    uint32_t last = chat->count - 1;
    bool had_answer = chat->count && has_role(chat, last, "assistant");
    if (!chat->count || !has_role(chat, had_answer ? last - 1 : last, "user"))
        return error_set(err, ERROR_USAGE, "there is no answer to make again: ask something first");
    struct chat_message old = chat->messages[last];
    chat->count -= had_answer;
    bool ok = answer_last(chat, settings, listener, answer, err);
    if (had_answer && (!ok || answer->taken_back))
        chat->messages[chat->count++] = old;   /* its place is still there */
    else if (had_answer)
        message_release(&old);
    return ok;
}

/* ---- the rest ---- */

bool chat_session_undo(struct chat_session *chat, struct error *err) {
    uint32_t last = chat->count;
    while (last > first_turn(chat) && !has_role(chat, last - 1, "user"))
        last--;
    if (last == first_turn(chat))
        return error_set(err, ERROR_USAGE, "there is nothing to undo");
    remove_messages(chat, last - 1, chat->count - last + 1);
    return true;
}

void chat_session_reset(struct chat_session *chat) {
    remove_messages(chat, first_turn(chat), chat->count - first_turn(chat));
}

bool chat_session_set_system(struct chat_session *chat, const char *text, struct error *err) {
    uint32_t had = first_turn(chat);
    if (text[0] && !insert(chat, 0, "system", text, err))
        return false;
    if (had)
        remove_messages(chat, text[0] ? 1 : 0, 1);
    return true;
}

const char *chat_session_system(const struct chat_session *chat) {
    return first_turn(chat) ? chat->messages[0].content : NULL;
}

bool chat_session_save(const struct chat_session *chat, const char *path, struct error *err) {
    json_t *messages = json_array();
    for (uint32_t i = 0; i < chat->count; i++)
        json_array_append_new(messages, json_pack("{s:s, s:o}", "role", chat->messages[i].role, "content",
            json_text(chat->messages[i].content, strlen(chat->messages[i].content))));
    json_t *object = json_pack("{s:s, s:o}", "model", chat->loaded->model->name, "messages", messages);
    struct stat status;
    char *part = NULL;
    int file = -1;
    bool ok = (object && json_array_size(messages) == chat->count) ||
              error_set(err, ERROR_FAILED, "cannot save the conversation: out of memory");
    if (ok && stat(path, &status) == 0 && !S_ISREG(status.st_mode))
        ok = error_set(err, ERROR_FAILED, "cannot write '%s': it is not a regular file", path);
    /* A complete file or none: an older one stays until the new one is whole. */
    ok = ok && (file = temporary_file_create(path, &part, err)) >= 0;
    if (ok) {
        ok = json_dumpfd(object, file, JSON_INDENT(2)) == 0;
        if (ok)
            ok = temporary_file_finish(file, part, path, TAKE_ANY);
        else
            temporary_file_drop(file, part);
        if (!ok)
            error_set(err, ERROR_FAILED, "cannot write '%s': %s", path, strerror(errno));
    }
    json_decref(object);
    return ok;
}

bool chat_session_load(struct chat_session *chat, const char *path, struct error *err) {
    json_t *root = json_read_file(path, FILE_LIMIT, err);
    struct chat_message *messages;
    uint32_t count;
    bool ok = root && chat_messages_read(json_is_object(root) ? json_object_get(root, "messages") : root, path,
                                         &messages, &count, err);
    json_decref(root);
    if (!ok)
        return false;
    chat_messages_free(chat->messages, chat->count);
    chat->messages = messages;
    chat->count = count;
    chat->capacity = count ? count : 1;   /* as calloc() was asked for */
    return true;
}

struct chat_session *chat_session_new(const struct loaded_model *loaded, const struct run_options *options,
                                      struct error *err) {
    struct chat_session *chat = calloc(1, sizeof *chat);
    if (!chat) {
        error_set(err, ERROR_FAILED, "cannot start a conversation: out of memory");
        return NULL;
    }
    chat->loaded = loaded;
    chat->source = chat_source(loaded, options, &chat->name, err);
    if (chat->source)
        chat->session = session_new(loaded->engine, 0, loaded_model_rope(loaded, options), err);
    if (chat->session && (!options->system || chat_session_set_system(chat, options->system, err)))
        return chat;
    chat_session_free(chat);
    return NULL;
}

void chat_session_free(struct chat_session *chat) {
    if (!chat)
        return;
    session_free(chat->session);
    constraint_store_release(&chat->constraints);
    chat_messages_free(chat->messages, chat->count);
    free(chat->source);
    free(chat);
}

uint32_t chat_session_message_count(const struct chat_session *chat) {
    return chat->count;
}

uint32_t chat_session_tokens(const struct chat_session *chat) {
    uint32_t count;
    session_tokens(chat->session, &count);
    return count;
}

struct session *chat_session_timeline(struct chat_session *chat) {
    return chat->session;
}
