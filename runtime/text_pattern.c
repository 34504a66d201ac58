#include "runtime/text_pattern.h"

#include "common/text.h"
#include "runtime/unicode.h"

#include <ctype.h>
#include <pcre2.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Limits on one search. Real expressions back-track at most once over a run of
 * white space, so the steps allow for texts of megabytes without a space. */
enum { STEP_LIMIT = 100 * 1000 * 1000, HEAP_LIMIT_KIB = 256 << 10, JIT_STACK_BYTES = 8 << 20 };
enum { PATTERN_LIMIT = 64 << 10 };

struct text_pattern {
    pcre2_code *code;    /* NULL for a literal */
    char *literal;
    size_t literal_size;
};

struct pattern_scratch {
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

/* White_Space, and Oniguruma's \w, as members of a class. */
#define SPACES "\\x{9}-\\x{d} \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define WORDS "\\p{L}\\p{M}\\p{Nd}\\p{Pc}"

struct rewrite {
    const char *at;       /* the rest of the expression */
    bool in_class;
    struct text *out;
    struct error *err;
};

static bool refuse(struct rewrite *rewrite, const char *what) {
    return error_set(rewrite->err, ERROR_FAILED, "%s in an expression is not supported", what);
}

/* A set that is written inside or outside of a class. */
static void append_set(struct rewrite *rewrite, const char *members, bool negated) {
    if (rewrite->in_class)
        text_append(rewrite->out, members);
    else
        text_append_format(rewrite->out, "[%s%s]", negated ? "^" : "", members);
}

static bool rewrite_escape(struct rewrite *rewrite) {
    char c = rewrite->at[1];
    rewrite->at += c ? 2 : 1;
    switch (c) {
    case '\0':
        return refuse(rewrite, "a backslash at the end");
    case 's':
        append_set(rewrite, SPACES, false);
        return true;
    case 'w':
        append_set(rewrite, WORDS, false);
        return true;
    case 'h':
        append_set(rewrite, "0-9a-fA-F", false);
        return true;
    case 'S': case 'W': case 'H':
        if (!rewrite->in_class)
            append_set(rewrite, c == 'S' ? SPACES : c == 'W' ? WORDS : "0-9a-fA-F", true);
        else if (c == 'S')
            text_append(rewrite->out, "\\S");
        else
            return refuse(rewrite, c == 'W' ? "'\\W' inside a class" : "'\\H' inside a class");
        return true;
    case 'b':
        if (rewrite->in_class)
            return refuse(rewrite, "'\\b' inside a class");
        text_append(rewrite->out, "(?:(?<=[" WORDS "])(?![" WORDS "])|(?<![" WORDS "])(?=[" WORDS "]))");
        return true;
    case 'B':
        return refuse(rewrite, "'\\B'");
    case 'u':
        for (int i = 0; i < 4; i++)
            if (!isxdigit((unsigned char)rewrite->at[i]))
                return refuse(rewrite, "'\\u' without four digits");
        text_append_format(rewrite->out, "\\x{%.4s}", rewrite->at);
        rewrite->at += 4;
        return true;
    default:
        text_append_char(rewrite->out, '\\');
        text_append_char(rewrite->out, c);
        if (strchr("pPx", c) && *rewrite->at == '{') {   /* braces that do not count repeats */
            size_t length = strcspn(rewrite->at, "}");
            text_append_bytes(rewrite->out, rewrite->at, length);
            rewrite->at += length;
            if (*rewrite->at)
                text_append_char(rewrite->out, *rewrite->at++);
        }
        return true;
    }
}

/* Inside [...]; `at` is at neither a backslash nor the end. */
static bool rewrite_class_member(struct rewrite *rewrite) {
    const char *at = rewrite->at;
    if (at[0] == '&' && at[1] == '&')
        return refuse(rewrite, "'&&' inside a class");
    if (at[0] == '[' && at[1] != ':')
        return refuse(rewrite, "a class inside a class");
    if (at[0] == '[') {
        const char *end = strstr(at, ":]");
        if (!end)
            return refuse(rewrite, "an unfinished '[:'");
        text_append_bytes(rewrite->out, at, (size_t)(end + 2 - at));
        rewrite->at = end + 2;
        return true;
    }
    rewrite->in_class = at[0] != ']';
    text_append_char(rewrite->out, *rewrite->at++);
    return true;
}

static bool rewrite_plain(struct rewrite *rewrite) {
    const char *at = rewrite->at;
    if (at[0] == '[') {
        rewrite->in_class = true;
        size_t head = at[1] == '^' ? 2 : 1;
        head += at[head] == ']';   /* a leading ] is a member */
        text_append_bytes(rewrite->out, at, head);
        rewrite->at += head;
        return true;
    }
    if (at[0] == '}' && at[1] == '+')
        return refuse(rewrite, "'}+'");   /* possessive for PCRE2, a second repeat for Ruby */
    if (at[0] == '(' && at[1] == '?') {
        size_t flags = strspn(at + 2, "imx-");
        if (flags && (at[2 + flags] == ':' || at[2 + flags] == ')')) {
            text_append(rewrite->out, "(?");
            for (size_t i = 0; i < flags; i++)   /* Ruby's m lets . match a newline */
                text_append_char(rewrite->out, at[2 + i] == 'm' ? 's' : at[2 + i]);
            rewrite->at += 2 + flags;
            return true;
        }
    }
    text_append_char(rewrite->out, *rewrite->at++);
    return true;
}

static bool rewrite_regex(const char *regex, struct text *out, struct error *err) {
    struct rewrite rewrite = { regex, false, out, err };
    while (*rewrite.at)
        if (!(*rewrite.at == '\\' ? rewrite_escape(&rewrite)
              : rewrite.in_class ? rewrite_class_member(&rewrite) : rewrite_plain(&rewrite)))
            return false;
    return !out->failed || error_set(err, ERROR_FAILED, "cannot compile an expression: out of memory");
}

static pcre2_code *compile(const char *regex, struct error *err) {
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) {
        error_set(err, ERROR_FAILED, "cannot compile an expression: out of memory");
        return NULL;
    }
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    int problem;
    PCRE2_SIZE where;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED,
                                     PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                                     &problem, &where, context);
    pcre2_compile_context_free(context);
    if (!code) {
        PCRE2_UCHAR sentence[160];
        pcre2_get_error_message(problem, sentence, sizeof sentence);
        error_set(err, ERROR_FAILED, "cannot compile the expression '%.200s': %s", regex, (char *)sentence);
        return NULL;
    }
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);   /* only speed is lost where there is none */
    return code;
}

