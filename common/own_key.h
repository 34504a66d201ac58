/* own_key: a secret of this user on this machine. What is signed with it was written by this
 * user's programs: a store from somebody else may be read, but the machine code in it must not
 * be run, and a checksum alone would be the sender's. */
#ifndef COMMON_OWN_KEY_H
#define COMMON_OWN_KEY_H

#include "common/error.h"

#include <stddef.h>

struct own_key {
    unsigned char bytes[32];
};

/* From $XDG_DATA_HOME/phi/key, else ~/.local/share/phi/key; made at the first use, readable by
 * nobody else. A file that somebody else owns, may read or may write is refused. */
bool own_key_read(struct own_key *key, struct error *err);

/* HMAC-SHA256 of `label`, its NUL and the bytes, in hexadecimal; "" where memory is out. */
void own_key_sign(const struct own_key *key, const char *label, const void *bytes, size_t size, char hex[65]);

#endif
