#include "tests/support_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct support_shape support_phi3_mini = {
    .hidden = 3072, .intermediate = 8192, .blocks = 32, .heads = 32, .kv_heads = 32, .head_dim = 96,
    .vocab = 32064, .q_type = TENSOR_F16, .k_type = TENSOR_F16, .v_type = TENSOR_F16, .type = TENSOR_F16,
};

static struct weight_ref add(struct model *model, const char *prefix, uint32_t block, const char *role,
                             enum tensor_type type, uint64_t rows, uint64_t columns) {
    struct model_tensor *tensor = &model->tensors[model->tensor_count];
    char name[64];
    snprintf(name, sizeof name, "%s.%u.%s", prefix, block, role);
    *tensor = (struct model_tensor){ .name = strdup(name), .type = type, .rows = rows, .columns = columns };
    if (!tensor->name || !tensor_bytes(type, rows, columns, &tensor->size_bytes))
        abort();
    return (struct weight_ref){ .tensor = model->tensor_count++, .row_count = rows, .column_count = columns };
}

struct model *support_model(const struct support_shape *s) {
    struct model *model = calloc(1, sizeof *model);
    if (!model || !(model->blocks = calloc(s->blocks, sizeof *model->blocks))
        || !(model->tensors = calloc(3 + (size_t)s->blocks * BLOCK_ROLE_COUNT, sizeof *model->tensors)))
        abort();
    model->hidden_size = s->hidden;
    model->intermediate_size = s->intermediate;
    model->block_count = s->blocks;
    model->head_count = s->heads;
    model->kv_head_count = s->kv_heads;
    model->head_dim = s->head_dim;
    model->vocab_size = s->vocab;
    model->max_context = 4096;
    model->norm_epsilon = 1e-5f;
    model->rope = (struct rope_parameters){ .theta = 10000, .rotary_dim = s->head_dim, .attention_factor = 1 };
    model->tied_head = s->is_tied;
    model->architecture = strdup("phi3");
    model->name = strdup("made-up");
    model->embed = add(model, "embed", 0, "weight", s->type, s->vocab, s->hidden);
    model->out_norm = add(model, "norm", 0, "weight", TENSOR_F32, 1, s->hidden);
    model->head = s->is_tied ? model->embed : add(model, "head", 0, "weight", s->type, s->vocab, s->hidden);
    uint64_t query = (uint64_t)s->heads * s->head_dim, key = (uint64_t)s->kv_heads * s->head_dim;
    for (uint32_t b = 0; b < s->blocks; b++) {
        const struct { enum tensor_type type; uint64_t rows, columns; } shapes[BLOCK_ROLE_COUNT] = {
            [ROLE_ATTN_NORM] = { TENSOR_F32, 1, s->hidden },
            [ROLE_Q] = { s->q_type, query, s->hidden },
            [ROLE_K] = { s->k_type, key, s->hidden },
            [ROLE_V] = { s->v_type, key, s->hidden },
            [ROLE_Q_BIAS] = { TENSOR_F32, s->has_bias, query },
            [ROLE_K_BIAS] = { TENSOR_F32, s->has_bias, key },
            [ROLE_V_BIAS] = { TENSOR_F32, s->has_bias, key },
            [ROLE_Q_NORM] = { TENSOR_F32, s->has_qk_norm, s->head_dim },
            [ROLE_K_NORM] = { TENSOR_F32, s->has_qk_norm, s->head_dim },
            [ROLE_O] = { s->type, s->hidden, query },
            [ROLE_FFN_NORM] = { TENSOR_F32, 1, s->hidden },
            [ROLE_GATE] = { s->type, s->intermediate, s->hidden },
            [ROLE_UP] = { s->type, s->intermediate, s->hidden },
            [ROLE_DOWN] = { s->type, s->hidden, s->intermediate },
        };
        for (unsigned role = 0; role < BLOCK_ROLE_COUNT; role++) {
            struct weight_ref *ref = &model->blocks[b].weights[role];
            *ref = (struct weight_ref){ .tensor = MODEL_NO_TENSOR };
            if (shapes[role].rows)
                *ref = add(model, "blk", b, block_role_name((enum block_role)role), shapes[role].type,
                           shapes[role].rows, shapes[role].columns);
        }
    }
    return model;
}
