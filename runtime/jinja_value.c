/* jinja_value: making values, and asking what they are. */
#include "runtime/jinja_value.h"

#include "runtime/jinja.h"
#include "runtime/unicode.h"

#include <string.h>

struct jinja_string jinja_literal(const char *text) {
    return (struct jinja_string){ text, strlen(text) };
}

bool jinja_string_equal(struct jinja_string a, struct jinja_string b) {
    return a.size == b.size && (!a.size || a.bytes == b.bytes || !memcmp(a.bytes, b.bytes, a.size));
}

bool jinja_string_is(struct jinja_string string, const char *text) {
    return jinja_string_equal(string, jinja_literal(text));
}

struct jinja_value jinja_bool(bool truth) {
    return (struct jinja_value){ .kind = JINJA_BOOL, .truth = truth };
}

struct jinja_value jinja_integer(int64_t integer) {
    return (struct jinja_value){ .kind = JINJA_INTEGER, .integer = integer };
}

struct jinja_value jinja_real(double real) {
    return (struct jinja_value){ .kind = JINJA_FLOAT, .real = real };
}

struct jinja_value jinja_text(struct jinja_string string) {
    return (struct jinja_value){ .kind = JINJA_STRING, .string = string };
}

struct jinja_value jinja_none(void) {
    return (struct jinja_value){ .kind = JINJA_NONE };
}

struct jinja_value jinja_undefined(void) {
    return (struct jinja_value){ .kind = JINJA_UNDEFINED };
}

bool jinja_missing(struct jinja *run, enum jinja_kind owner, struct jinja_value key, struct jinja_value *out) {
    struct jinja_missing *missing = jinja_alloc(run, sizeof *missing);
    if (!missing)
        return false;
    *missing = (struct jinja_missing){ owner, key };
    *out = (struct jinja_value){ .kind = JINJA_UNDEFINED, .missing = missing };
    return true;
}

bool jinja_fail_undefined(struct jinja *run, const struct jinja_value *value) {
    const struct jinja_missing *missing = value->missing;
    if (!missing)
        return jinja_fail(run, "a value is undefined");
    const struct jinja_value *key = &missing->key;
    if (missing->owner == JINJA_ABSENT)
        return jinja_fail(run, "'%.*s' is undefined", JINJA_SHOWN(key->string));
    struct jinja_value owner = { .kind = missing->owner };
    const char *kind = jinja_kind_name(&owner);
    if (key->kind == JINJA_STRING)
        return jinja_fail(run, "'%s%s' has no attribute '%.*s'", owner.kind == JINJA_NONE ? "None" : kind,
                          owner.kind == JINJA_NONE ? "" : " object", JINJA_SHOWN(key->string));
    if (jinja_is_whole(key))
        return jinja_fail(run, "%s object has no element %lld", kind, (long long)jinja_whole(key));
    return jinja_fail(run, "%s object has no element of that key", kind);
}

bool jinja_is_whole(const struct jinja_value *value) {
    return value->kind == JINJA_BOOL || value->kind == JINJA_INTEGER;
}

bool jinja_is_number(const struct jinja_value *value) {
    return jinja_is_whole(value) || value->kind == JINJA_FLOAT;
}

bool jinja_is_sequence(const struct jinja_value *value) {
    return value->kind == JINJA_LIST || value->kind == JINJA_TUPLE;
}

int64_t jinja_whole(const struct jinja_value *value) {
    return value->kind == JINJA_BOOL ? value->truth : value->integer;
}

double jinja_number(const struct jinja_value *value) {
    return value->kind == JINJA_FLOAT ? value->real : (double)jinja_whole(value);
}

const char *jinja_kind_name(const struct jinja_value *value) {
    static const char *const names[] = {
        [JINJA_ABSENT] = "nothing", [JINJA_UNDEFINED] = "Undefined", [JINJA_NONE] = "NoneType",
        [JINJA_BOOL] = "bool", [JINJA_INTEGER] = "int", [JINJA_FLOAT] = "float", [JINJA_STRING] = "str",
        [JINJA_LIST] = "list", [JINJA_TUPLE] = "tuple", [JINJA_DICT] = "dict", [JINJA_NAMESPACE] = "namespace",
        [JINJA_LOOP] = "loop", [JINJA_MACRO] = "macro", [JINJA_FUNCTION] = "function", [JINJA_METHOD] = "method",
    };
    return names[value->kind];
}

