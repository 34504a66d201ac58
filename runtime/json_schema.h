/* json_schema: a JSON Schema as a grammar.
 *
 * Every text of the grammar is JSON that the schema accepts; not every such JSON is a text of
 * it: properties come in the schema's order, there are no others than those declared unless
 * additionalProperties says so, numbers have at most 15 digits, white space is short. What
 * cannot be promised in that way is refused by name. */
#ifndef RUNTIME_JSON_SCHEMA_H
#define RUNTIME_JSON_SCHEMA_H

#include "common/json.h"

/* Append the grammar (see grammar.h). `name` names the schema in sentences. */
bool json_schema_to_grammar(const json_t *schema, const char *name, struct text *grammar, struct error *err);

#endif
