/* jinja: run a template: its variables, the functions it can call, its output. */
#include "runtime/jinja.h"

#include "runtime/jinja_syntax.h"
#include "runtime/unicode.h"

#include <string.h>
#include <time.h>

enum { RANGE_LIMIT = 100000 };    /* as many as the original's sandbox allows */

#define FUNCTION(name) \
    static bool name(struct jinja *run, const struct jinja_call *call, struct jinja_value *out)

FUNCTION(raise_exception) {
    struct jinja_string words;
    (void)out;
    return jinja_to_string(run, &call->given[0], &words) && jinja_refuse(run, words);
}

FUNCTION(strftime_now) {
    struct jinja_string format;
    char pattern[200], shown[1000];
    time_t now = time(NULL);
    struct tm local;
    if (!jinja_take_string(run, &call->given[0], "the format", &format))
        return false;
    if (format.size >= sizeof pattern || !localtime_r(&now, &local))
        return jinja_fail(run, "cannot tell the time in this format");
    if (format.size)
        memcpy(pattern, format.bytes, format.size);
    pattern[format.size] = '\0';
    size_t size = strftime(shown, sizeof shown, pattern, &local), mark = jinja_mark(run);
    utf8_append_repaired(&run->output, shown, size);
    return jinja_put_bytes(run, "", 0) && jinja_capture(run, mark, out);
}

FUNCTION(range) {
    int64_t first, second, step;
    if (call->given[0].kind == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, &call->given[0]);
    if (!jinja_is_whole(&call->given[0]))
        return jinja_fail(run, "'%s' object cannot be interpreted as an integer", jinja_kind_name(&call->given[0]));
    if (!jinja_take_whole(run, &call->given[0], 0, &first) || !jinja_take_whole(run, &call->given[1], 0, &second)
        || !jinja_take_whole(run, &call->given[2], 1, &step))
        return false;
    if (call->given[1].kind == JINJA_ABSENT) {
        second = first;
        first = 0;
    }
    if (step == 0)
        return jinja_fail(run, "range() arg 3 must not be zero");
    if (!jinja_list_new(run, JINJA_LIST, 0, out))
        return false;
    for (int64_t i = first; step > 0 ? i < second : i > second;) {
        if (out->list->count == RANGE_LIMIT)
            return jinja_fail(run, "a range has more than %d numbers", RANGE_LIMIT);
        if (!jinja_list_push(run, out->list, jinja_integer(i)))
            return false;
        if (__builtin_add_overflow(i, step, &i))
            break;
    }
    return true;
}

/* The keywords as a dict or as a namespace; a mapping may come first. */
static bool collect(struct jinja *run, const struct jinja_call *call, enum jinja_kind kind, struct jinja_value *out) {
    const struct jinja_list *given = &call->all->positional;
    if (!jinja_dict_new(run, kind, out))
        return false;
    if (given->count > 1 || (given->count && given->items[0].kind != JINJA_DICT))
        return jinja_fail(run, "dict() and namespace() take keywords and one mapping");
    const struct jinja_dict *const sources[2] = { given->count ? given->items[0].dict : NULL, &call->all->named };
    for (int s = 0; s < 2; s++)
        for (size_t i = 0; sources[s] && i < sources[s]->count; i++)
            if (!jinja_dict_set(run, out->dict, sources[s]->entries[i].key, sources[s]->entries[i].value))
                return false;
    return true;
}

FUNCTION(dict) {
    return collect(run, call, JINJA_DICT, out);
}

FUNCTION(namespace) {
    return collect(run, call, JINJA_NAMESPACE, out);
}

const struct jinja_builtin jinja_functions[] = {
    { "raise_exception", "message", raise_exception }, { "strftime_now", "format", strftime_now },
    { "range", "start / stop step", range }, { "dict", "*", dict }, { "namespace", "*", namespace }, { 0 },
};

static bool from_json(struct jinja *run, const json_t *json, struct jinja_value *out);

