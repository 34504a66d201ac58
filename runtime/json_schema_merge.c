/* Schemas that are several in one: $ref and allOf, and what stands beside them. */
#include "runtime/json_schema_parts.h"

#include "runtime/unicode.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct { const char *name; unsigned type; } type_names[] = {
    { "null", SCHEMA_NULL }, { "boolean", SCHEMA_BOOLEAN }, { "integer", SCHEMA_INTEGER }, { "number", SCHEMA_NUMBER },
    { "string", SCHEMA_STRING }, { "object", SCHEMA_OBJECT }, { "array", SCHEMA_ARRAY },
};

bool schema_is_annotation(const char *keyword) {
    static const char *const keywords[] = { "title", "description", "default", "examples", "example", "$schema", "$id",
        "id", "$comment", "deprecated", "readOnly", "writeOnly", "$defs", "definitions", "$anchor", "discriminator",
        "contentMediaType", "contentEncoding", "contentSchema" };
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
        if (strcmp(keyword, keywords[i]) == 0)
            return true;
    return strncmp(keyword, "x-", 2) == 0;
}

bool schema_has_only(const json_t *schema, const char *keyword) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)schema, key, value)
        if (strcmp(key, keyword) && !schema_is_annotation(key))
            return false;
    return json_object_get(schema, keyword);
}

/* ---- types ---- */

unsigned schema_type_of(const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_OBJECT: return SCHEMA_OBJECT;
    case JSON_ARRAY: return SCHEMA_ARRAY;
    case JSON_STRING: return SCHEMA_STRING;
    case JSON_INTEGER: return SCHEMA_INTEGER;
    case JSON_REAL: return floor(json_real_value(value)) == json_real_value(value) ? SCHEMA_INTEGER : SCHEMA_REAL;
    case JSON_TRUE:
    case JSON_FALSE: return SCHEMA_BOOLEAN;
    case JSON_NULL: return SCHEMA_NULL;
    }
    return 0;
}

/* 0: no name of a type */
static unsigned named_type(const json_t *name) {
    for (size_t i = 0; i < sizeof type_names / sizeof *type_names; i++)
        if (json_is_string(name) && strcmp(json_string_value(name), type_names[i].name) == 0)
            return type_names[i].type;
    return 0;
}

bool schema_has_known_types(const json_t *schema) {
    const json_t *type = json_object_get(schema, "type"), *one;
    size_t i;
    json_array_foreach(type, i, one)
        if (!named_type(one))
            return false;
    return !type || json_is_array(type) || named_type(type);
}

/* What only makes sense for one type says that it is meant. */
static unsigned implied_types(const json_t *schema) {
    static const struct { const char *keyword; unsigned type; } implied[] = {
        { "properties", SCHEMA_OBJECT }, { "required", SCHEMA_OBJECT }, { "additionalProperties", SCHEMA_OBJECT },
        { "minProperties", SCHEMA_OBJECT }, { "maxProperties", SCHEMA_OBJECT }, { "items", SCHEMA_ARRAY },
        { "prefixItems", SCHEMA_ARRAY }, { "minItems", SCHEMA_ARRAY }, { "maxItems", SCHEMA_ARRAY },
        { "minLength", SCHEMA_STRING }, { "maxLength", SCHEMA_STRING }, { "pattern", SCHEMA_STRING },
        { "format", SCHEMA_STRING }, { "minimum", SCHEMA_NUMBER }, { "maximum", SCHEMA_NUMBER },
        { "exclusiveMinimum", SCHEMA_NUMBER }, { "exclusiveMaximum", SCHEMA_NUMBER },
    };
    unsigned types = 0;
    for (size_t i = 0; i < sizeof implied / sizeof *implied; i++)
        if (json_object_get(schema, implied[i].keyword))
            types |= implied[i].type;
    return types ? types : SCHEMA_ANY;
}

