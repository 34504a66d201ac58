/* template_value: the values of a chat template, and what templates do with them. */
#ifndef RUNTIME_TEMPLATE_VALUE_H
#define RUNTIME_TEMPLATE_VALUE_H

#include "runtime/chat_template.h"
#include "runtime/template_token.h"

enum value_kind {
    VALUE_UNDEFINED, VALUE_NONE, VALUE_BOOL, VALUE_NUMBER, VALUE_STRING, VALUE_LIST, VALUE_MESSAGE, VALUE_LOOP,
    VALUE_SPACE          /* a namespace() */
};

struct value {
    enum value_kind kind;
    int64_t number;      /* BOOL, NUMBER; LIST: its length; LOOP: index from 0 */
    int64_t length;      /* STRING: bytes; LOOP: of the list */
    union {
        const char *text;                    /* STRING; NUL-terminated */
        const struct value *items;           /* LIST */
        const struct chat_message *message;  /* MESSAGE */
        struct variable_list *variables;     /* SPACE */
    };
};

enum { VARIABLE_LIMIT = 64 };

struct variable_list {
    struct variable {
        const char *name;    /* borrowed from the tokens: not NUL-terminated */
        size_t length;
        struct value value;
    } list[VARIABLE_LIMIT];
    unsigned count;
};

struct value value_bool(bool flag);
struct value value_number(int64_t number);
struct value value_string(const char *text, size_t length);   /* borrowed */

bool value_is_true(const struct value *value);
bool value_equals(const struct value *left, const struct value *right);

/* Below, false means an error, which is written to `err`. */

/* value.name: a member; undefined where there is none. */
bool value_member(const struct value *value, const char *name, size_t length, struct value *result,
                  struct error *err);
/* value[index] */
bool value_item(const struct value *value, const struct value *index, struct value *result, struct error *err);
/* value[start:stop:step] of a list; bounds that are left out are undefined. */
bool value_slice(const struct value *value, const struct value bounds[3], struct arena *arena,
                 struct value *result, struct error *err);
bool value_contains(const struct value *container, const struct value *item, bool *result, struct error *err);
bool value_add(const struct value *left, const struct value *right, struct arena *arena, struct value *result,
               struct error *err);
/* Append the value as {{ }} prints it. */
bool value_print(const struct value *value, struct text *out, struct error *err);

/* value|name(arguments) and value.name(arguments). */
bool value_filter(const struct value *value, const char *name, size_t length, const struct value *arguments,
                  unsigned count, struct arena *arena, struct value *result, struct error *err);
bool value_method(const struct value *value, const char *name, size_t length, const struct value *arguments,
                  unsigned count, struct arena *arena, struct value *result, struct error *err);
/* value is name */
bool value_test(const struct value *value, const char *name, size_t length, bool *result, struct error *err);

bool name_is(const char *name, size_t length, const char *text);

#endif
