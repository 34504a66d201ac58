/* support_golden: a golden file: JSON beside a .bin with the long arrays.
 *
 * In the JSON an array of the .bin is a descriptor {"off", "shape", "dtype"}
 * with dtype "f4", "i4" or "u1". Whatever is wrong with the files fails the
 * running test. */
#ifndef TESTS_SUPPORT_GOLDEN_H
#define TESTS_SUPPORT_GOLDEN_H

#include "common/file_map.h"
#include "common/json.h"

struct golden {
    json_t *root;
    struct file_map bin;    /* empty where the JSON names none */
};

/* Load `name`, as test_data() finds it. False only where it is not there:
 *     if (!golden_load(&golden, "goldens/x.json")) SKIP_BECAUSE("no goldens/x.json"); */
bool golden_load(struct golden *golden, const char *name);
void golden_release(struct golden *golden);

/* Borrowed arrays of the .bin; `count` (may be NULL) gets the number of values. */
const float *golden_floats(const struct golden *golden, const json_t *descriptor, size_t *count);
const int32_t *golden_ints(const struct golden *golden, const json_t *descriptor, size_t *count);
const uint8_t *golden_bytes(const struct golden *golden, const json_t *descriptor, size_t *count);

/* A JSON array of whole numbers as a new array: the caller frees it. */
int32_t *golden_ids(const json_t *array, size_t *count);

/* A member that must be there: json_object_get() that fails the test. */
json_t *golden_get(const json_t *object, const char *key);

#endif
