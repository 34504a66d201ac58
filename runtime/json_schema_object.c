/* Objects and arrays. */
#include "runtime/json_schema_parts.h"

#include "runtime/unicode.h"

#include <stdlib.h>
#include <string.h>

#define MOST_PREFIX_ITEMS 60u
#define MOST_KEY_LENGTH 200u
#define MOST_ITEMS 20000u

/* ---- keys that are not declared ---- */

/* The declared keys, sorted: those with the same beginning lie together. */
struct keys {
    const char **keys;
    size_t count;
};

static int compare_keys(const void *left, const void *right) {
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* The rule for what may follow `depth` bytes that keys [from, to) have in common: anything that
 * makes no declared key. Escapes are left out: one key has one spelling then. */
static bool write_other_keys(struct schema_translator *translator, const struct keys *keys, size_t from, size_t to,
                             size_t depth, uint32_t rule) {
    struct text body;
    text_init(&body);
    struct text taken;      /* the characters that lead on to declared keys */
    text_init(&taken);
    bool may_end = from == to || keys->keys[from][depth] != '\0', ok = schema_step(translator);
    if (depth > MOST_KEY_LENGTH)
        ok = schema_refuse(translator, "the name of a property is too long beside additionalProperties");
    for (size_t i = from + !may_end; ok && i < to;) {
        const char *at = keys->keys[i] + depth;
        struct utf8_unit unit = utf8_next(at, strlen(at));
        size_t last = i + 1;
        while (last < to && strncmp(keys->keys[last] + depth, at, unit.length) == 0)
            last++;
        text_append_format(&taken, "\\U%08X", (unsigned)unit.codepoint);
        if (unit.codepoint < ' ' || unit.codepoint == '"' || unit.codepoint == '\\' || unit.codepoint == 0x7f) {
            i = last;    /* would be an escape */
            continue;
        }
        uint32_t next = schema_new_rule(translator);
        text_append_format(&body, " [\\U%08X] key%u |", (unsigned)unit.codepoint, next);
        ok = write_other_keys(translator, keys, i, last, depth + unit.length, next);
        i = last;
    }
    text_append_format(translator->rules, "key%u ::=%s [^\"\\\\\\x00-\\x1f\\x7f%s] [^\"\\\\\\x00-\\x1f\\x7f]*%s\n", rule,
                       body.bytes, taken.bytes, may_end ? " | \"\"" : "");
    translator->rules->failed |= body.failed || taken.failed;
    text_release(&body);
    text_release(&taken);
    return ok;
}

/* ---- objects ---- */

struct object {
    json_t *properties;      /* owned: those declared, and those only required */
    const json_t *required, *more;
    bool has_more;
    uint32_t rule;
    uint32_t least, most;    /* properties */
};

static bool is_required(const struct object *object, const char *key) {
    const json_t *name;
    size_t i;
    json_array_foreach(object->required, i, name)
        if (strcmp(json_string_value(name), key) == 0)
            return true;
    return false;
}

static bool read_object(struct schema_translator *translator, const json_t *schema, struct object *object) {
    json_t *declared = json_object_get(schema, "properties"), *name;
    size_t i;
    object->required = json_object_get(schema, "required");
    object->more = json_object_get(schema, "additionalProperties");
    object->has_more = object->more ? !json_is_false(object->more) : !declared;
    if (declared && !json_is_object(declared))
        return schema_refuse(translator, "'properties' is no object");
    if (object->required && !json_is_array(object->required))
        return schema_refuse(translator, "'required' is no list of names");
    object->properties = declared ? json_copy(declared) : json_object();
    json_array_foreach((json_t *)object->required, i, name) {
        if (!json_is_string(name) || strlen(json_string_value(name)) != json_string_length(name))
            return schema_refuse(translator, "'required' is no list of names");
        if (json_object_get(object->properties, json_string_value(name)))
            continue;
        if (json_is_false(object->more))
            return schema_refuse(translator, "nothing can match it: '%.60s' is required, but additionalProperties "
                                 "forbids it", json_string_value(name));
        json_object_set_new(object->properties, json_string_value(name),
                            object->more ? json_incref((json_t *)object->more) : json_true());
    }
    if (!schema_spend(translator, json_object_size(object->properties), json_array_size(object->required)))
        return false;
    object->most = UINT32_MAX;
    if (!schema_get_count(translator, schema, "minProperties", &object->least)
        || !schema_get_count(translator, schema, "maxProperties", &object->most))
        return false;
    size_t count = json_object_size(object->properties);
    bool all_required = object->required && count == json_array_size(object->required);
    /* Additional keys may come twice and count once. */
    if (object->least > (object->required ? json_array_size(object->required) : 0)
        && !(object->least == 1 && count == 0 && object->has_more))
        return schema_unsupported(translator, "minProperties");
    if (object->most < count && !(object->most == 0 && !all_required))
        return schema_unsupported(translator, "maxProperties");
    return true;
}

static void write_key(struct text *to, const char *key) {
    json_t *string = json_string(key);
    char *printed = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
    to->failed |= !printed;
    if (printed)
        schema_quote(to, printed, strlen(printed));
    free(printed);
    json_decref(string);
}

/* Rules firstN-i and restN-i: what may come from property i on, with no property before it, or
 * with one. */
static bool write_members(struct schema_translator *translator, struct object *object) {
    struct text *rules = translator->rules;
    uint32_t rule = object->rule, index = 0;
    const char *key;
    json_t *value;
    bool ok = true;
    json_object_foreach(object->properties, key, value) {
        struct text pair;
        text_init(&pair);
        size_t length = schema_enter(translator, "properties", key);
        write_key(&pair, key);
        text_append(&pair, " \":\" ws");
        ok = schema_write(translator, value, &pair);
        if (ok && is_required(object, key))
            text_append_format(rules, "first%u-%u ::=%s rest%u-%u\nrest%u-%u ::= \",\" ws%s rest%u-%u\n", rule, index,
                               pair.bytes, rule, index + 1, rule, index, pair.bytes, rule, index + 1);
        else if (ok)
            text_append_format(rules, "first%u-%u ::=%s rest%u-%u | first%u-%u\nrest%u-%u ::= (\",\" ws%s)? rest%u-%u\n",
                               rule, index, pair.bytes, rule, index + 1, rule, index + 1, rule, index, pair.bytes,
                               rule, index + 1);
        rules->failed |= pair.failed;
        text_release(&pair);
        schema_leave(translator, length);
        if (!ok)
            return false;
        index++;
    }
    return true;
}

/* The end of the list: additional properties, as many as may be. */
static bool write_more(struct schema_translator *translator, struct object *object) {
    struct text *rules = translator->rules, value;
    uint32_t rule = object->rule, index = (uint32_t)json_object_size(object->properties), used = 0;
    if (!object->has_more || object->most <= index) {
        text_append_format(rules, "first%u-%u ::= \"\"\nrest%u-%u ::= ws\n", rule, index, rule, index);
        return true;
    }
    struct keys keys = { .keys = calloc((size_t)index + 1, sizeof *keys.keys) };
    const char *key;
    json_t *ignored;
    if (!keys.keys)
        return error_set(translator->err, ERROR_FAILED, "cannot read %s: out of memory", translator->name);
    json_object_foreach(object->properties, key, ignored)
        keys.keys[used++] = key;
    qsort(keys.keys, used, sizeof *keys.keys, compare_keys);
    text_init(&value);
    uint32_t first = schema_new_rule(translator);
    size_t length = schema_enter(translator, "additionalProperties", NULL);
    bool ok = write_other_keys(translator, &keys, 0, used, 0, first)
              && (object->more ? schema_write(translator, object->more, &value) : (text_append(&value, " value"), true));
    if (ok) {
        char most[24] = "*", later[24] = "*";
        if (object->most != UINT32_MAX) {
            snprintf(most, sizeof most, "{0,%u}", object->most - index < 1000 ? object->most - index : 1000);
            snprintf(later, sizeof later, "{0,%u}", (object->most - index < 1000 ? object->most - index : 1000) - 1);
        }
        text_append_format(rules, "more%u ::= \"\\\"\" key%u \"\\\":\" ws%s\n", rule, first, value.bytes);
        text_append_format(rules, "first%u-%u ::= %smore%u (\",\" ws more%u)%s ws%s\n", rule, index,
                           object->least && !index ? "" : "(", rule, rule, later,
                           object->least && !index ? "" : ")?");
        text_append_format(rules, "rest%u-%u ::= (\",\" ws more%u)%s ws\n", rule, index, rule, most);
    }
    schema_leave(translator, length);
    rules->failed |= value.failed;
    text_release(&value);
    free(keys.keys);
    return ok;
}

bool schema_write_object(struct schema_translator *translator, const json_t *schema, struct text *to) {
    static const char *const refused[] = { "patternProperties", "propertyNames", "dependentRequired",
                                           "dependentSchemas", "unevaluatedProperties" };
    struct object object = { .rule = schema_new_rule(translator) };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (json_object_get(schema, refused[i]))
            return schema_unsupported(translator, refused[i]);
    bool ok = read_object(translator, schema, &object);
    bool is_any = ok && object.has_more && !object.least && object.most == UINT32_MAX
                  && !json_object_size(object.properties) && (!object.more || json_is_true(object.more));
    if (is_any)
        text_append(to, " object");
    else if (ok && object.most == 0)
        text_append(to, " \"{\" ws \"}\"");
    else if (ok && (ok = write_members(translator, &object) && write_more(translator, &object)))
        text_append_format(to, " \"{\" ws first%u-0 \"}\"", object.rule);
    json_decref(object.properties);
    return ok;
}

/* ---- arrays ---- */

/* Of an array's items, those after the first ones. */
static void write_repeated(struct text *to, const char *item, uint32_t least, uint32_t most) {
    if (most == 0)
        return;
    if (most == UINT32_MAX)
        text_append_format(to, " (\",\" ws%s){%u,}", item, least);
    else
        text_append_format(to, " (\",\" ws%s){%u,%u}", item, least, most);
}

struct array {
    const json_t *prefix, *items;    /* items: NULL: none are written */
    uint32_t least, most, fixed;     /* how many of the prefix are written at most */
};

static bool read_array(struct schema_translator *translator, const json_t *schema, struct array *array) {
    array->prefix = json_object_get(schema, "prefixItems");
    array->items = json_object_get(schema, "items");
    array->most = UINT32_MAX;
    if (json_is_array(array->items)) {   /* as older drafts spell it */
        array->prefix = array->items;
        array->items = json_object_get(schema, "additionalItems");
    }
    if (array->prefix && !json_is_array(array->prefix))
        return schema_refuse(translator, "'prefixItems' is no list of schemas");
    if (!schema_get_count(translator, schema, "minItems", &array->least)
        || !schema_get_count(translator, schema, "maxItems", &array->most))
        return false;
    if (array->least > array->most)
        return schema_refuse(translator, "'minItems' is larger than 'maxItems'");
    if (array->least > MOST_ITEMS)
        return schema_refuse(translator, "'minItems' is more than %u", MOST_ITEMS);
    if (array->most != UINT32_MAX && array->most > MOST_ITEMS)
        array->most = MOST_ITEMS;
    if (json_is_true(json_object_get(schema, "uniqueItems")) && array->most > 1)
        return schema_unsupported(translator, "uniqueItems");
    if (json_array_size(array->prefix) > MOST_PREFIX_ITEMS)
        return schema_refuse(translator, "more than %u items have a schema of their own", MOST_PREFIX_ITEMS);
    array->fixed = (uint32_t)json_array_size(array->prefix);
    if (array->fixed > array->most)
        array->fixed = array->most;
    if (json_is_false(array->items)) {
        if (array->least > array->fixed)
            return schema_refuse(translator, "nothing can match it: 'minItems' wants more than 'items' allows");
        array->items = NULL;
        array->most = array->fixed;
    } else if (!array->items && array->prefix && array->least <= array->fixed) {
        array->most = array->fixed;      /* others may be there, but need not */
    }
    return true;
}

/* The items that have their own schemas, from the last to the first: each holds what follows it. */
static bool write_prefix(struct schema_translator *translator, const struct array *array, struct text *to) {
    struct text rest = *to;
    bool ok = true;
    text_init(to);
    for (uint32_t i = array->fixed; ok && i-- > 0;) {
        char number[16];
        struct text one;
        text_init(&one);
        snprintf(number, sizeof number, "%u", i);
        size_t length = schema_enter(translator, "prefixItems", number);
        text_append(&one, i < array->least ? "" : " (");
        text_append(&one, i ? " \",\" ws" : "");
        ok = schema_write(translator, json_array_get(array->prefix, i), &one);
        text_append_bytes(&one, rest.bytes, rest.length);
        text_append(&one, i < array->least ? "" : ")?");
        schema_leave(translator, length);
        text_release(&rest);
        rest = one;
    }
    text_release(to);
    *to = rest;
    return ok;
}

bool schema_write_array(struct schema_translator *translator, const json_t *schema, struct text *to) {
    static const char *const refused[] = { "contains", "minContains", "maxContains", "unevaluatedItems" };
    struct array array = { 0 };
    struct text item, body;
    uint32_t rule = schema_new_rule(translator);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (json_object_get(schema, refused[i]))
            return schema_unsupported(translator, refused[i]);
    if (!read_array(translator, schema, &array))
        return false;
    text_init(&item);
    text_init(&body);
    bool ok = true, has_items = array.most > array.fixed;
    if (has_items) {
        size_t length = schema_enter(translator, "items", NULL);
        if (array.items)
            ok = schema_write(translator, array.items, &item);
        else
            text_append(&item, " value");
        text_append_format(translator->rules, "item%u ::=%s\n", rule, item.bytes);
        translator->rules->failed |= item.failed;
        text_clear(&item);
        text_append_format(&item, " item%u", rule);
        schema_leave(translator, length);
    }
    uint32_t least = array.least > array.fixed ? array.least - array.fixed : 0;
    uint32_t most = array.most == UINT32_MAX ? array.most : array.most - array.fixed;
    if (array.fixed) {
        if (has_items)
            write_repeated(&body, item.bytes, least, most);
        ok = ok && write_prefix(translator, &array, &body);
    } else if (has_items) {
        text_append_format(&body, least ? "%s" : " (%s", item.bytes);
        write_repeated(&body, item.bytes, least ? least - 1 : 0, most == UINT32_MAX ? most : most - 1);
        text_append(&body, least ? "" : ")?");
    }
    text_append_format(translator->rules, "array%u ::= \"[\" ws%s ws \"]\"\n", rule, body.bytes);
    translator->rules->failed |= body.failed;
    text_append_format(to, " array%u", rule);
    text_release(&item);
    text_release(&body);
    return ok;
}
