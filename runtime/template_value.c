#include "runtime/template_value.h"

#include "runtime/unicode.h"

#include <stdlib.h>
#include <string.h>

static const char *const kind_names[] = {
    "an undefined value", "none", "a truth value", "a number", "a string", "a list", "a message", "a loop",
    "a namespace"
};

bool name_is(const char *name, size_t length, const char *text) {
    return strlen(text) == length && memcmp(name, text, length) == 0;
}

static bool fail(struct error *err, const char *what, const struct value *value) {
    return error_set(err, ERROR_FAILED, "the chat template wants %s of %s", what, kind_names[value->kind]);
}

static bool fail_name(struct error *err, const char *what, const char *name, size_t length) {
    return error_set(err, ERROR_FAILED, "the chat template uses the %s '%.*s', which is not supported", what,
                     length < 40 ? (int)length : 40, name);
}

struct value value_bool(bool flag) {
    return (struct value){ .kind = VALUE_BOOL, .number = flag };
}

struct value value_number(int64_t number) {
    return (struct value){ .kind = VALUE_NUMBER, .number = number };
}

struct value value_string(const char *text, size_t length) {
    return (struct value){ .kind = VALUE_STRING, .length = (int64_t)length, .text = text };
}

bool value_is_true(const struct value *value) {
    switch (value->kind) {
    case VALUE_UNDEFINED: case VALUE_NONE:
        return false;
    case VALUE_BOOL: case VALUE_NUMBER: case VALUE_LIST:
        return value->number != 0;
    case VALUE_STRING:
        return value->length != 0;
    case VALUE_MESSAGE: case VALUE_LOOP: case VALUE_SPACE:
        break;
    }
    return true;
}

static bool is_number(const struct value *value) {
    return value->kind == VALUE_NUMBER || value->kind == VALUE_BOOL;
}

bool value_equals(const struct value *left, const struct value *right) {
    if (is_number(left) && is_number(right))
        return left->number == right->number;
    if (left->kind != right->kind)
        return false;
    switch (left->kind) {
    case VALUE_STRING:
        return left->length == right->length && memcmp(left->text, right->text, (size_t)left->length) == 0;
    case VALUE_LIST:
        for (int64_t i = 0; i < left->number && left->number == right->number; i++)
            if (!value_equals(&left->items[i], &right->items[i]))
                return false;
        return left->number == right->number;
    case VALUE_MESSAGE:
        return strcmp(left->message->role, right->message->role) == 0
            && strcmp(left->message->content, right->message->content) == 0;
    case VALUE_SPACE:
        return left->variables == right->variables;
    default:
        return true;
    }
}

bool value_member(const struct value *value, const char *name, size_t length, struct value *result,
                  struct error *err) {
    *result = (struct value){ .kind = VALUE_UNDEFINED };
    int64_t index = value->number, last = value->length - 1;
    switch (value->kind) {
    case VALUE_MESSAGE:
        if (name_is(name, length, "role"))
            *result = value_string(value->message->role, strlen(value->message->role));
        else if (name_is(name, length, "content"))
            *result = value_string(value->message->content, strlen(value->message->content));
        return true;
    case VALUE_SPACE:
        for (unsigned i = 0; i < value->variables->count; i++) {
            const struct variable *variable = &value->variables->list[i];
            if (variable->length == length && memcmp(variable->name, name, length) == 0)
                *result = variable->value;
        }
        return true;
    case VALUE_LOOP:
        if (name_is(name, length, "index0"))
            *result = value_number(index);
        else if (name_is(name, length, "index"))
            *result = value_number(index + 1);
        else if (name_is(name, length, "revindex0"))
            *result = value_number(last - index);
        else if (name_is(name, length, "revindex"))
            *result = value_number(last - index + 1);
        else if (name_is(name, length, "length"))
            *result = value_number(last + 1);
        else if (name_is(name, length, "first"))
            *result = value_bool(index == 0);
        else if (name_is(name, length, "last"))
            *result = value_bool(index == last);
        else
            return fail_name(err, "loop variable", name, length);
        return true;
    case VALUE_UNDEFINED:
        return error_set(err, ERROR_FAILED, "the chat template wants '%.*s' of an undefined value",
                         length < 40 ? (int)length : 40, name);
    default:
        return true;   /* strings, lists and numbers have no members that templates read */
    }
}

