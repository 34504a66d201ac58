#include "runtime/normalizer.h"

#include "runtime/unicode.h"

#include <stdlib.h>
#include <string.h>

enum { STEP_LIMIT = 32 };

enum step_kind { STEP_PREPEND, STEP_REPLACE, STEP_FORM, STEP_STRIP };

struct step {
    enum step_kind kind;
    struct text_pattern *pattern;   /* STEP_REPLACE */
    struct text content;            /* STEP_PREPEND, STEP_REPLACE */
    enum unicode_form form;         /* STEP_FORM */
    bool strip_left, strip_right;   /* STEP_STRIP */
};

struct normalizer {
    struct step steps[STEP_LIMIT];
    unsigned count;
};

static bool read_string(const json_t *json, const char *key, const char *file, struct text *out,
                        struct error *err) {
    const json_t *value = json_object_get(json, key);
    if (!json_is_string(value))
        return error_set(err, ERROR_FAILED, "a normalizer in '%s' has no string '%s'", file, key);
    text_append_bytes(out, json_string_value(value), json_string_length(value));
    return true;
}

static struct text_pattern *read_pattern(const json_t *json, const char *file, struct error *err) {
    const json_t *pattern = json_object_get(json, "pattern");
    const json_t *literal = json_object_get(pattern, "String");
    if (json_is_string(literal))
        return text_pattern_new_literal(json_string_value(literal), json_string_length(literal), err);
    const char *regex = NULL;
    if (!json_get_str(pattern, "Regex", file, &regex, err))
        return NULL;
    if (!regex) {
        error_set(err, ERROR_FAILED, "a 'Replace' in '%s' has neither 'String' nor 'Regex'", file);
        return NULL;
    }
    return text_pattern_new_regex(regex, err);
}

static bool read_form(const char *type, enum unicode_form *form) {
    static const char *const names[] = { "NFC", "NFD", "NFKC", "NFKD" };
    for (unsigned i = 0; i < 4; i++)
        if (strcmp(type, names[i]) == 0) {
            *form = (enum unicode_form)i;
            return true;
        }
    return false;
}

static bool add_steps(struct normalizer *normalizer, const json_t *json, const char *file,
                      unsigned depth, struct error *err) {
    const char *type = NULL;
    if (!json_get_str(json, "type", file, &type, err))
        return false;
    if (!type)
        return error_set(err, ERROR_FAILED, "a normalizer in '%s' has no 'type'", file);
    if (strcmp(type, "Sequence") == 0) {
        const json_t *list = json_object_get(json, "normalizers"), *item;
        if (!json_is_array(list) || depth == 8)
            return error_set(err, ERROR_FAILED, "the 'Sequence' of normalizers in '%s' is not a list", file);
        size_t i;
        json_array_foreach(list, i, item)
            if (!add_steps(normalizer, item, file, depth + 1, err))
                return false;
        return true;
    }
    if (normalizer->count == STEP_LIMIT)
        return error_set(err, ERROR_FAILED, "'%s' has more than %d normalizers", file, STEP_LIMIT);
    struct step *step = &normalizer->steps[normalizer->count++];
    *step = (struct step){ .strip_left = true, .strip_right = true };
    text_init(&step->content);
    if (strcmp(type, "Prepend") == 0) {
        step->kind = STEP_PREPEND;
        return read_string(json, "prepend", file, &step->content, err);
    }
    if (strcmp(type, "Replace") == 0) {
        step->kind = STEP_REPLACE;
        step->pattern = read_pattern(json, file, err);
        return step->pattern && read_string(json, "content", file, &step->content, err);
    }
    if (strcmp(type, "Strip") == 0) {
        step->kind = STEP_STRIP;
        return json_get_bool(json, "strip_left", file, &step->strip_left, err)
            && json_get_bool(json, "strip_right", file, &step->strip_right, err);
    }
    step->kind = STEP_FORM;
    return read_form(type, &step->form)
        || error_set(err, ERROR_FAILED, "the normalizer '%s' in '%s' is not supported", type, file);
}

