/* device_key: the hardware key of a set of devices. */
#include "common/device.h"
#include "common/model.h"

#include <stdlib.h>
#include <string.h>

static int compare_lines(const void *left, const void *right) {
    return strcmp(left, right);
}

bool device_hardware_key(const struct device *const *devices, uint32_t count, char key[65],
                         struct error *err) {
    if (!count)
        return error_set(err, ERROR_USAGE, "cannot make a hardware key of no devices");
    char (*lines)[DEVICE_IDENTITY_SIZE] = calloc(count, sizeof *lines);
    char *joined = calloc(count, sizeof *lines);
    bool ok = lines && joined;
    if (!ok) {
        error_set(err, ERROR_FAILED, "cannot make the hardware key: out of memory");
        goto cleanup;
    }
    for (uint32_t i = 0; i < count; i++)
        device_identity(devices[i], lines[i], sizeof lines[i]);
    qsort(lines, count, sizeof *lines, compare_lines);

    size_t used = 0;
    for (uint32_t i = 0; i < count; i++) {
        size_t length = strlen(lines[i]);   /* at most size - 1: the newline fits */
        memcpy(joined + used, lines[i], length);
        used += length;
        joined[used++] = '\n';
    }
    sha256_hex(joined, used, key);
cleanup:
    free(joined);
    free(lines);
    return ok;
}
