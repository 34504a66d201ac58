/* JSON schemas as grammars: what is written under them is JSON that they accept. */
#include "tests/support.h"

#include "runtime/grammar_automaton.h"
#include "runtime/json_schema.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reader {
    json_t *schema;
    struct text text;
    struct grammar *grammar;
    struct automaton *automaton;
};

static void open_reader(struct reader *reader, const char *schema) {
    struct error err = { 0 };
    text_init(&reader->text);
    reader->schema = json_loads(schema, JSON_DECODE_ANY, NULL);
    assert_non_null(reader->schema);
    if (!json_schema_to_grammar(reader->schema, "the test", &reader->text, &err))
        fail_msg("%s: %s", schema, err.text);
    reader->grammar = grammar_parse(reader->text.bytes, reader->text.length, "the test's grammar", &err);
    if (!reader->grammar)
        fail_msg("%s: %s\n%s", schema, err.text, reader->text.bytes);
    reader->automaton = automaton_new(reader->grammar, (size_t)64 << 20, &err);
    ASSERT_OK(reader->automaton, err);
}

static void close_reader(struct reader *reader) {
    automaton_free(reader->automaton);
    grammar_free(reader->grammar);
    text_release(&reader->text);
    json_decref(reader->schema);
}

/* ---- a validator, as plain as can be ---- */

static bool has_type(const json_t *value, const char *type) {
    return !strcmp(type, "null") ? json_is_null(value) : !strcmp(type, "boolean") ? json_is_boolean(value)
           : !strcmp(type, "string") ? json_is_string(value) : !strcmp(type, "object") ? json_is_object(value)
           : !strcmp(type, "array") ? json_is_array(value) : !strcmp(type, "number") ? json_is_number(value)
           : json_is_number(value) && floor(json_number_value(value)) == json_number_value(value);
}

static size_t characters(const json_t *string) {
    size_t count = 0;
    for (size_t i = 0; i < json_string_length(string); i++)
        count += (json_string_value(string)[i] & 0xc0) != 0x80;
    return count;
}

static bool in_bounds(const json_t *schema, const char *low, const char *high, double value) {
    const json_t *least = json_object_get(schema, low), *most = json_object_get(schema, high);
    return (!least || value >= json_number_value(least)) && (!most || value <= json_number_value(most));
}

static bool is_valid(const json_t *root, const json_t *schema, const json_t *value) {
    const json_t *type = json_object_get(schema, "type"), *part, *list;
    const json_t *more = json_object_get(schema, "additionalProperties"), *items = json_object_get(schema, "items");
    const char *key;
    json_t *member;
    size_t i, count = 0;
    if (json_is_boolean(schema))
        return json_is_true(schema);
    const char *pointer = json_string_value(json_object_get(schema, "$ref"));
    if (pointer) {
        const json_t *target = strcmp(pointer, "#") ? json_object_get(json_object_get(root, "$defs"), pointer + 8) : root;
        if (!target || !is_valid(root, target, value))
            return false;
    }
    bool fits = !type || (json_is_string(type) && has_type(value, json_string_value(type)));
    json_array_foreach(type, i, part)
        fits |= has_type(value, json_string_value(part));
    part = json_object_get(schema, "const");
    fits &= !part || json_equal(part, value);
    if ((list = json_object_get(schema, "enum"))) {
        bool is_in = false;
        json_array_foreach(list, i, part)
            is_in |= json_equal(part, value);
        fits &= is_in;
    }
    json_array_foreach(json_object_get(schema, "allOf"), i, part)
        fits &= is_valid(root, part, value);
    if ((list = json_object_get(schema, "anyOf"))) {
        json_array_foreach(list, i, part)
            count += is_valid(root, part, value);
        fits &= count > 0;
    }
    if ((list = json_object_get(schema, "oneOf"))) {
        count = 0;
        json_array_foreach(list, i, part)
            count += is_valid(root, part, value);
        fits &= count == 1;
    }
    if (json_is_number(value)) {
        double number = json_number_value(value);
        const json_t *above = json_object_get(schema, "exclusiveMinimum"), *below = json_object_get(schema, "exclusiveMaximum");
        fits &= in_bounds(schema, "minimum", "maximum", number) && (!above || number > json_number_value(above))
                && (!below || number < json_number_value(below));
    }
    if (json_is_string(value))
        fits &= in_bounds(schema, "minLength", "maxLength", (double)characters(value));
    if (json_is_array(value)) {
        list = json_object_get(schema, "prefixItems");
        fits &= in_bounds(schema, "minItems", "maxItems", (double)json_array_size(value));
        json_array_foreach(value, i, part)
            if (i < json_array_size(list))
                fits &= is_valid(root, json_array_get(list, i), part);
            else
                fits &= !items || is_valid(root, items, part);
    }
    if (json_is_object(value)) {
        fits &= in_bounds(schema, "minProperties", "maxProperties", (double)json_object_size(value));
        json_array_foreach(json_object_get(schema, "required"), i, part)
            fits &= json_object_get(value, json_string_value(part)) != NULL;
        json_object_foreach((json_t *)value, key, member) {
            part = json_object_get(json_object_get(schema, "properties"), key);
            part = part ? part : more;
            fits &= !part || is_valid(root, part, member);
        }
    }
    return fits;
}

