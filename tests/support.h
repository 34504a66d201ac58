/* support: what every test program shares: cmocka with its includes, skips that
 * give a reason, the places of test data. */
#ifndef TESTS_SUPPORT_H
#define TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/error.h"

/* End the running test as skipped; the reason is printed as a TAP comment. */
#define SKIP_BECAUSE(...) do { print_message("# skip: " __VA_ARGS__); print_message("\n"); skip(); } while (0)

/* assert that `condition` holds, or print the sentence in `err`. */
#define ASSERT_OK(condition, err) do { \
    if (!(condition)) fail_msg("%s: %s", #condition, (err).text); } while (0)

/* The path of a reference file: tests/data/NAME, else $SHARED (../shared)/NAME. NULL
 * where neither exists. The result is in a static ring of eight buffers. */
const char *test_data(const char *name);

/* A fresh temporary folder for this test program, removed at exit. */
const char *test_folder(void);

#endif
