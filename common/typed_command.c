#include "common/typed_command.h"

#include <inttypes.h>
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

static void append_option(struct text *text, const char *option, const char *value) {
    if (!value || !*value)
        return;
    text_append_format(text, " %s ", option);
    text_append_word(text, value);
}

/* The program's words are plain; `model` is what a shell must not take apart. */
static const char *propose(char command[TYPED_COMMAND_SIZE], const char *program, const char *model, uint64_t context,
                           const char *name, const char *db) {
    struct text text;
    text_init(&text);
    text_append_format(&text, "%s ", program);
    text_append_word(&text, model);
    if (context)
        text_append_format(&text, " --ctx %" PRIu64, context);
    append_option(&text, "--name", name && strcmp(name, "default") == 0 ? NULL : name);
    append_option(&text, "--db", db);
    snprintf(command, TYPED_COMMAND_SIZE, "%s", text.bytes);
    text_release(&text);
    return command;
}

const char *typed_phiplan(char command[TYPED_COMMAND_SIZE], const char *model, uint64_t context, const char *name,
                          const char *db) {
    return propose(command, "phiplan", model, context, name, db);
}

const char *typed_import(char command[TYPED_COMMAND_SIZE], const char *model, const char *name, const char *db) {
    return propose(command, "phiplan import FILE", model, 0, name, db);
}

const char *typed_bench(char command[TYPED_COMMAND_SIZE], const char *model, const char *name, const char *db) {
    return propose(command, "phirun bench", model, 0, name, db);
}
