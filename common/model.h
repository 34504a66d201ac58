/* model: one description for every architecture and container.
 *
 * A model is hyper-parameters, a list of named tensors (where their bytes lie),
 * and for each role in the forward pass a weight_ref: a range of rows of one
 * tensor. A fused matrix (Phi-3's qkv_proj, gate_up_proj) is three or two refs
 * into one tensor, so that everything downstream sees the same shape whatever
 * the file has. An architecture is one entry in model_arch.c's table.
 *
 * Nothing here reads a weight. Every count, offset, length and shape has been
 * checked against the file's size when model_open() returns. */
#ifndef COMMON_MODEL_H
#define COMMON_MODEL_H

#include "common/error.h"
#include "common/model_source.h"
#include "common/tensor_type.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#define MODEL_MAX_BLOCKS 1024
#define MODEL_NO_TENSOR UINT32_MAX
#define MODEL_MAX_EOS 32

struct model_file {
    char *path;
    char *name;           /* as the weights hash and the index spell it */
    uint64_t size_bytes;
};

struct model_tensor {
    char *name;           /* the container's own name */
    enum tensor_type type;
    uint64_t rows;        /* 1 for vectors */
    uint64_t columns;     /* innermost dimension: contiguous in the file */
    uint32_t file;        /* index into files */
    uint64_t offset;      /* absolute, in bytes */
    uint64_t size_bytes;
};

enum block_role {
    /* attn.i */
    ROLE_ATTN_NORM,                       /* [hidden] */
    ROLE_Q, ROLE_K, ROLE_V,               /* [heads*head_dim][hidden], [kv_heads*head_dim][hidden] */
    ROLE_Q_BIAS, ROLE_K_BIAS, ROLE_V_BIAS,/* vectors; absent in most */
    ROLE_Q_NORM, ROLE_K_NORM,             /* [head_dim]; qwen3 */
    ROLE_O,                               /* [hidden][heads*head_dim] */
    /* ffn.i */
    ROLE_FFN_NORM,                        /* [hidden] */
    ROLE_GATE, ROLE_UP,                   /* [intermediate][hidden] */
    ROLE_DOWN,                            /* [hidden][intermediate] */
    BLOCK_ROLE_COUNT
};

struct weight_ref {
    uint32_t tensor;         /* MODEL_NO_TENSOR: absent */
    uint64_t row_begin;
    uint64_t row_count;
    uint64_t column_count;
    bool interleaved_rope;   /* rows of a head stored as pairs (GGUF llama q, k): row 2i+j of the
                              * file is row j*head_dim/2 + i of the Hugging Face order that we use */
    bool is_converted;       /* is computed with as converted_type, whatever the tensor's: */
    enum tensor_type converted_type;   /* see weight_choice.h                              */
};

enum rope_scaling { ROPE_PLAIN, ROPE_LONGROPE, ROPE_LLAMA3, ROPE_LINEAR };

struct rope_parameters {
    enum rope_scaling scaling;
    float theta;
    uint32_t rotary_dim;          /* even, <= head_dim; pairs are (i, i + rotary_dim/2) */
    uint32_t original_context;    /* longrope and llama3; 0 otherwise */
    float attention_factor;       /* multiplies cos and sin; 1 where unscaled */
    float *short_factors;         /* [rotary_dim/2]; longrope only. For llama3 and linear, the */
    float *long_factors;          /*   divisor of each inverse frequency is in short_factors   */
    float llama3_factor, llama3_low, llama3_high;
};

struct model_block {
    struct weight_ref weights[BLOCK_ROLE_COUNT];
};

struct model {
    char *architecture;           /* "phi3", "llama", "qwen2", ... */
    char *name;                   /* for people: the directory's or file's base name, or org/name */
    struct model_source source;   /* a copy */

    uint32_t hidden_size;
    uint32_t intermediate_size;
    uint32_t block_count;
    uint32_t head_count;
    uint32_t kv_head_count;
    uint32_t head_dim;
    uint32_t vocab_size;          /* rows of the embedding, padding included */
    uint32_t max_context;
    uint32_t sliding_window;      /* keys a query sees, its own included; 0: all */
    float norm_epsilon;
    struct rope_parameters rope;
    bool tied_head;               /* head.tensor is embed.tensor */

