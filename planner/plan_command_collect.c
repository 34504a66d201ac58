/* phiplan gc: what no plan needs any more. The packed weights are shared by all stores of a user: those
 * that any of them uses stay, and all stay where one of them cannot say. */
#include "planner/plan_commands.h"

#include "common/artifact.h"
#include "common/temporary_file.h"
#include "planner/store_list.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The files themselves: a folder has many names ("/cache", "/cache/", a link to it). */
struct kept_file { dev_t device; ino_t inode; };
struct kept { struct kept_file *files; size_t count, capacity; };

static bool keep_path(void *context, const char *path) {
    struct kept *kept = context;
    struct stat status;
    if (stat(path, &status) != 0)
        return true;   /* deleted by hand: nothing to keep */
    if (kept->count == kept->capacity) {
        size_t capacity = kept->capacity ? 2 * kept->capacity : 256;
        struct kept_file *grown = realloc(kept->files, capacity * sizeof *grown);
        if (!grown)
            return false;
        kept->files = grown;
        kept->capacity = capacity;
    }
    kept->files[kept->count++] = (struct kept_file){ status.st_dev, status.st_ino };
    return true;
}

static int by_identity(const void *left, const void *right) {
    const struct kept_file *a = left, *b = right;
    return a->device != b->device ? (a->device < b->device ? -1 : 1) : (a->inode > b->inode) - (a->inode < b->inode);
}

static bool is_hash(const char *name) {
    return strlen(name) == 64 && strspn(name, "0123456789abcdef") == 64;
}

struct swept { uint64_t bytes; uint32_t files; };

/* Remove what is not kept from the folder of one model, then the folder if it is empty. */
static void sweep_folder(const char *folder, const struct kept *kept, struct swept *swept) {
    DIR *stream = opendir(folder);
    if (!stream)
        return;
    for (struct dirent *entry; (entry = readdir(stream));) {
        struct stat status;
        if (fstatat(dirfd(stream), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(status.st_mode))
            continue;
        const struct kept_file file = { status.st_dev, status.st_ino };
        if (kept->count && bsearch(&file, kept->files, kept->count, sizeof *kept->files, by_identity))
            continue;
        /* Another phiplan may be packing. */
        if (temporary_file_remove_unwritten(dirfd(stream), entry->d_name, REMOVE_UNLOCKABLE)) {
            swept->bytes += (uint64_t)status.st_size;
            swept->files++;
        }
    }
    closedir(stream);
    rmdir(folder);
}

static void sweep(const char *root, const struct kept *kept, struct swept *swept) {
    DIR *stream = opendir(root);
    if (!stream)
        return;
    for (struct dirent *entry; (entry = readdir(stream));) {
        char folder[4096];
        if (is_hash(entry->d_name) &&
            snprintf(folder, sizeof folder, "%s/%s", root, entry->d_name) < (int)sizeof folder)
            sweep_folder(folder, kept, swept);
    }
    closedir(stream);
}

/* ---- the other stores ---- */

/* What the plans of the store at `path` use; none where there is no store. False: nobody knows. */
static bool keep_of_store(const char *path, const struct stat *own, struct kept *kept, struct error *err) {
    struct stat status;
    struct error reason = { 0 };
    if (stat(path, &status) != 0)
        return errno == ENOENT || errno == ENOTDIR ||
               error_set(err, ERROR_FAILED, "cannot examine plan database '%s': %s", path, strerror(errno));
    if (status.st_dev == own->st_dev && status.st_ino == own->st_ino)
        return true;
    if (!S_ISREG(status.st_mode))   /* a pipe would keep us waiting */
        return error_set(err, ERROR_FAILED, "plan database '%s' is not a regular file", path);
    struct plan_store *store = plan_store_open(path, STORE_TO_READ, &reason);
    bool ok = store ? plan_store_keep_artifacts(store, keep_path, kept, &reason) : reason.kind == ERROR_NO_PLAN;
    plan_store_close(store);
    /* What a sentence proposes there is for who wants to use that store. */
    return ok || error_set(err, ERROR_FAILED, "%.*s", (int)strcspn(reason.text, ";"), reason.text);
}

/* The default stores may be older than the list. */
static bool keep_of_others(const struct store_list *list, const struct plan_store *store, struct kept *kept,
                           struct error *err) {
    struct error reason = { 0 };
    struct stat own;
    if (stat(plan_store_path(store), &own) != 0)
        return error_set(err, ERROR_FAILED, "cannot examine plan database '%s': %s", plan_store_path(store),
                         strerror(errno));
    char *usual[] = { plan_store_default_path(NULL), plan_store_home_path(NULL) };
    bool ok = true;
    for (size_t i = 0; ok && i < sizeof usual / sizeof *usual; i++)
        ok = !usual[i] || keep_of_store(usual[i], &own, kept, &reason);
    for (size_t i = 0; ok && i < list->count; i++)
        ok = keep_of_store(list->paths[i], &own, kept, &reason);
    free(usual[0]);
    free(usual[1]);
    return ok || error_set(err, ERROR_FAILED, "%s; other plans may use them: mend that file or move it away, then run "
                           "phiplan gc again", reason.text);
}

bool plan_command_collect(const struct command *command, struct error *err) {
    struct collected collected;
    struct kept kept = { 0 };
    struct swept swept = { 0 };
    struct store_list list = { .folder = -1 };
    struct error unknown = { 0 };
    bool ok = false;
    char *root = artifact_root(err);
    struct plan_store *store = root ? command_open_store(command, STORE_EXISTING, err) : NULL;
    if (!store)
        goto cleanup;
    /* Locked from here on: who starts to pack waits, and finds again only what stays. */
    bool is_known = store_list_open(&list, root, &unknown);
    if (!plan_store_collect(store, &collected, keep_path, &kept, err))
        goto cleanup;
    const char *plural = collected.plans == 1 ? "" : "s";
    if (!is_known || !keep_of_others(&list, store, &kept, &unknown)) {
        error_set(err, ERROR_FAILED, "removed %u superseded plan%s, but no packed weights: %s", collected.plans, plural,
                  unknown.text);
        goto cleanup;
    }
    if (!store_list_save(&list, &unknown))
        command_say("%s", unknown.text);
    if (kept.count)
        qsort(kept.files, kept.count, sizeof *kept.files, by_identity);
    sweep(root, &kept, &swept);
    command_say("removed %u superseded plan%s and %u file%s of packed weights (%.1f MB)", collected.plans, plural,
                swept.files, swept.files == 1 ? "" : "s", 1e-6 * (double)swept.bytes);
    ok = true;

cleanup:
    free(kept.files);
    store_list_release(&list);
    plan_store_close(store);
    free(root);
    return ok;
}
