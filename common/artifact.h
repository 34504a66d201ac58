/* artifact: the weights of a unit as its kernels want them, in a file made once.
 *
 *   offset                         bytes
 *   0                              magic "phi-art\n", then the header: version, counts, the key,
 *                                  SHA-256 of all that follows the header's page
 *   header                         entries, one a buffer: role, type, layout, rows, columns, place
 *   each entry, a multiple of 4096 the buffer's bytes; zeros up to the next multiple
 *
 * Entries are those of unit_buffers() for one layout, none of them split, vectors as
 * float32. Files lie in $XDG_CACHE_HOME/phi/artifacts/<weights hash>/, named by what they
 * are made from, never by a plan; they appear whole (temporary file, then rename) and may
 * be deleted at any time: phirun then packs in memory, phiplan makes them again. */
#ifndef COMMON_ARTIFACT_H
#define COMMON_ARTIFACT_H

#include "common/file_map.h"
#include "common/unit_buffers.h"

#define ARTIFACT_VERSION 2u        /* of this file format and of the layouts in it */
#define ARTIFACT_ALIGNMENT 4096u
#define ARTIFACT_MOST_ENTRIES 32u

struct artifact_key {
    char weights_hash[65];         /* 64 hex digits */
    char unit[24];                 /* "attn.3" */
    uint32_t part_begin, part_end;
    char format[16];               /* of the values: "keep", the model's own, or "q8_0": converted to it */
    enum weight_layout layout;
};

struct artifact_entry {
    enum buffer_role role;
    enum tensor_type type;
    enum weight_layout layout;
    uint64_t row_begin, row_count, column_count;
    uint64_t offset, bytes;        /* in the file; `bytes` without padding */
};

/* A file that is mapped. */
struct artifact {
    struct file_map map;           /* the whole file */
    int descriptor;                /* the same, to read; open while map.bytes is set */
    char checksum[65];             /* as its header has it */
    uint32_t entry_count;
    struct artifact_entry entries[ARTIFACT_MOST_ENTRIES];
};

/* key->format of a unit as the model has it now. */
void artifact_set_format(struct artifact_key *key, const struct model *model, struct unit unit);

/* The folder of all artifacts, and where the one with this key belongs; the caller owns
 * the string. NULL, with the reason, where there is no home or no memory. */
char *artifact_root(struct error *err);
char *artifact_path(const struct artifact_key *key, struct error *err);

/* Called with bytes written so far; false cancels. May be NULL. */
typedef bool artifact_progress(void *context, uint64_t bytes);

/* Make the file at `path` from the model's own files, and its folders. A file that is
 * there is replaced. */
bool artifact_write(const char *path, const struct artifact_key *key, const struct model *model,
                    artifact_progress *progress, void *context, struct error *err);

/* Map `path` and check that its header is sound and is of this key. The contents are
 * not read; see artifact_verify(). Release it, also on failure. */
bool artifact_open(struct artifact *artifact, const char *path, const struct artifact_key *key,
                   struct error *err);
void artifact_release(struct artifact *artifact);

/* Read everything and compare with the checksum. */
bool artifact_verify(const struct artifact *artifact, const char *path, struct error *err);

/* The entry that has all rows of the wanted buffer, in its type and layout; NULL: none. */
const struct artifact_entry *artifact_find(const struct artifact *artifact, const struct buffer_spec *spec);

#endif
