/* jinja_methods: the methods of strings, dicts, lists and loops that change nothing. */
#include "runtime/jinja_library.h"
#include "runtime/jinja_syntax.h"

#include "runtime/unicode.h"

#include <string.h>

#define METHOD(name) \
    static bool name(struct jinja *run, const struct jinja_call *call, struct jinja_value *out)

static bool strip(struct jinja *run, const struct jinja_call *call, int sides, struct jinja_value *out) {
    struct jinja_string characters = { NULL, 0 };
    if (call->given[0].kind != JINJA_ABSENT && call->given[0].kind != JINJA_NONE
        && !jinja_take_string(run, &call->given[0], "strip's argument", &characters))
        return false;
    struct jinja_string text;
    if (!jinja_strip(run, call->self->string, characters, sides, &text))
        return false;
    *out = jinja_text(text);
    return true;
}

METHOD(strip_both) {
    return strip(run, call, JINJA_LEFT | JINJA_RIGHT, out);
}

METHOD(strip_left) {
    return strip(run, call, JINJA_LEFT, out);
}

METHOD(strip_right) {
    return strip(run, call, JINJA_RIGHT, out);
}

static bool push_part(struct jinja *run, struct jinja_value *list, struct jinja_string text, size_t start, size_t end) {
    return jinja_list_push(run, list->list, jinja_text((struct jinja_string){ text.bytes + start, end - start }));
}

/* The words between white space; what follows the last of `limit` splits stays whole. */
static bool split_words(struct jinja *run, struct jinja_string text, int64_t limit, struct jinja_value *out) {
    size_t position = jinja_space_prefix(text.bytes, text.size);
    for (int64_t splits = 0; position < text.size; splits++) {
        size_t end = position;
        if (limit >= 0 && splits == limit)
            return push_part(run, out, text, position, jinja_without_space(text.bytes, text.size));
        while (end < text.size) {
            struct utf8_unit unit = utf8_next(text.bytes + end, text.size - end);
            if (jinja_is_space(unit.codepoint))
                break;
            end += unit.length;
        }
        if (!push_part(run, out, text, position, end))
            return false;
        position = end + jinja_space_prefix(text.bytes + end, text.size - end);
    }
    return true;
}

static bool take_splits(struct jinja *run, const struct jinja_call *call, struct jinja_string *separator,
                        int64_t *limit, struct jinja_value *out) {
    *separator = (struct jinja_string){ NULL, 0 };
    if (call->given[0].kind != JINJA_ABSENT && call->given[0].kind != JINJA_NONE) {
        if (!jinja_take_string(run, &call->given[0], "the separator", separator))
            return false;
        if (!separator->size)
            return jinja_fail(run, "empty separator");
    }
    return jinja_take_whole(run, &call->given[1], -1, limit) && jinja_list_new(run, JINJA_LIST, 0, out)
        && jinja_spend(run, call->self->string.size / 16);
}

METHOD(split) {
    struct jinja_string text = call->self->string, separator;
    int64_t limit;
    if (!take_splits(run, call, &separator, &limit, out))
        return false;
    if (!separator.bytes)
        return split_words(run, text, limit, out);
    size_t position = 0;
    for (int64_t splits = 0; limit < 0 || splits < limit; splits++) {
        size_t found = jinja_find_bytes(text, position, separator);
        if (found == SIZE_MAX)
            break;
        if (!push_part(run, out, text, position, found))
            return false;
        position = found + separator.size;
    }
    return push_part(run, out, text, position, text.size);
}

