/* jinja: the part of the Jinja template language that chat templates use.
 *
 * A template is somebody else's program: it runs within JINJA_STEP_LIMIT steps
 * (a node of it, or work on some 64 bytes), JINJA_MEMORY_LIMIT bytes of values,
 * JINJA_OUTPUT_LIMIT bytes of text and JINJA_DEPTH_LIMIT nested calls, reaches
 * no file and changes none of the values it was given. White space is treated
 * as with trim_blocks and lstrip_blocks, which checkpoints rely on. */
#ifndef RUNTIME_JINJA_H
#define RUNTIME_JINJA_H

#include "common/error.h"
#include "common/json.h"
#include "common/text.h"

#include <stddef.h>

enum {
    JINJA_SOURCE_LIMIT = 512 << 10,
    JINJA_STEP_LIMIT = 4 << 20,
    JINJA_MEMORY_LIMIT = 128 << 20,
    JINJA_OUTPUT_LIMIT = 32 << 20,
    JINJA_DEPTH_LIMIT = 500
};

/* Run `source` with the members of the object `variables` (may be NULL) as its
 * variables and append what it prints to `out`, which stays as it is on failure.
 * `name` is what the sentences call the template's owner: a model or a file. What the
 * template itself refuses, by raise_exception(), is ERROR_USAGE, in its own words. */
bool jinja_render(const char *source, size_t size, const char *name, const json_t *variables,
                  struct text *out, struct error *err);

#endif
