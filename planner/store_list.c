#include "planner/store_list.h"

#include "common/file_map.h"
#include "common/temporary_file.h"
#include "common/text.h"
#include "common/user_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LIST_LIMIT = STORE_LIST_MOST * PATH_MAX, LOCK_TRIES = 250, LOCK_WAIT_US = 20000 };

/* ---- reading ---- */

static bool is_gone(const char *path) {
    struct stat status;
    return stat(path, &status) != 0 && (errno == ENOENT || errno == ENOTDIR);
}

static bool is_listed(const struct store_list *list, const char *path) {
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->paths[i], path) == 0)
            return true;
    return false;
}

static bool append(struct store_list *list, const char *path, struct error *err) {
    if (list->count == STORE_LIST_MOST)
        return error_set(err, ERROR_FAILED, "'%s' has %d plan databases, which is the most; remove those that nobody "
                         "needs", list->file, STORE_LIST_MOST);
    char *copy = strdup(path);
    if (!copy)
        return error_set(err, ERROR_FAILED, "cannot list plan database '%s': out of memory", path);
    list->paths[list->count++] = copy;
    return true;
}

static bool read_file(struct store_list *list, struct error *err) {
    struct error reason = { 0 };
    size_t size = 0, lines = 0;
    if (is_gone(list->file))
        return true;
    char *bytes = file_read_all(list->file, LIST_LIMIT, &size, &reason);
    bool ok = bytes != NULL;
    for (char *line = bytes, *end; ok && line < bytes + size; line = end + 1) {
        end = memchr(line, '\n', (size_t)(bytes + size - line));
        if (!end)   /* somebody's editor left no line break there; the NUL of file_read_all() */
            end = bytes + size;
        *end = '\0';
        if (++lines > STORE_LIST_MOST)
            ok = error_set(&reason, ERROR_FAILED, "'%s' has more than %d lines", list->file, STORE_LIST_MOST);
        else if (line[0] != '/' || strlen(line) != (size_t)(end - line) || end - line >= PATH_MAX ||
                 is_listed(list, line) || is_gone(line))
            list->is_changed = true;
        else
            ok = append(list, line, &reason);
    }
    free(bytes);
    return ok || error_set(err, ERROR_FAILED, "%s; it lists the plan databases that use packed weights: move it away, "
                           "then plan again with each of them", reason.text);
}

/* ---- the folder ---- */

static bool set_up(struct store_list *list, const char *root, struct error *err) {
    *list = (struct store_list){ .folder = -1, .paths = calloc(STORE_LIST_MOST, sizeof *list->paths) };
    if (asprintf(&list->file, "%s/stores", root) < 0)
        list->file = NULL;
    return (list->paths && list->file) ||
           error_set(err, ERROR_FAILED, "cannot list the plan databases: out of memory");
}

/* Some file systems have no locks, or none on folders: better a race than no work at all. */
static bool lock_and_read(struct store_list *list, const char *root, struct error *err) {
    list->folder = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (list->folder < 0)
        return errno == ENOENT || error_set(err, ERROR_FAILED, "cannot open folder '%s': %s", root, strerror(errno));
    for (int tries = 0; flock(list->folder, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK; tries++) {
        if (tries == LOCK_TRIES)
            return error_set(err, ERROR_FAILED, "another phiplan keeps folder '%s' locked; try again", root);
        usleep(LOCK_WAIT_US);
    }
    return read_file(list, err);
}

bool store_list_open(struct store_list *list, const char *root, struct error *err) {
    return set_up(list, root, err) && lock_and_read(list, root, err);
}

void store_list_release(struct store_list *list) {
    if (list->folder >= 0)
        close(list->folder);
    for (size_t i = 0; i < list->count; i++)
        free(list->paths[i]);
    free(list->paths);
    free(list->file);
    *list = (struct store_list){ .folder = -1 };
}

/* ---- writing ---- */

bool store_list_save(struct store_list *list, struct error *err) {
    struct text text;
    char *temporary;
    if (!list->is_changed || list->folder < 0)
        return true;
    int file = temporary_file_create(list->file, &temporary, err);
    if (file < 0)
        return false;
    text_init(&text);
    for (size_t i = 0; i < list->count; i++)
        text_append_format(&text, "%s\n", list->paths[i]);
    errno = ENOMEM;
    bool ok = !text.failed && file_write_all(file, text.bytes, text.length) && fsync(file) == 0;
    text_release(&text);
    if (!ok)
        temporary_file_drop(file, temporary);
    ok = ok && temporary_file_finish(file, temporary, list->file, TAKE_ANY);
    list->is_changed = !ok;
    return ok || error_set(err, ERROR_FAILED, "cannot write '%s': %s", list->file, strerror(errno));
}

static bool add(struct store_list *list, const char *path, struct error *err) {
    char *resolved = realpath(path, NULL);
    bool ok = resolved || error_set(err, ERROR_FAILED, "cannot list plan database '%s' in '%s': %s", path, list->file,
                                    strerror(errno));
    ok = ok && (!strchr(resolved, '\n') ||
                error_set(err, ERROR_FAILED, "cannot list plan database '%s' in '%s': its path has a line break", path,
                          list->file));
    if (ok && !is_listed(list, resolved))
        ok = list->is_changed = append(list, resolved, err);
    free(resolved);
    return ok;
}

bool store_list_note(const char *root, const char *path, struct error *err) {
    struct store_list list;
    bool ok = set_up(&list, root, err) && user_folder_make(list.file, "packed weights", err) &&
              lock_and_read(&list, root, err) && add(&list, path, err) && store_list_save(&list, err);
    store_list_release(&list);
    return ok;
}
