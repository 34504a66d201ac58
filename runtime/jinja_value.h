/* jinja_value: the values of a running template, and the run itself.
 *
 * All memory belongs to the run and is freed with it: values are copied freely
 * and never released. Strings are valid UTF-8, without a NUL at the end, and may
 * share bytes. Lists, tuples and dicts do not change once a template sees them;
 * only namespaces do. Functions that return bool have written the sentence where
 * they return false. */
#ifndef RUNTIME_JINJA_VALUE_H
#define RUNTIME_JINJA_VALUE_H

#include "common/error.h"
#include "common/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum jinja_kind {
    JINJA_ABSENT,      /* no value at all: an argument that was not given */
    JINJA_UNDEFINED,
    JINJA_NONE,
    JINJA_BOOL,
    JINJA_INTEGER,
    JINJA_FLOAT,
    JINJA_STRING,
    JINJA_LIST,
    JINJA_TUPLE,
    JINJA_DICT,
    JINJA_NAMESPACE,
    JINJA_LOOP,
    JINJA_MACRO,
    JINJA_FUNCTION,    /* of the library */
    JINJA_METHOD       /* of the library, with the value it belongs to */
};

struct jinja_string {
    const char *bytes;
    size_t size;
};

struct jinja_value {
    enum jinja_kind kind;
    union {
        bool truth;
        int64_t integer;
        double real;
        struct jinja_string string;
        struct jinja_list *list;                 /* also of tuples */
        struct jinja_dict *dict;                 /* also of namespaces */
        struct jinja_loop *loop;
        const struct jinja_macro *macro;
        const struct jinja_builtin *function;
        const struct jinja_method *method;
        const struct jinja_missing *missing;     /* of undefined values; NULL: nothing is known */
    };
};

struct jinja_list {
    struct jinja_value *items;
    size_t count, capacity;
};

struct jinja_entry {
    struct jinja_value key, value;
};

struct jinja_dict {      /* in the order of insertion; keys are unique */
    struct jinja_entry *entries;
    size_t count, capacity;
};

/* What was looked up where, for the sentence of whoever then uses it. */
struct jinja_missing {
    enum jinja_kind owner;          /* ABSENT: `key` is a variable's name */
    struct jinja_value key;
};

struct jinja_method {
    const struct jinja_builtin *function;
    struct jinja_value self;
};

struct jinja {
    const char *name;               /* of the template's owner */
    struct error *err;
    struct jinja_chunk *chunks;
    size_t allocated;               /* bytes in all chunks */
    uint64_t steps;
    unsigned depth;
    unsigned line;                  /* of the template, of what is being done */
    struct text output;             /* what was printed, and what is being captured */
};

/* The life of a run; release frees all its values. */
void jinja_init(struct jinja *run, const char *name, struct error *err);
void jinja_release(struct jinja *run);