unsigned schema_types(const json_t *schema) {
    const json_t *type = json_object_get(schema, "type"), *values = json_object_get(schema, "enum"), *one;
    const json_t *constant = json_object_get(schema, "const");
    unsigned types = 0;
    size_t i;
    if (json_is_true(schema))
        return SCHEMA_ANY;
    if (!json_is_object(schema))
        return 0;
    json_array_foreach(type, i, one)
        types |= named_type(one);
    if (!json_is_array(type))
        types = type ? named_type(type) : constant || values ? SCHEMA_ANY : implied_types(schema);
    unsigned present = constant ? schema_type_of(constant) : 0;
    json_array_foreach(values, i, one)
        present |= schema_type_of(one);
    return constant || values ? types & present : types;
}

/* 1 and 1.0 are the same. */
static bool equal_values(const json_t *one, const json_t *other) {
    if (json_is_number(one) && json_is_number(other) && json_typeof(one) != json_typeof(other))
        return json_number_value(one) == json_number_value(other);
    return json_equal(one, other);
}

/* ---- $ref and allOf ---- */

/* One step of a JSON pointer, ~ and % resolved; the caller frees it. */
static char *next_key(const char **at) {
    size_t length = strcspn(*at, "/"), used = 0;
    char *key = malloc(length + 1);
    for (size_t i = 0; key && i < length; i++) {
        char c = (*at)[i];
        if (c == '~' && i + 1 < length && ((*at)[i + 1] == '0' || (*at)[i + 1] == '1')) {
            c = (*at)[++i] == '0' ? '~' : '/';
        } else if (c == '%' && i + 2 < length) {
            int high = hex_digit((*at)[i + 1]), low = hex_digit((*at)[i + 2]);
            if (high >= 0 && low >= 0 && high + low > 0) {
                c = (char)(16 * high + low);
                i += 2;
            }
        }
        key[used++] = c;
    }
    if (key)
        key[used] = '\0';
    *at += length + ((*at)[length] == '/');
    return key;
}

const json_t *schema_find(struct schema_translator *translator, const char *pointer) {
    const json_t *at = translator->root;
    if (strcmp(pointer, "#") == 0)
        return at;
    if (strncmp(pointer, "#/", 2) != 0) {
        schema_refuse(translator, "'$ref' to '%.100s' leads out of the schema; put the part into $defs", pointer);
        return NULL;
    }
    const char *rest = pointer + 2;
    for (bool more = true; at && more;) {
        more = strchr(rest, '/');
        char *key = next_key(&rest);
        if (json_is_array(at))
            at = key && *key && !key[strspn(key, "0123456789")] ? json_array_get(at, strtoul(key, NULL, 10)) : NULL;
        else
            at = key ? json_object_get(at, key) : NULL;
        free(key);
    }
    if (!at)
        schema_refuse(translator, "'$ref' to '%.100s' leads to nothing", pointer);
    return at;
}

static json_t *resolve(struct schema_translator *translator, const json_t *schema) {
    const json_t *reference = json_object_get(schema, "$ref"), *all = json_object_get(schema, "allOf"), *part;
    if (!json_is_object(schema) || (!reference && !all))
        return json_incref((json_t *)schema);
    json_t *result = json_copy((json_t *)schema);
    json_object_del(result, "$ref");
    json_object_del(result, "allOf");
    if (reference) {
        const char *pointer = json_string_value(reference);
        const json_t *target = pointer ? schema_find(translator, pointer) : NULL;
        if (!target && translator->err->kind == ERROR_NONE)
            schema_refuse(translator, "'$ref' is no string");
        json_t *merged = target && result ? schema_merge(translator, result, target) : NULL;
        json_decref(result);
        result = merged;
    }
    if (all && (!json_is_array(all) || !json_array_size(all)) && result) {
        schema_refuse(translator, "'allOf' is no list of schemas");
        json_decref(result);
        return NULL;
    }
    size_t i;
    json_array_foreach(all, i, part) {
        json_t *merged = result ? schema_merge(translator, result, part) : NULL;
        json_decref(result);
        result = merged;
    }
    return result;
}

json_t *schema_resolve(struct schema_translator *translator, const json_t *schema) {
    if (!schema_step(translator))
        return NULL;
    translator->depth++;
    json_t *result = resolve(translator, schema);
    translator->depth--;
    return result;
}

/* ---- two in one ---- */

static bool is_one_of(const char *key, const char *const *names) {
    for (; *names; names++)
        if (strcmp(key, *names) == 0)
            return true;
    return false;
}

