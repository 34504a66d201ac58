#include "common/compress.h"

#include <zlib.h>

size_t compress_bound(size_t size) {
    return compressBound(size);
}

size_t compress_bytes(const void *bytes, size_t size, int level, void *target, size_t capacity) {
    uLongf used = capacity;
    return compress2(target, &used, bytes, size, level) == Z_OK ? used : 0;
}

bool decompress_bytes(const void *bytes, size_t size, void *target, size_t target_size, const char *what,
                      struct error *err) {
    uLongf made = target_size;
    uLong taken = size;
    /* Z_BUF_ERROR stands for a stream that is cut and for one that gives more. */
    int code = uncompress2(target, &made, bytes, &taken);
    if (code == Z_MEM_ERROR)
        return error_set(err, ERROR_FAILED, "cannot inflate %s: out of memory", what);
    if (code != Z_OK || made != target_size || taken != size)
        return error_set(err, ERROR_FAILED, "%s is damaged: its compressed bytes do not give the %zu that belong there",
                         what, target_size);
    return true;
}