METHOD(split_right) {
    struct jinja_string text = call->self->string, separator;
    int64_t limit;
    if (!take_splits(run, call, &separator, &limit, out))
        return false;
    if (limit < 0)
        return split(run, call, out);
    if (!separator.bytes)
        return jinja_unsupported(run, "the method", jinja_literal("rsplit of words with a limit"));
    /* From the end, then turned round. */
    size_t end = text.size;
    for (int64_t splits = 0; splits < limit; splits++) {
        size_t found;
        if (!jinja_find_last(run, text, end, separator, &found))
            return false;
        if (found == SIZE_MAX)
            break;
        if (!push_part(run, out, text, found + separator.size, end))
            return false;
        end = found;
    }
    if (!push_part(run, out, text, 0, end))
        return false;
    const struct jinja_value backwards[3] = { { .kind = JINJA_NONE }, { .kind = JINJA_NONE }, jinja_integer(-1) };
    struct jinja_value parts = *out;
    return jinja_slice(run, &parts, backwards, out);
}

METHOD(split_lines) {
    return jinja_split_lines(run, call->self->string, jinja_take_bool(&call->given[0], false), out);
}

/* Before, at and after the first (or last) separator. */
static bool partition(struct jinja *run, const struct jinja_call *call, bool last, struct jinja_value *out) {
    struct jinja_string text = call->self->string, separator;
    if (!jinja_take_string(run, &call->given[0], "the separator", &separator)
        || !jinja_list_new(run, JINJA_TUPLE, 3, out) || !jinja_spend(run, text.size / 8))
        return false;
    if (!separator.size)
        return jinja_fail(run, "empty separator");
    size_t found = jinja_find_bytes(text, 0, separator);
    if (last && !jinja_find_last(run, text, text.size, separator, &found))
        return false;
    if (found == SIZE_MAX)
        return push_part(run, out, text, 0, last ? 0 : text.size) && push_part(run, out, text, 0, 0)
            && push_part(run, out, text, 0, last ? text.size : 0);
    return push_part(run, out, text, 0, found) && push_part(run, out, text, found, found + separator.size)
        && push_part(run, out, text, found + separator.size, text.size);
}

METHOD(partition_first) {
    return partition(run, call, false, out);
}

METHOD(partition_last) {
    return partition(run, call, true, out);
}

static bool fits(struct jinja_string text, struct jinja_string part, bool at_end) {
    return part.size <= text.size
        && (!part.size || !memcmp(text.bytes + (at_end ? text.size - part.size : 0), part.bytes, part.size));
}

/* Whether the text begins (ends) with a string, or with one of a tuple of them. */
static bool affix(struct jinja *run, const struct jinja_call *call, bool at_end, struct jinja_value *out) {
    const struct jinja_value *parts = &call->given[0];
    size_t count = 1;
    if (parts->kind == JINJA_TUPLE) {
        count = parts->list->count;
        parts = parts->list->items;
    }
    bool result = false;
    for (size_t i = 0; i < count && !result; i++) {
        struct jinja_string part;
        if (!jinja_take_string(run, &parts[i], "what a string starts or ends with", &part)
            || !jinja_spend(run, 1 + part.size / 64))
            return false;
        result = fits(call->self->string, part, at_end);
    }
    *out = jinja_bool(result);
    return true;
}

METHOD(starts_with) {
    return affix(run, call, false, out);
}

METHOD(ends_with) {
    return affix(run, call, true, out);
}

static bool remove_affix(struct jinja *run, const struct jinja_call *call, bool at_end, struct jinja_value *out) {
    struct jinja_string text = call->self->string, part;
    if (!jinja_take_string(run, &call->given[0], "what is to be removed", &part))
        return false;
    if (fits(text, part, at_end))
        text = (struct jinja_string){ text.bytes + (at_end ? 0 : part.size), text.size - part.size };
    *out = jinja_text(text);
    return true;
}

METHOD(remove_prefix) {
    return remove_affix(run, call, false, out);
}

METHOD(remove_suffix) {
    return remove_affix(run, call, true, out);
}

METHOD(replace) {
    struct jinja_string old, fresh;
    int64_t count;
    return jinja_take_string(run, &call->given[0], "what is to be replaced", &old)
        && jinja_take_string(run, &call->given[1], "the replacement", &fresh)
        && jinja_take_whole(run, &call->given[2], -1, &count)
        && jinja_replace(run, call->self->string, old, fresh, count, out);
}

