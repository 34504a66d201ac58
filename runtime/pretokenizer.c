#include "runtime/pretokenizer.h"

#include "common/text.h"
#include "runtime/byte_level.h"
#include "runtime/unicode.h"

#include <stdlib.h>
#include <string.h>

/* Every kind that a file can name is put together from these steps. */
enum step_kind {
    STEP_SPLIT,            /* by a pattern */
    STEP_PREFIX_SPACE,     /* a space before a piece that does not begin with one */
    STEP_BYTES,            /* each byte as its printable character */
    STEP_SPACES,           /* each space as `replacement`, perhaps one more in front */
};

enum behavior { ISOLATED, REMOVED, MERGED_WITH_PREVIOUS, MERGED_WITH_NEXT, CONTIGUOUS };
enum prepend { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER };

struct step {
    enum step_kind kind;
    struct text_pattern *pattern;   /* STEP_SPLIT */
    enum behavior behavior;
    bool invert;                    /* what does not match counts as the match */
    char replacement[8];            /* STEP_SPACES; UTF-8 */
    enum prepend prepend;
};

enum { STEP_LIMIT = 32 };

struct pretokenizer {
    struct step steps[STEP_LIMIT];
    unsigned count;
};

struct pretokenizer_scratch {
    struct pattern_scratch *patterns;
    struct text buffers[STEP_LIMIT];   /* what a step that rewrites its piece made of it */
};

static const char gpt2_regex[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* The one expression that the reference gives to another engine, whose \w has the
 * joiners, letter-like numbers and circled letters too. */
#define RUST_WORD "\\w\\p{Nl}\\x{200c}\\x{200d}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}" \
    "\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}"

/* The reader of the JSON, which builds the list of steps. */
struct reader {
    struct pretokenizer *target;
    const char *file;
    struct error *err;
};

static struct step *add_step(struct reader *reader, enum step_kind kind) {
    if (reader->target->count == STEP_LIMIT) {
        error_set(reader->err, ERROR_FAILED, "'%s' has more than %d pre-tokenizers", reader->file, STEP_LIMIT);
        return NULL;
    }
    struct step *step = &reader->target->steps[reader->target->count++];
    *step = (struct step){ .kind = kind };
    return step;
}

static bool add_split(struct reader *reader, const char *regex, enum behavior behavior, bool invert) {
    struct step *step = add_step(reader, STEP_SPLIT);
    if (!step)
        return false;
    step->behavior = behavior;
    step->invert = invert;
    step->pattern = text_pattern_new_regex(regex, reader->err);
    return step->pattern != NULL;
}

static bool read_behavior(struct reader *reader, const json_t *json, enum behavior *behavior) {
    static const char *const names[] = { "Isolated", "Removed", "MergedWithPrevious", "MergedWithNext",
                                         "Contiguous" };
    const char *name = "Isolated";
    if (!json_get_str(json, "behavior", reader->file, &name, reader->err))
        return false;
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) {
            *behavior = (enum behavior)i;
            return true;
        }
    return error_set(reader->err, ERROR_FAILED, "the split behavior '%s' in '%s' is not supported", name,
                     reader->file);
}

static bool read_split(struct reader *reader, const json_t *json) {
    const json_t *pattern = json_object_get(json, "pattern");
    const json_t *literal = json_object_get(pattern, "String");
    enum behavior behavior;
    bool invert = false;
    const char *regex = NULL;
    if (!read_behavior(reader, json, &behavior)
        || !json_get_bool(json, "invert", reader->file, &invert, reader->err)
        || !json_get_str(pattern, "Regex", reader->file, &regex, reader->err))
        return false;
    if (regex)
        return add_split(reader, regex, behavior, invert);
    if (!json_is_string(literal))
        return error_set(reader->err, ERROR_FAILED, "a 'Split' in '%s' has neither 'String' nor 'Regex'",
                         reader->file);
    struct step *step = add_step(reader, STEP_SPLIT);
    if (!step)
        return false;
    step->behavior = behavior;
    step->invert = invert;
    step->pattern = text_pattern_new_literal(json_string_value(literal), json_string_length(literal),
                                             reader->err);
    return step->pattern != NULL;
}

