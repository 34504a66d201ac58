#include "common/temporary_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Nobody has it open to write: whoever made it was killed. */
static void remove_abandoned(int folder, const char *name) {
    struct stat status;
    int file = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file < 0)
        return;
    if (fstat(file, &status) == 0 && S_ISREG(status.st_mode) && flock(file, LOCK_EX | LOCK_NB) == 0)
        unlinkat(folder, name, 0);
    close(file);
}

bool temporary_file_is_written(int folder, const char *name) {
    int file = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    bool is_written = file >= 0 && flock(file, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (file >= 0)
        close(file);
    return is_written;
}

static void sweep(const char *path) {
    const char *slash = strrchr(path, '/'), *stem = slash ? slash + 1 : path;
    char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    DIR *stream = folder ? opendir(folder) : NULL;
    size_t length = strlen(stem);
    for (struct dirent *entry; stream && (entry = readdir(stream));)
        if (strncmp(entry->d_name, stem, length) == 0 && entry->d_name[length] == '.' &&
            strlen(entry->d_name + length) == 7)
            remove_abandoned(dirfd(stream), entry->d_name);
    if (stream)
        closedir(stream);
    free(folder);
}

int temporary_file_create(const char *path, char **name, struct error *err) {
    sweep(path);
    /* Between its making and its lock another process may take the file for abandoned. */
    for (int tries = 0; tries < 3; tries++) {
        struct stat status;
        if (asprintf(name, "%s.XXXXXX", path) < 0) {
            *name = NULL;
            error_set(err, ERROR_FAILED, "cannot make '%s': out of memory", path);
            return -1;
        }
        int file = mkostemp(*name, O_CLOEXEC);
        if (file < 0) {
            error_set(err, ERROR_FAILED, "cannot make '%s': %s", *name, strerror(errno));
            free(*name);
            *name = NULL;
            return -1;
        }
        flock(file, LOCK_EX | LOCK_NB);   /* where a file system has no locks, sweeping has none either */
        if (fstat(file, &status) == 0 && status.st_nlink > 0)
            return file;
        close(file);
        free(*name);
        *name = NULL;
    }
    error_set(err, ERROR_FAILED, "cannot make a temporary file for '%s'", path);
    return -1;
}
