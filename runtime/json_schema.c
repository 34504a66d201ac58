#include "runtime/json_schema_parts.h"

#include "runtime/grammar.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORK_OF_STEP 1000u
#define MOST_WORK (60000u * WORK_OF_STEP)
#define MOST_DEPTH 250u

/* What every grammar has: JSON as parsers agree on it. Numbers fit 64 bits and doubles, no
 * escape is half a surrogate pair or NUL. */
static const char common_rules[] =
    "ws ::= (\" \" | \"\\n\" [ ]{0,20})?\n"
    "value ::= object | array | string | number | boolean | null\n"
    "object ::= \"{\" ws (member (\",\" ws member)* ws)? \"}\"\n"
    "member ::= string \":\" ws value\n"
    "array ::= \"[\" ws (value (\",\" ws value)* ws)? \"]\"\n"
    "string ::= \"\\\"\" char* \"\\\"\"\n"
    "char ::= [^\"\\\\\\x00-\\x1f\\x7f] | \"\\\\\" ([\"\\\\/bfnrt] | \"u\" code)\n"
    "code ::= \"000\" [1-9a-fA-F] | \"00\" [1-9a-fA-F] hex | \"0\" [1-9a-fA-F] hex{2} | [1-9a-cefA-CEF] hex{3}\n"
    "  | [dD] [0-7] hex{2} | [dD] [89abAB] hex{2} \"\\\\u\" [dD] [c-fC-F] hex{2}\n"
    "hex ::= [0-9a-fA-F]\n"
    "boolean ::= \"true\" | \"false\"\n"
    "null ::= \"null\"\n"
    "integer ::= \"-\"? (\"0\" | [1-9] [0-9]{0,14})\n"
    "number ::= integer (\".\" [0-9]{1,15})? ([eE] [-+]? [0-9]{1,2})?\n"
    "date ::= [0-9]{4} \"-\" ((\"0\" [13578] | \"1\" [02]) \"-\" (\"0\" [1-9] | [12] [0-9] | \"3\" [01])\n"
    "  | (\"0\" [469] | \"11\") \"-\" (\"0\" [1-9] | [12] [0-9] | \"30\")\n"
    "  | \"02-\" (\"0\" [1-9] | \"1\" [0-9] | \"2\" [0-8]))\n"
    "time ::= hour \":\" [0-5] [0-9] \":\" [0-5] [0-9] (\".\" [0-9]{1,6})? (\"Z\" | [-+] hour \":\" [0-5] [0-9])\n"
    "hour ::= [01] [0-9] | \"2\" [0-3]\n"
    "octet ::= [0-9] | [1-9] [0-9] | \"1\" [0-9]{2} | \"2\" [0-4] [0-9] | \"25\" [0-5]\n";

