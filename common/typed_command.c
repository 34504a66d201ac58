#include "common/typed_command.h"

#include "common/plan_request.h"

#include <stdio.h>
#include <string.h>

#define PLAIN "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./@%+=:,-"

void text_append_word(struct text *text, const char *word) {
    if (*word && word[strspn(word, PLAIN)] == '\0') {
        text_append(text, word);
        return;
    }
    text_append_char(text, '\'');
    for (const char *c = word; *c; c++) {
        if (*c == '\'')   /* out of the quotes, one by itself, in again */
            text_append(text, "'\\''");
        else
            text_append_char(text, *c);
    }
    text_append_char(text, '\'');
}

/* A command as it grows. */
struct typing {
    struct text text;
    size_t whole;               /* bytes of it, to the end of a word, that leave room for CUT */
};

#define CUT " ..."

static void start(struct typing *typing, const char *program, const char *model) {
    text_init(&typing->text);
    text_append_format(&typing->text, "%s ", program);
    text_append_word(&typing->text, model);
    typing->whole = typing->text.length;
}

/* `value` of NULL: a flag; "": not given. */
static void append_option(struct typing *typing, const char *option, const char *value) {
    if (value && !*value)
        return;
    text_append_format(&typing->text, " --%s", option);
    if (value) {
        text_append_char(&typing->text, ' ');
        text_append_word(&typing->text, value);
    }
    if (typing->text.length + sizeof CUT <= TYPED_COMMAND_SIZE)
        typing->whole = typing->text.length;
}

static void append_names(struct typing *typing, const char *option, const char *name, const char *db) {
    append_option(typing, option, name && strcmp(name, "default") != 0 ? name : "");
    append_option(typing, "db", db ? db : "");
}

static const char *finish(struct typing *typing, char command[TYPED_COMMAND_SIZE]) {
    const bool fits = typing->text.length < TYPED_COMMAND_SIZE;
    snprintf(command, TYPED_COMMAND_SIZE, "%.*s%s", (int)(fits ? typing->text.length : typing->whole),
             typing->text.bytes, fits ? "" : CUT);
    text_release(&typing->text);
    return command;
}

const char *typed_phiplan(char command[TYPED_COMMAND_SIZE], const char *model, const struct plan_request *request,
                          uint64_t context, const char *name, const char *db) {
    static const struct plan_request nothing = { .kv_type = KV_F16 };
    struct request_field fields[PLAN_REQUEST_FIELDS];
    struct typing typing;
    const bool follows_map = request && strcmp(request->policy, POLICY_IMPORT) == 0;
    start(&typing, follows_map ? "phiplan import FILE" : "phiplan", model);
    append_names(&typing, "name", name, db);
    plan_request_options(request ? request : &nothing, context < UINT32_MAX ? (uint32_t)context : UINT32_MAX, fields);
    for (uint32_t i = 0; i < PLAN_REQUEST_FIELDS; i++)
        append_option(&typing, fields[i].option, fields[i].is_flag && fields[i].value[0] ? NULL : fields[i].value);
    return finish(&typing, command);
}

const char *typed_bench(char command[TYPED_COMMAND_SIZE], const char *model, const char *name, const char *db) {
    struct typing typing;
    start(&typing, "phirun bench", model);
    append_names(&typing, "plan", name, db);
    return finish(&typing, command);
}