bool jinja_list_new(struct jinja *run, enum jinja_kind kind, size_t capacity, struct jinja_value *out) {
    struct jinja_list *list = jinja_alloc(run, sizeof *list);
    if (!list)
        return false;
    if (capacity && !(list->items = jinja_alloc_array(run, capacity, sizeof *list->items)))
        return false;
    list->capacity = capacity;
    *out = (struct jinja_value){ .kind = kind, .list = list };
    return true;
}

bool jinja_list_push(struct jinja *run, struct jinja_list *list, struct jinja_value value) {
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 4;
        struct jinja_value *items = jinja_alloc_array(run, capacity, sizeof *items);
        if (!items)
            return false;
        if (list->count)
            memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = value;
    return jinja_spend(run, 1);
}

bool jinja_dict_new(struct jinja *run, enum jinja_kind kind, struct jinja_value *out) {
    struct jinja_dict *dict = jinja_alloc(run, sizeof *dict);
    *out = (struct jinja_value){ .kind = kind, .dict = dict };
    return dict != NULL;
}

bool jinja_dict_find(struct jinja *run, const struct jinja_dict *dict, const struct jinja_value *key,
                     struct jinja_value **found) {
    *found = NULL;
    if (!jinja_spend(run, 1 + dict->count / 8))
        return false;
    for (size_t i = 0; i < dict->count; i++) {
        const struct jinja_value *candidate = &dict->entries[i].key;
        bool equal = false;
        if (key->kind == JINJA_STRING && candidate->kind == JINJA_STRING)
            equal = jinja_string_equal(key->string, candidate->string);
        else if (!jinja_equal(run, key, candidate, &equal))
            return false;
        if (equal) {
            *found = &dict->entries[i].value;
            return true;
        }
    }
    return true;
}

bool jinja_dict_set(struct jinja *run, struct jinja_dict *dict, struct jinja_value key, struct jinja_value value) {
    if (key.kind == JINJA_LIST || key.kind == JINJA_DICT)
        return jinja_fail(run, "unhashable type: '%s'", jinja_kind_name(&key));
    struct jinja_value *found;
    if (!jinja_dict_find(run, dict, &key, &found))
        return false;
    if (found) {
        *found = value;
        return true;
    }
    if (dict->count == dict->capacity) {
        size_t capacity = dict->capacity ? dict->capacity * 2 : 4;
        struct jinja_entry *entries = jinja_alloc_array(run, capacity, sizeof *entries);
        if (!entries)
            return false;
        if (dict->count)
            memcpy(entries, dict->entries, dict->count * sizeof *entries);
        dict->entries = entries;
        dict->capacity = capacity;
    }
    dict->entries[dict->count++] = (struct jinja_entry){ key, value };
    return true;
}

bool jinja_truth(const struct jinja_value *value) {
    switch (value->kind) {
    case JINJA_ABSENT: case JINJA_UNDEFINED: case JINJA_NONE: return false;
    case JINJA_BOOL: return value->truth;
    case JINJA_INTEGER: return value->integer != 0;
    case JINJA_FLOAT: return value->real != 0;
    case JINJA_STRING: return value->string.size > 0;
    case JINJA_LIST: case JINJA_TUPLE: return value->list->count > 0;
    case JINJA_DICT: return value->dict->count > 0;
    default: return true;
    }
}

static bool equal_lists(struct jinja *run, const struct jinja_list *a, const struct jinja_list *b, bool *equal) {
    *equal = a->count == b->count;
    for (size_t i = 0; *equal && i < a->count; i++)
        if (!jinja_equal(run, &a->items[i], &b->items[i], equal))
            return false;
    return true;
}

static bool equal_dicts(struct jinja *run, const struct jinja_dict *a, const struct jinja_dict *b, bool *equal) {
    *equal = a->count == b->count;
    for (size_t i = 0; *equal && i < a->count; i++) {
        struct jinja_value *other;
        if (!jinja_dict_find(run, b, &a->entries[i].key, &other))
            return false;
        *equal = other != NULL;
        if (other && !jinja_equal(run, &a->entries[i].value, other, equal))
            return false;
    }
    return true;
}

static bool equal_containers(struct jinja *run, const struct jinja_value *a, const struct jinja_value *b,
                             bool *equal) {
    bool good = jinja_enter(run);
    if (good && a->kind == JINJA_DICT)
        good = equal_dicts(run, a->dict, b->dict, equal);
    else if (good)
        good = equal_lists(run, a->list, b->list, equal);
    jinja_leave(run);
    return good;
}

