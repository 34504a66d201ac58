#include "common/user_folder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

bool user_folder_append(struct text *path, enum user_folder folder, const char *name) {
    const char *chosen = getenv(folder == USER_DATA ? "XDG_DATA_HOME" : "XDG_CACHE_HOME"), *home = getenv("HOME");
    if (chosen && chosen[0] == '/')
        text_append_format(path, "%s/phi/%s", chosen, name);
    else if (home && home[0] == '/')
        text_append_format(path, "%s/%s/phi/%s", home, folder == USER_DATA ? ".local/share" : ".cache", name);
    else
        return false;
    return true;
}

bool user_folder_make(const char *path, const char *purpose, struct error *err) {
    char *folder = strdup(path);
    bool ok = folder || error_set(err, ERROR_FAILED, "cannot make the folders for %s: out of memory", purpose);
    for (char *slash = folder; ok && *slash && (slash = strchr(slash + 1, '/'));) {
        struct stat status;
        *slash = '\0';
        /* What is there may be refused for other reasons than being there. */
        if (mkdir(folder, 0700) != 0) {
            int reason = errno == EEXIST ? ENOTDIR : errno;
            ok = (stat(folder, &status) == 0 && S_ISDIR(status.st_mode)) ||
                 error_set(err, ERROR_FAILED, "cannot make folder '%s' for %s: %s", folder, purpose, strerror(reason));
        }
        *slash = '/';
    }
    free(folder);
    return ok;
}
