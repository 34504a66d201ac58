/* file_map: bytes of a file, borrowed read-only.
 *
 * Weights are mapped in ranges, never as whole files, so that a program maps
 * only what its plan names and a 7.6 GB checkpoint can be described under a
 * small address-space limit. Headers are read with file_read_at(). */
#ifndef COMMON_FILE_MAP_H
#define COMMON_FILE_MAP_H

#include "common/error.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

struct file_map {
    const uint8_t *bytes;  /* first byte of the range asked for; NULL when it is empty */
    uint64_t size;
    void *base;            /* page-aligned start of the mapping */
    size_t base_size;
};

/* Map [offset, offset + size) of `path`. Fails where the file is shorter. */
bool file_map_range(struct file_map *map, const char *path, uint64_t offset, uint64_t size,
                    struct error *err);
/* The same of a file that is open and has `file_size` bytes; `path` is for the sentences. */
bool file_map_open(struct file_map *map, int descriptor, const char *path, uint64_t file_size, uint64_t offset,
                   uint64_t size, struct error *err);
void file_map_release(struct file_map *map);

/* Open for reading; the descriptor is closed on exec. -1 on failure. */
int file_open(const char *path, struct stat *status, struct error *err);

/* Read exactly `size` bytes at `offset`; a shorter file is an error that names
 * `path` as truncated. */
bool file_read_at(int descriptor, const char *path, uint64_t offset, void *target, size_t size,
                  struct error *err);

/* The whole of a text file, NUL-terminated (the NUL is not counted in
 * *size). Refuses files larger than `limit`. The caller owns the string. */
char *file_read_all(const char *path, size_t limit, size_t *size, struct error *err);

/* Write all of it where the descriptor is, on after interruptions and partial writes. False: errno says why. */
bool file_write_all(int descriptor, const void *bytes, size_t size);

#endif
