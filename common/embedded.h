/* embedded: text files that travel inside the programs (kernels, the schema),
 * written by common/embed.awk into build/. One string a line, so that no literal
 * is long and a compiler's line numbers are right. */
#ifndef COMMON_EMBEDDED_H
#define COMMON_EMBEDDED_H

#include <stddef.h>

struct embedded_file {
    const char *name;            /* "kernels/rms_norm.cl" */
    const char *const *lines;    /* each with its newline */
    size_t line_count;
};

/* Ended by an entry whose name is NULL. Includes of "kernels/..." are inlined. */
extern const struct embedded_file embedded_kernels[];
extern const struct embedded_file embedded_schema[];

#endif
