/* jinja_access: what is inside a value: items, attributes, slices. */
#include "runtime/jinja_library.h"
#include "runtime/jinja_syntax.h"

#include <string.h>

bool jinja_length(struct jinja *run, const struct jinja_value *value, size_t *length) {
    switch (value->kind) {
    case JINJA_UNDEFINED:
        *length = 0;
        return true;
    case JINJA_STRING:
        *length = jinja_count(value->string);
        return jinja_spend(run, value->string.size / 64);
    case JINJA_LIST: case JINJA_TUPLE:
        *length = value->list->count;
        return true;
    case JINJA_DICT:
        *length = value->dict->count;
        return true;
    default:
        return jinja_fail(run, "object of type '%s' has no len()", jinja_kind_name(value));
    }
}

/* Each character as a string of its own. */
static bool characters(struct jinja *run, struct jinja_string text, struct jinja_list *list) {
    for (size_t start = 0; start < text.size;) {
        size_t end = start + 1;
        while (end < text.size && ((unsigned char)text.bytes[end] & 0xc0) == 0x80)
            end++;
        if (!jinja_list_push(run, list, jinja_text((struct jinja_string){ text.bytes + start, end - start })))
            return false;
        start = end;
    }
    return true;
}

bool jinja_items(struct jinja *run, const struct jinja_value *value, struct jinja_list **items) {
    if (jinja_is_sequence(value)) {
        *items = value->list;
        return true;
    }
    struct jinja_value made;
    if (!jinja_list_new(run, JINJA_LIST, 0, &made))
        return false;
    *items = made.list;
    if (value->kind == JINJA_UNDEFINED)
        return true;
    if (value->kind == JINJA_STRING)
        return characters(run, value->string, made.list);
    if (value->kind != JINJA_DICT)
        return jinja_fail(run, "'%s' object is not iterable", jinja_kind_name(value));
    for (size_t i = 0; i < value->dict->count; i++)
        if (!jinja_list_push(run, made.list, value->dict->entries[i].key))
            return false;
    return true;
}

bool jinja_dict_items(struct jinja *run, const struct jinja_dict *dict, struct jinja_value *out) {
    if (!jinja_list_new(run, JINJA_LIST, dict->count, out))
        return false;
    for (size_t i = 0; i < dict->count; i++) {
        struct jinja_value pair;
        if (!jinja_list_new(run, JINJA_TUPLE, 2, &pair) || !jinja_list_push(run, pair.list, dict->entries[i].key)
            || !jinja_list_push(run, pair.list, dict->entries[i].value) || !jinja_list_push(run, out->list, pair))
            return false;
    }
    return true;
}

bool jinja_contains(struct jinja *run, const struct jinja_value *container, const struct jinja_value *item,
                    bool *contained) {
    *contained = false;
    if (container->kind == JINJA_STRING) {
        if (item->kind != JINJA_STRING)
            return jinja_fail(run, "'in <string>' requires string as left operand, not %s", jinja_kind_name(item));
        *contained = jinja_find_bytes(container->string, 0, item->string) != SIZE_MAX;
        return jinja_spend(run, container->string.size / 8);
    }
    if (container->kind == JINJA_DICT) {
        struct jinja_value *found;
        if (item->kind == JINJA_LIST || item->kind == JINJA_DICT)
            return jinja_fail(run, "unhashable type: '%s'", jinja_kind_name(item));
        if (!jinja_dict_find(run, container->dict, item, &found))
            return false;
        *contained = found != NULL;
        return true;
    }
    struct jinja_list *items;
    if (!jinja_is_sequence(container) && container->kind != JINJA_UNDEFINED)
        return jinja_fail(run, "argument of type '%s' is not iterable", jinja_kind_name(container));
    if (!jinja_items(run, container, &items))
        return false;
    for (size_t i = 0; i < items->count && !*contained; i++)
        if (!jinja_equal(run, &items->items[i], item, contained))
            return false;
    return true;
}

static bool bound_method(struct jinja *run, const struct jinja_value *self, struct jinja_string name, bool *found,
                         struct jinja_value *out) {
    const struct jinja_builtin *function = jinja_find_method(self->kind, name);
    *found = function != NULL;
    if (!function)
        return true;
    struct jinja_method *method = jinja_alloc(run, sizeof *method);
    if (!method)
        return false;
    *method = (struct jinja_method){ function, *self };
    *out = (struct jinja_value){ .kind = JINJA_METHOD, .method = method };
    return true;
}

bool jinja_attribute(struct jinja *run, const struct jinja_value *value, struct jinja_string name,
                     struct jinja_value *out) {
    if (value->kind == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, value);
    bool is_found = false;
    if (value->kind == JINJA_LOOP && !jinja_loop_attribute(run, value->loop, name, &is_found, out))
        return false;
    if (!is_found && !bound_method(run, value, name, &is_found, out))
        return false;
    struct jinja_value key = jinja_text(name);
    if (!is_found && (value->kind == JINJA_DICT || value->kind == JINJA_NAMESPACE)) {
        struct jinja_value *found;
        if (!jinja_dict_find(run, value->dict, &key, &found))
            return false;
        is_found = found != NULL;
        if (found)
            *out = *found;
    }
    return is_found || jinja_missing(run, value->kind, key, out);
}

