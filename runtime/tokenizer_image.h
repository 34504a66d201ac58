/* tokenizer_image: a tokenizer as it is in memory, in a file made once.
 *
 *   0          header: magic, version, checksum of all that follows it, the model's hashes,
 *              everything of fixed size, and where the sections lie
 *   sections   each at a multiple of 16: tables of pieces and merges, which are used where they
 *              are mapped; added tokens, texts, and the stages as JSON, which are read
 *
 * Files lie beside the packed weights, $XDG_CACHE_HOME/phi/artifacts/<weights hash>/, and may be
 * deleted at any time; so does `phiplan gc`. They are for the machine that made them. */
#ifndef RUNTIME_TOKENIZER_IMAGE_H
#define RUNTIME_TOKENIZER_IMAGE_H

#include "common/model.h"
#include "runtime/tokenizer.h"

/* To be raised by whoever changes a reader, a stage's JSON or a table. */
#define TOKENIZER_IMAGE_VERSION 1u

/* Where the model's image lies; the caller frees it. NULL where there is no place for images. It
 * reads the environment, which loading drivers may change: not while another thread does that. */
char *tokenizer_image_path(const struct model_hashes *hashes);

/* tokenizer_open(), but from the image at `path` (may be NULL) where there is a sound one; else the
 * image is made, if that is possible. `from_image` may be NULL. */
struct tokenizer *tokenizer_open_image(const struct model_source *source, const struct model_hashes *hashes,
                                       const char *path, bool *from_image, struct error *err);

/* For tests. */
bool tokenizer_image_write(const struct tokenizer *tokenizer, const char *path, const struct model_hashes *hashes,
                           struct error *err);
struct tokenizer *tokenizer_image_read(const char *path, const struct model_hashes *hashes, struct error *err);

#endif
