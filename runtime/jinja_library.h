/* jinja_library: what a template can call: functions, filters, tests, methods. */
#ifndef RUNTIME_JINJA_LIBRARY_H
#define RUNTIME_JINJA_LIBRARY_H

#include "runtime/jinja_value.h"

enum { JINJA_PARAMETERS = 6 };    /* the most that a builtin names */

/* Evaluated arguments, in the order of the call. */
struct jinja_arguments {
    struct jinja_list positional;
    struct jinja_dict named;          /* keys are strings */
};

/* One call of a builtin: what it belongs to (of functions ABSENT), the arguments
 * by the order of its parameters (ABSENT where not given), and all of them. */
struct jinja_call {
    const struct jinja_value *self;
    const struct jinja_value *given;
    const struct jinja_arguments *all;
};

struct jinja_builtin {
    const char *name;
    /* Names of the parameters, separated by spaces. Those after '/' may be left
     * out. "*": the builtin looks at call->all itself. */
    const char *parameters;
    bool (*run)(struct jinja *run, const struct jinja_call *call, struct jinja_value *out);
};

/* NULL where there is none. Tables end with an entry without a name. */
const struct jinja_builtin *jinja_find_filter(struct jinja_string name);
const struct jinja_builtin *jinja_find_test(struct jinja_string name);
const struct jinja_builtin *jinja_find_method(enum jinja_kind kind, struct jinja_string name);

/* Put the arguments in the order of the parameters and run. */
bool jinja_run_builtin(struct jinja *run, const struct jinja_builtin *builtin, const struct jinja_value *self,
                       const struct jinja_arguments *arguments, struct jinja_value *out);

/* An argument of a kind; what may be left out has a default for ABSENT. */
bool jinja_take_bool(const struct jinja_value *value, bool otherwise);
bool jinja_take_whole(struct jinja *run, const struct jinja_value *value, int64_t otherwise, int64_t *out);
bool jinja_take_string(struct jinja *run, const struct jinja_value *value, const char *what,
                       struct jinja_string *out);

/* item.a.b.0: an attribute path as map(), sort() and others take it. An ABSENT or
 * NONE path is the item itself. `otherwise` (may be NULL) stands for what is undefined
 * on the way. */
bool jinja_follow(struct jinja *run, const struct jinja_value *item, const struct jinja_value *path,
                  const struct jinja_value *otherwise, struct jinja_value *out);
/* The sum, product, ... of two values: '+', '-', ... as in jinja_syntax.h. */
bool jinja_binary(struct jinja *run, int operation, const struct jinja_value *a, const struct jinja_value *b,
                  struct jinja_value *out);
/* "%s of %d" with its values: one value, or a tuple of them. */
bool jinja_format(struct jinja *run, struct jinja_string format, const struct jinja_value *values,
                  struct jinja_value *out);
/* The bytes of `needle` in `text` from `start`; SIZE_MAX where they are not. */
size_t jinja_find_bytes(struct jinja_string text, size_t start, struct jinja_string needle);
bool jinja_split_lines(struct jinja *run, struct jinja_string text, bool keep_ends, struct jinja_value *out);
bool jinja_replace(struct jinja *run, struct jinja_string text, struct jinja_string old,
                   struct jinja_string fresh, int64_t count, struct jinja_value *out);
enum jinja_side { JINJA_LEFT = 1, JINJA_RIGHT = 2 };
/* Without the characters in `characters` (bytes NULL: white space) at the given sides. */
bool jinja_strip(struct jinja *run, struct jinja_string text, struct jinja_string characters, int sides,
                 struct jinja_string *out);
/* The last place where `needle` is within the first `end` bytes; SIZE_MAX where it is not. */
bool jinja_find_last(struct jinja *run, struct jinja_string text, size_t end, struct jinja_string needle,
                     size_t *found);
enum jinja_case { JINJA_LOWER, JINJA_UPPER, JINJA_CAPITALIZE };
bool jinja_change_case(struct jinja *run, struct jinja_string text, enum jinja_case to, struct jinja_value *out);

/* The tables, each in its own file. */
extern const struct jinja_builtin jinja_text_filters[], jinja_sequence_filters[], jinja_string_methods[],
    jinja_dict_methods[], jinja_list_methods[], jinja_tests[], jinja_functions[], jinja_loop_methods[];

#endif