/* Turn an index that may count from the end into an offset; false where it is outside. */
static bool offset_of(int64_t index, size_t count, size_t *offset) {
    if (index < 0)
        index += (int64_t)count;
    *offset = (size_t)index;
    return index >= 0 && (uint64_t)index < count;
}

static struct jinja_string character_at(struct jinja_string text, size_t index) {
    size_t start = jinja_offset(text, index);
    size_t end = start + (start < text.size);
    while (end < text.size && ((unsigned char)text.bytes[end] & 0xc0) == 0x80)
        end++;
    return (struct jinja_string){ text.bytes + start, end - start };
}

bool jinja_subscript(struct jinja *run, const struct jinja_value *value, const struct jinja_value *key,
                     struct jinja_value *out) {
    if (value->kind == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, value);
    if (value->kind == JINJA_DICT && key->kind != JINJA_LIST && key->kind != JINJA_DICT) {
        struct jinja_value *found;
        if (!jinja_dict_find(run, value->dict, key, &found))
            return false;
        if (found) {
            *out = *found;
            return true;
        }
    }
    if (key->kind == JINJA_STRING)
        return jinja_attribute(run, value, key->string, out);
    size_t offset;
    if (jinja_is_sequence(value) && jinja_is_whole(key) && offset_of(jinja_whole(key), value->list->count, &offset)) {
        *out = value->list->items[offset];
        return true;
    }
    if (value->kind == JINJA_STRING && jinja_is_whole(key)
        && offset_of(jinja_whole(key), jinja_count(value->string), &offset)) {
        *out = jinja_text(character_at(value->string, offset));
        return jinja_spend(run, value->string.size / 64);
    }
    return jinja_missing(run, value->kind, *key, out);
}

/* The first index, the step, and how many indices a slice of `count` items has. */
struct range {
    int64_t start, step;
    size_t count;
};

static bool is_left_out(const struct jinja_value *bound) {
    return bound->kind == JINJA_ABSENT || bound->kind == JINJA_NONE;
}

/* A bound within [low, high]; negative ones count from the end. */
static int64_t clamp(const struct jinja_value *bound, int64_t otherwise, int64_t size, int64_t low, int64_t high) {
    if (is_left_out(bound))
        return otherwise;
    int64_t index = jinja_whole(bound);
    if (index < 0)
        index += size;
    return index < low ? low : index > high ? high : index;
}

static bool resolve(struct jinja *run, const struct jinja_value bounds[3], size_t count, struct range *range) {
    for (int i = 0; i < 3; i++)
        if (!is_left_out(&bounds[i]) && !jinja_is_whole(&bounds[i]))
            return jinja_fail(run, "slice indices must be integers or None");
    int64_t size = (int64_t)count, step = is_left_out(&bounds[2]) ? 1 : jinja_whole(&bounds[2]);
    if (step == 0)
        return jinja_fail(run, "slice step cannot be zero");
    /* Steps beyond the size all mean the same: one item at most. */
    step = step > size + 1 ? size + 1 : step < -size - 1 ? -size - 1 : step;
    bool forward = step > 0;
    int64_t low = forward ? 0 : -1, high = forward ? size : size - 1;
    int64_t start = clamp(&bounds[0], forward ? 0 : size - 1, size, low, high);
    int64_t stop = clamp(&bounds[1], forward ? size : -1, size, low, high);
    int64_t span = forward ? stop - start : start - stop, stride = forward ? step : -step;
    *range = (struct range){ start, step, span > 0 ? (size_t)((span - 1) / stride + 1) : 0 };
    return true;
}

bool jinja_slice(struct jinja *run, const struct jinja_value *value, const struct jinja_value bounds[3],
                 struct jinja_value *out) {
    if (value->kind == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, value);
    struct jinja_list *items = NULL;
    struct range range = { 0 };
    size_t count = 0;
    bool is_string = value->kind == JINJA_STRING;
    if (!is_string && !jinja_is_sequence(value))
        return jinja_missing(run, value->kind, jinja_none(), out);
    if (!jinja_length(run, value, &count) || !resolve(run, bounds, count, &range))
        return false;
    if (is_string && range.step == 1) {
        size_t start = jinja_offset(value->string, (size_t)range.start);
        struct jinja_string rest = { value->string.bytes + start, value->string.size - start };
        *out = jinja_text((struct jinja_string){ rest.bytes, jinja_offset(rest, range.count) });
        return true;
    }
    size_t mark = jinja_mark(run);
    if (!jinja_items(run, value, &items) || (!is_string && !jinja_list_new(run, value->kind, range.count, out)))
        return false;
    for (size_t i = 0; i < range.count; i++) {
        const struct jinja_value *item = &items->items[range.start + (int64_t)i * range.step];
        if (is_string ? !jinja_put_string(run, item->string) : !jinja_list_push(run, out->list, *item))
            return false;
    }
    return !is_string || jinja_capture(run, mark, out);
}