static bool read_byte_level(struct reader *reader, const json_t *json) {
    bool prefix_space = true, use_regex = true;
    return json_get_bool(json, "add_prefix_space", reader->file, &prefix_space, reader->err)
        && json_get_bool(json, "use_regex", reader->file, &use_regex, reader->err)
        && (!prefix_space || add_step(reader, STEP_PREFIX_SPACE))
        && (!use_regex || add_split(reader, gpt2_regex, ISOLATED, false))
        && add_step(reader, STEP_BYTES);
}

static bool read_metaspace(struct reader *reader, const json_t *json) {
    const char *replacement = "\xe2\x96\x81", *scheme = NULL;
    bool prefix_space = true, split = true;
    if (!json_get_str(json, "replacement", reader->file, &replacement, reader->err)
        || !json_get_str(json, "prepend_scheme", reader->file, &scheme, reader->err)
        || !json_get_bool(json, "add_prefix_space", reader->file, &prefix_space, reader->err)
        || !json_get_bool(json, "split", reader->file, &split, reader->err))
        return false;
    if (!*replacement || utf8_next(replacement, strlen(replacement)).length != strlen(replacement))
        return error_set(reader->err, ERROR_FAILED, "the replacement of a 'Metaspace' in '%s' is not one "
                         "character", reader->file);
    if (!scheme)
        scheme = prefix_space ? "always" : "never";
    struct step *step = add_step(reader, STEP_SPACES);
    if (!step)
        return false;
    strcpy(step->replacement, replacement);
    step->prepend = strcmp(scheme, "always") == 0 ? PREPEND_ALWAYS
        : strcmp(scheme, "first") == 0 ? PREPEND_FIRST : PREPEND_NEVER;
    if (step->prepend == PREPEND_NEVER && strcmp(scheme, "never") != 0)
        return error_set(reader->err, ERROR_FAILED, "the prepend scheme '%s' in '%s' is not supported", scheme,
                         reader->file);
    if (!split)
        return true;
    step = add_step(reader, STEP_SPLIT);
    if (!step)
        return false;
    step->behavior = MERGED_WITH_NEXT;
    step->pattern = text_pattern_new_literal(replacement, strlen(replacement), reader->err);
    return step->pattern != NULL;
}

static bool read_one(struct reader *reader, const json_t *json, const char *type) {
    if (strcmp(type, "Split") == 0)
        return read_split(reader, json);
    if (strcmp(type, "ByteLevel") == 0)
        return read_byte_level(reader, json);
    if (strcmp(type, "Metaspace") == 0)
        return read_metaspace(reader, json);
    if (strcmp(type, "Digits") == 0) {
        bool individual = false;
        return json_get_bool(json, "individual_digits", reader->file, &individual, reader->err)
            && add_split(reader, "\\p{N}", individual ? ISOLATED : CONTIGUOUS, false);
    }
    if (strcmp(type, "Punctuation") == 0) {
        enum behavior behavior;
        return read_behavior(reader, json, &behavior)
            && add_split(reader, "[\\p{P}!-/:-@\\[-`{-~]", behavior, false);
    }
    if (strcmp(type, "Whitespace") == 0)
        return add_split(reader, "[" RUST_WORD "]+|[^" RUST_WORD "\\s]+", REMOVED, true);
    if (strcmp(type, "WhitespaceSplit") == 0)
        return add_split(reader, "\\s", REMOVED, false);
    return error_set(reader->err, ERROR_FAILED, "the pre-tokenizer '%s' in '%s' is not supported", type,
                     reader->file);
}

