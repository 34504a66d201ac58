#include "common/own_key.h"

#include "common/file_map.h"
#include "common/model.h"
#include "common/temporary_file.h"
#include "common/user_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static bool name_file(struct text *path, struct error *err) {
    if (!user_folder_append(path, USER_DATA, "key"))
        return error_set(err, ERROR_FAILED, "there is no place for the key of compiled kernels: neither "
                         "'XDG_DATA_HOME' nor 'HOME' is set");
    return !path->failed || error_set(err, ERROR_FAILED, "cannot name the key of compiled kernels: out of memory");
}

/* Whole or not at all; who comes second keeps the first. */
static bool make(const char *path, struct error *err) {
    unsigned char fresh[32];
    char *draft;
    if (!user_folder_make(path, "the key of compiled kernels", err))
        return false;
    int file = temporary_file_create(path, &draft, err);
    if (file < 0)
        return error_prefix(err, "cannot make the key of compiled kernels");
    bool ok = getrandom(fresh, sizeof fresh, 0) == (ssize_t)sizeof fresh &&
              file_write_all(file, fresh, sizeof fresh) && fsync(file) == 0;
    if (ok)
        ok = temporary_file_finish(file, draft, path, TAKE_FREE) || errno == EEXIST;
    else
        temporary_file_drop(file, draft);
    return ok || error_set(err, ERROR_FAILED, "cannot make the key '%s' of compiled kernels: %s", path,
                           strerror(errno));
}

bool own_key_read(struct own_key *key, struct error *err) {
    struct text path;
    text_init(&path);
    bool ok = name_file(&path, err);
    int file = -1;
    if (ok) {
        file = open(path.bytes, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (file < 0 && errno == ENOENT && (ok = make(path.bytes, err)))
            file = open(path.bytes, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (ok && file < 0)
            ok = error_set(err, ERROR_FAILED, "cannot read the key '%s' of compiled kernels: %s", path.bytes,
                           strerror(errno));
    }
    if (ok) {
        struct stat status;
        unsigned char more;
        ok = (fstat(file, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == geteuid() &&
              (status.st_mode & 077) == 0 && read(file, key->bytes, sizeof key->bytes) == (ssize_t)sizeof key->bytes &&
              read(file, &more, 1) == 0) ||
             error_set(err, ERROR_FAILED, "the key '%s' of compiled kernels is damaged or not yours alone; remove it",
                       path.bytes);
    }
    if (file >= 0)
        close(file);
    text_release(&path);
    return ok;
}

void own_key_sign(const struct own_key *key, const char *label, const void *bytes, size_t size, char hex[65]) {
    const struct hash_part parts[] = { { label, strlen(label) + 1 }, { bytes, size } };
    hmac_sha256_hex(key->bytes, sizeof key->bytes, parts, 2, hex);
}