static json_t *merge_types(const json_t *one, const json_t *other) {
    json_t *types = json_array();
    for (size_t i = 0; i < sizeof type_names / sizeof *type_names; i++) {
        unsigned type = type_names[i].type;
        json_t *first = json_pack("{s:O}", "type", one), *second = json_pack("{s:O}", "type", other);
        unsigned both = schema_types(first) & schema_types(second);
        json_decref(first);
        json_decref(second);
        if ((both & type) == type && !(type == SCHEMA_INTEGER && (both & SCHEMA_NUMBER) == SCHEMA_NUMBER))
            json_array_append_new(types, json_string(type_names[i].name));
    }
    return types;
}

static json_t *merge_lists(const json_t *one, const json_t *other, bool both) {
    json_t *list = json_array();
    const json_t *value, *found;
    size_t i, j;
    for (int side = 0; side < 2 - both; side++)
        json_array_foreach(side ? other : one, i, value) {
            bool has = false;
            json_array_foreach(both ? other : list, j, found)
                has |= equal_values(value, found);
            if (has == both)
                json_array_append(list, (json_t *)value);
        }
    return list;
}

static json_t *merge_properties(struct schema_translator *translator, const json_t *one, const json_t *other) {
    json_t *properties = json_copy((json_t *)one), *value;
    const char *key;
    json_object_foreach((json_t *)other, key, value) {
        const json_t *old = json_object_get(properties, key);
        json_t *merged = old ? schema_merge(translator, old, value) : json_incref(value);
        if (!merged || json_object_set_new(properties, key, merged) != 0) {
            json_decref(properties);
            return NULL;
        }
    }
    return properties;
}

/* additionalProperties of one would forbid, or shape, properties that only the other declares. */
static bool check_additional(struct schema_translator *translator, const json_t *one, const json_t *other) {
    const json_t *rule = json_object_get(one, "additionalProperties"), *mine = json_object_get(one, "properties");
    const char *key;
    json_t *value;
    if (!rule || json_is_true(rule))
        return true;
    json_object_foreach(json_object_get(other, "properties"), key, value)
        if (!json_object_get(mine, key))
            return schema_refuse(translator, "'additionalProperties' meets a property, '%.60s', of another part of "
                                 "the same object", key);
    return true;
}

static json_t *merge_value(struct schema_translator *translator, const char *key, json_t *one, json_t *other) {
    static const char *const larger[] = { "minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties",
                                          NULL };
    static const char *const smaller[] = { "maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties",
                                           NULL };
    if (json_equal(one, other) || schema_is_annotation(key))
        return json_incref(one);
    if (strcmp(key, "type") == 0)
        return merge_types(one, other);
    if ((strcmp(key, "required") == 0 || strcmp(key, "enum") == 0)
        && !schema_spend(translator, json_array_size(one) + json_array_size(other),
                         json_array_size(one) + json_array_size(other)))
        return NULL;
    if (strcmp(key, "required") == 0 || strcmp(key, "enum") == 0)
        return merge_lists(one, other, key[0] == 'e');
    if (strcmp(key, "properties") == 0 && json_is_object(one) && json_is_object(other))
        return merge_properties(translator, one, other);
    if (json_is_number(one) && json_is_number(other) && (is_one_of(key, larger) || is_one_of(key, smaller))) {
        bool takes_one = (json_number_value(one) > json_number_value(other)) == is_one_of(key, larger);
        return json_incref(takes_one ? one : other);
    }
    if (strcmp(key, "items") == 0 || strcmp(key, "additionalProperties") == 0)
        return json_is_true(one) ? json_incref(other) : json_is_true(other) ? json_incref(one)
                                                                            : schema_merge(translator, one, other);
    schema_refuse(translator, "two different '%.60s' for one value", key);
    return NULL;
}