/* ---- texts at random ---- */

static uint32_t next_random(uint64_t *random) {
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*random >> 33);
}

/* Byte by byte, ends preferred; false where it became too long. */
static bool write_text(struct reader *reader, uint64_t *random, struct text *text) {
    uint32_t state = reader->automaton->start;
    text_clear(text);
    automaton_allow(reader->automaton, 1u << 26);
    while (automaton_can_go_on(reader->automaton, state)) {
        uint8_t bytes[256];
        uint32_t count = 0;
        if (automaton_can_end(reader->automaton, state) && next_random(random) % 3 == 0)
            break;
        for (unsigned byte = 0; byte < 256; byte++)
            if (automaton_step(reader->automaton, state, (uint8_t)byte) != AUTOMATON_DEAD)
                bytes[count++] = (uint8_t)byte;
        assert_true(count > 0);
        uint8_t chosen = bytes[next_random(random) % count];
        for (uint32_t i = 0; i < count; i++)
            if (strchr("\"}]", bytes[i]) && bytes[i] && next_random(random) % 8 == 0)
                chosen = bytes[i];
        text_append_char(text, (char)chosen);
        state = automaton_step(reader->automaton, state, chosen);
        if (text->length > 4000)
            return false;
    }
    assert_true(automaton_can_end(reader->automaton, state));
    return true;
}

