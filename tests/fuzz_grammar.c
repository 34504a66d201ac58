/* fuzz_grammar: any bytes as a grammar, or (from { on) as a JSON schema, then NUL and choices.
 * Either it is refused in a sentence, or a text can be written under it; of a schema's that
 * is JSON. */
#include "common/json.h"
#include "runtime/grammar_automaton.h"
#include "runtime/json_schema.h"

#include <stdlib.h>
#include <string.h>

#define MEMORY ((size_t)16 << 20)
#define WORK (1u << 18)
#define LONGEST 600u

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void check_refusal(const struct error *err) {
    if (err->kind == ERROR_NONE || !err->text[0] || strpbrk(err->text, "\n\r"))
        abort();
}

/* Follow the choices; 1: the text came to its end. */
static bool write_text(struct automaton *automaton, const uint8_t *choices, size_t count, struct text *text) {
    struct error err = { 0 };
    uint32_t state = automaton->start;
    automaton_allow(automaton, WORK);
    for (size_t i = 0; i < LONGEST && automaton_can_go_on(automaton, state); i++) {
        uint32_t nexts[256];
        uint8_t ways[256];
        unsigned way_count = 0;
        for (unsigned byte = 0; byte < 256; byte++) {
            uint32_t next = automaton_step(automaton, state, (uint8_t)byte);
            if (next == AUTOMATON_FAILED) {
                automaton_error(automaton, &err);
                check_refusal(&err);
                return false;
            }
            nexts[way_count] = next;
            ways[way_count] = (uint8_t)byte;
            way_count += next != AUTOMATON_DEAD;
        }
        if (!way_count)
            abort();   /* a way that leads nowhere */
        uint8_t choice = i < count ? choices[i] : (uint8_t)(i * 37);
        if (automaton_can_end(automaton, state) && choice % 4 == 0)
            return true;
        text_append_char(text, (char)ways[choice % way_count]);
        state = nexts[choice % way_count];
        if (i % 64 == 63) {
            if (!automaton_trim(automaton, &state, 1, &err)) {
                check_refusal(&err);
                return false;
            }
            automaton_allow(automaton, WORK);
        }
    }
    return automaton_can_end(automaton, state);
}

static void try_grammar(const char *text, size_t size, bool is_schema, const uint8_t *choices, size_t count) {
    struct error err = { 0 };
    struct grammar *grammar = grammar_parse(text, size, "fuzz", &err);
    struct automaton *automaton = grammar ? automaton_new(grammar, MEMORY, &err) : NULL;
    struct text written;
    text_init(&written);
    if (!automaton)
        check_refusal(&err);
    if (is_schema && !grammar && strstr(err.text, "line "))
        abort();   /* the translator's spelling is always right */
    if (automaton && write_text(automaton, choices, count, &written) && is_schema) {
        json_t *value = json_loadb(written.bytes, written.length, JSON_DECODE_ANY, NULL);
        if (!value)
            abort();
        json_decref(value);
    }
    text_release(&written);
    automaton_free(automaton);
    grammar_free(grammar);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    const uint8_t *end = size ? memchr(bytes, '\0', size) : NULL;
    size_t length = end ? (size_t)(end - bytes) : size, count = end ? size - length - 1 : 0;
    const uint8_t *choices = end ? end + 1 : bytes;
    if (!length || bytes[0] != '{') {
        try_grammar((const char *)bytes, length, false, choices, count);
        return 0;
    }
    struct error err = { 0 };
    struct text grammar;
    text_init(&grammar);
    json_t *schema = json_read_text((const char *)bytes, length, "fuzz", &err);
    if (schema && json_schema_to_grammar(schema, "fuzz", &grammar, &err))
        try_grammar(grammar.bytes, grammar.length, true, choices, count);
    else
        check_refusal(&err);
    json_decref(schema);
    text_release(&grammar);
    return 0;
}