bool value_item(const struct value *value, const struct value *index, struct value *result, struct error *err) {
    if (index->kind == VALUE_STRING)
        return value_member(value, index->text, (size_t)index->length, result, err);
    *result = (struct value){ .kind = VALUE_UNDEFINED };
    if (value->kind != VALUE_LIST || !is_number(index))
        return fail(err, "an item", value);
    int64_t at = index->number < 0 ? index->number + value->number : index->number;
    if (at >= 0 && at < value->number)
        *result = value->items[at];
    return true;
}

static int64_t clamp(int64_t value, int64_t low, int64_t high) {
    return value < low ? low : value > high ? high : value;
}

bool value_slice(const struct value *value, const struct value bounds[3], struct arena *arena,
                 struct value *result, struct error *err) {
    if (value->kind != VALUE_LIST)
        return fail(err, "a slice", value);
    for (int i = 0; i < 3; i++)
        if (bounds[i].kind != VALUE_NUMBER && bounds[i].kind != VALUE_UNDEFINED)
            return fail(err, "a slice by the bounds", &bounds[i]);
    int64_t step = bounds[2].kind == VALUE_NUMBER ? bounds[2].number : 1, count = value->number;
    if (step == 0)
        return error_set(err, ERROR_FAILED, "the chat template slices with step 0");
    step = clamp(step, -count - 1, count + 1);
    /* As Python does it: negative bounds count from the end, then both are held
     * within the list; going backwards the end is before the first item. */
    int64_t low = step > 0 ? 0 : -1, high = step > 0 ? count : count - 1;
    int64_t ends[2] = { step > 0 ? low : high, step > 0 ? high : low };
    for (int i = 0; i < 2; i++)
        if (bounds[i].kind == VALUE_NUMBER)
            ends[i] = clamp(bounds[i].number < 0 ? bounds[i].number + count : bounds[i].number, low, high);
    struct value *items = arena_take(arena, (size_t)count * sizeof *items, err);
    if (!items)
        return false;
    int64_t taken = 0;
    for (int64_t i = ends[0]; step > 0 ? i < ends[1] : i > ends[1]; i += step)
        items[taken++] = value->items[i];
    *result = (struct value){ .kind = VALUE_LIST, .number = taken, .items = items };
    return true;
}

bool value_contains(const struct value *container, const struct value *item, bool *result, struct error *err) {
    *result = false;
    if (container->kind == VALUE_STRING && item->kind == VALUE_STRING) {
        *result = strstr(container->text, item->text) != NULL;
        return true;
    }
    if (container->kind == VALUE_MESSAGE && item->kind == VALUE_STRING) {
        *result = strcmp(item->text, "role") == 0 || strcmp(item->text, "content") == 0;
        return true;
    }
    if (container->kind != VALUE_LIST)
        return fail(err, "what is in", container);
    for (int64_t i = 0; i < container->number; i++)
        *result |= value_equals(&container->items[i], item);
    return true;
}

bool value_add(const struct value *left, const struct value *right, struct arena *arena, struct value *result,
               struct error *err) {
    if (is_number(left) && is_number(right)) {
        if (__builtin_add_overflow(left->number, right->number, &result->number))
            return error_set(err, ERROR_FAILED, "the chat template counts too far");
        *result = value_number(result->number);
        return true;
    }
    if (left->kind == VALUE_STRING && right->kind == VALUE_STRING) {
        size_t first = (size_t)left->length, second = (size_t)right->length;
        char *text = arena_take(arena, first + second + 1, err);
        if (!text)
            return false;
        memcpy(text, left->text, first);
        memcpy(text + first, right->text, second + 1);
        *result = value_string(text, first + second);
        return true;
    }
    if (left->kind == VALUE_LIST && right->kind == VALUE_LIST) {
        size_t first = (size_t)left->number, second = (size_t)right->number;
        struct value *items = arena_take(arena, (first + second) * sizeof *items, err);
        if (!items)
            return false;
        for (size_t i = 0; i < first + second; i++)
            items[i] = i < first ? left->items[i] : right->items[i - first];
        *result = (struct value){ .kind = VALUE_LIST, .number = (int64_t)(first + second), .items = items };
        return true;
    }
    return fail(err, "a sum", left->kind == VALUE_STRING || is_number(left) ? right : left);
}

