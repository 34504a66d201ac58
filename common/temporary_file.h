/* temporary_file: a file that shall appear whole: written under a name of its own, then
 * renamed to the one it is made for. */
#ifndef COMMON_TEMPORARY_FILE_H
#define COMMON_TEMPORARY_FILE_H

#include "common/error.h"

/* A new file beside `path`, called PATH.XXXXXX and locked while its descriptor is open; those that
 * killed processes left there are removed. The caller owns the descriptor and *name, which is
 * set where this succeeds. -1 on failure. */
int temporary_file_create(const char *path, char **name, struct error *err);

/* Whether somebody is writing the file of that name in an open folder. */
bool temporary_file_is_written(int folder, const char *name);

#endif
