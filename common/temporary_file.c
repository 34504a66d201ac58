#include "common/temporary_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

bool temporary_file_remove_unwritten(int folder, const char *name, enum unlockable unlockable) {
    struct stat status;
    int file = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file < 0)
        return false;
    /* NFS gives no exclusive lock on a file that is open to read. Whoever made this one and has not
     * locked it yet fails to, or finds it gone. */
    bool is_removed = fstat(file, &status) == 0 && S_ISREG(status.st_mode) &&
                      (flock(file, LOCK_SH | LOCK_NB) == 0 ||
                       (errno != EWOULDBLOCK && unlockable == REMOVE_UNLOCKABLE)) &&
                      unlinkat(folder, name, 0) == 0;
    close(file);
    return is_removed;
}

static void sweep(const char *path) {
    const char *slash = strrchr(path, '/'), *stem = slash ? slash + 1 : path;
    char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    DIR *stream = folder ? opendir(folder) : NULL;
    size_t length = strlen(stem);
    for (struct dirent *entry; stream && (entry = readdir(stream));)
        if (strncmp(entry->d_name, stem, length) == 0 && entry->d_name[length] == '.' &&
            strlen(entry->d_name + length) == 7)
            temporary_file_remove_unwritten(dirfd(stream), entry->d_name, KEEP_UNLOCKABLE);
    if (stream)
        closedir(stream);
    free(folder);
}

/* ---- what is not finished ---- */

enum { MOST_UNFINISHED = 16 };

/* Of the process: its end may come in any thread. More than the table holds are not remembered;
 * the next start removes them. */
static struct {
    pthread_mutex_t lock;
    const char *names[MOST_UNFINISHED];
} unfinished = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void replace(const char *from, const char *to) {
    for (size_t i = 0; i < MOST_UNFINISHED; i++)
        if (unfinished.names[i] == from) {
            unfinished.names[i] = to;
            return;
        }
}

void temporary_file_note(const char *name) {
    pthread_mutex_lock(&unfinished.lock);
    replace(NULL, name);
    pthread_mutex_unlock(&unfinished.lock);
}

void temporary_file_forget(const char *name) {
    pthread_mutex_lock(&unfinished.lock);
    replace(name, NULL);
    pthread_mutex_unlock(&unfinished.lock);
}

void temporary_file_abandon(void) {
    pthread_mutex_lock(&unfinished.lock);   /* for good */
    for (size_t i = 0; i < MOST_UNFINISHED; i++)
        if (unfinished.names[i])
            unlink(unfinished.names[i]);
}

/* ---- their life ---- */

/* Made and noted in one go: -1 with errno. */
static int make(char *name) {
    pthread_mutex_lock(&unfinished.lock);
    int file = mkostemp(name, O_CLOEXEC);
    if (file >= 0)
        replace(NULL, name);
    pthread_mutex_unlock(&unfinished.lock);
    return file;
}

int temporary_file_create(const char *path, char **name, struct error *err) {
    *name = NULL;
    sweep(path);
    /* Between its making and its lock another process may take the file for abandoned: once each. */
    for (int tries = 0; tries < 100; tries++) {
        struct stat status;
        char *made = NULL;
        if (asprintf(&made, "%s.XXXXXX", path) < 0) {
            error_set(err, ERROR_FAILED, "cannot make '%s': out of memory", path);
            return -1;
        }
        int file = make(made);
        if (file < 0) {
            error_set(err, ERROR_FAILED, "cannot make '%s': %s", made, strerror(errno));
            free(made);
            return -1;
        }
        /* Where a file system has no locks, sweeping has none either. */
        bool is_taken = flock(file, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
        if (!is_taken && fstat(file, &status) == 0 && status.st_nlink > 0) {
            *name = made;
            return file;
        }
        unlink(made);
        close(file);
        temporary_file_forget(made);
        free(made);
    }
    error_set(err, ERROR_FAILED, "cannot make a temporary file for '%s'", path);
    return -1;
}

static bool take_place(const char *name, const char *path, enum place place) {
    if (place == TAKE_ANY)
        return rename(name, path) == 0;
    if (renameat2(AT_FDCWD, name, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
        return true;
    /* A file system that cannot. */
    return (errno == EINVAL || errno == ENOSYS) && link(name, path) == 0 && unlink(name) == 0;
}

bool temporary_file_finish(int file, char *name, const char *path, enum place place) {
    /* Closing tells what the file system could not write after all; the copy keeps the lock. */
    int locked = fcntl(file, F_DUPFD_CLOEXEC, 0);
    bool ok = close(file) == 0;
    pthread_mutex_lock(&unfinished.lock);
    ok = ok && take_place(name, path, place);
    int cause = errno;
    if (!ok)
        unlink(name);
    replace(name, NULL);
    pthread_mutex_unlock(&unfinished.lock);
    if (locked >= 0)
        close(locked);
    free(name);
    errno = cause;
    return ok;
}

void temporary_file_drop(int file, char *name) {
    int cause = errno;
    if (file >= 0)
        close(file);
    if (name) {
        unlink(name);
        temporary_file_forget(name);
    }
    free(name);
    errno = cause;
}