static bool from_container(struct jinja *run, const json_t *json, struct jinja_value *out) {
    if (json_is_array(json)) {
        if (!jinja_list_new(run, JINJA_LIST, json_array_size(json), out))
            return false;
        for (size_t i = 0; i < json_array_size(json); i++) {
            struct jinja_value item;
            if (!from_json(run, json_array_get(json, i), &item) || !jinja_list_push(run, out->list, item))
                return false;
        }
        return true;
    }
    if (!jinja_dict_new(run, JINJA_DICT, out))
        return false;
    struct jinja_dict *dict = out->dict;
    size_t count = json_object_size(json);
    if (!(dict->entries = jinja_alloc_array(run, count, sizeof *dict->entries)))
        return false;
    dict->capacity = count;
    const char *key;
    json_t *member;
    json_object_foreach((json_t *)json, key, member) {
        struct jinja_entry *entry = &dict->entries[dict->count++];
        entry->key = jinja_text(jinja_literal(key));
        if (!from_json(run, member, &entry->value))
            return false;
    }
    return true;
}

/* A value of the template's for a JSON value; strings are borrowed from it. */
static bool from_json(struct jinja *run, const json_t *json, struct jinja_value *out) {
    bool good = jinja_enter(run) && jinja_spend(run, 1);
    switch (json_typeof(json)) {
    case JSON_NULL: *out = jinja_none(); break;
    case JSON_TRUE: case JSON_FALSE: *out = jinja_bool(json_is_true(json)); break;
    case JSON_INTEGER: *out = jinja_integer(json_integer_value(json)); break;
    case JSON_REAL: *out = jinja_real(json_real_value(json)); break;
    case JSON_STRING:
        *out = jinja_text((struct jinja_string){ json_string_value(json), json_string_length(json) });
        break;
    default: good = good && from_container(run, json, out);
    }
    jinja_leave(run);
    return good;
}

static bool define_variables(struct jinja *run, const json_t *variables, struct jinja_scope *scope) {
    const char *name;
    json_t *member;
    json_object_foreach((json_t *)variables, name, member) {
        struct jinja_value value;
        if (!from_json(run, member, &value)
            || !jinja_dict_set(run, &scope->names, jinja_text(jinja_literal(name)), value))
            return false;
    }
    return true;
}

/* The source as valid UTF-8, with \n for each line's end and without the last one. */
static bool clean_source(struct jinja *run, const char *source, size_t size, struct jinja_string *out) {
    struct jinja_value cleaned;
    if (size > JINJA_SOURCE_LIMIT)
        return jinja_fail(run, "it is larger than %d KiB", JINJA_SOURCE_LIMIT >> 10);
    for (size_t start = 0; start <= size;) {
        const char *end = start < size ? memchr(source + start, '\r', size - start) : NULL;
        size_t plain = end ? (size_t)(end - source) : size;
        if (plain > start)
            utf8_append_repaired(&run->output, source + start, plain - start);
        if (!jinja_put_bytes(run, "\n", end != NULL))
            return false;
        start = plain + 1 + (end && plain + 1 < size && source[plain + 1] == '\n');
    }
    if (!jinja_capture(run, 0, &cleaned))
        return false;
    *out = cleaned.string;
    if (out->size && out->bytes[out->size - 1] == '\n')
        out->size--;
    return true;
}

bool jinja_render(const char *source, size_t size, const char *name, const json_t *variables, struct text *out,
                  struct error *err) {
    struct jinja run;
    struct jinja_node *body = NULL;
    struct jinja_string cleaned;
    struct jinja_scope builtins = { 0 }, globals = { .parent = &builtins };
    enum jinja_flow flow = JINJA_GO_ON;
    jinja_init(&run, name, err);
    bool good = clean_source(&run, source, size, &cleaned) && jinja_parse(&run, cleaned, &body)
        && jinja_define_functions(&run, &builtins) && define_variables(&run, variables, &globals)
        && jinja_run_body(&run, body, &globals, &flow);
    if (good) {
        text_append_bytes(out, run.output.bytes, run.output.length);
        if (out->failed)
            good = error_set(err, ERROR_FAILED, "out of memory for the prompt of '%.200s'", name);
    }
    jinja_release(&run);
    return good;
}
