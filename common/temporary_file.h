/* temporary_file: a file that shall appear whole: written under a name of its own, then
 * renamed to the one it is made for. However its process ends, it does not stay: what is not
 * finished is dropped, by who makes it or by temporary_file_abandon(), and what a killed process
 * leaves is removed when the file is made the next time. */
#ifndef COMMON_TEMPORARY_FILE_H
#define COMMON_TEMPORARY_FILE_H

#include "common/error.h"

/* A new file beside `path`, called PATH.XXXXXX and locked while its descriptor is open; those that
 * killed processes left there are removed. The caller owns the descriptor and *name, which is
 * set where this succeeds; both go to one of the next two, the descriptor still open: an unlocked
 * file would count as abandoned. -1 on failure. */
int temporary_file_create(const char *path, char **name, struct error *err);

/* How a file takes its place: TAKE_FREE fails with EEXIST where there is one already. */
enum place { TAKE_ANY, TAKE_FREE };

/* Close and rename it; where that fails it is removed, and errno says why. Frees `name`. */
bool temporary_file_finish(int file, char *name, const char *path, enum place place);

/* Close and remove it. Frees `name`; -1 and NULL are fine. Leaves errno as it was. */
void temporary_file_drop(int file, char *name);

/* A file under a name of the caller's own: it is among those that temporary_file_abandon() removes,
 * until it is forgotten. `name` is borrowed so long. */
void temporary_file_note(const char *name);
void temporary_file_forget(const char *name);

/* Remove all that are not finished, from any thread: the process ends after this. No other one is
 * made or takes its place any more; who tries waits for ever. */
void temporary_file_abandon(void);

/* What to do where the file system has no locks, and so nobody can tell whether a file is written. */
enum unlockable { KEEP_UNLOCKABLE, REMOVE_UNLOCKABLE };

/* Remove the regular file of that name from an open folder, unless somebody is writing it. Whether
 * it was removed. */
bool temporary_file_remove_unwritten(int folder, const char *name, enum unlockable unlockable);

#endif