bool schema_refuse(struct schema_translator *translator, const char *format, ...) {
    char sentence[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    return error_set(translator->err, ERROR_USAGE, "'%.200s' of %s: %s", translator->path.bytes, translator->name,
                     sentence);
}

bool schema_unsupported(struct schema_translator *translator, const char *keyword) {
    return schema_refuse(translator, "'%.60s' cannot be expressed in a grammar and is not supported", keyword);
}

bool schema_step(struct schema_translator *translator) {
    if ((translator->work += WORK_OF_STEP) > MOST_WORK || translator->rules->length > GRAMMAR_TEXT_LIMIT)
        return schema_refuse(translator, "the schema is too large, or refers to itself too often");
    if (translator->depth > MOST_DEPTH)
        return schema_refuse(translator, "the schema is nested too deeply, or leads back to itself");
    return true;
}

bool schema_spend(struct schema_translator *translator, size_t one, size_t other) {
    translator->work += one < MOST_WORK && other < MOST_WORK ? (uint64_t)one * other : MOST_WORK;
    return translator->work <= MOST_WORK || schema_refuse(translator, "the schema is too large");
}

size_t schema_enter(struct schema_translator *translator, const char *key, const char *part) {
    size_t length = translator->path.length;
    text_append_format(&translator->path, part ? "/%.60s/%.60s" : "/%.60s", key, part);
    return length;
}

void schema_leave(struct schema_translator *translator, size_t length) {
    if (translator->path.failed)
        return;
    translator->path.length = length;
    translator->path.bytes[length] = '\0';
}

uint32_t schema_new_rule(struct schema_translator *translator) {
    return ++translator->rule_count;
}

bool schema_get_count(struct schema_translator *translator, const json_t *schema, const char *key, uint32_t *value) {
    const json_t *found = json_object_get(schema, key);
    double number = json_number_value(found);
    if (!found)
        return true;
    if (!json_is_number(found) || !(number >= 0) || number != (double)(uint64_t)(number < 1e15 ? number : 1e15))
        return schema_refuse(translator, "'%s' is no whole number from 0 on", key);
    *value = number < UINT32_MAX ? (uint32_t)number : UINT32_MAX - 1;
    return true;
}

/* ---- schemas of any kind ---- */

/* enum and const: the values themselves, without white space. */
static bool write_values(struct schema_translator *translator, const json_t *schema, struct text *to) {
    json_t *constant = json_object_get(schema, "const"), *value;
    json_t *values = constant ? json_pack("[O]", constant) : json_incref(json_object_get(schema, "enum"));
    unsigned types = schema_types(schema);
    const char *key;
    size_t i, written = 0;
    json_object_foreach((json_t *)schema, key, value)
        if (!schema_is_annotation(key) && strcmp(key, "type") && strcmp(key, "const") && strcmp(key, "enum")) {
            json_decref(values);
            return schema_refuse(translator, "'%.60s' beside '%s' is not supported", key, constant ? "const" : "enum");
        }
    if (constant && json_object_get(schema, "enum")) {
        json_decref(values);
        return schema_refuse(translator, "'const' beside 'enum' is not supported");
    }
    text_append(to, " (");
    json_array_foreach(values, i, value) {
        char *printed = schema_type_of(value) & types ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
        if (!printed)
            continue;
        text_append(to, written++ ? " |" : "");
        schema_quote(to, printed, strlen(printed));
        free(printed);
    }
    text_append(to, ")");
    json_decref(values);
    return written || schema_refuse(translator, "nothing can match it: no value is left");
}

/* What stands beside anyOf holds in each of its cases. */
static bool write_cases(struct schema_translator *translator, const json_t *schema, const char *keyword,
                        struct text *to) {
    const json_t *cases = json_object_get(schema, keyword), *one, *other;
    size_t i, j;
    if (!json_is_array(cases) || !json_array_size(cases))
        return schema_refuse(translator, "'%s' is no list of schemas", keyword);
    if (strcmp(keyword, "oneOf") == 0)
        json_array_foreach(cases, i, one)
            json_array_foreach(cases, j, other)
                if (j < i && !schema_are_disjoint(translator, other, one))
                    return translator->err->kind == ERROR_NONE
                           && schema_refuse(translator, "cases %zu and %zu of 'oneOf' may both match; use anyOf, or "
                                            "tell them apart by type or by a required property", j + 1, i + 1);
    json_t *rest = schema_has_only(schema, keyword) ? NULL : json_copy((json_t *)schema);
    json_object_del(rest, keyword);
    bool ok = true;
    text_append(to, " (");
    json_array_foreach(cases, i, one) {
        char number[24];
        snprintf(number, sizeof number, "%zu", i);
        size_t length = schema_enter(translator, keyword, number);
        json_t *merged = rest ? schema_merge(translator, rest, one) : json_incref((json_t *)one);
        text_append(to, i ? " |" : "");
        ok = merged && schema_write(translator, merged, to);
        json_decref(merged);
        schema_leave(translator, length);
        if (!ok)
            break;
    }
    text_append(to, ")");
    json_decref(rest);
    return ok;
}

/* A rule of its own, so that schemas may refer to themselves. */
static bool write_reference(struct schema_translator *translator, const json_t *schema, struct text *to) {
    const json_t *reference = json_object_get(schema, "$ref");
    const char *pointer = json_string_value(reference);
    if (!pointer)
        return schema_refuse(translator, "'$ref' is no string");
    const json_t *known = json_object_get(translator->references, pointer);
    uint32_t rule = known ? (uint32_t)json_integer_value(known) : schema_new_rule(translator);
    text_append_format(to, " part%u", rule);
    if (known)
        return true;
    const json_t *target = schema_find(translator, pointer);
    if (!target)
        return false;
    struct text body;
    text_init(&body);
    size_t length = translator->path.length;
    char *path = strdup(translator->path.bytes);
    schema_leave(translator, 0);
    text_append_format(&translator->path, "%.200s", pointer);
    json_object_set_new(translator->references, pointer, json_integer(rule));
    bool ok = path && schema_write(translator, target, &body);
    text_append_format(translator->rules, "part%u ::=%s\n", rule, body.bytes);
    translator->rules->failed |= body.failed || !path;
    if (ok) {
        schema_leave(translator, 0);
        text_append(&translator->path, path);
        schema_leave(translator, length);
    }
    free(path);
    text_release(&body);
    return ok;
}

/* Keywords that change what matches, and are not known here. */
static bool check_keywords(struct schema_translator *translator, const json_t *schema) {
    static const char *const known[] = { "type", "properties", "required", "additionalProperties", "minProperties",
        "maxProperties", "items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems", "enum",
        "const", "anyOf", "oneOf", "allOf", "$ref", "minLength", "maxLength", "pattern", "format", "minimum", "maximum",
        "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
        /* refused, or nothing to this type, where the type is written */
        "patternProperties", "propertyNames", "dependentRequired", "dependentSchemas", "unevaluatedProperties",
        "contains", "minContains", "maxContains", "unevaluatedItems" };
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)schema, key, value) {
        bool is_known = schema_is_annotation(key);
        for (size_t i = 0; i < sizeof known / sizeof *known && !is_known; i++)
            is_known = strcmp(key, known[i]) == 0;
        if (!is_known)
            return schema_unsupported(translator, key);
    }
    return true;
}