static bool find(struct jinja *run, const struct jinja_call *call, bool last, struct jinja_value *out) {
    struct jinja_string text = call->self->string, needle;
    if (!jinja_take_string(run, &call->given[0], "what is looked for", &needle) || !jinja_spend(run, text.size / 8))
        return false;
    size_t found = jinja_find_bytes(text, 0, needle);
    if (last && !jinja_find_last(run, text, text.size, needle, &found))
        return false;
    *out = jinja_integer(found == SIZE_MAX ? -1 : (int64_t)jinja_count((struct jinja_string){ text.bytes, found }));
    return true;
}

METHOD(find_first) {
    return find(run, call, false, out);
}

METHOD(find_right) {
    return find(run, call, true, out);
}

METHOD(find_or_fail) {
    if (!find(run, call, false, out))
        return false;
    return out->integer >= 0 || jinja_fail(run, "substring not found");
}

METHOD(count) {
    struct jinja_string text = call->self->string, needle;
    int64_t number = 0;
    if (!jinja_take_string(run, &call->given[0], "what is counted", &needle) || !jinja_spend(run, text.size / 8))
        return false;
    if (!needle.size)
        return *out = jinja_integer((int64_t)jinja_count(text) + 1), true;
    for (size_t found = 0; (found = jinja_find_bytes(text, found, needle)) != SIZE_MAX; found += needle.size)
        number++;
    *out = jinja_integer(number);
    return true;
}

METHOD(upper) {
    return jinja_change_case(run, call->self->string, JINJA_UPPER, out);
}

METHOD(lower) {
    return jinja_change_case(run, call->self->string, JINJA_LOWER, out);
}

METHOD(capitalize) {
    return jinja_change_case(run, call->self->string, JINJA_CAPITALIZE, out);
}

/* A capital after everything that is no letter. */
METHOD(title) {
    struct jinja_string text = call->self->string;
    size_t mark = jinja_mark(run);
    bool after_letter = false;
    if (!jinja_spend(run, text.size))
        return false;
    for (size_t i = 0; i < text.size;) {
        struct utf8_unit unit = utf8_next(text.bytes + i, text.size - i);
        uint32_t lower_one = unicode_lower(unit.codepoint), upper_one = unicode_upper(unit.codepoint);
        text_append_utf8(&run->output, after_letter ? lower_one : upper_one);
        after_letter = lower_one != upper_one;
        i += unit.length;
    }
    return jinja_put_bytes(run, "", 0) && jinja_capture(run, mark, out);
}

METHOD(join) {
    struct jinja_list *items;
    size_t mark = jinja_mark(run);
    if (!jinja_items(run, &call->given[0], &items))
        return false;
    for (size_t i = 0; i < items->count; i++) {
        if (items->items[i].kind != JINJA_STRING)
            return jinja_fail(run, "sequence item %zu: expected str instance, %s found", i,
                              jinja_kind_name(&items->items[i]));
        if ((i && !jinja_put_string(run, call->self->string)) || !jinja_put_string(run, items->items[i].string)
            || !jinja_spend(run, 1))
            return false;
    }
    return jinja_capture(run, mark, out);
}

/* Whether there are characters and all are in [first, last], a further range or white space. */
static bool all_in(struct jinja *run, const struct jinja_call *call, bool (*is_one)(uint32_t), struct jinja_value *out) {
    struct jinja_string text = call->self->string;
    bool result = text.size > 0;
    for (size_t i = 0; i < text.size && result;) {
        struct utf8_unit unit = utf8_next(text.bytes + i, text.size - i);
        result = is_one(unit.codepoint);
        i += unit.length;
    }
    *out = jinja_bool(result);
    return jinja_spend(run, text.size / 16);
}

