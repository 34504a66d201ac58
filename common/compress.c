#include "common/compress.h"

#include <stdint.h>

#include <zlib.h>

size_t compress_bound(size_t size) {
    return compressBound(size);
}

/* Only Huffman's code: twice as fast as level 1, and smaller where nothing repeats. */
static size_t compress_numbers(const void *bytes, size_t size, void *target, size_t capacity) {
    z_stream stream = { 0 };
    if (size > UINT32_MAX || deflateInit2(&stream, 1, Z_DEFLATED, 15, 8, Z_HUFFMAN_ONLY) != Z_OK)
        return 0;
    stream.next_in = (Bytef *)(uintptr_t)bytes;   /* only read */
    stream.avail_in = (uInt)size;
    stream.next_out = target;
    stream.avail_out = capacity < UINT32_MAX ? (uInt)capacity : UINT32_MAX;
    size_t used = deflate(&stream, Z_FINISH) == Z_STREAM_END ? stream.total_out : 0;
    deflateEnd(&stream);
    return used;
}

size_t compress_bytes(const void *bytes, size_t size, int level, void *target, size_t capacity) {
    uLongf used = capacity;
    if (level == COMPRESS_NUMBERS)
        return compress_numbers(bytes, size, target, capacity);
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
