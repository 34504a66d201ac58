/* user_folder: where this user's own files lie, and the folders that lead there. */
#ifndef COMMON_USER_FOLDER_H
#define COMMON_USER_FOLDER_H

#include "common/error.h"
#include "common/text.h"

enum user_folder {
    USER_DATA,     /* $XDG_DATA_HOME/phi, else ~/.local/share/phi: not to be lost */
    USER_CACHE     /* $XDG_CACHE_HOME/phi, else ~/.cache/phi: may be deleted at any time */
};

/* Append the path of `name` there. False, with nothing appended, where neither variable has
 * an absolute path: relative ones are ignored. */
bool user_folder_append(struct text *path, enum user_folder folder, const char *name);

/* Make the folders above `path`, for the user alone; what is there stays as it is. The
 * sentence says what they are for. */
bool user_folder_make(const char *path, const char *purpose, struct error *err);

#endif