static struct text_pattern *new_pattern(struct error *err) {
    struct text_pattern *pattern = calloc(1, sizeof *pattern);
    if (!pattern)
        error_set(err, ERROR_FAILED, "cannot compile an expression: out of memory");
    return pattern;
}

struct text_pattern *text_pattern_new_regex(const char *regex, struct error *err) {
    if (strlen(regex) > PATTERN_LIMIT) {
        error_set(err, ERROR_FAILED, "an expression of %zu bytes is too long", strlen(regex));
        return NULL;
    }
    struct text_pattern *pattern = new_pattern(err);
    struct text rewritten;
    text_init(&rewritten);
    if (pattern && rewrite_regex(regex, &rewritten, err))
        pattern->code = compile(rewritten.bytes, err);
    text_release(&rewritten);
    if (pattern && pattern->code)
        return pattern;
    text_pattern_free(pattern);
    return NULL;
}

struct text_pattern *text_pattern_new_literal(const char *bytes, size_t size, struct error *err) {
    if (!size) {
        error_set(err, ERROR_FAILED, "an empty string is no pattern");
        return NULL;
    }
    struct text_pattern *pattern = new_pattern(err);
    if (!pattern)
        return NULL;
    pattern->literal = malloc(size);
    if (!pattern->literal) {
        error_set(err, ERROR_FAILED, "cannot copy a pattern: out of memory");
        text_pattern_free(pattern);
        return NULL;
    }
    memcpy(pattern->literal, bytes, size);
    pattern->literal_size = size;
    return pattern;
}