struct normalizer *normalizer_new(const json_t *json, const char *file, struct error *err) {
    struct normalizer *normalizer = calloc(1, sizeof *normalizer);
    if (!normalizer) {
        error_set(err, ERROR_FAILED, "cannot read the normalizer of '%s': out of memory", file);
        return NULL;
    }
    if (json && !json_is_null(json) && !add_steps(normalizer, json, file, 0, err)) {
        normalizer_free(normalizer);
        return NULL;
    }
    return normalizer;
}

void normalizer_free(struct normalizer *normalizer) {
    if (!normalizer)
        return;
    for (unsigned i = 0; i < normalizer->count; i++) {
        text_pattern_free(normalizer->steps[i].pattern);
        text_release(&normalizer->steps[i].content);
    }
    free(normalizer);
}

bool normalizer_is_identity(const struct normalizer *normalizer) {
    return normalizer->count == 0;
}

static bool replace(const struct step *step, struct pattern_scratch *scratch, const char *bytes,
                    size_t size, struct text *out, struct error *err) {
    struct pattern_walk walk = { .pattern = step->pattern, .scratch = scratch, .bytes = bytes, .size = size };
    size_t done = 0;
    for (;;) {
        bool found;
        if (!pattern_walk_next(&walk, &found, err))
            return false;
        if (!found)
            break;
        text_append_bytes(out, bytes + done, walk.start - done);
        text_append_bytes(out, step->content.bytes, step->content.length);
        done = walk.end;
    }
    text_append_bytes(out, bytes + done, size - done);
    return true;
}

static void strip(const struct step *step, const char *bytes, size_t size, struct text *out) {
    size_t start = 0, end = size;
    if (step->strip_left)
        while (start < size) {
            struct utf8_unit unit = utf8_next(bytes + start, size - start);
            if (!unicode_is_space(unit.codepoint))
                break;
            start += unit.length;
        }
    while (step->strip_right && end > start) {
        size_t at = start + utf8_last(bytes + start, end - start);
        if (!unicode_is_space(utf8_next(bytes + at, end - at).codepoint))
            break;
        end = at;
    }
    text_append_bytes(out, bytes + start, end - start);
}

static bool run_step(const struct step *step, struct pattern_scratch *scratch, const char *bytes,
                     size_t size, struct text *out, struct error *err) {
    switch (step->kind) {
    case STEP_PREPEND:
        if (size)
            text_append_bytes(out, step->content.bytes, step->content.length);
        text_append_bytes(out, bytes, size);
        return true;
    case STEP_REPLACE:
        return replace(step, scratch, bytes, size, out, err);
    case STEP_FORM:
        return unicode_append_normalized(out, step->form, bytes, size, err);
    case STEP_STRIP:
        strip(step, bytes, size, out);
        return true;
    }
    return false;
}

bool normalizer_run(const struct normalizer *normalizer, struct pattern_scratch *scratch,
                    const char *bytes, size_t size, struct text *out, struct error *err) {
    struct text between;   /* each step reads one of the two and writes the other, the last one `out` */
    text_init(&between);
    text_clear(out);
    if (!normalizer->count)
        text_append_bytes(out, bytes, size);
    bool ok = true;
    for (unsigned i = 0; ok && i < normalizer->count; i++) {
        struct text *target = (normalizer->count - i) % 2 ? out : &between;
        text_clear(target);
        ok = run_step(&normalizer->steps[i], scratch, bytes, size, target, err);
        if (ok && target->failed)
            ok = error_set(err, ERROR_FAILED, "the normalized text is too long or memory is short");
        bytes = target->bytes;
        size = target->length;
    }
    text_release(&between);
    return ok && (!out->failed || error_set(err, ERROR_FAILED, "cannot normalize the text: out of memory"));
}
