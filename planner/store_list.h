/* store_list: which stores may use the packed weights of this user, so that a `phiplan gc` of one leaves
 * what another one needs. A text file, `stores`, in the folder of packed weights: one absolute path a
 * line, links resolved, each once.
 *
 * Who changes the list, or removes weights by it, keeps the folder locked so long. What the file says is
 * not trusted: a line that is no absolute path does not count, more than the limit is an error. */
#ifndef PLANNER_STORE_LIST_H
#define PLANNER_STORE_LIST_H

#include "common/error.h"

#include <stddef.h>

#define STORE_LIST_MOST 1024

struct store_list {
    char *file;         /* where the list lies; owned, as are the paths */
    char **paths;       /* [count] */
    size_t count;
    int folder;         /* open and, where the file system can, locked; -1: there is none, and so no list */
    bool is_changed;    /* the file says something else */
};

/* Lock `root`, which may be missing, and read its list; stores that are gone are left out. Waits a few
 * seconds for others. Release it, also on failure. */
bool store_list_open(struct store_list *list, const char *root, struct error *err);
void store_list_release(struct store_list *list);

/* Write the file, whole or not at all, where it says something else. */
bool store_list_save(struct store_list *list, struct error *err);

/* Enter the store at `path`, which exists, in the list of `root`, which is made where it is missing. */
bool store_list_note(const char *root, const char *path, struct error *err);

#endif
