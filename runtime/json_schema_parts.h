/* json_schema_parts: what the files of the translator share.
 *
 * Functions that write an expression append one that may stand in a sequence. */
#ifndef RUNTIME_JSON_SCHEMA_PARTS_H
#define RUNTIME_JSON_SCHEMA_PARTS_H

#include "runtime/json_schema.h"

struct schema_translator {
    const json_t *root;
    const char *name;          /* borrowed */
    struct text *rules;        /* the grammar so far */
    struct text path;          /* where in the schema: "#/properties/a" */
    json_t *references;        /* rules of $ref, by pointer */
    uint32_t rule_count;
    uint64_t work;             /* spent so far */
    unsigned depth;
    struct error *err;
};

enum schema_type {
    SCHEMA_NULL = 1, SCHEMA_BOOLEAN = 2, SCHEMA_INTEGER = 4, SCHEMA_REAL = 8, SCHEMA_NUMBER = 12, SCHEMA_STRING = 16,
    SCHEMA_OBJECT = 32, SCHEMA_ARRAY = 64, SCHEMA_ANY = 127
};

/* "... at '#/properties/a' of NAME: <sentence>". Always false. */
bool schema_refuse(struct schema_translator *translator, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
bool schema_unsupported(struct schema_translator *translator, const char *keyword);   /* the same, by its name */
/* Count a schema looked at; false where all of it has grown too large or too deep. */
bool schema_step(struct schema_translator *translator);
/* The same for lists that are compared with each other, of these lengths. */
bool schema_spend(struct schema_translator *translator, size_t one, size_t other);

/* Go down into part of the schema, for sentences; back with the length that was returned. */
size_t schema_enter(struct schema_translator *translator, const char *key, const char *part);
void schema_leave(struct schema_translator *translator, size_t length);

/* The rule's number is part of its name: "<kind><number>". */
uint32_t schema_new_rule(struct schema_translator *translator);

/* Any schema. */
bool schema_write(struct schema_translator *translator, const json_t *schema, struct text *to);

/* json_schema_merge: without $ref and allOf at the top. NULL on failure; owned. */
json_t *schema_resolve(struct schema_translator *translator, const json_t *schema);
json_t *schema_merge(struct schema_translator *translator, const json_t *one, const json_t *other);
const json_t *schema_find(struct schema_translator *translator, const char *pointer);
/* Which types the schema (resolved) allows; enum, const and keywords are looked at, too. */
unsigned schema_types(const json_t *schema);
bool schema_has_known_types(const json_t *schema);
unsigned schema_type_of(const json_t *value);
/* Whether no text that is written for one of the two fits the other. Not sure: false. */
bool schema_are_disjoint(struct schema_translator *translator, const json_t *one, const json_t *other);
bool schema_is_annotation(const char *keyword);
bool schema_has_only(const json_t *schema, const char *keyword);    /* besides annotations */

/* by type */
bool schema_write_object(struct schema_translator *translator, const json_t *schema, struct text *to);
bool schema_write_array(struct schema_translator *translator, const json_t *schema, struct text *to);
bool schema_write_string(struct schema_translator *translator, const json_t *schema, struct text *to);
bool schema_write_pattern(struct schema_translator *translator, const char *pattern, size_t size, struct text *to);
bool schema_write_number(struct schema_translator *translator, const json_t *schema, bool is_integer, struct text *to);

/* A whole number from 0 on, such as minItems; a missing one leaves *value. */
bool schema_get_count(struct schema_translator *translator, const json_t *schema, const char *key, uint32_t *value);
/* Text in quotes of the grammar. */
void schema_quote(struct text *to, const char *bytes, size_t size);

#endif
