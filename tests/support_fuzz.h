/* support_fuzz: bytes as a file, for readers that take a path. */
#ifndef TESTS_SUPPORT_FUZZ_H
#define TESTS_SUPPORT_FUZZ_H

#include <stddef.h>

/* Put `bytes` into a file in memory and return its path. There is one such file
 * a process: the next call replaces its content. Aborts where that fails. */
const char *fuzz_file(const void *bytes, size_t size);

#endif
