/* support_fuzz: bytes as a file, for readers that take a path. */
#ifndef TESTS_SUPPORT_FUZZ_H
#define TESTS_SUPPORT_FUZZ_H

#include <stddef.h>

/* Put `bytes` into a file in memory and return its path. There is one such file
 * a process: the next call replaces its content. Aborts where that fails. */
const char *fuzz_file(const void *bytes, size_t size);

/* A folder of its own for the process, emptied at the first call and at the end. */
const char *fuzz_folder(void);

/* (Re)write `name` in it. */
void fuzz_write(const char *name, const void *bytes, size_t size);
void fuzz_remove(const char *name);   /* where it is there */

#endif