static bool write_types(struct schema_translator *translator, const json_t *schema, struct text *to) {
    static const struct {
        unsigned type;
        const char *plain;     /* NULL: by the function */
    } kinds[] = { { SCHEMA_OBJECT, NULL }, { SCHEMA_ARRAY, NULL }, { SCHEMA_STRING, NULL }, { SCHEMA_NUMBER, NULL },
                  { SCHEMA_INTEGER, NULL }, { SCHEMA_BOOLEAN, " boolean" }, { SCHEMA_NULL, " null" } };
    unsigned types = schema_types(schema), written = 0;
    if (!types || !schema_has_known_types(schema))
        return schema_refuse(translator, "'type' is none of null, boolean, integer, number, string, object, array");
    bool ok = true, is_first = true;
    text_append(to, " (");
    for (size_t i = 0; ok && i < sizeof kinds / sizeof *kinds; i++) {
        unsigned type = kinds[i].type;
        if ((types & type) != type || (written & type) == type)
            continue;
        written |= type;
        text_append(to, is_first ? "" : " |");
        is_first = false;
        switch (type) {
        case SCHEMA_OBJECT: ok = schema_write_object(translator, schema, to); break;
        case SCHEMA_ARRAY: ok = schema_write_array(translator, schema, to); break;
        case SCHEMA_STRING: ok = schema_write_string(translator, schema, to); break;
        case SCHEMA_NUMBER: ok = schema_write_number(translator, schema, false, to); break;
        case SCHEMA_INTEGER: ok = schema_write_number(translator, schema, true, to); break;
        default: text_append(to, kinds[i].plain);
        }
    }
    text_append(to, ")");
    return ok;
}

static bool write_one(struct schema_translator *translator, const json_t *schema, struct text *to) {
    if (json_is_true(schema)) {
        text_append(to, " value");
        return true;
    }
    if (json_is_false(schema))
        return schema_refuse(translator, "nothing can match it: its schema is false");
    if (!json_is_object(schema))
        return schema_refuse(translator, "this is no schema: neither an object nor true or false");
    if (!check_keywords(translator, schema))
        return false;
    if (schema_has_only(schema, "$ref"))
        return write_reference(translator, schema, to);
    json_t *resolved = schema_resolve(translator, schema);
    bool ok = resolved && json_is_object(resolved) && check_keywords(translator, resolved);
    if (resolved && json_is_boolean(resolved))
        ok = write_one(translator, resolved, to);
    else if (ok && json_object_get(resolved, "anyOf"))
        ok = write_cases(translator, resolved, "anyOf", to);
    else if (ok && json_object_get(resolved, "oneOf"))
        ok = write_cases(translator, resolved, "oneOf", to);
    else if (ok && (json_object_get(resolved, "const") || json_object_get(resolved, "enum")))
        ok = write_values(translator, resolved, to);
    else if (ok)
        ok = write_types(translator, resolved, to);
    json_decref(resolved);
    return ok;
}

bool schema_write(struct schema_translator *translator, const json_t *schema, struct text *to) {
    if (!schema_step(translator))
        return false;
    translator->depth++;
    bool ok = write_one(translator, schema, to);
    translator->depth--;
    return ok;
}

bool json_schema_to_grammar(const json_t *schema, const char *name, struct text *grammar, struct error *err) {
    struct error problem = { 0 };
    struct schema_translator translator = { .root = schema, .name = name, .rules = grammar, .err = &problem,
                                            .references = json_object() };
    struct text root;
    text_init(&root);
    text_init(&translator.path);
    text_append(&translator.path, "#");
    bool ok = translator.references && schema_write(&translator, schema, &root);
    text_append_format(grammar, "root ::=%s\n%s", root.bytes, common_rules);
    if (problem.kind == ERROR_NONE && (!ok || grammar->failed || root.failed || translator.path.failed))
        ok = error_set(&problem, ERROR_FAILED, "cannot read %s: out of memory, or too large", name);
    if (!ok && err)
        *err = problem;
    json_decref(translator.references);
    text_release(&translator.path);
    text_release(&root);
    return ok;
}