json_t *schema_merge(struct schema_translator *translator, const json_t *one, const json_t *other) {
    json_t *first = schema_resolve(translator, one);
    json_t *second = first ? schema_resolve(translator, other) : NULL, *value;
    json_t *result = NULL;
    const char *key;
    if (first && second && json_is_true(first)) {
        result = json_incref(second);
    } else if (first && second && json_is_true(second)) {
        result = json_incref(first);
    } else if (first && second && (!json_is_object(first) || !json_is_object(second))) {
        schema_refuse(translator, "nothing can match it: a part of it is no schema, or false");
    } else if (first && second && check_additional(translator, first, second)
               && check_additional(translator, second, first)) {
        result = json_copy(first);
        json_object_foreach(second, key, value) {
            json_t *old = json_object_get(result, key);
            json_t *merged = old ? merge_value(translator, key, old, value) : json_incref(value);
            if (!merged || json_object_set_new(result, key, merged) != 0) {
                json_decref(result);
                result = NULL;
                break;
            }
        }
    }
    if (!result && translator->err->kind == ERROR_NONE)
        error_set(translator->err, ERROR_FAILED, "cannot read %s: out of memory", translator->name);
    json_decref(first);
    json_decref(second);
    return result;
}

/* ---- telling schemas apart ---- */

/* The values of enum or const; NULL: any. Owned. */
static json_t *values_of(const json_t *schema) {
    json_t *constant = json_object_get(schema, "const"), *values = json_object_get(schema, "enum");
    if (constant)
        return json_pack("[O]", constant);
    return json_is_array(values) ? json_incref(values) : NULL;
}

static bool is_required(const json_t *schema, const char *key) {
    const json_t *name;
    size_t i;
    json_array_foreach(json_object_get(schema, "required"), i, name)
        if (json_is_string(name) && strcmp(json_string_value(name), key) == 0)
            return true;
    return false;
}

/* Whether the objects that are written for `one` may have this property. */
static bool may_write(const json_t *one, const char *key) {
    const json_t *properties = json_object_get(one, "properties");
    const json_t *more = json_object_get(one, "additionalProperties");
    if (json_object_get(properties, key) || is_required(one, key))
        return true;
    return more ? !json_is_false(more) : !properties;
}

/* No object that is written for `one` fits `other`. */
static bool objects_never_fit(struct schema_translator *translator, const json_t *one, const json_t *other) {
    json_t *mine = json_object_get(one, "properties"), *theirs = json_object_get(other, "properties"), *value;
    const json_t *name;
    const char *key;
    size_t i;
    if (!schema_spend(translator, json_object_size(mine) + json_object_size(theirs),
                      json_array_size(json_object_get(one, "required"))
                      + json_array_size(json_object_get(other, "required"))))
        return false;
    json_array_foreach(json_object_get(other, "required"), i, name)
        if (json_is_string(name) && !may_write(one, json_string_value(name)))
            return true;
    json_object_foreach(mine, key, value) {
        const json_t *same = json_object_get(theirs, key);
        if (same && (is_required(one, key) || is_required(other, key)) && schema_are_disjoint(translator, value, same))
            return true;
        if (!same && is_required(one, key) && json_is_false(json_object_get(other, "additionalProperties")))
            return true;
    }
    return false;
}

bool schema_are_disjoint(struct schema_translator *translator, const json_t *one, const json_t *other) {
    json_t *a = schema_resolve(translator, one), *b = a ? schema_resolve(translator, other) : NULL;
    bool result = false;
    unsigned both = a && b ? schema_types(a) & schema_types(b) : 0;
    bool has_choices = json_object_get(a, "anyOf") || json_object_get(a, "oneOf") || json_object_get(b, "anyOf")
                       || json_object_get(b, "oneOf");
    json_t *mine = values_of(a), *theirs = values_of(b), *x, *y;
    size_t i, j;
    if (!a || !b || !schema_spend(translator, json_array_size(mine), json_array_size(theirs))) {
        result = false;
    } else if (!both && !has_choices) {
        result = true;
    } else if (mine && theirs) {
        result = true;
        json_array_foreach(mine, i, x)
            json_array_foreach(theirs, j, y)
                result &= !equal_values(x, y);
    } else if (both == SCHEMA_OBJECT && !mine && !theirs) {
        result = objects_never_fit(translator, a, b) && objects_never_fit(translator, b, a);
    }
    json_decref(mine);
    json_decref(theirs);
    json_decref(a);
    json_decref(b);
    return result;
}
