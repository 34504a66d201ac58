/* model_arch: what the architectures call their tensors, and where they differ.
 * Private to model_*.c. Adding an architecture is an entry in model_arch.c and a
 * test. */
#ifndef COMMON_MODEL_ARCH_H
#define COMMON_MODEL_ARCH_H

#include "common/model.h"

enum {
    ARCH_QKV_BIAS = 1,         /* q, k and v have biases */
    ARCH_QK_NORM = 2,          /* each head of q and k is normed */
    ARCH_LONGROPE = 4,         /* rope scaling "longrope", also spelled "su" and "yarn" */
    ARCH_WINDOW = 8,           /* sliding_window counts as it stands */
    ARCH_WINDOW_SWITCH = 16,   /* sliding_window counts where use_sliding_window is true */
    ARCH_GGUF_PAIRS = 32,      /* GGUF stores the rows of q and k as pairs: see weight_ref */
};

/* Names with %u for the block. Roles with one name share one tensor, their rows one
 * after the other in the order of enum block_role. */
struct tensor_names {
    const char *embed, *out_norm, *head;
    const char *block[BLOCK_ROLE_COUNT];
};

struct model_arch {
    const char *name;          /* model_type of config.json, general.architecture of GGUF */
    unsigned flags;
    const struct tensor_names *hf, *gguf;   /* gguf NULL: no GGUF has that name */

    /* What a config.json that leaves the key out means. */
    float default_epsilon;
    uint32_t default_context;
    uint32_t default_head_dim; /* 0: hidden size / heads */
    uint32_t default_window;
};

/* `more` entries, up to one without a name, come first; NULL: none. NULL where
 * unknown; model_arch_unsupported() then makes the sentence. */
const struct model_arch *model_arch_find(const char *name, const struct model_arch *more);
bool model_arch_unsupported(const char *name, const char *path, struct error *err);

/* Does this architecture have that role at all? */
bool model_arch_has(const struct model_arch *arch, enum block_role role);

#endif