static const char *const schemas[] = {
    "{}", "true", "{\"type\": \"string\"}", "{\"type\": \"integer\"}", "{\"type\": \"number\"}", "{\"type\": [\"null\", \"boolean\"]}",
    "{\"type\": \"object\"}", "{\"type\": \"array\"}",
    "{\"type\": \"string\", \"minLength\": 2, \"maxLength\": 5}", "{\"maxLength\": 3}", "{\"minLength\": 4}",
    "{\"type\": \"integer\", \"minimum\": -17, \"maximum\": 2345}", "{\"type\": \"integer\", \"exclusiveMinimum\": 99}",
    "{\"type\": \"integer\", \"exclusiveMaximum\": -3, \"multipleOf\": 1}", "{\"minimum\": 0, \"maximum\": 1}",
    "{\"type\": \"number\", \"exclusiveMinimum\": -2.5, \"exclusiveMaximum\": 7}", "{\"type\": \"number\", \"minimum\": 0.5}",
    "{\"type\": \"integer\", \"minimum\": 9223372036854775, \"maximum\": 92233720368547758}",
    "{\"enum\": [\"a\\\"b\\\\\\n\", 1, 2.5, null, {\"k\": [true, \"\\u00e9\"]}, []]}", "{\"type\": \"string\", \"enum\": [1, \"x\", null]}",
    "{\"const\": {\"a\": 1}}",
    "{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"}, \"b\": {}, \"c\": {\"type\": \"null\"}}, \"required\": [\"b\"]}",
    "{\"type\": \"object\", \"properties\": {\"a\": {\"const\": 1}, \"b\": {\"const\": 2}}}",
    "{\"properties\": {\"ab\": {\"type\": \"null\"}, \"a\": {\"type\": \"null\"}, \"\\u00e9\\\"x\": {\"type\": \"null\"}},"
    " \"additionalProperties\": {\"type\": \"integer\"}, \"required\": [\"a\", \"z\"]}",
    "{\"type\": \"object\", \"additionalProperties\": {\"type\": \"boolean\"}, \"minProperties\": 1, \"maxProperties\": 3}",
    "{\"type\": \"object\", \"properties\": {\"x\": true}, \"additionalProperties\": false, \"maxProperties\": 0}",
    "{\"type\": \"array\", \"items\": {\"type\": \"integer\"}, \"minItems\": 2, \"maxItems\": 4}",
    "{\"type\": \"array\", \"items\": {\"type\": \"boolean\"}, \"maxItems\": 1, \"uniqueItems\": true}", "{\"type\": \"array\", \"maxItems\": 0}",
    "{\"prefixItems\": [{\"const\": 1}, {\"const\": 2}, {\"type\": \"string\", \"maxLength\": 1}], \"items\": false, \"minItems\": 1}",
    "{\"prefixItems\": [{\"const\": 1}], \"items\": {\"type\": \"null\"}, \"minItems\": 3, \"maxItems\": 5}",
    "{\"prefixItems\": [{\"const\": 1}], \"minItems\": 3, \"maxItems\": 3}",
    "{\"anyOf\": [{\"type\": \"null\"}, {\"type\": \"integer\", \"minimum\": 5}]}",
    "{\"oneOf\": [{\"type\": \"string\"}, {\"type\": \"object\", \"properties\": {\"k\": {\"const\": \"a\"}}, \"required\": [\"k\"]},"
    " {\"type\": \"object\", \"properties\": {\"k\": {\"const\": \"b\"}, \"n\": {\"type\": \"integer\"}}, \"required\": [\"k\"]}]}",
    "{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"}, \"b\": {\"type\": \"integer\"}},"
    " \"anyOf\": [{\"required\": [\"a\"]}, {\"required\": [\"b\"]}]}",
    "{\"allOf\": [{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"number\"}}}, {\"properties\": {\"a\": {\"type\": \"integer\"},"
    " \"b\": {\"maxLength\": 2}}, \"required\": [\"a\", \"b\"]}]}",
    "{\"$ref\": \"#/$defs/tree\", \"$defs\": {\"tree\": {\"type\": \"object\", \"properties\": {\"v\": {\"type\": \"integer\"},"
    " \"l\": {\"$ref\": \"#/$defs/tree\"}, \"r\": {\"anyOf\": [{\"$ref\": \"#/$defs/tree\"}, {\"type\": \"null\"}]}}, \"required\": [\"v\"]}}}",
    "{\"type\": \"array\", \"items\": {\"anyOf\": [{\"type\": \"boolean\"}, {\"$ref\": \"#\"}]}, \"maxItems\": 2}",
    "{\"$defs\": {\"Cat\": {\"title\": \"Cat\", \"type\": \"object\", \"properties\": {\"kind\": {\"const\": \"cat\", \"default\": \"cat\"},"
    " \"lives\": {\"anyOf\": [{\"type\": \"integer\"}, {\"type\": \"null\"}], \"default\": null}, \"born\": {\"format\": \"date\","
    " \"type\": \"string\"}}, \"required\": [\"born\"], \"additionalProperties\": false}, \"Dog\": {\"type\": \"object\","
    " \"properties\": {\"kind\": {\"const\": \"dog\"}, \"tricks\": {\"items\": {\"enum\": [\"sit\", \"roll\"], \"type\": \"string\"},"
    " \"type\": \"array\"}}, \"required\": [\"tricks\"]}}, \"properties\": {\"pet\": {\"discriminator\": {\"propertyName\": \"kind\"},"
    " \"oneOf\": [{\"$ref\": \"#/$defs/Cat\"}, {\"$ref\": \"#/$defs/Dog\"}]}}, \"required\": [\"pet\"], \"title\": \"Owner\", \"type\": \"object\"}",
    "{\"properties\": {\"p\": {\"$ref\": \"#/$defs/s\", \"maxLength\": 3, \"description\": \"x\"}}, \"required\": [\"p\"],"
    " \"$defs\": {\"s\": {\"type\": \"string\", \"minLength\": 2}}, \"x-note\": 1, \"title\": \"T\"}",
};

