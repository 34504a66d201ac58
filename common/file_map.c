#include "common/file_map.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int file_open(const char *path, struct stat *status, struct error *err) {
    /* O_NONBLOCK: opening a FIFO that nobody writes to must not hang. */
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) {
        error_set(err, ERROR_FAILED, "cannot open '%s': %s", path, strerror(errno));
        return -1;
    }
    struct stat found;
    if (fstat(descriptor, &found) != 0) {
        error_set(err, ERROR_FAILED, "cannot examine '%s': %s", path, strerror(errno));
    } else if (!S_ISREG(found.st_mode)) {
        error_set(err, ERROR_FAILED, "cannot read '%s': it is not a regular file", path);
    } else {
        if (status)
            *status = found;
        return descriptor;
    }
    close(descriptor);
    return -1;
}

bool file_read_at(int descriptor, const char *path, uint64_t offset, void *target, size_t size,
                  struct error *err) {
    size_t done = 0;
    if (offset > INT64_MAX || size > INT64_MAX - offset)
        return error_set(err, ERROR_FAILED, "'%s' is truncated: %zu bytes at offset %" PRIu64 " are past any file",
                         path, size, offset);
    while (done < size) {
        ssize_t got = pread(descriptor, (char *)target + done, size - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set(err, ERROR_FAILED, "cannot read '%s' at offset %" PRIu64 ": %s", path,
                             offset + done, strerror(errno));
        if (got == 0)
            return error_set(err, ERROR_FAILED,
                             "'%s' is truncated: it ends at byte %" PRIu64 ", %zu bytes short; fetch it again",
                             path, offset + done, size - done);
        done += (size_t)got;
    }
    return true;
}

char *file_read_all(const char *path, size_t limit, size_t *size, struct error *err) {
    struct stat status;
    int descriptor = file_open(path, &status, err);
    if (descriptor < 0)
        return NULL;
    char *bytes = NULL;
    uint64_t file_size = (uint64_t)status.st_size;
    if (file_size > limit || file_size >= SIZE_MAX) {
        error_set(err, ERROR_FAILED, "'%s' has %" PRIu64 " bytes; more than %zu are not read", path, file_size,
                  limit);
    } else if (!(bytes = malloc((size_t)file_size + 1))) {
        error_set(err, ERROR_FAILED, "cannot read '%s': out of memory for %" PRIu64 " bytes", path, file_size);
    } else if (!file_read_at(descriptor, path, 0, bytes, (size_t)file_size, err)) {
        free(bytes);
        bytes = NULL;
    } else {
        bytes[file_size] = '\0';
        if (size)
            *size = (size_t)file_size;
    }
    close(descriptor);
    return bytes;
}

bool file_write_all(int descriptor, const void *bytes, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t written = write(descriptor, (const char *)bytes + done, size - done);
        if (written == 0)
            errno = ENOSPC;
        if (written == 0 || (written < 0 && errno != EINTR))
            return false;
        done += written > 0 ? (size_t)written : 0;
    }
    return true;
}

bool file_map_range(struct file_map *map, const char *path, uint64_t offset, uint64_t size,
                    struct error *err) {
    *map = (struct file_map){ 0 };
    struct stat status;
    int descriptor = file_open(path, &status, err);
    if (descriptor < 0)
        return false;
    bool mapped = file_map_open(map, descriptor, path, (uint64_t)status.st_size, offset, size, err);
    close(descriptor);
    return mapped;
}

bool file_map_open(struct file_map *map, int descriptor, const char *path, uint64_t file_size, uint64_t offset,
                   uint64_t size, struct error *err) {
    *map = (struct file_map){ 0 };
    uint64_t lead = offset % (uint64_t)sysconf(_SC_PAGESIZE);
    if (offset > file_size || size > file_size - offset)
        return error_set(err, ERROR_FAILED,
                         "'%s' is truncated: it has %" PRIu64 " bytes, but %" PRIu64 " at offset %" PRIu64
                         " are needed; fetch it again", path, file_size, size, offset);
    if (size == 0)
        return true;
    if (size > SIZE_MAX - lead)
        return error_set(err, ERROR_FAILED, "cannot map '%s': %" PRIu64 " bytes are too many", path, size);
    size_t base_size = (size_t)(lead + size);
    void *base = mmap(NULL, base_size, PROT_READ, MAP_PRIVATE, descriptor, (off_t)(offset - lead));
    if (base == MAP_FAILED)
        return error_set(err, ERROR_FAILED, "cannot map %" PRIu64 " bytes of '%s': %s", size, path, strerror(errno));
    *map = (struct file_map){ .bytes = (const uint8_t *)base + lead, .size = size, .base = base,
                              .base_size = base_size };
    return true;
}

void file_map_release(struct file_map *map) {
    if (map->base)
        munmap(map->base, map->base_size);
    *map = (struct file_map){ 0 };
}