static bool is_digit(uint32_t code) {
    return code >= '0' && code <= '9';
}

static bool is_letter(uint32_t code) {
    return code < 0x80 ? (code | 0x20) >= 'a' && (code | 0x20) <= 'z' : unicode_is_word(code);
}

static bool is_letter_or_digit(uint32_t code) {
    return is_digit(code) || is_letter(code);
}

METHOD(all_digits) {
    return all_in(run, call, is_digit, out);
}

METHOD(all_letters) {
    return all_in(run, call, is_letter, out);
}

METHOD(all_alphanumeric) {
    return all_in(run, call, is_letter_or_digit, out);
}

METHOD(all_space) {
    return all_in(run, call, jinja_is_space, out);
}

static bool test_of_case(struct jinja *run, const struct jinja_call *call, const char *name, struct jinja_value *out) {
    const struct jinja_arguments none = { 0 };
    return jinja_run_builtin(run, jinja_find_test(jinja_literal(name)), call->self, &none, out);
}

METHOD(all_upper) {
    return test_of_case(run, call, "upper", out);
}

METHOD(all_lower) {
    return test_of_case(run, call, "lower", out);
}

/* "{} {}".format(a, b): braces with nothing, a number or a name in them. */
METHOD(format) {
    struct jinja_string text = call->self->string;
    size_t mark = jinja_mark(run), next = 0;
    for (size_t i = 0; i < text.size; i++) {
        char c = text.bytes[i];
        bool is_doubled = i + 1 < text.size && text.bytes[i + 1] == c;
        if ((c != '{' && c != '}') || is_doubled) {
            i += c == '{' || c == '}';
            if (!jinja_put_bytes(run, &c, 1))
                return false;
            continue;
        }
        size_t end = jinja_find_bytes(text, i, jinja_literal("}"));
        if (c == '}' || end == SIZE_MAX)
            return jinja_fail(run, "a single '%c' in a format string", c);
        struct jinja_string field = { text.bytes + i + 1, end - i - 1 };
        const struct jinja_value key = jinja_text(field);
        struct jinja_value *found = NULL;
        size_t position = next;
        if (memchr(field.bytes, ':', field.size) || memchr(field.bytes, '!', field.size)
            || memchr(field.bytes, '.', field.size) || memchr(field.bytes, '[', field.size))
            return jinja_unsupported(run, "the format", field);
        if (field.size && is_digit((unsigned char)field.bytes[0]))
            position = field.size == 1 ? (size_t)(field.bytes[0] - '0') : SIZE_MAX;
        else if (field.size && !jinja_dict_find(run, &call->all->named, &key, &found))
            return false;
        else if (!field.size)
            next++;
        if (!found && position < call->all->positional.count
            && (!field.size || is_digit((unsigned char)field.bytes[0])))
            found = &call->all->positional.items[position];
        if (!found)
            return jinja_fail(run, "no argument for '{%.*s}' in a format string", JINJA_SHOWN(field));
        if (!jinja_put(run, found))
            return false;
        i = end;
    }
    return jinja_capture(run, mark, out);
}

METHOD(dict_get) {
    struct jinja_value *found;
    const struct jinja_value *key = &call->given[0];
    if (key->kind == JINJA_LIST || key->kind == JINJA_DICT)
        return jinja_fail(run, "unhashable type: '%s'", jinja_kind_name(key));
    if (!jinja_dict_find(run, call->self->dict, key, &found))
        return false;
    *out = found ? *found : call->given[1].kind == JINJA_ABSENT ? jinja_none() : call->given[1];
    return true;
}

METHOD(dict_items) {
    return jinja_dict_items(run, call->self->dict, out);
}

METHOD(dict_keys) {
    struct jinja_list *items;
    if (!jinja_items(run, call->self, &items))
        return false;
    *out = (struct jinja_value){ .kind = JINJA_LIST, .list = items };
    return true;
}

