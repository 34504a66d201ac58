#include "common/model.h"

#include <stdlib.h>

void model_close(struct model *model) {
    if (!model)
        return;
    for (uint32_t i = 0; i < model->tensor_count; i++)
        free(model->tensors[i].name);
    for (uint32_t i = 0; i < model->file_count; i++) {
        free(model->files[i].path);
        free(model->files[i].name);
    }
    free(model->tensors);
    free(model->files);
    free(model->blocks);
    free(model->rope.short_factors);
    free(model->rope.long_factors);
    free(model->architecture);
    free(model->name);
    free(model->source.argument);
    free(model->source.path);
    free(model);
}

uint64_t model_ref_bytes(const struct model *model, const struct weight_ref *ref) {
    uint64_t bytes = 0;
    if (ref->tensor != MODEL_NO_TENSOR)
        tensor_bytes(model->tensors[ref->tensor].type, ref->row_count, ref->column_count, &bytes);
    return bytes;
}

uint64_t model_weight_bytes(const struct model *model) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < model->tensor_count; i++)
        total += model->tensors[i].size_bytes;   /* no overflow: each lies within its file */
    return total;
}

const char *block_role_name(enum block_role role) {
    static const char *const names[BLOCK_ROLE_COUNT] = {
        "attn_norm", "q", "k", "v", "q_bias", "k_bias", "v_bias", "q_norm", "k_norm", "o",
        "ffn_norm", "gate", "up", "down",
    };
    return names[role];
}