bool jinja_equal(struct jinja *run, const struct jinja_value *a, const struct jinja_value *b, bool *equal) {
    *equal = false;
    if (!jinja_spend(run, 1))
        return false;
    if (jinja_is_number(a) && jinja_is_number(b)) {
        if (jinja_is_whole(a) && jinja_is_whole(b))
            *equal = jinja_whole(a) == jinja_whole(b);
        else
            *equal = jinja_number(a) == jinja_number(b);
        return true;
    }
    if (a->kind != b->kind)
        return true;
    switch (a->kind) {
    case JINJA_ABSENT: case JINJA_UNDEFINED: case JINJA_NONE:
        *equal = true;
        return true;
    case JINJA_STRING:
        *equal = jinja_string_equal(a->string, b->string);
        return jinja_spend(run, a->string.size / 64);
    case JINJA_LIST: case JINJA_TUPLE: case JINJA_DICT:
        return equal_containers(run, a, b, equal);
    default:
        *equal = a->dict == b->dict;      /* the same one; all of these hold one pointer */
        return true;
    }
}

int jinja_string_order(struct jinja_string a, struct jinja_string b) {
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common ? memcmp(a.bytes, b.bytes, common) : 0;
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

static bool order_lists(struct jinja *run, const struct jinja_list *a, const struct jinja_list *b,
                        const char *operation, int *order) {
    for (size_t i = 0; i < a->count && i < b->count; i++) {
        bool equal;
        if (!jinja_equal(run, &a->items[i], &b->items[i], &equal))
            return false;
        if (!equal)
            return jinja_compare(run, &a->items[i], &b->items[i], operation, order);
    }
    *order = (a->count > b->count) - (a->count < b->count);
    return true;
}

bool jinja_compare(struct jinja *run, const struct jinja_value *a, const struct jinja_value *b,
                   const char *operation, int *order) {
    if (jinja_is_whole(a) && jinja_is_whole(b)) {
        *order = (jinja_whole(a) > jinja_whole(b)) - (jinja_whole(a) < jinja_whole(b));
        return jinja_spend(run, 1);
    }
    if (jinja_is_number(a) && jinja_is_number(b)) {
        *order = (jinja_number(a) > jinja_number(b)) - (jinja_number(a) < jinja_number(b));
        return jinja_spend(run, 1);
    }
    if (a->kind == JINJA_STRING && b->kind == JINJA_STRING) {
        *order = jinja_string_order(a->string, b->string);
        return jinja_spend(run, 1 + (a->string.size < b->string.size ? a->string.size : b->string.size) / 64);
    }
    if (jinja_is_sequence(a) && a->kind == b->kind) {
        bool good = jinja_enter(run) && order_lists(run, a->list, b->list, operation, order);
        jinja_leave(run);
        return good;
    }
    if (a->kind == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, a);
    if (b->kind == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, b);
    return jinja_fail(run, "'%s' not supported between instances of '%s' and '%s'", operation, jinja_kind_name(a),
                      jinja_kind_name(b));
}

bool jinja_is_space(uint32_t codepoint) {
    if (codepoint < 0x80)
        return codepoint == ' ' || (codepoint >= '\t' && codepoint <= '\r') || (codepoint >= 0x1c && codepoint <= 0x1f);
    return unicode_is_space(codepoint);
}

size_t jinja_space_prefix(const char *bytes, size_t size) {
    size_t position = 0;
    while (position < size) {
        struct utf8_unit unit = utf8_next(bytes + position, size - position);
        if (!jinja_is_space(unit.codepoint))
            break;
        position += unit.length;
    }
    return position;
}

size_t jinja_without_space(const char *bytes, size_t size) {
    while (size > 0) {
        size_t start = utf8_last(bytes, size);
        if (!jinja_is_space(utf8_next(bytes + start, size - start).codepoint))
            break;
        size = start;
    }
    return size;
}

size_t jinja_count(struct jinja_string string) {
    size_t count = 0;
    for (size_t i = 0; i < string.size; i++)
        count += ((unsigned char)string.bytes[i] & 0xc0) != 0x80;
    return count;
}

size_t jinja_offset(struct jinja_string string, size_t index) {
    for (size_t i = 0; i < string.size; i++)
        if (((unsigned char)string.bytes[i] & 0xc0) != 0x80 && index-- == 0)
            return i;
    return string.size;
}
