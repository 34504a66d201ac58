/* module_tree: a model as transformers builds it: named modules in the order of
 * their registration, each with the bytes of its parameters and buffers.
 *
 * That is what Accelerate's device maps speak of. The names are those of
 * Phi3ForCausalLM, LlamaForCausalLM, ... of transformers 5, whatever container the
 * model comes from. Modules without tensors (activations, dropouts) are listed too:
 * they have keys where a block is split. Pure. */
#ifndef PLANNER_MODULE_TREE_H
#define PLANNER_MODULE_TREE_H

#include "common/model.h"

#define MODULE_NONE UINT32_MAX

struct module_node {
    char name[64];         /* "model.layers.3.mlp"; "" is the root */
    uint32_t end;          /* the node and all below it are [its index, end): pre-order */
    uint64_t bytes;        /* of all tensors below; a tied one counts at the embedding */
    uint32_t unit;         /* whose weights these are (common/unit.h); MODULE_NONE: none or several */
    bool is_block;         /* a decoder layer: transformers' _no_split_modules */
    bool is_matrix;        /* holds matrices, not a norm */
    bool has_bias;
};

struct module_tree {
    uint32_t count;
    struct module_node *nodes;    /* [count]; the root is 0 */
    uint32_t unit_count;
    /* The two modules that share one tensor: embed_tokens and lm_head. MODULE_NONE: not tied. */
    uint32_t tied_owner, tied_copy;
};

struct module_sizes {
    uint32_t value_bytes;         /* of a weight: 4, 2 or 1; 0: as stored in the model */
    uint32_t buffer_bytes;        /* of a value of the rotary buffers */
};

/* NULL on failure; the caller owns the tree. */
struct module_tree *module_tree_new(const struct model *model, const struct module_sizes *sizes,
                                    struct error *err);
void module_tree_free(struct module_tree *tree);   /* NULL is fine */

/* The node of that exact name, or MODULE_NONE. */
uint32_t module_tree_find(const struct module_tree *tree, const char *name);

static inline bool module_is_leaf(const struct module_tree *tree, uint32_t node) {
    return tree->nodes[node].end == node + 1;
}

/* Is `inner` the node `outer` or somewhere below it? */
static inline bool module_contains(const struct module_tree *tree, uint32_t outer, uint32_t inner) {
    return inner >= outer && inner < tree->nodes[outer].end;
}

#endif