static void every_text_is_json_that_the_schema_accepts(void **state) {
    (void)state;
    struct text text;
    text_init(&text);
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++) {
        struct reader reader;
        uint32_t whole = 0;
        uint64_t random = i;
        open_reader(&reader, schemas[i]);
        for (int round = 0; round < 60; round++) {
            if (!write_text(&reader, &random, &text))
                continue;
            json_error_t problem;
            json_t *value = json_loadb(text.bytes, text.length, JSON_DECODE_ANY, &problem);
            if (!value)
                fail_msg("'%s' under %s: %s", text.bytes, schemas[i], problem.text);
            if (!is_valid(reader.schema, reader.schema, value))
                fail_msg("'%s' is not valid under %s", text.bytes, schemas[i]);
            json_decref(value);
            whole++;
        }
        if (whole < 20)
            fail_msg("only %u texts came to an end under %s", whole, schemas[i]);
        close_reader(&reader);
    }
    text_release(&text);
}

/* ---- what is in, what is out ---- */

static void check(const char *schema, const char *const *texts) {
    struct reader reader;
    open_reader(&reader, schema);
    for (; *texts; texts++) {
        automaton_allow(reader.automaton, 1u << 24);
        uint32_t state = automaton_read(reader.automaton, reader.automaton->start, *texts + 1, strlen(*texts + 1));
        if (automaton_can_end(reader.automaton, state) != ((*texts)[0] == 'y'))
            fail_msg("'%s' is not '%c' under %s", *texts + 1, (*texts)[0], schema);
    }
    close_reader(&reader);
}
#define CHECK(schema, ...) check(schema, (const char *const[]){ __VA_ARGS__, NULL })

static void useful_texts_are_not_lost(void **state) {
    (void)state;
    CHECK("{}", "y{\"a\": [1, -2.5e10, \"x\\u00e9\\n\", null]}", "y[]", "y{\n  \"a\": {}\n}", "n{a: 1}", "n01", "n\"\\ud800\"",
          "y\"\\ud83e\\udd99\"", "n\"\\u0000\"", "n{\"a\":1,}");
    CHECK("{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"}, \"b\": {\"type\": \"string\"}}, \"required\": [\"b\"]}",
          "y{\"a\": 1, \"b\": \"\"}", "y{\"b\":\"x\"}", "n{\"a\":1}", "n{}", "n{\"b\":\"x\",\"c\":1}", "n{\"b\":\"x\",\"a\":1}");
    CHECK("{\"properties\": {\"ab\": {\"const\": 1}}, \"additionalProperties\": {\"const\": 2}}", "y{}", "y{\"ab\":1}",
          "y{\"a\":2}", "y{\"abc\":2, \"\": 2}", "n{\"ab\":2}", "y{\"ab\":1,\"x\":2}", "n{\"a\\u0062\":2}", "y{\"b\":2}");
    CHECK("{\"type\": \"integer\", \"minimum\": -12, \"maximum\": 1205}", "y-12", "n-13", "y-9", "y0", "y9", "y99", "y1205",
          "n1206", "n1300", "y1199", "n-0", "n00", "n1.0", "n12050");
    CHECK("{\"type\": \"integer\", \"minimum\": 0}", "y0", "y123456789", "n-1");
    CHECK("{\"type\": \"number\", \"minimum\": 1, \"maximum\": 3}", "y1", "y1.5", "y2.999", "y3", "n3.1", "n0.5", "n1.50");
    CHECK("{\"type\": \"number\", \"maximum\": -1}", "y-1", "y-1.5", "n-0.5", "n0", "y-20.25");
    CHECK("{\"enum\": [\"red\", 1, null]}", "y\"red\"", "y1", "ynull", "n\"blue\"", "n2");
    CHECK("{\"type\": \"array\", \"items\": {\"type\": \"integer\"}, \"minItems\": 1, \"maxItems\": 3}", "y[1]", "y[1, 2,3]",
          "n[]", "n[1,2,3,4]", "n[1,]");
    CHECK("{\"prefixItems\": [{\"type\": \"integer\"}, {\"type\": \"null\"}]}", "y[]", "y[1]", "y[1, null]", "n[null]",
          "n[1,null,2]");
    CHECK("{\"type\": \"string\", \"minLength\": 1, \"maxLength\": 2}", "y\"a\"", "y\"\xc3\xa9\xf0\x9f\xa6\x99\"", "y\"\\n\\u00e9\"",
          "n\"\"", "n\"abc\"");
    CHECK("{\"type\": [\"string\", \"null\"]}", "ynull", "y\"x\"", "n1");
}

