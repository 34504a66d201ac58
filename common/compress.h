/* compress: the door to zlib. What is kept on disk is deflated where that makes it smaller.
 *
 * The stream is zlib's own (RFC 1950): it carries an Adler-32, which is no defence against
 * a hostile file, so that the caller keeps a checksum of its own where it needs one. */
#ifndef COMMON_COMPRESS_H
#define COMMON_COMPRESS_H

#include "common/error.h"

#include <stddef.h>

/* The most bytes that compress_bytes() can need for `size` of them. */
size_t compress_bound(size_t size);

#define COMPRESS_NUMBERS 0   /* a level for bytes whose values are uneven but never repeat: no search */

/* Deflate `size` bytes at `level` (1 fast .. 9 small, or COMPRESS_NUMBERS) into `target` of `capacity` bytes. Returns
 * how many it took; 0 where they do not fit into `capacity` (a capacity below compress_bound()
 * asks for a gain: keep the bytes as they are then) or memory ran out. */
size_t compress_bytes(const void *bytes, size_t size, int level, void *target, size_t capacity);

/* Inflate the stream in bytes[0 .. size) into exactly `target_size` bytes, never more. A stream
 * that is damaged, gives fewer or more, or ends before `size` does is refused: `what` names it. */
bool decompress_bytes(const void *bytes, size_t size, void *target, size_t target_size, const char *what,
                      struct error *err);

#endif