/* The template cannot go on: "... fails in line N: <what>; next step". False. */
bool jinja_fail(struct jinja *run, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* It asks for something that is not here, like "the filter 'x'". False. */
bool jinja_unsupported(struct jinja *run, const char *what, struct jinja_string name);
/* It refuses, in its own words. False. */
bool jinja_refuse(struct jinja *run, struct jinja_string words);

/* Zeroed memory; NULL past the ceiling. */
void *jinja_alloc(struct jinja *run, size_t size);
void *jinja_alloc_array(struct jinja *run, size_t count, size_t size);
/* Count steps, and nested calls; enter and leave in pairs, also after failure. */
bool jinja_spend(struct jinja *run, size_t steps);
bool jinja_enter(struct jinja *run);
void jinja_leave(struct jinja *run);

/* For "%.*s": a string's size, cut so that it fits a sentence, and its bytes. */
#define JINJA_SHOWN(string) ((int)((string).size < 100 ? (string).size : 100)), (string).bytes

struct jinja_string jinja_literal(const char *text);                    /* borrowed */
bool jinja_string_is(struct jinja_string string, const char *text);
bool jinja_string_equal(struct jinja_string a, struct jinja_string b);
int jinja_string_order(struct jinja_string a, struct jinja_string b);   /* by bytes: negative, 0 or positive */

struct jinja_value jinja_bool(bool truth);
struct jinja_value jinja_integer(int64_t integer);
struct jinja_value jinja_real(double real);
struct jinja_value jinja_text(struct jinja_string string);
struct jinja_value jinja_none(void);
struct jinja_value jinja_undefined(void);
bool jinja_missing(struct jinja *run, enum jinja_kind owner, struct jinja_value key,
                   struct jinja_value *out);
/* The sentence for using an undefined value. False. */
bool jinja_fail_undefined(struct jinja *run, const struct jinja_value *value);
bool jinja_is_number(const struct jinja_value *value);                  /* bool, integer, float */
bool jinja_is_whole(const struct jinja_value *value);                   /* bool, integer */
bool jinja_is_sequence(const struct jinja_value *value);                /* list, tuple */
int64_t jinja_whole(const struct jinja_value *value);
double jinja_number(const struct jinja_value *value);
const char *jinja_kind_name(const struct jinja_value *value);           /* "str", "int", ... */

bool jinja_list_new(struct jinja *run, enum jinja_kind kind, size_t capacity, struct jinja_value *out);
bool jinja_list_push(struct jinja *run, struct jinja_list *list, struct jinja_value value);
bool jinja_dict_new(struct jinja *run, enum jinja_kind kind, struct jinja_value *out);
bool jinja_dict_set(struct jinja *run, struct jinja_dict *dict, struct jinja_value key,
                    struct jinja_value value);
/* *found is NULL where there is no such key. */
bool jinja_dict_find(struct jinja *run, const struct jinja_dict *dict, const struct jinja_value *key,
                     struct jinja_value **found);

bool jinja_truth(const struct jinja_value *value);
bool jinja_equal(struct jinja *run, const struct jinja_value *a, const struct jinja_value *b, bool *equal);
/* *order is negative, 0 or positive; values that have no order are a failure. */
bool jinja_compare(struct jinja *run, const struct jinja_value *a, const struct jinja_value *b,
                   const char *operation, int *order);
bool jinja_contains(struct jinja *run, const struct jinja_value *container, const struct jinja_value *item,
                    bool *contained);
bool jinja_length(struct jinja *run, const struct jinja_value *value, size_t *length);
/* The items as a list, which may be the value's own. Of dicts the keys, of strings the characters. */
bool jinja_items(struct jinja *run, const struct jinja_value *value, struct jinja_list **items);
bool jinja_dict_items(struct jinja *run, const struct jinja_dict *dict, struct jinja_value *out);

/* value.name and value[key]; undefined where there is none. */
bool jinja_attribute(struct jinja *run, const struct jinja_value *value, struct jinja_string name,
                     struct jinja_value *out);
bool jinja_subscript(struct jinja *run, const struct jinja_value *value, const struct jinja_value *key,
                     struct jinja_value *out);
/* value[start:stop:step]; each may be ABSENT or NONE. */
bool jinja_slice(struct jinja *run, const struct jinja_value *value, const struct jinja_value bounds[3],
                 struct jinja_value *out);

/* Printing appends to run->output. What is printed after jinja_mark() can be
 * taken back as a string. */
bool jinja_put_bytes(struct jinja *run, const char *bytes, size_t size);
bool jinja_put_string(struct jinja *run, struct jinja_string string);
bool jinja_put(struct jinja *run, const struct jinja_value *value);           /* as print() shows it */
bool jinja_put_repr(struct jinja *run, const struct jinja_value *value);      /* strings in quotes */
size_t jinja_mark(const struct jinja *run);
bool jinja_capture(struct jinja *run, size_t mark, struct jinja_value *out);
/* The value as a string: itself, or as jinja_put() prints it. */
bool jinja_to_string(struct jinja *run, const struct jinja_value *value, struct jinja_string *out);

struct jinja_json {
    bool ascii, sort_keys;
    struct jinja_string indent;     /* of one level; bytes NULL: all in one line */
    struct jinja_string comma, colon;
};
bool jinja_put_json(struct jinja *run, const struct jinja_value *value, const struct jinja_json *style);

/* White space as Python has it. The size of it at the start, and what is left
 * of `size` bytes without it at the end. */
bool jinja_is_space(uint32_t codepoint);
size_t jinja_space_prefix(const char *bytes, size_t size);
size_t jinja_without_space(const char *bytes, size_t size);
/* The number of characters, and the offset of character `index` (size where there are fewer). */
size_t jinja_count(struct jinja_string string);
size_t jinja_offset(struct jinja_string string, size_t index);

#endif
