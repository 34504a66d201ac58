/* support_checkpoint: model files made by a test, in its temporary folder. Whatever
 * goes wrong ends the test. */
#ifndef TESTS_SUPPORT_CHECKPOINT_H
#define TESTS_SUPPORT_CHECKPOINT_H

#include "common/text.h"

#include <stdint.h>

/* A new directory below test_folder(); the string is in a static ring of 64. */
const char *support_directory(const char *name);
/* "directory/name", in the same ring. */
const char *support_path(const char *directory, const char *name);
void support_write(const char *path, const void *bytes, size_t size);
void support_write_text(const char *path, const char *string);
/* Make `path` a symbolic link to an absolute form of `target`. */
void support_link(const char *target, const char *path);

/* config.json of Phi-3-mini-4k; `extra` (may be "") is put before the closing brace
 * and starts with a comma. Keys in it win. */
void support_phi3_mini_config(const char *directory, const char *extra);

/* model.safetensors of Phi-3-mini's shapes in float16: 7.6 GB, of which only the
 * head takes room on disk. */
void support_sparse_phi3_mini(const char *directory);

/* A GGUF file, piece by piece: keys, then tensors, then write. */
struct support_gguf {
    struct text keys, tensors;
    uint64_t key_count, tensor_count, data_size;
};
void support_gguf_begin(struct support_gguf *file);
void support_gguf_u32(struct support_gguf *file, const char *key, uint32_t value);
void support_gguf_f32(struct support_gguf *file, const char *key, float value);
void support_gguf_string(struct support_gguf *file, const char *key, const char *value);
/* float32, all zero; rows 0: a vector. */
void support_gguf_tensor(struct support_gguf *file, const char *name, uint64_t rows, uint64_t columns);
/* Releases what was gathered. */
void support_gguf_write(struct support_gguf *file, const char *path);

#endif
