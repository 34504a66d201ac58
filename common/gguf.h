/* gguf: a GGUF v2/v3 file as metadata and named tensors. Knows no architecture.
 *
 * Only the head of the file is read; tensor data never is. Strings and arrays
 * are borrowed from the object and live until gguf_close(). */
#ifndef COMMON_GGUF_H
#define COMMON_GGUF_H

#include "common/error.h"
#include "common/tensor_type.h"

#include <stddef.h>
#include <stdint.h>

struct gguf;

struct gguf_string {
    const char *bytes;    /* not NUL-terminated; may hold any byte */
    uint64_t length;
};

struct gguf_tensor {
    struct gguf_string name;
    enum tensor_type type;
    uint32_t rank;
    uint64_t shape[4];    /* as stored: shape[0] is the innermost (columns); 1 from rank on */
    uint64_t offset;      /* absolute */
    uint64_t size_bytes;
};

/* Refuses what is not a sound GGUF file, duplicate names, and tensors of types that
 * tensor_type does not know. A file without tensors (a vocabulary) is fine. */
struct gguf *gguf_open(const char *path, struct error *err);
/* The same in less time: arrays are passed over, so that they have a length and no elements.
 * Vocabularies are most of a head, and a model's shape is in the rest. */
struct gguf *gguf_open_brief(const char *path, struct error *err);
void gguf_close(struct gguf *gguf);

uint64_t gguf_file_size(const struct gguf *gguf);
uint32_t gguf_tensor_count(const struct gguf *gguf);
const struct gguf_tensor *gguf_tensor(const struct gguf *gguf, uint32_t index);

/* Lookups return false where the key is missing or of another kind. Any integer
 * type serves _u64 (negative ones do not); any number serves _f32, which may be
 * infinite or NaN. */
bool gguf_has(const struct gguf *gguf, const char *key);
bool gguf_u64(const struct gguf *gguf, const char *key, uint64_t *value);
bool gguf_f32(const struct gguf *gguf, const char *key, float *value);
bool gguf_bool(const struct gguf *gguf, const char *key, bool *value);
bool gguf_str(const struct gguf *gguf, const char *key, struct gguf_string *value);

/* Arrays. Element access by index is constant time for numbers and, thanks to
 * an index made at open, for strings. */
uint64_t gguf_array_length(const struct gguf *gguf, const char *key);   /* 0 where missing */
/* gguf_array_length() entries; NULL where there are none. */
const struct gguf_string *gguf_array_strings(const struct gguf *gguf, const char *key);
bool gguf_array_f32(const struct gguf *gguf, const char *key, uint64_t index, float *value);
bool gguf_array_i64(const struct gguf *gguf, const char *key, uint64_t index, int64_t *value);

#endif
