/* jinja_library: finding what a template calls, and giving it its arguments. */
#include "runtime/jinja_library.h"

#include "runtime/jinja_syntax.h"

#include <string.h>

static const struct jinja_builtin *find_builtin(const struct jinja_builtin *table, struct jinja_string name) {
    for (; table->name; table++)
        if (jinja_string_is(name, table->name))
            return table;
    return NULL;
}

const struct jinja_builtin *jinja_find_filter(struct jinja_string name) {
    const struct jinja_builtin *found = find_builtin(jinja_text_filters, name);
    return found ? found : find_builtin(jinja_sequence_filters, name);
}

const struct jinja_builtin *jinja_find_test(struct jinja_string name) {
    return find_builtin(jinja_tests, name);
}

const struct jinja_builtin *jinja_find_method(enum jinja_kind kind, struct jinja_string name) {
    switch (kind) {
    case JINJA_STRING: return find_builtin(jinja_string_methods, name);
    case JINJA_DICT: return find_builtin(jinja_dict_methods, name);
    case JINJA_LIST: case JINJA_TUPLE: return find_builtin(jinja_list_methods, name);
    case JINJA_LOOP: return find_builtin(jinja_loop_methods, name);
    default: return NULL;
    }
}

/* The parameters' names in a row, and how many of them must be given. */
struct signature {
    struct jinja_string names[JINJA_PARAMETERS];
    size_t count, required;
};

static struct signature read_signature(const char *text) {
    struct signature signature = { .required = SIZE_MAX };
    while (*text && signature.count < JINJA_PARAMETERS) {
        size_t size = strcspn(text, " ");
        if (*text == '/')
            signature.required = signature.count;
        else
            signature.names[signature.count++] = (struct jinja_string){ text, size };
        text += size + (text[size] == ' ');
    }
    if (signature.required > signature.count)
        signature.required = signature.count;
    return signature;
}

static bool bind(struct jinja *run, const struct jinja_builtin *builtin, const struct jinja_arguments *arguments,
                 struct jinja_value given[JINJA_PARAMETERS]) {
    struct signature signature = read_signature(builtin->parameters);
    const struct jinja_list *positional = &arguments->positional;
    if (positional->count > signature.count)
        return jinja_fail(run, "'%s' takes %zu arguments, not %zu", builtin->name, signature.count, positional->count);
    for (size_t i = 0; i < positional->count; i++)
        given[i] = positional->items[i];
    for (size_t i = 0; i < arguments->named.count; i++) {
        const struct jinja_entry *entry = &arguments->named.entries[i];
        size_t index = 0;
        while (index < signature.count && !jinja_string_equal(signature.names[index], entry->key.string))
            index++;
        if (index == signature.count || given[index].kind != JINJA_ABSENT)
            return jinja_fail(run, "'%s' does not take an argument '%.*s' here", builtin->name,
                              JINJA_SHOWN(entry->key.string));
        given[index] = entry->value;
    }
    for (size_t i = 0; i < signature.required; i++)
        if (given[i].kind == JINJA_ABSENT)
            return jinja_fail(run, "'%s' needs an argument '%.*s'", builtin->name, JINJA_SHOWN(signature.names[i]));
    return true;
}

bool jinja_run_builtin(struct jinja *run, const struct jinja_builtin *builtin, const struct jinja_value *self,
                       const struct jinja_arguments *arguments, struct jinja_value *out) {
    struct jinja_value given[JINJA_PARAMETERS] = { { .kind = JINJA_ABSENT } };
    struct jinja_call call = { self, given, arguments };
    bool good = jinja_enter(run) && jinja_spend(run, 1)
        && (!strcmp(builtin->parameters, "*") || bind(run, builtin, arguments, given))
        && builtin->run(run, &call, out);
    jinja_leave(run);
    return good;
}

bool jinja_define_functions(struct jinja *run, struct jinja_scope *scope) {
    for (const struct jinja_builtin *function = jinja_functions; function->name; function++)
        if (!jinja_dict_set(run, &scope->names, jinja_text(jinja_literal(function->name)),
                            (struct jinja_value){ .kind = JINJA_FUNCTION, .function = function }))
            return false;
    return true;
}

bool jinja_take_bool(const struct jinja_value *value, bool otherwise) {
    return value->kind == JINJA_ABSENT ? otherwise : jinja_truth(value);
}

bool jinja_take_whole(struct jinja *run, const struct jinja_value *value, int64_t otherwise, int64_t *out) {
    *out = otherwise;
    if (value->kind == JINJA_ABSENT || value->kind == JINJA_NONE)
        return true;
    if (!jinja_is_whole(value))
        return jinja_fail(run, "'%s' object cannot be interpreted as an integer", jinja_kind_name(value));
    *out = jinja_whole(value);
    return true;
}

bool jinja_take_string(struct jinja *run, const struct jinja_value *value, const char *what, struct jinja_string *out) {
    if (value->kind == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, value);
    if (value->kind != JINJA_STRING)
        return jinja_fail(run, "%s must be a string, not %s", what, jinja_kind_name(value));
    *out = value->string;
    return true;
}

bool jinja_follow(struct jinja *run, const struct jinja_value *item, const struct jinja_value *path,
                  const struct jinja_value *otherwise, struct jinja_value *out) {
    *out = *item;
    if (path->kind == JINJA_ABSENT || path->kind == JINJA_NONE)
        return true;
    struct jinja_value value = *item;
    if (path->kind != JINJA_STRING)
        return jinja_subscript(run, &value, path, out);
    struct jinja_string rest = path->string;
    for (bool more = true; more;) {
        const char *dot = rest.size ? memchr(rest.bytes, '.', rest.size) : NULL;
        struct jinja_string part = { rest.bytes, dot ? (size_t)(dot - rest.bytes) : rest.size };
        struct jinja_value key = jinja_text(part);
        int64_t index = 0;
        bool is_index = part.size > 0 && part.size < 18;
        for (size_t i = 0; is_index && i < part.size; i++) {
            is_index = part.bytes[i] >= '0' && part.bytes[i] <= '9';
            index = index * 10 + (part.bytes[i] - '0');
        }
        if (is_index)
            key = jinja_integer(index);
        if (!jinja_subscript(run, &value, &key, out))
            return false;
        if (out->kind == JINJA_UNDEFINED && otherwise)
            *out = *otherwise;
        value = *out;
        more = dot != NULL;
        if (more)
            rest = (struct jinja_string){ dot + 1, rest.size - part.size - 1 };
    }
    return true;
}
