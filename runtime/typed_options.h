/* typed_options: generate()'s options on the command line, and what becomes of them: a JSON
 * object with generate()'s keywords, for generation_settings_read(). */
#ifndef RUNTIME_TYPED_OPTIONS_H
#define RUNTIME_TYPED_OPTIONS_H

#include "common/json.h"

/* How a value of generate()'s options is spelled, and what becomes of it. */
enum typed_kind {
    TYPED_COUNT, TYPED_NUMBER, TYPED_SEED, TYPED_FLAG,
    TYPED_CHOICE,      /* one of the words in `value`; true and false are no strings */
    TYPED_STRINGS,     /* may be given again: a list */
    TYPED_ESCAPED,     /* the same, spelled with option_unescape()'s escapes */
    TYPED_IDS,         /* 1,2,3; may be given again: a list of lists */
    TYPED_BIAS,        /* 1,2,3=BIAS; may be given again */
    TYPED_TEXT_FILE,   /* a file's text */
    TYPED_JSON_FILE    /* a file's value */
};

struct typed_option {
    enum typed_kind kind;
    char letter;         /* 0: none */
    const char *name;
    const char *key;     /* generate()'s keyword; NULL: the name with underscores */
    const char *value;   /* its name, for help; NULL: takes none */
    const char *help;
};

enum { TYPED_OPTIONS = 28 };
extern const struct typed_option typed_options[TYPED_OPTIONS];

/* As it was typed, into the object `typed`; failures are ERROR_USAGE. */
bool typed_option_apply(json_t *typed, const struct typed_option *option, const char *text, struct error *err);

/* Mistakes in numbers, and options that exclude each other, are better told before a model is opened. */
bool typed_options_check(const json_t *typed, struct error *err);

/* One of them by its long name (dashes or underscores) or its letter, for /set of chat: `value` NULL where it
 * takes none; "default": as if it had not been typed. Greedy and sampling options replace each
 * other. What failed (ERROR_USAGE) may be there in part. */
bool typed_options_set(json_t *typed, const char *name, const char *value, struct error *err);

#endif
