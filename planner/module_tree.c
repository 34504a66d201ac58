#include "planner/module_tree.h"

#include "common/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_ROLE BLOCK_ROLE_COUNT

/* A module of a decoder layer. The roles from `first` to `last` are its weight, one
 * below the other; none of them: a container or a module without tensors. */
struct module_line {
    const char *name;
    enum block_role first, last, bias;
    bool is_container;     /* the following lines whose names it begins are below it */
};

/* In the order in which the classes of transformers register them. */
static const struct module_line fused_lines[] = {
    { "self_attn", NO_ROLE, NO_ROLE, NO_ROLE, true },
    { "self_attn.o_proj", ROLE_O, ROLE_O, NO_ROLE, false },
    { "self_attn.qkv_proj", ROLE_Q, ROLE_V, NO_ROLE, false },
    { "mlp", NO_ROLE, NO_ROLE, NO_ROLE, true },
    { "mlp.gate_up_proj", ROLE_GATE, ROLE_UP, NO_ROLE, false },
    { "mlp.down_proj", ROLE_DOWN, ROLE_DOWN, NO_ROLE, false },
    { "mlp.activation_fn", NO_ROLE, NO_ROLE, NO_ROLE, false },
    { "input_layernorm", ROLE_ATTN_NORM, ROLE_ATTN_NORM, NO_ROLE, false },
    { "post_attention_layernorm", ROLE_FFN_NORM, ROLE_FFN_NORM, NO_ROLE, false },
    { "resid_attn_dropout", NO_ROLE, NO_ROLE, NO_ROLE, false },
    { "resid_mlp_dropout", NO_ROLE, NO_ROLE, NO_ROLE, false },
};

static const struct module_line split_lines[] = {
    { "self_attn", NO_ROLE, NO_ROLE, NO_ROLE, true },
    { "self_attn.q_proj", ROLE_Q, ROLE_Q, ROLE_Q_BIAS, false },
    { "self_attn.k_proj", ROLE_K, ROLE_K, ROLE_K_BIAS, false },
    { "self_attn.v_proj", ROLE_V, ROLE_V, ROLE_V_BIAS, false },
    { "self_attn.o_proj", ROLE_O, ROLE_O, NO_ROLE, false },
    { "self_attn.q_norm", ROLE_Q_NORM, ROLE_Q_NORM, NO_ROLE, false },
    { "self_attn.k_norm", ROLE_K_NORM, ROLE_K_NORM, NO_ROLE, false },
    { "mlp", NO_ROLE, NO_ROLE, NO_ROLE, true },
    { "mlp.gate_proj", ROLE_GATE, ROLE_GATE, NO_ROLE, false },
    { "mlp.up_proj", ROLE_UP, ROLE_UP, NO_ROLE, false },
    { "mlp.down_proj", ROLE_DOWN, ROLE_DOWN, NO_ROLE, false },
    { "mlp.act_fn", NO_ROLE, NO_ROLE, NO_ROLE, false },
    { "input_layernorm", ROLE_ATTN_NORM, ROLE_ATTN_NORM, NO_ROLE, false },
    { "post_attention_layernorm", ROLE_FFN_NORM, ROLE_FFN_NORM, NO_ROLE, false },
};

enum { MAX_LINES = 16, OUTER_NODES = 8 };   /* of a layer; outside the layers */

struct builder {
    struct module_tree *tree;
    const struct model *model;
    const struct module_sizes *sizes;
    bool overflow;
};

static uint32_t add_node(struct builder *builder, uint32_t unit) {
    uint32_t index = builder->tree->count++;
    builder->tree->nodes[index].end = index + 1;
    builder->tree->nodes[index].unit = unit;
    return index;
}

static void add_weight(struct builder *builder, uint32_t node, const struct weight_ref *ref) {
    uint64_t bytes = 0;
    if (ref->tensor == MODEL_NO_TENSOR)
        return;
    if (!builder->sizes->value_bytes)
        bytes = model_ref_bytes(builder->model, ref);
    else if (__builtin_mul_overflow(ref->row_count, ref->column_count, &bytes) ||
             __builtin_mul_overflow(bytes, builder->sizes->value_bytes, &bytes))
        builder->overflow = true;
    if (__builtin_add_overflow(builder->tree->nodes[node].bytes, bytes, &builder->tree->nodes[node].bytes))
        builder->overflow = true;
}

static void add_leaf(struct builder *builder, const char *name, uint32_t unit, const struct weight_ref *ref,
                     bool is_matrix) {
    uint32_t node = add_node(builder, unit);
    struct module_node *target = &builder->tree->nodes[node];
    snprintf(target->name, sizeof target->name, "%s", name);
    target->is_matrix = is_matrix;
    add_weight(builder, node, ref);
}

/* A norm belongs to its half block: input_layernorm of attn.i, post_attention_layernorm of ffn.i. */
static enum unit_kind kind_of(const struct module_line *line) {
    return strncmp(line->name, "mlp", 3) == 0 || line->first == ROLE_FFN_NORM ? UNIT_FFN : UNIT_ATTN;
}