/* Two hexadecimal digits after a % are a byte of the name; whatever else follows it, it is a %. */
static void references_name_their_parts(void **state) {
    (void)state;
    CHECK("{\"$ref\": \"#/$defs/a%20b%2fc~1d%C3%A9\", \"$defs\": {\"a b/c/d\xc3\xa9\": {\"const\": 1}}}", "y1", "n2");
    CHECK("{\"$ref\": \"#/$defs/%+1\", \"$defs\": {\"%+1\": {\"const\": 1}}}", "y1", "n2");
    CHECK("{\"$ref\": \"#/$defs/% f\", \"$defs\": {\"% f\": {\"const\": 1}}}", "y1", "n2");
    CHECK("{\"$ref\": \"#/$defs/%4\", \"$defs\": {\"%4\": {\"const\": 1}}}", "y1", "n2");
    CHECK("{\"$ref\": \"#/$defs/%00\", \"$defs\": {\"%00\": {\"const\": 1}}}", "y1", "n2");
}

static void formats_and_patterns_are_followed(void **state) {
    (void)state;
    CHECK("{\"format\": \"date\"}", "y\"2024-02-28\"", "y\"1999-12-31\"", "n\"2024-02-30\"", "n\"2024-13-01\"", "n\"24-01-01\"",
          "n\"2024-04-31\"");
    CHECK("{\"type\": \"string\", \"format\": \"time\"}", "y\"23:59:59Z\"", "y\"00:00:00.5+02:00\"", "n\"24:00:00Z\"");
    CHECK("{\"type\": \"string\", \"format\": \"date-time\"}", "y\"2024-01-01T12:30:00Z\"", "n\"2024-01-01\"");
    CHECK("{\"format\": \"uuid\"}", "y\"123e4567-e89b-12d3-a456-426614174000\"", "n\"123e4567\"");
    CHECK("{\"format\": \"ipv4\"}", "y\"192.168.0.255\"", "n\"256.1.1.1\"", "n\"1.2.3\"", "n\"01.2.3.4\"");
    CHECK("{\"format\": \"email\"}", "y\"ann.lee@example.org\"", "n\"ann\"", "n\"a@b\"");
    CHECK("{\"format\": \"uri\"}", "y\"https://example.org/a/b-1\"", "n\"example.org\"");
    CHECK("{\"pattern\": \"^[A-Z]{2}-\\\\d+$\"}", "y\"AB-12\"", "n\"ab-12\"", "n\"AB-\"", "n\"AB-1x\"");
    CHECK("{\"pattern\": \"^(yes|no)?$\"}", "y\"\"", "y\"yes\"", "n\"maybe\"");
    CHECK("{\"pattern\": \"b+\"}", "y\"abbc\"", "n\"ac\"", "y\"b\"");
    CHECK("{\"pattern\": \"^a|z$\"}", "y\"abc\"", "y\"xyz\"", "n\"bcd\"");
    CHECK("{\"pattern\": \"^[^\\\\d\\\\s]+$\"}", "y\"ab\\\"\\\\\\\\\"", "n\"a1\"", "n\"a b\"", "n\"\"");
    CHECK("{\"pattern\": \"^\\\\w+(?:\\\\.\\\\w+)*?@x\\\\.(org|net){1,2}$\"}", "y\"a.b@x.org\"", "y\"a@x.netorg\"", "n\"a@x\"");
    CHECK("{\"pattern\": \"^\\\"\\\\\\\\\\\\n.\\\\u00e9[\\\\x41-C]$\"}", "y\"\\\"\\\\\\n-\xc3\xa9" "B\"", "n\"\\\"\\\\\\n\\n\xc3\xa9" "B\"");
}