bool value_print(const struct value *value, struct text *out, struct error *err) {
    switch (value->kind) {
    case VALUE_UNDEFINED:
        return true;
    case VALUE_NONE:
        text_append(out, "None");
        return true;
    case VALUE_BOOL:
        text_append(out, value->number ? "True" : "False");
        return true;
    case VALUE_NUMBER:
        text_append_format(out, "%lld", (long long)value->number);
        return true;
    case VALUE_STRING:
        text_append_bytes(out, value->text, (size_t)value->length);
        return true;
    default:
        return fail(err, "the text", value);
    }
}

/* What Python's strip() takes away: more than White_Space. */
static bool is_python_space(uint32_t codepoint) {
    return unicode_is_space(codepoint) || (codepoint >= 0x1c && codepoint <= 0x1f);
}

static bool strips(const struct value *characters, const char *at, unsigned length, uint32_t codepoint) {
    if (!characters || characters->kind != VALUE_STRING)
        return is_python_space(codepoint);
    for (int64_t i = 0; i + length <= characters->length; i++)
        if (memcmp(characters->text + i, at, length) == 0)
            return true;
    return false;
}

static bool strip(const struct value *value, const struct value *characters, bool left, bool right,
                  struct arena *arena, struct value *result, struct error *err) {
    const char *start = value->text, *end = value->text + value->length;
    while (left && start < end) {
        struct utf8_unit unit = utf8_next(start, (size_t)(end - start));
        if (!strips(characters, start, unit.length, unit.codepoint))
            break;
        start += unit.length;
    }
    while (right && end > start) {
        const char *at = end;
        do
            at--;
        while (at > start && ((unsigned char)*at & 0xc0) == 0x80);
        if (!strips(characters, at, (unsigned)(end - at), utf8_next(at, (size_t)(end - at)).codepoint))
            break;
        end = at;
    }
    char *text = arena_take(arena, (size_t)(end - start) + 1, err);
    if (!text)
        return false;
    memcpy(text, start, (size_t)(end - start));
    text[end - start] = '\0';
    *result = value_string(text, (size_t)(end - start));
    return true;
}

static bool split(const struct value *value, const struct value *separator, struct arena *arena,
                  struct value *result, struct error *err) {
    size_t step = (size_t)separator->length, count = 1, i = 0;
    for (const char *at = value->text; (at = strstr(at, separator->text)); at += step)
        count++;
    struct value *items = arena_take(arena, count * sizeof *items, err);
    if (!items)
        return false;
    for (const char *at = value->text; at; i++) {
        const char *hit = strstr(at, separator->text);
        size_t length = hit ? (size_t)(hit - at) : strlen(at);
        char *part = arena_take(arena, length + 1, err);
        if (!part)
            return false;
        memcpy(part, at, length);
        part[length] = '\0';
        items[i] = value_string(part, length);
        at = hit ? hit + step : NULL;
    }
    *result = (struct value){ .kind = VALUE_LIST, .number = (int64_t)count, .items = items };
    return true;
}

static bool replace(const struct value *value, const struct value *from, const struct value *to,
                    struct arena *arena, struct value *result, struct error *err) {
    struct value parts, joined = value_string("", 0);
    if (!split(value, from, arena, &parts, err))
        return false;
    for (int64_t i = 0; i < parts.number; i++)
        if ((i && !value_add(&joined, to, arena, &joined, err))
            || !value_add(&joined, &parts.items[i], arena, &joined, err))
            return false;
    *result = joined;
    return true;
}

bool value_method(const struct value *value, const char *name, size_t length, const struct value *arguments,
                  unsigned count, struct arena *arena, struct value *result, struct error *err) {
    const struct value *first = count ? &arguments[0] : NULL;
    bool has_text = first && first->kind == VALUE_STRING;
    if (value->kind == VALUE_MESSAGE && name_is(name, length, "get") && has_text) {
        if (!value_member(value, first->text, (size_t)first->length, result, err))
            return false;
        if (result->kind == VALUE_UNDEFINED)
            *result = count > 1 ? arguments[1] : (struct value){ .kind = VALUE_NONE };
        return true;
    }
    if (value->kind != VALUE_STRING)
        return fail(err, "a method", value);
    bool left = name_is(name, length, "lstrip"), right = name_is(name, length, "rstrip");
    if (left || right || name_is(name, length, "strip"))
        return strip(value, first, !right, !left, arena, result, err);
    if (name_is(name, length, "startswith") && has_text) {
        *result = value_bool(first->length <= value->length
                             && memcmp(value->text, first->text, (size_t)first->length) == 0);
        return true;
    }
    if (name_is(name, length, "endswith") && has_text) {
        *result = value_bool(first->length <= value->length
                             && memcmp(value->text + value->length - first->length, first->text,
                                       (size_t)first->length) == 0);
        return true;
    }
    if (name_is(name, length, "split") && has_text && first->length && count == 1)
        return split(value, first, arena, result, err);
    if (name_is(name, length, "replace") && has_text && first->length && count == 2
        && arguments[1].kind == VALUE_STRING)
        return replace(value, first, &arguments[1], arena, result, err);
    return fail_name(err, "method", name, length);
}

