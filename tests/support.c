#include "tests/support.h"

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *test_data(const char *name) {
    static char ring[8][PATH_MAX];
    static unsigned next;
    const char *shared = getenv("SHARED");
    const char *roots[] = { "tests/data", shared && *shared ? shared : "../shared" };
    for (size_t i = 0; i < 2; i++) {
        char *path = ring[next % 8];
        snprintf(path, PATH_MAX, "%s/%s", roots[i], name);
        if (access(path, R_OK) == 0) {
            next++;
            return path;
        }
    }
    return NULL;
}

static char folder[PATH_MAX];

static int remove_entry(const char *path, const struct stat *status, int flag, struct FTW *walk) {
    (void)status, (void)flag, (void)walk;
    return remove(path);
}

static void remove_folder(void) {
    nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *test_folder(void) {
    if (!folder[0]) {
        const char *root = getenv("TMPDIR");
        snprintf(folder, sizeof folder, "%s/phi-test-XXXXXX", root && *root ? root : "/tmp");
        if (!mkdtemp(folder)) {
            perror(folder);
            exit(1);
        }
        atexit(remove_folder);
    }
    return folder;
}