void text_pattern_free(struct text_pattern *pattern) {
    if (!pattern)
        return;
    pcre2_code_free(pattern->code);
    free(pattern->literal);
    free(pattern);
}

struct pattern_scratch *pattern_scratch_new(struct error *err) {
    struct pattern_scratch *scratch = calloc(1, sizeof *scratch);
    if (scratch) {
        scratch->match = pcre2_match_data_create(1, NULL);
        scratch->context = pcre2_match_context_create(NULL);
        scratch->stack = pcre2_jit_stack_create(32 << 10, JIT_STACK_BYTES, NULL);   /* NULL: no JIT here */
    }
    if (!scratch || !scratch->match || !scratch->context) {
        pattern_scratch_free(scratch);
        error_set(err, ERROR_FAILED, "cannot search a text: out of memory");
        return NULL;
    }
    pcre2_set_match_limit(scratch->context, STEP_LIMIT);
    pcre2_set_heap_limit(scratch->context, HEAP_LIMIT_KIB);
    if (scratch->stack)
        pcre2_jit_stack_assign(scratch->context, NULL, scratch->stack);
    return scratch;
}

void pattern_scratch_free(struct pattern_scratch *scratch) {
    if (!scratch)
        return;
    pcre2_match_data_free(scratch->match);
    pcre2_match_context_free(scratch->context);
    pcre2_jit_stack_free(scratch->stack);
    free(scratch);
}

static bool search(struct pattern_walk *walk, bool *found, struct error *err) {
    const struct text_pattern *pattern = walk->pattern;
    if (!pattern->code) {
        const char *hit = memmem(walk->bytes + walk->position, walk->size - walk->position, pattern->literal,
                                 pattern->literal_size);
        *found = hit != NULL;
        if (hit) {
            walk->start = (size_t)(hit - walk->bytes);
            walk->end = walk->start + pattern->literal_size;
        }
        return true;
    }
    /* Checking the whole text in each search would make the walk quadratic. */
    int result = pcre2_match(pattern->code, (PCRE2_SPTR)walk->bytes, walk->size, walk->position,
                             PCRE2_NO_UTF_CHECK, walk->scratch->match, walk->scratch->context);
    *found = result >= 0;
    if (result >= 0) {
        const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(walk->scratch->match);
        walk->start = ends[0] < ends[1] ? ends[0] : ends[1];   /* \K can turn them round */
        walk->end = ends[1];
        return true;
    }
    if (result == PCRE2_ERROR_NOMATCH)
        return true;
    PCRE2_UCHAR sentence[160];
    pcre2_get_error_message(result, sentence, sizeof sentence);
    return error_set(err, ERROR_FAILED, "cannot split the text by the tokenizer's expression: %s",
                     (char *)sentence);
}

bool pattern_walk_next(struct pattern_walk *walk, bool *found, struct error *err) {
    size_t last_end = walk->end;
    for (;;) {
        *found = false;
        if (walk->position > walk->size)
            return true;
        if (!search(walk, found, err))
            return false;
        if (!*found)
            return true;
        if (walk->end > walk->start || !walk->has_matched || walk->start != last_end)
            break;
        /* An empty match where the last one ended: one character on. */
        if (walk->position >= walk->size) {
            *found = false;
            return true;
        }
        walk->position += utf8_next(walk->bytes + walk->position, walk->size - walk->position).length;
    }
    walk->has_matched = true;
    walk->position = walk->end;
    return true;
}