/* Keep the items whose member `arguments[0]` equals arguments[2]. */
static bool select_items(const struct value *value, const struct value *arguments, bool keep_equal,
                         struct arena *arena, struct value *result, struct error *err) {
    struct value *items = arena_take(arena, (size_t)value->number * sizeof *items, err);
    if (!items)
        return false;
    int64_t kept = 0;
    for (int64_t i = 0; i < value->number; i++) {
        struct value member;
        if (!value_item(&value->items[i], &arguments[0], &member, err))
            return false;
        if (value_equals(&member, &arguments[2]) == keep_equal)
            items[kept++] = value->items[i];
    }
    *result = (struct value){ .kind = VALUE_LIST, .number = kept, .items = items };
    return true;
}

static int64_t count_characters(const struct value *value) {
    int64_t count = 0;
    for (int64_t i = 0; i < value->length; i++)
        count += ((unsigned char)value->text[i] & 0xc0) != 0x80;
    return count;
}

bool value_filter(const struct value *value, const char *name, size_t length, const struct value *arguments,
                  unsigned count, struct arena *arena, struct value *result, struct error *err) {
    bool is_text = value->kind == VALUE_STRING, is_list = value->kind == VALUE_LIST;
    *result = *value;
    if (name_is(name, length, "safe") || (name_is(name, length, "string") && is_text)
        || (name_is(name, length, "list") && is_list))
        return true;
    if (name_is(name, length, "trim") && is_text && !count)
        return strip(value, NULL, true, true, arena, result, err);
    if ((name_is(name, length, "length") || name_is(name, length, "count")) && (is_text || is_list)) {
        *result = value_number(is_text ? count_characters(value) : value->number);
        return true;
    }
    if ((name_is(name, length, "default") || name_is(name, length, "d")) && count == 1) {
        if (value->kind == VALUE_UNDEFINED)
            *result = arguments[0];
        return true;
    }
    if (is_list && (name_is(name, length, "first") || name_is(name, length, "last"))) {
        *result = value->number ? value->items[name[0] == 'f' ? 0 : value->number - 1]
            : (struct value){ .kind = VALUE_UNDEFINED };
        return true;
    }
    bool select = name_is(name, length, "selectattr");
    if (is_list && (select || name_is(name, length, "rejectattr")) && count == 3
        && arguments[0].kind == VALUE_STRING && arguments[1].kind == VALUE_STRING
        && (strcmp(arguments[1].text, "equalto") == 0 || strcmp(arguments[1].text, "==") == 0))
        return select_items(value, arguments, select, arena, result, err);
    return fail_name(err, "filter", name, length);
}

bool value_test(const struct value *value, const char *name, size_t length, bool *result, struct error *err) {
    enum value_kind kind = value->kind;
    if (name_is(name, length, "defined"))
        *result = kind != VALUE_UNDEFINED;
    else if (name_is(name, length, "undefined"))
        *result = kind == VALUE_UNDEFINED;
    else if (name_is(name, length, "none"))
        *result = kind == VALUE_NONE;
    else if (name_is(name, length, "string"))
        *result = kind == VALUE_STRING;
    else if (name_is(name, length, "number"))
        *result = is_number(value);
    else if (name_is(name, length, "boolean"))
        *result = kind == VALUE_BOOL;
    else if (name_is(name, length, "true") || name_is(name, length, "false"))
        *result = kind == VALUE_BOOL && value->number == (name[0] == 't');
    else if (name_is(name, length, "mapping"))
        *result = kind == VALUE_MESSAGE;
    else if (name_is(name, length, "iterable") || name_is(name, length, "sequence"))
        *result = kind == VALUE_STRING || kind == VALUE_LIST || kind == VALUE_MESSAGE
            || (kind == VALUE_UNDEFINED && name[0] == 'i');
    else
        return fail_name(err, "test", name, length);
    return true;
}