static bool read_any(struct reader *reader, const json_t *json, unsigned depth) {
    const char *type = NULL;
    if (!json_get_str(json, "type", reader->file, &type, reader->err))
        return false;
    if (!type)
        return error_set(reader->err, ERROR_FAILED, "a pre-tokenizer in '%s' has no 'type'", reader->file);
    if (strcmp(type, "Sequence") != 0)
        return read_one(reader, json, type);
    const json_t *list = json_object_get(json, "pretokenizers"), *item;
    if (!json_is_array(list) || depth == 8)
        return error_set(reader->err, ERROR_FAILED, "the 'Sequence' of pre-tokenizers in '%s' is not a list",
                         reader->file);
    size_t i;
    json_array_foreach(list, i, item)
        if (!read_any(reader, item, depth + 1))
            return false;
    return true;
}

struct pretokenizer *pretokenizer_new(const json_t *json, const char *file, struct error *err) {
    struct pretokenizer *pretokenizer = calloc(1, sizeof *pretokenizer);
    if (!pretokenizer) {
        error_set(err, ERROR_FAILED, "cannot read the pre-tokenizer of '%s': out of memory", file);
        return NULL;
    }
    struct reader reader = { pretokenizer, file, err };
    if (json && !json_is_null(json) && !read_any(&reader, json, 0)) {
        pretokenizer_free(pretokenizer);
        return NULL;
    }
    return pretokenizer;
}

void pretokenizer_free(struct pretokenizer *pretokenizer) {
    if (!pretokenizer)
        return;
    for (unsigned i = 0; i < pretokenizer->count; i++)
        text_pattern_free(pretokenizer->steps[i].pattern);
    free(pretokenizer);
}

struct pretokenizer_scratch *pretokenizer_scratch_new(struct pattern_scratch *patterns,
                                                      struct error *err) {
    struct pretokenizer_scratch *scratch = calloc(1, sizeof *scratch);
    if (!scratch) {
        error_set(err, ERROR_FAILED, "cannot split a text: out of memory");
        return NULL;
    }
    scratch->patterns = patterns;
    for (unsigned i = 0; i < STEP_LIMIT; i++)
        text_init(&scratch->buffers[i]);
    return scratch;
}

void pretokenizer_scratch_free(struct pretokenizer_scratch *scratch) {
    if (!scratch)
        return;
    for (unsigned i = 0; i < STEP_LIMIT; i++)
        text_release(&scratch->buffers[i]);
    free(scratch);
}

struct run {
    const struct pretokenizer *pretokenizer;
    struct pretokenizer_scratch *scratch;
    piece_visitor *visit;
    void *context;
    struct error *err;
};

static bool run_from(struct run *run, unsigned index, const char *bytes, size_t size, bool at_start);

/* A span of the piece that is being split. */
struct span {
    size_t start, end;
    bool is_match;
};

struct splitter {
    struct run *run;
    unsigned index;
    const struct step *step;
    const char *bytes;
    bool at_start;
    struct span held;        /* may still grow, by the behavior */
    bool has_held, last_was_match;
};

static bool emit_span(struct splitter *splitter, struct span span) {
    return span.start == span.end
        || run_from(splitter->run, splitter->index + 1, splitter->bytes + span.start, span.end - span.start,
                    splitter->at_start && span.start == 0);
}

static bool hold_span(struct splitter *splitter, struct span span) {
    bool ok = !splitter->has_held || emit_span(splitter, splitter->held);
    splitter->held = span;
    splitter->has_held = true;
    return ok;
}

/* The next span from left to right; together they cover the piece. */
static bool take_span(struct splitter *splitter, struct span span) {
    span.is_match ^= splitter->step->invert;
    bool joins = false;
    switch (splitter->step->behavior) {
    case ISOLATED:
        return emit_span(splitter, span);
    case REMOVED:
        return span.is_match || emit_span(splitter, span);
    case CONTIGUOUS:
        joins = splitter->has_held && splitter->held.is_match == span.is_match;
        break;
    case MERGED_WITH_PREVIOUS:
        joins = splitter->has_held && span.is_match && !splitter->last_was_match;
        break;
    case MERGED_WITH_NEXT:
        joins = splitter->has_held && splitter->last_was_match && !span.is_match;
        break;
    }
    splitter->last_was_match = span.is_match;
    if (!joins)
        return hold_span(splitter, span);
    splitter->held.end = span.end;
    return true;
}