METHOD(dict_values) {
    const struct jinja_dict *dict = call->self->dict;
    if (!jinja_list_new(run, JINJA_LIST, dict->count, out))
        return false;
    for (size_t i = 0; i < dict->count; i++)
        if (!jinja_list_push(run, out->list, dict->entries[i].value))
            return false;
    return true;
}

METHOD(same) {
    (void)run;
    *out = *call->self;
    return true;
}

METHOD(list_count) {
    int64_t number = 0;
    for (size_t i = 0; i < call->self->list->count; i++) {
        bool equal;
        if (!jinja_equal(run, &call->self->list->items[i], &call->given[0], &equal))
            return false;
        number += equal;
    }
    *out = jinja_integer(number);
    return true;
}

METHOD(list_index) {
    for (size_t i = 0; i < call->self->list->count; i++) {
        bool equal;
        if (!jinja_equal(run, &call->self->list->items[i], &call->given[0], &equal))
            return false;
        if (equal)
            return *out = jinja_integer((int64_t)i), true;
    }
    return jinja_fail(run, "the value is not in the list");
}

METHOD(loop_cycle) {
    const struct jinja_list *values = &call->all->positional;
    if (!values->count)
        return jinja_fail(run, "no items for cycling given");
    *out = values->items[call->self->loop->index % values->count];
    return true;
}

METHOD(loop_changed) {
    struct jinja_loop *loop = call->self->loop;
    const struct jinja_list *given = &call->all->positional;
    struct jinja_value now;
    bool equal = false;
    if (!jinja_list_new(run, JINJA_TUPLE, given->count, &now))
        return false;
    for (size_t i = 0; i < given->count; i++)
        if (!jinja_list_push(run, now.list, given->items[i]))
            return false;
    if (loop->changed.kind == JINJA_TUPLE && !jinja_equal(run, &loop->changed, &now, &equal))
        return false;
    loop->changed = now;
    *out = jinja_bool(!equal);
    return true;
}

const struct jinja_builtin jinja_string_methods[] = {
    { "strip", "/ chars", strip_both }, { "lstrip", "/ chars", strip_left }, { "rstrip", "/ chars", strip_right },
    { "split", "/ sep maxsplit", split }, { "rsplit", "/ sep maxsplit", split_right },
    { "splitlines", "/ keepends", split_lines }, { "partition", "sep", partition_first },
    { "rpartition", "sep", partition_last }, { "startswith", "prefix", starts_with },
    { "endswith", "suffix", ends_with }, { "removeprefix", "prefix", remove_prefix },
    { "removesuffix", "suffix", remove_suffix }, { "replace", "old new / count", replace },
    { "find", "sub", find_first }, { "rfind", "sub", find_right }, { "index", "sub", find_or_fail },
    { "count", "sub", count }, { "upper", "", upper }, { "lower", "", lower }, { "casefold", "", lower },
    { "capitalize", "", capitalize }, { "title", "", title }, { "join", "iterable", join },
    { "isdigit", "", all_digits }, { "isdecimal", "", all_digits }, { "isnumeric", "", all_digits },
    { "isalpha", "", all_letters }, { "isalnum", "", all_alphanumeric }, { "isspace", "", all_space },
    { "isupper", "", all_upper }, { "islower", "", all_lower }, { "format", "*", format }, { 0 },
};

const struct jinja_builtin jinja_dict_methods[] = {
    { "get", "key / default", dict_get }, { "items", "", dict_items }, { "keys", "", dict_keys },
    { "values", "", dict_values }, { "copy", "", same }, { 0 },
};

const struct jinja_builtin jinja_list_methods[] = {
    { "count", "value", list_count }, { "index", "value", list_index }, { "copy", "", same }, { 0 },
};

const struct jinja_builtin jinja_loop_methods[] = {
    { "cycle", "*", loop_cycle }, { "changed", "*", loop_changed }, { 0 },
};