    /* Token ids from the config files; the tokenizer may know more. -1: not given. */
    int64_t bos_id, pad_id;
    int64_t eos_ids[MODEL_MAX_EOS];   /* union of config.json and generation_config.json / GGUF */
    uint32_t eos_count;

    uint32_t file_count;
    struct model_file *files;
    uint32_t tensor_count;
    struct model_tensor *tensors;
    bool has_weights;             /* false: sized from config.json alone; no file can be read */

    struct weight_ref embed;      /* [vocab][hidden] */
    struct weight_ref out_norm;   /* [hidden] */
    struct weight_ref head;       /* [vocab][hidden] */
    struct model_block *blocks;   /* [block_count] */
};

struct model_arch;                /* model_arch.h: one entry of the table of architectures */

struct model_options {
    bool headers_optional;        /* a directory with only config.json is enough (dry run) */
    bool has_assumed_type;
    enum tensor_type assumed_type;/* for such a directory; else config.json's torch_dtype */
    const struct model_arch *architectures;   /* more entries, up to one without a name; NULL: none */
};

/* NULL options: defaults. The caller owns the model. */
struct model *model_open(const struct model_source *source, const struct model_options *options,
                         struct error *err);
void model_close(struct model *model);  /* NULL is fine */

/* The type that a ref which is there is computed with. */
enum tensor_type weight_ref_type(const struct model *model, const struct weight_ref *ref);

/* Bytes of a ref in that type; 0 where it is absent. */
uint64_t model_ref_bytes(const struct model *model, const struct weight_ref *ref);

/* Sum of all tensors as the files store them, a tied one once. */
uint64_t model_weight_bytes(const struct model *model);

const char *block_role_name(enum block_role role);   /* "attn_norm", "q", ... */

/* ---- hashes: model_hash.c ---- */

struct model_hashes {
    char weights[65];   /* 64 hex digits; the key of plans and packed artifacts */
    char text[65];      /* tokenizer, template and generation_config */
};

/* Called with bytes done and bytes in all; may be NULL. Returning false cancels. */
typedef bool hash_progress(void *context, uint64_t done, uint64_t total);

/* One weight file without a config.json: its SHA-256 as sha256sum prints it.
 * Otherwise SHA-256 of the sorted lines "<sha256>  <name>\n" of config.json and the
 * weight files. The file digests come from `cache` where it knows them. */
struct hash_cache {
    void *context;
    /* True and 64 digits + NUL in `hex` where path, device, inode, size, mtime_ns, ctime_ns match. */
    bool (*find)(void *context, const char *path, char hex[65]);
    /* `status` is of the file that was read, from before its first byte was. */
    void (*store)(void *context, const char *path, const struct stat *status, const char *hex);
};
bool model_hash(const struct model *model, const struct hash_cache *cache, hash_progress *progress,
                void *progress_context, struct model_hashes *hashes, struct error *err);

/* SHA-256 of memory, as 64 hex digits. */
void sha256_hex(const void *bytes, size_t size, char hex[65]);

struct hash_part { const void *bytes; size_t size; };
/* HMAC-SHA256 (RFC 2104) of the parts one after the other; "" where memory is out. */
void hmac_sha256_hex(const void *key, size_t key_size, const struct hash_part *parts, size_t count, char hex[65]);

/* ---- reading weights: weight_read.c ---- */

/* Copy rows [row_begin, row_begin + row_count) of a ref (counted within the ref,
 * in Hugging Face order even where the file interleaves) to `target` in the type
 * of weight_ref_type(); row_count * row bytes are written. Reads just those bytes of
 * the file; adds them to *bytes_read (may be NULL). */
bool weight_read_rows(const struct model *model, const struct weight_ref *ref, uint64_t row_begin,
                      uint64_t row_count, void *target, uint64_t *bytes_read, struct error *err);

#endif