static void add_layer(struct builder *builder, uint32_t block, const struct module_line *lines, size_t count) {
    const struct weight_ref *weights = builder->model->blocks[block].weights;
    struct module_tree *tree = builder->tree;
    uint32_t layer = add_node(builder, MODULE_NONE), container = MODULE_NONE;
    snprintf(tree->nodes[layer].name, sizeof tree->nodes[layer].name, "model.layers.%u", block);
    tree->nodes[layer].is_block = true;
    for (size_t i = 0; i < count; i++) {
        const struct module_line *line = &lines[i];
        bool is_absent = line->first != NO_ROLE && weights[line->first].tensor == MODEL_NO_TENSOR;
        if (is_absent)
            continue;   /* q_norm and k_norm but for qwen3 */
        struct unit unit = { kind_of(line), block };
        uint32_t node = add_node(builder, line->first == NO_ROLE ? MODULE_NONE : unit_index(builder->model, unit));
        struct module_node *target = &tree->nodes[node];
        snprintf(target->name, sizeof target->name, "model.layers.%u.%s", block, line->name);
        for (int role = line->first; role < NO_ROLE && role <= (int)line->last; role++)
            add_weight(builder, node, &weights[role]);
        if (line->bias != NO_ROLE) {
            add_weight(builder, node, &weights[line->bias]);
            target->has_bias = weights[line->bias].tensor != MODEL_NO_TENSOR;
        }
        target->is_matrix = strstr(line->name, "_proj") != NULL;
        if (line->is_container)
            container = node;
        else if (container != MODULE_NONE && strchr(line->name, '.'))
            tree->nodes[container].end = tree->count;
    }
    tree->nodes[layer].end = tree->count;
}

/* Children come after their parents: adding up backwards meets every child first. */
static void add_up(struct builder *builder) {
    struct module_tree *tree = builder->tree;
    for (uint32_t i = tree->count; i-- > 0;)
        for (uint32_t child = i + 1; child < tree->nodes[i].end; child = tree->nodes[child].end)
            if (__builtin_add_overflow(tree->nodes[i].bytes, tree->nodes[child].bytes, &tree->nodes[i].bytes))
                builder->overflow = true;
    /* Room for sums of a few of them in signed arithmetic. */
    if (tree->nodes[0].bytes >= (uint64_t)1 << 56)
        builder->overflow = true;
}

static void build(struct builder *builder) {
    static const struct weight_ref no_weight = { .tensor = MODEL_NO_TENSOR };
    const struct model *model = builder->model;
    struct module_tree *tree = builder->tree;
    const bool is_fused = strcmp(model->architecture, "phi3") == 0;
    const struct unit embed = { UNIT_EMBED, 0 }, head = { UNIT_HEAD, 0 };
    add_node(builder, MODULE_NONE);
    uint32_t base = add_node(builder, MODULE_NONE);
    snprintf(tree->nodes[base].name, sizeof tree->nodes[base].name, "%s", "model");
    add_leaf(builder, "model.embed_tokens", unit_index(model, embed), &model->embed, true);
    uint32_t layers = add_node(builder, MODULE_NONE);
    snprintf(tree->nodes[layers].name, sizeof tree->nodes[layers].name, "%s", "model.layers");
    for (uint32_t block = 0; block < model->block_count; block++) {
        if (is_fused)
            add_layer(builder, block, fused_lines, sizeof fused_lines / sizeof *fused_lines);
        else
            add_layer(builder, block, split_lines, sizeof split_lines / sizeof *split_lines);
    }
    tree->nodes[layers].end = tree->count;
    add_leaf(builder, "model.norm", unit_index(model, head), &model->out_norm, false);
    add_leaf(builder, "model.rotary_emb", MODULE_NONE, &no_weight, false);
    /* inv_freq and original_inv_freq, each of half the rotated dimensions. */
    tree->nodes[tree->count - 1].bytes = (uint64_t)model->rope.rotary_dim / 2 * 2 * builder->sizes->buffer_bytes;
    tree->nodes[base].end = tree->count;
    add_leaf(builder, "lm_head", unit_index(model, head), model->tied_head ? &no_weight : &model->head, true);
    tree->nodes[0].end = tree->count;
    if (model->tied_head) {
        tree->tied_owner = base + 1;
        tree->tied_copy = tree->count - 1;
    }
    add_up(builder);
}

struct module_tree *module_tree_new(const struct model *model, const struct module_sizes *sizes,
                                    struct error *err) {
    struct module_tree *tree = calloc(1, sizeof *tree);
    if (tree)
        tree->nodes = calloc((size_t)model->block_count * MAX_LINES + OUTER_NODES, sizeof *tree->nodes);
    if (!tree || !tree->nodes) {
        error_set(err, ERROR_FAILED, "cannot lay out the modules of '%s': out of memory", model->name);
        goto failed;
    }
    struct builder builder = { tree, model, sizes, false };
    tree->tied_owner = tree->tied_copy = MODULE_NONE;
    tree->unit_count = unit_count(model);
    build(&builder);
    if (builder.overflow) {
        error_set(err, ERROR_FAILED, "the sizes that '%s' states are beyond any memory", model->name);
        goto failed;
    }
    return tree;

failed:
    module_tree_free(tree);
    return NULL;
}

void module_tree_free(struct module_tree *tree) {
    if (tree)
        free(tree->nodes);
    free(tree);
}

uint32_t module_tree_find(const struct module_tree *tree, const char *name) {
    for (uint32_t i = 0; i < tree->count; i++)
        if (strcmp(tree->nodes[i].name, name) == 0)
            return i;
    return MODULE_NONE;
}
