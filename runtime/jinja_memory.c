/* jinja_memory: what a run may use, and the sentences for when it cannot go on. */
#include "runtime/jinja.h"
#include "runtime/jinja_value.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEXT_STEP "choose another template with --template or give the whole prompt with --raw"

enum { CHUNK_BYTES = 64 << 10 };

struct jinja_chunk {
    struct jinja_chunk *next;
    size_t used, size;
    _Alignas(16) unsigned char bytes[];
};

void jinja_init(struct jinja *run, const char *name, struct error *err) {
    *run = (struct jinja){ .name = name, .err = err, .line = 1 };
    text_init(&run->output);
}

void jinja_release(struct jinja *run) {
    while (run->chunks) {
        struct jinja_chunk *chunk = run->chunks;
        run->chunks = chunk->next;
        free(chunk);
    }
    text_release(&run->output);
}

/* One line of a sentence: no control characters, no half characters at the end. */
static void tidy(char *text) {
    size_t length = strlen(text), start = length;
    while (start > 0 && length - start < 3 && ((unsigned char)text[start - 1] & 0xc0) == 0x80)
        start--;
    if (start > 0 && (unsigned char)text[start - 1] >= 0xc0) {
        unsigned char lead = (unsigned char)text[start - 1];
        size_t need = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
        if (length - start < need)
            text[start - 1] = '\0';
    }
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = ' ';
}

bool jinja_fail(struct jinja *run, const char *format, ...) {
    char what[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    tidy(what);
    return error_set(run->err, ERROR_FAILED, "the chat template of '%.200s' fails in line %u: %s; " NEXT_STEP,
                     run->name, run->line, what);
}

bool jinja_unsupported(struct jinja *run, const char *what, struct jinja_string name) {
    char shown[120];
    snprintf(shown, sizeof shown, "%.*s", JINJA_SHOWN(name));
    tidy(shown);
    return error_set(run->err, ERROR_FAILED,
                     "the chat template of '%.200s' uses %s '%s' in line %u, which phirun does not know; " NEXT_STEP,
                     run->name, what, shown, run->line);
}

bool jinja_refuse(struct jinja *run, struct jinja_string words) {
    char shown[600];
    snprintf(shown, sizeof shown, "%.*s", (int)(words.size < sizeof shown ? words.size : sizeof shown - 1), words.bytes);
    tidy(shown);
    return error_set(run->err, ERROR_USAGE, "the chat template of '%.200s' refuses these messages: %s", run->name, shown);
}

void *jinja_alloc(struct jinja *run, size_t size) {
    struct jinja_chunk *chunk = run->chunks;
    size = (size + 15) & ~(size_t)15;
    if (chunk && size <= chunk->size - chunk->used) {
        void *place = chunk->bytes + chunk->used;
        chunk->used += size;
        return place;
    }
    size_t chunk_size = size > CHUNK_BYTES ? size : CHUNK_BYTES;
    if (chunk_size > JINJA_MEMORY_LIMIT - run->allocated) {
        jinja_fail(run, "it needs more than %d MiB of memory", JINJA_MEMORY_LIMIT >> 20);
        return NULL;
    }
    struct jinja_chunk *fresh = calloc(1, sizeof *fresh + chunk_size);
    if (!fresh) {
        jinja_fail(run, "out of memory");
        return NULL;
    }
    run->allocated += chunk_size;
    fresh->size = chunk_size;
    fresh->used = size;
    /* A large piece has a chunk of its own, behind the one that still has room. */
    if (chunk && size > CHUNK_BYTES / 4) {
        fresh->next = chunk->next;
        chunk->next = fresh;
    } else {
        fresh->next = chunk;
        run->chunks = fresh;
    }
    return fresh->bytes;
}

void *jinja_alloc_array(struct jinja *run, size_t count, size_t size) {
    if (size && count > JINJA_MEMORY_LIMIT / size) {
        jinja_fail(run, "it needs more than %d MiB of memory", JINJA_MEMORY_LIMIT >> 20);
        return NULL;
    }
    return jinja_alloc(run, count * size);
}

bool jinja_spend(struct jinja *run, size_t steps) {
    run->steps += steps;
    if (run->steps <= JINJA_STEP_LIMIT && steps <= JINJA_STEP_LIMIT)
        return true;
    run->steps = JINJA_STEP_LIMIT;
    return jinja_fail(run, "it takes more than %d steps", JINJA_STEP_LIMIT);
}

bool jinja_enter(struct jinja *run) {
    run->depth++;
    return run->depth <= JINJA_DEPTH_LIMIT || jinja_fail(run, "it is nested more than %d deep", JINJA_DEPTH_LIMIT);
}

void jinja_leave(struct jinja *run) {
    run->depth--;
}

bool jinja_put_bytes(struct jinja *run, const char *bytes, size_t size) {
    if (!jinja_spend(run, size / 64))
        return false;
    if (run->output.length > JINJA_OUTPUT_LIMIT || size > JINJA_OUTPUT_LIMIT - run->output.length)
        return jinja_fail(run, "it prints more than %d MiB", JINJA_OUTPUT_LIMIT >> 20);
    text_append_bytes(&run->output, bytes, size);
    return !run->output.failed || jinja_fail(run, "out of memory");
}

bool jinja_put_string(struct jinja *run, struct jinja_string string) {
    return jinja_put_bytes(run, string.bytes, string.size);
}

size_t jinja_mark(const struct jinja *run) {
    return run->output.length;
}

bool jinja_capture(struct jinja *run, size_t mark, struct jinja_value *out) {
    size_t size = run->output.length - mark;
    char *bytes = jinja_alloc(run, size);
    if (!bytes)
        return false;
    memcpy(bytes, run->output.bytes + mark, size);
    run->output.length = mark;
    if (run->output.capacity)
        run->output.bytes[mark] = '\0';
    *out = jinja_text((struct jinja_string){ bytes, size });
    return true;
}
