#include "common/model_build.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* What people call it: org/name as typed, else the last component of the path. */
static char *name_of(const struct model_source *source) {
    if (source->from_hub)
        return strdup(source->argument);
    const char *slash = strrchr(source->path, '/');
    const char *base = slash && slash[1] ? slash + 1 : source->path;
    size_t length = strlen(base);
    if (source->kind == SOURCE_GGUF && length > 5 && strcasecmp(base + length - 5, ".gguf") == 0)
        length -= 5;
    return strndup(base, length);
}

struct model *model_open(const struct model_source *source, const struct model_options *options,
                         struct error *err) {
    static const struct model_options defaults = { 0 };
    struct model *model = calloc(1, sizeof *model);
    if (!model) {
        error_set(err, ERROR_FAILED, "cannot open '%s': out of memory", source->path);
        return NULL;
    }
    struct model_builder builder = { .model = model, .options = options ? options : &defaults };
    bool ok = false;
    model->bos_id = model->pad_id = -1;
    model->source = (struct model_source){ .kind = source->kind, .argument = strdup(source->argument),
                                           .path = strdup(source->path), .from_hub = source->from_hub };
    model->name = name_of(source);
    if (!model->source.argument || !model->source.path || !model->name)
        error_set(err, ERROR_FAILED, "cannot open '%s': out of memory", source->path);
    else
        ok = source->kind == SOURCE_GGUF ? model_read_gguf(&builder, err) : model_read_directory(&builder, err);
    if (!ok) {
        model_close(model);
        return NULL;
    }
    return model;
}

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

enum tensor_type weight_ref_type(const struct model *model, const struct weight_ref *ref) {
    return ref->is_converted ? ref->converted_type : model->tensors[ref->tensor].type;
}

uint64_t model_ref_bytes(const struct model *model, const struct weight_ref *ref) {
    uint64_t bytes = 0;
    if (ref->tensor != MODEL_NO_TENSOR)
        tensor_bytes(weight_ref_type(model, ref), ref->row_count, ref->column_count, &bytes);
    return bytes;
}

uint64_t model_weight_bytes(const struct model *model) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < model->tensor_count; i++)
        total += model->tensors[i].size_bytes;
    return total;
}

const char *block_role_name(enum block_role role) {
    static const char *const names[BLOCK_ROLE_COUNT] = {
        "attn_norm", "q", "k", "v", "q_bias", "k_bias", "v_bias", "q_norm", "k_norm", "o",
        "ffn_norm", "gate", "up", "down",
    };
    return names[role];
}