static void what_cannot_be_promised_is_refused_by_name(void **state) {
    (void)state;
    static const struct { const char *schema, *part; } cases[] = {
        { "false", "false" },
        { "3", "no schema" },
        { "{\"type\": \"text\"}", "'type'" },
        { "{\"type\": [\"string\", \"text\"]}", "'type'" },
        { "{\"not\": {}}", "'not'" },
        { "{\"if\": {}, \"then\": {}}", "'if'" },
        { "{\"requird\": []}", "'requird'" },
        { "{\"type\": \"array\", \"uniqueItems\": true}", "'uniqueItems'" },
        { "{\"type\": \"array\", \"contains\": {}}", "'contains'" },
        { "{\"type\": \"object\", \"patternProperties\": {}}", "'patternProperties'" },
        { "{\"type\": \"object\", \"minProperties\": 2}", "'minProperties'" },
        { "{\"properties\": {\"a\": {}, \"b\": {}}, \"maxProperties\": 1}", "'maxProperties'" },
        { "{\"properties\": {\"a\": {}}, \"required\": [\"b\"], \"additionalProperties\": false}", "'b' is required" },
        { "{\"properties\": {\"a\": {\"type\": \"number\", \"multipleOf\": 0.5}}}", "'#/properties/a'" },
        { "{\"type\": \"integer\", \"minimum\": 5, \"maximum\": 4}", "no number" },
        { "{\"type\": \"integer\", \"minimum\": 0.2, \"maximum\": 0.8}", "no number" },
        { "{\"type\": \"string\", \"format\": \"iri\"}", "'iri'" },
        { "{\"pattern\": \"a(?=b)\"}", "look ahead" },
        { "{\"pattern\": \"(a)\\\\1\"}", "escape" },
        { "{\"pattern\": \"a\\\\b\"}", "escape" },
        { "{\"pattern\": \"(^a)\"}", "anchor" },
        { "{\"pattern\": \"a{2\"}", "{" },
        { "{\"pattern\": \"(a\"}", "without )" },
        { "{\"pattern\": \"a)\"}", "without a group" },
        { "{\"pattern\": \"[\\\\x00]\"}", "can show" },
        { "{\"pattern\": \"a\", \"minLength\": 2}", "'pattern' cannot be combined" },
        { "{\"minLength\": 3, \"maxLength\": 2}", "larger" },
        { "{\"minLength\": -1}", "'minLength'" },
        { "{\"enum\": []}", "no value" },
        { "{\"enum\": [1], \"minimum\": 0}", "'minimum' beside" },
        { "{\"type\": \"string\", \"const\": 3}", "no value" },
        { "{\"$ref\": \"other.json\"}", "leads out" },
        { "{\"$ref\": \"#/$defs/x\"}", "leads to nothing" },
        { "{\"$ref\": \"#\"}", "begins with itself" },
        { "{\"allOf\": [{\"$ref\": \"#\"}]}", "leads back" },
        { "{\"properties\": {\"a\": {\"$ref\": \"#\"}}, \"required\": [\"a\"]}", "can never end" },
        { "{\"anyOf\": []}", "'anyOf'" },
        { "{\"oneOf\": [{\"type\": \"integer\"}, {\"type\": \"number\"}]}", "cases 1 and 2" },
        { "{\"oneOf\": [{\"properties\": {\"a\": {}}}, {\"properties\": {\"b\": {}}}]}", "cases 1 and 2" },
        { "{\"allOf\": [{\"const\": 1}, {\"const\": 2}]}", "'const'" },
        { "{\"allOf\": [{\"properties\": {\"a\": {}}, \"additionalProperties\": false}, {\"properties\": {\"b\": {}}}]}", "'b'" },
        { "{\"allOf\": [{\"type\": \"string\"}, {\"type\": \"null\"}]}", "'type'" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = { 0 };
        struct text text;
        struct grammar *grammar = NULL;
        text_init(&text);
        json_t *schema = json_loads(cases[i].schema, JSON_DECODE_ANY, NULL);
        assert_non_null(schema);
        if (json_schema_to_grammar(schema, "the test", &text, &err))
            grammar = grammar_parse(text.bytes, text.length, "the test", &err);
        if (grammar)
            fail_msg("accepted: %s", cases[i].schema);
        if (err.kind != ERROR_USAGE || !strstr(err.text, cases[i].part))
            fail_msg("%s gave: %s", cases[i].schema, err.text);
        text_release(&text);
        json_decref(schema);
    }
}

/* Schemas that double at each step, or go deep, end in a sentence, soon. */
static void hostile_schemas_are_bounded(void **state) {
    (void)state;
    struct error err = { 0 };
    struct text text, grammar;
    text_init(&text);
    text_init(&grammar);
    text_append(&text, "{\"$defs\": {\"a0\": {\"type\": \"string\"}");
    for (int i = 1; i < 40; i++)
        text_append_format(&text, ", \"a%d\": {\"allOf\": [{\"$ref\": \"#/$defs/a%d\"}, {\"$ref\": \"#/$defs/a%d\"}]}", i, i - 1,
                           i - 1);
    text_append(&text, "}, \"allOf\": [{\"$ref\": \"#/$defs/a39\"}]}");
    json_t *schema = json_loads(text.bytes, 0, NULL);
    assert_non_null(schema);
    assert_false(json_schema_to_grammar(schema, "the test", &grammar, &err));
    assert_non_null(strstr(err.text, "too large"));
    json_decref(schema);

    schema = json_pack("{s:s}", "type", "null");
    for (int i = 0; i < 1500; i++)
        schema = json_pack("{s:s, s:o}", "type", "array", "items", schema);
    assert_false(json_schema_to_grammar(schema, "the test", &grammar, &err));
    assert_non_null(strstr(err.text, "too deeply"));
    json_decref(schema);

    /* Long lists of words are no attack. */
    struct reader reader;
    text_clear(&text);
    text_append(&text, "{\"enum\": [\"w0\"");
    for (int i = 1; i < 20000; i++)
        text_append_format(&text, ", \"%c%d\"", 'a' + i % 26, i);
    text_append(&text, "]}");
    open_reader(&reader, text.bytes);
    assert_true(automaton_can_end(reader.automaton, automaton_read(reader.automaton, reader.automaton->start,
                                                                   "\"b19995\"", 8)) == (19995 % 26 == 1));
    automaton_allow(reader.automaton, 1u << 24);
    assert_true(automaton_can_end(reader.automaton, automaton_read(reader.automaton, reader.automaton->start,
                                                                   "\"b53\"", 5)));
    close_reader(&reader);

    /* Arrays in arrays do not double the grammar at each level. */
    schema = json_pack("{s:s}", "type", "null");
    for (int i = 0; i < 60; i++)
        schema = json_pack("{s:s, s:i, s:o}", "type", "array", "minItems", 2, "items", schema);
    text_clear(&grammar);
    ASSERT_OK(json_schema_to_grammar(schema, "the test", &grammar, &err), err);
    assert_true(grammar.length < 20000);
    json_decref(schema);
    text_release(&text);
    text_release(&grammar);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_text_is_json_that_the_schema_accepts),
        cmocka_unit_test(useful_texts_are_not_lost),
        cmocka_unit_test(references_name_their_parts),
        cmocka_unit_test(formats_and_patterns_are_followed),
        cmocka_unit_test(what_cannot_be_promised_is_refused_by_name),
        cmocka_unit_test(hostile_schemas_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