static bool split(struct run *run, unsigned index, const char *bytes, size_t size, bool at_start) {
    const struct step *step = &run->pretokenizer->steps[index];
    struct splitter splitter = { .run = run, .index = index, .step = step, .bytes = bytes, .at_start = at_start };
    struct pattern_walk walk = { .pattern = step->pattern, .scratch = run->scratch->patterns, .bytes = bytes,
                                 .size = size };
    size_t done = 0;
    for (;;) {
        bool found;
        if (!pattern_walk_next(&walk, &found, run->err))
            return false;
        if (!found)
            break;
        if (walk.start < done)   /* a look-behind trick; nothing sensible does that */
            continue;
        if (walk.start > done && !take_span(&splitter, (struct span){ done, walk.start, false }))
            return false;
        if (!take_span(&splitter, (struct span){ walk.start, walk.end, true }))
            return false;
        done = walk.end;
    }
    if (done < size && !take_span(&splitter, (struct span){ done, size, false }))
        return false;
    return !splitter.has_held || emit_span(&splitter, splitter.held);
}

static void append_replacing_spaces(struct text *out, const struct step *step, const char *bytes,
                                    size_t size, bool at_start) {
    size_t length = strlen(step->replacement);
    bool has_one = bytes[0] == ' ' || (size >= length && memcmp(bytes, step->replacement, length) == 0);
    if (!has_one && (step->prepend == PREPEND_ALWAYS || (step->prepend == PREPEND_FIRST && at_start)))
        text_append_bytes(out, step->replacement, length);
    while (size) {
        const char *space = memchr(bytes, ' ', size);
        size_t run = space ? (size_t)(space - bytes) : size;
        text_append_bytes(out, bytes, run);
        if (space)
            text_append_bytes(out, step->replacement, length);
        bytes += run + (space != NULL);
        size -= run + (space != NULL);
    }
}

/* Each step hands its pieces to the next one; the depth is the number of steps. */
static bool run_from(struct run *run, unsigned index, const char *bytes, size_t size, bool at_start) {
    if (index == run->pretokenizer->count)
        return run->visit(run->context, bytes, size, run->err);
    const struct step *step = &run->pretokenizer->steps[index];
    struct text *buffer = &run->scratch->buffers[index];
    switch (step->kind) {
    case STEP_SPLIT:
        return split(run, index, bytes, size, at_start);
    case STEP_PREFIX_SPACE:
        if (bytes[0] == ' ')
            return run_from(run, index + 1, bytes, size, at_start);
        text_clear(buffer);
        text_append_char(buffer, ' ');
        text_append_bytes(buffer, bytes, size);
        break;
    case STEP_BYTES:
        text_clear(buffer);
        byte_level_append(buffer, bytes, size);
        break;
    case STEP_SPACES:
        text_clear(buffer);
        append_replacing_spaces(buffer, step, bytes, size, at_start);
        break;
    }
    if (buffer->failed)
        return error_set(run->err, ERROR_FAILED, "cannot split a text of %zu bytes: out of memory", size);
    return run_from(run, index + 1, buffer->bytes, buffer->length, at_start);
}

bool pretokenizer_run(const struct pretokenizer *pretokenizer, struct pretokenizer_scratch *scratch,
                      const char *bytes, size_t size, bool at_start, piece_visitor *visit,
                      void *context, struct error *err) {
    struct run run = { pretokenizer, scratch, visit, context, err };
    return size == 0 || run_from(&run, 0, bytes, size, at_start);
}
