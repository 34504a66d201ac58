#include "tests/support_golden.h"

#include "tests/support.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool golden_load(struct golden *golden, const char *name) {
    struct error err = { 0 };
    *golden = (struct golden){ 0 };
    const char *path = test_data(name);
    if (!path)
        return false;
    golden->root = json_read_file(path, (size_t)256 << 20, &err);
    ASSERT_OK(golden->root, err);
    const char *bin = json_string_value(json_object_get(golden->root, "bin"));
    if (bin) {
        char beside[PATH_MAX];
        const char *slash = strrchr(path, '/');
        snprintf(beside, sizeof beside, "%.*s/%s", (int)(slash - path), path, bin);
        struct stat status;
        if (stat(beside, &status) != 0)
            fail_msg("cannot read '%s', which '%s' names", beside, path);
        ASSERT_OK(file_map_range(&golden->bin, beside, 0, (uint64_t)status.st_size, &err), err);
    }
    return true;
}

void golden_release(struct golden *golden) {
    json_decref(golden->root);
    file_map_release(&golden->bin);
    golden->root = NULL;
}

static const void *find_array(const struct golden *golden, const json_t *descriptor, const char *dtype,
                              size_t width, size_t *count) {
    const char *found = json_string_value(json_object_get(descriptor, "dtype"));
    const json_t *shape = json_object_get(descriptor, "shape");
    if (!found || strcmp(found, dtype) != 0 || !json_is_array(shape))
        fail_msg("a golden array is no {off, shape, dtype %s}", dtype);
    uint64_t offset = (uint64_t)json_integer_value(json_object_get(descriptor, "off"));
    uint64_t values = 1;
    for (size_t i = 0; i < json_array_size(shape); i++)
        values *= (uint64_t)json_integer_value(json_array_get(shape, i));
    if (offset % width || offset > golden->bin.size || values > (golden->bin.size - offset) / width)
        fail_msg("a golden array of %zu bytes at offset %zu is not inside its file", (size_t)values * width,
                 (size_t)offset);
    if (count)
        *count = (size_t)values;
    return golden->bin.bytes + offset;
}

const float *golden_floats(const struct golden *golden, const json_t *descriptor, size_t *count) {
    return find_array(golden, descriptor, "f4", 4, count);
}

const int32_t *golden_ints(const struct golden *golden, const json_t *descriptor, size_t *count) {
    return find_array(golden, descriptor, "i4", 4, count);
}

const uint8_t *golden_bytes(const struct golden *golden, const json_t *descriptor, size_t *count) {
    return find_array(golden, descriptor, "u1", 1, count);
}

int32_t *golden_ids(const json_t *array, size_t *count) {
    if (!json_is_array(array))
        fail_msg("a golden list of ids is no array");
    *count = json_array_size(array);
    int32_t *ids = malloc((*count + 1) * sizeof *ids);
    assert_non_null(ids);
    for (size_t i = 0; i < *count; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return ids;
}

json_t *golden_get(const json_t *object, const char *key) {
    json_t *value = json_object_get(object, key);
    if (!value)
        fail_msg("the golden file has no '%s'", key);
    return value;
}
